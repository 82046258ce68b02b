"""get_or_set, update, invalidate and memoize of a cache for asyncio: tasks, cancellation, loops.

What they say to the server is Cache's, and is in tests/cache.
"""

import asyncio
import functools
import gc
import inspect
import subprocess
import sys
import time
import warnings
import weakref

import pytest
from loops import in_a_loop
from scripted_server import ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

# A coroutine that was not awaited, an exception that nobody took. What another test has left open is not told here.
pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def server():
    with start_memcached("-I", "1m") as server:
        yield server


@pytest.fixture
def other(server):
    """A client of another kind."""
    with mcext.Cache([server.address]) as cache:
        cache.flush_all()
        yield cache


@pytest.fixture
def cache(server, other):
    return mcext.AsyncCache([server.address])


def never():
    raise AssertionError("the factory was called")


def fails():
    raise LookupError("no value today")


async def fails_async():
    await asyncio.sleep(0)
    fails()


def fills(cache):
    metrics = cache.metrics()
    return metrics["fills_won"], metrics["fills_lost"], metrics["fills_waited"]


def now_or_never(other, key="k", **options):
    """The value that is served or computed without waiting for anybody."""
    return other.get_or_set(key, lambda: "computed at once", wait=0, fallback="raise", **options)


async def are_waiting(cache, count):
    while cache.metrics()["fills_waited"] < count:
        await asyncio.sleep(0.001)


class Factory:
    """An async factory that goes on when it is told to, and counts its runs."""

    def __init__(self, value="value"):
        self.value = value
        self.runs = 0
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self):
        self.runs += 1
        self.started.set()
        await self.go_on.wait()
        return self.value


# ---- one computation


@pytest.mark.parametrize("is_async", [False, True])
@in_a_loop
async def test_one_of_200_tasks_computes_and_all_have_its_value(cache, other, is_async):
    runs = []

    def compute():
        runs.append(1)
        return {"a": 1}

    async def compute_async():
        await asyncio.sleep(0.05)
        return compute()

    factory = compute_async if is_async else compute
    async with cache:
        got = await asyncio.gather(*[cache.get_or_set("k", factory, 60) for _ in range(200)])
        assert got == [{"a": 1}] * 200
        assert runs == [1]
        assert fills(cache)[:2] == (1, 0)
        assert cache._flights_of_this_loop() == {}
        assert await cache.get_or_set("k", never, 60) == {"a": 1}
    assert other.get("k") == {"a": 1}
    assert 50 <= other.get_item("k").ttl <= 60


@in_a_loop
async def test_a_factory_may_return_anything_that_is_awaitable(cache):
    class Awaitable:
        def __await__(self):
            return asyncio.sleep(0, "of a class").__await__()

    async with cache:
        future = asyncio.get_running_loop().create_future()
        future.set_result("of a future")
        assert await cache.get_or_set("future", lambda: future) == "of a future"
        assert await cache.get_or_set("class", Awaitable) == "of a class"
        task = asyncio.create_task(asyncio.sleep(0, "of a task"))
        assert await cache.get_or_set("task", lambda: task) == "of a task"
        assert await cache.get_or_set("partial", functools.partial(asyncio.sleep, 0, None)) is None
        assert await cache.get_or_set("partial", never) is None


@in_a_loop
async def test_the_others_wait_for_the_leader_of_another_process(cache, other):
    tasks = []

    def compute():
        tasks.extend(asyncio.run_coroutine_threadsafe(follow(), loop) for _ in range(5))
        while cache.metrics()["fills_waited"] < 5:
            time.sleep(0.001)
        return "the leader's"

    async def follow():
        return await cache.get_or_set("k", never)

    loop = asyncio.get_running_loop()
    async with cache:
        assert await asyncio.to_thread(other.get_or_set, "k", compute) == "the leader's"
        assert await asyncio.gather(*map(asyncio.wrap_future, tasks)) == ["the leader's"] * 5


