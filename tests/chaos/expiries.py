"""A hundred thousand forced expiries under get_or_set: one computation for each, and nothing comes back from the past.

Processes of a few threads call get_or_set for some keys without pause. This process ends the values: it deletes, sets,
invalidates, or lets them expire. Meanwhile factories kill their process, connections are cut, the server is stopped for
longer than calls wait.

A value is its key and the key's era, which a factory reads when it begins. Each ending begins a new era. Checked are:

  computed twice   in an era that began with a value more factories ran than one, one for each that was killed, and one
                   for each call that failed meanwhile; counted are those of calls that began when the ending was done:
                   the lease of one that began before may be what was deleted
  never computed   no caller had a value of the era within a minute
  resurrected      a value was served that is of an older era than one that was served, or than the last delete or set,
                   before the call began
"""

import mmap
import os
import random
import signal
import socket
import stat
import threading
import time
from dataclasses import dataclass, field

import mcext

KEYS = 100
PROCESSES = 6
THREADS = 2
LEASE = 5
TIMEOUT = 1.0
STOPPED = 1.5  # seconds of a stopped server
KILLED = 0.003  # of the factories
EARLY = 0.1  # of the eras end before a value of theirs need be there
CUT = 0.001  # of the calls: connections are cut before them
STUCK = 60.0

PROCESS_COUNTS = ("calls", "served", "faults", "resurrected", "raised", "cuts")
# Runs are counted apart for four eras that follow each other: a process may count late.
KEY_COUNTS = ("runs0", "runs1", "runs2", "runs3", "astride", "deaths", "seen")
WIDTH = len(PROCESS_COUNTS) + KEYS * len(KEY_COUNTS)


class Board:
    """Counters that all processes share; each row has one process that writes it, under that process' lock."""

    def __init__(self):
        self.cells = memoryview(mmap.mmap(-1, 8 * (PROCESSES * WIDTH + 3 * KEYS))).cast("q")
        self.era = self.cells[PROCESSES * WIDTH :][:KEYS]
        self.barrier = self.cells[PROCESSES * WIDTH + KEYS :][:KEYS]
        self.begun = self.cells[PROCESSES * WIDTH + 2 * KEYS :]  # the era whose first act the server has done
        self.rows = [self.cells[row * WIDTH : (row + 1) * WIDTH] for row in range(PROCESSES)]

    def total(self, name):
        at = PROCESS_COUNTS.index(name)
        return sum(row[at] for row in self.rows)

    def key_total(self, name, key):
        at = place(name, key)
        return sum(row[at] for row in self.rows)

    def seen(self, key):
        at = place("seen", key)
        return max(row[at] for row in self.rows)


def secure(server):
    """The options of a cache that reaches the server: by TLS, where it speaks that."""
    return {"tls_context": server.tls_context} if server.tls_context else {}


def place(name, key):
    return len(PROCESS_COUNTS) + key * len(KEY_COUNTS) + KEY_COUNTS.index(name)


