"""One of five real servers is killed: no key of another server moves, whatever the placement, on each way of a call."""

import contextlib

import customised
import pytest

import mcext
import memcache
from mcext import Server, placement
from mcext.testing import memcached

KEYS = [f"{number * 7919 % 100_003}:user" for number in range(300)]
PLACEMENTS = [
    placement.python_memcached(),
    placement.libmemcached(),
    placement.libmemcached("ketama"),
    placement.libmemcached("ketama_weighted"),
    placement.libmc(),
    placement.pymemcache(),
    placement.uhashring(),
    placement.uhashring(ketama=True),
    placement.twemproxy(),
    placement.twemproxy("modula"),
    placement.rendezvous(),
]
# Where the points of the others stay as they are when a server goes: what is next is what such a fleet without it has.
STEADY = [
    one for one in PLACEMENTS if one not in (PLACEMENTS[0], placement.libmemcached(), placement.twemproxy("modula"))
]

every_placement = pytest.mark.parametrize("one", PLACEMENTS, ids=repr)


@pytest.fixture(scope="module")
def five():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(memcached()) for _ in range(5)]


@pytest.fixture
def servers(five):
    """All of them run, and are empty."""
    revive(five)
    return five


def revive(servers):
    for server in servers:
        if not server._is_running():
            server.start()
        client = mcext.Client([server.address])
        client.flush_all()
        client.disconnect_all()


class Customised(memcache.Client):
    """Its calls go through mcext.pure."""


customised.customise(Customised)


class Way:
    """A client of some kind; `get` and `set_many` are the same of all."""

    def __init__(self, kind, servers, one, on_dead):
        options = {"placement": one, "on_dead": on_dead, "dead_retry": 1000}
        if kind is mcext.Cache:
            options["errors"] = "miss"
        self.client = kind(servers, **options)
        self.get = self.client.get
        self.get_many = getattr(self.client, "get_multi", None) or self.client.get_many
        self.set_many = getattr(self.client, "set_multi", None) or self.client.set_many
        self.set = self.client.set
        self.server_for = self.client.server_for
        self.close = getattr(self.client, "disconnect_all", None) or self.client.close


every_way = pytest.mark.parametrize("kind", [mcext.Client, Customised, mcext.Cache], ids=lambda kind: kind.__name__)


def homes(servers):
    """{key: the address of the one server that has it}, asked of each server."""
    found = {}
    for server in servers:
        direct = mcext.Client([server.address])
        for key in direct.get_multi(KEYS):
            assert key not in found, f"{key} is on two servers"
            found[key] = server.address
        direct.disconnect_all()
    return found


@every_placement
@every_way
def test_on_dead_miss_asks_no_other_server(servers, one, kind):
    way = Way(kind, [server.address for server in servers], one, "miss")
    assert way.set_many(dict.fromkeys(KEYS, b"value")) == []
    before = homes(servers)
    assert before == {key: way.server_for(key) for key in KEYS}
    servers[2].kill()
    gone = [key for key in KEYS if before[key] == servers[2].address]
    left = {key: b"value" for key in KEYS if before[key] != servers[2].address}
    assert gone and left
    assert way.get_many(KEYS) == left
    assert {key: way.get(key) for key in KEYS} == {**dict.fromkeys(gone), **left}
    assert sorted(way.set_many(dict.fromkeys(KEYS, b"again"))) == sorted(gone)
    assert not way.set(gone[0], b"again") and way.set(next(iter(left)), b"again")
    alive = [server for number, server in enumerate(servers) if number != 2]
    assert homes(alive) == {key: before[key] for key in left}
    assert way.server_for(gone[0]) == servers[2].address
    way.close()