@in_a_loop
async def test_wrong_arguments_are_errors_before_anything_is_sent(cache):
    async with cache:
        for error, call in [
            (TypeError, lambda: cache.get_or_set("k", "no factory")),
            (TypeError, lambda: cache.get_or_set(5, never)),
            (ValueError, lambda: cache.get_or_set("a b", never)),
            (ValueError, lambda: cache.get_or_set("k", never, 0)),
            (ValueError, lambda: cache.get_or_set("k", never, lease=1)),
            (TypeError, lambda: cache.update("k", "no function")),
            (ValueError, lambda: cache.update("k", never, retries=-1)),
            (TypeError, lambda: cache.invalidate("k", stale="long")),
        ]:
            with pytest.raises(error):
                await call()
        assert cache.metrics()["calls"] == {}


# ---- the factory raises


@pytest.mark.parametrize("factory", [fails, fails_async])
@in_a_loop
async def test_what_the_factory_raises_comes_to_its_caller_and_the_lease_is_given_back(cache, other, factory):
    async with cache:
        with pytest.raises(LookupError, match="no value today") as caught:
            await cache.get_or_set("k", factory)
        assert caught.value.__context__ is None
        assert cache._flights_of_this_loop() == {}
    assert other.get("k", "none") == "none"
    assert now_or_never(other) == "computed at once"


@in_a_loop
async def test_where_the_leader_fails_one_of_the_others_takes_over(cache):
    started, go_on = asyncio.Event(), asyncio.Event()
    second = Factory("second")
    second.go_on.set()

    async def fails_late():
        started.set()
        await go_on.wait()
        raise LookupError

    async with cache:
        leader = asyncio.create_task(cache.get_or_set("k", fails_late))
        await started.wait()
        others = [asyncio.create_task(cache.get_or_set("k", second)) for _ in range(20)]
        await are_waiting(cache, 20)
        go_on.set()
        with pytest.raises(LookupError):
            await leader
        assert await asyncio.gather(*others) == ["second"] * 20
        assert second.runs == 1


@in_a_loop
async def test_callers_do_not_wait_for_one_failure_after_the_other(cache):
    """A failing factory of 0.4 s costs 20 callers no more than three of these."""

    async def factory():
        await asyncio.sleep(0.4)
        raise KeyError

    began = time.monotonic()
    got = await asyncio.gather(*(cache.get_or_set("key", factory) for _ in range(20)), return_exceptions=True)
    assert [type(each) for each in got] == [KeyError] * 20
    assert time.monotonic() - began < 0.4 * 20 / 2


@in_a_loop
async def test_a_value_that_cannot_be_pickled_gives_the_lease_back(cache, other):
    async with cache:
        with pytest.raises(Exception, match="pickle|local object"):
            await cache.get_or_set("k", lambda: lambda: 1)
    assert now_or_never(other) == "computed at once"


# ---- cancellation


@in_a_loop
async def test_where_the_leader_is_cancelled_exactly_one_of_the_others_computes(cache, other):
    async with cache:
        first, second = Factory("first"), Factory("second")
        leader = asyncio.create_task(cache.get_or_set("k", first))
        await first.started.wait()
        others = [asyncio.create_task(cache.get_or_set("k", second)) for _ in range(50)]
        await are_waiting(cache, 50)
        began = time.monotonic()
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        await second.started.wait()
        assert time.monotonic() - began < 15  # and not the 30 seconds of the lease
        second.go_on.set()
        assert await asyncio.gather(*others) == ["second"] * 50
        assert (first.runs, second.runs) == (1, 1)
        assert cache._flights_of_this_loop() == {}
    assert other.get("k") == "second"


@pytest.mark.parametrize("has_old", [False, True])
@in_a_loop
async def test_when_a_cancelled_leader_has_ended_its_lease_is_free(cache, other, has_old):
    options = {"ttl": 100, "refresh": 60, "stale": 60} if has_old else {}
    if has_old:
        other.set("k", "old", 50)
    async with cache:
        factory = Factory()
        leader = asyncio.create_task(cache.get_or_set("k", factory, **options))
        await factory.started.wait()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(leader, 0.05)
        assert factory.runs == 1
        assert other.get("k", "none") == ("old" if has_old else "none")
        assert now_or_never(other, **options) == "computed at once"


