"""TLS that fails, in the handshake, in a reply, while nobody looks: never a wrong value, nothing left open, and the
next call is right (docs/fleets.md, "TLS")."""

import gc
import itertools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from types import SimpleNamespace

import asleep
import descriptors
import ports
import pytest
import server_contexts
import shim
from cutting_proxy import DROP, FIN, FLIP, RESET, TO_CLIENT, TO_SERVER, CuttingProxy
from cutting_proxy import STALL as STALL_BYTES
from dripping_proxy import DrippingProxy
from meddling import Meddling
from other_sockets import DERIVED, IN_C, OVER_OTHERS, Own, sockets, with_others  # noqa: F401  (sockets is a fixture)
from passing import Passing
from scripted_server import CLOSE, CUT, PATIENCE, STALL, ScriptedServer

import mcext
import memcache
from mcext import certificates
from mcext.testing import memcached

AT_ONCE = 20 * PATIENCE
SHORT = 0.2 * PATIENCE


@pytest.fixture
def context():
    return server_contexts.client()


KINDS = {
    "Client": lambda address, **options: mcext.Client(
        [address], **{"socket_timeout": AT_ONCE, "dead_retry": 0, "tls_context": server_contexts.client(), **options}
    ),
    "Cache": lambda address, **options: mcext.Cache(
        [address],
        timeout=options.pop("socket_timeout", AT_ONCE),
        **{"errors": "miss", "dead_retry": 0, "tls_context": server_contexts.client(), **options},
    ),
    "in Python": lambda address, **options: Passing(
        [address], **{"socket_timeout": AT_ONCE, "dead_retry": 0, "tls_context": server_contexts.client(), **options}
    ),
}
KINDS = with_others(KINDS)
ALL_IN_C = [*IN_C, *OVER_OTHERS]
CACHES = [kind for kind in ALL_IN_C if kind.startswith("Cache")]


def close(client):
    if isinstance(client, mcext.Cache):
        client.close()
    else:
        client.disconnect_all()


def within(client, seconds, connects=None):
    """The time that each call may take from now on, and its connects, where that is to change."""
    hosts = client.servers if isinstance(client, mcext.Client) else [host for host, _ in client._hosts.values()]
    for host in hosts:
        host.socket_timeout = seconds
        if connects is not None:
            host.connect_timeout = connects


def get_many(client, keys):
    return client.get_many(keys) if isinstance(client, mcext.Cache) else client.get_multi(keys)


VALUE = b"VALUE k 0 5\r\nvalue\r\nEND\r\n"


def by_key(command, number):
    """A server that has each key, whose value is the key."""
    words = command.split()
    if words[:1] == [b"get"]:
        return b"".join(b"VALUE %s 0 %d\r\n%s\r\n" % (key, len(key), key) for key in words[1:]) + b"END\r\n"
    return None


# ---- cut at every byte

EACH = int(os.environ.get("MCEXT_TLS_EACH", "5"))  # of a handshake's bytes; 1: all of them, which takes a minute


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", [TO_CLIENT, TO_SERVER])
def test_a_handshake_cut_at_every_byte(kind, direction):
    """The reply's bytes are not among them, and come where a later handshake is a shorter one: signatures have 70 to 72
    bytes."""
    with ScriptedServer(by_key, tls=server_contexts.server()) as server, CuttingProxy(server) as proxy:
        client = KINDS[kind](proxy.address)
        assert client.get("k") == b"k"
        with_reply = proxy.passed[direction]
        assert client.get("k") == b"k"
        length = with_reply - (proxy.passed[direction] - with_reply)
        for at in range(0, length, EACH if kind == "Client" else 17):
            close(client)
            server.wait_for(lambda s: s.connections[-1].closed.is_set())  # its goodbye is not to be cut
            client = KINDS[kind](proxy.address)  # without a session
            proxy.cut(direction, at)
            assert client.get("k") in (None, b"k"), at
            assert proxy.done.wait(AT_ONCE)
            assert client.get("k2") == b"k2", at
        close(client)


def call_until_done(client, proxy):
    """One call; and others where a slow machine lets its time be over before the byte that is meant has come."""
    assert client.get("k") in (None, b"k")
    deadline = time.monotonic() + AT_ONCE
    while not proxy.done.wait(SHORT):
        assert time.monotonic() < deadline
        assert client.get("k") in (None, b"k")


