"""Name and password are shown nowhere, and nothing of them is left in our own memory when they have been said."""

import copy
import gc
import io
import os
import pickle
import re
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

import pytest
import server_contexts
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import CLOSE, PATIENCE, STALL, ScriptedServer

import mcext
import memcache
from mcext import certificates
from mcext.testing import memcached

NAME, WORD = "alice-in-chains", "correct-horse-battery"
KNOWN = {"username": NAME, "password": WORD}
SHORT = 0.3 * PATIENCE


def check_silent(*texts):
    for text in texts:
        text = text if isinstance(text, str) else text.decode("latin-1")
        for secret in (NAME, WORD, "correct", "alice"):
            assert secret not in text, text


def everything_about(error):
    """All that a tool which reports exceptions looks at, the locals of our frames among it."""
    seen = traceback.TracebackException.from_exception(error, capture_locals=True)
    texts = [str(error), repr(error), repr(error.args), repr(vars(error))]
    for chained in (seen, seen.__cause__, seen.__context__):
        frames = chained.stack if chained is not None else ()
        ours = [frame for frame in frames if Path(frame.filename).parent.is_relative_to(Path(mcext.__file__).parent)]
        texts += [f"{frame.line} {frame.locals}" for frame in ours]
    return texts


class Own(mcext.Client):
    """One whose calls go through mcext.pure."""

    def _get(self, *arguments):
        return super()._get(*arguments)


class Printing(mcext.Client):
    """The same, with what a tool would write down of what is sent."""

    lines = []

    def debuglog(self, text):
        self.lines.append(text)


ECHOES = [
    b"ERROR unknown command: set auth 0 -1 38 alice-in-chains correct-horse-battery\r\n",
    b"CLIENT_ERROR alice-in-chains correct-horse-battery\r\n",
    b"SERVER_ERROR correct-horse-battery\r\n",
    b"alice-in-chains correct-horse-battery\r\n",
    b"VALUE alice-in-chains 0 21\r\ncorrect-horse-battery\r\nEND\r\n",
    b"STORED\r\nalice-in-chains correct-horse-battery\r\n",
    b"correct-horse-battery" * 1000,
    CLOSE,
]


@pytest.mark.parametrize("kind", [mcext.Client, Own, Printing])
@pytest.mark.parametrize("answer", ECHOES, ids=range(len(ECHOES)))
def test_a_debug_line_shows_nothing_even_where_the_server_repeats_it(kind, answer, capsys):
    script = lambda command, number: (answer, STALL) if answer != CLOSE else CLOSE  # noqa: E731
    with ScriptedServer(script) as server:
        client = kind([server.address], debug=1, **KNOWN)
        assert client.get("key") is None and client.set("key", 1) == 0 and client.get_stats() == []
        client.disconnect_all()
        assert WORD.encode() in server.received
    check_silent(capsys.readouterr().err, *map(str, Printing.lines))


@pytest.mark.parametrize("answer", ECHOES, ids=range(len(ECHOES)))
def test_an_exception_and_an_event_show_nothing_even_where_the_server_repeats_it(answer):
    events = []
    script = lambda command, number: (answer, STALL) if answer != CLOSE else CLOSE  # noqa: E731
    with ScriptedServer(script) as server:
        with mcext.Cache([server.address], on_event=events.append, **KNOWN) as cache:
            for call in (lambda: cache.get("key"), lambda: cache.get_or_set("key", int, fallback="raise"), cache.stats):
                with pytest.raises(mcext.MemcacheError) as caught:
                    call()
                check_silent(*everything_about(caught.value), pickle.dumps(caught.value))
            with pytest.raises(mcext.PartialFailure) as caught:
                cache.set_many({"a": 1, "b": 2})
            check_silent(*everything_about(caught.value), pickle.dumps(caught.value))
    assert {event.kind for event in events} == {"connect", "dead", "error"}
    check_silent(*map(repr, events), *map(str, events))


def test_an_exception_that_passes_through_a_connect_shows_nothing():
    """A signal handler's, say: what the frames that it passes have is shown by tools."""

    class Interrupting:
        def __init__(self, *arguments):
            self.wrapped = __import__("socket").socket(*arguments)

        def __getattr__(self, name):
            return getattr(self.wrapped, name)

        def recv(self, size):
            raise KeyboardInterrupt

    for kind in (mcext.Client, Own):
        with ScriptedServer() as server:
            client = kind([server.address], **KNOWN)
            memcache.socket = type("module", (), {"socket": Interrupting, "timeout": TimeoutError})
            try:
                with pytest.raises(KeyboardInterrupt) as caught:
                    client.get("key")
            finally:
                memcache.socket = __import__("socket")
            check_silent(*everything_about(caught.value))
            server.wait_for(lambda s: WORD.encode() in s.received)


def shown(thing):
    """What looking at an object shows: its attributes, and theirs."""
    texts = [repr(thing), str(thing), repr(dir(thing)), repr(getattr(thing, "__dict__", None))]
    for name in dir(thing):
        try:
            value = getattr(thing, name)
        except Exception as error:
            value = error
        texts.append(repr(value))
        if name in ("servers", "buckets"):
            texts += [text for one in value for text in shown(one)]
    return texts


