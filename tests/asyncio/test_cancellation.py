"""A call of an AsyncCache that is cancelled, at each of its await points and with its reply cut at each byte.

It harms nobody: the next calls on the same stream have their own answers, and the stream is kept.
"""

import asyncio
import contextlib
import itertools
import socket
import sys
import time

import pytest
from holding_proxy import HoldingProxy
from loops import LOOPS, in_a_loop, turns, until

import mcext
from mcext.testing import memcached as start_memcached

pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")

LARGE = bytes(range(256)) * 4096  # 1 MiB
AFTER = 86400


@pytest.fixture(scope="module")
def server():
    with start_memcached("-I", "8m") as server:
        yield server


@pytest.fixture(scope="module")
def other(server):
    """A client of another kind."""
    with mcext.Cache([server.address], timeout=30) as cache:
        yield cache


@pytest.fixture(autouse=True)
def right(other):
    """What the calls find, each time anew."""

    def prepare():
        other.set_many({"k": "old", "second": [2, "two"], "sentinel": "right", "n": 5, "text": b"text"}, AFTER)
        other.delete("none")
        other.delete("filled")

    other.flush_all()
    prepare()
    return prepare


@contextlib.asynccontextmanager
async def through_proxy(server, **options):
    options = {"timeout": 30, **options}
    async with HoldingProxy(server) as proxy:
        cache = mcext.AsyncCache([proxy.address], **options)
        try:
            yield cache, proxy
        finally:
            proxy.release()
            await cache.aclose()


async def are_right(cache):
    """Other calls, and each gets what is its own."""
    got = await asyncio.gather(
        cache.get("sentinel"), cache.get("nothing", "missed"),
        cache.get_many(["sentinel", "nothing"]), cache.set("sentinel-too", "too"), cache.get_item("sentinel"),
    )  # fmt: skip
    assert got[:4] == ["right", "missed", {"sentinel": "right"}, True]
    assert got[4].value == "right"
    assert await cache.get("sentinel-too") == "too"
    assert cache._pending == 0


async def cancelled(task):
    """Whether the task ended by being cancelled; it is over, and not by another exception."""
    done, _ = await asyncio.wait([task], timeout=20)
    assert done, "it does not end"
    if not task.cancelled():
        task.result()
    return task.cancelled()


def compute():
    return "computed"


async def compute_async():
    await asyncio.sleep(0)
    return "computed"


CALLS = {
    "get": lambda cache, cas: cache.get("k"),
    "get of a miss": lambda cache, cas: cache.get("none"),
    "get_many": lambda cache, cas: cache.get_many(["k", "none", "second", "n"]),
    "get_item": lambda cache, cas: cache.get_item("k"),
    "get_items": lambda cache, cas: cache.get_items(["k", "none", "second"]),
    "get_and_touch": lambda cache, cas: cache.get_and_touch("k", AFTER),
    "set": lambda cache, cas: cache.set("k", "new", AFTER),
    "set by token": lambda cache, cas: cache.set("k", "new", AFTER, cas=cas),
    "set where absent": lambda cache, cas: cache.set("none", "new", AFTER, cas=mcext.ABSENT),
    "add": lambda cache, cas: cache.add("none", "new"),
    "replace": lambda cache, cas: cache.replace("k", "new"),
    "append": lambda cache, cas: cache.append("text", b"<"),
    "prepend": lambda cache, cas: cache.prepend("text", b">"),
    "set_many": lambda cache, cas: cache.set_many({"k": "new", "none": 1, "second": [2, "two"]}),
    "delete": lambda cache, cas: cache.delete("k"),
    "delete by token": lambda cache, cas: cache.delete("k", cas=cas),
    "delete_many": lambda cache, cas: cache.delete_many(["k", "none", "second"]),
    "touch": lambda cache, cas: cache.touch("k", AFTER),
    "incr": lambda cache, cas: cache.incr("n"),
    "decr": lambda cache, cas: cache.decr("n", 2),
    "incr from initial": lambda cache, cas: cache.incr("none", initial=3, ttl=AFTER),
    "get_or_set of a hit": lambda cache, cas: cache.get_or_set("k", compute, AFTER),
    "get_or_set": lambda cache, cas: cache.get_or_set("filled", compute, AFTER),
    "get_or_set, async": lambda cache, cas: cache.get_or_set("filled", compute_async, AFTER),
    "update": lambda cache, cas: cache.update("k", lambda value: "new", AFTER),
    "invalidate": lambda cache, cas: cache.invalidate("k"),
    "invalidate, stale": lambda cache, cas: cache.invalidate("k", stale=30),
    "version": lambda cache, cas: cache.version(),
    "flush_all": lambda cache, cas: cache.flush_all(AFTER),
    "stats": lambda cache, cas: cache.stats(),
}


