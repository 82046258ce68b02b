"""A client says its name and password on each new connection before anything else, once; who is not let in leaves the
server alone.

What a server counts itself (total_connections, auth_cmds, auth_errors) is the witness. Where a client replaces an
inside, the same holds: each test runs on both ways of a call.
"""

import contextlib
import gc
import inspect
import os
import pathlib
import signal
import socket
import threading
import time
import warnings
import weakref

import plain_socket
import pytest
import server_contexts
from scripted_server import CLOSE, PATIENCE, RESET, STALL, ScriptedServer
from waits import at_once

import mcext
import memcache
from mcext.testing import memcached

NAME, WORD = "alice", "correct-horse"
PAYLOAD = f"{NAME} {WORD}".encode()
SAID = b"set auth 0 -1 %d\r\n%s\r\n" % (len(PAYLOAD), PAYLOAD)
KNOWN = {"username": NAME, "password": WORD}
plain = pytest.mark.plain


@pytest.fixture(scope="module")
def server():
    with memcached("-t", "1", auth=(NAME, WORD)) as server:  # one thread: it has counted what came before
        yield server


@pytest.fixture
def other():
    with memcached("-t", "1", auth=(NAME, WORD)) as server:  # one thread: it has counted what came before
        yield server


@contextlib.contextmanager
def client_of(*servers, **options):
    client = mcext.Client([getattr(one, "address", one) for one in servers], **{**KNOWN, **options})
    try:
        yield client
    finally:
        client.disconnect_all()


def ask(server, *requests):
    """What the server says to each of these, through a socket of our own on which we are known."""
    with plain_socket.connect(server, 10 * PATIENCE) as stream:
        replies = []
        for request, end in requests:
            stream.sendall(request)
            reply = b""
            while not reply.endswith(end):
                piece = stream.recv(1 << 16)
                assert piece, f"closed after {reply!r}"
                reply += piece
                if reply.startswith(b"BUSY "):  # its crawler is at work for itself
                    time.sleep(0.05)
                    stream.sendall(request)
                    reply = b""
            replies.append(reply)
        return replies


def counted(server, word=WORD):
    """The server's own figures, those of this look left out."""
    said = b"set auth 0 -1 %d\r\n%s %s\r\n" % (len(NAME) + 1 + len(word), NAME.encode(), word.encode())
    _, rows = ask(server, (said, b"\r\n"), (b"stats\r\n", b"END\r\n"))
    found = dict(
        row.split()[1:3] for row in rows.decode().splitlines() if row.startswith("STAT") and row.count(" ") == 2
    )
    counted.looks[server] = looks = counted.looks.get(server, 0) + 1
    return {
        "connections": int(found["total_connections"]) - looks,
        "attempts": int(found["auth_cmds"]) - looks,
        "refused": int(found["auth_errors"]),
    }


counted.looks = {}


class since:
    """The growth of a server's figures."""

    def __init__(self, server, word=WORD):
        self.server, self.word = server, word
        self.before = counted(server, word)

    def __call__(self):
        now = counted(self.server, self.word)
        return {name: now[name] - self.before[name] for name in now}


def rewrite(server, word):
    """The server's file has another password, and the server has read it."""
    (pathlib.Path(server._folder) / "auth").write_text(f"{NAME}:{word}\n")
    os.kill(server.pid, signal.SIGHUP)
    deadline = time.monotonic() + 20 * PATIENCE
    said = b"set auth 0 -1 %d\r\n%s %s\r\n" % (len(NAME) + 1 + len(word), NAME.encode(), word.encode())
    while ask(server, (said, b"\r\n")) != [b"STORED\r\n"]:
        assert time.monotonic() < deadline, "the server has not read its file"


def all_are_closed(server):
    return server.connections and all(one.closed.is_set() for one in server.connections)


def test_the_way_of_calls_is_the_one_that_the_tests_name_says(request):
    """tests/conftest.py gives each test of some files both of them."""
    assert inspect.isfunction(memcache.Client._encode_key) == ("customised" in request.node.name)


# Who is let in


@pytest.mark.parametrize(
    ("username", "password"),
    [
        (NAME, WORD),
        (NAME.encode(), WORD.encode()),
        (NAME, lambda: WORD),
        (NAME, lambda: WORD.encode()),
        (NAME.encode(), type("Word", (str,), {})(WORD)),
    ],
    ids=["str", "bytes", "function of a str", "function of bytes", "a subclass of str"],
)
def test_the_right_ones_get_in(server, username, password):
    grown = since(server)
    with client_of(server, username=username, password=password) as client:
        assert client.set("key", [1, "x"]) and client.get("key") == [1, "x"]
        assert client.get_multi(["key", "none"]) == {"key": [1, "x"]}
    assert grown() == {"connections": 1, "attempts": 1, "refused": 0}