@pytest.mark.parametrize("how", [FIN, RESET, FLIP])
@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_cut_at_every_byte(kind, how):
    """A byte that is changed in the length of a record makes a longer one, for which the client waits."""
    with ScriptedServer(by_key, tls=server_contexts.server()) as server, CuttingProxy(server) as proxy:
        client = KINDS[kind](proxy.address, connect_timeout=AT_ONCE)
        client.get("k")
        before = proxy.passed[TO_CLIENT]
        assert client.get("k") == b"k"
        length = proxy.passed[TO_CLIENT] - before
        for at in range(length):
            client.get("k")
            proxy.cut(TO_CLIENT, at, how)
            within(client, SHORT if how == FLIP else AT_ONCE)
            call_until_done(client, proxy)
            within(client, AT_ONCE)
            assert client.get("k2") == b"k2", at
        close(client)


@pytest.mark.parametrize("kind", ALL_IN_C)
def test_values_before_a_cut_are_kept_and_none_is_wrong(kind):
    keys = [f"key-{n}" * 30 for n in range(100)]
    with ScriptedServer(by_key, tls=server_contexts.server()) as server, CuttingProxy(server) as proxy:
        client = KINDS[kind](proxy.address)
        assert len(get_many(client, keys)) == 100
        before = proxy.passed[TO_CLIENT]
        get_many(client, keys)
        length = proxy.passed[TO_CLIENT] - before
        for at in range(0, length, length // 50):
            get_many(client, keys[:1])
            proxy.cut(TO_CLIENT, at)
            found = get_many(client, keys)
            assert all(value == key.encode() for key, value in found.items()), at
            assert get_many(client, keys) == {key: key.encode() for key in keys}
        close(client)


@pytest.mark.parametrize("kind", ALL_IN_C)
def test_a_byte_that_is_lost_ends_the_call(kind):
    with ScriptedServer(by_key, tls=server_contexts.server()) as server, CuttingProxy(server) as proxy:
        client = KINDS[kind](proxy.address, connect_timeout=AT_ONCE)
        client.get("k")
        before = proxy.passed[TO_CLIENT]
        client.get("k")
        for at in range(0, proxy.passed[TO_CLIENT] - before, 6):
            client.get("k")
            proxy.cut(TO_CLIENT, at, DROP)
            within(client, SHORT)
            call_until_done(client, proxy)
            within(client, AT_ONCE)
            assert client.get("k2") == b"k2"
        close(client)


# ---- what is not repeated


@pytest.mark.parametrize("ending", [CLOSE, CUT])
@pytest.mark.parametrize("kind", KINDS)
def test_what_may_be_is_sent_once_more_where_the_server_closed_before_a_word(kind, ending):
    with ScriptedServer([b"END\r\n", ending, VALUE, b"5\r\n", ending], tls=server_contexts.server()) as server:
        client = KINDS[kind](server.address)
        assert client.get("k") is None
        assert client.get("k") == b"value"
        assert client.incr("k") == 5
        assert client.incr("k") is None
        assert server.commands == [b"get k\r\n"] * 3 + [b"incr k 1\r\n"] * 2
        close(client)


@pytest.mark.parametrize("ending", [CLOSE, CUT])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_sent_once_more_behind_the_first_byte(kind, ending):
    with ScriptedServer([(b"VALUE k 0 5\r\nval", ending), VALUE], tls=server_contexts.server()) as server:
        client = KINDS[kind](server.address)
        assert client.get("k") is None
        assert server.commands == [b"get k\r\n"]
        assert client.get("k") == b"value"
        close(client)


def test_what_a_cache_says_of_it(context):
    with ScriptedServer([(b"VALUE k 0 5\r\nval", CUT), CUT], tls=server_contexts.server()) as server:
        cache = mcext.Cache([server.address], tls_context=context, timeout=AT_ONCE)
        with pytest.raises(mcext.ConnectionLost, match="closed the connection"):
            cache.get("k")
        with pytest.raises(mcext.ConnectionLost) as caught:
            cache.incr("k")
        assert caught.value.may_have_run
        cache.close()
    with ScriptedServer(by_key, tls=server_contexts.server()) as server, CuttingProxy(server) as proxy:
        cache = mcext.Cache([proxy.address], tls_context=context, timeout=AT_ONCE)
        assert cache.get("k") == b"k"
        proxy.cut(TO_CLIENT, 10, FLIP)  # in what is encrypted
        with pytest.raises(mcext.ConnectionLost, match=r"BAD_RECORD_MAC|bad record mac|record"):
            cache.get("k")
        assert cache.servers[0].alive
        assert cache.get("k") == b"k"
        cache.close()


@pytest.mark.parametrize("kind", ALL_IN_C)
def test_bytes_behind_a_reply_close_the_connection(kind):
    with ScriptedServer([VALUE + b"STORED\r\n", b"END\r\n"], tls=server_contexts.server()) as server:
        client = KINDS[kind](server.address)
        client.get("k")
        assert client.get("k") is None
        assert len(server.connections) == 2
        close(client)


@pytest.mark.parametrize("kind", ALL_IN_C)
def test_records_behind_a_reply_close_the_connection(kind):
    """However the reply fills the room that was made for it: what is left in TLS's own hands is seen."""
    for length in (*range(1980, 2070), 4060, 8150, 16340, 16384, 65500):
        body = b"v" * length
        reply = b"VALUE k 0 %d\r\n%s\r\nEND\r\n" % (length, body)
        script = [[reply, b"VALUE k 0 1\r\nx\r\nEND\r\n"], b"END\r\n"]
        with ScriptedServer(script, tls=server_contexts.server()) as server:
            client = KINDS[kind](server.address)
            client.get("warm")
            assert client.get("k") in (None, body), length
            assert client.get("k") is None, length
            close(client)


# ---- a client certificate that is wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_who_has_no_certificate_is_refused_and_leaves_the_server_alone(kind, version):
    """In TLS 1.3 the server says so only behind the handshake: to the first command."""
    tls = server_contexts.server()
    tls.maximum_version = getattr(ssl.TLSVersion, version)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(certificates.of_this_process().authority)
    with ScriptedServer(tls=tls) as server:
        client = KINDS[kind](server.address, dead_retry=100) if not kind.startswith("Cache") else None
        if client is None:
            client = mcext.Cache(
                [server.address], tls_context=server_contexts.client(), dead_retry=100, timeout=AT_ONCE
            )
            with pytest.raises(mcext.ServerUnavailable, match="(?i)certificate.required|handshake.failure"):
                client.get("k")
            assert not client.servers[0].alive
            with pytest.raises(mcext.ServerUnavailable, match="marked dead"):
                client.get("k")
        else:
            assert client.get("k") is None and client.get("k") is None
            if kind != "in Python":
                assert client.servers[0].deaduntil > 0
        assert server.received == b""
        if kind != "in Python":
            assert len(server.connections) == 1


# ---- time


@pytest.mark.parametrize("kind", KINDS)
def test_a_handshake_that_stalls_ends_with_the_time_for_connects(kind):
    with ports.listen() as silent:
        client = KINDS[kind](f"127.0.0.1:{silent.getsockname()[1]}", connect_timeout=SHORT)
        began = time.monotonic()
        assert client.get("k") is None
        assert SHORT * 0.9 < time.monotonic() - began < AT_ONCE / 2  # the socket_timeout is longer
        if not kind.startswith("Cache"):
            client.servers[0].dead_retry = 100
            assert client.get("k") is None
            assert client.servers[0].deaduntil > 0


def test_what_a_cache_says_of_a_handshake_that_stalls(context):
    with ports.listen() as silent:
        cache = mcext.Cache([f"127.0.0.1:{silent.getsockname()[1]}"], tls_context=context, connect_timeout=SHORT)
        with pytest.raises(mcext.ServerTimeout, match="the connect timed out"):
            cache.get("k")


@pytest.mark.parametrize("kind", ALL_IN_C)
def test_a_handshake_that_drips_ends_with_the_time_for_connects(kind):
    """Each byte comes well within its time; all of them would take seconds."""
    with ScriptedServer(by_key, tls=server_contexts.server()) as server, DrippingProxy(server) as proxy:
        proxy.drips.set()
        client = KINDS[kind](proxy.address, connect_timeout=SHORT, dead_retry=100)
        began = time.monotonic()
        assert client.get("k") is None
        assert SHORT * 0.9 < time.monotonic() - began < SHORT + 3 * PATIENCE
        assert client.servers[0].deaduntil > 0 if isinstance(client, mcext.Client) else not client.servers[0].alive
        close(client)


@pytest.mark.parametrize("kind", ALL_IN_C)
@pytest.mark.parametrize("call", ["get", "many"])
def test_a_reply_that_drips_ends_with_its_time(kind, call):
    keys = ["k", "l", "m"]
    large = b"v" * 2000  # whose bytes take eight seconds

    def script(command, number):
        found = b"".join(b"VALUE %s 0 %d\r\n%s\r\n" % (key, len(large), large) for key in command.split()[1:])
        return found + b"END\r\n" if command.startswith(b"get ") else None

    with ScriptedServer(script, tls=server_contexts.server()) as server, DrippingProxy(server) as proxy:
        client = KINDS[kind](proxy.address)
        assert client.get("k") == large
        within(client, SHORT)
        proxy.drips.set()
        began = time.monotonic()
        if call == "get":
            assert client.get(keys[0]) is None
        else:
            assert get_many(client, keys).items() <= dict.fromkeys(keys, large).items()
        assert SHORT * 0.9 < time.monotonic() - began < SHORT + 4 * PATIENCE
        close(client)


@pytest.mark.parametrize("at", range(0, 1200, 100))
def test_a_handshake_that_stalls_at_a_byte(at):
    with ScriptedServer(by_key, tls=server_contexts.server()) as server, CuttingProxy(server) as proxy:
        client = KINDS["Cache"](proxy.address, connect_timeout=SHORT, socket_timeout=SHORT)
        proxy.cut(TO_CLIENT, at, STALL_BYTES)
        began = time.monotonic()
        assert client.get("k") in (None, b"k")
        assert time.monotonic() - began < AT_ONCE / 2
        proxy.cut_no_more()  # where the time was over before that byte
        client = KINDS["Cache"](proxy.address)
        assert client.get("k2") == b"k2"
        client.close()


@pytest.mark.parametrize("kind", CACHES)
def test_who_waits_for_a_turn_until_the_time_is_over_marks_nobody_dead(kind, context):
    """Four are in the handshake; a fifth waits for longer than it may, and says so. Over sockets of another class it is
    connected, waits with its socket, and in the end tries without a turn."""
    with ports.listen(backlog=50) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        cache = KINDS[kind](address, tls_context=context, connect_timeout=AT_ONCE, errors="raise", dead_retry=100)
        [host] = [host for host, _ in cache._hosts.values()]
        failed = []

        def call():
            try:
                cache.get("k")
            except mcext.MemcacheError as error:
                failed.append(error)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        inside = [silent.accept()[0] for _ in range(4)]
        assert all(each.recv(1) for each in inside)  # they have their turns
        host.connect_timeout = 5 * SHORT
        began = time.monotonic()
        with pytest.raises(mcext.ServerTimeout, match="while others were in the TLS handshake"):
            cache.get("k")
        assert 4.5 * SHORT < time.monotonic() - began < AT_ONCE / 2
        assert cache.servers[0].alive
        for each in inside:
            each.close()
        for thread in threads:
            thread.join()
        assert len(failed) == 4 and all(isinstance(error, mcext.ServerUnavailable) for error in failed)
        if kind in IN_C:
            silent.settimeout(0)
            with pytest.raises(BlockingIOError):
                silent.accept()


def stop(server):
    os.kill(server.pid, signal.SIGSTOP)
    os.waitpid(server.pid, os.WUNTRACED)  # until it is stopped; it is a child of this process


@pytest.mark.parametrize("kind", ALL_IN_C)
def test_a_server_that_is_stopped(kind):
    with memcached(tls=True) as server:
        client = KINDS[kind](server.address)
        assert client.set("k", b"v")
        within(client, SHORT, connects=SHORT)
        stop(server)
        try:
            assert client.get("k") is None
            assert client.get("k") is None  # whose handshake stalls
        finally:
            os.kill(server.pid, signal.SIGCONT)
        client = KINDS[kind](server.address)
        assert client.get("k") == b"v"
        close(client)


@pytest.mark.parametrize("kind", ALL_IN_C)
def test_a_large_value_to_a_server_that_reads_nothing_ends_with_its_time(kind):
    with memcached("-I", "64m", "-m", "200", tls=True) as server:
        client = KINDS[kind](server.address)
        assert client.set("k", b"v")
        if kind.startswith("Client"):
            client.server_max_value_length = 0
        within(client, SHORT)
        stop(server)
        try:
            assert not client.set("k", bytes(60_000_000))
        finally:
            os.kill(server.pid, signal.SIGCONT)
        within(client, AT_ONCE)
        assert client.get("k") in (None, b"v")
        assert client.set("k", bytes(60_000_000)) and client.get("k") == bytes(60_000_000)
        close(client)


# ---- while nobody looks

IDLE = """
import server_contexts
import mcext
from scripted_server import CLOSE, ScriptedServer

with ScriptedServer(lambda command, number: b"STORED\\r\\n", tls=server_contexts.server()) as server:
    client = mcext.Client([server.address], tls_context=server_contexts.client(), socket_timeout=60)

    def used_again(connections):
        shift_clock(2)
        assert client.add("k", b"v") is True  # which may not be repeated
        assert len(server.connections) == connections, len(server.connections)

    assert client.add("k", b"v") is True
    used_again(1)
    server.push(b"STORED\\r\\n")  # a stray reply
    used_again(2)
    server.close_connection()  # with a goodbye
    used_again(3)
    server._shut(server.connections[-1])  # without
    used_again(4)
    server.push(b"STORED\\r\\n")  # a second call must not find the first stray gone
    server.push(b"STORED\\r\\n")
    used_again(5)
    used_again(5)
    print("done")
"""


OVER = {
    "native": "",
    "sockets of another class": """
import memcache, types
from other_sockets import Other

memcache.socket = types.SimpleNamespace(socket=Other)
""",
}


@pytest.mark.parametrize("over", OVER)
def test_an_idle_connection_is_looked_at(over):
    assert shim.run(OVER[over] + IDLE) == "done\n"


class ByHand:
    """openssl's own server, which sends what it is told: lines, new keys (k; K asks for the client's, too), and in TLS
    1.2 the wish for a renegotiation (r)."""

    def __init__(self, version="-tls1_3"):
        chain = certificates.of_this_process().chain
        with ports.listen() as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.heard = b""
        self.process = subprocess.Popen(
            [shutil.which("stdbuf"), "-o0", shutil.which("openssl"), "s_server"]
            + ["-accept", self.address, "-cert", chain, "-crlf", "-debug", version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.wait_for("ACCEPT")

    def wait_for(self, word):
        while word.encode() not in self.heard:
            data = os.read(self.process.stdout.fileno(), 4096)
            assert data, self.heard
            self.heard += data
        self.heard = self.heard.split(word.encode(), 1)[1]

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        # It looks for a command where a read begins: each has to be its own.
        self.wait_for("SSL_do_handshake -> 1" if line in ("k", "K") else "write to ")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("kind", [*IN_C, *DERIVED])  # each call is of another thread
@pytest.mark.parametrize("command", ["k", "K"])
def test_new_keys(kind, command, context):
    """In a reply, before it, behind it while nobody looks, and often: the connection stays."""
    with ByHand() as server:
        client = KINDS[kind](server.address, tls_context=context)

        def answer(*lines):
            got = []
            thread = threading.Thread(target=lambda: got.append(client.get("k")))
            thread.start()
            server.wait_for("get k")
            for line in lines:
                server.say(line)
            thread.join()
            return got[0]

        assert answer("VALUE k 0 1", "x", "END") == b"x"
        assert answer(command, "VALUE k 0 1", "y", "END") == b"y"
        assert answer("VALUE k 0 1", command, "z", "END", command) == b"z"
        for _ in range(20):
            server.say(command)
        assert answer(*[command] * 20, "VALUE k 0 1", "v", "END") == b"v"
        assert answer("END") is None
        close(client)


NEW_KEYS = """
from concurrent.futures import ThreadPoolExecutor
import server_contexts
import mcext
from openssl_server import OpensslServer

with OpensslServer() as server, ThreadPoolExecutor(1) as pool:
    client = mcext.Client([server.address], tls_context=server_contexts.client(), socket_timeout=60)

    def call():
        told = pool.submit(lambda: (server.wait_for(rb"get k\\r\\n"), server.say(b"END\\r\\n")))
        assert client.get("k") is None
        told.result()

    call()
    for ask in (False, True, True, False):
        server.update_keys(ask)
        shift_clock(2)
        call()
        assert server.connections == 1
    client.disconnect_all()
    print("done")
"""


@pytest.mark.parametrize("over", OVER)
def test_new_keys_are_no_stray(over):
    assert shim.run(OVER[over] + NEW_KEYS) == "done\n"


def test_renegotiation_is_refused(context):
    """Nobody but TLS 1.2 has it, and memcached begins none."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with ByHand("-tls1_2") as server:
        cache = mcext.Cache([server.address], tls_context=context, timeout=AT_ONCE)
        failed = []

        def call():
            try:
                cache.get("k")
            except mcext.MemcacheError as error:
                failed.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        server.wait_for("get k")
        server.say("r")
        thread.join()
        assert isinstance(failed[0], mcext.MemcacheError) and "renegotiation" in str(failed[0])


# ---- a context that meddles


class Mine(Exception):
    pass


METHODS = ["wrap_bio", "do_handshake", "write", "read", "session"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [Mine, KeyboardInterrupt, TimeoutError, OSError(5, "mine"), MemoryError, SystemExit])
@pytest.mark.parametrize("kind", ALL_IN_C)
def test_what_a_method_raises_goes_to_the_caller(kind, error, method):
    """A signal handler may raise anything, too; only ssl.SSLError is the network's."""
    context = Meddling(server_contexts.client())
    raised = error if isinstance(error, type) else type(error)
    before = descriptors.opened()
    with ScriptedServer(by_key, tls=server_contexts.server()) as server:
        client = KINDS[kind](server.address, tls_context=context)
        for calls in range(1, 3):
            context.at(method, calls, error)
            with pytest.raises(raised):
                for _ in range(3):
                    assert client.get("k") == b"k"
                    close(client)
            assert client.get("k2") == b"k2"
            assert get_many(client, ["k", "k3"]) == {"k": b"k", "k3": b"k3"}
        context.at(method, 1, error)
        with pytest.raises(raised):
            for _ in range(3):
                get_many(client, ["k"])
                close(client)
        assert get_many(client, ["k", "k3"]) == {"k": b"k", "k3": b"k3"}
        close(client)
    assert descriptors.opened() <= before


@pytest.mark.parametrize("method", ["wrap_bio", "do_handshake", "write", "read"])
@pytest.mark.parametrize("kind", ALL_IN_C)
def test_an_ssl_error_is_a_failure_of_the_network(kind, method, capsys):
    context = Meddling(server_contexts.client())
    in_connect = method in ("wrap_bio", "do_handshake")
    with ScriptedServer(by_key, tls=server_contexts.server()) as server:
        client = KINDS[kind](server.address, tls_context=context, dead_retry=100)
        strict = mcext.Cache([server.address], tls_context=context, timeout=AT_ONCE)
        for each in client, strict:
            assert each.get("k") == b"k"
            if in_connect:
                close(each)
            context.at(method, 1, ssl.SSLError(1, "[SSL: MINE] the words of it"))
            if each is strict:
                kind_of_error = mcext.ServerUnavailable if in_connect else mcext.ConnectionLost
                with pytest.raises(kind_of_error, match="the words of it") as caught:
                    strict.get("k")
                assert caught.value.may_have_run is (not in_connect)
                assert strict.servers[0].alive is not in_connect
            elif kind.startswith("Client"):
                client.debug = 1
                assert client.get("k") is None
                assert "[SSL: MINE] the words of it" in capsys.readouterr().err
                assert (client.servers[0].deaduntil > 0) is in_connect
            else:
                assert client.get("k") is None
        if not in_connect:
            assert client.get("k") == strict.get("k") == b"k"
        close(client)
        close(strict)


def test_errors_without_words():
    class Silent(ssl.SSLError):
        def __str__(self):
            raise Mine

    context = Meddling(server_contexts.client())
    with ScriptedServer(by_key, tls=server_contexts.server()) as server:
        cache = mcext.Cache([server.address], tls_context=context, timeout=AT_ONCE)
        context.at("do_handshake", 1, Silent(1, "x"))
        with pytest.raises(mcext.ServerUnavailable, match="TLS failed"):
            cache.get("k")


WRONG = {
    "read": [None, "text", 5, b"x" * 100_000],
    "write": [None, "text", 0, -1, 1 << 80, 100_000],
}


@pytest.mark.parametrize("method, answer", [(method, answer) for method in WRONG for answer in WRONG[method]])
@pytest.mark.parametrize("kind", ALL_IN_C)
def test_a_method_that_returns_what_it_may_not(kind, method, answer):
    context = Meddling(server_contexts.client())
    with ScriptedServer(by_key, tls=server_contexts.server()) as server:
        client = KINDS[kind](server.address, tls_context=context)
        assert client.get("k") == b"k"
        context.at(method, 1, lambda real, *arguments: answer)
        with pytest.raises(TypeError, match=rf"{method}\(\) of what tls_context"):
            client.get("k")
        assert client.get("k") == b"k"
        close(client)


@pytest.mark.parametrize("kind", ALL_IN_C)
def test_a_write_that_has_to_read_first(kind):
    """What comes then comes a little at a time."""
    context = Meddling(server_contexts.client())
    with ScriptedServer(by_key, tls=server_contexts.server()) as server:
        client = KINDS[kind](server.address, tls_context=context)
        assert client.get("k") == b"k"
        server.push(b"VERSION 1\r\n")  # something to be read, in the middle of the write
        context.at("write", 1, ssl.SSLWantReadError())
        assert client.get("k") in (None, b"k")
        assert client.get("k2") == b"k2"
        close(client)


@pytest.mark.parametrize("kind", CACHES)
def test_a_fork_in_the_middle(kind):
    """In a method of the stream: the child's call must not write into the parent's stream."""
    for method, number in [("write", 1), ("write", 2), ("read", 1), ("do_handshake", 1), ("do_handshake", 2)]:
        context = Meddling(server_contexts.client())
        with ScriptedServer(by_key, tls=server_contexts.server()) as server:
            cache = KINDS[kind](server.address, tls_context=context)
            if method != "do_handshake":
                assert cache.get("k0") == b"k0"
            children = []

            def fork(real, *arguments, children=children):
                children.append(os.fork())
                return real(*arguments)

            context.at(method, number, fork)
            values = [cache.get(f"k{n}") for n in range(1, 4)]
            if children == [0]:
                status = 0 if all(value in (None, b"k%d" % n) for n, value in enumerate(values, 1)) else 1
                os._exit(status if cache.get("child") == b"child" else 2)
            assert values == [b"k1", b"k2", b"k3"]
            assert os.waitpid(children[0], 0)[1] == 0
            assert cache.get("after") == b"after"
            assert [c.commands[-1] for c in server.connections if b"after" in c.received] == [b"get after\r\n"]
            own = [c for c in server.connections if b"after" in c.received]
            assert b"child" not in own[0].received
            cache.close()


@pytest.mark.parametrize("kind", CACHES)
def test_a_fork_leaves_idle_connections_to_the_parent(kind, context):
    with ScriptedServer(by_key, tls=server_contexts.server()) as server:
        cache = KINDS[kind](server.address, tls_context=context)
        assert cache.get("k") == b"k"
        child = os.fork()
        if child == 0:
            right = cache.get("child") == b"child"
            cache.close()
            gc.collect()
            os._exit(0 if right else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert cache.get("k2") == b"k2"
        assert server.connections[0].commands == [b"get k\r\n", b"get k2\r\n"]
        assert [each.socket.session_reused for each in server.connections] == [False, True]
        cache.close()


# ---- sockets whose methods do more


class Doing(Own):
    """Does something when it has received for the Nth time, counted over all of its kind from 1."""

    received, at, what = itertools.count(1), 0, None

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._recv, self.recv = self.recv, self._receive

    def _receive(self, size):
        is_it = next(Doing.received) == Doing.at
        try:
            return self._recv(size)
        finally:
            if is_it:
                Doing.what()


@pytest.fixture
def doing(monkeypatch):
    monkeypatch.setattr(memcache, "socket", SimpleNamespace(socket=Doing))

    def at(number, what):
        Doing.received, Doing.at, Doing.what = itertools.count(1), number, staticmethod(what)

    return at


@pytest.mark.parametrize("at", range(1, 6))
def test_a_receive_that_calls_the_same_client(at, doing):
    with ScriptedServer(by_key, tls=server_contexts.server()) as server:
        cache = KINDS["Cache"](server.address, errors="raise")
        inner = []
        doing(at, lambda: inner.append(get_many(cache, ["i", "j"])))
        for n in range(4):
            assert cache.get(f"k{n}") == b"k%d" % n
        assert inner == [{"i": b"i", "j": b"j"}]
        cache.close()


@pytest.mark.parametrize("at", range(1, 6))
def test_a_receive_that_raises(at, doing):
    def fail():
        raise Mine

    before = descriptors.opened()
    with ScriptedServer(by_key, tls=server_contexts.server()) as server:
        cache = KINDS["Cache"](server.address, errors="raise")
        doing(at, fail)
        with pytest.raises(Mine):
            for n in range(8):
                assert cache.get(f"k{n}") == b"k%d" % n
        for _ in range(6):  # more than there are turns
            assert get_many(cache, ["k", "l"]) == {"k": b"k", "l": b"l"}
            cache.close()
    assert descriptors.opened() <= before


@pytest.mark.parametrize("at", range(1, 6))
def test_a_receive_that_forks(at, doing):
    children = []
    with ScriptedServer(by_key, tls=server_contexts.server()) as server:
        cache = KINDS["Cache"](server.address)
        doing(at, lambda: children.append(os.fork()))
        values = [cache.get(f"k{n}") for n in range(4)]
        if children == [0]:
            right = all(value in (None, b"k%d" % n) for n, value in enumerate(values))
            for n in range(6):
                cache.close()
                right = right and cache.get(f"child{n}") == b"child%d" % n
            os._exit(0 if right else 1)
        assert values == [b"k0", b"k1", b"k2", b"k3"]
        assert os.waitpid(children[0], 0)[1] == 0
        assert cache.get("after") == b"after"
        [own] = [each for each in server.connections if b"after" in each.received]
        assert b"child" not in own.received
        cache.close()


def test_a_fork_while_a_turn_is_waited_for(doing):
    """In the child nobody is in a handshake, and turns are its own."""
    with ports.listen(backlog=50) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        cache = KINDS["Cache"](address, connect_timeout=AT_ONCE, dead_retry=100)
        [host] = [host for host, _ in cache._hosts.values()]
        threads = [threading.Thread(target=cache.get, args=["k"]) for _ in range(4)]
        for thread in threads:
            thread.start()
        inside = [silent.accept()[0] for _ in range(4)]
        assert all(each.recv(1) for each in inside)
        host.connect_timeout = 10 * SHORT
        children = []
        doing(10, lambda: children.append(os.fork()))  # the threads may count, too
        cache.get("k")
        if children == [0]:
            Doing.at = 0
            memcache.socket = socket
            with ScriptedServer(by_key, tls=server_contexts.server()) as server:
                cache = KINDS["Cache"](server.address)
                os._exit(0 if cache.get("k") == b"k" else 1)
        assert os.waitpid(children[0], 0)[1] == 0
        for each in inside:
            each.close()
        for thread in threads:
            thread.join()


# ---- signals


@pytest.mark.parametrize("kind", ALL_IN_C)
@pytest.mark.parametrize("where", ["handshake", "reply", "turn", "many"])
def test_a_signal_handler_raises_into_a_wait(kind, where, context):
    """The handler runs soon after the signal, whatever is waited for."""

    def handler(number, frame):
        raise Mine

    def ring():
        asleep.wait(threading.main_thread().native_id)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    gc.collect()
    files = descriptors.opened()
    ringing = threading.Thread(target=ring)
    try:
        if where in ("reply", "many"):
            with ScriptedServer(lambda command, number: STALL, tls=server_contexts.server()) as server:
                client = KINDS[kind](server.address, tls_context=context)
                with pytest.raises(Mine):
                    ringing.start()
                    client.get("k") if where == "reply" else get_many(client, ["k", "l"])
                close(client)
        else:
            with ports.listen() as silent:
                client = KINDS[kind](f"127.0.0.1:{silent.getsockname()[1]}", tls_context=context)
                with pytest.raises(Mine):
                    ringing.start()
                    client.get("k")
    finally:
        ringing.join()
        signal.signal(signal.SIGUSR1, before)
    gc.collect()
    assert descriptors.opened() <= files
