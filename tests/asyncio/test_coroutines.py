"""A call of an AsyncCache is a coroutine object of its own kind, which all takes that takes coroutines."""

import asyncio
import collections.abc
import contextvars
import functools
import gc
import inspect
import socket
import sys
import tracemalloc
import types
import warnings
import weakref

import pytest
from holding_proxy import HoldingProxy
from loops import LOOPS, in_a_loop, run, turns

import mcext
from mcext import _core
from mcext.testing import memcached as start_memcached

pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")

loops = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="module")
def server():
    with start_memcached() as server:
        with mcext.Cache([server.address]) as other:
            other.set_many({"k": "value", "n": 5, "second": [2]})
        yield server


def with_cache(test):
    """A test that gets a cache, which is closed behind it; nothing is under way then."""

    @functools.wraps(test)
    async def running(server, **fixtures):
        async with mcext.AsyncCache([server.address], timeout=20) as cache:
            await test(cache, **fixtures)
            assert cache._pending == 0

    del running.__wrapped__
    running.__signature__ = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for name in ["server", *list(inspect.signature(test).parameters)[1:]]
        ]
    )
    return in_a_loop(running)


# ---- what takes awaitables


@loops
@with_cache
async def test_ways_to_await(cache, loop):
    assert await cache.get("k") == "value"
    assert await asyncio.create_task(cache.get("k")) == "value"
    assert await asyncio.ensure_future(cache.get("k")) == "value"
    assert await asyncio.get_running_loop().create_task(cache.get("k"), name="named") == "value"
    assert await asyncio.gather(cache.get("k"), cache.get("none"), cache.get_many(["k"])) == [
        "value",
        None,
        {"k": "value"},
    ]
    assert await asyncio.wait_for(cache.get("k"), 10) == "value"
    assert await asyncio.shield(cache.get("k")) == "value"
    done, _ = await asyncio.wait([asyncio.ensure_future(cache.get(key)) for key in ("k", "n")])
    assert {task.result() for task in done} == {"value", 5}
    assert sorted([await each for each in asyncio.as_completed([cache.get("n"), cache.incr("none", initial=7)])]) == [
        5,
        7,
    ]
    assert await cache.delete("none")

    async def outer():
        return await cache.get("k")

    assert await outer() == "value"
    assert (
        await asyncio.get_running_loop().run_in_executor(
            None,
            lambda loop: asyncio.run_coroutine_threadsafe(cache.get("k"), loop).result(10),
            asyncio.get_running_loop(),
        )
        == "value"
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="came with Python 3.11")
@loops
@with_cache
async def test_task_group_and_timeout(cache, loop):
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        tasks = [group.create_task(cache.get("k")) for _ in range(10)]
        tasks.append(group.create_task(cache.get("k"), context=contextvars.Context()))
    assert [task.result() for task in tasks] == ["value"] * 11


@pytest.mark.skipif(sys.version_info < (3, 12), reason="came with Python 3.12")
def test_eager_tasks(server, tmp_path):
    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with mcext.AsyncCache([server.address]) as cache:
            assert await asyncio.gather(*[cache.get("k") for _ in range(10)]) == ["value"] * 10
            assert await asyncio.create_task(cache.get_or_set("k", lambda: 1)) == "value"
            assert cache._pending == 0
        for address in (f"unix:{tmp_path}/none", "127.0.0.1:1"):
            async with mcext.AsyncCache([address], dead_retry=0.01) as cache:
                for call in (cache.get("k"), cache.set("k", 1), cache.get_many(["k"]), cache.version()):
                    with pytest.raises(mcext.MemcacheError) as caught:
                        await call
                    assert isinstance(caught.value, (mcext.ServerUnavailable, mcext.PartialFailure))
                    assert "no server can be used" not in str(caught.value)
                assert cache._pending == 0

    run("asyncio", main())


@with_cache
async def test_what_asks_whether_it_is_one(cache):
    for call in (cache.get("k"), cache.set("k", "value"), cache.get_many(["k"])):
        assert inspect.isawaitable(call)
        assert asyncio.iscoroutine(call)
        assert isinstance(call, collections.abc.Coroutine)
        assert isinstance(call, collections.abc.Awaitable)
        assert not asyncio.isfuture(call)
        assert inspect.getcoroutinestate(call) in ("CORO_CREATED", "CORO_CLOSED")
        assert call.cr_running is False and call.cr_await is None and call.cr_state == "CORO_CREATED"
        call.send(None)
        assert call.cr_state == "CORO_SUSPENDED"
        if sys.version_info >= (3, 11):
            assert inspect.getcoroutinestate(call) == "CORO_SUSPENDED"
        assert asyncio.isfuture(call.cr_await)
        call.close()
        assert inspect.getcoroutinestate(call) == call.cr_state == "CORO_CLOSED"
        await asyncio.sleep(0)


