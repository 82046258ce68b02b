"""TLS (docs/fleets.md): every kind of call, what is verified, sessions, turns; for Client, Cache, and on the way in
Python. What fails, and how, is in test_tls_failures.py."""

import contextlib
import gc
import os
import ssl
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import descriptors
import pytest
import server_contexts
from other_sockets import IN_C, OVER_OTHERS, sockets, with_others  # noqa: F401  (sockets is a fixture)
from passing import Passing
from patient_server import PatientServer
from scripted_server import PATIENCE, STALL, ScriptedServer

import mcext
import memcache
from mcext.testing import memcached

AT_ONCE = 20 * PATIENCE  # what nothing here takes
LONG = 1000.0


@pytest.fixture(scope="module")
def server():
    with memcached("-I", "8m", "-m", "256", tls=True) as server:
        yield server


@pytest.fixture
def context():
    return server_contexts.client()


KINDS = {
    "Client": lambda servers, **tls: mcext.Client(servers, socket_timeout=AT_ONCE, **tls),
    "Cache": lambda servers, **tls: mcext.Cache(servers, timeout=AT_ONCE, **tls),
    "in Python": lambda servers, **tls: Passing(servers, socket_timeout=AT_ONCE, **tls),
}
KINDS = with_others(KINDS)


@pytest.fixture(params=KINDS)
def make(request):
    """Makes a client of one kind, with a context that trusts the servers of these tests."""
    made = []

    def make(servers, **options):
        options.setdefault("tls_context", server_contexts.client())
        made.append(KINDS[request.param]([servers] if isinstance(servers, str) else servers, **options))
        return made[-1]

    yield make
    for client in made:
        close(client)


def close(client):
    if isinstance(client, mcext.Cache):
        client.close()
    else:
        client.disconnect_all()


def get_many(client, keys):
    return client.get_many(keys) if isinstance(client, mcext.Cache) else client.get_multi(keys)


def set_many(client, values):
    return client.set_many(values) if isinstance(client, mcext.Cache) else client.set_multi(values)


def delete_many(client, keys):
    return client.delete_many(keys) if isinstance(client, mcext.Cache) else client.delete_multi(keys)


# ---- calls


def test_small_calls(server, make):
    client = make(server.address)
    assert client.set("k", b"v") and client.get("k") == b"v"
    assert client.get("miss") is None
    assert client.set("n", 5) and client.incr("n") == 6 and client.decr("n", 2) == 4
    assert client.append("k", b"w") and client.prepend("k", b"u") and client.get("k") == b"uvw"
    assert client.add("k", b"x") is False
    assert client.replace("k", [1, "x"]) and client.get("k") == [1, "x"]
    assert client.touch("k", 100)
    assert client.delete("k") and client.get("k") is None
    assert client.set("later", b"v", noreply=True) is not None
    assert client.get("later") == b"v"
    client.flush_all()
    assert client.get("later") is None


def test_what_a_client_asks_beside(server, context):
    client = mcext.Client([server.address], tls_context=context, socket_timeout=AT_ONCE, cache_cas=True)
    assert client.set("k", b"v") and client.gets("k") == b"v" and client.cas("k", b"w")
    [(name, stats)] = client.get_stats()
    assert name == f"{server.address} (1)" and stats["pid"] == str(server.pid)
    client.quit_all()
    assert client.get("k") == b"w"
    client.disconnect_all()


def test_what_a_cache_asks_beside(server, context):
    with mcext.Cache([server.address], tls_context=context, timeout=AT_ONCE) as cache:
        assert cache.get_or_set("computed", lambda: 5, ttl=60, stale=60) == 5
        assert cache.get_item("computed").value == 5
        assert cache.get_items(["computed"])["computed"].ttl is not None
        assert cache.update("computed", lambda value: value + 1) == 6
        assert cache.invalidate("computed") in (True, False)
        assert cache.version() == {server.address: cache.stats()[server.address]["version"]}
        assert cache.metrics()["connects"] == 1


SIZES = sorted(
    {edge + more for edge in (1, 2048, 4096, 8192, 16384, 32768, 65536) for more in (-1, 0, 1, -7, 7)}
    | {100_000, 1_000_000, 3_000_001}
)


