"""Servers restart, die, come back and move: what that costs, and what it may never do."""

import concurrent.futures
import contextlib
import socket
import threading
import zlib

import ports
import pytest
import shim
from scripted_server import CLOSE, PATIENCE, RESET, STALL, ScriptedServer

import mcext

AT_ONCE = 20 * PATIENCE

ALL_CALLS = {
    "get": (lambda mc: mc.get("key1"), None),
    "gets": (lambda mc: mc.gets("key1"), None),
    "get_multi": (lambda mc: mc.get_multi(["key1", "key2"]), {}),
    "set": (lambda mc: mc.set("key1", b"v"), True),
    "set_multi": (lambda mc: mc.set_multi({"key1": b"v", "key2": b"v"}), []),
    "delete": (lambda mc: mc.delete("key1"), 0),
    "delete_multi": (lambda mc: mc.delete_multi(["key1", "key2"]), 1),
    "touch": (lambda mc: mc.touch("key1"), 0),
    "get_stats": (lambda mc: len(mc.get_stats()), 1),
}
ONCE_CALLS = {
    "add": lambda mc: mc.add("key1", b"v"),
    "replace": lambda mc: mc.replace("key1", b"v"),
    "append": lambda mc: mc.append("key1", b"v"),
    "prepend": lambda mc: mc.prepend("key1", b"v"),
    "cas": lambda mc: mc.cas("key1", b"v"),
    "incr": lambda mc: mc.incr("key1"),
    "decr": lambda mc: mc.decr("key1"),
    "flush_all": lambda mc: mc.flush_all(),
}


@pytest.mark.parametrize("name", ALL_CALLS)
def test_a_restart_between_calls_fails_no_call(memcached, name):
    """Also within a second of the last call, where the connection is not looked at before: it is tried once more."""
    call, right = ALL_CALLS[name]
    mc = mcext.Client([memcached.address])
    assert mc.set("other", b"v")
    memcached.restart()
    assert call(mc) == right
    assert not mc.servers[0].deaduntil
    assert mc.set("other", b"w")
    assert mc.get("other") == b"w"


@pytest.mark.parametrize("name", ONCE_CALLS)
def test_a_restart_marks_nothing_dead(memcached, name):
    """A call that may not be repeated can fail then, and the one after it does not."""
    mc = mcext.Client([memcached.address])
    assert mc.set("other", b"v")
    memcached.restart()
    ONCE_CALLS[name](mc)
    assert not mc.servers[0].deaduntil
    assert mc.set("other", b"w")
    assert mc.get("other") == b"w"


LOOKED_AT = """
import sys
import mcext
from mcext.testing import memcached
from test_server_life import ALL_CALLS, ONCE_CALLS

with memcached() as server:
    mc = mcext.Client([server.address])
    for repeat in range(2):
        for name, call in ONCE_CALLS.items():
            assert mc.set("key1", b"5")
            server.restart()
            shift_clock(2)
            answer = call(mc)
            # The server is empty, and says so: the call reached it.
            right = True if name in ("add", "cas") else None if name in ("incr", "decr", "flush_all") else False
            assert answer == right, (name, answer)
            assert not mc.servers[0].deaduntil
            assert mc.get_stats()[0][1]["cmd_flush"] == ("1" if name == "flush_all" else "0"), name
    print("done")
"""


def test_a_connection_idle_for_a_second_is_looked_at_before_use():
    """So that not even a call that may not be repeated fails after a restart."""
    assert shim.run(LOOKED_AT) == "done\n"


IDLE_TIMEOUT = """
import mcext
from scripted_server import ScriptedServer
from test_server_life import ONCE_CALLS

for name, call in ONCE_CALLS.items():
    with ScriptedServer() as server:
        mc = mcext.Client([server.address])
        assert mc.set("key1", b"v")
        server.close_connection()
        server.connections[0].closed.wait(20)
        shift_clock(2)
        call(mc)
        assert not mc.servers[0].deaduntil
        assert len(server.connections) == 2
        assert len(server.connections[1].commands) == 1, server.connections[1].commands
print("done")
"""


