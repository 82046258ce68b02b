"""Placements as objects, what they go by, and what is refused."""

import copy
import pickle

import pytest

import mcext
import memcache
from mcext import Server, _core, placement

ALL = [
    placement.libmemcached(),
    placement.libmemcached("consistent"),
    placement.libmemcached("ketama", "md5"),
    placement.libmemcached("ketama_weighted"),
    placement.pylibmc({"ketama": True}),
    placement.libmc(),
    placement.pymemcache(),
    placement.uhashring(),
    placement.uhashring(ketama=True),
    placement.twemproxy(),
    placement.twemproxy("modula", hash_tag="{}"),
    placement.rendezvous(),
]
# Those that go by the names of servers.
BY_NAME = [one for one in ALL if one != placement.libmemcached()]
# fnv1a_64, twemproxy's default, tells keys apart badly that differ in their last characters alone.
KEYS = [f"{number * 7919 % 100_003}:user" for number in range(400)]
SERVERS = [f"10.0.0.{number}:11211" for number in range(5)]
KINDS = [mcext.Client, mcext.Cache]

every_placement = pytest.mark.parametrize("one", ALL, ids=repr)
every_kind = pytest.mark.parametrize("kind", KINDS)


def where(client, keys=KEYS):
    return [client.server_for(key) for key in keys]


# As objects