def test_values_of_all_sizes(server, make):
    client = make(server.address)
    if isinstance(client, mcext.Client):
        client.server_max_value_length = 0  # its own limit of what it sends is 1 MB
    source = os.urandom(SIZES[-1])
    for size in SIZES:
        assert client.set("k", source[:size])
        assert client.get("k") == source[:size], size


MANY = {
    "small": {f"small-{n}": b"v" * (n % 40) for n in range(5000)},
    "of all lengths": {f"length-{n}": b"v" * n for n in range(2000)},
    "just copied": {f"copied-{n}": b"v" * (8192 - n % 3) for n in range(100)},
    "just pointed to": {f"pointed-{n}": b"v" * (8193 + n % 3) for n in range(100)},
    "large": {f"large-{n}": os.urandom(40_000 + n) for n in range(40)},
    "mixed": {f"mixed-{n}": os.urandom((n * 7919) % 30_000) for n in range(400)},
    "by long keys": {f"{n:0240}": b"v" for n in range(3000)},
}


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.slow
def test_many_at_once(server, make, kind):
    """memcached before 1.6.40 leaves the rest of a record unread where it has taken a part of it: no rest may be."""
    client = make(server.address)
    values = MANY[kind]
    assert set_many(client, values) == []
    assert get_many(client, list(values)) == values
    assert delete_many(client, list(values))
    assert get_many(client, list(values)) == {}


def test_what_is_pipelined_behind_calls_without_a_reply(server, make):
    client = make(server.address)
    for size in (10, 5000, 20_000):
        for n in range(30):
            client.set(f"quiet-{n}", b"v" * size, noreply=True)
        assert get_many(client, [f"quiet-{n}" for n in range(30)]) == {f"quiet-{n}": b"v" * size for n in range(30)}


def test_several_servers(make):
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(memcached(tls=True)) for _ in range(3)]
        client = make([server.address for server in servers])
        values = {f"k{n}": os.urandom(n) for n in range(3000)}
        assert set_many(client, values) == []
        assert get_many(client, list(values)) == values
        assert delete_many(client, list(values))
        for server in servers:
            other = mcext.Cache([server.address], tls_context=server.tls_context)
            assert int(other.stats()[server.address]["cmd_get"]) > 500


@pytest.mark.parametrize("kind", ["Client", "Cache"])
def test_servers_are_served_together(kind):
    """The first server answers nothing until the second one has got all that is for it, which is several batches."""
    both = threading.Barrier(2)
    values = {f"k{n}": b"v" * 1000 for n in range(2000)}
    seen = [0, 0]

    def script(which):
        def answer(command, number):
            if not command.startswith(b"set "):
                return None
            seen[which] += 1
            if seen[which] == expected[which] // 2:
                both.wait(AT_ONCE)
            return b"STORED\r\n"

        return answer

    with (
        ScriptedServer(script(0), tls=server_contexts.server()) as one,
        ScriptedServer(script(1), tls=server_contexts.server()) as two,
    ):
        client = KINDS[kind]([one.address, two.address], tls_context=server_contexts.client())
        buckets = [0, 0]
        for key in values:
            buckets[memcache.cmemcache_hash(key.encode()) % 2] += 1
        expected = buckets
        assert min(buckets) * 1000 > 3 * 262144
        assert set_many(client, values) == []
        close(client)


@pytest.mark.parametrize("kind", ["Client", "Cache"])
def test_a_silent_server_costs_the_others_nothing(kind, server):
    with ScriptedServer(lambda command, number: STALL, tls=server_contexts.server()) as silent:
        client = KINDS[kind]([server.address, silent.address], tls_context=server_contexts.client())
        if kind == "Cache":
            client = mcext.Cache(
                [server.address, silent.address],
                tls_context=server_contexts.client(),
                timeout=3 * PATIENCE,
                connect_timeout=AT_ONCE,
                errors="miss",
            )
        else:
            client.socket_timeout, client.connect_timeout = 3 * PATIENCE, AT_ONCE
        keys = [f"k{n}" for n in range(200)]
        direct = KINDS[kind]([server.address], tls_context=server_contexts.client())
        assert set_many(direct, dict.fromkeys(keys, b"v")) == []
        own = {key for key in keys if memcache.cmemcache_hash(key.encode()) % 2 == 0}
        assert set(get_many(client, keys)) == own
        for each in client, direct:
            close(each)


