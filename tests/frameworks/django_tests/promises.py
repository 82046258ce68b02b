"""What mcext.django promises beside Django's own tests; run by test_django_backend.py, with Djangos that are new enough
while another test needs an old one."""

import asyncio
import datetime
import gc
import os
import re
import ssl
import sys
import threading
import types
from pathlib import Path

import django
import ports
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings

settings.configure(CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}, SECRET_KEY="x")
django.setup()

from django.core.cache import InvalidCacheKey, caches, close_caches  # noqa: E402
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.utils.asyncio import async_unsafe  # noqa: E402

import mcext  # noqa: E402
from mcext.testing import memcached as start_memcached  # noqa: E402

PYMEMCACHE = "django.core.cache.backends.memcached.PyMemcacheCache"
PYLIBMC = "django.core.cache.backends.memcached.PyLibMCCache"


class Text:
    """A codec."""

    def encode(self, value):
        return f"<{value}>".encode(), 0

    def decode(self, data, flags):
        return data.decode()


TEXT = Text()
seen = []


def make_text():
    return TEXT


class Configured:
    """caches[alias], with mcext's backend in "default"."""

    def __init__(self, location, others=None, **options):
        ours = {"BACKEND": "mcext.django.MemcachedCache", "LOCATION": location, "OPTIONS": options}
        self._settings = override_settings(CACHES={"default": ours, **(others or {})})

    def __enter__(self):
        self._settings.enable()
        return caches["default"]

    def __exit__(self, *unused):
        self._settings.disable()


def nowhere():
    with ports.listen() as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


# ---- configuration -------------------------------------------------------------------------------------------------


def test_a_location_is_a_text_or_a_list(server, tmp_path):
    with start_memcached(unix=True) as other:
        path = other.address
        for location in (f"{server.address};{path}", f"{server.address},{path}", [server.address, path]):
            with Configured(location) as cache:
                assert [each.address for each in cache._cache.servers] == [server.address, path]
                values = {f"key{number}": number for number in range(50)}
                assert cache.set_many(values) == []
                assert cache.get_many(values) == values
    with Configured((server.address, mcext.Server(nowhere(), 2))) as cache:
        assert len(cache._cache.servers) == 2


def test_options_are_those_of_the_client_and_objects_may_be_dotted_paths(server):
    for codec in (TEXT, "promises.TEXT", "promises.make_text"):
        with Configured(server.address, codec=codec, timeout=20, prefix="site:") as cache:
            cache.set("key", 1)
            assert cache.get("key") == "<1>"
            assert mcext.Cache([server.address], prefix="site:").get(":1:key") == b"<1>"


@pytest.mark.parametrize(
    "location, options, words",
    [
        ("", {}, "servers"),
        ("127.0.0.1:1", {"timeuot": 1}, "OPTIONS.*'timeuot'.*did you mean 'timeout'"),
        ("127.0.0.1:1", {"MAX_ENTRIES": 1}, "'MAX_ENTRIES'"),
        ("127.0.0.1:1", {"timeout": "1"}, "the cache at '127.0.0.1:1'.*timeout must be a number"),
        ("127.0.0.1:1", {"allow_pickle": "no"}, "allow_pickle must be True or False"),
        ("127.0.0.1:1", {"codec": "mcext.django.MemcachedCache"}, "OPTIONS: codec: mcext.django.MemcachedCache"),
        ("127.0.0.1:1", {"on_event": "print"}, "on_event must be a function or its dotted path"),
        ("127.0.0.1:1", {"connections": 0}, "connections must be between"),
        ("127.0.0.1:1", {"codec": "promises.NONE"}, "codec.*promises.NONE"),
        ("127.0.0.1:1", {"values": "redis"}, "values must be one of .*'pylibmc'.*not 'redis'"),
        ("127.0.0.1:1", {"values": ["pylibmc"]}, "values must be one of"),
        ("127.0.0.1:1", {"values": "pylibmc", "codec": TEXT}, "values and codec"),
    ],
)
def test_what_is_wrong_is_named_when_the_cache_is_first_used(location, options, words):
    with pytest.raises(ImproperlyConfigured, match=words):
        with Configured(location, **options):
            raise AssertionError("not refused")


def test_options_that_are_no_dict_are_named():
    ours = {"BACKEND": "mcext.django.MemcachedCache", "LOCATION": "127.0.0.1:1", "OPTIONS": ["timeout"]}
    with override_settings(CACHES={"default": ours}):
        with pytest.raises(ImproperlyConfigured, match="OPTIONS must be a dict, not list"):
            caches["default"].get("key")


