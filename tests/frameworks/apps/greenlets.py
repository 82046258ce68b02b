"""memcache in a program of greenlets. Arguments: library, order, address, pid of that memcached, silent and full
address, and that of a memcached which wants the name "alice" and the password "word".

The library is gevent or eventlet. The order says how memcache meets it:

    patched-first   everything is monkey-patched, then memcache is imported
    imported-first  memcache is imported, then everything is monkey-patched
    used-first      a client has connections already when everything is monkey-patched, and goes on
    assigned        nothing is patched: memcache.socket is set to the library's socket module
    import-patched  nothing is patched: eventlet.import_patched("memcache")

The silent address takes connections and never answers; the full one takes no connection and refuses none. Each
scenario prints one line of JSON: its name, and what it saw or how it failed.
"""

import contextlib
import json
import os
import signal
import sys
import time
import traceback

library, order, address, pid, silent, full, known = sys.argv[1:]
pid = int(pid)
TICK = 0.01  # seconds
STALL = 1.0  # seconds, the time limit of the calls that must wait
early = None

if order in ("imported-first", "used-first"):
    import memcache

    if order == "used-first":
        early = memcache.Client([address])
        assert early.set("early", "before") and early.get("early") == "before"

if library == "gevent":
    import gevent
    import gevent.monkey

    sleep, spawn, Timeout = gevent.sleep, gevent.spawn, gevent.Timeout
    if order == "assigned":
        import gevent.socket as green_socket
    else:
        gevent.monkey.patch_all()

    def in_native_thread(function, *arguments):
        return gevent.get_hub().threadpool.apply(function, arguments)

    def wait_all(started):
        return [greenlet.get() for greenlet in started]
else:
    import eventlet
    import eventlet.tpool

    sleep, spawn, Timeout = eventlet.sleep, eventlet.spawn, eventlet.Timeout
    if order == "assigned":
        import eventlet.green.socket as green_socket
    elif order == "import-patched":
        memcache = eventlet.import_patched("memcache")
    else:
        eventlet.monkey_patch()

    def in_native_thread(function, *arguments):
        return eventlet.tpool.execute(function, *arguments)

    def wait_all(started):
        return [greenlet.wait() for greenlet in started]


if order != "import-patched":
    import memcache
if order == "assigned":
    memcache.socket = green_socket


def same(found, expected):
    assert found == expected and type(found) is type(expected), (repr(found)[:200], repr(expected)[:200])