def test_unix_sockets_stay_plain(make):
    with memcached(unix=True) as plain, memcached(tls=True) as secret:
        client = make([plain.address, secret.address])
        values = {f"k{n}": b"v" for n in range(100)}
        assert set_many(client, values) == []
        assert get_many(client, list(values)) == values


# ---- who is believed


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_the_host_as_it_is_written_is_verified(make, host):
    with ScriptedServer(host=host if host == "::1" else "127.0.0.1", tls=server_contexts.server()) as server:
        client = make(server.address if host == "::1" else f"{host}:{server.port}")
        assert client.set("k", b"v")


WRONG = {
    "expired": "certificate has expired",
    "not_yet_valid": "certificate is not yet valid",
    "other_name": "IP address mismatch",
    "self_signed": "self.signed certificate",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_certificate_is_a_server_that_is_not_there(make, wrong, capsys):
    with ScriptedServer(tls=getattr(server_contexts, wrong)()) as server:
        client = make(server.address)
        if isinstance(client, mcext.Cache):
            with pytest.raises(mcext.ServerUnavailable, match=f"CERTIFICATE_VERIFY_FAILED.*{WRONG[wrong]}") as caught:
                client.set("k", b"v")
            assert caught.value.server == server.address and caught.value.may_have_run is False
            assert client.servers[0].alive is False
        else:
            client.debug = 1
            assert client.set("k", b"v") == 0
            assert WRONG[wrong].replace(".", "-") in capsys.readouterr().err.replace(".", "-")
            assert client.servers[0].deaduntil > 0
        assert server.received == b""
        assert len(server.connections) == 1


def test_another_name_may_be_asked_for(make):
    with ScriptedServer(tls=server_contexts.other_name()) as server:
        assert make(server.address, tls_server_hostname="other.test").set("k", b"v")
        wrong = make(server.address, tls_server_hostname="localhost")
        if isinstance(wrong, mcext.Cache):
            with pytest.raises(mcext.ServerUnavailable, match="Hostname mismatch"):
                wrong.set("k", b"v")
        else:
            assert wrong.set("k", b"v") == 0


def test_a_context_that_verifies_no_name_is_taken_as_it_is(make):
    context = server_contexts.client()
    context.check_hostname = False
    with ScriptedServer(tls=server_contexts.other_name()) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make(server.address, tls_context=context).set("k", b"v")


def test_client_certificates(make):
    with memcached("-o", "ssl_verify_mode=2", tls=True) as server:
        context = server_contexts.client()
        context.load_cert_chain(server.certificate_file)
        assert make(server.address, tls_context=context).set("k", b"v")
        stranger = make(server.address)
        if isinstance(stranger, mcext.Cache):
            with pytest.raises(mcext.MemcacheError) as caught:
                stranger.get("k")
            assert isinstance(caught.value, (mcext.ServerUnavailable, mcext.ConnectionLost))
        else:
            assert stranger.get("k") is None


@pytest.mark.parametrize("kind", [*IN_C, *OVER_OTHERS])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("command", ["get", "incr"])
def test_who_shows_no_certificate_hears_so_and_leaves_the_server_alone(kind, version, command):
    """A server of TLS 1.3 says so behind the handshake, and has closed by then: the first command may not go out."""
    context = server_contexts.client()
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    with memcached("-o", "ssl_verify_mode=2", tls=True) as server:
        for _ in range(50):
            client = KINDS[kind]([server.address], tls_context=context, dead_retry=LONG)
            if isinstance(client, mcext.Client):
                assert getattr(client, command)("k") is None
                assert client.servers[0].deaduntil > 0
            else:
                with pytest.raises(mcext.ServerUnavailable, match="(?i)certificate.required|handshake.failure"):
                    getattr(client, command)("k")
                assert not client.servers[0].alive
            close(client)


def verifying_nothing():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("kind", ["Client", "Cache"])
def test_each_client_is_warned_of_at_its_own_line(server, kind):
    context = verifying_nothing()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("default")
        for make in getattr(mcext, kind), getattr(mcext, kind):
            make([server.address], tls_context=context)
        make([server.address], tls_context=context)
    assert [each.filename for each in heard] == [__file__] * 2
    assert len({each.lineno for each in heard}) == 2


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_versions(server, make, version):
    context = server_contexts.client()
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    client = make(server.address, tls_context=context)
    value = os.urandom(100_000)
    assert client.set("k", value) and client.get("k") == value
    close(client)
    assert client.get("k") == value


def test_a_server_of_tls_1_2_only(make):
    context = server_contexts.server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with ScriptedServer(tls=context) as server:
        assert make(server.address).set("k", b"v")
        context = server_contexts.client()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        other = make(server.address, tls_context=context)
        if isinstance(other, mcext.Cache):
            with pytest.raises(mcext.ServerUnavailable, match="(?i)protocol.version"):
                other.set("k", b"v")
        else:
            assert other.set("k", b"v") == 0


def test_tls_to_a_port_in_the_clear(make):
    with memcached() as plain:
        client = make(plain.address)
        if isinstance(client, mcext.Cache):
            with pytest.raises(mcext.ServerUnavailable, match="WRONG_VERSION_NUMBER|wrong version number"):
                client.get("k")
        else:
            assert client.get("k") is None
            assert client.servers[0].deaduntil > 0


def test_in_the_clear_to_a_port_with_tls(server):
    assert mcext.Client([server.address], socket_timeout=AT_ONCE).get("k") is None
    with pytest.raises((mcext.ConnectionLost, mcext.ProtocolError)):
        mcext.Cache([server.address], timeout=AT_ONCE).get("k")


# ---- options


@pytest.mark.parametrize("kind", ["Client", "Cache"])
def test_wrong_options(kind, context):
    make = KINDS[kind]
    for wrong in (True, "ca.pem", object(), {"verify": True}):
        with pytest.raises(TypeError, match=r"tls_context must be an ssl\.SSLContext"):
            make(["127.0.0.1:1"], tls_context=wrong)
    for wrong in (b"name", 5, ["name"], {"127.0.0.1:1": "name"}):
        with pytest.raises(TypeError, match="tls_server_hostname must be a str"):
            make(["127.0.0.1:1"], tls_context=context, tls_server_hostname=wrong)
    with pytest.raises(ValueError, match="tls_server_hostname must not be empty"):
        make(["127.0.0.1:1"], tls_context=context, tls_server_hostname="")
    with pytest.raises(ValueError, match="tls_server_hostname is given without a tls_context"):
        make(["127.0.0.1:1"], tls_server_hostname="name")


def test_what_raises_when_it_is_looked_at_raises():
    class Context:
        @property
        def wrap_bio(self):
            raise KeyError("mine")

    class Mode:
        wrap_bio = None

        @property
        def verify_mode(self):
            raise KeyError("mine")

    for kind in "Client", "Cache":
        for wrong in Context(), Mode():
            with pytest.raises(KeyError, match="mine"):
                KINDS[kind](["127.0.0.1:1"], tls_context=wrong)


@pytest.mark.parametrize("kind", ["Client", "Cache"])
def test_a_context_that_verifies_nothing_warns_once(server, kind):
    context = verifying_nothing()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        client = KINDS[kind](
            [server.address, (server.address.replace("127.0.0.1", "localhost"), 2)], tls_context=context
        )
        assert client.set("k", b"v") and client.get("k") == b"v"
        close(client)
        assert client.get("k") == b"v"
        close(client)
    assert [each.category for each in heard] == [RuntimeWarning]
    assert "verifies no certificate" in str(heard[0].message)
    with warnings.catch_warnings(), pytest.raises(RuntimeWarning):
        warnings.simplefilter("error")
        KINDS[kind]([server.address], tls_context=context)


def test_attributes_act(server, context):
    client = mcext.Client([server.address], socket_timeout=AT_ONCE)
    assert client.tls_context is None and client.tls_server_hostname is None
    assert client.servers[0].tls_context is None and client.servers[0].tls_server_hostname is None
    client.tls_context = context
    assert client.tls_context is context and client.servers[0].tls_context is context
    assert client.set("k", b"v") and client.get("k") == b"v"
    client.tls_server_hostname = "other.test"
    client.servers[0].dead_retry = 0
    assert client.get("k") is None  # the connection from before is used no more
    client.tls_server_hostname = None
    assert client.get("k") == b"v"
    with pytest.raises(TypeError, match="tls_context"):
        client.tls_context = "x"
    with pytest.raises(TypeError, match="tls_context"):
        client.servers[0].tls_context = "x"
    with pytest.raises(TypeError, match="tls_server_hostname"):
        client.servers[0].tls_server_hostname = 5
    assert client.tls_context is context and client.get("k") == b"v"
    del client.servers[0].tls_context
    assert client.servers[0].tls_context is None
    client.disconnect_all()


def test_the_same_options_again_leave_connections_alone(context):
    with ScriptedServer(tls=server_contexts.server()) as server:
        client = mcext.Client([server.address], socket_timeout=AT_ONCE, tls_context=context)
        assert client.set("k", b"v")
        client.tls_context = context
        client.tls_server_hostname = None
        client.__init__([server.address], socket_timeout=AT_ONCE, tls_context=context)
        assert client.set("k", b"v")
        assert len(server.connections) == 1
        client.disconnect_all()


def test_ssl_is_imported_by_who_uses_it():
    code = """
import sys, mcext, memcache
mcext.Client(["127.0.0.1:1"]).get("k"), mcext.Cache(["127.0.0.1:1"], errors="miss").get("k")
assert "ssl" not in sys.modules, "imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60 * PATIENCE)


# ---- sessions


def reused(server):
    return [connection.socket.session_reused for connection in server.connections]


@pytest.mark.parametrize("kind", [*IN_C, *OVER_OTHERS])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_session_is_taken_up_again(kind, version, context):
    context.maximum_version = getattr(ssl.TLSVersion, version)
    with ScriptedServer(tls=server_contexts.server()) as server:
        client = KINDS[kind]([server.address], tls_context=context)
        for _ in range(5):
            assert client.set("k", b"v")
            close(client)
        assert reused(server) == [False, True, True, True, True]


def test_memcached_gives_tickets(context):
    """Its own count is of full handshakes and of tickets: of TLS 1.2 one for each handshake that was not shortened."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with memcached("-t", "1", "-o", "ssl_session_cache", tls=True) as server:
        client = mcext.Cache([server.address], tls_context=context, timeout=AT_ONCE)
        client.get("k")
        before = int(client.stats()[server.address]["ssl_new_sessions"])
        for _ in range(5):
            client.close()
            client.get("k")
        assert int(client.stats()[server.address]["ssl_new_sessions"]) == before


def test_another_context_begins_anew(context):
    with ScriptedServer(tls=server_contexts.server()) as server:
        client = mcext.Client([server.address], tls_context=context, socket_timeout=AT_ONCE)
        client.get("k")
        client.tls_context = server_contexts.client()
        client.get("k")
        client.tls_server_hostname = "localhost"
        client.get("k")
        client.disconnect_all()
        client.get("k")
        assert reused(server) == [False, False, False, True]
        client.disconnect_all()


def test_what_stands_behind_a_context_may_change():
    """Someone who loads certificates anew puts another context behind the same object."""

    class Changing:
        def __init__(self):
            self.now = server_contexts.client()

        def wrap_bio(self, *arguments, **options):
            return self.now.wrap_bio(*arguments, **options)

    context = Changing()
    with ScriptedServer(tls=server_contexts.server()) as server:
        client = mcext.Cache([server.address], tls_context=context, timeout=AT_ONCE)
        for change in (False, False, True, False):
            if change:
                context.now = server_contexts.client()
            assert client.set("k", b"v")
            client.close()
        assert reused(server) == [False, True, False, True]


def test_a_session_that_the_server_has_forgotten_costs_a_handshake():
    tls = server_contexts.server()
    with ScriptedServer(tls=tls) as server:
        client = mcext.Cache([server.address], tls_context=server_contexts.client(), timeout=AT_ONCE)
        client.get("k")
        client.close()
        server._tls = server_contexts.server()  # with another key for its tickets
        assert client.set("k", b"v")
        assert reused(server) == [False, False]
        client.close()


def test_servers_have_sessions_of_their_own(context):
    with ScriptedServer(tls=server_contexts.server()) as one, ScriptedServer(tls=server_contexts.server()) as two:
        client = mcext.Cache([one.address, two.address], tls_context=context, timeout=AT_ONCE)
        keys = [f"k{n}" for n in range(50)]
        for _ in range(3):
            client.get_many(keys)
            client.close()
        assert reused(one) == reused(two) == [False, True, True]


# ---- turns


class Counting:
    """A server's context whose connections wait before they answer the client's hello; how many do so at once."""

    def __init__(self, server):
        self.context = server
        self.changed = threading.Condition()
        self.waiting = self.most = self.permits = 0

    def notify(self):
        with self.changed:
            self.changed.notify_all()

    def wrap_bio(self, incoming, outgoing, server_side):
        with self.changed:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.permits > 0, AT_ONCE)
            self.permits -= 1
            self.waiting -= 1
        return self.context.wrap_bio(incoming, outgoing, server_side=server_side)


