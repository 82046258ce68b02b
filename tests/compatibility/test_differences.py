"""What differs from python-memcached 1.62, which gets it wrong: the rows of docs/differences.md."""

import contextlib
import gc
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import zlib
from datetime import timedelta
from pathlib import Path

import ports
import pytest
from scripted_server import CLOSE, RESET, STALL, ScriptedServer

import memcache
from mcext.testing import memcached


@pytest.fixture(scope="module")
def unix_server():
    with memcached("-m", "200", "-t", "1", unix=True) as server:  # with one thread nothing is counted late
        yield server


@pytest.fixture
def server(unix_server):
    """A real memcached, empty."""
    raw(unix_server, b"flush_all\r\n", b"OK\r\n")
    return unix_server


@pytest.fixture
def client(server):
    client = memcache.Client([server.address])
    yield client
    client.disconnect_all()


def raw(server, request, end):
    """Send bytes to a real server and return its reply up to `end`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(server.path)
        connection.sendall(request)
        reply = b""
        while not reply.endswith(end):
            data = connection.recv(65536)
            assert data, reply
            reply += data
        return reply


def store(server, key, flags, value):
    raw(server, b"set %s %d 0 %d\r\n%s\r\n" % (key, flags, len(value), value), b"STORED\r\n")


def value(key, text=None, flags=0):
    """The reply that holds a key's value: its own name, if nothing else is said."""
    text = key if text is None else text
    return b"VALUE %s %d %d\r\n%s\r\nEND\r\n" % (key, flags, len(text), text)


def echo(command, number):
    """A server on which each key's value is the key."""
    words = command.split()
    if words[0] == b"get":
        return b"".join(value(key)[:-5] for key in words[1:]) + b"END\r\n"
    if words[0] == b"gets":
        return b"VALUE %s 0 %d 7\r\n%s\r\nEND\r\n" % (words[1], len(words[1]), words[1])
    return None


def in_thread(function, *arguments):
    """Call in a thread of its own and hand on what it returns or raises."""
    outcome = []

    def run():
        try:
            outcome.append((function(*arguments), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def alive(client):
    return [host.deaduntil for host in client.servers] == [0] * len(client.servers)


CALLS = {
    "get": lambda c: c.get("a"),
    "gets": lambda c: c.gets("a"),
    "get_multi": lambda c: c.get_multi(["a", "c"]),
    "set": lambda c: c.set("a", "1"),
    "add": lambda c: c.add("a", "1"),
    "replace": lambda c: c.replace("a", "1"),
    "append": lambda c: c.append("a", "1"),
    "prepend": lambda c: c.prepend("a", "1"),
    "delete": lambda c: c.delete("a"),
    "touch": lambda c: c.touch("a", 10),
    "incr": lambda c: c.incr("a"),
    "decr": lambda c: c.decr("a"),
    "set_multi": lambda c: c.set_multi({"a": "1", "c": "2"}),
    "delete_multi": lambda c: c.delete_multi(["a", "c"]),
    "get_stats": lambda c: c.get_stats(),
    "get_slab_stats": lambda c: c.get_slab_stats(),
    "get_slabs": lambda c: c.get_slabs(),
    "flush_all": lambda c: c.flush_all(),
}
MISS = {
    "get": None,
    "gets": None,
    "get_multi": {},
    "set": False,
    "add": False,
    "replace": False,
    "append": False,
    "prepend": False,
    "delete": 0,
    "touch": 0,
    "incr": None,
    "decr": None,
    "set_multi": ["a", "c"],
    "delete_multi": 0,
    "get_stats": [],
    "get_slab_stats": [],
    "get_slabs": [],
    "flush_all": None,
}
REPEATED = ["get", "gets", "get_multi", "set", "set_multi", "touch", "delete", "delete_multi", "get_stats"]
NEVER_REPEATED = ["add", "replace", "append", "prepend", "incr", "decr", "flush_all"]


# an exception in the middle of a call


class Stop(Exception):
    pass


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt])
def test_after_an_exception_from_a_signal_handler_the_next_call_is_right(name, kind):
    raised = threading.Event()

    def handler(signum, frame):
        if not raised.is_set():
            raised.set()
            raise kind

    def script(command, number):
        if not raised.is_set():
            # Again and again: one that comes between the sending and the receiving does not wake the call.
            while not raised.wait(0.02):
                os.kill(os.getpid(), signal.SIGUSR1)
            return value(b"wrong")
        return echo(command, number)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with ScriptedServer(script) as server:
            client = memcache.Client([server.address], socket_timeout=20)
            with pytest.raises(kind):
                CALLS[name](client)
            assert client.get("b") == b"b"
            assert client.get_multi(["d", "e"]) == {"d": b"d", "e": b"e"}
            server.wait_for(lambda s: s.connections[0].closed.is_set())
            assert alive(client)
    finally:
        signal.signal(signal.SIGUSR1, before)


# fork() after use


def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests' threads may still be there
        return os.fork()


def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_opens_its_own_connection():
    with ScriptedServer(echo) as server:
        client = memcache.Client([server.address])
        assert client.get("parent") == b"parent"
        pid = fork()
        if not pid:
            os._exit(0 if client.get("child") == b"child" else 1)
        assert wait(pid) == 0
        assert client.get("again") == b"again"
        assert [one.commands for one in server.connections] == [
            [b"get parent\r\n", b"get again\r\n"],
            [b"get child\r\n"],
        ]


def test_parent_and_children_never_read_each_others_replies(client, server):
    keys = [f"key{number}" for number in range(50)]
    assert client.set_multi({key: key for key in keys}) == []
    children = []
    for number in range(4):
        pid = fork()
        if not pid:
            wrong = 1
            try:
                wrong = sum(client.get(key) != key for _ in range(20) for key in keys[number:])
                wrong += client.get_multi(keys) != {key: key for key in keys}
            finally:
                os._exit(min(wrong, 1))
        children.append(pid)
    wrong = sum(client.get(key) != key for _ in range(20) for key in keys)
    assert [wait(pid) for pid in children] == [0] * 4
    assert wrong == 0


def test_a_child_that_disconnects_leaves_the_parents_connection_alone():
    with ScriptedServer(echo) as server:
        client = memcache.Client([server.address])
        assert client.get("parent") == b"parent"
        pid = fork()
        if not pid:
            client.quit_all()
            client.disconnect_all()
            os._exit(0)
        assert wait(pid) == 0
        assert client.get("again") == b"again"
        assert server.connections[0].commands == [b"get parent\r\n", b"get again\r\n"]


# a stored value that does not decode

UNDECODABLE = {
    "text that is not UTF-8": (16, b"\xff\xfe"),
    "an int that is none": (2, b"x12"),
    "an empty int": (2, b""),
    "a long that is none": (4, b"1.5"),
    "an int of too many digits": (2, b"1" * 5000),
    "broken zlib": (8, b"no zlib"),
    "cut zlib": (8, zlib.compress(b"x" * 1000)[:-5]),
    "broken zlib under text": (8 | 16, b""),
    "unknown flags": (64, b"x"),
    "more unknown flags": (1 << 31, b"x"),
    "unknown flags under zlib": (8 | 32, zlib.compress(b"x")),
    "a broken pickle": (1, b"no pickle"),
    "an empty pickle": (1, b""),
}


