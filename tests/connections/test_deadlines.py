"""No call lasts longer than its deadline, whatever the servers do.

The bounds asserted are far above the deadlines, for busy machines, and below what a call would take that gave each
step, each server or each address a timeout of its own.
"""

import contextlib
import itertools
import pickle
import socket
import threading
import time
from types import SimpleNamespace

import ports
import pytest
from scripted_server import CLOSE, PATIENCE, STALL, ScriptedServer
from waits import at_once

import mcext
import memcache
from mcext.testing import memcached

DEADLINE = 0.15
BOUND = 3.0
# Where servers must answer in time, they have more of it under a checker that slows all down.
SLOWNESS = min(PATIENCE, 4)

CALLS = {
    "get": (lambda mc: mc.get("key1"), None),
    "gets": (lambda mc: mc.gets("key1"), None),
    "set": (lambda mc: mc.set("key1", b"v"), 0),
    "incr": (lambda mc: mc.incr("key1"), None),
    "delete": (lambda mc: mc.delete("key1"), 0),
    "touch": (lambda mc: mc.touch("key1"), 0),
    "get_multi": (lambda mc: mc.get_multi([f"key{i}" for i in range(50)]), {}),
    "set_multi": (lambda mc: len(mc.set_multi({f"key{i}": b"v" for i in range(50)})), 50),
    "delete_multi": (lambda mc: mc.delete_multi([f"key{i}" for i in range(50)]), 0),
    "flush_all": (lambda mc: mc.flush_all(), None),
    "get_stats": (lambda mc: mc.get_stats(), []),
    "get_slabs": (lambda mc: mc.get_slabs(), []),
}


@contextlib.contextmanager
def within(bound=BOUND, name="it"):
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < bound * PATIENCE, f"{name} took {took:.2f} s"


class Trickle:
    """A server that answers each connection with the given bytes, one at a time, for ever."""

    def __init__(self, pieces, pause=DEADLINE / 5):
        self.pieces, self.pause = pieces, pause
        self.stop = threading.Event()
        self.listener = ports.listen(backlog=128)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.stop.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        with sock:
            try:
                sock.recv(65536)
                for piece in self.pieces():
                    sock.sendall(piece)
                    if self.stop.wait(self.pause):
                        return
            except OSError:
                return  # the client gave up, as it should


def one_by_one(start, forever):
    return lambda: itertools.chain((start[i : i + 1] for i in range(len(start))), itertools.repeat(forever))


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(one_by_one(b"VALUE key1 0 1000000\r\n", b"x"), id="a value"),
        pytest.param(one_by_one(b"", b"S"), id="a line"),
        pytest.param(one_by_one(b"", b"STAT a b\r\n"), id="statistics without an end"),
        pytest.param(one_by_one(b"", b"VALUE key1 0 1\r\nx\r\n"), id="values without an end"),
    ],
)
@pytest.mark.parametrize("name", CALLS)
def test_a_trickle_does_not_prolong_a_call(name, pieces):
    call, failure = CALLS[name]
    with Trickle(pieces) as server:
        mc = mcext.Client([server.address], socket_timeout=DEADLINE, dead_retry=0)
        with within():
            answer = call(mc)
        assert answer == failure or (name == "get_multi" and answer == {"key1": b"x"})


@pytest.mark.parametrize("name", ["get_multi", "set_multi", "delete_multi"])
def test_trickles_of_several_servers_do_not_prolong_a_call(name):
    """One of them always has a byte: the wait for all of them together never comes to its end."""
    call, failure = CALLS[name]
    start = b"VALUE " if name == "get_multi" else b"NOT_"
    with Trickle(one_by_one(start, b"x")) as one, Trickle(one_by_one(start, b"x")) as other:
        mc = mcext.Client([one.address, other.address], socket_timeout=DEADLINE, dead_retry=0)
        with within():
            assert call(mc) == failure