def test_a_connection_that_the_server_closed_while_idle_is_replaced():
    assert shim.run(IDLE_TIMEOUT) == "done\n"


def sent(server):
    return [c for c in server.commands if not c.startswith(b"version")]


@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("name", ONCE_CALLS)
def test_what_may_have_been_executed_is_not_sent_again(name, end):
    """The connection ends at every moment after the command was read; on a new connection and on a used one."""
    for used in (False, True):
        with ScriptedServer(lambda command, number: None if command.startswith(b"set") else end) as server:
            mc = mcext.Client([server.address], dead_retry=0)
            if used:
                assert mc.set("warm", b"v")
            ONCE_CALLS[name](mc)
            assert len([c for c in sent(server) if not c.startswith(b"set warm")]) == 1


@pytest.mark.parametrize("name", [*ALL_CALLS, *ONCE_CALLS])
def test_nothing_is_sent_again_after_a_timeout(name):
    call = ALL_CALLS[name][0] if name in ALL_CALLS else ONCE_CALLS[name]
    with ScriptedServer(lambda command, number: STALL) as server:
        mc = mcext.Client([server.address], socket_timeout=0.1, connect_timeout=AT_ONCE, dead_retry=0)
        call(mc)
        server.wait_for(lambda server: server.connections)  # its thread may have been slower than the call
        first = server.connections[0].commands
        assert len(server.connections) == 1
        assert len(first) == len(set(first))


def test_what_may_be_repeated_is_repeated_once():
    for name, (call, _) in ALL_CALLS.items():
        with ScriptedServer(lambda command, number: CLOSE) as server:
            call(mcext.Client([server.address], dead_retry=0))
            assert len(server.connections) <= 2, name


@contextlib.contextmanager
def unused_port():
    """A port that refuses connects until it is listened on, by us alone."""
    with ports.bound() as sock:
        yield sock


def test_a_dead_server_is_found_out_once_by_all_threads():
    """One call waits for the black hole; after that none does, in whatever thread."""
    with ScriptedServer(lambda command, number: STALL) as server:
        mc = mcext.Client([server.address], socket_timeout=1, connect_timeout=AT_ONCE, dead_retry=1000)
        assert mc.get("key1") is None
        assert mc.servers[0].deaduntil

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            assert set(pool.map(mc.get, [f"key{i}" for i in range(200)])) == {None}
        server.wait_for(sent)
        assert len(sent(server)) == len(server.connections) == 1


class OtherSocket(socket.socket):
    """Not Python's own class: all bytes go through its methods, a server after the other."""


@pytest.mark.parametrize("name", ["get_stats", "get_slabs", "flush_all", "get_multi", "set_multi", "delete_multi"])
def test_a_server_that_was_given_no_time_is_not_dead(name, monkeypatch):
    """The one before it took all that the call had."""
    if name.endswith("_multi"):
        monkeypatch.setattr(socket, "socket", OtherSocket)
    call = {
        "get_multi": lambda mc: mc.get_multi(keys),
        "set_multi": lambda mc: mc.set_multi(dict.fromkeys(keys, b"v")),
        "delete_multi": lambda mc: mc.delete_multi(keys),
    }.get(name, lambda mc: getattr(mc, name)())
    with ScriptedServer(lambda command, number: STALL) as silent, ScriptedServer() as good:
        mc = mcext.Client([silent.address, good.address], socket_timeout=1, connect_timeout=AT_ONCE)
        keys = [f"key{i}" for i in range(40)]
        keys.sort(key=lambda key: zlib.crc32(key.encode()) >> 16 & 1)  # those of the silent one first
        call(mc)
        assert mc.servers[0].deaduntil
        assert not mc.servers[1].deaduntil
        mc.socket_timeout = AT_ONCE
        assert mc.get(keys[-1], "none") == "none" and good.commands, "it is asked"


def test_a_dead_server_of_two_leaves_its_keys_to_the_other():
    with unused_port() as sock, ScriptedServer() as server:
        mc = mcext.Client([f"127.0.0.1:{sock.getsockname()[1]}", server.address])
        keys = [f"key{i}" for i in range(100)]
        for key in keys:
            assert mc.set(key, b"v") is True
        assert mc.set_multi({key: b"v" for key in keys}) == []
        assert mc.servers[0].deaduntil and not mc.servers[1].deaduntil