@pytest.mark.parametrize("case", UNDECODABLE)
def test_a_value_that_does_not_decode_is_none(case, server, client, capsys):
    store(server, b"bad", *UNDECODABLE[case])
    store(server, b"good", 0, b"good")
    client.debug = 1
    opened = raw(server, b"stats\r\n", b"END\r\n")
    assert client.get("bad", "default") is None
    assert client.gets("bad") is None
    assert client.get_multi(["good", "bad"]) == {"good": b"good", "bad": None}
    assert client.get("good") == b"good"
    assert alive(client)
    assert capsys.readouterr().err.startswith("MemCached: ")
    # One connection for the client, one for the second look at the statistics.
    count = [
        int(re.search(rb"total_connections (\d+)", stats)[1])
        for stats in (opened, raw(server, b"stats\r\n", b"END\r\n"))
    ]
    assert count[1] - count[0] == 2


def test_an_own_decompressor_that_fails_gives_none(server):
    def fail(data):
        raise RuntimeError("no")

    client = memcache.Client([server.address], decompressor=fail)
    store(server, b"bad", 8, b"anything")
    assert client.get("bad", 1) is None
    assert client.get_multi(["bad"]) == {"bad": None}


# the key in the reply


@pytest.mark.parametrize(
    "name, answer",
    [
        ("get", value(b"b")),
        ("get", value(b"aa")),
        ("get", value(b"A")),
        ("gets", b"VALUE b 0 1 7\r\nb\r\nEND\r\n"),
        ("get_multi", value(b"b")),
        ("get_multi", b"VALUE a 0 1\r\nx\r\nVALUE b 0 1\r\nx\r\nEND\r\n"),
    ],
)
def test_a_reply_for_another_key_is_a_broken_connection(name, answer):
    with ScriptedServer([answer]) as server:
        client = memcache.Client([server.address], cache_cas=True)
        result = CALLS[name](client)
        assert "b" not in (result or ()) and result in (None, {}, {"a": b"x"})
        assert client.cas_ids == {}
        assert client.get("c") is None
        server.wait_for(lambda s: s.connections[0].closed.is_set())
        assert server.connections[1].commands == [b"get c\r\n"]
        assert alive(client)


# an error line after a noreply call

NOREPLY = {
    "set": lambda c: c.set("a", "1", noreply=True),
    "add": lambda c: c.add("a", "1", noreply=True),
    "replace": lambda c: c.replace("a", "1", noreply=True),
    "append": lambda c: c.append("a", "1", noreply=True),
    "prepend": lambda c: c.prepend("a", "1", noreply=True),
    "delete": lambda c: c.delete("a", noreply=True),
    "touch": lambda c: c.touch("a", 1, noreply=True),
    "incr": lambda c: c.incr("a", noreply=True),
    "decr": lambda c: c.decr("a", noreply=True),
    "set_multi": lambda c: c.set_multi({"a": "1"}, noreply=True),
    "delete_multi": lambda c: c.delete_multi(["a"], noreply=True),
}


@pytest.mark.parametrize("name", NOREPLY)
@pytest.mark.parametrize(
    "late", [b"", b"SERVER_ERROR out of memory\r\n", b"ERROR\r\n", b"STORED\r\n", b"1\r\n", b"TOUCHED\r\n"]
)
def test_what_a_server_says_after_noreply_is_not_the_next_calls_answer(name, late):
    def script(command, number):
        if b" noreply\r\n" in command:
            return late
        if command.startswith(b"set"):
            return b"NOT_STORED\r\n"
        return echo(command, number)

    with ScriptedServer(script) as server:
        client = memcache.Client([server.address])
        for following, expected in [
            (lambda: client.get("b"), b"b"),
            (lambda: client.set("b", "1"), False),
            (lambda: client.delete("b"), 0),
            (lambda: client.touch("b"), 0),
            (lambda: client.incr("b"), None),
            (lambda: client.get_multi(["b", "c"]), {"b": b"b", "c": b"c"}),
            (lambda: client.set_multi({"b": "1"}), ["b"]),
        ]:
            NOREPLY[name](client)
            assert following() == expected
        assert alive(client)


def test_a_value_too_large_for_the_server_sent_with_noreply(server):
    client = memcache.Client([server.address], server_max_value_length=0)
    assert client.set("large", "x" * 3_000_000, noreply=True) is True
    assert client.set("a", "a") is True
    assert client.get("a") == "a"
    assert client.set("large", "x" * 3_000_000, noreply=True) is True
    assert client.get("large") is None
    assert client.get("a") == "a"


# malformed, late or cut replies

MALFORMED = [
    ("get", b"what is this\r\n"),
    ("get", b"\r\n"),
    ("get", b"VALUE\r\n"),
    ("get", b"VALUE a\r\n"),
    ("get", b"VALUE a 0\r\nEND\r\n"),
    ("get", b"VALUE a x 1\r\nx\r\nEND\r\n"),
    ("get", b"VALUE a 0 -1\r\nx\r\nEND\r\n"),
    ("get", b"VALUE a 0 +1\r\nx\r\nEND\r\n"),
    ("get", b"VALUE a 0 99999999999999999999\r\nx\r\nEND\r\n"),
    ("get", b"VALUE a 0 1\r\nxxEND\r\n"),
    ("get", b"VALUE a 0 1\r\nx\r\nNOT THE END\r\n"),
    ("get", b"VALUE a 0 1\r\nx\r\nVALUE a 0 1\r\nx\r\nEND\r\n"),
    ("get", (b"VALUE a 0 5\r\nabc", CLOSE)),
    ("get", (b"VALUE a 0 5\r\nabc", RESET)),
    ("get", (b"VALUE a 0 1\r\nx\r\n", CLOSE)),
    ("get", (b"VALUE a 0 1\r\nx\r\nEN", CLOSE)),
    ("get", (b"E", CLOSE)),
    ("get", b"STORED\r\n"),
    ("gets", b"VALUE a 0 1\r\nx\r\nEND\r\n"),
    ("gets", b"VALUE a 0 1 x\r\nx\r\nEND\r\n"),
    ("get_multi", b"VALUE a 0\r\nEND\r\n"),
    ("get_multi", (b"VALUE a 0 5\r\nabc", CLOSE)),
    ("get_multi", b"rubbish\r\n"),
    ("set", b"DELETED\r\n"),
    ("set", (b"STOR", CLOSE)),
    ("set", b"STORED \n\r\n"),
    ("add", b"OK\r\n"),
    ("delete", b"STORED\r\n"),
    ("delete", (b"DEL", CLOSE)),
    ("touch", b"STORED\r\n"),
    ("incr", b"\r\n"),
    ("incr", b"seven\r\n"),
    ("incr", b"-1\r\n"),
    ("incr", b"+1\r\n"),
    ("incr", b"1_0\r\n"),
    ("incr", b"18446744073709551616\r\n"),
    ("incr", (b"12", CLOSE)),
    ("decr", b"1 2\r\n"),
    ("set_multi", (b"STO", CLOSE)),
    ("delete_multi", (b"NOT_", CLOSE)),
    ("get_stats", b"STAT\r\nEND\r\n"),
    ("get_stats", b"rubbish\r\nEND\r\n"),
    ("get_stats", (b"STAT pid 1\r\n", CLOSE)),
    ("get_slab_stats", b"STAT 1:\r\n\r\nEND\r\n"),
    ("get_slabs", b"STAT items:1:number\r\nEN\r\nEND\r\n"),
    ("flush_all", b"VALUE\r\n"),
    ("flush_all", (b"O", CLOSE)),
]