@pytest.mark.parametrize("kind", [*IN_C, *OVER_OTHERS])
def test_at_most_four_handshakes_at_once(kind):
    tls = Counting(server_contexts.server())
    callers = 12
    with PatientServer(tls=tls) as server:
        client = KINDS[kind]([server.address], tls_context=server_contexts.client())
        with ThreadPoolExecutor(callers) as pool:
            together = threading.Barrier(callers)
            calls = [pool.submit(lambda: (together.wait(), client.set("k", b"v"))) for _ in range(callers)]
            for call in calls:
                call.add_done_callback(lambda call: tls.notify())
            with tls.changed:
                assert tls.changed.wait_for(lambda: tls.waiting == 4, AT_ONCE)
                while not all(call.done() for call in calls):
                    tls.permits = 1
                    tls.notify()
                    assert tls.changed.wait_for(lambda: tls.permits == 0 or all(call.done() for call in calls), AT_ONCE)
            assert all(call.result()[1] for call in calls)
        assert tls.most == 4
        close(client)


# ---- threads, forks, interpreters, greenlets


def test_threads(server, make):
    client = make(server.address)
    values = {f"t{n}": os.urandom(n * 100) for n in range(50)}
    assert set_many(client, values) == []

    def work():
        for _ in range(20):
            assert get_many(client, list(values)) == values
            for key, value in values.items():
                assert client.get(key) == value
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(call.result() for call in [pool.submit(work) for _ in range(6)])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_behind(server, context, kind):
    """Files, and objects: a context, its streams and sessions end with the client."""
    files, references = descriptors.opened(), sys.getrefcount(context)
    for _ in range(20):
        client = KINDS[kind]([server.address], tls_context=context)
        assert client.set("k", b"v")
        del client
    gc.collect()
    assert descriptors.opened() <= files and sys.getrefcount(context) == references