@with_cache
async def test_names_and_reprs(cache):
    call = cache.get("k")
    assert (call.__name__, call.__qualname__) == ("get", "AsyncCache.get")
    assert repr(call).startswith("<coroutine object AsyncCache.get at 0x")
    task = asyncio.ensure_future(call)
    assert "AsyncCache.get" in repr(task)
    await task
    assert "AsyncCache.get" in repr(task)
    assert task.get_stack() == []


def test_debug_mode(server, caplog):
    async def main():
        async with mcext.AsyncCache([server.address]) as cache:
            assert asyncio.get_running_loop().get_debug()
            task = asyncio.ensure_future(cache.get("k"))
            await asyncio.sleep(0)
            assert "AsyncCache.get" in repr(task)
            task.print_stack(file=open("/dev/null", "w"))
            assert await task == "value"
            assert await asyncio.gather(*[cache.get("k") for _ in range(50)]) == ["value"] * 50
            task = asyncio.ensure_future(cache.get("k"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await cache.get_or_set("k", lambda: 1) == "value"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run("asyncio", main(), debug=True)
    assert "exception" not in caplog.text.lower()


@with_cache
async def test_context_variables_are_the_callers(cache):
    variable = contextvars.ContextVar("variable")
    seen = []

    async def one(number):
        variable.set(number)
        await cache.get("k")
        await cache.get_or_set(f"made-{number}", lambda: seen.append(variable.get()) or number)
        assert variable.get() == number
        await cache.delete(f"made-{number}")

    await asyncio.gather(*map(one, range(20)))
    assert sorted(seen) == list(range(20))


@loops
@in_a_loop
async def test_a_connection_does_not_keep_what_its_first_caller_had_in_his_context(server, loop):
    variable = contextvars.ContextVar("request")

    class Request:
        pass

    async def first():
        request = Request()
        variable.set(request)
        await cache.get("k")
        return weakref.ref(request)

    async with mcext.AsyncCache([server.address]) as cache:
        request = await asyncio.ensure_future(first())
        await turns()
        gc.collect()
        assert request() is None
        assert await cache.get("k") == "value"


# ---- what is wrong


@with_cache
async def test_never_awaited(cache):
    for name, make in [
        ("get", lambda: cache.get("k")),
        ("set", lambda: cache.set("k", 1)),
        ("get_many", lambda: cache.get_many([])),
        ("incr", lambda: cache.incr("n")),
    ]:
        with pytest.warns(RuntimeWarning, match=rf"coroutine 'AsyncCache\.{name}' was never awaited"):
            make()
            gc.collect()
        call = make()
        call.close()  # this is the end of it, and no warning
        del call


@with_cache
async def test_awaited_twice(cache):
    call = cache.get("k")
    assert await call == "value"
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await call
    assert await cache.get("k") == "value"


@with_cache
async def test_awaited_by_two_at_the_same_time(cache):
    call = cache.get("k")

    async def one():
        return await call

    tasks = [asyncio.ensure_future(one()) for _ in range(3)]
    await asyncio.wait(tasks)
    assert tasks[0].result() == "value"
    for task in tasks[1:]:
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            task.result()


@with_cache
async def test_one_of_two_that_await_it_is_cancelled(cache):
    call = cache.get("k")

    async def one():
        return await call

    tasks = [asyncio.ensure_future(one()) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert tasks[0].result() == "value"


@in_a_loop
async def test_a_future_that_somebody_else_set(server):
    async with HoldingProxy(server) as proxy, mcext.AsyncCache([proxy.address], connections=1) as cache:
        await cache.get("k")
        for end in (
            lambda future: future.set_result("forged"),
            lambda future: future.set_exception(LookupError("forged")),
            lambda future: future.cancel(),
        ):
            proxy.hold(5)
            call = cache.get("k")
            future = call.send(None)
            await proxy.held.wait()
            end(future)
            with pytest.raises((RuntimeError, LookupError, asyncio.CancelledError)) as caught:
                call.send(None)
            assert not isinstance(caught.value, RuntimeError) or "set by somebody else" in str(caught.value)
            proxy.release()
            assert await cache.get("second") == [2]
            assert cache._pending == 0
        assert len(proxy.connections) == 1


@loops
@with_cache
async def test_driven_by_hand(cache, loop):
    await cache.get("k")
    call = cache.get("k")
    future = call.send(None)
    assert asyncio.isfuture(future) and not future.done()
    with pytest.raises(RuntimeError):
        call.send(None)  # before there is anything
    call = cache.get("k")
    future = call.send(None)
    future._asyncio_future_blocking = False
    while not future.done():
        await asyncio.sleep(0)
    with pytest.raises(StopIteration) as stopped:
        call.send(None)
    assert stopped.value.value == "value"
    call = cache.get("k")
    iterator = call.__await__()
    assert asyncio.isfuture(next(iterator))
    iterator.close()


@with_cache
async def test_results_that_stop_iteration_would_take_apart(cache):
    for value in ((1, 2), (), None, [(1,)], ((),)):
        assert await cache.set("tuple", value)
        assert await cache.get("tuple", "none") == value
        assert await asyncio.ensure_future(cache.get("tuple", "none")) == value
        call = cache.get("tuple", "none")
        future = call.send(None)
        future._asyncio_future_blocking = False
        while not future.done():
            await asyncio.sleep(0)
        with pytest.raises(StopIteration) as stopped:
            call.send(None)
        assert stopped.value.value == value
    assert await cache.get("missing", (1, 2)) == (1, 2)


@in_a_loop
async def test_a_lease_that_somebody_has_on_a_cold_key_is_no_value(server):
    """It is an item of no bytes and no flags: for each of those that share its line, too."""
    with socket.create_connection((server.host, server.port)) as raw:
        raw.sendall(b"mg cold v N30\r\n")
        assert raw.recv(100).startswith(b"VA 0 W")
    async with mcext.AsyncCache([server.address]) as cache:
        assert await cache.get("cold", "missed") == "missed"
        got = await asyncio.gather(*[cache.get(key, "missed") for key in ("cold", "k", "cold", "cold", "none")])
        assert got == ["missed", "value", "missed", "missed", "missed"]
        assert await cache.get_many(["cold", "k"]) == {"k": "value"}
        assert await cache.get_item("cold") is None
        assert await cache.set("cold", b"") and await cache.get("cold") == b""
        await cache.delete("cold")


# ---- nothing is leaked


def count():
    gc.collect()
    kinds = (_core._AsyncCall, asyncio.Future, asyncio.Task, types.CoroutineType)
    return [sum(isinstance(each, kind) for each in gc.get_objects()) for kind in kinds]


async def everything(cache):
    """One call of each kind, some of them cancelled."""
    await asyncio.gather(
        cache.get("k"),
        cache.get("none", object()),
        cache.get_many(["k", "n", "none"]),
        cache.get_item("k"),
        cache.get_items(["k", "n", "none"]),
        cache.set("other", [1, 2, 3]),
        cache.set_many({"other": object.__name__, "another": [1]}),
        cache.incr("number", initial=1),
        cache.touch("k", 1000),
        cache.get_and_touch("k", 1000),
        cache.delete("other"),
        cache.delete_many(["another", "other"]),
        cache.get_or_set("filled", lambda: [1]),
        cache.update("updated", lambda value: [2]),
        cache.version(),
        cache.stats(),
    )
    await cache.invalidate("filled")
    tasks = [asyncio.ensure_future(call) for call in (cache.get("k"), cache.get_many(["k", "n"]), cache.set("x", 1))]
    tasks.append(asyncio.ensure_future(cache.get_or_set("never", asyncio.Event().wait)))
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    call = cache.get("k")
    call.send(None)
    call.close()
    await cache.get("k")


@loops
@with_cache
async def test_nothing_is_left_of_a_thousand_calls(cache, loop):
    for _ in range(20):
        await everything(cache)
    await turns(10)
    before = count()
    values = [object() for _ in range(3)]
    references = [sys.getrefcount(each) for each in values]
    tracemalloc.start()
    try:
        for _ in range(30):
            await everything(cache)
        await turns(10)
        gc.collect()
        level = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            await everything(cache)
            for each in values:
                assert await cache.get("none", each) is each
        await turns(10)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - level
    finally:
        tracemalloc.stop()
    del each
    assert count() == before
    assert [sys.getrefcount(each) for each in values] == references
    assert grown < 50_000


@with_cache
async def test_a_cache_and_its_streams_are_freed(cache):
    async def one(address):
        mine = mcext.AsyncCache([address])
        await everything(mine)
        await mine.aclose()
        return weakref.ref(mine)

    gone = await one(cache.servers[0].address)
    await turns(10)
    gc.collect()
    assert gone() is None