@pytest.mark.parametrize("name, answer", MALFORMED)
def test_a_malformed_or_cut_reply_is_a_miss_and_closes_the_connection(name, answer):
    sent = threading.Event()

    def script(command, number):
        if not sent.is_set() or name in ("set_multi", "delete_multi") and number == 0:
            sent.set()
            return answer
        return echo(command, number)

    with ScriptedServer(script) as server:
        client = memcache.Client([server.address], socket_timeout=20)
        result = CALLS[name](client)
        assert type(result) is type(MISS[name]) or (result, MISS[name]) == (0, False)
        if name != "get_multi":
            assert result == MISS[name]
        server.wait_for(lambda s: s.connections[0].closed.is_set())
        assert client.get("b") == b"b"
        assert client.get_multi(["b", "c"]) == {"b": b"b", "c": b"c"}
        assert len(server.connections) == 2
        assert alive(client)


def test_a_malformed_reply_gives_the_default():
    with ScriptedServer([b"rubbish\r\n"]) as server:
        assert memcache.Client([server.address]).get("a", "default") == "default"


def test_bytes_after_a_reply_never_answer_the_next_call():
    def script(command, number):
        if command == b"get a\r\n":
            return value(b"a") + value(b"wrong")
        return echo(command, number)

    with ScriptedServer(script) as server:
        client = memcache.Client([server.address])
        assert client.get("a") in (None, b"a")
        assert client.get("b") == b"b"
        assert client.get_multi(["c"]) == {"c": b"c"}
        assert len(server.connections) == 2


def test_bytes_that_come_unasked_between_calls_never_answer_the_next_call():
    with ScriptedServer(echo) as server:
        client = memcache.Client([server.address])
        assert client.get("a") == b"a"
        server.push(value(b"a", b"wrong"))
        assert client.get("b") in (None, b"b")
        assert client.get("b") == b"b"


@pytest.mark.parametrize("name", CALLS)
def test_a_late_reply_is_a_miss_and_never_the_next_calls_answer(name):
    def script(command, number):
        return STALL if number == 0 else echo(command, number)

    with ScriptedServer(script) as server:
        client = memcache.Client([server.address], socket_timeout=0.2)
        assert CALLS[name](client) == MISS[name]
        assert not alive(client)
        server.wait_for(lambda s: s.connections and s.connections[0].closed.is_set())
        client.forget_dead_hosts()
        client.socket_timeout = 20
        assert client.get("b") == b"b"


@pytest.mark.parametrize("answer", [b"rubbish\r\n", b"", CLOSE, RESET, (b"partial", CLOSE)])
def test_quit_all_returns_none_whatever_comes_back(answer):
    with ScriptedServer(lambda command, number: answer if command.startswith(b"quit") else None) as server:
        client = memcache.Client([server.address], socket_timeout=20)
        client.get("a")
        client.socket_timeout = 0.3
        assert client.quit_all() is None
        client.socket_timeout = 20
        server.wait_for(lambda s: s.connections[0].closed.is_set())
        assert client.get("a") is None
        assert alive(client)


def test_an_error_line_is_an_answer_to_every_call():
    """The row of "Answers" in the contract, where python-memcached itself raises or waits for more."""
    for line in (b"ERROR\r\n", b"SERVER_ERROR busy\r\n"):
        for name, call in CALLS.items():
            if name in ("incr", "decr"):
                continue
            with ScriptedServer(lambda command, number, line=line: line) as server:
                client = memcache.Client([server.address], socket_timeout=20)
                result = call(client)
                if name in ("get_stats", "get_slab_stats", "get_slabs"):
                    assert result == [(f"{server.address} (1)", {})], name
                else:
                    assert result == MISS[name] or name == "delete_multi", name
                assert alive(client), name


# what marks a server dead


def test_a_refused_connect_marks_dead():
    with ports.listen() as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    client = memcache.Client([address])
    assert client.get("a") is None
    assert client.servers[0].deaduntil > time.time()


def test_a_reply_that_does_not_come_in_time_marks_dead():
    with ScriptedServer([STALL]) as server:
        client = memcache.Client([server.address], socket_timeout=0.2)
        assert client.get("a") is None
        assert client.servers[0].deaduntil > time.time()
        assert client.get("a") is None
        server.wait_for(lambda s: s.commands)
        assert server.commands == [b"get a\r\n"]


@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("name", CALLS)
def test_a_connection_that_the_server_closes_does_not_mark_dead(name, end):
    with ScriptedServer(lambda command, number: end if number < 2 else echo(command, number)) as server:
        client = memcache.Client([server.address])
        assert CALLS[name](client) == MISS[name]
        assert alive(client)
        for _ in range(2):
            if client.get("b") == b"b":
                break
        else:
            assert client.get("b") == b"b"


# a connection that the server closed while idle


def test_a_restart_between_calls_is_not_noticed():
    with memcached() as server:
        client = memcache.Client([server.address])
        assert client.set("a", 1)
        server.restart()
        assert client.set("a", 2) is True
        assert client.get("a") == 2
        server.restart()
        assert client.get("a") is None
        assert alive(client)


@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("name", REPEATED)
def test_what_may_be_repeated_is_tried_once_more_on_a_new_connection(name, end):
    def script(command, number):
        if number == 0 and not command.startswith(b"get warm"):
            return end
        return {b"set": b"STORED\r\n", b"delete": b"DELETED\r\n", b"touch": b"TOUCHED\r\n"}.get(
            command.split()[0], echo(command, number)
        )

    hit = {
        "get": b"a",
        "gets": b"a",
        "get_multi": {"a": b"a", "c": b"c"},
        "set": True,
        "set_multi": [],
        "touch": 1,
        "delete": 1,
        "delete_multi": 1,
    }
    with ScriptedServer(script) as server:
        client = memcache.Client([server.address])
        assert client.get("warm") == b"warm"
        hit["get_stats"] = [(f"{server.address} (1)", {})]
        assert CALLS[name](client) == hit[name]
        assert len(server.connections) == 2
        assert server.connections[0].commands[1] == server.connections[1].commands[0]
        assert alive(client)


@pytest.mark.parametrize("name", NEVER_REPEATED)
def test_what_must_not_be_executed_twice_is_sent_once(name):
    with ScriptedServer(lambda command, number: None if command.startswith(b"get warm") else CLOSE) as server:
        client = memcache.Client([server.address])
        client.get("warm")
        assert CALLS[name](client) == MISS[name]
        assert len(server.commands) == 2
        assert alive(client)


def test_cas_is_sent_once():
    def script(command, number):
        return CLOSE if command.startswith(b"cas") else echo(command, number)

    with ScriptedServer(script) as server:
        client = memcache.Client([server.address], cache_cas=True)
        assert client.gets("a") == b"a"
        assert client.cas("a", "1") == 0
        assert [command[:3] for command in server.commands] == [b"get", b"cas"]
        assert client.cas_ids == {b"a": 7}


@pytest.mark.parametrize("name", REPEATED)
def test_nothing_is_tried_a_third_time(name):
    with ScriptedServer(lambda command, number: CLOSE) as server:
        client = memcache.Client([server.address])
        assert CALLS[name](client) == MISS[name]
        assert len(server.connections) <= 2
        assert alive(client)


