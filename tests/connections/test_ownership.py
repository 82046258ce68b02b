"""A connection is used again only while its stream is known: each way out of a call, and the call after it."""

import _thread
import functools
import operator
import pickle
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import zlib

import asleep
import over_tls
import ports
import pytest
from scripted_server import CLOSE, PATIENCE, RESET, STALL, ScriptedServer

import mcext
import memcache

# Seconds: a deadline that a test waits out, and one that it must never reach.
SHORT = 0.1
LONG = 30 * PATIENCE
# What "at once" may take on a busy machine: far from LONG.
AT_ONCE = 10 * PATIENCE


def bucket_of(key, buckets=2):
    """Which of so many servers is asked for key."""
    return (zlib.crc32(key.encode()) >> 16 & 0x7FFF) % buckets


def good_answer(command):
    """The answer of a server whose every value is its key."""
    words = command.split(b"\r\n", 1)[0].split()
    silent = words[-1] == b"noreply"
    if words[0] in (b"get", b"gets"):
        token = b" 9" if words[0] == b"gets" else b""
        found = b"".join(b"VALUE %s 0 %d%s\r\n%s\r\n" % (key, len(key), token, key) for key in words[1:])
        return found + b"END\r\n"
    answers = {b"incr": b"42\r\n", b"decr": b"42\r\n", b"delete": b"DELETED\r\n", b"touch": b"TOUCHED\r\n"}
    answers.update({b"version": b"VERSION 1.6.18\r\n", b"flush_all": b"OK\r\n", b"stats": b"STAT pid 5\r\nEND\r\n"})
    return b"" if silent else answers.get(words[0], b"STORED\r\n")


# Each call: how it is made, what it answers when all is well, and what it answers when its reply cannot be trusted.
CALLS = {
    "get": (lambda mc: mc.get("key1"), b"key1", None),
    "get with a default": (lambda mc: mc.get("key1", "none"), b"key1", "none"),
    "gets": (lambda mc: mc.gets("key1"), b"key1", None),
    "get_multi": (lambda mc: mc.get_multi(["key1", "key2"]), {"key1": b"key1", "key2": b"key2"}, {}),
    "set": (lambda mc: mc.set("key1", b"v"), True, 0),
    "set_multi": (lambda mc: mc.set_multi({"key1": b"v", "key2": b"w"}), [], ["key1", "key2"]),
    "add": (lambda mc: mc.add("key1", b"v"), True, 0),
    "replace": (lambda mc: mc.replace("key1", b"v"), True, 0),
    "append": (lambda mc: mc.append("key1", b"v"), True, 0),
    "prepend": (lambda mc: mc.prepend("key1", b"v"), True, 0),
    "incr": (lambda mc: mc.incr("key1"), 42, None),
    "decr": (lambda mc: mc.decr("key1"), 42, None),
    "delete": (lambda mc: mc.delete("key1"), 1, 0),
    "delete_multi": (lambda mc: mc.delete_multi(["key1", "key2"]), 1, 0),
    "touch": (lambda mc: mc.touch("key1"), 1, 0),
    "get_stats": (lambda mc: [stats for _, stats in mc.get_stats()], [{"pid": "5"}], []),
}
ONCE = {"add", "replace", "append", "prepend", "incr", "decr"}
REPEATED = CALLS.keys() - ONCE


class FirstConnection:
    """A script: connection 0 answers its second command as `damage` says; all other answers are good."""

    def __init__(self, damage, first=True):
        self.damage = damage
        self.armed = first
        self.number = None
        self.damaged = threading.Event()

    def __call__(self, command, number):
        answer = good_answer(command)
        if self.armed and not command.startswith(b"get warm"):
            self.armed = False
            self.number = number
            self.damaged.set()
            return self.damage(answer)
        return answer


def client(server, timeout, **options):
    options = {"connect_timeout": LONG, "dead_retry": 0, **options}
    return mcext.Client([server.address], socket_timeout=timeout, **options)


def reply_of(name):
    """The bytes of the first reply that a call gets when all is well."""
    first = []

    def script(command, number):
        if not command.startswith(b"version"):
            first.append(good_answer(command))
        return good_answer(command)

    with ScriptedServer(script) as server:
        call, right, _ = CALLS[name]
        assert call(client(server, LONG)) == right
    return first[0]


def all_right(mc):
    """Two calls of other kinds and keys, so that a reply left over cannot pass for theirs."""
    assert mc.get("after1") == b"after1"
    assert mc.incr("after2") == 42
    assert mc.get_multi(["after3", "after4"]) == {"after3": b"after3", "after4": b"after4"}
    assert mc.set("after5", b"v") is True
    assert mc.get("after6") == b"after6"


def closed_by_client(server, script):
    """True when the client has closed the connection that was damaged."""
    return script.damaged.wait(AT_ONCE) and server.connections[script.number].closed.wait(AT_ONCE)


