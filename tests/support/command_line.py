"""The command `mcext`: in this process, where that will do, or in one of its own."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = str(Path(__file__).resolve().parents[2])
NAMES = ("MCEXT_SERVERS", "MCEXT_PASSWORD", "MCEXT_NEW_PASSWORD")


class Done(NamedTuple):
    status: int
    out: str
    err: str


def mcext(*words, stdin=b"", terminal=False, **environment):
    """Run a command in this process. terminal: whether it takes its output for one."""
    from mcext.cli.main import main

    streams = sys.stdin, sys.stdout, sys.stderr
    before = {name: os.environ.pop(name) for name in NAMES if name in os.environ}
    os.environ.update(environment)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    sys.stdout, sys.stderr = out, err = Stream(io.BytesIO(), "utf-8"), Stream(io.BytesIO(), "utf-8")
    out.is_terminal = terminal
    try:
        try:
            status = main(words)
        except SystemExit as end:
            status = end.code
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        for name in environment:
            del os.environ[name]
        os.environ.update(before)
    return Done(status, *(each.text() for each in (out, err)))


class Stream(io.TextIOWrapper):
    is_terminal = False

    def isatty(self):
        return self.is_terminal

    def text(self):
        self.flush()
        return self.buffer.getvalue().decode("utf-8", "surrogateescape")


def environment(**more):
    """That of a process in which `python -m mcext` is the one under test."""
    path = [ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    return {**kept, "PYTHONPATH": os.pathsep.join(path), **more}


class Process(subprocess.Popen):
    """One that does not outlive the `with` that fails."""

    def __exit__(self, kind, *error):
        if kind is not None:
            self.kill()
        super().__exit__(kind, *error)


def start(*words, **options):
    """The command in a process of its own."""
    more = options.pop("environment", {})
    command = [sys.executable, "-m", "mcext", *words]
    return Process(command, env=environment(**more), preexec_fn=_hear_ctrl_c, **options)


def _hear_ctrl_c():
    """What a shell starts with & is deaf to it, and so is what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until_asleep(process):
    """Until the main thread waits in the system: a signal just before it does so would be heard behind the wait."""
    asleep, until = 0, time.monotonic() + 30
    while asleep < 3:
        assert time.monotonic() < until and process.poll() is None
        state = Path(f"/proc/{process.pid}/task/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        asleep = asleep + 1 if state == "S" else 0
        time.sleep(0.01)


def run(*words, **options):
    """The same, to its end."""
    pipes = {name: subprocess.PIPE for name in ("stdout", "stderr") if name not in options}
    with start(*words, text=True, **pipes, **options) as process:
        out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err)


class Bytes:
    """A codec: values are (bytes, flags) as they are stored."""

    def encode(self, value):
        return value

    def decode(self, data, flags):
        return data, flags


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")
