"""What replaces python-memcached's insides in public code: agents that measure, rings, chunks, mocks, TLS."""

import bisect
import contextlib
import hashlib
import pickle
import socket
import ssl
import threading
from unittest import mock

import ports
import pytest

import memcache
from mcext.testing import memcached

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.slow]
KEYS = [f"key{number}" for number in range(40)]


def calls(client, big=100_000):
    """What every kind of call answers, on an empty server."""
    values = {key: f"value of {key}" for key in KEYS}
    return [
        client.set("text", "secret text"),
        client.get("text"),
        client.get("missing", "default"),
        client.set("big", b"secret" * big),
        client.get("big") == b"secret" * big,
        client.set_multi(values),
        client.get_multi(KEYS) == values,
        client.get_multi([*KEYS, "missing"]) == values,
        [client.get(key) for key in KEYS] == list(values.values()),
        client.set_multi(values, key_prefix="prefix-", noreply=True),
        client.get_multi(KEYS, key_prefix="prefix-") == values,
        client.add("text", 1),
        client.replace("text", {"a": [1, 2]}),
        client.get("text"),
        client.set("bytes", b"b"),
        client.append("bytes", b"c"),
        client.prepend("bytes", b"a"),
        client.gets("bytes"),
        client.cas("bytes", b"new"),
        client.cas("bytes", b"newer"),
        client.set("number", 5),
        client.incr("number", 6),
        client.decr("number"),
        client.incr("missing"),
        client.incr("number", noreply=True),
        client.get("number"),
        client.touch("number", 100),
        client.delete("number"),
        client.delete("number"),
        client.delete_multi(KEYS),
        client.get_multi(KEYS),
        len(client.get_stats()) == len(client.servers),
        len(client.get_slab_stats()) == len(client.servers),
        client.flush_all(),
        client.get("text"),
    ]


@pytest.fixture(scope="module")
def expected():
    with memcached() as server:
        return calls(memcache.Client([server.address], cache_cas=True))


# Agents that measure


def test_new_relic_sees_each_call_and_its_server(run_app, server):
    seen = run_app("new_relic.py", server.address)
    assert seen["within"] == seen["without"]
    assert seen["within"][:6] == [True, "text", "default", [], True, True]
    names = ["set", "get", "get", "set_multi", "get_multi"] + ["get"] * 20
    names += ["add", "replace", "append", "prepend", "gets", "cas", "incr", "decr", "delete", "delete_multi"]
    names += ["get_stats", "flush_all"]
    assert [name for name, *_ in seen["recorded"]] == names
    for name, *where in seen["recorded"]:
        about_one = name not in ("set_multi", "get_multi", "delete_multi", "get_stats", "flush_all")
        assert where == ([server.host, str(server.port)] if about_one else [None, None]), name


def test_elastic_apm_sees_each_call_and_its_server(run_app, server):
    seen = run_app("elastic_apm.py", server.address)
    assert seen["within"] == seen["without"]
    assert seen["within"][:5] == [True, "text", "default", [], True]
    names = "set get get set_multi get_multi touch incr delete delete_multi get_stats flush_all disconnect_all".split()
    assert seen["recorded"] == [[f"Client.{name}", server.host] for name in names]


# A ring


class RingClient(memcache.Client):
    """Consistent hashing: a server that goes takes its own keys with it and no others."""

    POINTS = 100

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.build_ring()

    def build_ring(self):
        points = []
        for server in self.servers:
            points += [(self.point(f"{server.address}-{n}"), server) for n in range(self.POINTS * server.weight)]
        points.sort(key=lambda one: one[0])
        self.points = [point for point, _ in points]
        self.owners = [server for _, server in points]

    @staticmethod
    def point(text):
        text = text.encode() if isinstance(text, str) else text
        return int.from_bytes(hashlib.md5(text).digest()[:8], "big")

    def _get_server(self, key):
        hashed, key = key if isinstance(key, tuple) else (self.point(key), key)
        start = bisect.bisect(self.points, hashed)
        for number in range(len(self.owners)):
            server = self.owners[(start + number) % len(self.owners)]
            if server.connect():
                return server, key
        return None, None


@pytest.fixture
def three():
    with memcached() as one, memcached() as two, memcached() as three:
        yield [one, two, three]


def held_by(servers, keys):
    return [set(memcache.Client([server.address]).get_multi(keys)) for server in servers]


def test_a_ring_by_get_server_answers_as_any_client(expected, three, in_threads):
    client = RingClient([server.address for server in three], cache_cas=True)
    assert calls(client) == expected
    values = {key: key for key in KEYS}
    assert client.set_multi(values) == []
    assert in_threads(8, lambda number: [client.get_multi(KEYS) for _ in range(20)]) == [[values] * 20] * 8