def state_of(thread):
    with open(f"/proc/{pid}/task/{thread}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def served():
    """Seconds of a clock that stands while this thread waits for a processor."""
    with open("/proc/thread-self/schedstat") as file:
        return time.monotonic() - int(file.read().split()[1]) / 1e9


class Ticker:
    """Counts on in a greenlet of its own; `gap` is the longest time in which it had a processor and could not."""

    def __enter__(self):
        self.begun = time.monotonic()
        self.times = [served()]
        self.running = True
        self.greenlet = spawn(self.run)
        return self

    def run(self):
        while self.running:
            sleep(TICK)
            self.times.append(served())

    def __exit__(self, *_):
        self.ended = time.monotonic()
        self.times.append(served())
        self.running = False
        wait_all([self.greenlet])

    @property
    def gap(self):
        return max(after - before for before, after in zip(self.times, self.times[1:], strict=False))

    @property
    def elapsed(self):
        return self.ended - self.begun


@contextlib.contextmanager
def stopped():
    """Stop the server; the body runs when each of its threads stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        give_up = time.monotonic() + 10
        while {state_of(thread) for thread in os.listdir(f"/proc/{pid}/task")} != {"T"}:
            assert time.monotonic() < give_up, "the server does not stop"
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def calls():
    """Each kind of call, through a host name too."""
    clients = [memcache.Client([address], cache_cas=True)]
    clients.append(memcache.Client([address.replace("127.0.0.1", "localhost")], cache_cas=True))
    if early is not None:
        same(early.get("early"), "before")
        early.cache_cas = True
        clients.append(early)
    for mc in clients:
        values = {"str": "\N{SNOWMAN}", "bytes": b"\0\r\n", "int": 12, "list": [1, None], "large": os.urandom(900_000)}
        for key, value in values.items():
            same(mc.set(key, value), True)
            same(mc.get(key), value)
        mapping = {f"key-{number}": f"value-{number}" * number for number in range(300)}
        same(mc.set_multi(mapping), [])
        same(mc.get_multi(mapping), mapping)
        same(mc.incr("int"), 13)
        same(mc.decr("int", 3), 10)
        same(mc.gets("int"), 10)
        same(mc.cas("int", 11), True)
        same(mc.cas("int", 12), False)
        same(mc.add("str", "x"), False)
        same(mc.append("bytes", b"more"), True)
        same(mc.get("bytes"), b"\0\r\nmore")
        same(mc.set("str", "quiet", noreply=True), True)
        same(mc.get("str"), "quiet")
        same(mc.touch("str", 100), 1)
        same(mc.delete("str"), 1)
        same(mc.get("str"), None)
        same(mc.delete_multi(list(mapping)), 1)
        same(mc.get_multi(mapping), {})
        assert int(dict(mc.get_stats()[0][1])["pid"]) == pid
        mc.disconnect_all()
        same(mc.get("int"), 11)
    return {}


def shared():
    """Many greenlets and one client: every value carries its key."""
    mc = early or memcache.Client([address])
    wrong = []
    mc.set("total", 0)
    before = connections_ever(mc)

    def user(number):
        for turn in range(25):
            key = f"{number}-{turn}"
            value = {"key": key, "filler": "x" * (number * 100)}
            if mc.set(key, value) is not True:
                wrong.append([key, "not stored"])
            if mc.get(key) != value:
                wrong.append([key, "get"])
            if mc.get_multi([key, f"missing-{key}"]) != {key: value}:
                wrong.append([key, "get_multi"])
            if mc.incr("total") is None:
                wrong.append([key, "incr"])

    wait_all([spawn(user, number) for number in range(50)])
    return {"wrong": wrong, "total": mc.get("total"), "connections": connections_ever(mc) - before}


def replaced():
    """Many greenlets and one client with replaced methods: what is held for a call is that call's, not its thread's."""

    class Chooses(memcache.Client):
        def _get_server(self, key):
            return super()._get_server(key)

    class Receives(memcache.Client):
        def _recv_value(self, server, flags, rlen):
            return super()._recv_value(server, flags, rlen)

    class Reads(memcache.Client):
        def set_servers(self, servers):
            super().set_servers(servers)
            for host in self.servers:
                host.readline = host.readline
                host.send_cmd = host.send_cmd

    wrong = []

    def user(mc, number):
        for turn in range(10):
            key = f"{number}-{turn}"
            value = {"key": key, "filler": "x" * (number * 100)}
            seen = [mc.set(key, value), mc.get(key) == value, mc.get_multi([key, f"missing-{key}"]) == {key: value}]
            if seen != [True, True, True]:
                wrong.append([type(mc).__name__, key, seen])

    def tool(mc, number):
        host = mc.servers[0]
        if host.connect() != 1:
            wrong.append([type(mc).__name__, "not connected"])
        host.send_cmd(f"touch missing-{number} {number}\r\nget a b{number}")
        sleep(0)
        lines = [host.readline(), host.readline()]
        if lines != [b"NOT_FOUND", b"END"]:
            wrong.append([type(mc).__name__, number, repr(lines)])
        host.close_socket()

    for kind in (Chooses, Receives, Reads):
        mc = kind([address])
        users = [spawn(user, mc, number) for number in range(20)]
        wait_all(users + [spawn(tool, mc, number) for number in range(5)])
    return {"wrong": wrong}


def connections_ever(mc):
    return int(mc.get_stats()[0][1]["total_connections"])


def native_threads():
    """The same client in threads of the library's native pool, beside greenlets of the main thread."""
    mc = memcache.Client([address])
    wrong = []

    def user(name):
        for turn in range(40):
            key = f"{name}-{turn}"
            if mc.set(key, {"key": key}) is not True or mc.get(key) != {"key": key}:
                wrong.append(key)

    beside = [spawn(user, f"greenlet-{number}") for number in range(5)]
    beside += [spawn(in_native_thread, user, f"thread-{number}") for number in range(5)]
    wait_all(beside)
    return {"wrong": wrong}


def attributes():
    """What python-memcached keeps for each thread: each greenlet's own where threading.local is the library's."""
    mc = memcache.Client([address], cache_cas=True)
    mc.set("number", 1)

    def user(number):
        mc.note = number
        for _ in range(number):
            mc.gets("number")
            sleep(0)
        return [mc.note, mc.stats, len(mc.cas_ids)]

    return {"seen": wait_all([spawn(user, number) for number in range(1, 6)]), "here": [mc.stats, len(mc.cas_ids)]}


def interrupted():
    """The library's timeout ends a waiting call; the next call gets its own reply."""
    mc = early or memcache.Client([address], socket_timeout=20)
    for turn in range(3):
        mc.set("one", f"value one {turn}")
        mc.set("two", f"value two {turn}")
        with stopped(), Ticker() as ticker:
            try:
                with Timeout(0.2):
                    mc.get("one")
                raise AssertionError("the call was not interrupted")
            except Timeout:
                pass
        assert ticker.elapsed < 10, ticker.elapsed
        same(mc.get("two"), f"value two {turn}")
        same(mc.get_multi(["one", "two"]), {"one": f"value one {turn}", "two": f"value two {turn}"})
    return {}


def authenticated():
    """Each connection says its name and password, which is asked for in a greenlet that waits for it."""

    class Own(memcache.Client):
        def _get(self, *arguments):
            return super()._get(*arguments)

    def password():
        sleep(TICK)
        return "word"

    found = {}
    for kind in (memcache.Client, Own):
        mc = kind([known], username="alice", password=password, socket_timeout=20)

        def work(number, mc=mc):
            assert mc.set(f"key{number}", number)
            return [mc.get(f"key{number}") for _ in range(5)]

        same(wait_all([spawn(work, number) for number in range(20)]), [[number] * 5 for number in range(20)])
        ((_, figures),) = mc.get_stats()
        found[kind.__name__] = {name: int(figures[name]) for name in ("auth_cmds", "auth_errors", "total_connections")}
        mc.disconnect_all()
        mc = kind([known], username="alice", password="wrong", socket_timeout=20)
        same([mc.get("key1"), mc.get("key1")], [None, None])
    mc = memcache.Client([silent], username="alice", password="word", socket_timeout=STALL)
    return {**found, **stall(lambda: mc.get("key", "the default"), "the default")}


def stall(call, expected, server_stops=False):
    """The ticker must go on while a call waits for a server, and so must calls to another server."""
    with stopped() if server_stops else contextlib.nullcontext(), Ticker() as ticker:
        found = call()
    same(found, expected)
    return {"gap": ticker.gap, "elapsed": ticker.elapsed, "ticks": len(ticker.times)}


def stall_silent():
    mc = memcache.Client([silent], socket_timeout=STALL)
    return stall(lambda: mc.get("key", "the default"), "the default")


def stall_connect():
    mc = memcache.Client([full], socket_timeout=STALL)
    return stall(lambda: mc.get("key", "the default"), "the default")


def stall_receive():
    mc = memcache.Client([address], socket_timeout=20)
    mc.set("key", "value")
    same(mc.get("key"), "value")
    mc.socket_timeout = STALL
    return stall(lambda: mc.get_multi(["key"]), {}, server_stops=True)


def stall_send():
    mc = memcache.Client([address], socket_timeout=20)
    mapping = {f"key-{number}": bytes(1_000_000) for number in range(20)}
    same(mc.set_multi({"key": "value"}), [])
    mc.socket_timeout = STALL
    return stall(lambda: bool(mc.set_multi(mapping)), True, server_stops=True)


SCENARIOS = [calls, shared, replaced, native_threads, attributes, interrupted, authenticated]
for scenario in (*SCENARIOS, stall_silent, stall_connect, stall_receive, stall_send):
    try:
        result = scenario()
    except BaseException:
        result = {"error": traceback.format_exc()}
    print(json.dumps({"scenario": scenario.__name__, **result}), flush=True)