@pytest.mark.parametrize("name", CALLS)
def test_silence_ends_a_call_at_its_deadline(name):
    call, failure = CALLS[name]
    with ScriptedServer(lambda command, number: STALL) as server:
        mc = mcext.Client([server.address], socket_timeout=DEADLINE, dead_retry=0)
        with within():
            assert call(mc) == failure


class StepByStep(socket.socket):
    """As eventlet's: each step of sendall has the whole timeout."""

    def connect(self, address):
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        super().connect(address)

    def sendall(self, data):
        while data:
            data = data[self.send(data) :]


@pytest.mark.parametrize("socket_class", [socket.socket, StepByStep])
def test_a_server_that_takes_ten_megabytes_slowly(socket_class, monkeypatch):
    """It reads a little every now and then, so that each send gets on, but the whole takes for ever."""
    stop = threading.Event()

    def serve(listener):
        sock, _ = listener.accept()
        with sock:
            while not stop.wait(DEADLINE / 5):
                if not sock.recv(20000):
                    return

    with ports.bound() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        monkeypatch.setattr(socket, "socket", socket_class)
        mc = mcext.Client([f"127.0.0.1:{listener.getsockname()[1]}"], socket_timeout=DEADLINE)
        mc.server_max_value_length = 0
        with within():
            assert not mc.set("key1", b"x" * (10 << 20))
        stop.set()
        thread.join(10)


@contextlib.contextmanager
def black_holes(count):
    """Listeners with a full queue: connects to them are neither taken nor refused."""
    with contextlib.ExitStack() as stack:
        addresses = []
        for _ in range(count):
            listener = stack.enter_context(ports.listen(backlog=0))
            for _ in range(4):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
            addresses.append(f"127.0.0.1:{listener.getsockname()[1]}")
        yield addresses


HOLE = 1.0  # what the connects of a call may take: far less than five times as long


def test_five_black_holes_in_a_row():
    """The connects of a call share one budget, probes included."""

    def check(name):
        call, failure = CALLS[name]
        mc = mcext.Client(addresses, socket_timeout=HOLE, connect_timeout=HOLE, dead_retry=0)
        with within(4 * HOLE, name):
            answer = call(mc)
        assert answer == failure, name

    with black_holes(5) as addresses:
        at_once(check, CALLS)


def replace_by_the_same(monkeypatch, *names):
    """Replace methods of all hosts by such as do nothing but to call the own ones."""
    for name in names:
        own = getattr(memcache._Host, name)
        monkeypatch.setattr(memcache._Host, name, lambda self, *rest, own=own, **more: own(self, *rest, **more))


def test_five_black_holes_in_a_row_and_a_replaced_connect(monkeypatch):
    def check(name):
        call, failure = CALLS[name]
        mc = mcext.Client(addresses, socket_timeout=HOLE, dead_retry=0)
        with within(4 * HOLE, name):
            answer = call(mc)
        assert answer == failure, name

    replace_by_the_same(monkeypatch, "connect")
    with black_holes(5) as addresses:
        at_once(check, CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_a_trickle_does_not_prolong_a_call_with_replaced_methods_of_a_host(name, monkeypatch):
    """Each of them has a timeout of its own, and the call has its deadline."""
    call, failure = CALLS[name]
    lines = {"get_stats": b"STAT a b\r\n", "get_slabs": b"STAT a b\r\n", "set_multi": b"NOT_STORED\r\n"}
    replace_by_the_same(monkeypatch, "readline", "recv")
    piece = lines.get(name, b"VALUE key1 0 1\r\nx\r\n")
    with Trickle(lambda: itertools.repeat(piece), pause=0.6 * DEADLINE) as server:
        mc = mcext.Client([server.address], socket_timeout=DEADLINE, dead_retry=0)
        with within():
            answer = call(mc)
        assert answer == failure or (name == "get_multi" and answer == {"key1": b"x"})


def test_a_connect_timeout_of_its_own():
    with black_holes(1) as addresses:
        mc = mcext.Client(addresses, socket_timeout=60, connect_timeout=DEADLINE)
        with within():
            assert mc.get("key1") is None
        mc = mcext.Client(addresses, socket_timeout=DEADLINE)
        with within():
            assert mc.get("key1") is None


def key_script(command, number):
    words = command.split()
    if words[0] == b"get":
        return b"".join(b"VALUE %s 0 %d\r\n%s\r\n" % (k, len(k), k) for k in words[1:]) + b"END\r\n"
    return None


def test_a_multi_call_over_many_silent_servers():
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(ScriptedServer(lambda command, number: STALL)) for _ in range(10)]
        mc = mcext.Client([s.address for s in servers], socket_timeout=0.3, connect_timeout=20, dead_retry=0)
        keys = [f"key{i}" for i in range(300)]
        with within(2.5):
            assert mc.get_multi(keys) == {}
        with within(2.5):
            assert sorted(mc.set_multi({key: b"v" for key in keys})) == sorted(keys)
        with within(2.5):
            assert mc.delete_multi(keys) == 0
        for server in servers:
            server.wait_for(lambda s: s.commands)  # each was asked