def test_passwords_and_encryption_by_options(tmp_path):
    with start_memcached(auth=("alice", "word"), tls=True) as server:
        options = {"username": "alice", "password": "word", "tls_context": server.tls_context}
        with Configured(server.address, **options) as cache:
            cache.set("key", "value")
            assert cache.get("key") == "value"
            assert asyncio.run(twice(cache)) == ["value", "value"]
            assert "word" not in repr(cache) + repr(vars(cache)["_cache"])


async def twice(cache):
    return [await cache.aget("key"), await cache.aget("key")]


# ---- connections ---------------------------------------------------------------------------------------------------


def test_threads_and_requests_share_connections(server, server_view, in_threads):
    """Django makes an object of the backend in each thread, and calls close() at the end of each request."""

    def user(number):
        for turn in range(20):
            caches["default"].set(f"{number}-{turn}", turn)
            assert caches["default"].get(f"{number}-{turn}") == turn
            close_caches()
        return caches["default"]

    with Configured(server.address) as cache:
        objects = [cache, *in_threads(8, user)]
        assert len(set(map(id, objects))) == 9
        assert len({id(each._cache) for each in objects}) == 1
        before = server_view.connections_ever
        assert before <= 9
        in_threads(8, user)
        assert server_view.connections_ever <= 9, "the next threads find them open"


def test_tasks_share_streams(server, server_view):
    async def request(number):
        return await caches["default"].aget(f"key{number}")

    async def main():
        await caches["default"].aset_many({f"key{number}": number for number in range(100)})
        assert await asyncio.gather(*map(request, range(100))) == list(range(100))
        assert server_view.connections_ever <= 2

    with Configured(server.address):
        asyncio.run(main())


def test_a_loop_a_call_leaves_nothing_open(server, server_view):
    with Configured(server.address) as cache:
        cache.set("key", "value")
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            assert async_to_sync(cache.aget)("key") == "value"
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
        server_view.wait_until_open(2)
        assert len(cache._clients._of_loops) <= 2


def test_loops_in_several_threads_have_streams_of_their_own(server, in_threads):
    barrier = threading.Barrier(4)

    async def main(number):
        await asyncio.to_thread(barrier.wait, 10)  # all of the loops run now
        for turn in range(50):
            await caches["default"].aset(f"{number}-{turn}", turn)
            assert await caches["default"].aget(f"{number}-{turn}") == turn
        return True

    with Configured(server.address):
        assert in_threads(4, lambda number: asyncio.run(main(number))) == [True] * 4


def test_a_worker_that_is_forked_has_connections_of_its_own(server):
    with Configured(server.address) as cache:
        cache.set("key", "parent")
        asyncio.run(twice(cache))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                good = caches["default"].get("key") == "parent" and asyncio.run(twice(cache)) == ["parent"] * 2
                caches["default"].set("key", "child")
                status = 0 if good else 1
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert cache.get("key") == "child"
        assert asyncio.run(twice(cache)) == ["child"] * 2


# ---- what fails ----------------------------------------------------------------------------------------------------


def test_a_dead_server_is_a_miss(in_threads):
    with Configured(nowhere()) as cache:
        assert cache.get("key", "default") == "default"
        assert cache.set("key", 1) is None
        assert cache.add("key", 1) is False
        assert cache.get_many(["key"]) == {}
        assert cache.set_many({"key": 1, "other": 2}) == ["key", "other"]
        assert cache.delete("key") is False
        assert cache.touch("key") is False
        assert cache.get_or_set("key", lambda: "computed") == "computed"
        with pytest.raises(ValueError, match="not found"):
            cache.incr("key")
        assert asyncio.run(cache.aget("key", "default")) == "default"
        assert asyncio.run(cache.aset_many({"key": 1})) == ["key"]
        assert asyncio.run(cache.aget_or_set("key", lambda: "computed")) == "computed"
        with pytest.raises(ValueError, match="not found"):
            asyncio.run(cache.aincr("key"))


def test_errors_raise_where_they_are_to(server):
    with Configured(nowhere(), errors="raise") as cache:
        with pytest.raises(mcext.ServerUnavailable):
            cache.get("key")
        with pytest.raises(mcext.ServerUnavailable):
            cache.set("key", 1)
        with pytest.raises(mcext.PartialFailure):
            cache.set_many({"key": 1})
        with pytest.raises(mcext.ServerUnavailable):
            asyncio.run(cache.aset("key", 1))


TOO_LARGE = b"x" * (1 << 20)