@pytest.mark.parametrize("kind", [mcext.Client, Own])
def test_a_client_shows_nothing(kind):
    client = kind(["127.0.0.1:1"], **KNOWN)
    assert (repr(client.username), repr(client.password)) == ("<username>", "<password>")
    check_silent(*shown(client))


def test_a_cache_shows_nothing():
    cache = mcext.Cache(["127.0.0.1:1"], **KNOWN)
    hosts = [host for host, _ in cache._hosts.values()]
    check_silent(*shown(cache), repr(cache._secrets), *(text for host in hosts for text in shown(host)))


def test_there_is_no_way_to_read_or_copy_one():
    secret = mcext.Client([], **KNOWN).password
    check_silent(*shown(secret), str(secret), format(secret), f"{secret!a}", repr([secret]))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(secret, protocol)
    for copied in (copy.copy, copy.deepcopy, bytes, memoryview, len, iter, type(secret), lambda one: one + "x"):
        with pytest.raises(TypeError):
            copied(secret)
    assert secret != WORD and secret == secret and hash(secret) == hash(secret)
    with pytest.raises(AttributeError):
        secret.anything = 1
    assert not gc.get_referents(secret) or WORD not in gc.get_referents(secret)


WRONG = {
    "no server": {"servers": 5},
    "a wrong server": {"servers": ["127.0.0.1:11211:x"]},
    "a timeout": {"connect_timeout": "never"},
    "a password that is none": {"password": WORD + "\n"},
    "a password of another type": {"password": [WORD]},
    "a password that is too long": {"password": WORD * 20},
    "a password that is no text": {"password": WORD + "\udcff"},
    "a name that is none": {"username": NAME + " "},
    "a name alone": {"password": None},
    "a password alone": {"username": None},
}


@pytest.mark.parametrize("kind", [mcext.Client, Own, mcext.Cache])
@pytest.mark.parametrize("name", WRONG)
def test_a_constructor_that_fails_shows_nothing(kind, name):
    options = {"servers": ["127.0.0.1:1"], **KNOWN, **WRONG[name]}
    try:
        kind(**options)
    except (TypeError, ValueError, OSError) as error:
        check_silent(*everything_about(error))
        return
    raise AssertionError("it was taken")


def test_a_client_whose_servers_are_wrong_shows_nothing_of_those_it_had():
    for client in (mcext.Client(["127.0.0.1:1"], **KNOWN), mcext.Cache(["127.0.0.1:1"], **KNOWN)):
        with pytest.raises((TypeError, ValueError)) as caught:
            client.set_servers(["127.0.0.1:2", "127.0.0.1:11211:x"])
        check_silent(*everything_about(caught.value))


def test_no_warning_shows_it():
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        mcext.Client(["192.0.2.1:1"], connect_timeout=0.01, **{**KNOWN, "password": WORD + " x"}).get("key")
        mcext.Cache(["192.0.2.1:1"], **{**KNOWN, "password": WORD + " x"})
    assert len(recorded) >= 2
    check_silent(*(str(one.message) for one in recorded))


def test_help_shows_the_options_and_no_values(capsys):
    help(mcext.Client)
    help(mcext.Cache)
    text = capsys.readouterr().out
    assert "username" in text and "password" in text
    check_silent(text)


# ---- hostile answers -------------------------------------------------------------------------------------------------

WORDS = [
    b"STORED",
    b"\r\n",
    b"STORED\r\n",
    b"NOT_STORED",
    b"ERROR",
    b"CLIENT_ERROR ",
    b"SERVER_ERROR ",
    b"VALUE auth 0 ",
]
WORDS += [
    b"unauthenticated",
    b"VERSION 1",
    b"END\r\n",
    b"EN\r\n",
    b"HD\r\n",
    b"1",
    b" ",
    b"\0",
    b"\n",
    b"\r",
    b"s",
    b"OK",
]
WORDS += [b"alice-in-chains", b"correct-horse-battery", b"x" * 9000]
ANSWERS = st.lists(st.sampled_from(WORDS) | st.binary(max_size=20), max_size=8).map(b"".join)


@settings(max_examples=150)
@given(answers=st.lists(ANSWERS, min_size=8, max_size=8), kind=st.sampled_from([mcext.Client, Own]))
def test_no_answer_but_stored_lets_a_request_out(answers, kind):
    """Of many answers at once: each from a server of its own, which closes behind it."""
    told = io.StringIO()

    def script_of(answer):
        return lambda command, number: (answer, CLOSE) if command.startswith(b"set auth ") else (b"END\r\n", CLOSE)

    servers = [ScriptedServer(script_of(answer)).__enter__() for answer in answers]
    before, sys.stderr = sys.stderr, told
    try:
        for answer, server in zip(answers, servers, strict=True):
            client = kind([server.address], debug=1, **KNOWN)
            assert client.get("key") is None
            client.disconnect_all()
            requests = [command for command in server.commands if not command.startswith(b"set auth ")]
            assert requests == [] or answer == b"STORED\r\n"
            assert len(server.connections) == (1 if answer != b"STORED\r\n" else len(server.connections))
    finally:
        sys.stderr = before
        for server in servers:
            server.__exit__(None)
    check_silent(told.getvalue())