class Crowd:
    """One process that calls."""

    def __init__(self, board, number, server, seed, fill):
        self.board, self.row, self.random = board, board.rows[number], random.Random(seed)
        self.lock = threading.Lock()
        self.computing = []
        self.inherited = set(os.listdir("/proc/self/fd"))  # also the parent's connection
        kind = {"cas": mcext.Cache, "set": PlainFills}[fill]
        self.cache = kind([server.address], timeout=TIMEOUT, dead_retry=0, on_event=self.note, **secure(server))

    def add(self, name):
        with self.lock:
            self.row[PROCESS_COUNTS.index(name)] += 1

    def note(self, event):
        if event.kind == "error":
            self.add("faults")

    def run(self, parent):
        for _ in range(THREADS):
            threading.Thread(target=self.call_for_ever, args=(random.Random(self.random.random()),)).start()
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(0)

    def call_for_ever(self, rng):
        while True:
            if rng.random() < CUT:
                self.cut()
            self.call(rng.randrange(KEYS), rng)

    def call(self, key, rng):
        board = self.board
        began_in = board.begun[key]
        floor = max(board.barrier[key], board.seen(key))
        mine = []

        def factory():
            with self.lock:
                era = board.era[key]
                self.row[place(f"runs{era % 4}" if era == began_in else "astride", key)] += 1
                self.computing.append(key)
                mine.append(key)
                if rng.random() < KILLED:  # with all that its threads compute
                    for each in self.computing:
                        self.row[place("deaths", each)] += 1
                    os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(rng.random() * 0.004)
            return key, era

        started = time.monotonic()
        try:
            value = self.cache.get_or_set(f"k{key}", factory, 3600, lease=LEASE, wait=STUCK, fallback="raise")
        except mcext.MemcacheError as error:
            value = None
            if isinstance(error, mcext.LeaseTimeout):
                self.add("raised")
        self.add("calls")
        if mine:
            with self.lock:
                self.computing.remove(key)
            if time.monotonic() - started > LEASE - 1:
                self.add("faults")  # the lease may have run out
        elif value is not None:
            self.served(key, value, floor)

    def served(self, key, value, floor):
        with self.lock:
            self.row[PROCESS_COUNTS.index("served")] += 1
            if value[0] != key or value[1] < floor:
                self.row[PROCESS_COUNTS.index("resurrected")] += 1
            at = place("seen", key)
            self.row[at] = max(self.row[at], value[1])

    def cut(self):
        """Cut all connections of this process, also those that calls of its other threads are on."""
        self.add("cuts")
        for name in set(os.listdir("/proc/self/fd")) - self.inherited:
            try:
                if stat.S_ISSOCK(os.stat(int(name)).st_mode):
                    with socket.socket(fileno=os.dup(int(name))) as connection:
                        connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it is closed


class PlainFills(mcext.Cache):
    """Whose fills ask for no token: what this suite has to catch."""

    __slots__ = ()

    def set(self, key, value, ttl=None, *, cas=None, noreply=False):
        return super().set(key, value, ttl, noreply=noreply)


@dataclass
class Result:
    seed: int
    expiries: int = 0
    checked: int = 0  # of eras, for having one computation and no more
    computed_twice: int = 0
    never_computed: int = 0
    counts: dict = field(default_factory=dict)
    words: list = field(default_factory=list)
    seconds: float = 0.0

    def verdicts(self):
        found = {
            "computed twice": self.computed_twice,
            "never computed": self.never_computed,
            "resurrected": self.counts["resurrected"],
            "waited in vain": self.counts["raised"],
        }
        return [f"{count} {what}" for what, count in found.items() if count]


class Era:
    """One era of a key, as it was when it began."""

    def __init__(self, board, key, number, checked, faults):
        self.key, self.number, self.checked, self.began = key, number, checked, time.monotonic()
        self.way, self.until = "", self.began + 2 * STUCK
        self.deaths, self.faults = board.key_total("deaths", key), faults
        self.runs = board.key_total(f"runs{number % 4}", key)


