"""Five real memcacheds, filled by another client: mcext finds every key. And the other way round."""

import contextlib

import pytest
from other_clients import patient
from twemproxy import PROGRAM, twemproxy

import mcext
from mcext import Server, placement
from mcext.testing import memcached

KEYS = [f"user:{number * 7919}" for number in range(1000)]
KEYS += [f":1:views.decorators.cache.{number:x}" for number in range(600)]
KEYS += [f"käse-{number}-日本語" for number in range(300)]
KEYS += ["k" * length + str(length) for length in range(1, 101)]


@pytest.fixture(scope="module")
def servers():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(memcached("-m", "100")) for _ in range(5)]


@pytest.fixture(scope="module")
def sockets():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(memcached("-m", "100", unix=True)) for _ in range(3)]


@pytest.fixture(autouse=True)
def empty(servers, sockets):
    for server in [*servers, *sockets]:
        client = mcext.Client([server.address])
        client.flush_all()
        client.disconnect_all()


def values(who):
    return {key: f"{who}: {key}".encode() for key in KEYS}


def both_ways(servers, one, store, fetch, prefix=""):
    """store({key: value}) and fetch(keys) are the other client's."""
    client = mcext.Client(servers, placement=one)
    cache = mcext.Cache(servers, placement=one, prefix=prefix)
    store(values("theirs"))
    if not prefix:
        assert client.get_multi(KEYS) == values("theirs")
        assert {key: client.get(key) for key in KEYS} == values("theirs")
    assert cache.get_many(KEYS) == values("theirs")
    assert {key: cache.get(key) for key in KEYS[::20]} == {key: f"theirs: {key}".encode() for key in KEYS[::20]}
    assert cache.delete_many(KEYS) == len(KEYS)
    assert cache.set_many(values("ours")) == []
    assert fetch(KEYS) == values("ours")
    if not prefix:
        assert client.set_multi(values("again")) == []
        assert fetch(KEYS) == values("again")
    client.disconnect_all()
    cache.close()


# pylibmc


@pytest.mark.frameworks
@pytest.mark.parametrize(
    "behaviors",
    [
        {},
        {"ketama": True},
        {"ketama": True, "hash": "md5", "tcp_nodelay": True},
        {"ketama_weighted": True},
        {"distribution": "consistent", "hash": "murmur"},
        {"hash": "fnv1a_32", "_sort_hosts": True},
        {"hash": "jenkins"},
    ],
    ids=str,
)
def test_pylibmc(servers, behaviors):
    pylibmc = pytest.importorskip("pylibmc")
    other = pylibmc.Client([server.address for server in servers], behaviors=behaviors)
    one = placement.pylibmc(behaviors)
    both_ways([server.address for server in servers], one, other.set_multi, other.get_multi)


@pytest.mark.frameworks
@pytest.mark.parametrize("weights", [(1, 2, 4, 3, 1), (100, 1, 7, 13, 50)])
@pytest.mark.parametrize("behaviors", [{"ketama_weighted": True}, {}], ids=str)
def test_pylibmc_with_weights(servers, behaviors, weights):
    pylibmc = pytest.importorskip("pylibmc")
    weighted = [(server.address, weight) for server, weight in zip(servers, weights, strict=True)]
    other = pylibmc.Client([f"{address}:{weight}" for address, weight in weighted], behaviors=behaviors)
    both_ways(weighted, placement.pylibmc(behaviors), other.set_multi, other.get_multi)


@pytest.mark.frameworks
@pytest.mark.parametrize("is_hashed", [False, True])
def test_the_namespace_of_pylibmc_is_the_prefix_of_a_cache(servers, is_hashed):
    pylibmc = pytest.importorskip("pylibmc")
    behaviors = {"ketama": True, "_hash_with_prefix_key": is_hashed, "namespace": b"shop:"}
    other = pylibmc.Client([server.address for server in servers], behaviors=behaviors)
    one = placement.pylibmc(behaviors)
    both_ways([server.address for server in servers], one, other.set_multi, other.get_multi, prefix="shop:")


@pytest.mark.frameworks
@pytest.mark.parametrize("behaviors", [{"ketama": True}, {"ketama_weighted": True}], ids=str)
def test_pylibmc_on_unix_sockets(sockets, behaviors):
    pylibmc = pytest.importorskip("pylibmc")
    other = pylibmc.Client([server.path for server in sockets], behaviors=behaviors)
    one = placement.pylibmc(behaviors)
    both_ways([server.address for server in sockets], one, other.set_multi, other.get_multi)


# libmc


@pytest.mark.frameworks
@pytest.mark.parametrize("hash, constant", [("md5", "MD5"), ("fnv1_32", "FNV1_32"), ("crc32", "CRC_32")])
def test_libmc(servers, hash, constant):
    libmc = pytest.importorskip("libmc")
    hash_fn = getattr(libmc, f"MC_HASH_{constant}")
    other = patient(libmc.Client([server.address for server in servers], hash_fn=hash_fn, comp_threshold=0))
    both_ways([server.address for server in servers], placement.libmc(hash), other.set_multi, other.get_multi)


@pytest.mark.frameworks
def test_libmc_with_a_prefix(servers):
    libmc = pytest.importorskip("libmc")
    other = patient(libmc.Client([server.address for server in servers], prefix="shop:"))
    addresses = [server.address for server in servers]
    both_ways(addresses, placement.libmc(), other.set_multi, other.get_multi, prefix="shop:")


