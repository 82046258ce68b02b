"""An AsyncCache belongs to the loop of its first use: what becomes of it when that ends, and beside other ones."""

import asyncio
import contextlib
import gc
import os
import signal
import threading
import traceback

import pytest
from holding_proxy import HoldingProxy
from loops import LOOPS, in_a_loop, new_loop, run, turns
from scripted_server import STALL, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

# A loop that ends with connections open warns of them, and uvloop does not come to its end where that is an error.
pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")

loops = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="module")
def server():
    with start_memcached("-t", "1") as server:  # with more threads a connection may be counted behind the next one's
        yield server


@pytest.fixture
def cache(server):
    return mcext.AsyncCache([server.address], timeout=20)


async def works(cache, name="k"):
    number = int(name[1:] or 0)
    await cache.delete("n" + name)
    got = await asyncio.gather(
        cache.set(name, [name]), cache.get(name), cache.get_many([name, "none"]), cache.incr("n" + name, initial=number)
    )
    assert got == [True, [name], {name: [name]}, number]
    return True


# ---- one loop after the other


@loops
def test_run_twice(cache, loop):
    for _ in range(5):
        assert run(loop, works(cache))


@loops
def test_run_twice_and_closed_each_time(cache, loop):
    async def main():
        async with cache:
            return await works(cache)

    for _ in range(5):
        assert run(loop, main())


@loops
def test_a_call_that_was_under_way_when_its_loop_ended(server, loop):
    """asyncio.run cancels it; the next loop finds a cache with nothing under way, and servers that are not dead."""
    kept = []

    async def main(cache):
        kept.extend(asyncio.ensure_future(call) for call in (cache.get("k"), cache.set("k", 1), cache.get_many(["k"])))
        await asyncio.sleep(0)  # they wait for the connect

    cache = mcext.AsyncCache([server.address], timeout=20)
    for _ in range(3):
        run(loop, main(cache))
        assert cache.servers[0].alive
        assert run(loop, works(cache))
        kept.clear()
        gc.collect()
        assert cache._pending == 0


@loops
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_closed_under_it(server, loop):
    """With calls under way, which nobody can end any more."""
    cache = mcext.AsyncCache([server.address], timeout=20)
    kept = []
    for _ in range(3):
        first = new_loop(loop)
        asyncio.set_event_loop(first)
        first.run_until_complete(works(cache))

        async def begin():
            kept.extend(asyncio.ensure_future(call) for call in (cache.get("k"), cache.get_many(["k"])))
            await asyncio.sleep(0)

        first.run_until_complete(begin())
        for task in kept:
            task._log_destroy_pending = False
        asyncio.set_event_loop(None)
        first.close()
        assert run(loop, works(cache))
        kept.clear()
        gc.collect()
        assert cache._pending == 0
        assert run(loop, works(cache))


RETIRED_BY = {
    "aclose": lambda cache, server: asyncio.ensure_future(cache.aclose()),
    "set_servers": lambda cache, server: cache.set_servers([server.address]),
}


async def never(*_):
    await asyncio.get_running_loop().create_future()


@loops
@pytest.mark.parametrize("by", RETIRED_BY)
@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_closed_under_streams_that_were_to_end(server, loop, by, opened, monkeypatch):
    """They take no more, and have calls under way."""

    async def begin():
        calls = cache.get("k"), cache.set("k", 1), cache.get_many(["k"]), cache.get_item("k")
        kept.extend(asyncio.ensure_future(call) for call in calls)
        await turns()
        while opened and not cache.servers[0].connections:
            await asyncio.sleep(0)
        kept.append(RETIRED_BY[by](cache, server))
        await turns()
        assert cache._pending == 4

    async def fill():
        ends = await asyncio.gather(*(cache.get("k") for _ in range(11)), return_exceptions=True)
        return [type(each) for each in ends].count(mcext.Overloaded)

    with ScriptedServer(lambda command, number: STALL) as silent, monkeypatch.context() as patch:
        if not opened:
            patch.setattr(mcext.AsyncCache, "_make_connection", never)
        cache = mcext.AsyncCache([silent.address], timeout=20, max_pending=10)
        kept = []
        first = new_loop(loop)
        asyncio.set_event_loop(first)
        first.run_until_complete(begin())
        asyncio.set_event_loop(None)
        first.close()
    cache.set_servers([server.address])
    assert run(loop, works(cache))
    assert cache._pending == 0
    kept.clear()
    gc.collect()
    assert cache._pending == 0
    assert run(loop, fill()) == 1


@loops
def test_servers_are_set_between_two_loops(server, loop):
    with start_memcached() as second:
        cache = mcext.AsyncCache([second.address])
        run(loop, works(cache))
        cache.set_servers([server.address])
        run(loop, works(cache))
        assert [each.address for each in cache.servers] == [server.address]


@loops
def test_a_loop_for_each_test(server, loop):
    """As pytest-asyncio does it: made, used, closed; a new one."""
    cache = mcext.AsyncCache([server.address])
    for i in range(20):
        each = new_loop(loop)
        try:
            assert each.run_until_complete(works(cache, f"k{i}"))
            each.run_until_complete(cache.aclose())
        finally:
            each.close()


# ---- where it does not belong