@pytest.mark.parametrize("name", REPEATED)
def test_nothing_is_tried_again_after_a_timeout(name):
    with ScriptedServer(lambda command, number: STALL) as server:
        client = memcache.Client([server.address], socket_timeout=0.2)
        assert CALLS[name](client) == MISS[name]
        server.wait_for(lambda s: s.connections and s.connections[0].closed.is_set())
        assert len(server.connections) == 1


def test_nothing_is_tried_again_after_a_byte_of_the_reply():
    with ScriptedServer(lambda command, number: (b"V", CLOSE)) as server:
        assert memcache.Client([server.address]).get("a") is None
        assert len(server.connections) == 1


def test_a_connection_idle_for_a_second_is_looked_at_before_use():
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(ScriptedServer(echo)) for name in NEVER_REPEATED}
        clients = {name: memcache.Client([server.address]) for name, server in servers.items()}
        for name, server in servers.items():
            assert clients[name].get("a") == b"a"
            server.close_connection()
        time.sleep(1.1)  # the idle second itself
        for name, server in servers.items():
            CALLS[name](clients[name])
            server.wait_for(lambda s: len(s.connections) == 2)
            assert len(server.connections[1].commands) == 1, name
            assert alive(clients[name]), name


# a key that ends in a newline; a newline in a time, a delta or the argument of get_stats

KEY_CALLS = {
    "get": lambda c, k: c.get(k),
    "gets": lambda c, k: c.gets(k),
    "set": lambda c, k: c.set(k, "1"),
    "add": lambda c, k: c.add(k, "1"),
    "replace": lambda c, k: c.replace(k, "1"),
    "append": lambda c, k: c.append(k, "1"),
    "prepend": lambda c, k: c.prepend(k, "1"),
    "cas": lambda c, k: c.cas(k, "1"),
    "delete": lambda c, k: c.delete(k),
    "touch": lambda c, k: c.touch(k),
    "incr": lambda c, k: c.incr(k),
    "decr": lambda c, k: c.decr(k),
    "get_multi": lambda c, k: c.get_multi(["a", k]),
    "set_multi": lambda c, k: c.set_multi({"a": 1, k: 2}),
    "delete_multi": lambda c, k: c.delete_multi(["a", k]),
}
PREFIX_CALLS = {
    "get_multi": lambda c, p: c.get_multi(["a"], key_prefix=p),
    "set_multi": lambda c, p: c.set_multi({"a": 1}, key_prefix=p),
    "delete_multi": lambda c, p: c.delete_multi(["a"], key_prefix=p),
}


@pytest.mark.parametrize("name", KEY_CALLS)
@pytest.mark.parametrize("key", ["a\n", b"a\n", (1, "a\n"), "é\n"])
def test_a_key_that_ends_in_a_newline_is_rejected(name, key):
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        with pytest.raises(client.MemcachedKeyCharacterError):
            KEY_CALLS[name](client, key)
        assert server.received == b""


@pytest.mark.parametrize("name", PREFIX_CALLS)
def test_a_prefix_that_ends_in_a_newline_is_rejected(name):
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        with pytest.raises(client.MemcachedKeyCharacterError):
            PREFIX_CALLS[name](client, "p\n")
        assert server.received == b""


@pytest.mark.parametrize("text", ["0\n", "0\r\nflush_all", "0 5\r\nhello", "1 noreply"])
@pytest.mark.parametrize(
    "call",
    [
        lambda c, t: c.set("a", "1", t),
        lambda c, t: c.add("a", "1", t),
        lambda c, t: c.replace("a", "1", time=t),
        lambda c, t: c.append("a", "1", t),
        lambda c, t: c.prepend("a", "1", t),
        lambda c, t: c.cas("a", "1", t),
        lambda c, t: c.touch("a", t),
        lambda c, t: c.delete("a", time=t),
        lambda c, t: c.set_multi({"a": 1}, t),
        lambda c, t: c.delete_multi(["a"], t),
        lambda c, t: c.incr("a", t),
        lambda c, t: c.decr("a", t),
        lambda c, t: c.get_stats(t.replace("1 noreply", "settings\n")) if "\n" in t or t[0] == "1" else None,
    ],
)
def test_no_command_can_be_injected_by_a_time_a_delta_or_a_stats_argument(call, text):
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        with pytest.raises((TypeError, ValueError)):
            call(client, text)
        assert server.received == b""


# check_keys=False


@pytest.mark.parametrize("name", KEY_CALLS)
@pytest.mark.parametrize("key", ["", b"", "a b", "a\0", "a\n", "\na", b"a\r\nflush_all", (0, ""), (0, "a b")])
def test_without_key_checks_what_breaks_the_stream_is_still_rejected(name, key):
    with ScriptedServer() as server:
        client = memcache.Client([server.address], check_keys=False)
        with pytest.raises(client.MemcachedKeyError):
            KEY_CALLS[name](client, key)
        assert server.received == b""


@pytest.mark.parametrize("name", PREFIX_CALLS)
@pytest.mark.parametrize("prefix", ["p q", "p\n", "p\0", b"\r\n"])
def test_without_key_checks_a_prefix_that_breaks_the_stream_is_still_rejected(name, prefix):
    with ScriptedServer() as server:
        client = memcache.Client([server.address], check_keys=False)
        with pytest.raises(client.MemcachedKeyError):
            PREFIX_CALLS[name](client, prefix)
        assert server.received == b""


@pytest.mark.parametrize("key", ["a\tb", "a\rb", "\x01", "a\x7f", "\x1f", "k" * 251, "k" * 1000, "\r"])
def test_without_key_checks_other_keys_are_passed_on(key):
    with ScriptedServer() as server:
        client = memcache.Client([server.address], check_keys=False)
        assert client.get(key) is None
        assert client.get_multi([key]) == {}
        assert server.commands == [b"get %s\r\n" % key.encode()] * 2


# delta


@pytest.mark.parametrize(
    "delta", [-1, 2**64, 10**30, 1.0, 0.5, None, "", "-1", "+1", " 1", "1 ", "x", "1_0", "1" * 30, [], b"x"]
)
@pytest.mark.parametrize("name", ["incr", "decr"])
def test_a_delta_that_is_none_is_rejected_before_anything_is_sent(name, delta):
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        with pytest.raises((TypeError, ValueError)):
            getattr(client, name)("a", delta)
        assert server.received == b""


@pytest.mark.parametrize("delta, sent", [(0, b"0"), (2**64 - 1, b"18446744073709551615"), ("15", b"15"), ("0", b"0")])
def test_a_delta_is_an_int_or_a_str_of_digits(delta, sent):
    with ScriptedServer() as server:
        assert memcache.Client([server.address]).incr("a", delta) is None
        assert server.commands == [b"incr a " + sent + b"\r\n"]


# timedelta