def cuts(name, length):
    """Where its reply is cut: at each byte; of a long one at most 150. Figures may be shorter the next time."""
    return range(0, length - 30 if name == "stats" else length, 1 + length // 150)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", CALLS)
@in_a_loop
async def test_cut_at_every_byte(server, other, right, loop, name):
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        before = proxy.passed
        await CALLS[name](cache, other.get_item("k").cas)
        length = proxy.passed - before
        assert length
        for cut in cuts(name, length):
            right()
            cas = other.get_item("k").cas
            proxy.hold(cut)
            task = asyncio.ensure_future(CALLS[name](cache, cas))
            await proxy.held.wait()
            await turns()
            if not task.done():  # a get has its value before the END behind it
                task.cancel()
                assert await cancelled(drained(task, proxy))
            proxy.release()
            await are_right(cache)
            assert task.cancelled() or (name == "get" and task.result() == "old")
            assert len(proxy.connections) == 1, f"cut at byte {cut} of {length} another connection was opened"
            assert other.get("k", "gone") in ("old", "new", "gone")
            assert other.get("n") in (3, 5, 6)
            assert other.get("text") in (b"text", b"text<", b">text")
            assert other.get("filled", "computed") == "computed"
        other.flush_all()
        other.set("filled", "old")
        assert other.get_or_set("filled", compute, wait=0) == "old"


def drained(task, proxy):
    """A call that gives something back when it is cancelled awaits the answer to that."""

    async def wait():
        for _ in range(3):
            await turns()
            if task.done():
                break
            proxy.release()
            await asyncio.wait([task], timeout=0.5)
        return await task

    return asyncio.ensure_future(wait())


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_a_lease_that_a_cancelled_caller_won_is_given_back(server, other, loop):
    """Wherever in the reply it is cancelled: the next caller computes at once."""
    for key, stale in (("cold", False), ("stale", True)):
        async with through_proxy(server, connections=1) as (cache, proxy):
            await are_right(cache)
            for cut in range(40):
                other.delete(key)
                if stale:
                    other.set(key, "old")
                    other.invalidate(key, stale=60)
                proxy.hold(cut)
                task = asyncio.ensure_future(cache.get_or_set(key, asyncio.Event().wait, 60, stale=60))
                await asyncio.wait([asyncio.ensure_future(proxy.held.wait())], timeout=0.05)
                await turns()
                task.cancel()
                assert await cancelled(drained(task, proxy))
                proxy.release()
                await are_right(cache)
                assert other.get_or_set(key, compute, wait=0, fallback="raise") == "computed", cut


LOOKS = {
    "get_item": lambda cache, key: cache.get_item(key),
    "get_items": lambda cache, key: cache.get_items(["k", key, "none"]),
    "get_and_touch": lambda cache, key: cache.get_and_touch(key, 1000),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", LOOKS)
@in_a_loop
async def test_a_lease_that_came_with_an_old_value_is_given_back(server, other, loop, name):
    """memcached gives it to whoever first looks at an item that was invalidated, and he may be cancelled."""
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        for cut in range(0, 120, 2):
            other.set("stale", "old")
            other.invalidate("stale", stale=60)
            proxy.hold(cut)
            task = asyncio.ensure_future(LOOKS[name](cache, "stale"))
            await asyncio.wait([asyncio.ensure_future(proxy.held.wait())], timeout=0.01)
            await turns()
            task.cancel()
            await cancelled(drained(task, proxy))
            proxy.release()
            await are_right(cache)
            assert other.get_or_set("stale", compute, 60, stale=60) == "computed", cut
        assert len(proxy.connections) == 1


# ---- before it was written


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("stats", "version", "flush_all")])
@in_a_loop
async def test_cancelled_while_the_stream_is_opened_nothing_is_sent(server, other, loop, name):
    async with through_proxy(server, connections=1) as (cache, proxy):
        task = asyncio.ensure_future(CALLS[name](cache, 1))
        await asyncio.sleep(0)  # it waits for the connect
        task.cancel()
        assert await cancelled(task)
        await asyncio.sleep(0.01)
        assert proxy.received == b""
        await are_right(cache)
        assert len(proxy.connections) == 1


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_cancelled_before_it_was_first_run_nothing_is_sent(server, loop):
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        received = proxy.received
        for name in ("get", "set", "incr", "get_many", "set_many"):
            task = asyncio.ensure_future(CALLS[name](cache, 1))
            task.cancel()
            assert await cancelled(task)
        await asyncio.sleep(0.01)
        assert proxy.received == received
        assert cache._pending == 0


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_closed_in_the_turn_in_which_it_began_nothing_is_sent(server, loop):
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        proxy.hold()
        first = asyncio.ensure_future(cache.get("sentinel"))
        await proxy.held.wait()  # now the next ones wait for the end of their turn
        received = proxy.received
        for name in ("get", "set", "incr", "get_many", "set_many", "delete"):
            call = CALLS[name](cache, 1)
            call.send(None)
            call.close()
            call = CALLS[name](cache, 1)
            call.send(None)
            with pytest.raises(LookupError):
                call.throw(LookupError("thrown"))
        await asyncio.sleep(0.01)
        assert proxy.received == received
        proxy.release()
        assert await first == "right"
        await are_right(cache)
        assert len(proxy.connections) == 1


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_task_cancelled_in_the_turn_in_which_it_began(server, other, loop):
    """Its request may be on its way; its answer is nobody else's."""
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        for _ in range(50):
            others = [asyncio.ensure_future(cache.get("sentinel")) for _ in range(2)]
            tasks = [asyncio.ensure_future(CALLS[name](cache, 1)) for name in ("get", "set", "incr", "get_many")]
            others += [asyncio.ensure_future(cache.get("second")) for _ in range(2)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            assert all([await cancelled(task) for task in tasks])
            assert await asyncio.gather(*others) == ["right", "right", [2, "two"], [2, "two"]]
        await are_right(cache)
        assert len(proxy.connections) == 1


# ---- several in one line


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("which", [{0}, {1}, {2}, {3}, {0, 1}, {0, 3}, {1, 2, 3}, {0, 1, 2, 3}])
@in_a_loop
async def test_of_several_that_share_a_line_some_are_cancelled(server, loop, which):
    keys, values = ["sentinel", "k", "sentinel", "none"], ["right", "old", "right", None]
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        before = proxy.passed
        await asyncio.gather(*map(cache.get, keys))
        length = proxy.passed - before
        for cut in range(length):
            proxy.hold(cut)
            tasks = [asyncio.ensure_future(cache.get(key)) for key in keys]
            await proxy.held.wait()
            await turns()
            for i in which:
                tasks[i].cancel()
            await turns()
            proxy.release()
            for i, (task, value) in enumerate(zip(tasks, values, strict=True)):
                if not await cancelled(task):
                    assert task.result() == value
                    assert i not in which or cut > 0
            await are_right(cache)
        assert len(proxy.connections) == 1


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_a_line_that_was_cut_short_goes_out_again_and_more_gets_come(server, other, loop):
    """Some were cancelled before it was written; its stream is lost; more gets come while the next one is opened."""
    keys = [f"line-{i}" for i in range(40)]
    other.set_many({key: key for key in keys})
    async with through_proxy(server, connections=1) as (cache, proxy):
        for dropped in (slice(0, 5), slice(3, 20, 3), slice(30, 40)):
            await are_right(cache)
            proxy.hold(0)
            first = asyncio.ensure_future(cache.get("sentinel"))
            await proxy.held.wait()
            calls = {key: cache.get(key) for key in keys}
            futures = {key: call.send(None) for key, call in calls.items()}
            for key in keys[dropped]:
                calls.pop(key).close()
            await turns(3)
            proxy.connections[-1].transport.abort()
            proxy.release()
            while cache.servers[0].connections:
                await asyncio.sleep(0)
            tasks = []
            for _ in range(12):
                tasks += [asyncio.ensure_future(cache.get(key)) for key in reversed(keys)]
                await asyncio.sleep(0)
            assert await asyncio.wait_for(asyncio.gather(*tasks), 15) == 12 * keys[::-1]
            for key, call in calls.items():
                await asyncio.wait([futures[key]])
                with pytest.raises(StopIteration) as stopped:
                    call.send(None)
                assert stopped.value.value == key
            assert await first == "right"


# ---- large values


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("connections", [1, 2])
@in_a_loop
async def test_a_large_value_cancelled_in_its_body(server, other, loop, connections):
    other.set("large", LARGE)
    async with through_proxy(server, connections=connections) as (cache, proxy):
        await are_right(cache)
        assert await cache.get("large") == LARGE
        for call in (
            lambda: cache.get("large"),
            lambda: cache.get_many(["k", "large", "second"]),
            lambda: cache.get_item("large"),
            lambda: cache.get_or_set("large", compute),
        ):
            for cut in (1, 20, 100, 16384, 16400, 65536, 262144, 500_000, len(LARGE) - 1, len(LARGE) + 20):
                streams = len(proxy.connections)
                proxy.hold(cut)
                task = asyncio.ensure_future(call())
                await proxy.held.wait()
                await asyncio.sleep(0.002)
                task.cancel()
                assert await cancelled(task)
                small = asyncio.ensure_future(cache.get("sentinel"))
                await turns()
                proxy.release()
                assert await small == "right"
                await are_right(cache)
                assert streams <= len(proxy.connections) <= connections
        assert await cache.get("large") == LARGE


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_one_of_two_that_wait_for_a_large_value(server, other, loop):
    other.set("large", LARGE)
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        for cut in (100, 20000, 500_000):
            proxy.hold(cut)
            tasks = [asyncio.ensure_future(cache.get(key)) for key in ("large", "sentinel", "large")]
            await proxy.held.wait()
            await asyncio.sleep(0.002)
            tasks[0].cancel()
            await turns()
            proxy.release()
            assert await cancelled(tasks[0])
            assert await asyncio.gather(*tasks[1:]) == ["right", LARGE]
        await are_right(cache)
        assert len(proxy.connections) == 1


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_a_large_set_cancelled_while_it_is_written(server, other, loop):
    """What is in the transport goes out whole: the stream stays right."""
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        for size in (20_000, 1 << 20, 7 << 20):
            task = asyncio.ensure_future(cache.set("large", b"x" * size))
            rest = [asyncio.ensure_future(cache.set(f"behind-{i}", i)) for i in range(3)]
            await asyncio.sleep(0)
            task.cancel()
            rest[1].cancel()
            assert await cancelled(task)
            assert await rest[0] is True and await rest[2] is True
            await are_right(cache)
            assert other.get("large", b"") in (b"", b"x" * size)
            other.delete("large")
        assert len(proxy.connections) == 1


# ---- ways to cancel


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_wait_for(server, loop):
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        proxy.hold(3)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(cache.get("k"), 0.01)
        proxy.release()
        await are_right(cache)
        assert await asyncio.wait_for(cache.get("sentinel"), 10) == "right"
        assert len(proxy.connections) == 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with Python 3.11")
@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_timeout(server, loop):
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        for cut in range(0, 20, 3):
            proxy.hold(cut)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await cache.get("k")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await cache.incr("n")
            proxy.release()
            await are_right(cache)
        assert len(proxy.connections) == 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup came with Python 3.11")
@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_a_task_group_that_fails(server, loop):
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        proxy.hold(0)
        tasks = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks += [group.create_task(cache.get(key)) for key in ("k", "none", "second", "k")]
                tasks.append(group.create_task(cache.get_many(["k", "second"])))
                tasks.append(group.create_task(cache.get_or_set("filled", compute)))
                await proxy.held.wait()
                asyncio.get_running_loop().call_later(0.05, proxy.release)
                raise LookupError("it fails")
        except BaseException as error:
            assert [type(each) for each in error.exceptions] == [LookupError]
        assert all(task.cancelled() for task in tasks)
        await are_right(cache)
        assert len(proxy.connections) == 1


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_cancelled_twice(server, loop):
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        for name in ("get", "set", "get_many", "get_or_set", "update"):
            for pause in (0, 1, 2):
                proxy.hold(2)
                task = asyncio.ensure_future(CALLS[name](cache, 1))
                await proxy.held.wait()
                task.cancel()
                await turns(pause)
                task.cancel()
                proxy.release()
                assert await cancelled(task)
                await are_right(cache)
        assert len(proxy.connections) == 1


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_closed_and_thrown_into_by_hand(server, loop):
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        for end in ("close", "throw", "throw a class", "forget"):
            for name in ("get", "set", "get_many", "incr", "delete"):
                proxy.hold(1)
                call = CALLS[name](cache, 1)
                future = call.send(None)
                assert asyncio.isfuture(future)
                await proxy.held.wait()
                if end == "close":
                    call.close()
                    call.close()
                elif end == "throw":
                    with pytest.raises(LookupError, match="by hand"):
                        call.throw(LookupError("by hand"))
                elif end == "throw a class":
                    with pytest.raises(LookupError):
                        call.throw(LookupError)
                if end != "forget":
                    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                        call.send(None)
                del call, future
                proxy.release()
                await are_right(cache)
        assert len(proxy.connections) == 1


# ---- what the server carries out all the same


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_a_cancelled_change_that_the_server_carries_out_is_carried_out_once(server, other, loop):
    async with through_proxy(server, connections=1) as (cache, proxy):
        await are_right(cache)
        for i in range(20):
            other.set("n", 10)
            proxy.hold(i % 4)
            tasks = [asyncio.ensure_future(cache.incr("n")), asyncio.ensure_future(cache.set("k", i))]
            await proxy.held.wait()
            await turns()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            proxy.release()
            assert await cache.incr("n") == 12
            assert await cache.get("k") == i
        assert len(proxy.connections) == 1


# ---- beside other things that end


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_aclose_does_not_wait_for_what_was_cancelled_while_the_stream_was_opened(server, loop):
    async with HoldingProxy(server) as proxy:
        cache = mcext.AsyncCache([proxy.address])
        began = time.monotonic()
        task = asyncio.ensure_future(cache.get("k"))
        await asyncio.sleep(0)
        task.cancel()
        assert await cancelled(task)
        await cache.aclose()
        assert time.monotonic() - began < 10
        await asyncio.sleep(0.05)
        await until(lambda: proxy.open_connections == 0)


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_cancelled_while_it_is_closed(server, loop):
    for name, pause in itertools.product(("get", "set", "get_many", "incr"), (0, 1, 3)):
        async with HoldingProxy(server) as proxy:
            cache = mcext.AsyncCache([proxy.address], timeout=20)
            await are_right(cache)
            proxy.hold(2)
            task = asyncio.ensure_future(CALLS[name](cache, 1))
            await turns(pause)
            closing = asyncio.ensure_future(cache.aclose())
            await turns()
            task.cancel()
            assert await cancelled(task)
            proxy.release()
            await asyncio.wait_for(closing, 10)
            await until(lambda proxy=proxy: proxy.open_connections == 0)
            await are_right(cache)
            await cache.aclose()


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_each_call_has_its_own_time_while_the_stream_is_opened(loop):
    """A connect may take longer than a call; some calls give up while others have come behind them."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        cache = mcext.AsyncCache(["{}:{}".format(*full.getsockname())], timeout=0.4, connect_timeout=30)

        async def one(call):
            began = time.monotonic()
            with pytest.raises((mcext.ServerTimeout, mcext.PartialFailure)):
                await call
            return time.monotonic() - began

        tasks = []
        for i in range(6):
            for call in (cache.set(f"k{i}", i), cache.get(f"k{i}"), cache.get_many([f"k{i}"]), cache.delete("k")):
                tasks.append(asyncio.ensure_future(one(call)))
            await asyncio.sleep(0.15)
        for took in await asyncio.gather(*tasks):
            assert 0.35 < took < 15
        assert cache._pending == 0


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_a_probe_that_is_cancelled_leaves_the_server_to_the_next_one(loop):
    """Whoever first tries a server that was dead may be cancelled before anything was sent."""
    with start_memcached() as server:
        cache = mcext.AsyncCache([server.address], dead_retry=0.2)
        for name in ("get", "set", "get_many"):
            assert await cache.set("k", 1)
            server.stop()
            with pytest.raises(mcext.MemcacheError):
                while True:
                    await cache.get("k")
            server.start()
            await asyncio.sleep(0.3)
            task = asyncio.ensure_future(CALLS[name](cache, 1))
            await asyncio.sleep(0)
            task.cancel()
            assert await cancelled(task)
            await asyncio.sleep(0.3)
            assert await cache.get("k", "none") == "none"
        await cache.aclose()
