"""mcext.dogpile: dogpile.cache's backend "mcext.memcached", and dogpile's own tests of a backend."""

import json
import subprocess
import sys
import threading
import time

import ports
import pytest
import released
from scripted_server import ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

pytestmark = pytest.mark.frameworks

fixtures = pytest.importorskip("dogpile.testing.fixtures")
api = pytest.importorskip("dogpile.cache.api")


@pytest.fixture(autouse=True, scope="module")
def registered():
    """As its entry point does it: the one of an installed mcext may be older."""
    from dogpile.cache import register_backend

    register_backend("mcext.memcached", "mcext.dogpile", "MemcachedBackend")
    with start_memcached() as running:
        for suite in (TestDogpilesOwn, TestDogpilesOwnWithLocks, TestDogpilesOwnOfLocks, TestDogpilesOwnOfSerializers):
            suite.config_args = {"arguments": {**suite.arguments, "url": running.address}}
        yield


@pytest.fixture
def make_region(server):
    from dogpile.cache import make_region

    def make(serializers=(), **arguments):
        return make_region(**dict(serializers)).configure(
            "mcext.memcached", expiration_time=3600, arguments={"url": server.address, **arguments}
        )

    return make


@pytest.fixture
def nobody():
    """The address of a server that is not there."""
    with ports.bound() as sock:
        yield "{}:{}".format(*sock.getsockname())


# ---- dogpile's own tests


class TestDogpilesOwn(fixtures._GenericBackendTestSuite):
    """Without locks in memcached. What takes seconds is about dogpile's own lock then."""

    backend = "mcext.memcached"
    region_args = {"key_mangler": lambda key: key.replace(" ", "_")}
    arguments = {}
    test_threaded_dogpile = test_threaded_get_multi = None

    @pytest.mark.filterwarnings("ignore:mcext.memcached knows no such arguments")
    def test_argument_dictionary_unmodified(self):
        super().test_argument_dictionary_unmodified()


class TestDogpilesOwnWithLocks(TestDogpilesOwn):
    arguments = {"distributed_lock": True, "lock_timeout": 0}  # 0: no two creators at a time are let pass
    test_threaded_dogpile = pytest.mark.slow(fixtures._GenericBackendTestSuite.test_threaded_dogpile)
    test_threaded_get_multi = pytest.mark.slow(fixtures._GenericBackendTestSuite.test_threaded_get_multi)


class TestDogpilesOwnOfLocks(fixtures._GenericMutexTestSuite):
    backend = "mcext.memcached"
    arguments = {"distributed_lock": True}


class TestDogpilesOwnOfSerializers(fixtures._GenericSerializerTestSuite, TestDogpilesOwn):
    pass


# ---- how it is found