def unanswered(name, answer):
    """True where the answer is one that a call may give without a whole reply: that of a failure, or a part."""
    _, right, failure = CALLS[name]
    if name == "get_multi":
        return type(answer) is dict and answer.items() <= right.items()
    if name == "set_multi":
        return type(answer) is list and set(answer) <= set(failure)
    if name == "get_stats":
        return answer in ([], [{}])  # an error line is an answer: no statistics
    return answer == failure


@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("name", CALLS)
def test_a_reply_cut_at_every_byte_leaves_nothing_behind(name, end):
    call, right, _ = CALLS[name]
    for at in range(len(reply_of(name))):
        script = FirstConnection(lambda answer, at=at: (answer[:at], end))
        with ScriptedServer(script) as server:
            mc = client(server, LONG)
            assert mc.get("warm") == b"warm"
            answer = call(mc)
            if at == 0 and name in REPEATED:
                assert answer == right, "before any byte of the reply it may be tried once more"
            else:
                assert unanswered(name, answer), f"{answer!r} after a cut at byte {at}"
            all_right(mc)
            assert script.damaged.is_set()


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_may_not_be_repeated_is_sent_once(name):
    """A close before the reply says nothing about whether the command was executed."""
    call = CALLS[name][0]
    with ScriptedServer(lambda command, number: CLOSE if number < 5 else None) as server:
        mc = client(server, LONG)
        call(mc)
        sent = [c for one in server.connections for c in one.commands if not c.startswith(b"version")]
        if name not in REPEATED:
            assert len(sent) == 1
        elif name not in ("set_multi", "delete_multi"):
            assert len(sent) <= 2


@pytest.mark.parametrize("name", CALLS)
def test_a_late_reply_is_nobody_elses(name):
    """The deadline passes before the reply, within it and before its last byte; then the rest comes."""
    call = CALLS[name][0]
    reply = reply_of(name)
    for at in sorted({0, 1, len(reply) // 2, len(reply) - 6, len(reply) - 2, len(reply) - 1} & set(range(len(reply)))):
        script = FirstConnection(lambda answer, at=at: (answer[:at], STALL))
        with ScriptedServer(script) as server:
            mc = client(server, SHORT)
            answer = call(mc)
            assert unanswered(name, answer), f"{answer!r} after a stall at byte {at}"
            assert closed_by_client(server, script), "what comes late must find nobody"
            mc.socket_timeout = LONG
            all_right(mc)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda answer: answer + answer, id="doubled"),
        pytest.param(lambda answer: answer + b"END\r\n", id="an END after it"),
        pytest.param(lambda answer: answer + b"\r\n", id="an empty line after it"),
        pytest.param(lambda answer: b"\r\n" + answer, id="an empty line before it"),
        pytest.param(lambda answer: answer + b"x", id="a byte after it"),
        pytest.param(lambda answer: b"\xff" + answer, id="a byte before it"),
        pytest.param(lambda answer: b"ERROR\r\n" + answer, id="ERROR before it"),
        pytest.param(lambda answer: answer + b"SERVER_ERROR late\r\n", id="SERVER_ERROR after it"),
        pytest.param(lambda answer: answer.replace(b"key1", b"key9"), id="another key"),
        pytest.param(lambda answer: b"VALUE other 0 5\r\nother\r\n" + answer, id="a value of another key before it"),
        pytest.param(lambda answer: b"VALUE key1 0 -1\r\n" + answer, id="a negative length"),
        pytest.param(lambda answer: b"VALUE key1 0 99999999999999999999\r\n" + answer, id="an absurd length"),
        pytest.param(lambda answer: b"VALUE key1\r\n" + answer, id="words missing"),
        pytest.param(lambda answer: b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(lambda answer: b"\x00" * 100000 + b"\r\n", id="an endless line"),
        pytest.param(lambda answer: b"-42\r\n" + answer, id="a negative number"),
        pytest.param(lambda answer: b"18446744073709551616\r\n" + answer, id="a number past 64 bits"),
    ],
)
@pytest.mark.parametrize("name", CALLS)
def test_a_reply_that_is_not_one_ends_the_connection(name, damage):
    call, right, _ = CALLS[name]
    script = FirstConnection(damage)
    with ScriptedServer(script) as server:
        mc = client(server, LONG)
        assert mc.get("warm") == b"warm"
        try:
            answer = call(mc)
        except ValueError:
            assert name in ("incr", "decr"), "only these raise what the server said"
        else:
            # What came before the damage may be believed, what came after may not.
            assert answer == right or unanswered(name, answer)
        if name in ("set_multi", "delete_multi"):
            # Several replies are under way: one too many may come after the call, and end the next one.
            assert mc.get("next") in (None, b"next")
        all_right(mc)


@pytest.mark.parametrize("error", [b"ERROR\r\n", b"SERVER_ERROR out of memory\r\n", b"CLIENT_ERROR bad data chunk\r\n"])
def test_an_error_after_a_noreply_call_is_not_the_next_calls_answer(error):
    for name, (call, right, _) in CALLS.items():
        script = FirstConnection(lambda answer: error)
        with ScriptedServer(script) as server:
            mc = client(server, LONG)
            assert mc.set("quiet", b"v", noreply=True)
            assert call(mc) == right, name
            all_right(mc)