@pytest.mark.parametrize("word", ["co:lon", "pässwörd-€", "x" * 249, "'\"\\%s{}", "\x7f\t\x01"])
def test_a_password_of_any_other_characters_gets_in(word):
    with memcached(unix=True, auth=("alice", "first")) as server:
        path = pathlib.Path(server._folder) / "auth"
        path.write_text(f"alice:{word}\n", encoding="utf-8")
        os.kill(server.pid, signal.SIGHUP)
        said = f"alice {word}".encode()
        request = b"set auth 0 -1 %d\r\n%s\r\n" % (len(said), said)
        while ask(server, (request, b"\r\n")) != [b"STORED\r\n"]:
            time.sleep(0.01)
        with client_of(server, password=word) as client:
            assert client.set("key", "value") and client.get("key") == "value"
        with client_of(server, password=lambda: word.encode()) as client:
            assert client.get("key") == "value"


def test_each_new_connection_says_it_once_and_before_anything_else():
    with ScriptedServer() as server, client_of(server) as client:
        for _ in range(3):
            assert client.get("key") is None and client.set("key", 1)
            client.disconnect_all()
        # A client that replaces something stores as python-memcached does: a space before the end of the line.
        sent = [[command.replace(b" \r\n", b"\r\n") for command in one.commands] for one in server.connections]
        assert sent == [[SAID, b"get key\r\n", b"set key 2 0 1\r\n1\r\n"]] * 3


def test_nothing_is_sent_before_the_answer():
    arrived = threading.Event()

    def script(command, number):
        if command == SAID:
            arrived.set()
            return STALL
        return None

    with ScriptedServer(script) as server, client_of(server, socket_timeout=PATIENCE) as client:
        assert client.get("key") is None
        assert arrived.wait(10 * PATIENCE) and server.received == SAID


def test_behind_a_disconnect_it_is_said_again(server):
    with client_of(server) as client:
        assert client.set("key", "value")
        grown = since(server)
        client.disconnect_all()
        assert client.get("key") == "value"
        assert grown() == {"connections": 1, "attempts": 1, "refused": 0}


def test_a_server_that_comes_back_is_told_again(other):
    with client_of(other, dead_retry=0) as client:
        assert client.set("key", 1)
        other.restart()
        assert client.get("key") is None and client.set("key", 2) and client.get("key") == 2


def test_without_a_name_nothing_is_said():
    with ScriptedServer() as server, client_of(server, username=None, password=None) as client:
        client.get("key")
        assert server.received == b"get key\r\n"


def test_several_servers_in_calls_for_many_keys(server, other):
    third = memcached(unix=True, auth=(NAME, WORD))
    with third, client_of(server, other, third) as client:
        client.flush_all()
        items = {f"key{n}": n for n in range(300)}
        assert client.set_multi(items) == []
        assert client.get_multi(items) == items
        assert client.delete_multi(items) == 1
        assert client.get_multi(items) == {}
        assert len(client.get_stats()) == 3


def test_an_option_that_is_assigned_is_for_the_next_connections(server):
    with client_of(server, username=None, password=None, dead_retry=0) as client:
        assert client.set("key", 1) == 0
        client.username = NAME
        client.password = WORD
        client.disconnect_all()
        assert client.set("key", 1)
        client.password = lambda: "wrong"
        assert client.get("key") == 1  # a connection that is let in stays so
        client.disconnect_all()
        assert client.get("key") is None
        client.set_servers([server.address.replace("127.0.0.1", "localhost")])
        client.password = WORD
        assert client.get("key") == 1
        client.username = None
        client.password = None
        client.disconnect_all()
        assert client.get("key") is None


def test_servers_that_are_set_later_are_told(server):
    with client_of("127.0.0.1:1") as client:
        client.set_servers([server.address])
        assert client.set("key", 1) and client.get("key") == 1


def test_one_clients_password_can_be_handed_to_another(server):
    with client_of(server) as one, client_of(server, username=one.username, password=one.password) as two:
        assert two.set("key", 1) and one.get("key") == 1


