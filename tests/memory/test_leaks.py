"""Memory, reference counts and file descriptors stay level under many calls of each kind and each failure.

MCEXT_LEAK_CALLS says how many of each (`make leaks`: a million). What is counted are the blocks of malloc that live,
Python's own objects among them, the references to what the calls have in common (constants, types, functions, keys and
values: a reference lost there is no block), descriptors, and the memory of the process.

Kinds that wait, start a process or move megabytes get a share of the calls only: MILLION says which, and why.
"""

import os
import subprocess
import sys

import pytest
from counted_malloc import CALLS, interposer, run  # noqa: F401  (interposer is a fixture)

# One thread and one poll, so that millions of connections leave nothing behind. Each socket answers in its own way.
SERVER = r"""
import os, select, socket, struct, sys

ANSWERS = {  # what comes for any request, and whether the connection is closed then; None: reset
    "lies": (b"VALUE no reply at all\r\n", False),
    "closes": (b"", True),
    "resets": (b"", None),
    "cuts": (b"VALUE bytes 0 10\r\n12345", True),
    "cuts large": (b"VALUE bytes 0 90000\r\n" + bytes(50000), True),
    "cuts a line": (b"VALUE byt", True),
    "other": (b"VALUE other 0 1\r\nx\r\nEND\r\n", False),
    "reorders": (b"VALUE int 0 1\r\nx\r\nVALUE bytes 0 1\r\nx\r\nEND\r\n", False),
    "more": (b"VALUE bytes 0 1\r\nx\r\nEND\r\nEND\r\n", False),
    "huge": (b"VALUE bytes 0 4000000000\r\n", False),
    "errs": (b"SERVER_ERROR out of memory\r\n", False),
    "stalls": (b"", False),
}
poll = select.epoll()
names, sockets = {}, {}
for name in ANSWERS:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.join(sys.argv[1], name))
    listener.listen(128)
    names[listener.fileno()], sockets[listener.fileno()] = name, listener
    poll.register(listener, select.EPOLLIN)
listeners = set(names)
print("ready", flush=True)
while True:
    for fd, _ in poll.poll():
        if fd in listeners:
            one = sockets[fd].accept()[0]
            names[one.fileno()], sockets[one.fileno()] = names[fd], one
            poll.register(one, select.EPOLLIN)
            continue
        answer, close = ANSWERS[names[fd]]
        try:
            request = sockets[fd].recv(1 << 20)
            if names[fd] == "errs":  # each command is answered
                answer *= sum(line.startswith((b"get ", b"set ", b"version")) for line in request.split(b"\r\n"))
            if request and answer:
                sockets[fd].sendall(answer)
        except OSError:
            request = b""
        if not request or close is not False:
            poll.unregister(fd)
            sockets.pop(fd).close()  # a Unix socket with unread bytes resets
"""