@in_a_loop
async def test_leaders_that_are_cancelled_one_behind_the_other_harm_nobody(cache, other):
    leaders, go_on = asyncio.Queue(), asyncio.Event()

    async def compute():
        leaders.put_nowait(asyncio.current_task())
        await go_on.wait()
        return "value"

    async with cache:
        tasks = {asyncio.create_task(cache.get_or_set("k", compute)) for _ in range(5)}
        for _ in range(4):
            leader = await asyncio.wait_for(leaders.get(), 15)
            tasks.remove(leader)
            leader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leader
        assert await asyncio.wait_for(leaders.get(), 15) in tasks
        go_on.set()
        assert await asyncio.gather(*tasks) == ["value"]
    assert other.get("k") == "value"


@in_a_loop
async def test_a_cancelled_follower_harms_nobody(cache):
    async with cache:
        factory = Factory()
        leader = asyncio.create_task(cache.get_or_set("k", factory))
        await factory.started.wait()
        others = [asyncio.create_task(cache.get_or_set("k", never)) for _ in range(50)]
        await are_waiting(cache, 50)
        for task in others[::2]:
            task.cancel()
        ended = await asyncio.gather(*others[::2], return_exceptions=True)
        assert {type(each) for each in ended} == {asyncio.CancelledError}
        factory.go_on.set()
        assert await asyncio.gather(leader, *others[1::2]) == ["value"] * 26
        assert factory.runs == 1


@in_a_loop
async def test_where_the_one_that_asks_for_anothers_value_is_cancelled_the_next_asks(cache, other):
    tasks = []

    def compute():
        for number in range(5):
            tasks.append(asyncio.run_coroutine_threadsafe(cache.get_or_set("k", never), loop))
            while cache.metrics()["fills_waited"] <= number:
                time.sleep(0.001)
        tasks[0].cancel()
        return "the leader's"

    loop = asyncio.get_running_loop()
    async with cache:
        assert await asyncio.to_thread(other.get_or_set, "k", compute) == "the leader's"
        rest = asyncio.gather(*map(asyncio.wrap_future, tasks[1:]))
        assert await asyncio.wait_for(rest, 15) == ["the leader's"] * 4


class Cancels:
    """A codec: who stores is cancelled then."""

    def __init__(self):
        self.task = None

    def encode(self, value):
        if self.task is not None:
            self.task.get_loop().call_soon_threadsafe(self.task.cancel)
        return value.encode(), 1

    def decode(self, data, flags):
        return data.decode()


@pytest.mark.parametrize("has_old", [False, True])
@in_a_loop
async def test_a_leader_that_is_cancelled_while_it_stores_keeps_nobody_waiting(server, other, has_old):
    options = {"ttl": 100, "refresh": 60} if has_old else {}
    codec = Cancels()
    async with mcext.AsyncCache([server.address], codec=codec) as cache:
        if has_old:
            await cache.set("k", "old", 50)
        factory = Factory("stored")
        codec.task = asyncio.create_task(cache.get_or_set("k", factory, **options))
        await factory.started.wait()
        followers = [asyncio.create_task(cache.get_or_set("k", lambda: "next", **options)) for _ in range(5)]
        if not has_old:
            await are_waiting(cache, 5)
        factory.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await codec.task
        codec.task = None
        got = await asyncio.wait_for(asyncio.gather(*followers), 15)
        assert set(got) <= {"stored", "next", "old"} and (len(set(got)) == 1 or has_old)
        assert await cache.get_or_set("k", lambda: "next", wait=0, fallback="raise", **options) in ("stored", "next")


@in_a_loop
async def test_a_caller_that_is_cancelled_at_any_time_leaves_no_lease(cache, other):
    """Also where it is while the first look is under way, whose reply brings the lease."""
    async with cache:
        await cache.get("connects")
        for number in range(60):
            task = asyncio.create_task(cache.get_or_set(f"k{number}", lambda: asyncio.sleep(0.001, "computed")))
            await asyncio.sleep(0)
            until = time.perf_counter() + number * 0.00005
            while time.perf_counter() < until:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        began = time.monotonic()
        for number in range(60):
            got = await cache.get_or_set(f"k{number}", lambda: "next", wait=20, fallback="raise")
            assert got in ("computed", "next")
        assert time.monotonic() - began < 15


