"""Any servers, weights and keys: the server is the one that the other client chooses. The other clients are asked."""

import other_clients
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mcext
from mcext import Server, placement

pytestmark = pytest.mark.frameworks

HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9](\.[a-z]{2,5}){1,2}", fullmatch=True),
)
PORTS = st.one_of(st.just(11211), st.integers(1, 65535))
WEIGHTS = st.one_of(st.just(1), st.integers(1, 8), st.integers(1, 1000))


ONE = st.just(1)


def fleets(weights=ONE, at_most=40):
    row = st.tuples(HOSTS, PORTS, weights)
    rows = st.lists(row, min_size=1, max_size=at_most, unique_by=lambda row: row[:2])
    return rows.map(lambda rows: [Server(f"{host}:{port}", weight) for host, port, weight in heaviest_first(rows)])


def heaviest_first(rows):
    """libmemcached 1.0.16, which pylibmc's wheel has, writes beyond its ring where a server of weight 1 comes before
    one of more: it has room for the points of the first kind alone."""
    heaviest = max(rows, key=lambda row: row[2])
    return [heaviest, *(row for row in rows if row is not heaviest)]


def keys(at_most=250):
    character = st.one_of(st.characters(min_codepoint=0x21, max_codepoint=0x7E), st.characters(min_codepoint=0xA1))
    text = st.text(character, min_size=1, max_size=60)
    usual = st.integers(0, 10**9).map(lambda number: f"user:{number}")
    key = st.one_of(usual, text).filter(lambda key: 0 < len(key.encode("utf-8", "replace")) <= at_most)
    return st.lists(key.filter(is_text), min_size=10, max_size=25)


def is_text(key):
    try:
        key.encode()
    except UnicodeEncodeError:  # half of a pair
        return False
    return not any(character.isspace() for character in key)


def compare(servers, keys, one, choose):
    cache = mcext.Cache(servers, placement=one)
    wanted = {key: servers[choose(key)].address for key in keys}
    assert {key: cache.server_for(key) for key in keys} == wanted


HASHES = st.sampled_from(["default", "md5", "crc", "fnv1_64", "fnv1a_64", "fnv1_32", "fnv1a_32", "murmur", "jenkins"])
BEHAVIORS = st.fixed_dictionaries(
    {},
    optional={
        "hash": HASHES,
        "ketama": st.booleans(),
        "ketama_weighted": st.booleans(),
        "ketama_hash": HASHES,
        "distribution": st.sampled_from(["modula", "consistent", "consistent ketama", "consistent weighted"]),
        "_sort_hosts": st.booleans(),
        "tcp_nodelay": st.booleans(),
        "num_replicas": st.integers(0, 3),
        "remove_failed": st.integers(1, 2),
    },
)


@settings(max_examples=60)
@given(fleets(WEIGHTS), BEHAVIORS, keys())
def test_any_dict_of_pylibmcs_means_what_it_means_there(servers, behaviors, keys):
    compare(servers, keys, placement.pylibmc(behaviors), other_clients.pylibmc(servers, behaviors))


@pytest.mark.parametrize("behaviors", [{}, {"ketama": True}, {"ketama_weighted": True}, {"hash": "md5"}], ids=str)
def test_the_behaviors_that_pylibmcs_client_tells_are_a_dict_of_them(behaviors):
    servers = [Server(f"10.0.0.{number}:11211") for number in range(6)]
    client = pytest.importorskip("pylibmc").Client([server.address for server in servers], behaviors=behaviors)
    keys = [f"user:{number}" for number in range(300)]
    compare(servers, keys, placement.pylibmc(client.behaviors), other_clients.pylibmc(servers, behaviors))


@settings(max_examples=25)
@given(fleets(WEIGHTS, 120), keys())
def test_the_points_of_ketama_weighted_are_libmemcacheds(servers, keys):
    behaviors = {"ketama_weighted": True}
    compare(servers, keys, placement.libmemcached("ketama_weighted"), other_clients.pylibmc(servers, behaviors))


@settings(max_examples=30)
@given(fleets(WEIGHTS), st.sampled_from(["modula", "consistent", "ketama"]), HASHES, keys())
def test_what_libmemcached_is_told_by_name_is_what_pylibmc_tells_it(servers, distribution, hash, keys):
    behaviors = {"distribution": distribution.replace("ketama", "consistent ketama"), "hash": hash}
    compare(servers, keys, placement.libmemcached(distribution, hash), other_clients.pylibmc(servers, behaviors))


@settings(max_examples=30)
@given(fleets(), st.booleans(), st.sampled_from(["md5", "fnv1_32", "fnv1a_32", "crc32"]), keys())
def test_libmc_chooses_the_same(servers, are_named, hash, keys):
    if are_named:
        servers = [server._replace(name=f"node{number}") for number, server in enumerate(servers)]
    compare(servers, keys, placement.libmc(hash), other_clients.libmc(servers, hash))


@settings(max_examples=30)
@given(fleets(), keys())
def test_pymemcache_chooses_the_same(servers, keys):
    compare(servers, keys, placement.pymemcache(), other_clients.pymemcache(servers))


@settings(max_examples=25)
@given(fleets(st.integers(1, 5), 12), st.booleans(), st.booleans(), keys())
def test_uhashring_chooses_the_same(servers, are_named, ketama, keys):
    if are_named:
        servers = [server._replace(name=f"node{number}") for number, server in enumerate(servers)]
    compare(servers, keys, placement.uhashring(ketama), other_clients.uhashring(servers, ketama))