@pytest.fixture(params=["native", "python"])
def sockets(request, monkeypatch):
    """Bytes through the C library, or through a socket class that is not Python's own."""
    if request.param == "python":
        monkeypatch.setattr(memcache, "socket", SimpleNamespace(socket=type("Other", (socket.socket,), {})))


MULTI_CALLS = ("get_multi", "set_multi", "delete_multi")


def test_a_silent_server_costs_none_of_the_others_answers(sockets):
    def check(name):
        with contextlib.ExitStack() as stack:
            silent = stack.enter_context(ScriptedServer(lambda command, number: STALL))
            good = [stack.enter_context(ScriptedServer(key_script)) for _ in range(4)]
            servers = [silent.address, *(server.address for server in good)]
            mc = mcext.Client(servers, socket_timeout=4 * SLOWNESS, connect_timeout=20, dead_retry=0)
            keys = [f"key{i}" for i in range(60)]
            here = {key for key in keys if mc._get_server(key)[0].port == silent.port}
            assert here and len(here) < len(keys)
            keys.sort(key=lambda key: key not in here)  # the silent server is the first to be asked
            with within(12, name):
                if name == "get_multi":
                    assert mc.get_multi(keys) == {key: key.encode() for key in keys if key not in here}
                elif name == "set_multi":
                    assert set(mc.set_multi(dict.fromkeys(keys, b"v"))) == here
                else:
                    assert mc.delete_multi(keys) == 0
            assert all(server.received for server in good), "each was asked"

    at_once(check, MULTI_CALLS)


def test_a_slow_server_delays_no_other_ones_answers(sockets):
    """The others are asked, and answer, before the slow one does: its answer waits for theirs here."""
    asked = threading.Semaphore(0)

    def slow(command, number):
        for _ in range(4):
            assert asked.acquire(timeout=10), "the others were not asked before this one answered"
        return key_script(command, number)

    def quick(command, number):
        asked.release()
        return key_script(command, number)

    with contextlib.ExitStack() as stack:
        first = stack.enter_context(ScriptedServer(slow))
        rest = [stack.enter_context(ScriptedServer(quick)) for _ in range(4)]
        mc = mcext.Client([first.address, *(s.address for s in rest)], socket_timeout=30)
        keys = [(i % 5, f"key{i}") for i in range(300)]  # the slow one is the first to be asked
        assert mc.get_multi(keys) == {key: key[1].encode() for key in keys}


