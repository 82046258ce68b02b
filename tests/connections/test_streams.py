"""What a stream may still be used for, on connections that have been used before."""

import concurrent.futures
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from scripted_server import PATIENCE, ScriptedServer

import mcext
import memcache
from mcext.testing import memcached

AT_ONCE = 20 * PATIENCE
LINE = 8000  # of bytes that a line of a reply may have

NUMBERS = ("incr", "decr")
ONCE = {"add", "replace", "append", "prepend", *NUMBERS}
CALLS = {
    "get": (lambda mc: mc.get("key2"), b"key2"),
    "gets": (lambda mc: mc.gets("key2"), b"key2"),
    "get_multi": (lambda mc: mc.get_multi(["key1", "key2"]), {"key1": b"key1", "key2": b"key2"}),
    "set": (lambda mc: mc.set("key2", b"v"), True),
    "set_multi": (lambda mc: mc.set_multi({"key1": b"v", "key2": b"v"}), []),
    "add": (lambda mc: mc.add("key2", b"v"), True),
    "replace": (lambda mc: mc.replace("key2", b"v"), True),
    "append": (lambda mc: mc.append("key2", b"v"), True),
    "prepend": (lambda mc: mc.prepend("key2", b"v"), True),
    "delete": (lambda mc: mc.delete("key2"), 1),
    "delete_multi": (lambda mc: mc.delete_multi(["key1", "key2"]), 1),
    "touch": (lambda mc: mc.touch("key2"), 1),
    "incr": (lambda mc: mc.incr("key2"), 42),
    "decr": (lambda mc: mc.decr("key2"), 42),
}
MISSES = {
    "get of a miss": (lambda mc: mc.get("no-key2"), None),
    "gets of a miss": (lambda mc: mc.gets("no-key2"), None),
    "get_multi of misses": (lambda mc: mc.get_multi(["no-key1", "no-key2"]), {}),
    "a set that is refused": (lambda mc: mc.set("no-key2", b"v"), False),
    "delete of a miss": (lambda mc: mc.delete("no-key2"), 0),
    "touch of a miss": (lambda mc: mc.touch("no-key2"), 0),
    "incr of a miss": (lambda mc: mc.incr("no-key2"), None),
}


def good_answer(command):
    """The answer of a server whose every value is its key and every number 42, but for keys that begin with "no"."""
    words = command.split(b"\r\n", 1)[0].split()
    if words[1:] and words[1].startswith(b"no"):
        return {b"get": b"END\r\n", b"gets": b"END\r\n", b"set": b"NOT_STORED\r\n"}.get(words[0], b"NOT_FOUND\r\n")
    if words[0] in (b"get", b"gets"):
        token = b" 9" if words[0] == b"gets" else b""
        return b"".join(b"VALUE %s 0 %d%s\r\n%s\r\n" % (k, len(k), token, k) for k in words[1:]) + b"END\r\n"
    return {b"incr": b"42\r\n", b"decr": b"42\r\n", b"delete": b"DELETED\r\n", b"touch": b"TOUCHED\r\n"}.get(
        words[0], None if words[0] == b"version" else b"STORED\r\n"
    )


def all_right(mc):
    assert mc.get("after1") == b"after1"
    assert mc.incr("after2") == 42
    assert mc.get_multi(["after3", "after4"]) == {"after3": b"after3", "after4": b"after4"}
    assert mc.set("after5", b"v") is True


@pytest.fixture(params=["native", "python"])
def sockets(request, monkeypatch):
    """Bytes through the C library, or through a socket class that is not Python's own."""
    if request.param == "python":
        monkeypatch.setattr(memcache, "socket", SimpleNamespace(socket=type("Other", (socket.socket,), {})))


@pytest.mark.parametrize(
    "behind", [b"\r\n", b"x", b"END\r\n", b"STORED\r\n", b"5\r\n", b"VALUE after1 0 1\r\nx\r\nEND\r\n"]
)
@pytest.mark.parametrize("name", [*CALLS, *MISSES])
def test_bytes_behind_the_reply_of_a_used_connection_end_it(sockets, name, behind):
    """The third call of a connection has them: it is told its answer, and the next call has another connection."""
    call, right = (CALLS | MISSES)[name]
    asked = []

    def script(command, number):
        answer = good_answer(command)
        if b"key2" in command:
            asked.append(number)
            return answer + behind if len(asked) == 3 else answer
        return answer

    with ScriptedServer(script) as server:
        mc = mcext.Client([server.address], socket_timeout=AT_ONCE)
        assert (call(mc), call(mc)) == (right, right)
        assert call(mc) == (None if name in NUMBERS else right)  # a number may be half of one
        assert asked == [0, 0, 0]
        all_right(mc)
        assert len(server.connections) == 2
        assert server.connections[0].closed.wait(AT_ONCE)