def test_a_loop_that_is_closed_over_its_callers_is_left_without_a_word(cache):
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it says that a task was destroyed
    left = []

    async def begin():
        factory = Factory()
        for number in range(2):
            task = asyncio.create_task(cache.get_or_set("k", factory, lease=2))
            left.append(weakref.ref(task))
            await (are_waiting(cache, number) if number else factory.started.wait())

    async def go_on():
        async with cache:
            return await cache.get_or_set("k", lambda: "next", lease=2)  # behind the lease of the one that is left

    loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    del loop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio says itself that a connection was left open
        assert asyncio.run(go_on()) == "next"
        gc.collect()
    assert [task() for task in left] == [None, None]


# ---- refresh and stale: "old" is stored with 50 seconds left

REFRESHES = [{"ttl": 100, "refresh": 60}, {"ttl": 30, "stale": 60}, {"ttl": 40, "refresh": 10, "stale": 50}]


@pytest.mark.parametrize("options", REFRESHES)
@in_a_loop
async def test_one_recomputes_and_the_others_are_served_the_old_value(cache, other, options):
    other.set("k", "old", 50)
    async with cache:
        factory = Factory("new")
        leader = asyncio.create_task(cache.get_or_set("k", factory, **options))
        await factory.started.wait()
        got = await asyncio.gather(*[cache.get_or_set("k", never, **options) for _ in range(20)])
        assert got == ["old"] * 20
        assert other.get_or_set("k", never, **options) == "old"
        factory.go_on.set()
        assert await leader == "new"
        assert await cache.get_or_set("k", never, **options) == "new"
        assert fills(cache) == (1, 0, 0)


@pytest.mark.parametrize("factory", [fails, fails_async])
@in_a_loop
async def test_the_old_value_is_served_where_the_factory_raises(cache, other, factory):
    events = []
    cache.on_event = events.append
    other.set("k", "old", 50)
    async with cache:
        assert await cache.get_or_set("k", factory, 10, stale=60) == "old"
    (event,) = [event for event in events if event.kind == "error"]
    assert event.command == "get_or_set" and isinstance(event.error, LookupError)
    assert now_or_never(other, ttl=10, stale=60) == "computed at once"


@in_a_loop
async def test_a_lease_on_an_old_value_whose_leader_died_is_taken_over(cache, other):
    other.set("k", "old", 50)
    assert other._look("k", 30, 60)[:2] == (1, "old")  # and dies
    async with cache:
        options = {"ttl": 100, "refresh": 60, "lease": 2}
        assert await cache.get_or_set("k", never, **options) == "old"
        await asyncio.sleep(2.1)
        assert await cache.get_or_set("k", lambda: "new", **options) == "new"
        assert await cache.get("k") == "new"


@in_a_loop
async def test_invalidate_lets_one_compute_and_serves_the_others_the_old_value(cache, other):
    async with cache:
        assert await cache.invalidate("k") is False
        await cache.set("k", "old", 500)
        assert await cache.invalidate("k", stale=60) is True
        assert 50 <= other.get_item("k").ttl <= 60
        factory = Factory("new")
        leader = asyncio.create_task(cache.get_or_set("k", factory))
        await factory.started.wait()
        assert await cache.get_or_set("k", never) == "old"
        factory.go_on.set()
        assert await leader == "new"
        assert await cache.invalidate("k", stale=0) is True
        assert await cache.get("k") is None


# ---- somebody is faster than the factory


async def written(cache):
    await cache.set("k", "written")


async def deleted(cache):
    await cache.delete("k")


async def invalidated(cache):
    await cache.invalidate("k", stale=60)