@pytest.mark.parametrize(
    "time, sent",
    [
        (timedelta(seconds=90), 90),
        (timedelta(days=2), 172800),
        (timedelta(seconds=1.9), 1),
        (timedelta(milliseconds=500), 1),
        (timedelta(microseconds=1), 1),
        (timedelta(0), 0),
        (timedelta(seconds=-5), -5),
    ],
)
def test_a_timedelta_is_taken_wherever_a_time_is(time, sent):
    def script(command, number):
        return b"VALUE a 0 1 7\r\nx\r\nEND\r\n" if command.startswith(b"gets") else None

    with ScriptedServer(script) as server:
        client = memcache.Client([server.address], cache_cas=True)
        client.gets("a")
        for name in ("set", "add", "replace", "append", "prepend", "cas"):
            getattr(client, name)("a", b"1", time)
        client.set_multi({"a": b"1"}, time)
        client.touch("a", time)
        client.delete("a", time=time)
        client.delete_multi(["a"], time)
        client._set("set", "a", b"1", time)
        client._deletetouch([b"TOUCHED"], "touch", "a", time)
        words = [b"a", b"0", b"%d" % sent, b"1"]
        expected = [[one, *words, b"1"] for one in (b"set", b"add", b"replace", b"append", b"prepend")]
        expected += [[b"cas", *words, b"7", b"1"], [b"set", *words, b"1"], [b"touch", b"a", b"%d" % sent]]
        expected += [[b"delete", b"a", *([b"%d" % sent] if sent else [])]] * 2
        expected += [[b"set", *words, b"1"], [b"touch", b"a", b"%d" % sent]]
        assert [one.split() for one in server.commands[1:]] == expected


# touch(key, 1.5), touch(key, True)


@pytest.mark.parametrize("time", [1.5, True])
def test_touch_takes_a_time_as_set_does(client, time):
    client.set("a", 1)
    assert client.touch("a", time) == 1


@pytest.mark.parametrize("time, sent", [(1.5, b"1"), (True, b"1"), (-3, b"-3"), (100, b"100")])
def test_touch_sends_a_time_as_set_does(time, sent):
    with ScriptedServer() as server:
        memcache.Client([server.address]).touch("a", time)
        assert server.commands == [b"touch a " + sent + b"\r\n"]


def test_touch_takes_a_str_of_digits(client):
    client.set("a", 1)
    assert client.touch("a", "60") == 1
    assert client.touch("missing", "60") == 0
    assert client.touch("a", time="60", noreply=True) == 1
    assert client.get("a") == 1


def touched(command, number):
    return b"TOUCHED\r\n" if command.startswith(b"touch") else None


@pytest.mark.parametrize(
    "time, sent", [("60", b"60"), ("0", b"0"), ("0060", b"60"), (str(2**63 - 1), b"9223372036854775807")]
)
def test_touch_sends_a_str_of_digits_as_that_number(time, sent):
    with ScriptedServer(touched) as server:
        client = memcache.Client([server.address])
        assert client.touch("a", time) == 1
        assert client._deletetouch([b"TOUCHED"], "touch", "a", time) == 1
        assert server.commands == [b"touch a " + sent + b"\r\n"] * 2


def test_a_replaced_deletetouch_is_given_the_str_that_touch_was():
    class Recording(memcache.Client):
        def _deletetouch(self, expected, cmd, key, time=0, noreply=False):
            given.append(time)
            return super()._deletetouch([b"TOUCHED"], cmd, key, time, noreply)

    given = []
    with ScriptedServer(touched) as server:
        assert Recording([server.address]).touch("a", "60") == 1
        assert given == ["60"]
        assert server.commands == [b"touch a 60\r\n"]


@pytest.mark.parametrize(
    "time", ["", " 5", "5 ", "+5", "-5", "1.5", "1_0", "0x5", "\u0665", "5\n", "\ud800", str(2**63)]
)
def test_any_other_str_as_the_time_of_touch_is_a_value_error(time):
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        for call in (client.touch, lambda key, time: client._deletetouch([b"TOUCHED"], "touch", key, time)):
            with pytest.raises(ValueError, match=r"\btime\b"):
                call("a", time)
        assert server.received == b""


def test_no_other_call_takes_a_str_as_its_time():
    with ScriptedServer() as server:
        client = memcache.Client([server.address], cache_cas=True)
        stores = [getattr(client, name) for name in ("set", "add", "replace", "append", "prepend", "cas")]
        for call in (
            *[lambda store=store: store("a", b"1", "60") for store in stores],
            lambda: client.set_multi({"a": b"1"}, "60"),
            lambda: client.delete("a", time="60"),
            lambda: client.delete_multi(["a"], "60"),
            lambda: client._set("set", "a", b"1", "60"),
            lambda: client._deletetouch([b"DELETED"], "delete", "a", "60"),
        ):
            with pytest.raises(TypeError, match=r"\btime\b"):
                call()
        assert server.received == b""


# set_multi


def test_set_multi_with_a_too_large_value_stores_the_others(server):
    client = memcache.Client([server.address], server_max_value_length=10)
    mapping = {"a": "1", "large": "x" * 11, "b": "2", "larger": b"x" * 5000}
    assert client.set_multi(mapping) == ["large", "larger"]
    assert client.get_multi(mapping) == {"a": "1", "b": "2"}
    assert alive(client)
    assert client.set_multi({"large": "x" * 11}) == ["large"]
    assert alive(client)


def test_set_multi_with_a_value_too_large_for_the_server(server):
    client = memcache.Client([server.address], server_max_value_length=0)
    assert client.set_multi({"a": "1", "large": "x" * 3_000_000, "b": "2"}) == ["large"]
    assert client.get_multi(["a", "b", "large"]) == {"a": "1", "b": "2"}
    assert alive(client)


@pytest.mark.parametrize("end", [CLOSE, RESET, (b"STOR", CLOSE), b"SERVER_ERROR out of memory\r\n"])
def test_set_multi_returns_every_key_without_a_stored(end):
    with ScriptedServer([b"STORED\r\n", b"NOT_STORED\r\n", b"STORED\r\n", *[end] * 20]) as server:
        client = memcache.Client([server.address])
        keys = ["a", "b", "c", "d", "e"]
        stored = {"a", "c"}
        result = client.set_multi(dict.fromkeys(keys, 1))
        # A reset may overtake replies that were on their way.
        assert result == ["b", "d", "e"] or end == RESET and set(result) >= set(keys) - stored
        assert alive(client)


def test_set_multi_returns_the_keys_of_the_server_that_died(server):
    with ScriptedServer(lambda command, number: STALL) as silent:
        client = memcache.Client([server.address, silent.address], socket_timeout=2)
        mapping = {(number % 2, f"key{number}"): number for number in range(10)}
        assert sorted(client.set_multi(mapping)) == sorted(key for key in mapping if key[0] == 1)


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda c: c.set_multi({"a": 1, "b c": 2}), memcache.Client.MemcachedKeyCharacterError),
        (lambda c: c.set_multi({"a": 1, "k" * 251: 2}), memcache.Client.MemcachedKeyLengthError),
        (lambda c: c.set_multi({"a": 1, None: 2}), memcache.Client.MemcachedKeyNoneError),
        (lambda c: c.set_multi({"a": 1}, key_prefix="p q"), memcache.Client.MemcachedKeyCharacterError),
        (lambda c: c.set_multi({"a": 1}, time="soon"), (TypeError, ValueError)),
        (lambda c: c.get_multi(["a", "b c"]), memcache.Client.MemcachedKeyCharacterError),
        (lambda c: c.delete_multi(["a", "b c"]), memcache.Client.MemcachedKeyCharacterError),
        (lambda c: c.delete_multi(["a"], time="soon"), (TypeError, ValueError)),
        (lambda c: c.incr("a", -1), (TypeError, ValueError)),
        (lambda c: c.set("a", 1, time="soon"), (TypeError, ValueError)),
    ],
)
def test_keys_time_delta_and_prefix_are_checked_first_whatever_the_servers_state(call, error):
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        with pytest.raises(error):
            call(client)
        assert server.received == b""
        client.servers[0].mark_dead("test")
        with pytest.raises(error):
            call(client)
        with pytest.raises(error):
            call(memcache.Client([]))