class Driver:
    def __init__(self, server, seed, fill):
        self.server, self.seed, self.fill = server, seed, fill
        self.random = random.Random(seed)
        self.board = Board()
        self.result = Result(seed)
        self.children = {}
        self.started = 0
        self.deaths = 0
        self.cache = mcext.Cache([server.address], timeout=60, **secure(server))

    def start_children(self):
        for number in set(range(PROCESSES)) - set(self.children.values()):
            self.started += 1
            parent = os.getpid()
            child = os.fork()
            if child == 0:
                try:
                    seed = self.seed * 1000003 + self.started
                    Crowd(self.board, number, self.server, seed, self.fill).run(parent)
                finally:
                    os._exit(1)
            self.children[child] = number

    def reap(self):
        while self.children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                break
            self.children.pop(child, None)
            if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                raise RuntimeError(f"a process ended by itself, with {status}")
            self.deaths += 1
        self.start_children()

    def end(self, era, settled):
        """End the value of the key, and begin its next era."""
        key, number, board = era.key, era.number + 1, self.board
        name = f"k{key}"
        faults = board.total("faults")
        following = Era(board, key, number, settled, faults)
        if self.random.random() < EARLY:
            following.until = following.began + self.random.uniform(0, 0.01)
        board.era[key] = number
        way = self.random.random()
        if way < 0.01 and settled:
            following.way = "expiry"
            self.cache.touch(name, 1)
        elif way < 0.4:
            following.way = "invalidate"
            self.cache.invalidate(name, stale=3600)
        elif way < 0.55:
            following.way = "set"
            self.cache.set(name, (key, number))
            board.barrier[key] = number
        else:
            following.way = "delete"
            self.cache.delete(name)
            board.barrier[key] = number
        board.begun[key] = number
        self.result.expiries += 1
        return following

    def check(self, era):
        board = self.board
        runs = board.key_total(f"runs{era.number % 4}", era.key) - era.runs
        deaths = board.key_total("deaths", era.key) - era.deaths
        faults = board.total("faults") - era.faults
        self.result.checked += era.checked and not faults
        if era.checked and runs > 1 + deaths + faults:
            self.result.computed_twice += 1
            self.result.words.append(f"{runs} runs, {deaths} deaths, {faults} faults in an era begun by {era.way}")

    def is_orphaned(self, era):
        """Whether who has the lease may be gone, on an old value: it runs out with that alone, in an hour."""
        is_harmed = self.board.key_total("deaths", era.key) > era.deaths or self.board.total("faults") > era.faults
        return era.way == "invalidate" and is_harmed and time.monotonic() > era.began + 1

    def stop_server(self):
        os.kill(self.server.pid, signal.SIGSTOP)
        time.sleep(STOPPED)
        os.kill(self.server.pid, signal.SIGCONT)

    def run(self, expiries, stops):
        eras = [Era(self.board, key, 0, False, 0) for key in range(KEYS)]
        self.start_children()
        pauses = {expiries * (number + 1) // (stops + 1) for number in range(stops)}
        while self.result.expiries < expiries:
            self.reap()
            moved = False
            for at, era in enumerate(eras):
                settled = era.number == 0 or self.board.seen(era.key) >= era.number
                if settled:
                    self.check(era)
                elif time.monotonic() - era.began > STUCK:
                    self.result.never_computed += 1
                elif time.monotonic() < era.until and not self.is_orphaned(era):
                    continue
                moved = True
                eras[at] = self.end(era, settled)
                if self.result.expiries in pauses:
                    pauses.discard(self.result.expiries)
                    self.stop_server()
            if not moved:
                time.sleep(0.0002)
        self.result.counts = {name: self.board.total(name) for name in PROCESS_COUNTS}
        names = [name for name in KEY_COUNTS if name.startswith("runs")] + ["astride"]
        self.result.counts["runs"] = sum(self.board.key_total(name, key) for key in range(KEYS) for name in names)
        self.result.counts["kills"] = self.deaths

    def close(self):
        for child in self.children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self.cache.close()


def run(server, expiries, seed, stops=None, fill="cas"):
    """Force so many expiries on a memcached that is running; return the Result."""
    began = time.monotonic()
    driver = Driver(server, seed, fill)
    try:
        driver.run(expiries, max(1, expiries // 5000) if stops is None else stops)
    finally:
        driver.close()
    driver.result.seconds = time.monotonic() - began
    return driver.result


def line(result):
    """Return what the report says of a run."""
    c = result.counts
    return (
        f"{result.expiries} expiries, {result.checked} of them checked for one computation: {c['runs']} computations,"
        f" {c['served']} values served, {c['kills']} processes killed, {c['cuts']} cuts, {c['faults']} failed calls,"
        f" {result.seconds:.0f} s: {'; '.join(result.verdicts()) or 'ok'}"
    )