def test_a_connection_that_still_owes_its_marker_is_not_used_again():
    """Nothing is stored on it: all its values are too large. The other server's answer does not end its wait."""
    with ScriptedServer(lambda command, number: STALL if command.startswith(b"version") else None) as silent:
        with ScriptedServer() as other:
            mc = mcext.Client(
                [silent.address, other.address],
                socket_timeout=2.5 * PATIENCE,  # in which the other one answers
                connect_timeout=LONG,
                dead_retry=0,
                server_max_value_length=1000,
            )
            on = {0: [], 1: []}
            for key in (f"key{i}" for i in range(100)):
                on[bucket_of(key)].append(key)
            assert mc.set(on[0][0], b"v", noreply=True)
            assert mc.set_multi({on[0][0]: b"x" * 2000, on[1][0]: b"v"}) == [on[0][0]]
            assert silent.connections[0].closed.wait(AT_ONCE)


@pytest.mark.parametrize("kind", ["native", "python"])
def test_a_marker_that_closes_the_connection_leaves_nothing_to_wait_for(kind, monkeypatch):
    """All values are too large: on the new connection there is nothing to send, and no reply to come."""
    if kind == "python":
        monkeypatch.setattr(socket, "socket", type("Socket", (socket.socket,), {}))
    with ScriptedServer(lambda command, number: CLOSE if command.startswith(b"version") else None) as server:
        mc = mcext.Client([server.address], socket_timeout=LONG, server_max_value_length=1000)
        assert mc.set("key1", b"v", noreply=True)
        assert mc.set_multi({"key1": b"x" * 2000, "key2": b"x" * 2000}) == ["key1", "key2"]
        assert mc.servers[0].deaduntil == 0  # no reply was awaited in vain


@pytest.mark.plain  # on the way in Python a server that could be connected to is alive
def test_a_probe_without_a_reply_that_sends_nothing_waits_for_nothing():
    """All values are too large, and the server closes at the marker: on the new connection none is sent."""
    with ScriptedServer(lambda command, number: CLOSE if command.startswith(b"version") else None) as server:
        mc = mcext.Client([server.address], socket_timeout=LONG, server_max_value_length=1000)
        mc.servers[0].deaduntil = 1  # which is over
        assert mc.set_multi({"key1": b"x" * 2000, "key2": b"x" * 2000}, noreply=True) == ["key1", "key2"]
        assert mc.servers[0].deaduntil == 1


@pytest.mark.plain  # on the way in Python a stream is the call's from its beginning
def test_what_a_call_has_not_used_before_an_exception_stays_open():
    """Nothing was sent to any server, whose first value cannot be had."""

    class Unreadable(dict):
        def __getitem__(self, key):
            raise RuntimeError(key)

    with ScriptedServer() as one, ScriptedServer() as other:
        mc = mcext.Client([one.address, other.address], socket_timeout=LONG)
        keys = [f"key{i}" for i in range(20)]
        mc.get_multi(keys)
        with pytest.raises(RuntimeError):
            mc.set_multi(Unreadable.fromkeys(keys, b"v"))
        mc.get_multi(keys)
        assert len(one.connections) == len(other.connections) == 1


def test_a_value_longer_than_servers_can_count_is_not_sent():
    """memcached would refuse its command line and take the value itself for commands."""
    with ScriptedServer() as server:
        mc = mcext.Client([server.address], socket_timeout=LONG, server_max_value_length=0, max_value_length=1 << 40)
        assert mc.get("key1") is None
        value = bytes(2**31 - 2)  # memory that nobody touches
        assert mc.set("key1", value) == 0
        assert mc.set_multi({"key1": value}) == ["key1"]
        assert server.commands == [b"get key1\r\n"]


class FakeSocket:
    """A socket without a server: what it is sent and what comes is in the class."""

    def __init__(self, *arguments):
        self.come = b""

    def connect(self, address):
        self.address = address

    def settimeout(self, seconds):
        self.seconds = seconds

    def close(self):
        pass


@pytest.mark.plain  # on the way in Python what is no bytes is a TypeError
def test_a_reply_to_a_marker_is_not_shown_as_the_answer(monkeypatch, capsys):
    """What is no bytes came in place of the answer: the line before that is another command's."""
    answers = [b"VERSION 1.6.18\r\n", 17]

    class Fake(FakeSocket):
        def sendall(self, data):
            pass

        def recv(self, size):
            return answers.pop(0)

    monkeypatch.setattr(socket, "socket", Fake)
    mc = mcext.Client(["127.0.0.1:1"], socket_timeout=LONG, debug=1)
    assert mc.set("key1", b"v", noreply=True)
    assert mc.set("key1", b"v") == 0
    shown = capsys.readouterr().err
    assert "does not allow" in shown and "VERSION" not in shown