@pytest.mark.parametrize("one", [placement.python_memcached(), *ALL], ids=repr)
def test_a_placement_equals_what_is_made_alike(one):
    again = eval(repr(one), {"mcext": mcext})
    for other in (again, pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
        assert other == one and hash(other) == hash(one) and repr(other) == repr(one)
        assert where(mcext.Cache(SERVERS, placement=other)) == where(mcext.Cache(SERVERS, placement=one))
    assert one != repr(one) and sum(one == other for other in ALL) <= 1


@every_placement
def test_a_placement_cannot_be_changed(one):
    for name in ("_scheme", "_name", "mine"):
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(one, name, None)
    with pytest.raises(AttributeError, match="cannot be changed"):
        del one._scheme


def test_a_repr_is_what_makes_it():
    assert repr(placement.libmemcached("ketama", "md5")) == (
        "mcext.placement.libmemcached(distribution='ketama', hash='md5')"
    )
    assert repr(placement.pylibmc({"ketama": 1, "no_block": True})) == "mcext.placement.pylibmc({'ketama': True})"
    assert repr(placement.rendezvous()) == "mcext.placement.rendezvous()"


# As an option


@every_kind
def test_without_the_option_it_is_python_memcacheds(kind):
    client = kind(SERVERS)
    assert client.placement == placement.python_memcached() and client.on_dead == "walk"
    other = kind(SERVERS, placement=placement.python_memcached())
    assert other.placement == placement.python_memcached() and other.on_dead == "walk"
    hashes = [memcache.cmemcache_hash(key.encode()) for key in KEYS]
    assert where(client) == where(other) == [SERVERS[number % 5] for number in hashes]


@every_kind
@every_placement
def test_the_option_is_the_attribute(kind, one):
    client = kind(SERVERS, placement=one)
    assert client.placement is one and client.on_dead == "miss"
    assert kind(SERVERS, placement=one, on_dead="next").on_dead == "next"
    assert len({*where(client)}) == 5


@every_placement
def test_a_client_takes_another_placement_at_the_next_call(one):
    client = mcext.Client(SERVERS)
    client.placement = one
    assert where(client) == where(mcext.Client(SERVERS, placement=one)) and client.on_dead == "miss"
    client.on_dead = "next"
    client.placement = placement.python_memcached()
    assert client.on_dead == "next" and where(client) == where(mcext.Client(SERVERS))
    client.placement = client.on_dead = None
    assert client.on_dead == "walk" and client.placement == placement.python_memcached()


def test_the_options_of_a_cache_are_fixed():
    cache = mcext.Cache(SERVERS)
    for name in ("placement", "on_dead"):
        with pytest.raises(AttributeError):
            setattr(cache, name, None)


@every_kind
@pytest.mark.parametrize("wrong", ["ketama", placement.rendezvous, placement, {"ketama": True}, 1])
def test_what_is_no_placement_is_refused(kind, wrong):
    with pytest.raises(TypeError, match="placement must be one of mcext.placement, not "):
        kind(SERVERS, placement=wrong)


@every_kind
@pytest.mark.parametrize("wrong", ["", "rebuild", "MISS", b"miss", 1, True])
def test_what_on_dead_does_not_know_is_refused(kind, wrong):
    with pytest.raises(ValueError, match="on_dead must be 'walk', 'miss' or 'next', not "):
        kind(SERVERS, on_dead=wrong)


@every_kind
@every_placement
def test_only_python_memcacheds_walks(kind, one):
    with pytest.raises(ValueError, match="on_dead='walk' is for python-memcached's placement"):
        kind(SERVERS, placement=one, on_dead="walk")


def test_what_is_refused_changes_nothing():
    client = mcext.Client(SERVERS, on_dead="walk")
    with pytest.raises(ValueError, match="on_dead"):
        client.placement = placement.rendezvous()
    assert client.placement == placement.python_memcached() and where(client) == where(mcext.Client(SERVERS))
    client.on_dead = None
    client.placement = placement.rendezvous()
    for wrong in ("walk", "other"):
        with pytest.raises(ValueError, match="on_dead"):
            client.on_dead = wrong
    with pytest.raises(TypeError, match="placement"):
        client.placement = "ketama"
    assert client.placement == placement.rendezvous() and client.on_dead == "miss"


@every_kind
@every_placement
def test_without_servers_a_key_is_nowhere(kind, one):
    client = kind([], placement=one)
    assert client.server_for("foo") is None
    assert client.get("foo") is None if kind is mcext.Client else True
    client.set_servers(SERVERS)
    assert where(client) == where(kind(SERVERS, placement=one))


@every_kind
@every_placement
def test_one_server_has_every_key(kind, one):
    assert {*where(kind(["10.0.0.1"], placement=one))} == {"10.0.0.1"}
    assert {*where(kind([Server("10.0.0.1", 3, "one")], placement=one))} == {"10.0.0.1"}


def test_init_called_again_places_anew():
    client = mcext.Client(SERVERS)
    for one in ALL:
        client.__init__(SERVERS, placement=one)
        assert where(client) == where(mcext.Client(SERVERS, placement=one))
    client.__init__(SERVERS)
    assert where(client) == where(mcext.Client(SERVERS)) and client.on_dead == "walk"


# What a placement goes by


@every_kind
@every_placement
def test_the_address_counts_and_not_how_it_is_written(kind, one):
    given = ["10.0.0.1", "inet:10.0.0.2:11211", "[::1]", "inet6:[::2]:11212", "unix:/run/a.sock", "/run/b.sock"]
    plain = ["10.0.0.1:11211", "10.0.0.2", "inet6:[::1]:11211", "[::2]:11212", "/run/a.sock", "unix:/run/b.sock"]
    address = dict(zip(plain, given, strict=True))
    assert where(kind(given, placement=one)) == [address[one] for one in where(kind(plain, placement=one))]


@every_kind
@pytest.mark.parametrize("one", BY_NAME, ids=repr)
def test_a_name_stands_in_place_of_the_address(kind, one):
    """So a server can move to another address, and its keys go with it."""
    servers = [Server(address, name=f"node{9 - number}") for number, address in enumerate(SERVERS)]
    moved = [server._replace(address=f"192.168.0.{number}:11299") for number, server in enumerate(servers)]
    new = {server.address: there.address for server, there in zip(servers, moved, strict=True)}
    before = where(kind(servers, placement=one))
    assert before != where(kind(SERVERS, placement=one))
    assert where(kind(moved, placement=one)) == [new[address] for address in before]


@pytest.mark.parametrize("one", [placement.rendezvous(), placement.pymemcache(), placement.twemproxy("modula")])
def test_the_order_of_the_servers_is_of_no_account(one):
    assert where(mcext.Cache(SERVERS, placement=one)) == where(mcext.Cache(SERVERS[::-1], placement=one))


@pytest.mark.parametrize(
    "one",
    [
        placement.python_memcached(),
        placement.libmemcached("ketama_weighted"),
        placement.libmemcached("ketama"),
        placement.uhashring(),
        placement.uhashring(ketama=True),
        placement.twemproxy(),
        placement.twemproxy("modula"),
        placement.rendezvous(),
    ],
    ids=repr,
)
@every_kind
def test_a_server_of_four_times_the_weight_has_four_times_the_keys(kind, one):
    client = kind([("10.0.0.1", 1), Server("10.0.0.2", 4)], placement=one)
    keys = [f"{number * 7919 % 100_003}:session" for number in range(4000)]
    assert 2800 < where(client, keys).count("10.0.0.2") < 3500


def test_keys_that_differ_in_their_end_alone_stay_together_by_twemproxys_hash():
    """As docs/fleets.md warns."""
    keys = [f"item:{number}" for number in range(10)]
    assert len({*where(mcext.Cache(SERVERS, placement=placement.twemproxy()), keys)}) == 1
    assert len({*where(mcext.Cache(SERVERS, placement=placement.twemproxy(hash="md5")), keys)}) > 2


@every_placement
def test_keys_are_spread_evenly(one):
    client = mcext.Cache([f"10.0.0.{number}" for number in range(8)], placement=one)
    found = where(client, [f"{number * 7919 % 100_003}:item" for number in range(8000)])
    assert all(600 < found.count(server.address) < 1500 for server in client.servers)


def test_weights_and_buckets_of_a_client_act_when_changed():
    client = mcext.Client(SERVERS, placement=placement.rendezvous())
    client.servers[2].weight = 5
    client._init_buckets()
    weighted = [(address, 5 if number == 2 else 1) for number, address in enumerate(SERVERS)]
    assert where(client) == where(mcext.Client(weighted, placement=placement.rendezvous()))
    gone = client.servers[2]
    client.buckets[:] = [host for host in client.buckets if host is not gone]
    left = [address for address in SERVERS if address != SERVERS[2]]
    assert where(client) == where(mcext.Client(left, placement=placement.rendezvous()))
    client.buckets.reverse()
    assert where(client) == where(mcext.Client(left, placement=placement.rendezvous()))
    del client.buckets[:]
    assert {*where(client)} == {None}


def test_a_server_that_stands_in_several_places_counts_once():
    client = mcext.Client(SERVERS[:3], placement=placement.libmemcached("ketama_weighted"))
    one, two, three = client.servers
    client.buckets = [one, two, one, three, one]
    weighted = mcext.Client(
        [(SERVERS[0], 3), SERVERS[1], SERVERS[2]], placement=placement.libmemcached("ketama_weighted")
    )
    assert where(client) == where(weighted)


# Keys


@every_placement
def test_a_tuple_goes_to_its_bucket_whatever_the_placement(one):
    client = mcext.Client([*SERVERS[:4], (SERVERS[4], 3)], placement=one)
    plain = mcext.Client([*SERVERS[:4], (SERVERS[4], 3)])
    for number in (0, 3, 6, 7, 12, -1, 2**70):
        assert client.server_for((number, "foo")) == plain.server_for((number, "foo"))


def test_a_hash_function_of_the_applications_own_is_python_memcacheds(monkeypatch):
    monkeypatch.setattr(memcache, "serverHashFunction", lambda key: 3)
    assert {*where(memcache.Client(SERVERS))} == {SERVERS[3]}
    for one in ALL:
        monkeypatch.undo()
        wanted = where(memcache.Client(SERVERS, placement=one))
        monkeypatch.setattr(memcache, "serverHashFunction", lambda key: 3)
        assert where(memcache.Client(SERVERS, placement=one)) == wanted


HASHES_PREFIX = {
    placement.python_memcached(): True,
    placement.libmemcached("ketama"): False,
    placement.pylibmc({"ketama": True}): False,
    placement.pylibmc({"ketama": True, "_hash_with_prefix_key": True}): True,
    placement.pylibmc({"ketama": True, "hash_with_prefix_key": True}): True,
    placement.pymemcache(): False,
    placement.libmc(): True,
    placement.twemproxy(): True,
    placement.uhashring(): True,
    placement.uhashring(ketama=True): True,
    placement.rendezvous(): True,
}


@pytest.mark.parametrize("one", HASHES_PREFIX, ids=repr)
def test_a_prefix_is_hashed_where_the_other_client_hashes_it(one):
    plain = mcext.Cache(SERVERS, placement=one)
    prefixed = mcext.Cache(SERVERS, placement=one, prefix="shop:")
    of_keys, with_prefix = where(plain), where(plain, [f"shop:{key}" for key in KEYS])
    assert of_keys != with_prefix
    assert where(prefixed) == (with_prefix if HASHES_PREFIX[one] else of_keys)
    prefixed.set_servers(SERVERS[:3])
    plain.set_servers(SERVERS[:3])
    keys = [f"shop:{key}" for key in KEYS] if HASHES_PREFIX[one] else KEYS
    assert where(prefixed) == where(plain, keys)


def test_a_tag_is_hashed_alone():
    client = mcext.Client(SERVERS, placement=placement.twemproxy(hash_tag="{}"))
    plain = mcext.Client(SERVERS, placement=placement.twemproxy())
    assert where(client, [f"{key}:{{user:7}}:x" for key in KEYS]) == [plain.server_for("user:7")] * len(KEYS)
    for key in ("no tag", "{", "}", "{}", "a{}b", "}{", "a{bc"):
        key = key.replace(" ", "-")
        assert client.server_for(key) == plain.server_for(key)


def test_keys_of_any_length_and_any_bytes_have_a_server():
    for one in ALL:
        client = mcext.Client(SERVERS, placement=one, check_keys=False)
        for length in (1, 3, 4, 12, 13, 54, 55, 56, 63, 64, 65, 250, 1000):
            assert client.server_for("k" * length) in SERVERS
            assert client.server_for(b"\xff" * length) in SERVERS
            assert client.server_for("\u20ac\U0001f600" * length) in SERVERS


def test_what_is_no_key_is_refused():
    client = mcext.Client(SERVERS)
    for wrong, error in (
        ("a b", client.MemcachedKeyCharacterError),
        (None, client.MemcachedKeyNoneError),
        (5, client.MemcachedKeyTypeError),
        ("k" * 251, client.MemcachedKeyLengthError),
        (("x", "foo"), TypeError),
        ((1, 2, 3), client.MemcachedKeyTypeError),
    ):
        with pytest.raises(error):
            client.server_for(wrong)
    assert mcext.Client(SERVERS, key_encoder=str.upper).server_for("foo") == client.server_for("FOO")


def test_server_for_knows_no_death():
    client = mcext.Client(SERVERS)
    wanted = where(client)
    for host in client.servers:
        host.mark_dead("a test")
    assert where(client) == wanted


# What is refused


@every_kind
@pytest.mark.parametrize("one", BY_NAME, ids=repr)
@pytest.mark.parametrize(
    "servers, name",
    [
        (["10.0.0.1", "10.0.0.2", "10.0.0.1:11211"], "10.0.0.1"),
        ([Server("10.0.0.1", name="a"), Server("10.0.0.2", name="a")], "a"),
        ([Server("10.0.0.1", name="/run/a.sock:9"), Server("10.0.0.2", name="/run/a.sock:9")], "/run/a.sock:9"),
    ],
)
def test_two_servers_of_one_name_are_refused(kind, one, servers, name):
    with pytest.raises(ValueError, match=f"two have the name '{name}"):
        kind(servers, placement=one)
    client = kind(SERVERS, placement=one)
    with pytest.raises(ValueError, match=f"two have the name '{name}"):
        client.set_servers(servers)
    assert where(client) == where(kind(SERVERS, placement=one))


def test_where_no_name_counts_two_servers_may_have_one():
    servers = ["10.0.0.1", "10.0.0.1:11211"]
    for one in (placement.libmemcached(), placement.python_memcached()):
        assert {*where(mcext.Client(servers, placement=one))} == {*servers}


@every_placement
@pytest.mark.parametrize("weight", [0, -1])
def test_a_server_without_weight_is_refused(one, weight):
    with pytest.raises(ValueError, match="the weight of a server must be 1 or more"):
        mcext.Client(["10.0.0.1", ("10.0.0.2", weight)], placement=one)
    client = mcext.Client(SERVERS, placement=one)
    hosts = client.servers
    with pytest.raises(ValueError, match="the weight of a server must be 1 or more"):
        client.set_servers(["10.0.0.1", ("10.0.0.2", weight)])
    assert client.servers is hosts and where(client) == where(mcext.Client(SERVERS, placement=one))
    with pytest.raises(ValueError, match="weight"):
        mcext.Cache(["10.0.0.1", ("10.0.0.2", weight)], placement=one)


@every_placement
def test_more_buckets_than_a_table_can_tell_apart_are_refused(one):
    servers = [("10.0.0.1", 65_535), ("10.0.0.2", 1)]
    with pytest.raises(ValueError, match="must not be more than 65535 together with this placement, and are 65536"):
        mcext.Client(servers, placement=one)
    many = mcext.Client(servers)
    with pytest.raises(ValueError, match="65535"):
        many.placement = one
    assert many.placement == placement.python_memcached()


def test_as_many_as_it_can_are_taken():
    client = mcext.Client([("10.0.0.1", 65_534), ("10.0.0.2", 1)], placement=placement.twemproxy("modula"))
    assert {*where(client)} == {"10.0.0.1"}
    assert client.buckets[-1] is client.servers[1]


def test_what_is_no_host_cannot_be_placed():
    client = mcext.Client(SERVERS, placement=placement.rendezvous())
    with pytest.raises(TypeError, match="a placement chooses among hosts, and str is none"):
        client.buckets = ["10.0.0.1"]
    assert where(client) == where(mcext.Client(SERVERS, placement=placement.rendezvous()))


WRONG = [
    (placement.libmemcached, {"distribution": "random"}, "distribution of libmemcached .* not 'random'"),
    (placement.libmemcached, {"distribution": None}, "distribution of libmemcached .* not None"),
    (placement.libmemcached, {"hash": "hsieh"}, "hash of libmemcached .* not 'hsieh'"),
    (placement.libmemcached, {"hash": 1}, "hash of libmemcached .* not 1"),
    (placement.libmc, {"hash": "fnv1_64"}, "hash of libmc must be one of md5, fnv1_32, fnv1a_32, crc32, not 'fnv1_64'"),
    (placement.twemproxy, {"distribution": "random"}, "distribution of twemproxy .* ketama, modula, not 'random'"),
    (placement.twemproxy, {"hash": "crc16"}, "hash of twemproxy .* not 'crc16'"),
    (placement.twemproxy, {"hash": "default"}, "hash of twemproxy .* not 'default'"),
    (placement.twemproxy, {"hash_tag": "{"}, "hash_tag of twemproxy must be two ASCII characters"),
    (placement.twemproxy, {"hash_tag": "{{}"}, "hash_tag of twemproxy must be two ASCII characters"),
    (placement.twemproxy, {"hash_tag": "«»"}, "hash_tag of twemproxy must be two ASCII characters"),
    (placement.twemproxy, {"hash_tag": b"{}"}, "hash_tag of twemproxy must be two ASCII characters"),
    (placement.pylibmc, {"behaviors": {"ketma": True}}, "pylibmc has no behavior ketma"),
    (placement.pylibmc, {"behaviors": {"b": 1, "a": 1}}, "pylibmc has no behavior a, b"),
    (placement.pylibmc, {"behaviors": {"hash": "hsieh"}}, "the behavior hash of pylibmc .* not 'hsieh'"),
    (placement.pylibmc, {"behaviors": {"hash": 1}}, "the behavior hash of pylibmc .* not 1"),
    (placement.pylibmc, {"behaviors": {"distribution": "random"}}, "the behavior distribution .* not 'random'"),
    (
        placement.pylibmc,
        {"behaviors": {"distribution": "consistent ketama spy"}},
        "the behavior distribution .* not 'consistent ketama spy'",
    ),
    (placement.pylibmc, {"behaviors": {"ketama": "yes"}}, "the behavior ketama of pylibmc must be True or False"),
]


@pytest.mark.parametrize("function, arguments, said", WRONG)
def test_what_a_placement_does_not_know_is_refused_by_name(function, arguments, said):
    with pytest.raises(ValueError, match=said):
        function(**arguments)


def test_what_is_of_another_type_is_refused_by_name():
    with pytest.raises(TypeError, match="behaviors must be a dict, not list"):
        placement.pylibmc(["ketama"])
    with pytest.raises(TypeError, match="ketama must be True or False, not str"):
        placement.uhashring(ketama="yes")
    with pytest.raises(TypeError):
        placement.rendezvous(1)


def test_behaviors_that_choose_no_server_are_of_no_account():
    behaviors = {"no_block": True, "tcp_nodelay": True, "ketama_hash": "crc", "remove_failed": 4, "num_replicas": 1}
    assert placement.pylibmc(behaviors) == placement.pylibmc({})
    assert placement.pylibmc({"distribution": "consistent_ketama"}) == (
        placement.pylibmc({"distribution": "consistent ketama"})
    )


# mcext.Server


def test_a_server_is_a_named_tuple():
    server = Server("10.0.0.1:11211", weight=2, name="node1")
    assert (server.address, server.weight, server.name) == server == ("10.0.0.1:11211", 2, "node1")
    assert Server("10.0.0.1") == ("10.0.0.1", 1, None) and mcext.Server is Server
    assert pickle.loads(pickle.dumps(server)) == server
    with pytest.raises(AttributeError):
        server.weight = 3


@every_kind
@pytest.mark.parametrize(
    "wrong, error, said",
    [
        (Server("10.0.0.1", name=""), ValueError, "the name of a server must not be empty"),
        (Server("10.0.0.1", name=b"node"), TypeError, "the name of a server must be a str, not bytes"),
        (Server("10.0.0.1", weight="2"), TypeError, "the weight of a server must be an int"),
        (Server(11211), TypeError, "int|11211"),
        (("10.0.0.1", 1, "node"), (TypeError, ValueError), "mcext.Server"),
        (("10.0.0.1",), (TypeError, ValueError), "mcext.Server"),
    ],
)
def test_a_wrong_server_is_refused(kind, wrong, error, said):
    with pytest.raises(error, match=said):
        kind([wrong])


@every_kind
def test_a_server_that_stays_keeps_its_connections_and_one_of_another_name_is_new(kind):
    client = kind([Server("10.0.0.1", name="a"), "10.0.0.2"], placement=placement.rendezvous())

    def hosts():
        return [*client.servers] if kind is mcext.Client else [host for host, _ in client._hosts.values()]

    one, two = hosts()
    client.set_servers([Server("10.0.0.1", name="a"), "10.0.0.2"])
    assert hosts()[0] is one and hosts()[1] is two
    client.set_servers([Server("10.0.0.1", name="b"), "10.0.0.2"])
    assert hosts()[0] is not one


def test_the_metrics_of_a_server_that_was_named_anew_are_kept(memcached):
    cache = mcext.Cache([Server(memcached.address, name="a")], placement=placement.rendezvous())
    cache.set("key", 1)
    cache.set_servers([Server(memcached.address, name="b")])
    cache.set("key", 1)
    assert cache.metrics()["calls"] == {"set": 2}
    cache.close()


# The table


def test_a_table_is_immutable_and_checked():
    table = _core._Table("ring", "md5", "", [1, 2], [0, 1], True)
    with pytest.raises(AttributeError):
        table.kind = "slots"
    for wrong, error in (
        (("circle", "md5", "", [1], [0], True), ValueError),
        (("ring", "hsieh", "", [1], [0], True), ValueError),
        (("ring", None, "", [1], [0], True), ValueError),
        (("texts", "md5", "", [b"a"], [0], True), ValueError),
        (("ring", "md5", "{", [1], [0], True), ValueError),
        (("ring", "md5", "", [], [], True), ValueError),
        (("ring", "md5", "", [1, 2], [0], True), ValueError),
        (("ring", "md5", "", None, [0], True), ValueError),
        (("ring", "md5", "", [1], [65_536], True), ValueError),
        (("ring", "md5", "", [1], [-1], True), OverflowError),
        (("ring", "md5", "", [-1], [0], True), OverflowError),
        (("ring", "md5", "", [2, 1], [0, 0], True), ValueError),
        (("ring", "md5", "", ["1"], [0], True), TypeError),
        (("ring", "md5", "", [1], ["0"], True), TypeError),
        (("texts", None, "", ["a"], [0], True), TypeError),
        (("ring", "md5", "", [1], (0,), True), TypeError),
    ):
        with pytest.raises(error):
            _core._Table(*wrong)


def test_a_table_for_other_servers_is_refused():
    answers = [None, [], _core._Table("slots", "md5", "", None, [5], True)]

    class Wrong(placement.Placement):
        def _table(self, buckets):
            return answers.pop()

    wrong = Wrong("rendezvous", {}, placement.rendezvous()._scheme)
    while answers:
        with pytest.raises(TypeError, match="the placement has made no table for these servers"):
            mcext.Client(SERVERS, placement=wrong)