def test_set_multi_of_a_value_that_cannot_be_pickled_raises_and_leaves_no_reply_behind(client):
    for mapping in ({"a": 1, "b": threading.Lock()}, {"b": threading.Lock(), "a": 1}):
        with pytest.raises((TypeError, pickle.PicklingError)):
            client.set_multi(mapping)
        assert client.set("c", "c") is True
        assert client.get("c") == "c"
        assert client.delete("missing") == 0
        assert alive(client)


# delete_multi


def test_delete_multi_with_no_server_is_0(client):
    assert memcache.Client([]).delete_multi(["a"]) == 0
    client.servers[0].mark_dead("test")
    assert client.delete_multi(["a"]) == 0


def test_delete_multi_on_a_closed_connection_is_0():
    with ScriptedServer(lambda command, number: CLOSE) as server:
        assert memcache.Client([server.address]).delete_multi(["a", "b"]) == 0


def test_delete_multi_with_a_time_that_the_server_refuses_is_0():
    refusal = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"  # memcached 1.6.18
    with ScriptedServer(lambda command, number: refusal) as server:
        client = memcache.Client([server.address])
        assert client.delete_multi(["a", "b"], time=100) == 0
        assert client.delete_multi(["a", "b"], time=100) == 0
        assert alive(client)
        assert len(server.connections) == 1


# get_slabs, get_stats("reset")


def test_get_slabs(client, server):
    client.set("a", "1")
    ((name, slabs),) = client.get_slabs()
    assert name == f"{server.address} (1)"
    assert slabs
    for number, items in slabs.items():
        assert number.isdigit()
        assert {type(text) for text in [*items, *items.values()]} == {str}
        assert int(items["number"]) >= 1


@pytest.mark.parametrize("argument", ["reset", "detail on", "detail off", "no such thing"])
def test_get_stats_with_an_answer_that_is_no_list(client, server, argument):
    assert client.get_stats(argument) == [(f"{server.address} (1)", {})]
    assert client.set("a", "1") and client.get("a") == "1"


# key_encoder in the _multi calls


def test_the_key_encoder_is_called_once_for_each_key_and_results_carry_the_callers_keys(server):
    seen = []

    def encoder(key):
        seen.append(key)
        return f"<{key}>"

    client = memcache.Client([server.address], key_encoder=encoder)
    keys = ["a", 7, (1, "c")]
    assert client.set_multi(dict(zip(keys, "123", strict=True)), key_prefix="p:") == []
    assert seen == ["a", 7, "c"]
    assert raw(server, b"get p:<a> p:<7> p:<c>\r\n", b"END\r\n").count(b"VALUE p:<") == 3
    seen.clear()
    assert client.get_multi([*keys, "missing"], key_prefix="p:") == {"a": "1", 7: "2", (1, "c"): "3"}
    assert seen == ["a", 7, "c", "missing"]
    seen.clear()
    assert client.delete_multi(keys, key_prefix="p:") == 1
    assert seen == ["a", 7, "c"]
    assert client.get_multi(keys, key_prefix="p:") == {}
    client.server_max_value_length = 1
    assert client.set_multi({"a": "too large"}, key_prefix="p:") == ["a"]


# get(key, default) with no server


def test_get_with_no_server_gives_the_default(client):
    assert memcache.Client([]).get("a", "default") == "default"
    client.servers[0].mark_dead("test")
    assert client.get("a", default=5) == 5


# an empty key


@pytest.mark.parametrize("name", KEY_CALLS)
@pytest.mark.parametrize("key", ["", b"", (1, "")])
def test_an_empty_key_is_the_none_error(name, key):
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        with pytest.raises(client.MemcachedKeyNoneError):
            KEY_CALLS[name](client, key)
        assert server.received == b""


@pytest.mark.parametrize("key", ["", b"", (1, "")])
def test_an_empty_key_with_a_prefix_works(client, key):
    assert client.set_multi({key: 5}, key_prefix="prefix") == []
    assert client.get("prefix") == 5
    assert client.get_multi([key], key_prefix="prefix") == {key: 5}
    assert client.delete_multi([key], key_prefix="prefix") == 1
    assert client.get("prefix") is None


# cas of a tuple without a token


def test_cas_of_a_tuple_without_a_token_stores_on_the_tuples_server(server):
    with memcached("-t", "1", unix=True) as other:
        client = memcache.Client([server.address, other.address], cache_cas=True)
        for number, host in enumerate(client.servers):
            assert client.cas((number, "a"), number) is True
            assert memcache.Client([f"unix:{host.address}"]).get("a") == number
            assert client.get((number, "a")) == number
        assert client.stats == {"cas": 2, "set": 2, "get": 2}


# one dead server of two


def buckets_probed(key, count):
    """The buckets that the ten probes for a key come to."""
    found = []
    number = memcache.cmemcache_hash(key)
    for i in range(10):
        found.append(number % count)
        number = memcache.cmemcache_hash(f"{number}{i}".encode())
    return found


def test_with_one_dead_server_of_two_every_key_finds_the_other(client, server):
    unlucky = [key for key in (b"%d" % number for number in range(20000)) if set(buckets_probed(key, 2)) == {0}]
    assert unlucky
    two = memcache.Client(["unix:/nowhere/at/all", server.address])
    for key in unlucky:
        assert two.set(key, key) is True
        assert two._get_server(key)[0] is two.servers[1]
    assert two.get_multi(unlucky) == client.get_multi(unlucky) == {key: key for key in unlucky}


def test_after_the_ten_probes_the_live_servers_come_in_order():
    with ScriptedServer(echo) as first, ScriptedServer(echo) as second:
        client = memcache.Client([("unix:/nowhere/at/all", 200), first.address, second.address])
        keys = (b"%d" % number for number in range(1000))
        key = next(key for key in keys if max(buckets_probed(key, 202)) < 200)
        assert client.get(key) == key
        assert first.commands and not second.commands


# addresses


@pytest.fixture(scope="module")
def ipv6_server():
    with memcached("-l", "::1") as server:
        yield server


@pytest.mark.parametrize("form", ["[::1]:{}", "inet6:[::1]:{}"])
def test_an_ipv6_address_in_brackets(ipv6_server, form):
    client = memcache.Client([form.format(ipv6_server.port)])
    assert client.set("a", 1) is True
    host = client.servers[0]
    assert (host.family, host.ip, host.port) == (socket.AF_INET6, "::1", ipv6_server.port)
    assert host.address == ("::1", ipv6_server.port)
    assert client.get_stats()[0][0] == f"[::1]:{ipv6_server.port} (1)"


def test_a_path_is_a_unix_socket(server):
    client = memcache.Client([server.path])
    assert client.set("a", 1) is True
    assert (client.servers[0].family, client.servers[0].address) == (socket.AF_UNIX, server.path)