class Ending(ssl.SSLContext):
    client = None
    ended = 0

    def __del__(self):
        Ending.ended += 1


class Wrapped:
    """Like an SSLObject, which itself hides from the garbage collector what it refers to."""

    def __init__(self, inner, owner):
        self.inner, self.owner = inner, owner
        self.read, self.write, self.do_handshake = inner.read, inner.write, inner.do_handshake
        self.pending, self.version = inner.pending, inner.version


class Wrapping:
    def __init__(self, inner):
        self.inner = inner
        self.client = None

    def wrap_bio(self, *arguments, **options):
        return Wrapped(self.inner.wrap_bio(*arguments, **options), self)

    def __del__(self):
        Ending.ended += 1


@pytest.mark.parametrize("kind", [*IN_C, *OVER_OTHERS])
def test_a_client_that_its_context_refers_to_ends_all_the_same(server, kind):
    Ending.ended = 0
    context = Ending(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(server.ca_file)
    context.client = KINDS[kind]([server.address], tls_context=context)
    assert context.client.set("k", b"v")
    close(context.client)
    other = Wrapping(server_contexts.client())
    other.client = KINDS[kind]([server.address], tls_context=other)
    assert other.client.set("k", b"v")  # and its connection stays
    del context, other
    gc.collect()
    assert Ending.ended == 2