def idle_connections(server, mc, gate):
    """So many connections as the gate lets through together: all idle, and all closed by the server."""
    with concurrent.futures.ThreadPoolExecutor(gate.parties) as pool:
        assert list(pool.map(mc.get, ["warm"] * gate.parties)) == [b"warm"] * gate.parties
    assert len(server.connections) == gate.parties
    for number in range(gate.parties):
        server.close_connection(number)
        assert server.connections[number].closed.wait(AT_ONCE)


@pytest.mark.parametrize("name", CALLS)
def test_a_retry_after_a_close_goes_to_a_new_connection(name):
    """The server has closed several idle ones: what is tried once more must not meet a second one of them."""
    call, right = CALLS[name]
    gate = threading.Barrier(3)

    def script(command, number):
        if command == b"get warm\r\n":
            gate.wait(AT_ONCE)
        return good_answer(command)

    with ScriptedServer(script) as server:
        mc = mcext.Client([server.address], socket_timeout=AT_ONCE)
        began = time.monotonic()
        idle_connections(server, mc, gate)
        answer = call(mc)
        if name in ONCE:
            # After a second a connection is looked at before it is used.
            assert not answer or time.monotonic() - began >= 1, "what may have been executed is not sent again"
            answer = mc.get("key2")
            right = b"key2"
        assert answer == right
        assert not mc.servers[0].deaduntil
        assert len(server.connections) == 4


def test_calls_at_the_same_time_after_a_close_each_have_a_new_connection():
    """They share the connections that the server closed, and each is tried once more."""
    gate = threading.Barrier(4)

    def script(command, number):
        if command == b"get warm\r\n" or number >= 4:
            gate.wait(AT_ONCE)
        return good_answer(command)

    with ScriptedServer(script) as server:
        mc = mcext.Client([server.address], socket_timeout=AT_ONCE)
        idle_connections(server, mc, gate)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert list(pool.map(mc.get, ["k0", "k1", "k2", "k3"])) == [b"k0", b"k1", b"k2", b"k3"]


# SIGPIPE as a program in C has it. Each step is printed before it is done: the last one killed the process.
BROKEN_PIPES = """
import os, signal, socket, sys, tempfile, threading
import mcext

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
warm_closed = threading.Semaphore(0)


def serve():
    while True:
        with listener.accept()[0] as connection:
            line = connection.recv(100)
            while line == b"get warm\\r\\n":
                connection.sendall(b"END\\r\\n")
                line = connection.recv(100)
            if line == b"get last\\r\\n":
                connection.sendall(b"END\\r\\n")
        if line == b"get last\\r\\n":
            warm_closed.release()


many = [f"{i:0200}" for i in range(20_000)]
large = {f"key{i}": bytes(1 << 20) for i in range(8)}
calls = {
    "get": lambda: mc.get("key1"),
    "set": lambda: mc.set("key1", b"v"),
    "incr": lambda: mc.incr("key1"),
    "delete": lambda: mc.delete("key1"),
    "get_multi": lambda: mc.get_multi(["key1", "key2"]),
    "set_multi": lambda: mc.set_multi({"key1": b"v", "key2": b"v"}),
    "delete_multi": lambda: mc.delete_multi(["key1", "key2"]),
    "noreply": lambda: mc.set("key1", b"v", noreply=True),
    "set_multi, noreply": lambda: mc.set_multi({"key1": b"v", "key2": b"v"}, noreply=True),
    "large set": lambda: mc.set("key1", bytes(8 << 20)),
    "large append": lambda: mc.append("key1", bytes(8 << 20)),
    "large get_multi": lambda: mc.get_multi(many),
    "large set_multi": lambda: mc.set_multi(large),
    "large delete_multi": lambda: mc.delete_multi(many),
    "large noreply": lambda: mc.set("key1", bytes(8 << 20), noreply=True),
    "large set_multi, noreply": lambda: mc.set_multi(large, noreply=True),
    "get_stats": lambda: mc.get_stats(),
    "flush_all": lambda: mc.flush_all(),
    "quit_all": lambda: mc.quit_all(),
    "disconnect_all": lambda: mc.disconnect_all(),
    "lines of a host": lambda: [mc.servers[0].send_cmd("stats") for _ in range(3)],
}
with tempfile.TemporaryDirectory() as folder:
    family = getattr(socket, sys.argv[1])
    listener = socket.socket(family)
    listener.bind(os.path.join(folder, "socket") if family == socket.AF_UNIX else ("127.0.0.1", 0))
    listener.listen()
    where = listener.getsockname()
    threading.Thread(target=serve, daemon=True).start()
    address = "unix:" + where if family == socket.AF_UNIX else "127.0.0.1:%d" % where[1]
    mc = mcext.Client([address], socket_timeout=20, dead_retry=0, server_max_value_length=0)
    for name, call in calls.items():
        print(name, flush=True)
        for _ in range(2):
            for key in ("warm", "warm", "warm", "last"):
                assert mc.get(key, "absent") == "absent"
            assert warm_closed.acquire(timeout=20)
            try:
                if name == "lines of a host":
                    mc.servers[0].connect()
                call()
            except OSError:
                assert name == "lines of a host"
            mc.disconnect_all()
print("done")
"""