PROBE = """
import concurrent.futures, threading
import mcext
from scripted_server import ScriptedServer, STALL

well = [False]
probing, release = threading.Event(), threading.Event()

def script(command, number):
    if command.startswith(b"get"):
        if not well[0]:
            return STALL
        probing.set()
        release.wait(20)
        return None
    return None

with ScriptedServer(script) as server:
    mc = mcext.Client([server.address], socket_timeout=1, connect_timeout=20, dead_retry=30)
    assert mc.get("key1") is None
    server.wait_for(lambda s: len(s.commands) == 1, 20)
    shift_clock(20)
    mc.get("key1")
    assert len(server.connections) == 1, "dead for thirty seconds"
    well[0] = True
    mc.socket_timeout = 20
    shift_clock(11)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        probe = pool.submit(mc.get, "probe", "absent")
        assert probing.wait(20)
        # While one call tries, the others go past the server as before.
        others = [pool.submit(mc.get, f"key{i}", "absent") for i in range(15)]
        assert {other.result(20) for other in others} == {"absent"}
        assert len(server.commands) == 2, server.commands
        release.set()
        assert probe.result(20) == "absent"
    assert not mc.servers[0].deaduntil
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(mc.get, [f"key{i}" for i in range(50)]))
    assert len(server.commands) == 52, "alive again for all"
    print("done")
"""


def test_after_dead_retry_one_call_tries_the_server():
    assert shim.run(PROBE) == "done\n"


def failing(call):
    """The same call, with its exception for an answer."""

    def safe(mc):
        try:
            return call(mc)
        except (ZeroDivisionError, mcext.Client.MemcachedKeyError) as error:
            return error

    return safe


class NoPickle:
    def __reduce__(self):
        raise ZeroDivisionError


TOO_LARGE = b"x" * 2_000_000
SETTLES_NOTHING = {
    "too large": lambda mc: mc.set("key1", TOO_LARGE),
    "too large, set_multi": lambda mc: mc.set_multi({"key1": TOO_LARGE}),
    "no pickle": failing(lambda mc: mc.set("key1", NoPickle())),
    "no pickle, set_multi": failing(lambda mc: mc.set_multi({"key1": NoPickle()})),
    "no key": failing(lambda mc: mc.get_multi(["key1", "key 2"])),
}
NOREPLY = {
    "set": lambda mc: mc.set("key1", b"v", noreply=True),
    "delete": lambda mc: mc.delete("key1", noreply=True),
    "touch": lambda mc: mc.touch("key1", noreply=True),
    "incr": lambda mc: mc.incr("key1", noreply=True),
    "set_multi": lambda mc: mc.set_multi({"key1": b"v", "key2": b"v"}, noreply=True),
    "delete_multi": lambda mc: mc.delete_multi(["key1", "key2"], noreply=True),
}


def found_by(call, script=()):
    """Make the call that may try a server whose mark has run out; return the mark behind it."""
    with ScriptedServer(script) as server:
        mc = mcext.Client([server.address], socket_timeout=1 if script else AT_ONCE, connect_timeout=AT_ONCE)
        mc.servers[0].deaduntil = 1
        call(mc)
        return mc.servers[0].deaduntil


@pytest.mark.parametrize("name", SETTLES_NOTHING)
def test_a_call_that_asks_a_dead_server_nothing_does_not_make_it_alive(name):
    """The next call alone tries it then, not all at once."""
    assert found_by(SETTLES_NOTHING[name]) == 1


@pytest.mark.parametrize("name", NOREPLY)
def test_a_noreply_call_tries_a_dead_server_as_any_other_does(name):
    """What it sends is taken by any server that has stopped as well: it is made to say that it has read it."""
    assert found_by(NOREPLY[name]) == 0
    assert found_by(NOREPLY[name], lambda command, number: STALL) > 1