def test_a_server_is_not_blamed_for_the_time_that_sending_to_another_took(monkeypatch):
    """Whose turn comes when all the time is gone may be as good as ever."""

    class Fake(FakeSocket):
        def sendall(self, data):
            if self.address[1] == slow:
                time.sleep(self.seconds)
                raise TimeoutError
            self.come += b"END\r\n"

        def recv(self, size):
            come, self.come = self.come, b""
            return come

    monkeypatch.setattr(socket, "socket", Fake)
    for slow in 1, 2:
        mc = mcext.Client(["127.0.0.1:1", "127.0.0.1:2"], socket_timeout=1.5)
        assert mc.get_multi([f"key{i}" for i in range(20)]) == {}
        assert [bool(host.deaduntil) for host in mc.servers] == [slow == 1, slow == 2]


def test_a_signal_beside_an_exception_of_a_socket_is_heard_behind_it(monkeypatch):
    """Its handler does not find the exception set, which is what the call raises."""
    heard = []

    class Fake(FakeSocket):
        def sendall(self, data):
            # In C from end to end, or Python itself would hear the signal first.
            signals = map(_thread.interrupt_main, [signal.SIGUSR1])
            self.recv = functools.partial(functools.reduce, operator.add, signals)

    monkeypatch.setattr(socket, "socket", Fake)
    before = signal.signal(signal.SIGUSR1, lambda *arguments: heard.append(arguments))
    try:
        mc = mcext.Client(["127.0.0.1:1"], socket_timeout=LONG)
        with pytest.raises(TypeError):
            mc.get_multi(["key1"])
        assert len(heard) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_after_many_noreply_commands_the_server_has_to_answer():
    """However they are shared out to calls."""
    with ScriptedServer() as server:
        mc = client(server, LONG)
        for _ in range(2):
            assert mc.set_multi({f"key{i}": b"v" for i in range(300)}, noreply=True) == []
        assert server.received.endswith(b"version\r\n")


def test_a_noreply_command_that_memcached_takes_for_several_ends_the_connection():
    """It does not take the data block off the stream behind a key that is too long for it."""
    keys = [f"key{i}" for i in range(600)] + ["k" * 251]
    for many in keys[-1:], keys:
        with ScriptedServer() as server:
            mc = client(server, LONG, check_keys=False)
            assert mc.set_multi(dict.fromkeys(many, b"version\r\nget next"), noreply=True) == []
            server.wait_for(lambda server: server.connections)
            assert server.connections[0].closed.wait(AT_ONCE)


def test_an_error_after_a_noreply_call_is_not_the_answer_to_a_hosts_command():
    def script(command, number):
        if command.startswith(b"set quiet "):  # by name: two connections' commands may come in any order
            return b"SERVER_ERROR out of memory\r\n"
        return good_answer(command)

    with ScriptedServer(script) as server:
        mc = client(server, LONG)
        assert mc.set("quiet", b"v", noreply=True)
        host = mc.servers[0]
        assert host.connect()
        host.send_cmd("incr key1 1")
        assert host.readline() == b"42"
        host.close_socket()
        all_right(mc)


@pytest.mark.parametrize("other_socket", [False, True])
def test_bytes_behind_a_large_value_end_the_connection(other_socket, monkeypatch):
    class OtherSocket(socket.socket):
        """Not Python's own class: all bytes go through its methods."""

    large = b"x" * 30000
    block = b"VALUE large 0 %d\r\n%s\r\nEND\r\n" % (len(large), large)
    with ScriptedServer([block + b"5\r\n", b"42\r\n"]) as server:
        if other_socket:
            monkeypatch.setattr(socket, "socket", OtherSocket)
        mc = client(server, LONG)
        assert mc.get("large") == large
        assert mc.incr("key1") == 42


def test_bytes_behind_a_marker_end_the_connection():
    script = [b"VERSION 1\r\n5\r\n"]
    with ScriptedServer(
        lambda command, number: script.pop() if script and command == b"version\r\n" else None
    ) as server:
        mc = client(server, LONG)
        for _ in range(513):
            assert mc.set("quiet", b"v", noreply=True)
        assert server.connections[0].closed.wait(AT_ONCE)


def test_a_flush_on_reconnect_that_was_refused_ends_the_connection():
    script = [b"SERVER_ERROR what of it\r\n"]
    with ScriptedServer(
        lambda command, number: script.pop() if script and command == b"flush_all\r\n" else None
    ) as server:
        mc = client(server, LONG)
        mc.servers[0].flush_on_next_connect = 1
        assert mc.add("key1", b"v")
        assert server.connections[0].commands == [b"flush_all\r\n"]
        # A client that replaces something sends it as python-memcached does: a space before the end of the line.
        assert [one.replace(b" \r\n", b"\r\n") for one in server.connections[1].commands] == [
            b"add key1 0 0 1\r\nv\r\n"
        ]


@pytest.mark.parametrize("end", [CLOSE, RESET, STALL])
def test_a_noreply_call_that_lost_its_connection_spoils_no_other(end):
    script = FirstConnection(lambda answer: end)
    with ScriptedServer(script) as server:
        mc = client(server, SHORT)
        mc.set("quiet", b"v", noreply=True)
        assert script.damaged.wait(AT_ONCE)
        # One call may fail: it found the connection that way.
        assert mc.get("next") in (None, b"next")
        mc.socket_timeout = LONG
        all_right(mc)


