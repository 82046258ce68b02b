"""Counters in a file that the caller maps and the watcher reads: what a process counted outlives its death.

Each slot has one writer at a time (a thread, or a process that a fork made), so nothing is locked.
"""

import mmap

COUNTS = (
    "calls",  # calls that came back, one way or the other
    "hits",  # values found, and right
    "absent",  # misses of keys that may be absent
    "late",  # misses and failures of calls that took (nearly) the deadline
    "broken",  # misses and failures that came sooner: the connection was damaged, or no server
    "raised",  # calls that raised
    "interrupted",  # calls that the signal handler's exception ended
    "wrong",  # values of another key, or damaged ones
    "forks",
    "deaths",  # forked processes that a signal killed
)
# Seconds on the monotonic clock: when the call in flight began (0: none), and the longest call,
# without the time that it was ready to run and waited for a processor.
TIMES = ("started", "slowest")
SLOTS = 160
WIDTH = len(COUNTS) + len(TIMES)
SIZE = SLOTS * WIDTH * 8


class Scoreboard:
    def __init__(self, path):
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), SIZE)
        self.integers = memoryview(self.map).cast("q")
        self.floats = memoryview(self.map).cast("d")

    @staticmethod
    def create(path):
        with open(path, "wb") as file:
            file.truncate(SIZE)
        return Scoreboard(path)

    def slot(self, number):
        return Slot(self, number)

    def total(self, name):
        at = COUNTS.index(name)
        return sum(self.integers[slot * WIDTH + at] for slot in range(SLOTS))

    def totals(self):
        return {name: self.total(name) for name in COUNTS}

    def slowest(self):
        at = len(COUNTS) + TIMES.index("slowest")
        return max(self.floats[slot * WIDTH + at] for slot in range(SLOTS))

    def oldest_call(self):
        """Return when the oldest of the calls in flight began, or None."""
        at = len(COUNTS) + TIMES.index("started")
        return min(filter(None, (self.floats[slot * WIDTH + at] for slot in range(SLOTS))), default=None)

    def forget_calls(self):
        """Clear what a killed process left in flight."""
        for slot in range(SLOTS):
            self.floats[slot * WIDTH + len(COUNTS)] = 0.0


class Slot:
    """One writer's counters."""

    def __init__(self, board, number):
        base = number * WIDTH
        self.integers = board.integers[base : base + WIDTH]
        self.floats = board.floats[base : base + WIDTH]

    def add(self, name, count=1):
        self.integers[COUNTS.index(name)] += count

    def begin(self, now):
        self.floats[len(COUNTS)] = now

    def end(self, took):
        self.floats[len(COUNTS)] = 0.0
        self.integers[0] += 1
        if took > self.floats[len(COUNTS) + 1]:
            self.floats[len(COUNTS) + 1] = took