MARKED_BY_HAND = """
import sys, time
import mcext
from scripted_server import ScriptedServer
from test_server_life import unused_port

with unused_port() as sock:
    mc = mcext.Client([f"127.0.0.1:{sock.getsockname()[1]}"], dead_retry=30)
    host, port, marked = mc.servers[0], sock.getsockname()[1], []

    def mark_dead(reason):
        marked.append(reason)
        if sys.argv[1] == "for a while":
            host.deaduntil = time.time() + 5

    if sys.argv[1] == "after a mark":
        assert mc.get("key1") is None
        shift_clock(31)
    host.mark_dead = mark_dead
    for round in range(1, 4):
        assert mc.get("key1") is None
        assert len(marked) == round, "it is tried again"
        shift_clock(6)
with ScriptedServer(port=port) as server:
    assert mc.set("key1", b"v") is True
    assert not host.deaduntil
    print("done")
"""


@pytest.mark.parametrize("way", ["never", "for a while", "after a mark"])
def test_a_replaced_mark_dead_decides_how_long_a_server_is_dead(way):
    """It may set another time, or none: then the next call tries the server."""
    assert shim.run(MARKED_BY_HAND, way) == "done\n"


FOUND_DEAD_AGAIN = """
import mcext
from scripted_server import ScriptedServer, STALL

with ScriptedServer(lambda command, number: STALL) as server:
    mc = mcext.Client([server.address], socket_timeout=1, connect_timeout=20, dead_retry=30)
    for round in range(1, 4):
        for _ in range(5):
            assert mc.get("key1") is None
        # A busy machine's server may see the one command when the call has given up.
        server.wait_for(lambda s: len(s.commands) == round, 20)
        shift_clock(31)
    print("done")
"""


def test_a_server_that_is_still_dead_is_left_alone_for_dead_retry_again():
    assert shim.run(FOUND_DEAD_AGAIN) == "done\n"


MOVED = """
import mcext
from scripted_server import ScriptedServer

def script(name):
    def answer(command, number):
        return b"VALUE where 0 3\\r\\n%s\\r\\nEND\\r\\n" % name if command.startswith(b"get") else None
    return answer

with ScriptedServer(script(b"one")) as one:
    with ScriptedServer(script(b"two"), host="127.0.0.2", port=one.port):
        mc = mcext.Client([f"moving.test:{one.port}"], dead_retry=0)
        assert mc.get("where") == b"one"
        set_address("127.0.0.2")
        assert mc.get("where") == b"one", "a good connection stays"
        one.close_connection()
        assert mc.get("where") == b"two", "the next connect looks the name up again"
        mc.disconnect_all()
        set_address("127.0.0.1")
        assert mc.get("where") == b"one"
    print("done")
"""


def test_a_name_that_moved_to_another_address_is_followed():
    assert shim.run(MOVED) == "done\n"


def flushes(mc):
    return int(mc.get_stats()[0][1]["cmd_flush"])


def test_flush_on_reconnect_flushes_once_not_per_thread(memcached):
    mc = mcext.Client([memcached.address], flush_on_reconnect=1, dead_retry=0, socket_timeout=AT_ONCE)
    other = mcext.Client([memcached.address], socket_timeout=AT_ONCE)
    barrier = threading.Barrier(8)

    def call(i):
        barrier.wait(AT_ONCE)
        for j in range(5):
            mc.set(f"key{i}", j)

    assert mc.set("key", b"v")
    assert flushes(other) == 0, "a first connect is no reconnect"
    memcached.stop()
    assert mc.set("key", b"v") == 0
    memcached.start()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(8)))
    assert flushes(other) == 1
    mc.set("key", b"v")
    assert flushes(other) == 1


def test_calls_go_on_while_the_server_is_killed_and_started(memcached):
    """Nothing wrong, nothing raised, and when it is there again all is well."""
    mc = mcext.Client([memcached.address], dead_retry=0, socket_timeout=AT_ONCE)
    stop = threading.Event()
    problems = []

    def calls(number):
        key, value = f"key{number}", f"value of {number}"
        try:
            while not stop.is_set():
                mc.set(key, value)
                assert mc.get(key) in (None, value)
                assert mc.get_multi([key, "absent"]) in ({}, {key: value})
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=calls, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        memcached.kill()
        memcached.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert mc.set("key", b"v") is True
    assert mc.get("key") == b"v"
