"""mcext.aiocache: aiocache's cache in memcached, with aiocache's own tests."""

import asyncio

import fetched
import over_tls
import ports
import pytest
import released

import mcext

pytestmark = pytest.mark.frameworks

SUITE = [f"tests/acceptance/test_{name}.py" for name in ("base", "decorators", "lock", "plugins")]


@pytest.fixture
def make(server):
    from mcext.aiocache import MemcachedCache

    def make(servers=server.address, **options):
        return MemcachedCache(servers, tls_context=over_tls.context(), **options)

    return make


@pytest.fixture
def run(make):
    """Run a coroutine function with a cache with these options, and close it."""

    def run(scenario, *servers, **options):
        async def main():
            async with make(*servers, **options) as cache:
                return await scenario(cache)

        return asyncio.run(main())

    return run


@pytest.fixture
def nobody():
    """The address of a server that is not there."""
    with ports.bound() as sock:
        yield "{}:{}".format(*sock.getsockname())


@pytest.mark.slow
def test_aiocaches_own_tests_of_its_memcached_cache_pass(server):
    options = ("-p", "aiocache_suite", "-o", "addopts=", "-o", "anyio_mode=auto")
    folder = fetched.source("aiocache==0.12.3")
    assert released.run_suite("anyio", folder, *options, *SUITE, MCEXT_ADDRESS=server.address) >= 57


def test_it_is_configured_by_its_path(server):
    from aiocache import caches

    serializer = {"class": "aiocache.serializers.PickleSerializer"}
    options = {"servers": [server.address], "namespace": "shop:", "ttl": 100, "placement": "mcext.placement.rendezvous"}
    options["tls_context"] = "over_tls.context"
    caches.set_config({"default": {"cache": "mcext.aiocache.MemcachedCache", "serializer": serializer, **options}})

    async def main():
        async with caches.get("default") as cache:
            assert await cache.set("a key", {1, 2}) is True
            assert await cache.get("a key") == {1, 2}
            assert await cache.multi_get(["a key", "b"]) == [{1, 2}, None]

    asyncio.run(main())
    with mcext.Cache([server.address]) as cache:
        assert 95 <= cache.get_item("shop:a_key").ttl <= 100


def test_the_decorator_keeps_what_a_function_returns(server):
    from aiocache import cached

    from mcext.aiocache import MemcachedCache

    calls = []

    @cached(ttl=60, cache=MemcachedCache, servers=[server.address], tls_context=over_tls.context())
    async def square(number):
        calls.append(number)
        return number * number

    async def main():
        found = [await square(7), await square(7), await square(8)]
        await square.cache.close()
        return found

    assert asyncio.run(main()) == [49, 49, 64] and calls == [7, 8]


def test_aiocaches_own_cache_reads_what_it_stores_and_it_what_that_stores(run, server):
    from aiocache.backends.memcached import MemcachedCache

    async def scenario(ours):
        async with MemcachedCache(endpoint=server.host, port=server.port) as theirs:
            await ours.set("one", {"by": "us"})
            await theirs.set("two", {"by": "them"})
            assert await theirs.get("one") == {"by": "us"} and await ours.get("two") == {"by": "them"}
            assert await ours.increment("three") == 1 and await theirs.increment("three") == 2
            assert await ours.multi_get(["one", "two", "three"]) == [{"by": "us"}, {"by": "them"}, 2]

    run(scenario)


def test_nothing_that_is_on_the_server_is_unpickled(run, server):
    with mcext.Cache([server.address]) as cache:
        cache.set("key", {"a": "pickle"})

    async def scenario(cache):
        assert await cache.get("key") is None

    run(scenario)


def test_numbers_are_counted_by_the_server_unless_they_are_below_nought(run):
    async def scenario(cache):
        await asyncio.gather(*(cache.increment("counter") for _ in range(50)))
        assert await cache.get("counter") == 50
        assert await cache.increment("counter", -70) == 0  # memcached's own end
        assert await cache.increment("missing", -2) == -2 and await cache.get("missing") == -2
        await cache.set("text", "value")
        for key in ("text", "missing"):
            with pytest.raises(TypeError, match="not an integer"):
                await cache.increment(key)

    run(scenario)


def test_a_lock_is_let_go_by_its_owner_alone(run, server):
    from aiocache.lock import RedLock

    async def scenario(cache):
        async with RedLock(cache, "key", 20) as _:
            assert await cache._redlock_release("key-lock", "another's") is False
            assert await cache.exists("key-lock") is True
        assert await cache.exists("key-lock") is False

    run(scenario)


def test_without_a_server_everything_is_a_miss_and_nothing_is_raised(run, nobody):
    from aiocache.lock import OptimisticLock, RedLock

    events = []

    async def scenario(cache):
        assert await cache.get("key", default=1) == 1 and await cache.multi_get(["a", "b"]) == [None, None]
        assert await cache.set("key", 1) is False and await cache.multi_set([("a", 1)]) is True
        assert await cache.add("key", 1) is True
        assert await cache.exists("key") is False and await cache.expire("key", 1) is False
        assert await cache.delete("key") == 0 and await cache.increment("key") == -1 and await cache.clear() is True
        async with RedLock(cache, "key", 20), RedLock(cache, "key", 20):  # no wait for a lease that nobody gave
            pass
        async with OptimisticLock(cache, "key") as lock:
            assert lock._token is None
        assert cache.client.metrics()["dead_marks"] >= 1

    run(scenario, [nobody], on_event=events.append)
    assert "error" in {event.kind for event in events}


def test_failures_are_raised_where_that_is_asked_for(run, nobody):
    async def scenario(cache):
        for call in (cache.get("a"), cache.multi_get(["a"]), cache.set("a", 1), cache.add("a", 1), cache.delete("a")):
            with pytest.raises(mcext.MemcacheError):
                await call

    run(scenario, [nobody], errors="raise")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"tiemout": 1}, "options of mcext.aiocache.MemcachedCache: there is no option 'tiemout'"),
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"errors": "hide"}, "errors must be"),
        ({"servers": ""}, "servers must name one"),
    ],
)
def test_wrong_options_are_named(make, options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)