def test_the_connect_of_a_retry_prolongs_a_multi_call_by_what_it_took():
    """One server closes its connection and takes no other; the other one is silent. A second connect has no time."""
    sockets = []

    def serve():
        first = listener.accept()[0]
        first.recv(1000)
        for _ in range(4):
            sockets.append(socket.socket())
            sockets[-1].setblocking(False)
            sockets[-1].connect_ex(listener.getsockname())
        first.close()

    with ports.listen(backlog=0) as listener, ScriptedServer(lambda command, number: STALL) as silent:
        threading.Thread(target=serve, daemon=True).start()
        addresses = [f"127.0.0.1:{listener.getsockname()[1]}", silent.address]
        mc = mcext.Client(addresses, socket_timeout=DEADLINE, connect_timeout=2.5)
        with within(4.5):
            assert mc.get_multi([f"key{i}" for i in range(40)]) == {}
        assert all(host.deaduntil for host in mc.servers)
        for sock in sockets:
            sock.close()


# A call that waits for LATE and is then left alone ends after WHOLE. With a second deadline it would take both.
LATE, WHOLE, BEFORE = 1.5, 1.75, 3.1

# How a reply begins that does not go on.
BEGINS = {
    "get": b"VALUE ",
    "gets": b"VALUE key1 0 5 ",
    "set": b"STO",
    "incr": b"4",
    "delete": b"DELETED\r",
    "touch": b"T",
    "get_multi": b"VALUE key1 0 5\r\nval",
    "set_multi": b"STORED\r",
    "delete_multi": b"NOT_",
    "flush_all": b"OK",
    "get_stats": b"STAT a b\r\nSTAT ",
    "get_slabs": b"STAT items:1:number",
    "get a large value": b"VALUE key1 0 1000000\r\n" + b"x" * 500_000,
}
CALLS_TO_BEGIN = {**CALLS, "get a large value": CALLS["get"]}


def cold_and_warm(names):
    """A connect takes time as well, and then no wait is the call's first: warm connections are another matter."""
    return list(itertools.product(names, [False, True]))


def test_a_wait_is_for_what_is_left_of_the_deadline(sockets):
    """The reply begins late, and then nothing more comes: that is not waited for as long again."""

    def check(case):
        name, warm = case
        call, failure = CALLS_TO_BEGIN[name]

        def script(command, number):
            if command == b"get warm\r\n":
                return None
            time.sleep(LATE)
            return BEGINS[name], STALL

        with ScriptedServer(script) as server:
            mc = mcext.Client([server.address], socket_timeout=WHOLE, dead_retry=0)
            for _ in range(2 * warm):
                mc.get("warm")
            with within(BEFORE, case):
                answer = call(mc)
            assert answer == failure, case

    at_once(check, cold_and_warm(BEGINS))


LARGE_CALLS = {  # each more than the sockets' buffers take
    "set": (lambda mc: mc.set("key1", b"x" * (8 << 20)), 0),
    "append": (lambda mc: mc.append("key1", b"x" * (8 << 20)), 0),
    "set_multi": (lambda mc: len(mc.set_multi({f"key{i}": b"x" * (1 << 20) for i in range(8)})), 8),
    "get_multi": (lambda mc: mc.get_multi([f"{i:0200}" for i in range(40_000)]), {}),
    "delete_multi": (lambda mc: mc.delete_multi([f"{i:0200}" for i in range(40_000)]), 0),
}


def test_a_send_that_had_to_wait_leaves_the_reply_the_rest_of_the_deadline(sockets):
    """The server begins to read late, reads all there is, and says nothing."""

    def check(case):
        name, warm = case
        call, failure = LARGE_CALLS[name]

        def serve(listener):
            with listener.accept()[0] as sock:
                for _ in range(2 * warm):
                    sock.recv(1000)
                    sock.sendall(b"END\r\n")
                sock.recv(1000)
                time.sleep(LATE)
                with contextlib.suppress(ConnectionResetError):
                    while sock.recv(1 << 20):
                        continue

        with ports.bound() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
            listener.listen()
            thread = threading.Thread(target=serve, args=(listener,), daemon=True)
            thread.start()
            mc = mcext.Client([f"127.0.0.1:{listener.getsockname()[1]}"], socket_timeout=WHOLE, dead_retry=0)
            mc.server_max_value_length = 0
            for _ in range(2 * warm):
                assert mc.get("warm", "absent") == "absent"
            with within(BEFORE, case):
                answer = call(mc)
            assert answer == failure, case
            thread.join(10 * PATIENCE)

    at_once(check, cold_and_warm(LARGE_CALLS))


