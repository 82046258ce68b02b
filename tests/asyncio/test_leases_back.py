"""A lease that came to a caller who is cancelled, or who has no use for it, goes back, at whatever point he is.

Calls are driven by hand here: each step is taken, or is not, where the test says so.
"""

import asyncio
import contextlib
import socket
import threading

import pytest
from holding_proxy import HoldingProxy
from loops import LOOPS, in_a_loop, turns
from scripted_server import PATIENCE, STALL, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")

loops = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="module")
def server():
    with start_memcached() as server:
        yield server


@pytest.fixture
def other(server):
    """A client of another kind."""
    with mcext.Cache([server.address], timeout=30) as cache:
        cache.flush_all()
        yield cache


def make_stale(other, *keys):
    for key in keys:
        other.set(key, "old")
        other.invalidate(key, stale=60)


def is_free(server, key):
    """Whether whoever looks next is given the lease; this takes it."""
    with socket.create_connection((server.host, server.port), 30) as sock:
        sock.sendall(b"mg %b f\r\n" % key.encode())
        line = sock.recv(1000)
        assert line.startswith(b"HD ") and line.endswith(b"\r\n")
        return b" W" in line


@contextlib.asynccontextmanager
async def through_proxy(server):
    async with HoldingProxy(server) as proxy:
        cache = mcext.AsyncCache([proxy.address], timeout=30, connections=1)
        try:
            await cache.get_item("none")  # what the server has is known
            yield cache, proxy
        finally:
            proxy.release()
            await cache.aclose()


async def step(call, future=None):
    """The next thing that the call waits for, when the last one has come."""
    if future is not None:
        await asyncio.wait([future], timeout=30)
    return call.send(None)


async def lose_stream(cache, proxy):
    """The next one is not opened yet when this returns."""
    proxy.may_connect.clear()
    proxy.connections[-1].transport.abort()
    while cache.servers[0].connections:
        await asyncio.sleep(0)


async def everything_is_out(cache, proxy):
    proxy.may_connect.set()
    await turns()
    await cache.get("behind")


ENDS = {
    "cancelled": lambda call: call.throw(asyncio.CancelledError()),
    "closed": lambda call: call.close(),
}


def ended(call, end):
    with contextlib.suppress(asyncio.CancelledError):
        ENDS[end](call)


LOOKS = {
    "get_item": lambda cache: cache.get_item("stale"),
    "get_items": lambda cache: cache.get_items(["stale"]),
    "get_and_touch": lambda cache: cache.get_and_touch("stale", 1000),
}


@loops
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", LOOKS)
@in_a_loop
async def test_what_gives_it_back_goes_out_though_nobody_waits(server, other, loop, name, end):
    """It waits for a stream when its caller ends."""
    async with through_proxy(server) as (cache, proxy):
        make_stale(other, "stale")
        call = LOOKS[name](cache)
        looked = await step(call)
        await asyncio.wait([looked])
        await lose_stream(cache, proxy)
        await step(call)
        ended(call, end)
        await everything_is_out(cache, proxy)
        assert cache._pending == 0
        assert is_free(server, "stale")


@loops
@pytest.mark.parametrize("old", [False, True])
@in_a_loop
async def test_a_leader_who_is_cancelled_twice(server, other, loop, old):
    async with through_proxy(server) as (cache, proxy):
        if old:
            make_stale(other, "k")
        call = cache.get_or_set("k", asyncio.get_running_loop().create_future, 60, stale=60)
        looked = await step(call)
        await step(call, looked)  # it computes
        await lose_stream(cache, proxy)
        call.throw(asyncio.CancelledError())  # it waits for the lease to be gone
        with pytest.raises(asyncio.CancelledError):
            call.throw(asyncio.CancelledError())
        await everything_is_out(cache, proxy)
        assert cache._pending == 0
        assert other.get_or_set("k", lambda: "computed", 60, stale=60, wait=0, fallback="raise") == "computed"


@loops
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@in_a_loop
async def test_of_several_that_came_at_once_all_go_back(server, other, loop, steps, end):
    """Wherever among them their caller ends."""
    async with through_proxy(server) as (cache, proxy):
        keys = ["stale-1", "stale-2", "stale-3"]
        make_stale(other, *keys)
        call = cache.get_items([*keys, "none"])
        future = await step(call)
        for _ in range(steps):
            future = await step(call, future)
        ended(call, end)
        await everything_is_out(cache, proxy)
        assert [is_free(server, key) for key in keys] == [True] * 3


@loops
@pytest.mark.parametrize("end", ENDS)
@in_a_loop
async def test_those_of_one_server_where_another_one_is_waited_for(server, other, loop, end):
    """It has no meta protocol, and is asked behind the first."""

    def script(command, number):
        return STALL if command.startswith(b"gets") else None

    with ScriptedServer(script) as plain:
        cache = mcext.AsyncCache([server.address, plain.address], timeout=30, connections=1)
        keys = {}
        for number in range(100):
            keys.setdefault(cache.server_for(f"k{number}"), f"k{number}")
        key = keys[server.address]
        make_stale(other, key)
        task = asyncio.ensure_future(cache.get_items(["none", *keys.values()]))
        asked = asyncio.get_running_loop().run_in_executor(
            None, plain.wait_for, lambda plain: any(each.startswith(b"gets") for each in plain.commands)
        )
        await asked
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await cache.get(key)
        assert is_free(server, key)
        plain.close_connection()  # aclose would wait for its answer
        await cache.aclose()


class Refuses:
    def encode(self, value):
        return b"not what it was", 0

    def decode(self, data, flags):
        raise ValueError("it cannot be decoded")