def run(script, *arguments):
    folder = str(Path(mcext.__file__).resolve().parents[1])
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([folder, *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=5 * AT_ONCE,
    )


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET"])
def test_a_broken_pipe_never_kills_the_process(family):
    """A warm connection that the server has closed, whatever is sent on it, in one piece or in many."""
    done = run(BROKEN_PIPES, family)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stdout + done.stderr


# Long lines


LONG = b"x" * LINE
LONG_LINES = {  # a line of LINE bytes and its end, and what comes of it
    "a row of a listing": (
        b"STAT name " + LONG[10:] + b"\r\nEND\r\n",
        lambda mc: mc.get_stats()[0][1],
        {"name": "x" * (LINE - 10)},
    ),
    "a value's header": (
        b"VALUE " + LONG[10:] + b" 0 1\r\nv\r\nEND\r\n",
        lambda mc: mc.get(LONG[10:]),
        b"v",
    ),
    "a value's header among many": (
        b"VALUE " + LONG[10:] + b" 0 1\r\nv\r\nVALUE key1 0 1\r\nw\r\nEND\r\n",
        lambda mc: mc.get_multi([LONG[10:], b"key1"]),
        {LONG[10:]: b"v", b"key1": b"w"},
    ),
    "an error": (b"SERVER_ERROR " + LONG[13:] + b"\r\n", lambda mc: mc.get("key1", "default"), "default"),
    "an error of a storage command": (b"SERVER_ERROR " + LONG[13:] + b"\r\n", lambda mc: mc.set("key1", b"v"), False),
}


@pytest.mark.parametrize("name", LONG_LINES)
def test_a_line_of_a_reply_may_have_eight_thousand_bytes(sockets, name):
    reply, call, answer = LONG_LINES[name]
    assert len(reply.split(b"\r\n", 1)[0]) == LINE
    with ScriptedServer([reply, reply]) as server:
        mc = mcext.Client([server.address], socket_timeout=AT_ONCE, check_keys=False)
        assert (call(mc), call(mc)) == (answer, answer)
        if "error" not in name:
            assert len(server.connections) == 1


def test_what_a_server_says_of_a_number_may_have_eight_thousand_bytes(sockets):
    said = b"CLIENT_ERROR " + LONG[13:]
    with ScriptedServer([said + b"\r\n"]) as server:
        mc = mcext.Client([server.address], socket_timeout=AT_ONCE)
        with pytest.raises(ValueError, match="x" * (LINE - 13)):
            mc.incr("key1")


def test_a_line_that_a_host_reads_may_have_eight_thousand_bytes(sockets):
    with ScriptedServer([LONG + b"\r\n", LONG + b"\r\n"]) as server:
        host = mcext.Client([server.address], socket_timeout=AT_ONCE).servers[0]
        assert host.connect()
        host.send_cmd("stats")
        assert host.readline() == LONG
        host.send_cmd("stats")
        assert host.expect(LONG) == LONG
        host.close_socket()


# Servers that stay


@pytest.mark.parametrize("unix", [True, False])
def test_set_servers_with_an_equal_list_keeps_hosts_and_connections(unix):
    with memcached("-t", "1", unix=unix) as one, memcached("-t", "1", unix=unix) as other:
        mc = mcext.Client([one.address, (other.address, 2)], socket_timeout=AT_ONCE)
        values = {f"key{i}": b"v" for i in range(50)}

        def connections_ever():
            return [stats["total_connections"] for _, stats in mc.get_stats()]

        assert mc.set_multi(values) == []
        hosts, before = mc.servers, connections_ever()
        for _ in range(3):
            mc.set_servers([one.address, (other.address, 2)])
            assert [new is old for new, old in zip(mc.servers, hosts, strict=True)] == [True, True]
            assert mc.get_multi(values) == values
            assert connections_ever() == before
        hosts[0].mark_dead("it is tried")
        mc.set_servers([one.address, (other.address, 2)])
        assert [host.deaduntil > 0 for host in mc.servers] == [True, False]