def test_its_entry_point_leads_to_it(tmp_path, environment, server):
    code = (
        "import sys; from dogpile.cache import make_region\n"
        "region = make_region().configure('mcext.memcached', arguments={'url': sys.argv[1]})\n"
        "region.set('key', 'value'); print(type(region.backend).__module__, region.get('key'))\n"
    )
    child = {
        **environment,
        "PYTHONPATH": released.path(released.entry_points(tmp_path)),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    command = [sys.executable, "-c", code, server.address]
    done = subprocess.run(command, env=child, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "mcext.dogpile value\n", done.stderr


# ---- values


def test_values_come_back_and_go(make_region):
    region = make_region()
    for number, value in enumerate(["text", b"bytes", b"", 12, None, {"a": [1, 2]}, ("x", None), "x" * 100_000]):
        region.set(f"key-{number}", value)
        assert region.get(f"key-{number}") == value
        region.delete(f"key-{number}")
        assert region.get(f"key-{number}") is api.NO_VALUE


def test_many_at_once(make_region):
    region = make_region()
    mapping = {f"key-{number}": f"value-{number}" for number in range(100)}
    region.set_multi(mapping)
    assert region.get_multi(iter(mapping)) == list(mapping.values())
    assert region.get_multi(["key-1", "missing", "key-1"]) == ["value-1", api.NO_VALUE, "value-1"]
    region.delete_multi(iter(list(mapping)[:50]))
    assert region.get_multi(mapping) == [api.NO_VALUE] * 50 + list(mapping.values())[50:]


def test_dogpile_cache_memcached_reads_what_it_stores_and_it_what_that_stores(make_region, server):
    from dogpile.cache import make_region as region_of

    ours = make_region()
    theirs = region_of().configure("dogpile.cache.memcached", arguments={"url": server.address})
    ours.set("one", {"by": "us"})
    theirs.set("two", {"by": "them"})
    assert theirs.get("one") == {"by": "us"} and ours.get("two") == {"by": "them"}


def test_what_a_serializer_makes_is_stored_as_it_is(make_region, server):
    region = make_region({"serializer": lambda value: json.dumps(value).encode(), "deserializer": json.loads}.items())
    region.set("key", {"a": 1})
    region.set_multi({"other": [1]})
    assert region.get("key") == {"a": 1} and region.get_multi(["other", "key"]) == [[1], {"a": 1}]
    with mcext.Cache([server.address], allow_pickle=False) as cache:
        assert cache.get("key").endswith(b'|{"a": 1}')


def test_options_are_a_caches_and_memcached_forgets_when_it_is_told_to(make_region, server):
    region = make_region(prefix="shop:", memcached_expire_time=100, codec="mcext.codecs.Default", timeout=5)
    region.set("key", "value")
    region.set_multi({"other": "value"})
    with mcext.Cache([server.address], prefix="shop:") as cache:
        assert [95 <= cache.get_item(key).ttl <= 100 for key in ("key", "other")] == [True, True]
    make_region(memcached_expire_time=0).set("stays", "value")
    with mcext.Cache([server.address]) as cache:
        assert cache.get_item("stays").ttl is None


def test_a_file_of_configuration_makes_it(server):
    from dogpile.cache import make_region

    text = {
        "cache.backend": "mcext.memcached",
        "cache.arguments.url": f"{server.address}, unix:/nobody",
        "cache.arguments.timeout": "0.5",
        "cache.arguments.distributed_lock": "true",
        "cache.arguments.placement": "mcext.placement.rendezvous",
        "cache.arguments.allow_pickle": "false",
    }
    backend = make_region().configure_from_config(text, "cache.").backend
    assert [each.address for each in backend.cache.servers] == [server.address, "unix:/nobody"]
    assert backend.distributed_lock is True and backend.get_mutex("key") is not None


def test_arguments_that_there_are_not_are_warned_of(make_region):
    with pytest.warns(RuntimeWarning, match="no such arguments, and does without them: pool_size, tls_contxt"):
        make_region(tls_contxt=1, pool_size=3)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"timeout": "soon"}, TypeError),
        ({"tls_context": "no.such"}, ValueError),
        ({"lock_timeout": -1}, ValueError),
        ({"memcached_expire_time": True}, TypeError),
        ({"errors": "hide"}, ValueError),
        ({"url": ""}, ValueError),
    ],
)
def test_wrong_arguments_are_named(make_region, arguments, error):
    (name,) = arguments
    with pytest.raises(error, match="servers" if name == "url" else name):
        make_region(**arguments)


# ---- locks


def test_a_lock_lets_one_creator_in(make_region, in_threads):
    regions = [make_region(distributed_lock=True) for _ in range(4)]
    created = []

    def user(number):
        def create():
            created.append(number)
            time.sleep(0.05)
            return {"made by": number}

        return regions[number % 4].get_or_create("the-key", create)

    values = in_threads(12, user)
    assert len(created) == 1, "the lock in memcached let a second creator in"
    assert values == [{"made by": created[0]}] * 12


def test_a_lock_is_free_again_when_its_owner_died_and_the_owner_takes_no_others_away(make_region):
    one, two = (
        make_region(distributed_lock=True, lock_timeout=seconds).backend.get_mutex("key") for seconds in (4, 100)
    )
    assert one.acquire() and not two.acquire(wait=False)
    assert two.acquire()  # once its seconds are over
    one.release()
    assert two.locked() and not one.acquire(wait=False)
    two.release()
    assert not one.locked()


def test_a_lock_that_was_never_taken_is_nobodys_to_release(make_region):
    one, two = (make_region(distributed_lock=True).backend.get_mutex("key") for _ in range(2))
    assert one.acquire()
    two.release()
    assert one.locked()
    one.release()