@loops
@pytest.mark.parametrize("errors", ["raise", "miss"])
@pytest.mark.parametrize("name", LOOKS)
@in_a_loop
async def test_where_the_old_value_cannot_be_decoded(server, other, loop, name, errors):
    make_stale(other, "stale")
    async with mcext.AsyncCache([server.address], timeout=30, codec=Refuses(), errors=errors) as cache:
        try:
            assert not await LOOKS[name](cache) and errors == "miss"
        except mcext.DecodeError:
            assert errors == "raise"
        except mcext.PartialFailure as failure:
            assert errors == "raise" and failure.keys == ["stale"]
        await cache.delete("behind")
        assert is_free(server, "stale")


# ---- max_pending calls are under way


@loops
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("end", ["cancelled", "computed"])
@in_a_loop
async def test_where_no_more_calls_may_be_made(server, other, loop, end, old):
    """Neither he who gives up nor he whose value is not stored keeps the lease."""
    if old:
        make_stale(other, "k")
    async with HoldingProxy(server) as proxy:
        cache = mcext.AsyncCache([proxy.address], timeout=30, connections=1, max_pending=2)
        await cache.get_item("none")
        result = asyncio.get_running_loop().create_future()
        leader = asyncio.ensure_future(cache.get_or_set("k", lambda: result, 60, stale=60))
        while not cache._flights:
            await asyncio.sleep(0)
        proxy.hold(0)
        waiting = [asyncio.ensure_future(cache.get(key)) for key in ("a", "b")]
        await proxy.held.wait()
        if end == "cancelled":
            leader.cancel()
        else:
            result.set_result("computed")
        await turns()
        with pytest.raises(mcext.Overloaded):
            await cache.get("c")
        proxy.release()
        await asyncio.wait([leader, *waiting])
        assert leader.cancelled() or leader.result() == "computed"
        await cache.get("behind")
        assert other.get_or_set("k", lambda: "next", 60, stale=60, wait=0, fallback="raise") == "next"
        await cache.aclose()
        assert cache._pending == 0


# ---- without the meta protocol: an item beside the key's


class Plain:
    """The script of a server without it; an add is answered when the gate is open."""

    def __init__(self):
        self.items = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, command, number):
        name, *rest = command.split()
        if name == b"add":
            self.gate.wait(30)
            is_new = rest[0] not in self.items
            self.items.add(rest[0])
            return b"STORED\r\n" if is_new else b"NOT_STORED\r\n"
        if name == b"delete":
            is_there = rest[0] in self.items
            self.items.discard(rest[0])
            return b"DELETED\r\n" if is_there else b"NOT_FOUND\r\n"
        return None


@loops
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("at", ["not answered", "not taken", "given back"])
@pytest.mark.parametrize("is_won", [True, False])
@in_a_loop
async def test_the_item_beside_a_key(loop, at, end, is_won):
    plain = Plain()
    with ScriptedServer(plain) as server:
        cache = mcext.AsyncCache([server.address], timeout=30, connections=1)
        await cache.get_item("none")  # what the server has is known
        if not is_won:
            plain.items.add(b"k.lease")
        call = cache.get_or_set("k", asyncio.get_running_loop().create_future, 60)
        future = await step(call)
        if at == "not answered":
            plain.gate.clear()
        future = await step(call, future)  # the add
        if at == "not answered":
            asked = server.wait_for, lambda server: any(each.startswith(b"add") for each in server.commands)
            await asyncio.get_running_loop().run_in_executor(None, *asked)
        else:
            await asyncio.wait([future])
        if at == "given back" and is_won:
            future = await step(call, await step(call))  # it computes
            server.close_connection()
            while cache.servers[0].connections:
                await asyncio.sleep(0)
            call.throw(asyncio.CancelledError())
        ended(call, end)
        plain.gate.set()
        await cache.get("behind")
        await cache.get("behind")
        assert plain.items == (set() if is_won else {b"k.lease"})
        await cache.aclose()
        assert cache._pending == 0


# ---- its caller has no time left


async def comes_behind_what_has_more_time(name):
    probe, slow = threading.Event(), threading.Event()

    def script(command, number):
        words = command.split()
        if words[0] == b"mn":
            probe.wait(30)
            return b"MN\r\n"
        if words[:2] == [b"get", b"slow"]:
            slow.wait(30)
        if words[:2] == [b"mg", b"stale"]:
            return b"VA 3 f0 c7 t10 W kstale\r\nold\r\n"
        return b"HD\r\n" if words[0] == b"md" else b"EN\r\n" if words[0] == b"mg" else None

    def is_back(server):
        return [command for command in server.commands if command.startswith(b"md")] == [b"md stale I C7\r\n"]

    with ScriptedServer(script) as server:
        cache = mcext.AsyncCache([server.address], timeout=2 * PATIENCE, connections=1)
        late = asyncio.ensure_future(LOOKS[name](cache))
        await asyncio.sleep(1 * PATIENCE)
        before = asyncio.ensure_future(cache.get("slow"))
        await asyncio.sleep(0)
        probe.set()
        with pytest.raises(mcext.MemcacheError):
            await late
        assert not before.done(), name
        slow.set()
        assert await before is None
        await asyncio.get_running_loop().run_in_executor(None, server.wait_for, is_back)
        await cache.aclose()
        assert cache._pending == 0


@loops
@in_a_loop
async def test_one_that_comes_behind_what_has_more_time(loop):
    """Its caller has waited for what the server has, and asks then, behind a call that began later."""
    await asyncio.gather(*map(comes_behind_what_has_more_time, LOOKS))