@pytest.mark.parametrize("errors", ["miss", "raise"])
def test_a_set_that_fails_leaves_no_old_value(server, errors):
    def fails(call, *arguments):
        try:
            return call(*arguments)
        except mcext.MemcacheError:
            assert errors == "raise"

    with Configured(server.address, errors=errors) as cache:
        for value in (TOO_LARGE, lambda: "cannot be pickled"):
            for call in (
                lambda value: cache.set("key", value),
                lambda value: asyncio.run(cache.aset("key", value)),
                lambda value: cache.set_many({"key": value}),
                lambda value: asyncio.run(cache.aset_many({"key": value})),
            ):
                cache.set("key", "old")
                if value is TOO_LARGE:
                    fails(call, value)
                else:
                    with pytest.raises(Exception, match="pickle"):
                        call(value)
                assert cache.get("key") is None


@pytest.mark.parametrize("key", ["a b", "a\n", "x" * 251, "ä" * 126, "\x7f", "\ud800"])
def test_a_key_that_memcached_cannot_have_is_refused(server, key):
    with Configured(server.address) as cache:
        for call in (
            cache.get,
            cache.delete,
            cache.incr,
            lambda key: cache.set(key, 1),
            lambda key: cache.get_many([key]),
        ):
            with pytest.raises(InvalidCacheKey):
                call(key)
        with pytest.raises(InvalidCacheKey):
            asyncio.run(cache.aget(key))


# ---- times ---------------------------------------------------------------------------------------------------------


def test_a_time_that_is_over_and_one_that_never_is(server):
    with Configured(server.address) as cache:
        for timeout in (0, -1):
            cache.set("key", "old")
            cache.set("key", "new", timeout)
            assert cache.get("key") is None
            assert cache.add("key", 1, timeout) is True
            assert cache.get("key") is None
            assert cache.set_many({"key": 1}, timeout) == []
            assert cache.get("key") is None
            assert cache.get_or_set("key", lambda: 1, timeout) == 1
            assert cache.get("key") is None
            cache.set("key", "old")
            assert cache.add("key", 1, timeout) is False
            assert cache.touch("key", timeout) is True
            assert cache.get("key") is None
        cache.set("key", 1, None)
        assert cache._cache.get_item(cache.make_key("key")).ttl is None
        # It is one second on the server, where the next tick of the clock may end it.
        assert any(cache.set("key", 1, 0.5) or cache.get("key") == 1 for _ in range(5))
        cache.set("key", 1, 60 * 86400)
        assert 59 * 86400 < cache._cache.get_item(cache.make_key("key")).ttl <= 60 * 86400


def test_a_time_beyond_what_memcached_can_hold_is_for_ever(server):
    with Configured(server.address) as cache:
        for timeout in (10**10, 20 * 365.25 * 86400, float("inf")):
            cache.set("key", 1, timeout)
            assert cache._cache.get_item(cache.make_key("key")).ttl is None
        cache.set("key", 1, datetime.timedelta(hours=1))
        assert 3590 < cache._cache.get_item(cache.make_key("key")).ttl <= 3600


@pytest.mark.parametrize("timeout", ["5", b"5", [5]])
def test_a_timeout_of_another_type_is_named(server, timeout):
    with Configured(server.address) as cache:
        for call in (cache.set, cache.add, cache.get_or_set, lambda *given: cache.set_many({"a": 1}, given[2])):
            with pytest.raises(TypeError, match="timeout must be a number of seconds, a timedelta or None"):
                call("key", 1, timeout)


# ---- one computation -----------------------------------------------------------------------------------------------


def test_one_of_all_callers_computes(server, in_threads):
    runs = []

    def compute():
        runs.append(1)
        threading.Event().wait(0.2)
        return "value"

    async def compute_async():
        runs.append(1)
        await asyncio.sleep(0.2)
        return "value"

    async def many():
        return await asyncio.gather(*(caches["default"].aget_or_set("other", compute_async, 60) for _ in range(50)))

    with Configured(server.address):
        assert in_threads(16, lambda number: caches["default"].get_or_set("key", compute, 60)) == ["value"] * 16
        assert len(runs) == 1
        assert asyncio.run(many()) == ["value"] * 50
        assert len(runs) == 2