@pytest.mark.frameworks
def test_libmc_with_aliases(servers):
    libmc = pytest.importorskip("libmc")
    other = patient(libmc.Client([f"{server.address} node{number}" for number, server in enumerate(servers)]))
    named = [Server(server.address, name=f"node{number}") for number, server in enumerate(servers)]
    both_ways(named, placement.libmc(), other.set_multi, other.get_multi)


@pytest.mark.frameworks
def test_libmc_on_unix_sockets(sockets):
    libmc = pytest.importorskip("libmc")
    other = patient(libmc.Client([server.path for server in sockets]))
    both_ways([server.address for server in sockets], placement.libmc(), other.set_multi, other.get_multi)


# pymemcache


def pymemcache_client(servers, **options):
    hash_client = pytest.importorskip("pymemcache.client.hash").HashClient
    return hash_client(servers, allow_unicode_keys=True, default_noreply=False, **options)


@pytest.mark.frameworks
@pytest.mark.parametrize("prefix", ["", "shop:"])
def test_pymemcache(servers, prefix):
    other = pymemcache_client([(server.host, server.port) for server in servers], key_prefix=prefix.encode())
    addresses = [server.address for server in servers]
    both_ways(addresses, placement.pymemcache(), other.set_many, other.get_many, prefix=prefix)
    other.close()


@pytest.mark.frameworks
def test_pymemcache_on_unix_sockets(sockets):
    other = pymemcache_client([server.path for server in sockets])
    both_ways([server.address for server in sockets], placement.pymemcache(), other.set_many, other.get_many)
    other.close()


# uhashring: the ring alone; which client speaks to its nodes is of no account


class Ring:
    def __init__(self, nodes, ketama, addresses):
        ring = pytest.importorskip("uhashring").HashRing
        self.node_of = (ring(nodes, hash_fn="ketama") if ketama else ring(nodes)).get_node
        self.clients = {node: mcext.Client([address]) for node, address in zip(nodes, addresses, strict=True)}

    def store(self, mapping):
        for key, value in mapping.items():
            assert self.clients[self.node_of(key)].set(key, value)

    def fetch(self, keys):
        return {key: self.clients[self.node_of(key)].get(key) for key in keys}

    def close(self):
        for client in self.clients.values():
            client.disconnect_all()


@pytest.mark.frameworks
@pytest.mark.parametrize("ketama", [False, True])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1, 1), (1, 2, 4, 3, 1)])
@pytest.mark.parametrize("are_named", [False, True])
def test_uhashring(servers, ketama, weights, are_named):
    given = [
        Server(server.address, weight, f"node{number}" if are_named else None)
        for number, (server, weight) in enumerate(zip(servers, weights, strict=True))
    ]
    ring = Ring({one.name or one.address: one.weight for one in given}, ketama, [one.address for one in given])
    both_ways(given, placement.uhashring(ketama), ring.store, ring.fetch)
    ring.close()


# twemproxy: Debian's nutcracker stands before the same servers


def through_twemproxy(given, one, **options):
    with twemproxy(given, **options) as proxy:
        other = mcext.Client([proxy.address])
        both_ways(given, one, lambda mapping: set_all(other, mapping), lambda keys: fetch_all(other, keys))
        other.disconnect_all()


def set_all(client, mapping):
    assert client.set_multi(mapping) == []


def fetch_all(client, keys):
    """In parts: it takes no longer line."""
    found = {}
    for at in range(0, len(keys), 100):
        found |= client.get_multi(keys[at : at + 100])
    return found


HASHES = ["one_at_a_time", "md5", "crc32", "crc32a", "fnv1_64", "fnv1a_64", "fnv1_32", "fnv1a_32", "murmur", "jenkins"]
nutcracker = pytest.mark.skipif(PROGRAM is None, reason="nutcracker is not installed")


@nutcracker
@pytest.mark.parametrize("hash", HASHES)
def test_twemproxy_by_each_hash(servers, hash):
    one = placement.twemproxy(hash=hash)
    through_twemproxy([Server(server.address) for server in servers], one, distribution="ketama", hash=hash)


@nutcracker
@pytest.mark.parametrize("distribution", ["ketama", "modula"])
@pytest.mark.parametrize("names", [(None,) * 5, ("e", "dd", "c", "bbb", "a")])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1, 1), (1, 2, 4, 3, 1)])
def test_twemproxy_by_names_and_weights(servers, distribution, names, weights):
    given = [Server(server.address, *rest) for server, *rest in zip(servers, weights, names, strict=True)]
    through_twemproxy(given, placement.twemproxy(distribution), distribution=distribution)


@nutcracker
@pytest.mark.parametrize("distribution", ["ketama", "modula"])
def test_twemproxy_on_unix_sockets(sockets, distribution):
    given = [Server(server.address) for server in sockets]
    through_twemproxy(given, placement.twemproxy(distribution), distribution=distribution)


@nutcracker
def test_twemproxy_with_a_hash_tag(servers):
    one = placement.twemproxy(hash_tag="{}")
    given = [Server(server.address) for server in servers]
    with twemproxy(given, distribution="ketama", hash_tag="{}") as proxy:
        other, client = mcext.Client([proxy.address]), mcext.Client(given, placement=one)
        shapes = ("{%s}:a", "b:{%s}", "{}%s", "{%s", "%s}", "}%s{", "a{%s}{b}", "{{%s}}")
        keys = [shape % number for shape in shapes for number in range(250)]
        assert other.set_multi({key: key for key in keys}) == []
        assert client.get_multi(keys) == {key: key for key in keys}
        assert client.set_multi(dict.fromkeys(keys, "ours")) == []
        assert fetch_all(other, keys) == dict.fromkeys(keys, "ours")
        other.disconnect_all()
        client.disconnect_all()