def test_a_late_server_of_two_does_not_prolong_the_wait_for_the_other(sockets):
    def check(case):
        name, warm = case
        call, failure = CALLS[name]
        pauses = []

        def late(command, number):
            if pauses:
                time.sleep(pauses.pop())
            return key_script(command, number)

        def stall(command, number):
            return None if b"warm" in command else STALL

        with ScriptedServer(late) as server, ScriptedServer(stall) as silent:
            mc = mcext.Client([server.address, silent.address], socket_timeout=WHOLE, dead_retry=0)
            for _ in range(2 * warm):
                mc.get_multi([f"warm{i}" for i in range(20)])
            pauses.append(LATE)
            with within(BEFORE, case):
                answer = call(mc)
            if name == "get_multi":
                assert all(value == key.encode() for key, value in answer.items())
            else:
                assert answer <= failure

    at_once(check, cold_and_warm(MULTI_CALLS))


REPEATED = ("get", "gets", "set", "delete", "touch", "get_multi", "set_multi", "delete_multi", "get_stats", "get_slabs")


def test_the_retry_is_within_the_deadline(sockets):
    """A connection closed before the reply is tried again; the second silence does not get a deadline of its own."""

    def check(case):
        name, warm = case
        call, failure = CALLS[name]

        def script(command, number):
            if command == b"get warm\r\n":
                return None
            if number:
                return STALL
            time.sleep(LATE)
            return CLOSE

        with ScriptedServer(script) as server:
            mc = mcext.Client([server.address], socket_timeout=WHOLE, dead_retry=0)
            for _ in range(2 * warm):
                mc.get("warm")
            with within(BEFORE, case):
                answer = call(mc)
            assert answer == failure, case

    at_once(check, cold_and_warm(REPEATED))


def test_the_wait_behind_a_noreply_call_is_within_the_deadline(sockets):
    """The next call has the server say first that it has read it; that comes late, and its own reply never."""

    def check(name):
        call, failure = CALLS[name]

        def script(command, number):
            if command.endswith(b"noreply\r\n"):
                return None
            if command != b"version\r\n":
                return STALL
            time.sleep(LATE)
            return None

        with ScriptedServer(script) as server:
            mc = mcext.Client([server.address], socket_timeout=WHOLE, dead_retry=0)
            assert mc.delete("key1", noreply=True)
            with within(BEFORE, name):
                answer = call(mc)
            assert answer == failure, name

    at_once(check, CALLS)


def test_a_deadline_can_be_changed_for_the_next_call():
    """On a connection that had another one as well."""
    with ScriptedServer(lambda command, number: STALL if b"key1" in command else None) as server:
        mc = mcext.Client([server.address], socket_timeout=60, dead_retry=0)
        assert mc.get("warm", "absent") == "absent"
        mc.socket_timeout = DEADLINE
        with within():
            assert mc.get("key1") is None


class OtherSocket(socket.socket):
    """Not Python's own class: all bytes go through its methods, a server after the other."""


THEIR_TIME = 3 * SLOWNESS  # in seconds: the servers'
OWN_TIME = THEIR_TIME + 0.2  # of code that is the caller's
KEYS = [f"key{i}" for i in range(20)]
TUPLES = [f"tuple{i}" for i in range(20)]
LARGE = b"x" * 900_000  # more than a send or a receive takes at one go


class SlowPickler(pickle.Pickler):
    pause = OWN_TIME

    def dump(self, value):
        time.sleep(self.pause)
        super().dump(value)


class SlowPicklerOfMany(SlowPickler):
    pause = OWN_TIME / len(TUPLES)


class SlowUnpicklerOfMany(pickle.Unpickler):
    def load(self):
        time.sleep(OWN_TIME / len(TUPLES))
        return super().load()