@loops
def test_another_running_loop(cache, loop):
    """Both are named, and the cache is unharmed."""
    first, second = new_loop(loop), new_loop(loop)
    try:
        first.run_until_complete(works(cache))
        for name, arguments in [
            ("get", ("k",)),
            ("set", ("k", 1)),
            ("get_many", (["k"],)),
            ("get_item", ("k",)),
            ("incr", ("n",)),
            ("version", ()),
        ]:

            async def misuse(name=name, arguments=arguments):
                return await getattr(cache, name)(*arguments)

            with pytest.raises(RuntimeError) as caught:
                second.run_until_complete(misuse())
            assert repr(first) in str(caught.value) or str(id(first)) in str(caught.value) or loop == "uvloop"
            assert str(caught.value).count("oop") >= 2
        assert first.run_until_complete(works(cache))
        first.run_until_complete(cache.aclose())
    finally:
        first.close()
        second.close()


@loops
@in_a_loop
async def test_another_thread(server, loop):
    cache = mcext.AsyncCache([server.address])
    await works(cache)
    errors = []

    def thread():
        async def misuse():
            return await cache.get("k")

        try:
            run(loop, misuse())
        except RuntimeError as error:
            errors.append(str(error))
        try:
            cache.get("k").send(None)
        except RuntimeError as error:
            errors.append(str(error))

    await asyncio.get_running_loop().run_in_executor(None, thread)
    assert len(errors) == 2
    assert "belongs to the event loop" in errors[0] and repr(asyncio.get_running_loop()) in errors[0]
    assert errors[1] == "no running event loop"
    await works(cache)
    await cache.aclose()


def test_no_running_loop(cache):
    call = cache.get("k")
    with pytest.raises(RuntimeError, match="no running event loop"):
        call.send(None)


@loops
def test_many_loops_in_many_threads_with_a_cache_each(server, loop):
    failures = []

    def thread(number):
        async def main():
            async with mcext.AsyncCache([server.address], timeout=20) as cache:
                for i in range(100):
                    name = f"k{number * 1000 + i}"
                    assert await works(cache, name)

        try:
            run(loop, main())
        except BaseException:
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert not failures, failures[0]


# ---- forks


def in_a_child(function):
    """Run it in a fork; what it raises is told here."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(readable)
            signal.alarm(30)
            function()
            status = 0
        except BaseException:
            os.write(writable, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(status)
    os.close(writable)
    with open(readable) as said:
        words = said.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, words or status


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@loops
def test_fork_between_two_runs(server, cache, loop):
    """The loop of the parent still lives, and its streams are open."""
    first = new_loop(loop)
    try:
        first.run_until_complete(works(cache))
        for i in range(3):
            in_a_child(lambda i=i: run("asyncio", works(cache, f"k{i}")))
            before = connections_ever(server)
            assert first.run_until_complete(works(cache))
            assert connections_ever(server) == before
        first.run_until_complete(cache.aclose())
    finally:
        first.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@in_a_loop
async def test_fork_in_a_running_loop(server):
    """With calls under way, which are the parent's: the child's own are right, and the parent's have their answers."""
    async with HoldingProxy(server) as proxy:
        cache = mcext.AsyncCache([proxy.address], connections=1, timeout=20)
        direct = mcext.AsyncCache([server.address], connections=1, timeout=20)
        await works(cache)
        await works(direct)
        for i in range(5):
            proxy.hold(7)
            tasks = [asyncio.ensure_future(call) for call in (cache.get("k"), cache.get_many(["k"]), direct.get("k"))]
            await proxy.held.wait()

            def child(i=i):
                async def main():
                    await works(direct, f"k{i}")
                    await direct.aclose()
                    await works(direct, f"k{i}")
                    assert direct._pending == 0

                asyncio.run(main())

            in_a_child(child)
            proxy.release()
            assert await asyncio.gather(*tasks) == [["k"], {"k": ["k"]}, ["k"]]
            await works(cache)
            await works(direct)
        assert len(proxy.connections) == 1
        await cache.aclose()
        await direct.aclose()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@in_a_loop
async def test_a_child_that_uses_the_cache_by_gathers_and_goes_on_with_garbage(server):
    """What it has of the parent's tasks is freed in it, and that disturbs nobody."""
    cache = mcext.AsyncCache([server.address], timeout=20)
    await works(cache)
    tasks = [asyncio.ensure_future(cache.get("k")) for _ in range(100)]
    await asyncio.sleep(0)

    def child():
        for task in tasks:
            task._log_destroy_pending = False
        tasks.clear()
        asyncio.run(works(cache))
        gc.collect()
        assert cache._pending == 0
        asyncio.run(works(cache))

    in_a_child(child)
    assert await asyncio.gather(*tasks) == [["k"]] * 100
    await cache.aclose()


def connections_ever(server):
    with mcext.Cache([server.address]) as probe:
        stats = probe.stats()[server.address]
    return int(stats["total_connections"]) - 1 - connections_ever.own_after(server)


def _own(server, seen={}):  # noqa: B006
    """How many of them were those of this count."""
    seen[server.address] = seen.get(server.address, -1) + 1
    return seen[server.address]


connections_ever.own_after = _own


# ---- the end


@loops
@in_a_loop
async def test_closed_twice_and_by_two(server, loop):
    cache = mcext.AsyncCache([server.address])
    await works(cache)
    await asyncio.gather(cache.aclose(), cache.aclose())
    await cache.aclose()
    await works(cache)
    task = asyncio.ensure_future(cache.aclose())
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await works(cache)
    await cache.aclose()
    await turns()
    assert cache._streams == set() and cache._tasks == {}