# Who is not


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "bob"}, {"password": lambda: b"wrong"}])
def test_who_is_refused_leaves_the_server_alone(server, wrong, capsys):
    grown = since(server)
    with client_of(server, debug=1, **wrong) as client:
        for _ in range(10):
            assert client.get("key", "default") == "default"
            assert client.set("key", 1) == 0
            assert client.get_multi(["a", "b"]) == {}
        assert client.set_multi({"a": 1, "b": 2}) == ["a", "b"]
        assert client.get_stats() == []
    assert grown() == {"connections": 1, "attempts": 1, "refused": 1}
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"MemCached: MemCache: inet:{server.address}: connect: the server does not take the username and the password."
        "  Marking dead."
    )


def test_it_is_tried_again_behind_the_dead_mark(server):
    words = ["wrong", WORD]
    with client_of(server, password=lambda: words.pop(0), dead_retry=30) as client:
        assert client.set("key", 1) == 0 and client.servers[0].deaduntil > time.time()
        client.forget_dead_hosts()
        assert client.set("key", 1) and client.get("key") == 1
    assert words == []


def takes_its_time():
    time.sleep(0.05)
    return "wrong"


@pytest.mark.parametrize("password", ["wrong", takes_its_time])
@pytest.mark.parametrize("dead_retry", [0, 1e-9])
def test_it_is_not_tried_twice_in_a_call(server, other, dead_retry, password):
    """Also where the second server's password, or the look-up of its name, took longer than the first one's refusal."""
    once = [{"connections": 1, "attempts": 1, "refused": 1}] * 2
    with client_of(server, other, password=password, dead_retry=dead_retry) as client:
        grown = since(server), since(other)
        assert client.get("key") is None
        assert [one() for one in grown] == once
        assert client.get_multi([f"key{n}" for n in range(50)]) == {}
        assert client.set_multi({f"key{n}": n for n in range(50)})


@plain
def test_nor_is_it_in_a_call_for_many_keys(server, other):
    with client_of(server, other, password=takes_its_time, dead_retry=0) as client:
        for call in (client.get_multi, client.delete_multi, lambda keys: client.set_multi(dict.fromkeys(keys))):
            grown = since(server), since(other)
            call([f"key{n}" for n in range(50)])
            assert [one() for one in grown] == [{"connections": 1, "attempts": 1, "refused": 1}] * 2


def test_the_keys_of_a_server_that_refuses_go_where_those_of_a_dead_one_go(server, other):
    rewrite(other, "another")
    with client_of(server, other) as client:
        items = {f"key{n}": n for n in range(50)}
        assert client.set_multi(items) == [] and client.get_multi(items) == items
        assert [host.deaduntil > 0 for host in client.servers] == [False, True]