class SlowMapping(dict):
    def keys(self):
        time.sleep(OWN_TIME)
        return super().keys()


def slow_encoder(key):
    time.sleep(OWN_TIME)
    return key


def slowly(keys):
    time.sleep(OWN_TIME)
    yield from keys


class SlowChecker(mcext.Client):
    def check_key(self, key, key_extra_len=0):
        time.sleep(OWN_TIME)
        return super().check_key(key, key_extra_len)


class SlowMapper(mcext.Client):
    def _map_and_prefix_keys(self, keys, prefix):
        time.sleep(OWN_TIME)
        return super()._map_and_prefix_keys(keys, prefix)


class SlowChooser(mcext.Client):
    def _get_server(self, key):
        server, key = super()._get_server(key)
        time.sleep(OWN_TIME)
        return server, key


class SlowCounter(mcext.Client):
    def _statlog(self, name):
        time.sleep(OWN_TIME)
        super()._statlog(name)


OWN_CODE = {
    "keys of get_multi": (lambda client: client().get_multi(slowly(KEYS)), dict.fromkeys(KEYS, b"v")),
    "keys of delete_multi": (lambda client: client().delete_multi(slowly(KEYS)), 1),
    "keys of set_multi": (lambda client: client().set_multi(SlowMapping.fromkeys(KEYS, b"v")), []),
    "key_encoder, get": (lambda client: client(key_encoder=slow_encoder).get("large"), LARGE),
    "key_encoder, set": (lambda client: client(key_encoder=slow_encoder).set("large", LARGE), True),
    "key_encoder, incr": (lambda client: client(key_encoder=slow_encoder).incr("number"), 2),
    "key_encoder, get_multi": (lambda client: client(key_encoder=slow_encoder).get_multi(["key1"]), {"key1": b"v"}),
    "check_key": (lambda client: client(SlowChecker).get("large"), LARGE),
    "_map_and_prefix_keys": (lambda client: client(SlowMapper).get_multi(["key1"]), {"key1": b"v"}),
    "_get_server": (lambda client: client(SlowChooser).get("large"), LARGE),
    "_get_server, get_multi": (lambda client: client(SlowChooser).get_multi(["key1"]), {"key1": b"v"}),
    "_statlog": (lambda client: client(SlowCounter).get("large"), LARGE),
    "_statlog, get_multi": (lambda client: client(SlowCounter).get_multi(["key1"]), {"key1": b"v"}),
    "pickler, set": (lambda client: client(pickler=SlowPickler).set("tuple1", ()), True),
    "pickler": (lambda client: client(pickler=SlowPicklerOfMany).set_multi(dict.fromkeys(TUPLES, ())), []),
    "unpickler": (lambda client: client(unpickler=SlowUnpicklerOfMany).get_multi(TUPLES), dict.fromkeys(TUPLES, ())),
}


THROUGH_PYTHON = ("keys of get_multi", "pickler", "unpickler")


@pytest.mark.parametrize(
    "socket_class, names", [(socket.socket, [*OWN_CODE]), (OtherSocket, THROUGH_PYTHON)], ids=["native", "python"]
)
def test_the_callers_own_code_takes_no_time_of_the_servers(socket_class, names, monkeypatch):
    """However long keys and values are in the making: the servers have all of the deadline, and none is found dead."""
    values = {**dict.fromkeys(KEYS, b"v"), **dict.fromkeys(TUPLES, ()), "large": LARGE, "number": 1}

    def check(name):
        call, answer = OWN_CODE[name]
        clients = []

        def client(kind=mcext.Client, **options):
            clients.append(kind([one.address, other.address], socket_timeout=THEIR_TIME, **options))
            return clients[0]

        with memcached() as one, memcached() as other:
            assert mcext.Client([one.address, other.address], socket_timeout=20).set_multi(values) == []
            assert call(client) == answer, name
            assert [host.deaduntil for host in clients[0].servers] == [0, 0], name

    monkeypatch.setattr(socket, "socket", socket_class)
    at_once(check, names)
