"""What marks a server dead, what does not, and what takes a mark away."""

import contextlib
import signal
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

AT_ONCE = 20 * PATIENCE
SHORT = 3.0  # seconds that a silent server takes: it is asked before they are over, though nobody ran for one
LONG = 1000  # dead_retry: seconds that no test lasts

CALLS = {
    "get": (lambda mc: mc.get("key1"), None),
    "gets": (lambda mc: mc.gets("key1"), None),
    "get_multi": (lambda mc: mc.get_multi(["key1", "key2"]), {}),
    "set": (lambda mc: mc.set("key1", b"v"), 0),
    "set_multi": (lambda mc: mc.set_multi({"key1": b"v", "key2": b"v"}), ["key1", "key2"]),
    "add": (lambda mc: mc.add("key1", b"v"), 0),
    "delete": (lambda mc: mc.delete("key1"), 0),
    "delete_multi": (lambda mc: mc.delete_multi(["key1", "key2"]), 0),
    "touch": (lambda mc: mc.touch("key1"), 0),
    "incr": (lambda mc: mc.incr("key1"), None),
    "get_stats": (lambda mc: mc.get_stats(), []),
    "flush_all": (lambda mc: mc.flush_all(), None),
}


@pytest.fixture(params=["native", "python", "replaced"])
def way(request, monkeypatch):
    """Bytes through the C library, through a socket class that is not Python's own, through replaced methods."""
    if request.param == "python":
        monkeypatch.setattr(memcache, "socket", SimpleNamespace(socket=type("Other", (socket.socket,), {})))
    if request.param == "replaced":
        own = memcache._Host.readline
        monkeypatch.setattr(memcache._Host, "readline", lambda self, *rest, **more: own(self, *rest, **more))
    return request.param


# A server that was given no time


@pytest.mark.parametrize("way", ["native", "python"], indirect=True)
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_server_that_is_asked_when_no_time_is_left_is_not_dead(way, warm):
    """The one before it was silent for all of the call's time."""

    def check(name):
        with (
            ScriptedServer(lambda command, number: None if command.startswith(b"get") else STALL) as silent,
            ScriptedServer() as good,
        ):
            mc = mcext.Client([silent.address, good.address], socket_timeout=AT_ONCE, connect_timeout=AT_ONCE)
            if warm:
                assert [mc.get((number, "warm"), "absent") for number in (0, 1, 0, 1)] == ["absent"] * 4
            mc.socket_timeout = SHORT
            assert getattr(mc, name)() == (None if name == "flush_all" else []), name
            assert mc.servers[0].deaduntil > time.time(), name
            assert mc.servers[1].deaduntil == 0, name
            mc.socket_timeout = AT_ONCE
            assert mc.get((1, "key1"), "absent") == "absent", name
            assert any(command == b"get key1\r\n" for command in good.commands), "it is asked"

    at_once(check, ["get_stats", "get_slab_stats", "get_slabs", "flush_all"])


# A try of a dead server


def test_a_try_of_a_dead_server_that_times_out_leaves_it_dead(way):
    """For dead_retry seconds again: the next call does not ask it."""

    def check(name):
        call, failure = CALLS[name]
        with ScriptedServer(lambda command, number: STALL) as server:
            mc = mcext.Client([server.address], socket_timeout=SHORT, connect_timeout=AT_ONCE, dead_retry=LONG)
            mc.servers[0].deaduntil = 1  # it was dead, and that is over
            assert call(mc) == failure, name
            assert mc.servers[0].deaduntil > time.time() + LONG / 2, name
            server.wait_for(lambda server: server.received)
            assert call(mc) == failure, name
            assert len(server.connections) == 1, name

    at_once(check, CALLS)