REFUSALS = {
    "an error": b"ERROR\r\n",
    "an unknown command": b"ERROR unknown command: set auth alice correct-horse\r\n",
    "a server error": b"SERVER_ERROR out of memory storing object\r\n",
    "a client error": b"CLIENT_ERROR bad data chunk\r\n",
    "not stored": b"NOT_STORED\r\n",
    "exists": b"EXISTS\r\n",
    "two lines": b"STORED\r\nSTORED\r\n",
    "two lines and a value": b"STORED\r\nVALUE key 0 1\r\nx\r\nEND\r\n",
    "a byte too many": b"STORED\r\n\0",
    "a value": b"VALUE auth 0 1\r\nx\r\nEND\r\n",
    "a number": b"1\r\n",
    "an empty line": b"\r\n",
    "a line without CR": b"STORED\n",
    "NUL": b"STORED\0\r\n",
    "small letters": b"stored\r\n",
    "a space": b"STORED \r\n",
    "an echo": SAID,
    "no end of line": b"S" * 20000,
    "a flood": b"STORED\r\n" * 100000,
    "binary": bytes(range(256)) * 10,
    "a meta answer": b"HD\r\n",
    "end": b"END\r\n",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_any_other_answer_is_a_refusal(name, capsys):
    def script(command, number):
        return (REFUSALS[name], STALL) if command.startswith(b"set auth ") else b"VALUE key 0 4\r\nevil\r\nEND\r\n"

    with ScriptedServer(script) as server, client_of(server, debug=1) as client:
        assert client.get("key") is None and client.get_multi(["key"]) == {}
        assert client.servers[0].deaduntil > 0
        server.wait_for(all_are_closed)
        assert server.received == SAID and len(server.connections) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "connect: " in line and line.endswith("Marking dead.")
    assert NAME not in line and WORD not in line


LOSSES = {
    "closed": ((CLOSE,), "connection closed in readline()"),
    "closed in the middle": ((b"STOR", CLOSE), "connection closed in readline()"),
    "reset": ((RESET,), ""),
    "late": ((STALL,), "timed out"),
    "half of it": ((b"STORED\r", STALL), "timed out"),
    "a trickle": ((b"S", STALL), "timed out"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_stream_that_ends_or_stops_in_it_is_a_failed_connect(name, capsys):
    answer, words = LOSSES[name]
    with (
        ScriptedServer(lambda command, number: answer) as server,
        client_of(server, debug=1, socket_timeout=None, connect_timeout=PATIENCE) as client,
    ):
        assert client.get("key") is None and client.set("key", 1) == 0
        server.wait_for(all_are_closed)
        assert server.received == SAID and len(server.connections) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"connect: {words}" in line and NAME not in line.split("connect:")[1]


def test_the_answer_may_come_byte_by_byte():
    class Bytewise(ScriptedServer):
        def _answer(self, command, number):
            answer = super()._answer(command, number)
            return tuple(answer[i : i + 1] for i in range(len(answer))) if command == SAID else answer

    with Bytewise([b"STORED\r\n", b"VALUE key 0 1\r\nx\r\nEND\r\n"]) as server, client_of(server) as client:
        assert client.get("key") == b"x"
        assert server.received == SAID + b"get key\r\n"


@pytest.mark.parametrize("cut", range(len(b"STORED\r\n")))
def test_an_answer_cut_at_any_byte_is_a_failed_connect(cut):
    script = lambda command, number: (b"STORED\r\n"[:cut], CLOSE)  # noqa: E731
    with ScriptedServer(script) as server, client_of(server) as client:
        assert client.get("key") is None and server.received == SAID
        assert client.servers[0].deaduntil > 0


def test_the_connect_budget_holds_for_it_and_the_calls_time_begins_behind_it():
    """A slow answer takes nothing of the time of the call itself."""
    released = threading.Event()

    def script(command, number):
        if command == SAID:
            released.wait(2.5 * PATIENCE)
            return b"STORED\r\n"
        return b"VALUE key 0 1\r\nx\r\nEND\r\n"

    with (
        ScriptedServer(script) as server,
        client_of(server, socket_timeout=2 * PATIENCE, connect_timeout=20 * PATIENCE) as client,
    ):
        assert client.get("key") == b"x"


def test_a_server_that_asks_for_it_later_is_closed_and_not_believed():
    refusal = b"CLIENT_ERROR unauthenticated\r\n"

    def script(command, number):
        return refusal if command != SAID and number == 0 else None

    calls = {
        "get": (lambda mc: mc.get("key"), None),
        "get_multi": (lambda mc: mc.get_multi([f"key{n}" for n in range(2500)]), {}),
        "set": (lambda mc: mc.set("key", 1), 0),
        "set_multi": (lambda mc: len(mc.set_multi({f"key{n}": n for n in range(50)})), 50),
        "delete": (lambda mc: mc.delete("key"), 0),
        "delete_multi": (lambda mc: mc.delete_multi([f"key{n}" for n in range(50)]), 0),
        "touch": (lambda mc: mc.touch("key"), 0),
        "get_stats": (lambda mc: [rows for _, rows in mc.get_stats()], [{}]),
        "behind noreply": (lambda mc: [mc.set("key", 1, noreply=True), mc.get("key")][1], None),
    }

    def one(name):
        call, answer = calls[name]
        with ScriptedServer(script) as server, client_of(server, socket_timeout=20 * PATIENCE) as client:
            began = time.monotonic()
            assert call(client) == answer, name
            assert time.monotonic() - began < 15 * PATIENCE, name  # it did not wait for more of them
            server.wait_for(lambda s: s.connections[0].closed.is_set())
            assert client.servers[0].deaduntil == 0
            assert client.set("key", 1) and server.connections[1].commands[0] == SAID

    at_once(one, calls)


def test_incr_raises_the_servers_words_as_behind_any_client_error():
    with ScriptedServer([b"STORED\r\n", b"CLIENT_ERROR unauthenticated\r\n"]) as server, client_of(server) as client:
        with pytest.raises(ValueError, match="unauthenticated"):
            client.incr("key")


def test_a_real_server_that_was_told_nothing_costs_no_time(other):
    with client_of(other, username=None, password=None, socket_timeout=30 * PATIENCE) as client:
        began = time.monotonic()
        assert client.get_multi([f"key{n}" for n in range(100)]) == {}
        assert client.delete_multi([f"key{n}" for n in range(100)]) == 0
        assert client.set_multi({f"key{n}": n for n in range(100)})
        client.set("key", 1, noreply=True)
        assert client.get("key") is None
        assert time.monotonic() - began < 20 * PATIENCE
        assert client.servers[0].deaduntil == 0


# The function


def test_a_password_that_is_changed_on_the_server_is_asked_for_at_the_next_connect(other):
    asked = []
    words = [WORD]

    def password():
        asked.append(words[-1])
        return words[-1]

    with client_of(other, password=password) as client:
        assert client.set("key", 1) and client.get("key") == 1
        words.append("battery-staple")
        rewrite(other, words[-1])
        assert client.get("key") == 1 and asked == [WORD]  # who is in stays in
        client.disconnect_all()
        assert client.get("key") == 1 and asked == words
        words.append("one-more")
        rewrite(other, words[-1])
        words.pop()
        client.disconnect_all()
        assert client.get("key") is None and client.servers[0].deaduntil > 0
        words.append("one-more")
        client.forget_dead_hosts()
        assert client.get("key") == 1
    assert counted(other, "one-more")["refused"] >= 1


WRONG_ANSWERS = {
    "None": (lambda: None, "TypeError: password() must return str or bytes, not NoneType"),
    "a number": (lambda: 5, "TypeError: password() must return str or bytes, not int"),
    "a bytearray": (lambda: bytearray(b"x"), "TypeError: password() must return str or bytes, not bytearray"),
    "empty": (lambda: "", "ValueError: password must not be empty"),
    "a newline": (lambda: "a\nb", "ValueError: password must not hold a newline, a carriage return or NUL"),
    "an injection": (lambda: "x\r\nflush_all", "ValueError: password must not hold a newline"),
    "NUL": (lambda: b"a\0", "ValueError: password must not hold a newline, a carriage return or NUL"),
    "too long": (lambda: "x" * 250, "ValueError: username and password must not be longer than 254 bytes together"),
    "far too long": (lambda: "x" * 10**6, "ValueError: username and password must not be longer than 254"),
    "no text": (lambda: "\udcff", "ValueError: password must be text that UTF-8 has"),
    "an exception": (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    "an OSError": (lambda: open("/nowhere/at/all"), "FileNotFoundError: "),
    "an endless recursion": (lambda: WRONG_ANSWERS["an endless recursion"][0](), "RecursionError: "),
}


@pytest.mark.parametrize("name", WRONG_ANSWERS)
def test_a_function_that_gives_none_is_a_failed_connect(name, capsys):
    password, words = WRONG_ANSWERS[name]
    with ScriptedServer() as server, client_of(server, debug=1, password=password) as client:
        assert client.get("key") is None and client.set("key", 1) == 0
        server.wait_for(all_are_closed)
        assert server.received == b"" and len(server.connections) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"connect: the password cannot be had: {words}" in line and line.endswith("Marking dead.")


def test_an_exception_that_cannot_say_what_it_is_is_named(capsys):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    def password():
        raise Mute

    with ScriptedServer() as server, client_of(server, debug=1, password=password) as client:
        assert client.get("key") is None
    assert "the password cannot be had: " in (line := capsys.readouterr().err) and "Mute.  Marking dead" in line


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
def test_what_is_no_failure_of_it_goes_to_the_caller(kind):
    def password():
        if kind:
            raise kind
        return WORD

    with ScriptedServer() as server, client_of(server, password=password) as client:
        for _ in range(2):
            with pytest.raises(kind):
                client.get("key")
        assert server.received == b"" and client.servers[0].deaduntil == 0
        kind = None
        assert client.set("key", 1) and server.connections[-1].commands[0] == SAID
        server.wait_for(lambda s: all(one.closed.is_set() for one in s.connections[:-1]))


def test_the_function_may_use_another_client_and_take_its_time(server):
    with client_of(server) as keeper:
        assert keeper.set("word", WORD)

        def password():
            time.sleep(2.1 * PATIENCE)
            return keeper.get("word")

        with client_of(server, password=password, socket_timeout=2 * PATIENCE) as client:
            assert client.set("key", 1) and client.get("key") == 1


def test_a_function_that_asks_the_client_it_is_for_is_a_failed_connect():
    with ScriptedServer() as server:
        with client_of(server, password=lambda: client.get("word")) as client:
            assert client.get("key") is None
            assert b"get" not in server.received
            client.forget_dead_hosts()


def test_no_lock_is_held_while_the_function_runs(server):
    """Other threads call, connect, and close while one waits for its password."""
    waits, goes_on = threading.Event(), threading.Event()
    slow = threading.local()

    def password():
        if getattr(slow, "is_here", False):
            waits.set()
            assert goes_on.wait(20 * PATIENCE)
        return WORD

    with client_of(server, password=password) as client:
        got = []

        def wait():
            slow.is_here = True
            got.append(client.set("slow", 1))

        thread = threading.Thread(target=wait)
        thread.start()
        assert waits.wait(20 * PATIENCE)
        for _ in range(3):
            assert client.set("key", 1) and client.get("key") == 1
            client.disconnect_all()
        client.socket_timeout = 5
        client.set_servers([server.address, server.address])
        goes_on.set()
        thread.join(20 * PATIENCE)
        assert got == [True]


def test_a_function_that_forks_leaves_each_process_a_connection_of_its_own(server):
    parent, children = os.getpid(), []

    def password():
        if not children:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                children.append(os.fork())
        return WORD

    with client_of(server, password=password) as client:
        stored = client.set("key", "value")
        if os.getpid() != parent:
            os._exit(0 if stored and client.set("child", 1) else 1)
        assert stored and os.waitpid(children[0], 0)[1] == 0
        assert client.get("child") == 1 and client.get("key") == "value"


def test_a_client_and_the_function_that_knows_it_end_together():
    class Vault:
        def __init__(self):
            self.client = mcext.Client(["127.0.0.1:1"], username=NAME, password=self.word)

        def word(self):
            return WORD

    vault = Vault()
    assert vault.client.get("key") is None
    ended = weakref.ref(vault)
    del vault
    gc.collect()
    assert ended() is None


# Threads, forks


def test_threads_each_connection_of_which_is_told_once(server, way_of_calls):
    """On the way in Python one that was made while another thread disconnects is closed before."""
    grown = since(server)
    errors = []
    with client_of(server) as client:
        barrier = threading.Barrier(8)

        def work(number):
            try:
                barrier.wait()
                for turn in range(50):
                    assert client.set(f"t{number}", turn) and client.get(f"t{number}") == turn
                    if turn % 10 == 9:
                        client.disconnect_all()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    figures = grown()
    assert figures["refused"] == 0 and 8 <= figures["attempts"] <= figures["connections"]
    assert way_of_calls or figures["attempts"] == figures["connections"]


def test_the_child_of_a_fork_says_it_on_its_own_connection(server):
    with client_of(server) as client:
        assert client.set("key", "value")
        grown = since(server)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os._exit(0 if client.get("key") == "value" and client.set("child", 1) else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert client.get("key") == "value"
        assert grown() == {"connections": 1, "attempts": 1, "refused": 0}


@plain
@pytest.mark.parametrize("wait_in", [SAID, b"flush_all\r\n"])
def test_a_signal_handler_that_forks_in_its_middle_leaves_each_process_a_connection(wait_in):
    parent, children, forked = os.getpid(), [], threading.Event()

    def script(command, number):
        if command == wait_in and number == 0:
            # Again and again: one that comes between the send and the poll does not wake the poll.
            for _ in range(200 * PATIENCE):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
                if forked.wait(0.1):
                    break
            assert forked.is_set()
        return b"VALUE key 0 1\r\nx\r\nEND\r\n" if command == b"get key\r\n" else None

    def fork(*unused):
        if not children:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                children.append(os.fork())
            forked.set()

    with ScriptedServer(script) as server, client_of(server, flush_on_reconnect=1) as client:
        client.servers[0].flush_on_next_connect = 1
        before = signal.signal(signal.SIGUSR1, fork)
        try:
            found = client.get("key")
            if os.getpid() != parent:
                os._exit(0 if found == b"x" and client.servers[0].deaduntil == 0 else 1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert found == b"x" and os.waitpid(children[0], 0)[1] == 0
        assert [one.commands[:2] for one in server.connections] == [[SAID, b"flush_all\r\n"]] * 2


# A server that knows of no authentication


@pytest.mark.parametrize("unix", [False, True])
def test_a_server_without_authentication_keeps_nothing_of_it(unix):
    with memcached(unix=unix) as server, client_of(server) as client:
        assert client.set("key", "value") and client.get("key") == "value"
        assert client.get("auth") is None
        found, listed = ask(server, (b"get auth\r\n", b"END\r\n"), (b"lru_crawler metadump all\r\n", b"END\r\n"))
        words = [line.split()[0] for line in listed.splitlines()]
        assert found == b"END\r\n" and [word for word in words if word != b"OK"] == [b"key=key", b"END"]


# What comes behind it


def test_a_flush_comes_behind_it():
    with ScriptedServer() as server, client_of(server, flush_on_reconnect=1) as client:
        client.servers[0].mark_dead("a test")
        client.forget_dead_hosts()
        assert client.get("key") is None
        assert server.received == SAID + b"flush_all\r\n" + b"get key\r\n"


def test_a_flush_that_is_refused_waits_for_the_next_connection():
    script = [b"STORED\r\n", STALL]
    with ScriptedServer(script) as server, client_of(server, flush_on_reconnect=1, connect_timeout=PATIENCE) as client:
        client.servers[0].mark_dead("a test")
        client.forget_dead_hosts()
        assert client.get("key") is None and client.servers[0].deaduntil > 0
        client.forget_dead_hosts()
        client.connect_timeout = 20 * PATIENCE
        assert client.set("key", 1)
        assert server.connections[-1].commands[:2] == [SAID, b"flush_all\r\n"]


# In clear


def warned(recorded):
    return [str(one.message) for one in recorded if one.category is RuntimeWarning]


def remote_address():
    """One of this machine's addresses that is not its loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            found = probe.getsockname()[0]
        except OSError:
            found = "127.0.0.1"
    if found.startswith("127."):
        pytest.skip("this machine has its loopback alone")
    return found


def test_in_clear_to_another_machine_it_warns_once():
    address = remote_address()
    with ScriptedServer(host=address, tls=None) as server, ScriptedServer(host=address, tls=None) as second:
        with warnings.catch_warnings(record=True) as recorded, client_of(server, second, tls_context=None) as client:
            warnings.simplefilter("always")
            for _ in range(3):
                client.get_multi([f"key{n}" for n in range(20)])
                client.disconnect_all()
        (text,) = warned(recorded)
        assert text == (
            f"the password goes to {address} in clear: without a tls_context everybody on the way can read it"
        )
        with warnings.catch_warnings(record=True) as recorded, client_of(server, tls_context=None) as client:
            warnings.simplefilter("always")
            client.get("key")
        assert len(warned(recorded)) == 1
        with (
            warnings.catch_warnings(record=True) as recorded,
            client_of(server, username=None, password=None, tls_context=None) as client,
        ):
            warnings.simplefilter("always")
            client.get("key")
        assert warned(recorded) == []


def test_a_warning_that_is_an_error_goes_to_the_caller_and_nothing_is_said():
    with ScriptedServer(host=remote_address(), tls=None) as server, client_of(server, tls_context=None) as client:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RuntimeWarning, match="in clear"):
                client.get("key")
        assert server.received == b"" and client.servers[0].deaduntil == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "unix"])
def test_on_this_machine_it_does_not_warn(host):
    options = {"unix": True} if host == "unix" else {"args": ("-l", host)}
    server = memcached(*options.pop("args", ()), auth=(NAME, WORD), **options)
    with warnings.catch_warnings(record=True) as recorded, server, client_of(server) as client:
        warnings.simplefilter("always")
        assert client.set("key", 1)
    assert warned(recorded) == []


def test_with_a_tls_context_it_does_not_warn():
    """It does not come to the password, for the certificate is not one of that address: but a warning would."""
    with ScriptedServer(host=remote_address(), tls=server_contexts.server()) as server:
        with warnings.catch_warnings(record=True) as recorded:
            warnings.simplefilter("always")
            context = server_contexts.client()
            context.check_hostname = False
            with client_of(server, tls_context=context) as client:
                assert client.set("key", 1)
        assert SAID in server.received and not any("in clear" in text for text in warned(recorded))


# Through TLS


@pytest.mark.parametrize("password", [WORD, lambda: WORD])
def test_through_tls(password):
    with memcached("-t", "1", tls=True, auth=(NAME, WORD)) as server:
        before = told(server)
        with client_of(server, tls_context=server.tls_context, password=password) as client:
            for _ in range(3):
                assert client.set("key", 1) and client.get_multi(["key"]) == {"key": 1}
                client.disconnect_all()
        with client_of(server, tls_context=server.tls_context, password="wrong") as client:
            assert client.set("key", 1) == 0 and client.get("key") is None
            assert client.servers[0].deaduntil > 0
        assert [after - there for after, there in zip(told(server), before)] == [5, 1]


def told(server):
    """How many have said who they are, this question among them, and how many of these it refused."""
    with client_of(server, tls_context=server.tls_context) as client:
        ((_, figures),) = client.get_stats()
        return int(figures["auth_cmds"]), int(figures["auth_errors"])


def test_through_tls_nothing_is_said_to_who_is_not_verified(capsys):
    with ScriptedServer(tls=server_contexts.self_signed()) as server:
        with client_of(server, tls_context=server_contexts.client(), debug=1) as client:
            assert client.get("key") is None
        assert server.received == b""


# What cannot be one


WRONG = {
    "a name without a password": ({"password": None}, ValueError, "username needs a password"),
    "a password without a name": ({"username": None}, ValueError, "password needs a username"),
    "no str": ({"username": 5}, TypeError, "username must be str or bytes, not int"),
    "a name from a function": ({"username": lambda: NAME}, TypeError, "username must be str or bytes, not function"),
    "a bytearray": ({"username": bytearray(b"x")}, TypeError, "username must be str or bytes, not bytearray"),
    "an empty name": ({"username": ""}, ValueError, "username must not be empty"),
    "an empty name in bytes": ({"username": b""}, ValueError, "username must not be empty"),
    "a space in the name": ({"username": "ali ce"}, ValueError, "username must not hold a space, a newline"),
    "a newline in the name": ({"username": "alice\n"}, ValueError, "username must not hold a space, a newline"),
    "a carriage return in the name": ({"username": b"al\rice"}, ValueError, "username must not hold"),
    "NUL in the name": ({"username": "alice\0"}, ValueError, "username must not hold"),
    "a surrogate in the name": ({"username": "\udcff"}, ValueError, "username must be text that UTF-8 has"),
    "a list": ({"password": [WORD]}, TypeError, "password must be str, bytes or a function that returns one, not list"),
    "a number": ({"password": 5}, TypeError, "password must be str, bytes or a function that returns one, not int"),
    "an empty password": ({"password": ""}, ValueError, "password must not be empty"),
    "a newline in the password": ({"password": "correct\n"}, ValueError, "password must not hold a newline"),
    "a carriage return in the password": ({"password": b"a\rb"}, ValueError, "password must not hold a newline"),
    "NUL in the password": ({"password": "a\0b"}, ValueError, "password must not hold a newline"),
    "a surrogate in the password": ({"password": "\ud800"}, ValueError, "password must be text that UTF-8 has"),
    "together too long": ({"password": "x" * 250}, ValueError, "must not be longer than 254 bytes together"),
    "together too long in bytes": ({"password": "€" * 84}, ValueError, "must not be longer than 254 bytes together"),
    "alone too long": ({"username": "x" * 254, "password": len}, ValueError, "must not be longer than 254 bytes"),
    "false": ({"username": False}, TypeError, "username must be str or bytes, not bool"),
}


@plain
@pytest.mark.parametrize("kind", [mcext.Client, mcext.Cache])
@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_one_is_refused_by_its_name(kind, name):
    options, error, words = WRONG[name]
    with pytest.raises(error, match=words) as caught:
        kind(["127.0.0.1:11211"], **{**KNOWN, **options})
    assert NAME not in str(caught.value) and WORD not in str(caught.value) and "correct" not in str(caught.value)


@plain
@pytest.mark.parametrize("name", sorted(set(WRONG) - {"a password without a name"}))
def test_an_assignment_is_looked_at_in_the_same_way(name):
    options, error, words = WRONG[name]
    client = mcext.Client(["127.0.0.1:11211"], **KNOWN)
    with pytest.raises(error, match=words):
        for option, value in options.items():
            setattr(client, option, value)
    if "together" not in name and len(options) == 1:
        assert repr(client.username) == "<username>" and repr(client.password) == "<password>"


@plain
@pytest.mark.parametrize("kind", [mcext.Client, mcext.Cache])
def test_the_longest_ones_fit(kind):
    kind([], username="x" * 253, password="y")
    kind([], username="x", password="y" * 253)
    kind([], username="x", password=lambda: "")


@plain
@pytest.mark.parametrize("kind", [mcext.Client, mcext.Cache])
def test_a_password_with_a_space_warns(kind):
    with pytest.warns(RuntimeWarning, match="password holds a space") as recorded:
        kind(["127.0.0.1:11211"], username=NAME, password="correct horse")
    (one,) = recorded
    assert "correct" not in str(one.message)


def test_a_function_that_gives_a_space_warns_once():
    with ScriptedServer() as server, client_of(server, password=lambda: "correct horse") as client:
        with pytest.warns(RuntimeWarning, match="password holds a space") as recorded:
            for _ in range(3):
                assert client.get("key") is None
                client.disconnect_all()
        assert len(recorded) == 1 and server.received.count(b"alice correct horse\r\n") == 3


@plain
def test_a_host_takes_them_from_its_client_alone():
    host = mcext.Client(["127.0.0.1:11211"]).servers[0]
    for name in ("username", "password"):
        with pytest.raises(TypeError, match="set on the client"):
            setattr(host, name, WORD)