def full_server():
    """A listener whose queue is full: a connect to it is neither taken nor refused."""
    listener = ports.listen(backlog=0)
    waiting = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
        waiting.append(sock)
    return listener, waiting


def test_a_connect_that_timed_out_leaves_nothing_behind():
    listener, waiting = full_server()
    host, port = listener.getsockname()
    with ScriptedServer(lambda command, number: good_answer(command)) as server:
        mc = mcext.Client([f"{host}:{port}"], socket_timeout=LONG, connect_timeout=SHORT, dead_retry=0)
        for call, _, failure in CALLS.values():
            assert call(mc) == failure
        mc.connect_timeout = LONG
        mc.set_servers([server.address])
        all_right(mc)
    for sock in [listener, *waiting]:
        sock.close()


@pytest.mark.parametrize("noreply", [False, True])
def test_a_request_sent_in_part_is_never_completed_by_another(noreply):
    """The server stops reading in the middle of a large value."""
    release = threading.Event()
    received = []

    def serve(listener):
        sock, _ = listener.accept()
        received.append(sock.recv(1000))
        release.wait()
        while data := sock.recv(1 << 20):
            received.append(data)
        sock.close()
        sock, _ = listener.accept()
        with sock.makefile("rb") as file:
            for line in file:
                sock.sendall(good_answer(line))

    with ports.listen() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        mc = mcext.Client([address], socket_timeout=SHORT, connect_timeout=LONG, dead_retry=0)
        mc.server_max_value_length = 0
        assert not mc.set("key1", b"x" * (32 << 20), noreply=noreply)
        release.set()
        mc.socket_timeout = LONG
        assert mc.get("after1") == b"after1"
        assert mc.incr("after2") == 42
        mc.disconnect_all()
        thread.join(AT_ONCE)
        assert not thread.is_alive()
    assert b"after" not in b"".join(received)


# ---- signals ----


class Interruption(Exception):
    pass


class Alarm:
    """Sends SIGALRM when the main thread waits, and again and again until its handler has run.

    The first comes after the event `after`, where there is one: that of a server which has read the command.
    """

    def __init__(self, action, after=None):
        self.action = action
        self.after = after
        self.beginner = threading.Thread(target=self.begin, daemon=True)

    def handler(self, number, frame):
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.action()

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.handler)
        self.beginner.start()
        return self

    def begin(self):
        if self.after is None or self.after.wait(AT_ONCE):
            asleep.wait(threading.main_thread().native_id)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.1)

    def __exit__(self, *exception):
        self.beginner.join()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


def raising(kind, after=None):
    def action():
        raise kind

    return Alarm(action, after)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Interruption, MemoryError])