@contextlib.contextmanager
def full_server():
    """A listener whose queue is full: a connect to it is neither taken nor refused."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(ports.listen(backlog=0))
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_try_of_a_dead_server_that_cannot_be_connected_to_leaves_it_dead(way):
    def check(name):
        call, failure = CALLS[name]
        mc = mcext.Client([address], socket_timeout=AT_ONCE, connect_timeout=SHORT, dead_retry=LONG)
        mc.servers[0].deaduntil = 1
        assert call(mc) == failure, name
        assert mc.servers[0].deaduntil > time.time() + LONG / 2, name

    with full_server() as address:
        at_once(check, CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_a_try_of_a_dead_server_that_is_answered_takes_the_mark_away(way, name):
    with ScriptedServer() as server:
        mc = mcext.Client([server.address], socket_timeout=AT_ONCE, dead_retry=LONG)
        mc.servers[0].deaduntil = 1
        CALLS[name][0](mc)
        assert mc.servers[0].deaduntil == 0


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_server_that_get_server_connects_to_is_alive(way, warm):
    """It asks nothing: that the server could be connected to is all that is known."""
    with ScriptedServer() as server:
        mc = mcext.Client([server.address], socket_timeout=AT_ONCE, dead_retry=LONG)
        if warm:
            assert mc.get("warm", "absent") == "absent"
        mc.servers[0].deaduntil = 1
        assert mc._get_server("key1")[0] is mc.servers[0]
        assert mc.servers[0].deaduntil == 0
        mc.servers[0].mark_dead("it is tried")
        assert mc._get_server("key1")[0] is None


# Signals


class Signals:
    """SIGALRM now and then, with a handler that returns, until it was handled three times; then `enough` runs."""

    def __init__(self, enough):
        self.enough = enough
        self.count = 0

    def handler(self, number, frame):
        self.count += 1
        if self.count == 3:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.enough()

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        return self

    def __exit__(self, *exception):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


@pytest.mark.parametrize("name", ["get", "get_multi"])
def test_signals_in_the_middle_of_a_connect_neither_fail_it_nor_mark_the_server(name):
    """Its queue is full, until the third signal has been handled."""
    server = ScriptedServer()
    server.listener.listen(0)
    mc = mcext.Client([server.address], socket_timeout=AT_ONCE, dead_retry=LONG)
    reasons = []
    mc.servers[0].mark_dead = reasons.append
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex((server.host, server.port))
        stack.push(server)
        with Signals(server.__enter__) as signals:
            answer = CALLS[name][0](mc)
        assert signals.count == 3
        assert reasons == []
        assert answer == CALLS[name][1]
        asked = [one.received for one in server.connections if one.received]
        assert len(asked) == 1, "one connection, and what was asked on it"
        mc.disconnect_all()


def test_signals_in_the_middle_of_a_connect_to_a_unix_socket_neither_fail_it_nor_mark_the_server(tmp_path):
    """The same where connect() itself waits."""
    answered = threading.Event()

    def serve():
        while not answered.is_set():
            with listener.accept()[0] as connection:
                if connection.recv(100):
                    connection.sendall(b"END\r\n")
                    answered.set()

    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(listener.getsockname())
        waiting.shutdown(socket.SHUT_WR)
        mc = mcext.Client([f"unix:{tmp_path}/socket"], socket_timeout=AT_ONCE, dead_retry=LONG)
        reasons = []
        mc.servers[0].mark_dead = reasons.append
        thread = threading.Thread(target=serve, daemon=True)
        with Signals(thread.start) as signals:
            assert mc.get("key1", "absent") == "absent"
        assert signals.count == 3
        assert reasons == []
        assert answered.wait(AT_ONCE), "the answer is the server's"
        thread.join(AT_ONCE)


@pytest.mark.parametrize("end", [CLOSE, (b"rubbish\r\n",)], ids=["closed", "rubbish"])
def test_a_try_of_a_dead_server_that_says_nothing_whole_does_not_take_the_mark_away(end):
    """One call tried it alone, and the next one does so again: not all at once."""
    with ScriptedServer(lambda command, number: end) as server:
        mc = mcext.Client([server.address], socket_timeout=AT_ONCE, dead_retry=LONG)
        mc.servers[0].deaduntil = 1
        assert mc.get("key1") is None
        assert mc.servers[0].deaduntil == 1