@pytest.mark.parametrize(
    "server, words",
    [
        ("127.0.0.1:11211:1", r'a weight stands beside it, as in \("127\.0\.0\.1:11211", 1\)'),
        ("[::1]:11211:1", "a weight stands beside it"),
        (("cache.example:11211:5", 5), "a weight stands beside it"),
        ("memcached://127.0.0.1:11211", r'it is a URL; write host and port alone: "127\.0\.0\.1:11211"'),
        ("tcp://[::1]:11211", "it is a URL"),
    ],
)
def test_a_weight_behind_the_port_and_a_url_are_told_what_to_write(server, words):
    """Other clients take them so; python-memcached refuses them and does not say why."""
    for make in (
        lambda: memcache.Client([server]),
        lambda: memcache.Client([]).set_servers(["127.0.0.1", server]),
        lambda: memcache._Host(server),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            make()
        assert "brackets" not in str(caught.value)
        assert (server[0] if isinstance(server, tuple) else server) in str(caught.value)


def test_every_address_of_a_name_is_tried(ipv6_server):
    """localhost is 127.0.0.1 everywhere and ::1 on most machines: a server on either is found."""
    with memcached() as server:
        assert memcache.Client([f"localhost:{server.port}"]).set("a", 1) is True
    if "::1" in {found[4][0] for found in socket.getaddrinfo("localhost", None)}:
        client = memcache.Client([f"localhost:{ipv6_server.port}"])
        assert client.set("a", 1) is True
        assert client.servers[0].family == socket.AF_INET


RESOLVER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    char address[64] = "";
    if (node && !strcmp(node, "moving.test")) {
        FILE *file = fopen(getenv("MOVING_ADDRESS"), "r");
        if (!file || !fgets(address, sizeof address, file))
            return EAI_NONAME;
        fclose(file);
        node = address;
    }
    return real(node, service, hints, result);
}
"""
MOVING = r"""
import memcache, os, sys
port, old, new = int(sys.argv[1]), *sys.argv[2:]
def move(address):
    with open(os.environ["MOVING_ADDRESS"], "w") as file:
        file.write(address)