def test_a_server_that_leaves_a_ring_takes_its_own_keys_alone(three):
    keys = [f"key{number}" for number in range(300)]
    client = RingClient([server.address for server in three])
    assert client.set_multi(dict.fromkeys(keys, 1)) == []
    before = held_by(three, keys)
    assert all(before) and set.union(*before) == set(keys)
    assert sum(map(len, before)) == len(keys)
    three[1].stop()
    assert set(client.get_multi(keys)) <= before[0] | before[2]  # it may only now be found dead
    assert set(client.get_multi(keys)) == before[0] | before[2]
    assert client.set_multi(dict.fromkeys(before[1], 2)) == []
    assert client.get_multi(keys) == {**dict.fromkeys(before[0] | before[2], 1), **dict.fromkeys(before[1], 2)}
    three[1].start()
    client.forget_dead_hosts()
    assert set(client.get_multi(keys)) == before[0] | before[2]


# Chunks


class ChunkingClient(memcache.Client):
    """Values above CHUNK go into several keys; under the key itself is how many."""

    CHUNK = 1000

    class Chunks(list):
        """The names of the pieces."""

    def _set(self, cmd, key, val, time, min_compress_len=0, noreply=False):
        data = pickle.dumps(val)
        if len(data) > self.CHUNK and cmd in ("set", "add", "replace"):
            pieces = [data[at : at + self.CHUNK] for at in range(0, len(data), self.CHUNK)]
            names = self.Chunks(f"{key}/{number}" for number in range(len(pieces)))
            for name, piece in zip(names, pieces):
                if not super()._set("set", name, piece, time, 0, noreply):
                    return 0
            val = names
        return super()._set(cmd, key, val, time, min_compress_len, noreply)

    def _get(self, cmd, key, default=None):
        found = super()._get(cmd, key, default)
        if not isinstance(found, self.Chunks):
            return found
        pieces = [super(ChunkingClient, self)._get("get", name) for name in found]
        return default if None in pieces else pickle.loads(b"".join(pieces))


class OuterChunkingClient(memcache.Client):
    """The same by set and get."""

    CHUNK = 1000

    def set(self, key, val, time=0, min_compress_len=0, noreply=False):
        data = pickle.dumps(val)
        pieces = {f"{key}/{at}": data[at : at + self.CHUNK] for at in range(0, len(data), self.CHUNK)}
        if self.set_multi(pieces, time, noreply=noreply):
            return 0
        return super().set(key, list(pieces), time, min_compress_len, noreply)

    def get(self, key, default=None):
        names = super().get(key)
        if names is None:
            return default
        pieces = self.get_multi(names)
        return default if len(pieces) != len(names) else pickle.loads(b"".join(pieces[name] for name in names))


@pytest.mark.parametrize("kind", [ChunkingClient, OuterChunkingClient])
@pytest.mark.parametrize("size", [1, 999, 1000, 5000, 2_000_000])
def test_large_values_are_split_over_several_keys(kind, size, three, in_threads):
    client = kind([server.address for server in three])
    kind.CHUNK = 1000 if size < 1_000_000 else 500_000

    def use(number):
        value = f"{number % 10}" * size
        for _ in range(3):
            assert client.set(f"mine{number}", value) is True
            assert client.get(f"mine{number}") == value
            assert client.get(f"nothing{number}", "default") == "default"

    in_threads(4, use)
    items = sum(int(rows["curr_items"]) for _, rows in client.get_stats())
    assert items > 2 * 4 or size == 1


def test_a_value_that_lost_a_piece_is_the_default(three):
    client = ChunkingClient([server.address for server in three])
    ChunkingClient.CHUNK = 1000
    assert client.set("mine", "x" * 5000) is True
    assert memcache.Client([server.address for server in three]).delete("mine/3") == 1
    assert client.get("mine", "default") == "default"
    assert client.set("mine", "y" * 3000) is True
    assert client.get("mine") == "y" * 3000


# Mocks


@pytest.mark.parametrize(
    "name", ["_get_server", "_get", "_set", "_recv_value", "_encode_cmd", "_expectvalue", "check_key"]
)
@pytest.mark.parametrize("way", ["class", "instance"])
def test_mock_patch_object_that_wraps_a_method_of_a_client_sees_its_calls(name, way, expected, server):
    client = memcache.Client([server.address], cache_cas=True)
    original = getattr(client, name)  # of this client: a mock in a class gets no self
    with mock.patch.object(memcache.Client if way == "class" else client, name, side_effect=original) as patched:
        assert calls(client) == expected
        assert len(patched.mock_calls) > 5
    count = len(patched.mock_calls)
    assert calls(client) == expected
    assert len(patched.mock_calls) == count