@every_placement
@every_way
def test_on_dead_next_moves_the_keys_of_the_dead_server_alone(servers, one, kind):
    way = Way(kind, [server.address for server in servers], one, "next")
    assert way.set_many(dict.fromkeys(KEYS, b"value")) == []
    before = homes(servers)
    servers[2].kill()
    gone = [key for key in KEYS if before[key] == servers[2].address]
    assert way.get_many(KEYS) == {key: b"value" for key in KEYS if key not in gone}
    assert all(way.set(key, b"again") for key in gone[::2])
    assert way.set_many(dict.fromkeys(KEYS, b"again")) == []
    assert way.get_many(KEYS) == dict.fromkeys(KEYS, b"again")
    assert {way.get(key) for key in KEYS} == {b"again"}
    alive = [server for number, server in enumerate(servers) if number != 2]
    after = homes(alive)
    assert {key: after[key] for key in KEYS if key not in gone} == {key: before[key] for key in KEYS if key not in gone}
    if one in STEADY:
        without = mcext.Cache([server.address for server in alive], placement=one)
        assert after == {key: without.server_for(key) for key in KEYS}
    elif one != placement.twemproxy("modula"):
        addresses = [server.address for server in servers]
        assert {after[key] for key in gone} == {addresses[3]}
    way.close()


@every_placement
@every_way
def test_on_dead_next_goes_on_until_one_lives(servers, one, kind):
    way = Way(kind, [server.address for server in servers], one, "next")
    for server in servers[:4]:
        server.kill()
    assert way.set_many(dict.fromkeys(KEYS, b"value")) == []
    assert way.get_many(KEYS) == dict.fromkeys(KEYS, b"value")
    assert {way.get(key) for key in KEYS} == {b"value"}
    assert len(homes(servers[4:])) == len(KEYS)
    servers[4].kill()
    way.close()
    assert way.get(KEYS[0]) is None and way.get_many(KEYS) == {}
    assert sorted(way.set_many(dict.fromkeys(KEYS, b"value"))) == sorted(KEYS)


@pytest.mark.parametrize("kind", [mcext.Client, Customised])
@pytest.mark.parametrize("on_dead", ["miss", "next"])
@pytest.mark.parametrize(
    "one", [placement.python_memcached(), placement.libmemcached(), placement.libmc(), placement.rendezvous()], ids=repr
)
def test_a_tuple_is_treated_alike(servers, kind, on_dead, one):
    """Ten buckets: the second server has the numbers 2 and 3."""
    way = Way(kind, [Server(server.address, 2) for server in servers], one, on_dead)
    servers[1].kill()
    stored = [way.set((number, f"t{number}"), b"value") for number in range(10)]
    if on_dead == "miss":
        assert [bool(one) for one in stored] == [True, True, False, False, *[True] * 6]
    else:
        assert all(stored)
        direct = mcext.Client([servers[2].address])
        assert sorted(direct.get_multi([f"t{number}" for number in range(10)])) == ["t2", "t3", "t4", "t5"]
        direct.disconnect_all()
    way.close()


def test_what_a_cache_raises_names_the_server_that_is_dead(servers):
    for one in PLACEMENTS:
        cache = mcext.Cache([server.address for server in servers], placement=one, on_dead="miss")
        servers[2].kill()
        key = next(key for key in KEYS if cache.server_for(key) == servers[2].address)
        for _ in range(2):  # the second time by its mark
            with pytest.raises(mcext.ServerUnavailable) as raised:
                cache.get(key)
            assert raised.value.server == servers[2].address
        with pytest.raises(mcext.PartialFailure) as raised:
            cache.get_many(KEYS)
        assert {*raised.value.errors} == {servers[2].address}
        assert {*raised.value.keys} == {key for key in KEYS if cache.server_for(key) == servers[2].address}
        cache.close()
        servers[2].start()


@every_way
def test_python_memcacheds_walk_stays_the_default(servers, kind):
    """A key of the dead server goes where python-memcached's next hash sends it."""
    way = Way(kind, [server.address for server in servers], None, None)
    assert way.client.on_dead == "walk"
    servers[2].kill()
    gone = [key for key in KEYS if way.server_for(key) == servers[2].address]
    assert way.set_many(dict.fromkeys(KEYS, b"value")) == []
    after = homes([server for number, server in enumerate(servers) if number != 2])
    addresses = [server.address for server in servers]
    for key in gone:
        hash, tries = memcache.cmemcache_hash(key.encode()), 0
        while addresses[hash % 5] == addresses[2]:
            hash, tries = memcache.cmemcache_hash(f"{hash}{tries}".encode()), tries + 1
        assert after[key] == addresses[hash % 5]
    way.close()