def test_what_asks_the_database_while_it_is_pickled_is_computed_once(server):
    class Query:
        """As a QuerySet that is not evaluated: in a thread with a running loop it must not be."""

        def __reduce__(self):
            return evaluate()

    @async_unsafe
    def evaluate():
        return (list, ([1, 2],))

    def compute():
        runs.append(1)
        return Query()

    def raises():
        runs.append(1)
        raise SynchronousOnlyOperation("mine")

    runs = []
    with Configured(server.address) as cache:
        assert asyncio.run(cache.aget_or_set("key", compute)) == [1, 2] == cache.get("key")
        assert len(runs) == 1
        with pytest.raises(SynchronousOnlyOperation, match="mine"):
            asyncio.run(cache.aget_or_set("other", raises))
        assert len(runs) == 2


def test_a_counter_that_is_no_number_and_one_that_is_not_there(server):
    with Configured(server.address) as cache:
        cache.set("text", "abc")
        for key in ("text", "missing"):
            with pytest.raises(ValueError, match="not found, or its value is no number"):
                cache.incr(key)
            with pytest.raises(ValueError, match="not found, or its value is no number"):
                asyncio.run(cache.adecr(key))


# ---- values of other backends --------------------------------------------------------------------------------------

VALUES = {
    "text": "täxt",
    "bytes": b"\x00\xff",
    "number": 17,
    "large number": 10**20,
    "none": None,
    "dict": {"a": [1, 2.5, "x"]},
    "long": "x" * 5000,
}


@pytest.mark.parametrize("name, backend", [("pymemcache", PYMEMCACHE), ("pylibmc", PYLIBMC)])
def test_a_deployment_changes_its_backend_with_a_warm_cache(name, backend):
    with start_memcached() as one, start_memcached() as two, start_memcached() as three:
        servers = [one.address, two.address, three.address]
        other = {"other": {"BACKEND": backend, "LOCATION": servers}}
        keyed = {f"{kind} {number}".replace(" ", "-"): value for kind, value in VALUES.items() for number in range(30)}
        with Configured(servers, other, values=name) as cache:
            caches["other"].set_many(keyed)
            assert cache.get_many(keyed) == keyed
            assert asyncio.run(cache.aget_many(keyed)) == keyed
            cache.clear()
            assert cache.set_many(keyed) == []
            assert caches["other"].get_many(keyed) == keyed
            cache.set("counter", 5)
            assert caches["other"].incr("counter") == 6 == cache.get("counter")
            assert cache.get_or_set("computed", lambda: [1]) == [1] == caches["other"].get("computed")


def test_a_key_that_is_being_computed_is_no_value_for_the_other_backend(server):
    """The mark of a lease is an item of no bytes: who knows nothing of it would take it for a value."""
    others = {"other": {"BACKEND": PYMEMCACHE, "LOCATION": server.address}}
    with Configured(server.address, others, values="pymemcache") as cache:

        def compute():
            seen.append(caches["other"].get("key", "missing"))
            return 1

        seen.clear()
        assert cache.get_or_set("key", compute) == 1
        assert seen == ["missing"]


def test_what_python_memcached_has_stored_is_read():
    import memcache

    with start_memcached() as one, start_memcached() as two:
        servers = [one.address, two.address]
        client = memcache.Client(servers)
        with Configured(servers, values="python-memcached") as cache:
            for number, value in enumerate(VALUES.values()):
                client.set(cache.make_key(f"key{number}"), value)
            assert [cache.get(f"key{number}") for number in range(len(VALUES))] == list(VALUES.values())


def test_nothing_of_a_configuration_that_is_gone_is_left(server):
    import mcext.django

    with Configured(server.address) as cache:
        cache.set("key", 1)
    del cache
    gc.collect()
    assert [each for each in mcext.django._made if each[0][0] == server.address] == []


# ---- the guide -----------------------------------------------------------------------------------------------------

GUIDE = (Path(__file__).parents[3] / "docs" / "django.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", GUIDE, re.M | re.S)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_settings_of_the_guide(number, monkeypatch):
    with start_memcached(tls="tls_context" in EXAMPLES[number]) as server:
        # What the guide says, but for what is somebody's own: the servers, and the file of their authority.
        context = server.tls_context
        monkeypatch.setattr(ssl, "create_default_context", lambda cafile: context)
        names = {"__name__": "guide"}
        monkeypatch.setitem(sys.modules, "guide", types.SimpleNamespace(tls_context=lambda: names["tls_context"]()))
        exec(EXAMPLES[number].replace('"timeout": 0.5', '"timeout": 20'), names)
        with override_settings(CACHES={"default": {**names["CACHES"]["default"], "LOCATION": server.address}}):
            caches["default"].set("key", ["value"])
            assert caches["default"].get("key") == ["value"]
            assert asyncio.run(twice(caches["default"])) == [["value"], ["value"]]


def test_the_guide_has_examples():
    assert len(EXAMPLES) >= 3