def test_a_lock_lasts_thirty_seconds_or_as_long_as_it_is_told_to(make_region, server):
    with mcext.Cache([server.address]) as cache:
        for seconds, expected in ((None, range(20, 31)), (100, range(90, 101)), (0, [None])):
            arguments = {} if seconds is None else {"lock_timeout": seconds}
            lock = make_region(distributed_lock=True, **arguments).backend.get_mutex("key")
            lock.acquire()
            assert cache.get_item("_lockkey").ttl in expected
            lock.release()


def test_a_server_without_the_meta_protocol_has_locks_too(make_region):
    items = {}

    def old(command, number):
        head, _, rest = command.partition(b"\r\n")
        name, *arguments = head.split()
        if name == b"add":
            return b"NOT_STORED\r\n" if items.setdefault(arguments[0], rest[:-2]) != rest[:-2] else b"STORED\r\n"
        if name == b"gets" and arguments[0] in items:
            data = items[arguments[0]]
            return b"VALUE %s 16 %d 1\r\n%s\r\nEND\r\n" % (arguments[0], len(data), data)
        if name == b"delete":
            return b"DELETED\r\n" if items.pop(arguments[0], None) else b"NOT_FOUND\r\n"
        return b"ERROR\r\n" if name in (b"mn", b"mg", b"md") else None

    with ScriptedServer(old) as server:
        one, two = (make_region(url=server.address, distributed_lock=True).backend.get_mutex("key") for _ in range(2))
        assert one.acquire() and not two.acquire(wait=False)
        two.release()
        assert items.keys() == {b"_lockkey"}
        one.release()
        assert items == {}


# ---- when servers fail


def test_without_a_server_everybody_creates_and_nobody_waits(make_region, nobody):
    events = []
    region = make_region(url=nobody, distributed_lock=True, on_event=events.append)
    assert region.get_or_create("key", lambda: "created") == "created"
    assert region.get("key") is api.NO_VALUE
    assert region.get_multi(["a", "b"]) == [api.NO_VALUE] * 2
    region.set("key", 1)
    region.set_multi({"a": 1, "b": 2})
    region.delete("key")
    region.delete_multi(["a", "b"])
    assert region.get_or_create_multi(["a", "b"], lambda *keys: list(keys)) == ["a", "b"]
    assert not region.key_is_locked("key")
    assert "error" in {event.kind for event in events}
    assert region.backend.cache.metrics()["dead_marks"] >= 1


def test_of_two_servers_the_one_that_lives_answers(make_region, server, nobody):
    region = make_region(url=[server.address, nobody], on_dead="miss")
    keys = [f"key-{number}" for number in range(50)]
    region.set_multi({key: key for key in keys})
    lives = [key for key in keys if region.backend.cache.server_for(key) == server.address]
    assert 0 < len(lives) < 50
    assert region.get_multi(keys) == [key if key in lives else api.NO_VALUE for key in keys]


def test_failures_are_raised_where_that_is_asked_for(make_region, nobody):
    region = make_region(url=nobody, distributed_lock=True, errors="raise")
    for call in (
        lambda: region.get("key"),
        lambda: region.get_multi(["a", "b"]),
        lambda: region.set("key", 1),
        lambda: region.set_multi({"a": 1}),
        lambda: region.delete("key"),
        lambda: region.delete_multi(["a"]),
        lambda: region.backend.get_mutex("key").acquire(),
        lambda: region.backend.get_mutex("key").release(),
        lambda: region.backend.get_mutex("key").locked(),
    ):
        with pytest.raises(mcext.MemcacheError):
            call()


def test_threads_that_share_a_region_never_get_another_key(make_region, in_threads):
    region = make_region(distributed_lock=True)
    before = threading.active_count()

    def user(number):
        wrong = []
        for turn in range(30):
            keys = [f"key-{(number + step) % 8}-{turn % 5}" for step in range(4)]
            found = region.get_or_create_multi(keys, lambda *missing: [{"key": key} for key in missing])
            wrong += [(key, value) for key, value in zip(keys, found, strict=True) if value != {"key": key}]
            region.delete(keys[0])
        return wrong

    assert sum(in_threads(8, user), []) == []
    assert threading.active_count() < before + 8