@pytest.mark.parametrize("change", [written, deleted, invalidated])
@pytest.mark.parametrize("options", [{}, *REFRESHES])
@in_a_loop
async def test_who_changes_the_key_while_the_factory_runs_wins(cache, other, change, options):
    if options:
        other.set("k", "old", 50)

    async def compute():
        await change(cache)
        return "outdated"

    async with cache:
        assert await cache.get_or_set("k", compute, **options) == "outdated"
        assert fills(cache) == (0, 1, 0)
        assert await cache.get("k") != "outdated"
    if change is written:
        assert other.get_or_set("k", never) == "written"
    else:
        assert now_or_never(other, **options) == "computed at once"


# ---- a factory that uses the cache


@in_a_loop
async def test_the_factory_may_use_the_cache(cache):
    async def outer():
        await cache.set("a", 1)
        return await cache.get_or_set("inner", inner) + 1

    async def inner():
        first, second = await asyncio.gather(cache.get("a"), cache.get_or_set("innermost", lambda: 1))
        return first + second

    async with cache:
        assert await cache.get_or_set("k", outer) == 3
        assert await cache.get_or_set("inner", never) == 2


@pytest.mark.parametrize("options", [{}, {"wait": 0}, {"wait": 0, "fallback": "raise"}])
@in_a_loop
async def test_a_factory_that_asks_for_its_own_key_is_told(cache, other, options):
    async with cache:
        with pytest.raises(RuntimeError, match="get_or_set of 'k' is called by its own factory"):
            await cache.get_or_set("k", lambda: cache.get_or_set("k", never, **options), **options)
    assert now_or_never(other) == "computed at once"


@in_a_loop
async def test_a_task_that_the_factory_only_starts_waits_as_others_do(cache):
    started = []

    async def compute():
        started.append(asyncio.create_task(cache.get_or_set("k", never)))
        await are_waiting(cache, 1)
        return "value"

    async with cache:
        assert await cache.get_or_set("k", compute) == "value"
        assert await started[0] == "value"


@in_a_loop
async def test_a_factory_that_waits_for_such_a_task_has_no_value_within_wait(cache, other):
    async def compute():
        return await asyncio.create_task(cache.get_or_set("k", never, wait=0.1, fallback="raise"))

    async with cache:
        with pytest.raises(mcext.LeaseTimeout) as caught:
            await cache.get_or_set("k", compute)
    assert caught.value.command == "get_or_set"
    assert now_or_never(other) == "computed at once"


@in_a_loop
async def test_when_the_wait_is_over_it_is_computed_and_not_stored(cache, other):
    async with cache:
        factory = Factory()
        leader = asyncio.create_task(cache.get_or_set("k", factory))
        await factory.started.wait()
        assert await cache.get_or_set("k", lambda: asyncio.sleep(0, "own"), wait=0.1) == "own"
        assert other.get("k", "none") == "none"
        factory.go_on.set()
        assert await leader == "value"


# ---- a server without the meta protocol, or without any protocol


class Memory:
    """A memcached 1.4."""

    def __init__(self):
        self.items = {}
        self.token = 0

    def __call__(self, command, number):
        head, _, rest = command.partition(b"\r\n")
        name, *arguments = head.split()
        key = arguments[0] if arguments else b""
        if name in (b"get", b"gets"):
            if key not in self.items:
                return b"END\r\n"
            flags, data, token = self.items[key]
            size = b"%d %d" % (len(data), token) if name == b"gets" else b"%d" % len(data)
            return b"VALUE %s %s %s\r\n%s\r\nEND\r\n" % (key, flags, size, data)
        if name == b"add":
            if key in self.items:
                return b"NOT_STORED\r\n"
            self.token += 1
            self.items[key] = arguments[1], rest[:-2], self.token
            return b"STORED\r\n"
        if name == b"delete":
            return b"DELETED\r\n" if self.items.pop(key, None) else b"NOT_FOUND\r\n"
        return b"ERROR\r\n"


@pytest.fixture
def plain():
    memory = Memory()
    with ScriptedServer(memory) as server:
        yield mcext.AsyncCache([server.address]), memory


