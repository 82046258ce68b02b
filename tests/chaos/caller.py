"""Makes the calls: a process of its own, so that a crash or a hang of a client is counted and not suffered.

Every value carries its key, and every answer is checked. What is seen goes to the scoreboard; the first few
oddities of each kind go to standard error in words. Started by `run` with one JSON argument.
"""

import itertools
import json
import os
import random
import signal
import ssl
import sys
import threading
import time
import traceback
import warnings

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from chaos.clients import CLIENTS, version
from chaos.scoreboard import Scoreboard

KEYS = 200
COUNTERS = 50
COUNTER_BASE = 10**9  # counter i runs in [i * base, (i + 1) * base)
MOST_APPENDS = 50000
FORK_SLOTS = range(128, 160)  # slots below belong to threads


def key_name(i):
    return f"key{i}" + "x" * (i % 7) * 5


KEY_NAMES = [key_name(i) for i in range(KEYS)]
COUNTER_NAMES = [f"counter{i}" for i in range(COUNTERS)]


def value_for(key, number, size):
    """Return bytes of the given size that name their key, number and size all over."""
    token = f"<{key}|{number}|{size}>".encode()
    return (token * (size // len(token) + 1))[:size] if size > len(token) else token


def value_is_right(key, value):
    if type(value) is not bytes or not value.startswith(f"<{key}|".encode()):
        return False
    end = value.find(b">")
    try:
        _, number, size = value[1:end].split(b"|")
        return value == value_for(key, int(number), int(size))
    except ValueError:
        return False


class Storm(Exception):
    """Raised by the signal handler."""


class Delay:
    """How long the kernel has kept the calling thread waiting for a processor, in all."""

    def __init__(self):
        self.local = threading.local()

    def seconds(self):
        try:
            file = self.local.file
        except AttributeError:
            # Closed with the thread's end.
            file = self.local.file = open("/proc/thread-self/schedstat", "rb", buffering=0)
        return int(os.pread(file.fileno(), 100, 0).split()[1]) / 1e9


DELAY = Delay()


class Words:
    """The first few oddities of each kind, on standard error."""

    def __init__(self):
        self.seen = {}

    def say(self, kind, text):
        count = self.seen.get(kind, 0)
        self.seen[kind] = count + 1
        if count < 2:
            sys.stderr.write(f"{kind}: {text}"[:600] + "\n")
            sys.stderr.flush()


class Calls:
    """One thread's calls: draws them from its generator and checks the answers."""

    KINDS = ("get", "set", "get_multi", "set_multi", "incr", "delete", "add", "append", "touch", "noreply")
    WEIGHTS = (46, 18, 8, 4, 8, 3, 2, 4, 3, 4)

    def __init__(self, client, slot, log, rng, timeout, words, pause, life):
        self.client, self.slot, self.rng = client, slot, rng
        self.nearly = 0.9 * timeout
        self.words = words
        self.pause = pause
        self.log = log
        self.appends = 0
        self.life = life  # which of the callers this is, where deaths made several
        self.number = itertools.count()
        self.armed = False
        self.took = 0.0
        self.functions = [getattr(self, "call_" + kind) for kind in self.KINDS]

    def one(self):
        kind = self.rng.choices(self.functions, self.WEIGHTS)[0]
        slot = self.slot
        if self.pause:
            time.sleep(self.rng.uniform(0, self.pause))
        self.delay = DELAY.seconds()
        started = time.monotonic()
        slot.begin(started)
        try:
            self.armed = True
            check, answer = kind()
            self.armed = False
        except Storm:
            self.finish(kind, started)
            slot.add("interrupted")
            return
        except Exception as error:
            self.armed = False
            self.finish(kind, started)
            slot.add("raised")
            self.failed()
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.words.say(f"raised {kind.__name__[5:]} {type(error).__name__}", f"{error} ({where.name})")
            return
        self.finish(kind, started)
        check(answer)

    def finish(self, kind, started):
        self.took = time.monotonic() - started
        if self.took > 0.5 * self.nearly:
            # A busy machine is not the client's doing.
            self.took = max(0.0, self.took - (DELAY.seconds() - self.delay))
        self.slot.end(self.took)
        if self.took > self.nearly + 1:
            self.words.say(f"slow {kind.__name__[5:]}", f"{self.took:.2f} s")

    def failed(self):
        self.slot.add("late" if self.took >= self.nearly else "broken")

    def ok(self, answer):
        if not answer:
            self.failed()

    def any(self, answer):
        """The answer may be yes or no, by the state of the cache."""

    def wrong(self, what, key, value):
        self.slot.add("wrong")
        self.words.say(f"wrong {what}", f"{key!r} answered {value!r:.300}")

    def value(self, key, value, what="get"):
        if value is None:
            self.failed()
        elif value_is_right(key, value):
            self.slot.add("hits")
        else:
            self.wrong(what, key, value)

    def new_value(self, key):
        size = self.rng.choices((0, 100, 2000, 9000, 100000), (30, 50, 10, 5, 1))[0]
        return value_for(key, next(self.number), self.rng.randrange(size) if size else 0)

    def some_keys(self):
        return self.rng.sample(KEY_NAMES, self.rng.randint(2, 20))

    def call_get(self):
        key = self.rng.choice(KEY_NAMES)
        answer = self.client.get(key)
        return lambda value: self.value(key, value), answer

    def call_set(self):
        key = self.rng.choice(KEY_NAMES)
        return self.ok, self.client.set(key, self.new_value(key))

    def call_noreply(self):
        key = self.rng.choice(KEY_NAMES)
        return self.ok, self.client.set(key, self.new_value(key), noreply=True)

    def call_get_multi(self):
        keys = self.some_keys()
        return lambda found: self.found(keys, found), self.client.get_multi(keys)

    def found(self, keys, found):
        for key, value in found.items():
            if key not in keys:
                self.wrong("get_multi (a key not asked for)", key, value)
            else:
                self.value(key, value, "get_multi")
        if len(found) < len(keys):
            self.failed()

    def call_set_multi(self):
        return self.ok, self.client.set_multi({key: self.new_value(key) for key in self.some_keys()})

    def call_incr(self):
        i = self.rng.randrange(COUNTERS)
        return lambda number: self.counted(i, number), self.client.incr(COUNTER_NAMES[i])

    def counted(self, i, number):
        if number is None:
            self.failed()
        elif type(number) is int and number // COUNTER_BASE == i + 1:
            self.slot.add("hits")
        else:
            self.wrong("incr", COUNTER_NAMES[i], number)

    def call_delete(self):
        key = f"brief{self.rng.randrange(20)}"
        return self.any, self.client.delete(key)

    def call_add(self):
        key = f"brief{self.rng.randrange(20)}"
        return self.any, self.client.add(key, value_for(key, next(self.number), 0))

    def call_append(self):
        if self.appends >= MOST_APPENDS:
            return self.call_touch()
        self.appends += 1
        return self.any, self.client.append(self.log, f"{self.life}.{self.appends},".encode())

    def call_touch(self):
        return self.any, self.client.touch(self.rng.choice(KEY_NAMES))


class Caller:
    def __init__(self, settings):
        self.fault = settings["fault"]
        self.seed = settings["seed"]
        self.timeout = settings["timeout"]
        self.addresses = settings["addresses"]
        self.options = {}
        if settings["ca_file"]:
            self.options["tls_context"] = ssl.create_default_context(cafile=settings["ca_file"])
        self.threads = settings["threads"]
        self.calls = settings["calls"]
        self.adapter = CLIENTS[settings["client"]]
        self.share = self.adapter.thread_safe or self.fault in ("threads", "churn")
        self.board = Scoreboard(settings["board"])
        self.words = Words()
        self.life = settings["life"]
        # Where the server itself is the fault, calls are spread over its lives; else they come as fast as they can.
        self.pause = 0.05 if self.fault in ("kill", "stop") else 0
        self.shared = self.make()
        self.fork_slots = itertools.cycle(FORK_SLOTS)
        self.main = None

    def make(self):
        return self.adapter(self.addresses, self.timeout, **self.options)

    def calls_for(self, thread, name):
        client = self.shared if self.share or self.threads == 1 else self.make()
        rng = random.Random(f"{self.seed}:{name}")
        return Calls(
            client, self.board.slot(thread), f"log{thread}", rng, self.timeout, self.words, self.pause, self.life
        )

    def run(self):
        if self.fault == "churn":
            self.run_churn()
            return
        each = -(-self.calls // self.threads)
        threads = [
            threading.Thread(target=self.run_some, args=(self.calls_for(i, i), each), daemon=True)
            for i in range(1, self.threads)
        ]
        for thread in threads:
            thread.start()
        self.main = self.calls_for(0, 0)
        if self.fault == "fork":
            self.run_forking(each)
        elif self.fault == "signals":
            self.run_in_storm(each)
        else:
            self.run_some(self.main, each)
        for thread in threads:
            thread.join()

    def run_some(self, calls, count):
        for _ in range(count):
            calls.one()

    def run_churn(self):
        """Short-lived threads, `threads` at a time, fifty calls each."""
        lives = max(1, self.calls // 50)

        def live(number):
            # Eight workers start one thread after the other: never more than eight at once.
            for life in range(number, lives, self.threads):
                calls = self.calls_for(number, f"{number}:{life}")
                calls.appends = MOST_APPENDS
                thread = threading.Thread(target=self.run_some, args=(calls, 50), daemon=True)
                thread.start()
                thread.join()

        workers = [threading.Thread(target=live, args=(i,), daemon=True) for i in range(self.threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def run_in_storm(self, count):
        rng = random.Random(f"{self.seed}:storm")
        main = self.main

        def handler(number, frame):
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0001, 0.004))
            if main.armed and rng.random() < 0.7:
                main.armed = False
                raise Storm

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        self.run_some(main, count)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def run_forking(self, count):
        warnings.simplefilter("ignore", DeprecationWarning)
        done = 0
        while done < count:
            some = min(100, count - done)
            self.run_some(self.main, some)
            done += some
            child = next(self.fork_slots)
            pid = os.fork()
            if pid == 0:
                try:
                    DELAY.local = threading.local()
                    calls = Calls(
                        self.main.client,
                        self.board.slot(child),
                        f"log{child}",
                        random.Random(f"{self.seed}:fork:{done}"),
                        self.timeout,
                        self.words,
                        self.pause,
                        self.life,
                    )
                    calls.appends = MOST_APPENDS
                    self.run_some(calls, 20)
                finally:
                    os._exit(0)
            self.main.slot.add("forks")
            self.run_some(self.main, 20)
            _, status = os.waitpid(pid, 0)
            if os.WIFSIGNALED(status):
                self.main.slot.add("deaths")
                self.board.slot(child).begin(0.0)


def main():
    caller = Caller(json.loads(sys.argv[1]))
    print(json.dumps({"version": version(json.loads(sys.argv[1])["client"])}), flush=True)
    caller.run()
    print(json.dumps({"done": True}), flush=True)
    # Daemon threads and the client's own shutdown are not what is measured, but a crash there is a death.
    sys.stdout.flush()


if __name__ == "__main__":
    main()
