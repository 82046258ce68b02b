"""Waits until a thread sleeps in a system call: what is done then, it is done to a call that waits.

    asleep.wait(threading.main_thread().native_id)
    os.kill(os.getpid(), signal.SIGUSR1)            # not lost in the window before the wait

A signal that comes before that wakes nobody: its handler runs when the wait is over.
"""

import time
from pathlib import Path

from scripted_server import PATIENCE

FOR = 0.05  # seconds; who waits for Python's lock wakes every 5 ms, to ask for it


def wait(task, seconds=20 * PATIENCE):
    """task: a thread's native_id, or a process's id for its first thread."""
    deadline = time.monotonic() + seconds
    before = _sleep(task)
    while True:
        time.sleep(FOR)
        now = _sleep(task)
        if now is not None and now == before:
            return
        assert time.monotonic() < deadline, f"thread {task} is never asleep"
        before = now


def _sleep(task):
    """How often it has left the processor, where it is asleep: the same number is the same sleep. Else None."""
    rows = dict(row.split(":\t", 1) for row in Path(f"/proc/{task}/status").read_text().splitlines() if ":\t" in row)
    return rows["voluntary_ctxt_switches"] if rows["State"].startswith("S") else None