LASTING = (
    CALLS
    + r"""
import signal, socket, threading, time

folder, million = sys.argv[2], int(sys.argv[3])
client_of = {name: memcache.Client(["unix:" + os.path.join(folder, name)], dead_retry=0)
             for name in ["lies", "closes", "resets", "cuts", "cuts large", "cuts a line", "other", "reorders",
                          "more", "huge", "errs", "stalls", "nobody"]}
both = memcache.Client([address, "unix:" + os.path.join(folder, "closes")], dead_retry=0)
tcp = socket.socket()
tcp.bind(("127.0.0.1", 0))  # and does not listen
refuses = memcache.Client(["127.0.0.1:%d" % tcp.getsockname()[1]], dead_retry=0)
stalls = client_of["stalls"]
stalls.socket_timeout = 0.001
calls = 0


class Wrong(Exception):
    pass


def wrong(*arguments):
    raise Wrong


def raises(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except (Wrong, ERRORS, TypeError, ValueError, pickle.PickleError, AttributeError):
        pass


def client_with(**options):
    made = memcache.Client(servers)
    for name, value in options.items():
        setattr(made, name, value)
    return made


class Bad:
    __str__ = __reduce__ = __hash__ = wrong


class BadMapping(dict):
    items = wrong


def broken_keys():
    yield "bytes"
    raise Wrong


class Overrides(memcache.Client):
    def _get_server(self, key):
        return super()._get_server(key)

    def _recv_value(self, server, flags, rlen):
        return super()._recv_value(server, flags, rlen)


class Raises(memcache.Client):
    def _recv_value(self, server, flags, rlen):
        raise Wrong


overrides, raising = Overrides(servers), Raises(servers)
no_pickler, no_unpickler = client_with(pickler=wrong), client_with(unpickler=wrong)
no_compressor, no_decompressor = client_with(compressor=wrong), client_with(decompressor=wrong)
no_encoder = client_with(key_encoder=wrong)
with_ids = memcache.Client(servers, pid=lambda value: None, pload=wrong)
no_pickles = memcache.Client(servers, allow_pickle=False)
small_limit = memcache.Client(servers, max_value_length=100)
python_client = memcache.Client(servers)
threaded = memcache.Client(servers)


class PythonSocket(socket.socket):
    def sendall(self, data):
        return super().sendall(data)


def through_python_sockets():
    real, socket.socket = socket.socket, PythonSocket
    try:
        python_client.set("bytes", b"value")
        python_client.get_multi(["bytes", "int"])
        return python_client.get("bytes")
    finally:
        socket.socket = real


def python_sockets_that_fail():
    real, socket.socket = socket.socket, wrong
    try:
        raises(memcache.Client(servers).get, "bytes")
    finally:
        socket.socket = real


def by_a_host():
    host = plain.servers[0]
    assert host.connect()
    host.send_cmd("get bytes")
    answer = [host.readline(), host.recv(7)]
    host.expect(b"END")
    host.close_socket()
    return answer


def in_a_thread():
    thread = threading.Thread(target=threaded.get, args=["bytes"])
    thread.start()
    thread.join()


def in_a_child():
    child = os.fork()
    if child == 0:
        os._exit(plain.get("bytes") != b"value")
    assert os.waitpid(child, 0)[1] == 0


def without_memory():
    # One of the allocations after another fails, in the binding and in the core; see test_allocation_failure.py.
    global calls
    calls += 1
    try:
        fail_at(calls % 25)
        plain.get("text")
    except MemoryError:
        pass
    has_failed()


def get_until_the_signal():
    signal.setitimer(signal.ITIMER_REAL, 0.0005)  # it may come before the call is begun
    stalls.get("bytes")


def interrupted():
    stalls.socket_timeout = 1
    raises(get_until_the_signal)
    signal.setitimer(signal.ITIMER_REAL, 0)
    stalls.socket_timeout = 0.001


def with_a_hash(function):
    memcache.serverHashFunction = function
    try:
        raises(plain.get, "bytes")
    finally:
        memcache.serverHashFunction = memcache.cmemcache_hash


def on(name, *arguments):
    method, *rest = arguments
    return lambda: raises(getattr(client_of[name], method), *rest)


signal.signal(signal.SIGALRM, wrong)
with_ids.set("ids", [1])
MORE = {
    "add, replace, prepend and cas that store nothing": lambda: (
        plain.add("bytes", 1), plain.replace("x", 1), plain.prepend("x", "y"), client.cas("x", 1)),
    "decr": lambda: plain.decr("int", 0),
    "gets of a miss": lambda: client.gets("miss"),
    "all tokens forgotten": lambda: (client.gets("bytes"), client.reset_cas()),
    "get_multi of wrong and double keys": lambda: plain.get_multi(["bytes", b"bytes", 5, (7, "int"), "bytes"]),
    "set_multi of what is partly wrong": lambda: raises(plain.set_multi, {"a": 1, "b": lambda: 0, "c d": 2}),
    "statistics of this thread": lambda: (dict(plain.stats), dict(client.cas_ids), setattr(plain, "stats", {})),
    "hosts": lambda: [(h.address, h.socket, h.deaduntil, h.buffer, str(h)) for h in plain.servers + plain.buckets],
    "a dead mark": lambda: (plain.servers[0].mark_dead("x"), plain.get("bytes"), plain.forget_dead_hosts()),
    "quit_all": lambda: (reconnect(), plain.quit_all()),
    "check_key": lambda: (plain.check_key(b"a", 5), raises(plain.check_key, b"a b"), raises(plain.check_key, None)),
    "by a host": by_a_host,
    "replaced methods": lambda: (overrides.set("bytes", b"value"), overrides.get_multi(["bytes"]),
                                 overrides.get("bytes")),
    "a replaced method that raises": lambda: raises(raising.get, "bytes"),
    "through Python's sockets": through_python_sockets,
    "Python's sockets that fail": python_sockets_that_fail,
    "in a thread that ends": in_a_thread,
    "in a child": in_a_child,
    "a refused connect": lambda: refuses.get("bytes"),
    "a refused connect of many": lambda: refuses.set_multi(many),
    "a socket that is not there": on("nobody", "get", "bytes"),
    "a reply that is none": on("lies", "get", "bytes"),
    "replies that are none": on("lies", "get_multi", ["bytes", "int"]),
    "an answer that is none": on("lies", "set", "bytes", b"x"),
    "answers that are none": on("lies", "set_multi", many),
    "a number that is none": on("lies", "incr", "bytes"),
    "a listing that is none": on("lies", "get_stats"),
    "closed without a reply": on("closes", "get", "bytes"),
    "closed without replies": on("closes", "get_multi", ["bytes", "int"]),
    "closed without an answer": on("closes", "set", "bytes", b"x"),
    "one of two servers closed": lambda: (both.set_multi(many), both.get_multi(list(many)), both.delete_multi("xyz")),
    "reset": on("resets", "set", "bytes", big),
    "cut in a value": on("cuts", "get", "bytes"),
    "cut in one of many values": on("cuts", "get_multi", ["bytes", "int"]),
    "cut in a large value": on("cuts large", "get", "bytes"),
    "cut in a line": on("cuts a line", "get", "bytes"),
    "another key's value": on("other", "get", "bytes"),
    "another key's value among many": on("other", "get_multi", ["bytes", "int"]),
    "values in another order": on("reorders", "get_multi", ["bytes", "int"]),
    "values in another order, and one not asked for": on("reorders", "get_multi", ["bytes", "text"]),
    "more than the reply": on("more", "get", "bytes"),
    "a value that is too long": on("huge", "get", "bytes"),
    "a value above the limit": lambda: raises(small_limit.get, "big"),
    "an error line": on("errs", "get", "bytes"),
    "error lines": on("errs", "get_multi", ["bytes", "int"]),
    "an error line for a value": on("errs", "set", "bytes", b"x"),
    "an error line for values": on("errs", "set_multi", many),
    "no reply in time": on("stalls", "get", "bytes"),
    "no replies in time": on("stalls", "get_multi", ["bytes", "int"]),
    "a handler that raises": interrupted,
    "no memory": without_memory,
    "a wrong server": lambda: rejected(memcache.Client, ["host:port"]),
    "a wrong weight": lambda: raises(memcache.Client, [(address, None)]),
    "wrong servers": lambda: raises(plain.set_servers, [address, 5]),
    "wrong keys": lambda: rejected(plain.get_multi, ["a", "b c"]),
    "keys that end in an exception": lambda: raises(plain.get_multi, broken_keys()),
    "a key that is no text": lambda: raises(plain.get_multi, [Bad]),
    "a mapping that raises": lambda: raises(plain.set_multi, BadMapping()),
    "values of which one raises": lambda: raises(plain.set_multi, {"a": 1, "b": Bad()}),
    "a wrong time": lambda: rejected(plain.set, "a", 1, object()),
    "too many arguments": lambda: raises(plain.get, 1, 2, 3, 4),
    "an argument unknown": lambda: raises(plain.set, "a", 1, x=2),
    "an option that is none": lambda: rejected(setattr, plain, "socket_timeout", "x"),
    "what cannot be pickled": lambda: rejected(plain.set, "a", lambda: 0),
    "a pickler that raises": lambda: raises(no_pickler.set, "a", [1]),
    "an unpickler that raises": lambda: raises(no_unpickler.get, "pickle"),
    "a persistent_load": lambda: raises(with_ids.get, "ids"),
    "a pickle that is not wanted": lambda: raises(no_pickles.get, "pickle"),
    "pickles that are not wanted": lambda: raises(no_pickles.get_multi, ["pickle", "bytes"]),
    "a compressor that raises": lambda: raises(no_compressor.set, "a", b"x" * 100, min_compress_len=1),
    "a decompressor that raises": lambda: raises(no_decompressor.get, "zlib"),
    "a key_encoder that raises": lambda: raises(no_encoder.get, "a"),
    "a hash function": lambda: with_a_hash(lambda key: 5),
    "a hash function that raises": lambda: with_a_hash(wrong),
    "a subclass": lambda: type("Sub", (memcache.Client,), {})(servers).get("bytes"),
}
# The share of a million that these get, in percent.
MILLION = {
    # They wait: for a timeout or a timer.
    "no reply in time": 2, "no replies in time": 2, "a handler that raises": 2,
    # A process each.
    "in a child": 0.5,
    # A tenth of a megabyte or more each, most of the time in zlib, memcached or the kernel.
    "get compressed": 10, "get_multi compressed": 10, "set compressed": 5, "set too large": 5, "get_stats settings": 10,
    "a decompressor that raises": 10, "reset": 10, "cut in a large value": 10,
}

watched = [None, True, False, (), b"", "", 0, 1, b"value", big, "bytes", "int", "text", servers, address, client, plain]
for namespace in (vars(memcache), vars(memcache.Client), vars(memcache._core), vars(memcache._Host), many):
    watched += [thing for pair in namespace.items() for thing in pair]
watched += [memcache.Client, *memcache.Client.__mro__, *plain.servers, threading, pickle, socket]
watched += [MemoryError, TypeError, ValueError, KeyError, OSError, TimeoutError, Wrong]


def references():
    return sum(map(sys.getrefcount, watched))


def kilobytes():
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * 4


only = os.environ.get("MCEXT_LEAK_KIND", "")
for name, call in [*((name, entry[0]) for name, entry in CALLS.items()), *MORE.items()]:
    if only and only != name:
        continue
    prepare()  # a touched value expires
    count = max(int(million * MILLION.get(name, 100) / 100 / 5), 10)
    blocks, counts, sizes, files = [array.array("q", bytes(8 * 5)) for _ in range(4)]
    began = time.perf_counter()
    for turn in range(5):
        for _ in range(count):
            call()
        blocks[turn], counts[turn], sizes[turn], files[turn] = level(), references(), kilobytes(), descriptors()
    took = time.perf_counter() - began
    # What leaks does so in each round; caches of the interpreter and of malloc come and go.
    limit = max(count // 1000, 5)
    slopes = ["descriptors"] if files[4] > files[1] else []
    for what, row, most in ("blocks", blocks, limit), ("references", counts, limit), ("kilobytes", sizes, 1024):
        steps = [after - before for before, after in zip(row[1:], row[2:])]
        if min(steps) > most or what == "references" and max(steps) < -most:  # too few are as wrong as too many
            slopes.append(what)
    print(f"{name}: {'not level: ' + ', '.join(slopes) if slopes else 'ok'}, {5 * count} calls, "
          f"{1e6 * took / (5 * count):.0f} us each; blocks {list(blocks)}, references {list(counts)}, "
          f"kilobytes {list(sizes)}, descriptors {list(files)}")
"""
)


@pytest.mark.slow
def test_many_calls_leave_nothing_behind(interposer, tmp_path):  # noqa: F811
    calls = os.environ.get("MCEXT_LEAK_CALLS", "1500")
    with subprocess.Popen([sys.executable, "-c", SERVER, tmp_path], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout.readline() == b"ready\n"
            assert run(interposer, LASTING, str(tmp_path), calls) > (0 if os.environ.get("MCEXT_LEAK_KIND") else 110)
        finally:
            server.kill()