@pytest.mark.parametrize("name", ["_get_socket", "connect", "send_cmd", "send_cmds", "readline", "expect", "recv"])
@pytest.mark.parametrize("way", ["class", "instance"])
def test_mock_patch_object_that_wraps_a_method_of_a_host_sees_its_calls(name, way, expected, server):
    client = memcache.Client([server.address], cache_cas=True)
    where = memcache._Host if way == "class" else client.servers[0]
    original = getattr(where, name)
    with mock.patch.object(where, name, autospec=way == "class") as patched:
        patched.side_effect = original
        assert calls(client) == expected
        assert patched.mock_calls
    count = len(patched.mock_calls)
    assert calls(client) == expected
    assert len(patched.mock_calls) == count


# TLS


@pytest.fixture(scope="module")
def tls():
    """(server, context of a client that trusts it)"""
    with memcached(tls=True) as server:
        yield server, server.tls_context


class Proxy:
    """Passes bytes on between clients and a server, and keeps what it saw."""

    def __init__(self, host, port):
        self.target = host, port
        self.seen = bytearray()
        self.connections = 0
        self.sockets = []
        self.listener = ports.listen()
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = []

    def __enter__(self):
        self.start(self.accept)
        return self

    def __exit__(self, *exception):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(10)
        for one in self.sockets:
            one.close()

    def start(self, function, *arguments):
        self.threads.append(threading.Thread(target=function, args=arguments, daemon=True))
        self.threads[-1].start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                self.connections += 1
                self.sockets += [client, server]
                self.start(self.pass_on, client, server)
                self.start(self.pass_on, server, client)

    def pass_on(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def get_socket_by_tls(context):
    original = memcache._Host._get_socket

    def _get_socket(self):
        connection = original(self)
        if connection is not None and not isinstance(connection, ssl.SSLSocket):
            try:
                connection = context.wrap_socket(connection, server_hostname="localhost")
            except OSError as error:
                self.mark_dead(error)
                return None
            self.socket = connection
        return connection

    return _get_socket


def tls_host(context):
    return type("TLSHost", (memcache._Host,), {"_get_socket": get_socket_by_tls(context)})


def in_place_of_the_class(context, address, monkeypatch):
    monkeypatch.setattr(memcache, "_Host", tls_host(context))
    return memcache.Client([address], cache_cas=True)


def put_into_servers(context, address, monkeypatch):
    client = memcache.Client([], cache_cas=True)
    client.servers.append(tls_host(context)(address))
    client._init_buckets()
    return client


def on_the_class(context, address, monkeypatch):
    monkeypatch.setattr(memcache._Host, "_get_socket", get_socket_by_tls(context))
    return memcache.Client([address], cache_cas=True)


def on_the_instance(context, address, monkeypatch):
    client = memcache.Client([address], cache_cas=True)
    host = client.servers[0]
    host._get_socket = get_socket_by_tls(context).__get__(host)
    return client


TLS_WAYS = [in_place_of_the_class, put_into_servers, on_the_class, on_the_instance]
PLAIN = [b"get ", b"set ", b"VALUE", b"STORED", b"secret", b"stats", b"version", b"flush_all"]


@pytest.mark.parametrize("make", TLS_WAYS)
def test_a_tls_wrapper_in_get_socket_lets_no_plain_byte_pass(make, tls, expected, monkeypatch, in_threads):
    server, context = tls
    with Proxy(server.host, server.port) as proxy:
        client = make(context, proxy.address, monkeypatch)
        for _ in range(3):
            assert calls(client) == expected
        assert proxy.connections == 1, "the connection was not kept"
        values = {key: f"secret {key}" for key in KEYS}
        assert client.set_multi(values) == []
        assert in_threads(4, lambda number: [client.get_multi(KEYS) for _ in range(10)]) == [[values] * 10] * 4
        client.quit_all()
        assert client.get("key1") == "secret key1"
        client.disconnect_all()
        assert len(proxy.seen) > 3 * 2 * 600_000
        assert [word for word in PLAIN if word in proxy.seen] == []


def test_the_proxy_sees_plain_bytes_where_nothing_wraps(expected, server):
    with Proxy(server.host, server.port) as proxy:
        assert calls(memcache.Client([proxy.address], cache_cas=True)) == expected
        assert [word for word in PLAIN if word not in proxy.seen] in ([], [b"version"])


@pytest.mark.parametrize("make", TLS_WAYS)
def test_a_server_whose_certificate_is_not_trusted_gets_nothing(make, tls, monkeypatch):
    server, _ = tls
    with Proxy(server.host, server.port) as proxy:
        client = make(ssl.create_default_context(), proxy.address, monkeypatch)
        assert client.set("text", "secret") == 0
        assert client.get("text", "default") == "default"
        assert client.get_multi(["text"]) == {}
        assert client.servers[0].deaduntil > 0
        assert [word for word in PLAIN if word in proxy.seen] == []