@in_a_loop
async def test_without_meta_one_computes_with_a_lease_beside_the_key(plain):
    cache, memory = plain
    async with cache:
        factory = Factory()
        leader = asyncio.create_task(cache.get_or_set("k", factory, 60))
        await factory.started.wait()
        assert set(memory.items) == {b"k.lease"}
        others = [asyncio.create_task(cache.get_or_set("k", never, 60)) for _ in range(10)]
        await are_waiting(cache, 10)
        factory.go_on.set()
        assert await asyncio.gather(leader, *others) == ["value"] * 11
        assert set(memory.items) == {b"k"}
        assert await cache.invalidate("k", stale=60) is True
        assert memory.items == {}


@in_a_loop
async def test_without_meta_a_cancelled_leader_gives_the_lease_back(plain):
    cache, memory = plain
    async with cache:
        factory = Factory()
        leader = asyncio.create_task(cache.get_or_set("k", factory, 60))
        await factory.started.wait()
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        assert memory.items == {}
        with pytest.raises(RuntimeError, match="its own factory"):
            await cache.get_or_set("k", lambda: cache.get_or_set("k", never))
        assert memory.items == {}


@pytest.mark.parametrize("errors", ["raise", "miss"])
@in_a_loop
async def test_where_the_server_fails_it_is_computed_or_an_error_by_fallback(errors):
    with ScriptedServer() as server:
        address = server.address
    async with mcext.AsyncCache([address], errors=errors) as cache:
        assert await cache.get_or_set("k", lambda: "plain") == "plain"
        assert await cache.get_or_set("k", lambda: asyncio.sleep(0, "async")) == "async"
        with pytest.raises(LookupError):
            await cache.get_or_set("k", fails_async)
        with pytest.raises(mcext.ServerUnavailable):
            await cache.get_or_set("k", never, fallback="raise")
        if errors == "raise":
            with pytest.raises(mcext.ServerUnavailable):
                await cache.update("k", never)
            with pytest.raises(mcext.ServerUnavailable):
                await cache.invalidate("k")
        else:
            assert await cache.update("k", never) is None
            assert await cache.invalidate("k") is False


@in_a_loop
async def test_a_value_that_cannot_be_decoded_is_computed_where_failures_are_misses(server, other):
    class Refuses:
        def encode(self, value):
            return value.encode(), 2

        def decode(self, data, flags):
            if flags != 2:
                raise ValueError("not mine")
            return data.decode()

    other.set("k", [1])
    async with mcext.AsyncCache([server.address], codec=Refuses(), errors="miss") as cache:
        assert await cache.get_or_set("k", lambda: asyncio.sleep(0, "computed")) == "computed"
        assert await cache.get_or_set("k", never) == "computed"
    other.set("k", [1])
    async with mcext.AsyncCache([server.address], codec=Refuses()) as cache:
        with pytest.raises(mcext.DecodeError):
            await cache.get_or_set("k", never)


# ---- update


@pytest.mark.parametrize("is_async", [False, True])
@in_a_loop
async def test_update_by_50_tasks_loses_none(cache, other, is_async):
    def add_one(old):
        return (old or 0) + 1

    async def add_one_async(old):
        await asyncio.sleep(0)
        return add_one(old)

    async with cache:
        function = add_one_async if is_async else add_one
        got = await asyncio.gather(*[cache.update("n", function, 60, retries=10_000) for _ in range(50)])
        assert sorted(got) == list(range(1, 51))
    assert other.get("n") == 50
    assert 40 <= other.get_item("n").ttl <= 60


@in_a_loop
async def test_update_gives_the_function_the_value_or_absent(cache):
    seen = []

    async def function(old):
        seen.append(old)
        return "second" if old else "first"

    async with cache:
        assert await cache.update("k", function) == "first"
        assert await cache.update("k", function) == "second"
        assert seen == [mcext.ABSENT, "first"]


@in_a_loop
async def test_update_gives_up_where_others_are_faster_each_time(cache, server):
    seen = []

    async def beaten(old):
        seen.append(old)
        await cache.set("k", len(seen))
        return "never stored"

    async with cache:
        with pytest.raises(mcext.ConflictError) as caught:
            await cache.update("k", beaten, retries=3)
        assert caught.value.server == server.address
        assert await cache.get("k") == 4 and seen == [mcext.ABSENT, 1, 2, 3]