# ---- memory ----------------------------------------------------------------------------------------------------------

CHILD = r"""
import gc, os, socket, sys, types
import mcext, memcache

way, address, path, keeps, seconds, authority = sys.argv[1:]

def password():
    # Made anew each time, and gone when it has been said. (Nothing here holds name and password in one.)
    with open(path, "rb") as file:
        return file.read()

class Own(mcext.Client):
    def _get(self, *arguments):
        return super()._get(*arguments)

class Socket(socket.socket):
    pass

if way == "python sockets":
    memcache.socket = types.SimpleNamespace(socket=Socket, timeout=TimeoutError)
options = {"username": "alice", "password": password() if way == "given" else password}
options["tls_context"] = None  # also where clients have one unless a test says else
if "TLS" in way:
    import ssl
    options["tls_context"] = ssl.create_default_context(cafile=authority)
if "cache" in way:
    client = mcext.Cache([address], timeout=float(seconds), errors="miss", **options)
else:
    client = (Own if "replaced" in way else mcext.Client)([address], socket_timeout=float(seconds), **options)
for _ in range(3):
    client.get("key")
    client.close() if "cache" in way else client.disconnect_all()
    if "cache" not in way:
        client.forget_dead_hosts()
if keeps == "open":
    client.get("key")
else:
    del client, options
kept = b"alice " + password() if keeps == "a copy" else None
gc.collect()
print("ready", flush=True)
sys.stdin.read()
"""


def memory_of(pid):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            begin, end, rights = re.match(r"([0-9a-f]+)-([0-9a-f]+) (....)", line).groups()
            size = int(end, 16) - int(begin, 16)
            if rights.startswith("rw") and size < 1 << 36:  # larger ones are what a sanitizer keeps books in
                try:
                    memory.seek(int(begin, 16))
                    yield memory.read(size)
                except OSError:
                    continue


def found_in(pid, needle):
    return sum(part.count(needle) for part in memory_of(pid))


def child_of(way, server, path, keeps, seconds):
    authority = certificates.of_this_process().authority if "TLS" in way else ""
    command = [sys.executable, "-c", CHILD, way, server.address, str(path), keeps, str(seconds), authority]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


ANSWERS_TO_IT = {
    "stored": b"STORED\r\n",
    "refused": b"CLIENT_ERROR authentication failure\r\n",
    "repeated": (b"CLIENT_ERROR %s" % (b"you said " * 150) + b"alice %s\r\n", STALL),
    "silent": STALL,
    "closed": CLOSE,
}
WAYS = ["given", "asked", "cache", "python sockets", "replaced", "TLS", "cache, TLS", "replaced, TLS"]


@pytest.mark.parametrize("answer", ANSWERS_TO_IT)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow
def test_nothing_of_it_is_left_in_our_memory(way, answer, tmp_path):
    """Name and password stand together in what is sent alone: so that is what is looked for."""
    word = os.urandom(12).hex().encode()
    (tmp_path / "word").write_bytes(word)
    said = ANSWERS_TO_IT[answer]
    if answer == "repeated":
        # What a Python socket gives is Python's: it is not looked for there.
        said = (said[0] % (word if way in ("given", "asked", "cache") else b"something"), STALL)

    def script(command, number):
        return said if command.startswith(b"set auth ") else b"END\r\n"

    with ScriptedServer(script, tls=server_contexts.server() if "TLS" in way else None) as server:
        for keeps in ("open", "nothing", "a copy"):
            if keeps == "a copy" and (way, answer) != ("asked", "stored"):
                continue
            seconds = 0.2 if answer == "silent" else 10 * PATIENCE
            with child_of(way, server, tmp_path / "word", keeps, seconds) as child:
                assert child.stdout.readline() == b"ready\n"
                copies = found_in(child.pid, b"alice " + word)
                child.stdin.close()
            assert child.returncode == 0
            assert (copies > 0) == (keeps == "a copy"), f"{copies} copies where it keeps {keeps}"
        assert b"\r\nalice " + word + b"\r\n" in server.received


@pytest.mark.parametrize("way", ["asked", "replaced", "TLS", "replaced, TLS"])
def test_nothing_of_it_is_left_behind_a_real_server(way, tmp_path):
    word = os.urandom(12).hex()
    (tmp_path / "word").write_text(word)
    with memcached(auth=("alice", word), tls="TLS" in way) as server:
        with child_of(way, server, tmp_path / "word", "open", 10 * PATIENCE) as child:
            assert child.stdout.readline() == b"ready\n"
            assert found_in(child.pid, f"alice {word}".encode()) == 0
            child.stdin.close()
        assert child.returncode == 0