@pytest.mark.parametrize("name", CALLS)
def test_an_exception_from_a_signal_handler_ends_the_call_and_the_connection(name, kind):
    call = CALLS[name][0]
    reply = reply_of(name)
    for at in sorted({0, len(reply) // 2, len(reply) - 1}):
        script = FirstConnection(lambda answer, at=at: (answer[:at], STALL))
        with ScriptedServer(script) as server:
            mc = client(server, LONG)
            assert mc.get("warm") == b"warm"
            began = time.monotonic()
            with pytest.raises(kind), raising(kind, script.damaged):
                call(mc)
            assert time.monotonic() - began < AT_ONCE
            assert closed_by_client(server, script)
            all_right(mc)


@pytest.mark.parametrize("name", ["get", "get_multi"])
def test_one_signal_ends_the_wait_for_the_rest_of_a_large_value(name):
    """That wait is for all of it at once, and with a part of it there a signal makes it return that part."""

    def script(command, number):
        if command != b"get key1\r\n":
            return good_answer(command)
        timer = threading.Timer(0.3, ring)  # the part is there
        timer.start()
        return (b"VALUE key1 0 1000000\r\n" + b"x" * 500000, STALL)

    def ring():
        asleep.wait(threading.main_thread().native_id)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    def handler(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with ScriptedServer(script) as server:
            mc = client(server, LONG)
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                mc.get("key1") if name == "get" else mc.get_multi(["key1"])
            assert time.monotonic() - began < AT_ONCE
            all_right(mc)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_exception_from_a_signal_handler_ends_a_connect():
    listener, waiting = full_server()
    mc = mcext.Client([f"127.0.0.1:{listener.getsockname()[1]}"], socket_timeout=LONG)
    with pytest.raises(KeyboardInterrupt), raising(KeyboardInterrupt):
        mc.get("key1")
    with ScriptedServer(lambda command, number: good_answer(command)) as server:
        mc.set_servers([server.address])
        all_right(mc)
    for sock in [listener, *waiting]:
        sock.close()


def test_an_exception_from_a_signal_handler_ends_a_send():
    with ports.listen() as listener:
        mc = mcext.Client([f"127.0.0.1:{listener.getsockname()[1]}"], socket_timeout=LONG)
        mc.server_max_value_length = 0
        with pytest.raises(KeyboardInterrupt), raising(KeyboardInterrupt):
            mc.set("key1", b"x" * (64 << 20))
        with ScriptedServer(lambda command, number: good_answer(command)) as server:
            mc.set_servers([server.address])
            all_right(mc)


@pytest.mark.parametrize("name", CALLS)
def test_a_signal_handler_that_returns_ends_nothing(name):
    """The call goes on after the handler, and answers."""
    call, right, _ = CALLS[name]
    handled = threading.Event()

    def script(command, number):
        assert handled.wait(AT_ONCE)
        return good_answer(command)

    with ScriptedServer(script) as server:
        mc = client(server, LONG)
        with Alarm(handled.set):
            assert call(mc) == right


def test_signals_do_not_prolong_the_deadline():
    with ScriptedServer(lambda command, number: STALL) as server:
        mc = client(server, 0.5)
        before = signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            began = time.monotonic()
            assert mc.get("key1") is None
            assert time.monotonic() - began < AT_ONCE
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", CALLS)
def test_a_signal_handler_may_use_the_same_client(name):
    call, right, _ = CALLS[name]
    asked = threading.Event()
    answers = []

    def script(command, number):
        if b"handler" not in command and not command.startswith(b"version"):
            assert asked.wait(AT_ONCE)
        return good_answer(command)

    with ScriptedServer(script) as server:
        mc = client(server, LONG)

        def use():
            answers.append(mc.get("handler"))
            asked.set()

        with Alarm(use):
            assert call(mc) == right
        assert answers == [b"handler"]


@pytest.mark.parametrize("how", ["close_socket", "mark_dead", "disconnect_all", "quit_all"])
def test_a_signal_handler_may_close_what_a_host_reads_from(how):
    with ScriptedServer(lambda command, number: STALL) as server:
        mc = client(server, LONG)
        host = mc.servers[0]
        actions = {"close_socket": host.close_socket, "mark_dead": lambda: host.mark_dead("test")}
        assert host.connect()
        host.send_cmd("get key1")
        with Alarm(actions.get(how) or getattr(mc, how)):
            assert host.readline() == ""
        assert host.connect()
        host.send_cmd("get key1")
        with Alarm(actions.get(how) or getattr(mc, how)), pytest.raises(memcache._Error):
            host.recv(10)


class Routed(mcext.Client):
    """Python code may want the connection of a call: it is held for the thread."""

    def _get_server(self, key):
        return super()._get_server(key)


def test_a_request_is_not_completed_on_a_connection_of_the_signal_handler():
    """It disconnects in the middle of a send, and then makes a call of its own."""
    begun = threading.Event()
    received = []

    def serve(listener):
        first, _ = listener.accept()
        first.recv(1000)
        begun.set()
        second, _ = listener.accept()
        with first, second, second.makefile("rb") as file:
            for line in file:
                received.append(line)
                second.sendall(good_answer(line))

    with ports.listen() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        mc = Routed([f"127.0.0.1:{listener.getsockname()[1]}"], socket_timeout=LONG, server_max_value_length=0)

        def handler():
            if not begun.is_set():
                signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
                return
            mc.disconnect_all()
            assert mc.get("inner") == b"inner"

        with Alarm(handler):
            assert mc.append("key1", b"get outer\r\n" * (3 << 20)) == 0
        assert mc.get("after") == b"after"
        mc.disconnect_all()
        thread.join(AT_ONCE)
        assert not thread.is_alive()
        assert received == [b"get inner\r\n", b"get after\r\n"]


@pytest.mark.plain
@pytest.mark.parametrize("name", CALLS)
def test_a_signal_handler_may_disconnect(name):
    """The call it interrupts ends, or is sent once more; its connection is nobody else's before that."""
    call, right, _ = CALLS[name]
    # CPython's SSLSocket, with which Routed speaks TLS, reads on for ever where it was closed in the middle of a read
    # and its file descriptor is another socket's by now (docs/fleets.md).
    for make in [mcext.Client] if over_tls.is_wanted() else [mcext.Client, Routed]:
        handled = threading.Event()

        def script(command, number, handled=handled):
            if number == 0:
                assert handled.wait(AT_ONCE)
            return good_answer(command)

        with ScriptedServer(script) as server:
            mc = make([server.address], socket_timeout=LONG, dead_retry=0)

            def handler(mc=mc, handled=handled):
                mc.disconnect_all()
                assert mc.get("inner") == b"inner"
                handled.set()

            with Alarm(handler):
                answer = call(mc)
            assert answer == right or (make is Routed and unanswered(name, answer))
            all_right(mc)


def test_ctrl_c_ends_a_waiting_call_at_once(tmp_path):
    """SIGINT to a whole process, its default handler in place, as a terminal sends it."""
    script = textwrap.dedent(
        """
        import signal, sys, time, mcext
        # A process that was started in the background ignores it, and so would what it starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        mc = mcext.Client([sys.argv[1]], socket_timeout=60)
        print("ready", flush=True)
        try:
            mc.get("key1")
        except KeyboardInterrupt:
            mc.set_servers([sys.argv[2]])
            print(mc.get("after1"), flush=True)
        """
    )
    answer = threading.Event()
    with (
        ScriptedServer(lambda command, number: (answer.set(), STALL)[1]) as silent,
        ScriptedServer(lambda command, number: good_answer(command)) as server,
    ):
        process = subprocess.Popen(
            [sys.executable, "-c", script, silent.address, server.address], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        assert answer.wait(AT_ONCE)
        asleep.wait(process.pid)
        process.send_signal(signal.SIGINT)
        process.wait(AT_ONCE)
        assert process.stdout.read() == "b'after1'\n"
        process.stdout.close()


# ---- exceptions of the caller's own code ----


def values(**stored):
    """A script that answers `get` from (flags, bytes)."""

    def script(command, number):
        words = command.split()
        if words[0] in (b"get", b"gets"):
            found = b""
            for key in words[1:]:
                if key.decode() in stored:
                    flags, data = stored[key.decode()]
                    found += b"VALUE %s %d %d\r\n%s\r\n" % (key, flags, len(data), data)
                else:
                    found += b"VALUE %s 0 %d\r\n%s\r\n" % (key, len(key), key)
            return found + b"END\r\n"
        return good_answer(command)

    return script


BROKEN = {
    "text": (16, b"\xff\xfe"),
    "int": (2, b"no number"),
    "zlib": (8, b"no zlib"),
    "cut zlib": (8, zlib.compress(b"x" * 1000)[:-3]),
    "pickle": (1, b"no pickle"),
    "cut pickle": (1, pickle.dumps(list(range(100)))[:-20]),
    "flags": (64, b"what?"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_value_that_does_not_decode_leaves_the_connection_good(kind):
    with ScriptedServer(values(broken=BROKEN[kind])) as server:
        mc = client(server, LONG)
        assert mc.get("broken") is None
        found = mc.get_multi(["before", "broken", "behind"])
        assert found == {"before": b"before", "broken": None, "behind": b"behind"}
        all_right(mc)
        assert len(server.connections) == 1


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, RuntimeError, RecursionError])
def test_an_unpickler_or_decompressor_that_raises_spoils_no_other_call(error):
    def raises(*arguments, **keywords):
        raise error

    class Raising(pickle.Unpickler):
        load = raises

    stored = {"pickled": (1, pickle.dumps(["x"])), "packed": (8, zlib.compress(b"y" * 1000))}
    for option, key in (({"unpickler": Raising}, "pickled"), ({"decompressor": raises}, "packed")):
        with ScriptedServer(values(**stored)) as server:
            mc = client(server, LONG, **option)
            for call, argument in ((mc.get, key), (mc.get_multi, ["before", key, "behind"])):
                try:
                    call(argument)
                except error:
                    raised = True
                else:
                    raised = False
                assert raised or not issubclass(error, KeyboardInterrupt), "an interrupt goes to the caller"
                all_right(mc)


def test_an_unpickler_may_use_the_same_client():
    inner = []

    class Nosy(pickle.Unpickler):
        def load(self):
            inner.append(mc.get("inner"))
            inner.append(mc.get_multi(["inner1", "inner2"]))
            return super().load()

    with ScriptedServer(values(outer=(1, pickle.dumps(["outer"])))) as server:
        mc = client(server, LONG, unpickler=Nosy)
        assert mc.get("outer") == ["outer"]
        assert mc.get_multi(["one", "outer", "two"]) == {"one": b"one", "outer": ["outer"], "two": b"two"}
        assert inner == [b"inner", {"inner1": b"inner1", "inner2": b"inner2"}] * 2
        all_right(mc)


def test_a_pickler_or_compressor_may_use_the_same_client(memcached):
    answers = []

    class Nosy(pickle.Pickler):
        def dump(self, value):
            answers.append(mc.get("here"))
            super().dump(value)

    def compressor(data):
        answers.append(mc.get("here"))
        return zlib.compress(data)

    mc = mcext.Client([memcached.address], pickler=Nosy, compressor=compressor)
    assert mc.set("here", b"yes")
    stored = {f"key{i}": [f"value{i}"] * 200 for i in range(20)}
    assert mc.set_multi(stored, min_compress_len=10) == []
    assert mc.get_multi(stored) == stored
    assert set(answers) == {b"yes"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
def test_a_compressor_or_pickler_that_raises_spoils_no_other_call(memcached, error):
    def raises(*arguments, **keywords):
        raise error

    class Raising(pickle.Pickler):
        dump = raises

    other = mcext.Client([memcached.address])
    for option in ({"compressor": raises}, {"pickler": Raising}):
        mc = mcext.Client([memcached.address], **option)
        assert mc.set("plain", b"plain")
        with pytest.raises(error):
            mc.set("key", ["x" * 1000], min_compress_len=10)
        assert mc.get("plain") == b"plain"
        batch = {f"key{i}": b"v" for i in range(100)} | {"bad": ["x" * 1000]} | {f"more{i}": b"v" for i in range(100)}
        with pytest.raises(error):
            mc.set_multi(batch, min_compress_len=10)
        for i in range(10):
            assert mc.get("plain") == b"plain"
            assert mc.set(f"next{i}", b"%d" % i)
            assert other.get(f"next{i}") == b"%d" % i


@pytest.mark.slow  # checkers of memory want more address space than is left here
def test_no_memory_for_a_value_is_an_answer_or_memory_error():
    """The server announces a value larger than the memory that the process may have; the call after it is right."""
    script = textwrap.dedent(
        """
        import resource, sys, mcext
        mc = mcext.Client([sys.argv[1]], socket_timeout=30, max_value_length=1 << 40)
        assert mc.get("warm") == b"warm"
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20), resource.RLIM_INFINITY))
        for call in (lambda: mc.get("huge"), lambda: mc.get_multi(["a", "huge", "b"]).get("huge")):
            try:
                assert call() is None
            except MemoryError:
                pass
            assert mc.get("after1") == b"after1"
        print("done")
        """
    )

    def answers(command, number):
        if b"huge" in command:
            return b"VALUE huge 0 90000000000\r\n" + b"x" * 100000, STALL
        return good_answer(command)

    with ScriptedServer(answers) as server:
        done = subprocess.run(
            [sys.executable, "-c", script, server.address], capture_output=True, text=True, timeout=LONG + AT_ONCE
        )
    assert done.stdout == "done\n", done.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[1] != 0


def test_a_bad_server_of_two_spoils_neither_the_others_answers_nor_the_next_call():
    for damage in (
        lambda answer: (answer[: len(answer) // 2], CLOSE),
        lambda answer: (answer[:5], RESET),
        lambda answer: b"GARBAGE\r\n",
        lambda answer: answer + answer,
    ):
        script = FirstConnection(damage)
        with ScriptedServer(script) as bad, ScriptedServer(lambda command, number: good_answer(command)) as good:
            mc = mcext.Client([bad.address, good.address], socket_timeout=LONG, dead_retry=0)
            keys = [f"key{i}" for i in range(50)]
            found = mc.get_multi(keys)
            assert all(found[key] == key.encode() for key in found)
            asked = b" ".join(c for c in good.commands if c.startswith(b"get")).split()
            assert {key for key in keys if key.encode() in asked} <= found.keys()
            assert mc.get_multi(keys) == {key: key.encode() for key in keys}
            all_right(mc)


@pytest.mark.plain  # on the way in Python servers are read in turn, whichever answers first
def test_of_several_names_for_one_stored_key_the_last_has_the_last_servers_value():
    """As in python-memcached, which reads its servers in turn; the one that answers last here is another."""
    decoded = threading.Event()

    class Unpickler(pickle.Unpickler):
        def load(self):
            value = super().load()
            decoded.set()
            return value

    def late(command, number):
        assert decoded.wait(20)  # the first server answers when the last one's value has been read
        return b"VALUE a 0 5\r\nfirst\r\nEND\r\n"

    value = pickle.dumps(["last"], 0)
    answer = b"VALUE a 1 %d\r\n%s\r\nEND\r\n" % (len(value), value)
    with ScriptedServer(late) as first, ScriptedServer([answer]) as last:
        client = mcext.Client([first.address, last.address], unpickler=Unpickler, socket_timeout=LONG)
        try:
            assert client.get_multi([(0, "a"), (1, "a")]) == {(1, "a"): ["last"]}
        finally:
            client.disconnect_all()


def test_keys_that_are_equal_but_have_two_texts_have_one_place_in_the_result():
    """1 and True are two keys for the server: what was read whole of both stays where the rest of the reply is none."""
    answer = b"VALUE 1 0 1\r\nx\r\nVALUE True 0 1\r\ny\r\nnonsense\r\n"
    with ScriptedServer(lambda command, number: answer) as server:
        assert client(server, LONG).get_multi([1, True]) == {1: b"y"}


@pytest.mark.parametrize("error", [b"ERROR\r\n", b"SERVER_ERROR busy\r\n"])
def test_an_error_of_which_nobody_knows_what_it_is_about_closes(error):
    """It may be one line more, and the number still to come: another counter must not get it."""

    def script(command, number):
        words = command.split()
        return b"42\r\n" if number else error if words[1] == b"first" else b"7\r\n"  # 7: of the first

    with ScriptedServer(script) as server:
        client = mcext.Client([server.address])
        assert client.incr("first") is None
        assert client.incr("second") == 42
        client.disconnect_all()


@pytest.mark.parametrize("name", ["delete", "touch", "set", "incr", "get", "flush_all"])
@pytest.mark.parametrize("line", [b"42\r\n", b"STORED\r\n", b"END\r\n", b"OK\r\n"])
def test_the_usual_reply_to_another_command_is_no_answer(name, line):
    usual = {"set": b"STORED\r\n", "incr": b"42\r\n", "get": b"END\r\n", "flush_all": b"OK\r\n"}
    if usual.get(name) == line:
        pytest.skip("its own")
    script = FirstConnection(lambda answer: line)
    with ScriptedServer(script) as server:
        mc = client(server, LONG)
        if name == "flush_all":
            assert mc.flush_all() is None
        else:
            call, _, failure = CALLS[name]
            assert call(mc) == failure
        assert closed_by_client(server, script)
        all_right(mc)