@pytest.mark.parametrize("error", [LookupError, mcext.ServerTimeout])
@in_a_loop
async def test_what_the_function_of_update_raises_comes_and_nothing_is_stored(cache, other, error):
    async def raises(old):
        raise error("boom")

    async with cache:
        with pytest.raises(error, match="boom"):
            await cache.update("k", raises)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(cache.update("k", lambda old: asyncio.sleep(60)), 0.05)
    assert other.get("k") is None


# ---- memoize


@in_a_loop
async def test_memoize_takes_plain_and_coroutine_functions_and_makes_coroutine_functions(cache, other):
    runs = []

    @cache.memoize(60)
    def double(x):
        """Twice x."""
        runs.append(x)
        return 2 * x

    @cache.memoize(60)
    async def triple(x, *, y=0):
        await asyncio.sleep(0)
        runs.append(x)
        return 3 * x + y

    async with cache:
        for function in (double, triple):
            assert inspect.iscoroutinefunction(function)
        assert (double.__name__, double.__doc__, double.__module__) == ("double", "Twice x.", __name__)
        assert await asyncio.gather(double(1), double(1), double(x=1)) == [2, 2, 2]
        assert await asyncio.gather(*[triple(2) for _ in range(20)]) == [6] * 20
        assert await triple(2, y=0) == 6 and await triple(2, y=1) == 7
        assert runs == [1, 2, 2]
        assert other.get(double.key(1)) == 2 and other.get(triple.key(2)) == 6
        assert await triple.forget(2) is True
        assert await triple.forget(2) is False
        assert await triple(2) == 6
        assert runs == [1, 2, 2, 2]


def test_a_key_of_memoize_is_the_same_for_caches_of_both_kinds(cache, other):
    def function(x):
        return x

    assert cache.memoize(60)(function).key(7) == other.memoize(60)(function).key(7)
    assert cache.memoize(60, key=lambda x: f"x:{x}")(function).key(7) == "x:7"


@in_a_loop
async def test_the_options_of_memoize_are_those_of_get_or_set(cache, other):
    @cache.memoize(10, stale=60)
    async def load():
        if other.get("fails"):
            raise LookupError
        return "old"

    async with cache:
        assert await load() == "old"
        other.touch(load.key(), 30)  # its own time is over
        other.set("fails", True)
        assert await load() == "old"


@in_a_loop
async def test_a_memoized_method_is_a_method(cache):
    class Page:
        number = 7

        @cache.memoize(60, key=lambda self, part: f"page:{self.number}:{part}")
        async def body(self, part):
            return self.number, part

    async with cache:
        assert await Page().body("head") == (7, "head")
        assert await cache.get("page:7:head") == (7, "head")


def test_what_memoize_cannot_decorate_is_refused(cache):
    async def generate():
        yield 1

    def generator():
        yield 1

    for function in (generate, generator):
        with pytest.raises(TypeError, match="generator"):
            cache.memoize(60)(function)
    with pytest.raises(TypeError, match="function"):
        cache.memoize(60)(5)
    with pytest.raises(TypeError, match="lock"):
        cache.memoize(60, lock=1)
    with pytest.raises(ValueError):
        cache.memoize(0)


# ---- loops


def test_two_loops_one_behind_the_other(cache):
    async def use(key):
        runs = []

        async def compute():
            runs.append(1)
            await asyncio.sleep(0.02)
            return key

        async with cache:
            assert await asyncio.gather(*[cache.get_or_set(key, compute) for _ in range(20)]) == [key] * 20
            assert runs == [1]
            assert await cache.update(key, lambda old: old + "!") == key + "!"

    asyncio.run(use("first"))
    asyncio.run(use("second"))


def test_where_no_cache_for_asyncio_is_used_asyncio_is_not_imported(server):
    program = f"""
import sys, mcext
with mcext.Cache([{server.address!r}], timeout=20) as cache:
    assert cache.get_or_set("imports", lambda: 1, wait=5) == 1
    assert cache.update("imports", lambda old: old + 1) == 2
    assert cache.invalidate("imports") is True
    assert cache.memoize(60)(lambda x: x)(5) == 5
print({{"asyncio", "mcext.async_fill"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")