move(old)
client = memcache.Client([f"moving.test:{port}"], dead_retry=0, socket_timeout=5)
print(client.get("where"))
move(new)
print(client.get("where"))
client.disconnect_all()
print(client.get("where"))
"""


def test_a_name_is_resolved_at_each_connect(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "a C compiler is needed, as it is to build the package"
    library = tmp_path / "resolver.so"
    (tmp_path / "resolver.c").write_text(RESOLVER)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "resolver.c", "-ldl"], check=True)
    with ScriptedServer(lambda c, n: value(b"where", b"old")) as old:
        with ScriptedServer(lambda c, n: value(b"where", b"new"), host="127.0.0.2", port=old.port):
            done = subprocess.run(
                [sys.executable, "-c", MOVING, str(old.port), "127.0.0.1", "127.0.0.2"],
                env={
                    **os.environ,
                    "LD_PRELOAD": ":".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library)])),
                    "MOVING_ADDRESS": str(tmp_path / "address"),
                    "PYTHONPATH": str(Path(memcache.__file__).parent),
                },
                capture_output=True,
                text=True,
                timeout=60,
            )
    assert (done.stdout.split(), done.stderr) == (["b'old'", "b'old'", "b'new'"], "")


# Client("localhost"); an iterator of servers


def test_one_str_is_one_server(server):
    client = memcache.Client(server.address)
    assert client.set("a", 1) is True
    assert [str(host) for host in client.servers] == [server.address]
    assert in_thread(lambda: (len(client.servers), client.get("a"))) == (1, 1)
    (host,) = client.servers
    client.set_servers(server.address)
    client.set_servers([server.address])
    assert client.servers == [host]  # an equal list keeps the hosts
    client.set_servers("127.0.0.1:11212")
    assert [host.address for host in client.servers] == [("127.0.0.1", 11212)]


@pytest.mark.parametrize(
    "servers", ["localhost", "foo", "[::1]:11211", "/run/memcached.sock", type("Text", (str,), {})("foo")]
)
def test_one_str_is_one_server_in_every_form_of_an_address(servers):
    for client in (memcache.Client(servers), memcache.Client(servers, check_keys=False), memcache.Client([])):
        client.set_servers(servers)
        assert [str(host) for host in client.servers] == [str(memcache._Host(servers))]
        assert client.buckets == client.servers


@pytest.mark.parametrize("servers", ["", "h:port", "a:1,b:2", "memcached://h"])
def test_one_str_that_is_no_server_is_told_so(servers, client):
    with pytest.raises(ValueError, match="Unable to parse connection string"):
        memcache.Client(servers)
    (host,) = client.servers
    with pytest.raises(ValueError, match="Unable to parse connection string"):
        client.set_servers(servers)
    assert client.servers == [host]


@pytest.mark.parametrize("servers", [b"localhost", bytearray(b"localhost"), None, 5, [b"localhost"], ("a", 1)])
def test_servers_that_are_neither_a_str_nor_a_list_of_them_raise_type_error(servers):
    with pytest.raises(TypeError, match="server"):
        memcache.Client(servers)
    with pytest.raises(TypeError, match="server"):
        memcache.Client([]).set_servers(servers)


def test_an_iterator_of_servers_is_read_once(server):
    client = memcache.Client(iter([server.address]))
    assert client.set("a", 1) is True
    assert in_thread(lambda: (len(client.servers), client.get("a"))) == (1, 1)
    client.set_servers(one for one in [server.address])
    assert in_thread(lambda: (len(client.servers), client.get("a"))) == (1, 1)


# incr on a value that is no number


@pytest.mark.parametrize("name", ["incr", "decr"])
def test_incr_on_a_value_that_is_no_number_raises_the_servers_words(client, name):
    client.set("a", "text")
    with pytest.raises(ValueError, match="cannot increment or decrement non-numeric value"):
        getattr(client, name)("a")
    assert client.get("a") == "text"
    assert alive(client)


# a set_multi or get_multi larger than the socket buffers


def test_a_batch_larger_than_the_socket_buffers_does_not_block(server):
    client = memcache.Client([server.address], socket_timeout=30)
    mapping = {f"{'k' * 200}{number}": b"v" * 200 for number in range(40000)}
    assert client.set_multi(mapping) == []
    found = client.get_multi(mapping)
    assert len(found) == len(mapping) and found == mapping
    assert client.delete_multi(mapping) == 1
    assert alive(client)
    del mapping, found
    gc.collect()


# a dead server


def test_dead_marks_are_shared_by_a_clients_threads():
    with memcached() as server:
        client = memcache.Client([server.address])
        server.stop()
        assert client.get("a") is None
        server.start()
        assert client.get("a") is None
        assert in_thread(client.set, "a", 1) == 0
        assert in_thread(lambda: client.servers[0].deaduntil) > time.time()
        in_thread(client.forget_dead_hosts)
        assert client.set("a", 1) is True


# attributes assigned, set_servers

ASSIGNED = {
    "debug": 1,
    "dead_retry": 7,
    "socket_timeout": 9,
    "flush_on_reconnect": 1,
    "cache_cas": True,
    "persistent_load": len,
    "persistent_id": len,
    "pickleProtocol": 2,
    "pickler": pickle._Pickler,
    "unpickler": pickle._Unpickler,
    "picklerIsKeyword": False,
    "compressor": len,
    "decompressor": len,
    "do_check_key": False,
    "key_encoder": str.lower,
    "server_max_key_length": 10,
    "server_max_value_length": 10,
}


@pytest.mark.parametrize("name", ASSIGNED)
def test_an_attribute_assigned_in_one_thread_is_seen_by_all(client, name):
    assert in_thread(client.get, "a") is None
    setattr(client, name, ASSIGNED[name])
    assert getattr(client, name) == ASSIGNED[name]
    assert in_thread(getattr, client, name) == ASSIGNED[name]
    in_thread(setattr, client, name, getattr(memcache.Client([]), name))
    assert getattr(client, name) != ASSIGNED[name]


def test_an_assigned_attribute_acts_on_the_next_call_of_every_thread(client, capsys):
    first, go, second = threading.Event(), threading.Event(), []

    def other():
        second.append(client.set("a", "x" * 100))
        first.set()
        assert go.wait(30)
        second.append(client.set("a", "x" * 100))
        second.append(client.delete("missing"))

    thread = threading.Thread(target=other)
    thread.start()
    assert first.wait(30)
    client.server_max_value_length = 10
    client.debug = 1
    go.set()
    thread.join(30)
    assert second == [True, 0, 0]
    assert capsys.readouterr().err == "MemCached: delete expected DELETED, got: b'NOT_FOUND'\n"


def test_an_assigned_socket_timeout_acts_on_the_next_call():
    with ScriptedServer(lambda command, number: STALL if command == b"get b\r\n" else None) as server:
        client = memcache.Client([server.address], socket_timeout=300)
        client.get("a")
        client.socket_timeout = 0.2
        assert client.get("b") is None
        assert not alive(client)


def test_set_servers_acts_for_every_thread(server):
    with ScriptedServer(echo) as other:
        client = memcache.Client([server.address])
        client.set("a", "real")
        results, step = [], threading.Barrier(2, timeout=30)

        def thread():
            results.append(client.get("a"))
            step.wait()
            step.wait()
            results.append(client.get("a"))

        worker = threading.Thread(target=thread)
        worker.start()
        step.wait()
        client.set_servers([other.address])
        step.wait()
        worker.join(30)
        assert results == ["real", b"a"]
        assert len(client.servers) == len(client.buckets) == 1


# disconnect_all, quit_all


@pytest.mark.parametrize("name", ["disconnect_all", "quit_all"])
def test_idle_connections_of_every_thread_are_closed(name):
    together = threading.Barrier(3, timeout=30)

    def script(command, number):
        if command.startswith(b"get"):
            together.wait()
        return echo(command, number)

    with ScriptedServer(script) as server:
        client = memcache.Client([server.address], socket_timeout=30)
        threads = [threading.Thread(target=client.get, args=(f"k{n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(server.connections) == 3
        assert getattr(client, name)() is None
        server.wait_for(lambda s: all(one.closed.is_set() for one in s.connections))
        quits = [one.commands[-1] == b"quit\r\n" for one in server.connections]
        assert quits == [name == "quit_all"] * 3
        together = threading.Barrier(1)
        assert client.get("again") == b"again"
        assert len(server.connections) == 4


@pytest.mark.parametrize("name", ["disconnect_all", "quit_all"])
def test_a_connection_in_another_threads_call_is_closed_when_that_call_ends(name):
    asked, answer = threading.Event(), threading.Event()

    def script(command, number):
        if command == b"get slow\r\n":
            asked.set()
            assert answer.wait(30)
        return echo(command, number)

    with ScriptedServer(script) as server:
        client = memcache.Client([server.address], socket_timeout=30)
        results = []
        thread = threading.Thread(target=lambda: results.append(client.get("slow")))
        thread.start()
        assert asked.wait(30)
        assert getattr(client, name)() is None
        answer.set()
        thread.join(60)
        assert results == [b"slow"]
        server.wait_for(lambda s: s.connections[0].closed.is_set())
        assert client.get("next") == b"next"
        assert len(server.connections) == 2


@pytest.mark.parametrize("name", ["disconnect_all", "quit_all"])
def test_disconnecting_clears_no_dead_mark_and_never_raises(name):
    with ScriptedServer(echo) as server:
        client = memcache.Client([server.address])
        client.get("a")
        server.close_connection()
        assert getattr(client, name)() is None
        client.servers[0].mark_dead("test")
        until = client.servers[0].deaduntil
        assert getattr(client, name)() is None
        assert client.servers[0].deaduntil == until > time.time()
        assert client.get("a") is None


# max_value_length


def test_a_value_larger_than_max_value_length_after_decompression_does_not_decode(server, capsys):
    client = memcache.Client([server.address], max_value_length=1000, debug=1)
    store(server, b"bomb", 8, zlib.compress(b"x" * 1001))
    store(server, b"fits", 8, zlib.compress(b"x" * 1000))
    store(server, b"text", 8 | 16, zlib.compress(b"x" * 100_000_000)[:900_000])
    assert client.get("bomb", "default") is None
    assert client.get("text") is None
    assert client.get_multi(["bomb", "fits"]) == {"bomb": None, "fits": b"x" * 1000}
    assert client.get("fits") == b"x" * 1000
    assert capsys.readouterr().err
    assert alive(client)


def test_set_refuses_what_the_client_could_not_read_back():
    with ScriptedServer() as server:
        client = memcache.Client([server.address], max_value_length=1000, server_max_value_length=0)
        assert client.set("a", b"x" * 1001) == 0
        assert client.set("a", b"x" * 1001, min_compress_len=1) == 0
        assert client.set_multi({"a": b"x" * 1001}) == ["a"]
        assert server.commands == []
        assert client.set("a", b"x" * 1000) is True


# a thread for each request


def test_connections_follow_concurrency_not_threads():
    with ScriptedServer(echo) as server:
        client = memcache.Client([server.address])
        for number in range(50):
            assert in_thread(client.get, f"k{number}") == b"k%d" % number
        assert len(server.connections) == 1


# The options that python-memcached does not have


def test_without_allow_pickle_no_pickle_is_made_or_read(server, capsys):
    client = memcache.Client([server.address], allow_pickle=False, debug=1)
    opened = memcache.Client([server.address])
    for refused in (None, 1.5, True, [1], {"a": 1}):
        with pytest.raises(TypeError):
            client.set("a", refused)
        with pytest.raises(TypeError):
            client.set_multi({"a": refused})
    assert raw(server, b"get a\r\n", b"END\r\n") == b"END\r\n"
    for taken in ("text", b"bytes", 42):
        assert client.set("a", taken) is True
        assert client.get("a") == taken
    opened.set("a", [1])
    assert client.get("a", "default") is None
    assert client.get_multi(["a"]) == {"a": None}
    assert capsys.readouterr().err
    assert opened.get("a") == [1]


def test_the_connect_timeout_is_the_budget_of_all_connects():
    with ports.listen(backlog=0) as full:
        address = full.getsockname()
        waiting = []
        try:
            for _ in range(8):  # fill the backlog, so that a further connect waits
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(address)
                waiting.append(one)
            client = memcache.Client([f"127.0.0.1:{full.getsockname()[1]}"], socket_timeout=100, connect_timeout=0.2)
            started = time.monotonic()
            assert client.get("a") is None
            assert time.monotonic() - started < 50
            assert client.servers[0].deaduntil > time.time()
        finally:
            for one in waiting:
                one.close()


@pytest.mark.parametrize("options", [{"connect_timeout": "x"}, {"max_value_length": -1}, {"max_value_length": "x"}])
def test_an_option_of_the_wrong_kind_is_refused(options):
    with pytest.raises((TypeError, ValueError)):
        memcache.Client([], **options)
