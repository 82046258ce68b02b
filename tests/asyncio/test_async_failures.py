"""What a failure does to the calls that share a stream with it, and what it does not; time; servers that are down.

What fails in one call alone is in tests/cache/test_failures.py, for Cache and AsyncCache.
"""

import asyncio
import os
import signal
import socket
import time

import pytest
from holding_proxy import HoldingProxy
from scripted_server import CLOSE, PATIENCE, RESET, STALL, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

AT_ONCE = 20 * PATIENCE
SOON = 2 * PATIENCE  # long enough for a server that answers, also where the machine is busy


def cache_of(*servers, **options):
    options = {"timeout": AT_ONCE, **options}
    return mcext.AsyncCache([each if isinstance(each, str) else each.address for each in servers], **options)


async def ends(*calls):
    return await asyncio.gather(*calls, return_exceptions=True)


def key_of(cache, server, prefix="k"):
    """A key of that server."""
    number = 0
    while cache.server_for(f"{prefix}{number}") != server.address:
        number += 1
    return f"{prefix}{number}"


# ---- a stream that breaks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rubbish", [b"garbage\r\n", b"VALUE other 0 1\r\nx\r\nEND\r\n", b"\x00\xff\r\n"])
def test_rubbish_harms_the_call_it_belongs_to_and_no_other_gets_its_value(rubbish):
    ran = []

    def script(command, number):
        ran.append(command.split(b"\r\n")[0])
        if command.startswith(b"incr bad"):
            return rubbish
        if command.startswith(b"incr"):
            return command.split()[1][1:] + b"\r\n"
        if command.startswith(b"get"):
            keys = command.split()[1:]
            return b"".join(b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(key), key) for key in keys) + b"END\r\n"
        return None

    async def main(server):
        async with cache_of(server) as cache:
            await ends(cache.get("a"), cache.get("b"))
            ran.clear()
            numbers = list(range(100, 150))
            got = await ends(
                *(cache.incr(f"n{number}") for number in numbers[:25]),
                cache.incr("bad"),
                *(cache.incr(f"n{number}") for number in numbers[25:]),
                *(cache.get(f"g{number}") for number in range(20)),
                *(cache.set(f"s{number}", number) for number in range(20)),
            )
            assert got[:25] == numbers[:25]
            bad = got[25]
            assert isinstance(bad, mcext.MemcacheError), bad
            assert bad.may_have_run is True
            for number, each in zip(numbers[25:], got[26:51], strict=True):
                assert each == number or type(each) is mcext.ConnectionLost
                command = b"incr n%d 1" % number
                assert ran.count(command) <= 1, "it may have run: it is not asked again"
                if command in ran and each != number:
                    assert each.may_have_run is True
            assert got[51:71] == [b"g%d" % number for number in range(20)], "what only reads is asked again"
            assert got[71:] == [True] * 20
            assert await cache.incr("n7") == 7

    with ScriptedServer(script) as server:
        asyncio.run(main(server))


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_stream_that_ends_repeats_nothing_that_changes_what_is_there(end):
    def script(command, number):
        if number == 0 and command.startswith(b"get last"):
            return end
        return (
            b"5\r\n"
            if command.startswith(b"incr")
            else STALL
            if number == 0 and not command.startswith(b"version")
            else None
        )

    async def main(server):
        async with cache_of(server) as cache:
            await cache.version()
            got = await ends(
                cache.get("last"), cache.incr("n"), cache.add("a", 1), cache.append("b", "x"), cache.delete("d"),
                cache.touch("t", 5), cache.set("s", 1), cache.get("g"), cache.set("c", 1, cas=7),
            )  # fmt: skip
            missed, incr, add, append, delete, touch, stored, read, swapped = got
            assert missed is None and read is None and stored is True
            for each in (incr, add, append, swapped):
                assert type(each) is mcext.ConnectionLost and each.may_have_run is True, each
            for each in (delete, touch):
                assert each is False or type(each) is mcext.ConnectionLost

    with ScriptedServer(script) as server:
        asyncio.run(main(server))
        words = [command.split()[0] for command in server.connections[1].commands]
        assert not {b"incr", b"add", b"append", b"cas"} & set(words), words


@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("name", ["get", "_gets"])
def test_each_get_is_sent_once_more_for_itself(end, name):
    """Those that come while another one goes out again have been sent by nobody yet."""

    def script(command, number):
        if number < 2 and command.startswith(b"get"):
            return end
        words = command.split()
        if not words[0].startswith(b"get"):
            return None
        token = b" 7" if words[0] == b"gets" else b""
        values = [b"VALUE %b 0 %d%b\r\n%b\r\n" % (key, len(key), token, key) for key in words[1:]]
        return b"".join(values) + b"END\r\n"

    async def main(server):
        async with cache_of(server, connections=1) as cache:
            await cache.version()
            first = asyncio.ensure_future(ends(getattr(cache, name)("first")))
            while cache.servers[0].connections:
                await asyncio.sleep(0)
            others = []
            for number in range(12):  # turns of the loop, in which it opens the second stream
                others.append(asyncio.ensure_future(getattr(cache, name)(f"k{number}")))
                await asyncio.sleep(0)
            got = await ends(*others)
            values = [each if name == "get" else each[0] for each in got if not isinstance(each, Exception)]
            assert values == [b"k%d" % number for number in range(12)], got
            (error,) = await first
            assert type(error) is mcext.ConnectionLost and error.may_have_run is True

    with ScriptedServer(script) as server:
        asyncio.run(main(server))
        asked = [key for one in server.connections[:2] for command in one.commands for key in command.split()[1:]]
        assert asked.count(b"first") == 2


def test_a_get_moves_on_for_itself_where_another_one_may_have_run():
    """One was sent to a server that closed, and it cannot be reached any more; the others go to the next one."""

    async def main(live):
        async with HoldingProxy(live) as proxy, cache_of(proxy, live, connections=1, on_dead="walk") as cache:
            keys = [key_of(cache, proxy, f"k{number}-") for number in range(12)]
            await cache.get(keys[0])
            proxy.hold()
            first = asyncio.ensure_future(ends(cache.get(keys[0])))
            await proxy.held.wait()
            proxy.listener.close()
            proxy.connections[0].transport.abort()
            while cache.servers[0].connections:
                await asyncio.sleep(0)
            others = []
            for key in keys:
                others.append(asyncio.ensure_future(cache.get(key, "none")))
                await asyncio.sleep(0)
            assert await ends(*others) == ["none"] * 12
            (error,) = await first
            assert type(error) is mcext.ServerUnavailable and error.may_have_run is True

    with start_memcached() as live:
        asyncio.run(main(live))


@pytest.mark.parametrize("end", ["restart", "close"])
def test_a_stream_that_ended_while_it_was_idle_costs_no_call(end):
    async def main(server):
        async with cache_of(server, dead_retry=1000) as cache:
            for round in range(3):
                await cache.set("n", 1)
                server.restart()
                if round:
                    await asyncio.sleep(0.05)
                assert await cache.get("n") is None
                server.restart()
                await asyncio.sleep(0)
                assert await cache.set("n", 5) is True
                server.restart()
                await asyncio.sleep(0.05)
                assert await cache.incr("n") is None, "the loop has seen it"
                await cache.set("n", 5)
                server.restart()
                time.sleep(1.1)  # the loop has not seen it
                assert await cache.incr("n") is None
            assert cache.metrics()["dead_marks"] == 0

    async def closed(server):
        async with cache_of(server, dead_retry=1000) as cache:
            assert await cache.incr("n") is None
            server.close_connection()
            time.sleep(1.1)
            assert await cache.incr("n") is None
            server.close_connection()
            await asyncio.sleep(0.05)
            assert await cache.incr("n") is None
            server.close_connection()
            assert await cache.get("n") is None
            server.close_connection()
            assert await cache.set("n", 1) is True

    if end == "close":
        with ScriptedServer() as server:
            asyncio.run(closed(server))
    else:
        with start_memcached() as server:
            asyncio.run(main(server))


def test_an_error_line_to_gets_of_one_turn_is_each_ones_own():
    """Behind a proxy it is about one key: the others are asked once more, alone."""

    def script(command, number):
        if b"bad" in command:
            return b"SERVER_ERROR oops\r\n"
        keys = command.split()[1:]
        return b"".join(b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(key), key) for key in keys) + b"END\r\n"

    async def main(server):
        async with cache_of(server) as cache:
            await ends(cache.get("a"), cache.get("b"))
            good, bad, other = await ends(cache.get("good"), cache.get("bad"), cache.get("other"))
            assert (good, other) == (b"good", b"other")
            assert type(bad) is mcext.ServerError

    with ScriptedServer(script) as server:
        asyncio.run(main(server))


# ---- time ----------------------------------------------------------------------------------------------------------


def test_a_silent_server_ends_all_its_calls_in_time_and_is_left_alone():
    async def main(silent, live):
        options = {"timeout": SOON, "on_dead": "miss"}
        async with cache_of(silent, live, dead_retry=1000, **options) as cache:
            mine = [f"k{number}" for number in range(200) if cache.server_for(f"k{number}") == silent.address]
            others = [f"k{number}" for number in range(200) if cache.server_for(f"k{number}") == live.address]
            for key in others:
                await cache.set(key, key)
            begun = time.monotonic()
            got = await ends(*map(cache.get, mine), *(cache.incr(key) for key in mine), *map(cache.get, others))
            took = time.monotonic() - begun
            assert SOON * 0.9 <= took < 2 * SOON
            assert got[len(mine) * 2 :] == others
            assert type(got[0]) is mcext.ServerTimeout
            for each in got[: len(mine) * 2]:  # who began later has time left when the stream is given up
                assert type(each) in (mcext.ServerTimeout, mcext.ConnectionLost)
                assert (each.server, each.may_have_run) == (silent.address, True)
            assert {each.address: each.alive for each in cache.servers} == {silent.address: False, live.address: True}
            assert cache.metrics()["dead_marks"] == 1
            connections = len(silent.connections)
            silent.wait_for(lambda server: all(each.closed.is_set() for each in server.connections))
            begun = time.monotonic()
            with pytest.raises(mcext.ServerUnavailable) as raised:
                await cache.get(mine[0])
            assert raised.value.may_have_run is False and "dead" in str(raised.value)
            assert time.monotonic() - begun < SOON
            assert len(silent.connections) == connections
        async with cache_of(silent, live, dead_retry=0.1, **options) as cache:
            assert [type(each) for each in await ends(cache.get(mine[0]))] == [mcext.ServerTimeout]
            await asyncio.sleep(0.2)
            # The mark has run out: one call tries, and the others do not wait for it.
            connections = len(silent.connections)
            got = await ends(*map(cache.get, mine))
            kinds = [type(each) for each in got]
            assert kinds.count(mcext.ServerTimeout) >= 1
            assert set(kinds) <= {mcext.ServerTimeout, mcext.ConnectionLost, mcext.ServerUnavailable}
            assert len(silent.connections) == connections + 1
            assert cache.metrics()["dead_marks"] == 2

    with ScriptedServer(lambda command, number: STALL) as silent, start_memcached() as live:
        asyncio.run(main(silent, live))


def test_a_server_that_is_stopped_does_not_slow_the_nine_others():
    async def main(servers):
        async with cache_of(*servers, timeout=2 * SOON, on_dead="miss") as cache:
            stopped = servers[0]
            keys = {server.address: [] for server in servers}
            for number in range(1000):
                keys[cache.server_for(f"k{number}")].append(f"k{number}")
            await ends(*(cache.set(f"k{number}", 1) for number in range(1000)))
            os.kill(stopped.pid, signal.SIGSTOP)
            try:
                hanging = [asyncio.ensure_future(cache.get(key)) for key in keys[stopped.address]]
                for _ in range(20):
                    some = [key for server in servers[1:] for key in keys[server.address][:5]]
                    assert await asyncio.gather(*map(cache.get, some)) == [1] * len(some)
                assert not any(each.done() for each in hanging), "the others' answers come before these calls are late"
                for each in await ends(*hanging):
                    assert type(each) is mcext.ServerTimeout
            finally:
                os.kill(stopped.pid, signal.SIGCONT)

    servers = [start_memcached() for _ in range(10)]
    try:
        for server in servers:
            server.__enter__()
        asyncio.run(main(servers))
    finally:
        for server in servers:
            server.__exit__(None, None, None)


@pytest.mark.parametrize("what", ["get", "set", "many", "large"])
def test_a_loop_that_was_busy_longer_than_the_timeout_finds_its_answers(what):
    timeout = 3 * PATIENCE
    calls, commands = {
        "get": (lambda cache: [cache.get("k")], 1),
        "set": (lambda cache: [cache.set("k", b"v")], 1),
        "many": (lambda cache: [cache.get("k") for _ in range(500)] + [cache.incr("none") for _ in range(500)], 501),
        "large": (lambda cache: [cache.get("large")], 1),
    }[what]

    def answered(other):
        """How many commands the server has answered. It has one thread: what it has counted it has sent."""
        (counted,) = other.stats().values()
        return sum(int(counted[name]) for name in ("cmd_get", "cmd_set", "incr_misses"))

    async def main(server, other):
        other.set_many({"k": b"v", "large": b"v" * 900_000})
        async with cache_of(server, timeout=timeout) as cache:
            assert await cache.get("k") == b"v"
            for _ in range(2):
                before = answered(other)
                tasks = [asyncio.ensure_future(each) for each in calls(cache)]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                time.sleep(1.1 * timeout)
                while answered(other) < before + commands:
                    time.sleep(0.01)
                got = await ends(*tasks)
                assert not [each for each in got if isinstance(each, Exception)], got[:3]
            assert cache.metrics()["dead_marks"] == 0

    with start_memcached("-t", "1") as server, mcext.Cache([server.address], timeout=AT_ONCE) as other:
        asyncio.run(main(server, other))


@pytest.mark.parametrize("dead_retry", [0, 1000])
def test_the_timeout_is_for_the_whole_call(dead_retry):
    """Also where several commands are one call, and where the first of them takes most of the time."""
    calls = {
        "get": lambda cache: cache.get("k"),
        "set": lambda cache: cache.set("k", 1),
        "incr": lambda cache: cache.incr("k", initial=5),
        "get_item": lambda cache: cache.get_item("k"),
        "get_items": lambda cache: cache.get_items([f"k{number}" for number in range(20)]),
        "get_and_touch": lambda cache: cache.get_and_touch("k", 10),
        "get_many": lambda cache: cache.get_many([f"k{number}" for number in range(20)]),
        "version": lambda cache: cache.version(),
    }

    async def one_call(name, *servers):
        async with cache_of(*servers, timeout=SOON, dead_retry=dead_retry) as cache:
            begun = time.monotonic()
            with pytest.raises(mcext.MemcacheError) as raised:
                await calls[name](cache)
            assert time.monotonic() - begun < 1.8 * SOON, name
            error = raised.value
            if isinstance(error, mcext.PartialFailure):
                assert {type(each) for each in error.errors.values()} == {mcext.ServerTimeout}, name
            else:
                assert type(error) is mcext.ServerTimeout, name

    async def main(*servers):
        await asyncio.gather(*(one_call(name, *servers) for name in calls))  # what they wait for is waited for once

    def never(command, number):
        return STALL

    with ScriptedServer(never) as one, ScriptedServer(never) as other:
        asyncio.run(main(one, other))


BEHIND = {
    "get": lambda cache: cache.get("k"),
    "set": lambda cache: cache.set("k", 1),
    "get_many": lambda cache: cache.get_many(["k", "other"]),
    "set_many": lambda cache: cache.set_many({"k": 1, "other": 2}),
    "delete_many": lambda cache: cache.delete_many(["k", "other"]),
    "get_item": lambda cache: cache._item("k"),
    "get_items": lambda cache: cache._items(["k", "other"]),
}


class Ticking(mcext.AsyncCache):
    """ticks: how often its streams have looked at the clock."""

    class _stream_class(mcext.AsyncCache._stream_class):
        __slots__ = ()
        ticks = 0

        def _tick(self):
            type(self).ticks += 1
            super()._tick()


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_call_ends_in_time_behind_one_that_has_more_of_it(is_cancelled):
    """Since it is a step of a longer one. Its stream does nothing while it waits on."""
    Ticking._stream_class.ticks = 0

    async def one_call(name, server):
        cache = Ticking([server.address], timeout=2 * SOON, connections=1)
        first = asyncio.ensure_future(cache.get(f"first-{name}"))
        sent = f"get first-{name}\r\n".encode()
        await asyncio.to_thread(server.wait_for, lambda server: sent in server.commands)
        call = BEHIND[name](cache)
        call._start = time.monotonic_ns() - SOON * 10**9
        behind = asyncio.ensure_future(call)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if is_cancelled:
            behind.cancel()
        (failed,) = await ends(behind)
        assert not first.done(), name
        if isinstance(failed, mcext.PartialFailure):
            (failed,) = failed.errors.values()
        assert type(failed) is (asyncio.CancelledError if is_cancelled else mcext.ServerTimeout), name
        assert is_cancelled or failed.may_have_run or name in ("get", "get_many", "get_item", "get_items"), name
        assert type((await ends(first))[0]) is mcext.ServerTimeout
        assert cache._pending == 0
        await cache.aclose()

    async def main(server):
        await asyncio.gather(*(one_call(name, server) for name in BEHIND))  # what they wait for is waited for once
        assert Ticking._stream_class.ticks < 10 * len(BEHIND)

    with ScriptedServer(lambda command, number: STALL) as server:
        asyncio.run(main(server))


def test_a_connect_that_hangs_ends_its_calls_in_time():
    async def main(address):
        async with cache_of(address, timeout=SOON, dead_retry=1000) as cache:
            begun = time.monotonic()
            got = await ends(cache.get("a"), cache.set("b", 1), cache.incr("c"), cache.get_many(["d"]), cache.version())
            assert time.monotonic() - begun < 2 * SOON
            for each in got:
                each = next(iter(each.errors.values())) if isinstance(each, mcext.PartialFailure) else each
                assert type(each) is mcext.ServerTimeout
                assert (each.server, each.may_have_run) == (address, False)
            assert cache.servers[0].alive is False

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        try:
            for _ in range(4):
                waiting.append(socket.socket())
                waiting[-1].setblocking(False)
                waiting[-1].connect_ex(listener.getsockname())
            asyncio.run(main(f"127.0.0.1:{listener.getsockname()[1]}"))
        finally:
            for each in waiting:
                each.close()


# ---- servers that are down -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_dead", ["walk", "miss", "next"])
def test_a_server_that_is_down_is_treated_by_on_dead(on_dead):
    placement = mcext.placement.rendezvous() if on_dead == "next" else None

    async def main(servers):
        async with cache_of(*servers, on_dead=on_dead, placement=placement, dead_retry=1000) as cache:
            down = servers[0]
            key = key_of(cache, down)
            assert await cache.set(key, 1) is True
            down.stop()
            await asyncio.sleep(0.05)
            calls = [cache.set(key, 2), cache.get(key), cache.get_many([key]), cache.get_item(key), cache.incr(key)]
            if on_dead == "miss":
                for each in await ends(*calls):
                    assert isinstance(each, mcext.MemcacheError) and each.may_have_run is False
            else:
                got = await ends(*calls)
                assert not [each for each in got if isinstance(each, Exception)], got
                assert await cache.set(key, 5) is True
                assert await cache.get(key) == 5
                assert (await cache.get_item(key)).value == 5
                assert await cache.get_items([key]) != {}
                assert await cache.set_many({key: 6, "other": 7}) == []
                assert await cache.get_many([key, "other"]) == {key: 6, "other": 7}
                assert await cache.delete_many([key]) == 1
            assert cache.metrics()["dead_marks"] == 1

    with start_memcached() as one, start_memcached() as two, start_memcached() as three:
        asyncio.run(main([one, two, three]))


@pytest.mark.parametrize("name", ["get_many", "set_many", "delete_many", "get_items"])
def test_of_a_call_for_many_a_server_that_dies_fails_its_own_keys(name):
    def script(command, number):
        return CLOSE if command.split()[0] in (b"get", b"set", b"delete", b"mg") and b"AA==" not in command else {
            b"mn": b"MN\r\n", b"mg": b"EN\r\n"}.get(command.split()[0])  # fmt: skip

    async def main(bad, live):
        async with cache_of(bad, live, on_dead="miss") as cache:
            keys = [f"k{number}" for number in range(300)]
            its = {key for key in keys if cache.server_for(key) == bad.address}
            for key in keys:
                if key not in its:
                    await cache.set(key, key)
            ask = {"set_many": lambda: cache.set_many(dict.fromkeys(keys, 1))}.get(
                name, lambda: getattr(cache, name)(keys)
            )
            with pytest.raises(mcext.PartialFailure) as raised:
                await ask()
            error = raised.value
            assert set(error.keys) == its
            assert len(error.keys) == len(its)
            assert list(error.errors) == [bad.address]
            assert error.may_have_run is True
            if name in ("get_many", "get_items"):
                assert set(error.result) == set(keys) - its
            elif name == "delete_many":
                assert error.result == 300 - len(its)

    with ScriptedServer(script) as bad, start_memcached() as live:
        asyncio.run(main(bad, live))


# ---- values too large ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["us", "the server"])
@pytest.mark.parametrize("name", ["set", "replace", "cas", "set_many"])
def test_a_value_that_is_too_large_leaves_no_old_one(by, name):
    async def main(server):
        options = {"max_value_length": 1000} if by == "us" else {}
        async with cache_of(server, **options) as cache:
            value = b"x" * (1001 if by == "us" else 2_000_000)
            for errors in ("raise", "miss"):
                forgiving = cache_of(server, errors=errors, **options)
                await cache.set("k", b"old")
                token = (await cache.get_item("k")).cas
                call = {
                    "set": lambda forgiving=forgiving: forgiving.set("k", value),
                    "replace": lambda forgiving=forgiving: forgiving.replace("k", value),
                    "cas": lambda forgiving=forgiving, token=token: forgiving.set("k", value, cas=token),
                    "set_many": lambda forgiving=forgiving: forgiving.set_many({"other": b"v", "k": value}),
                }[name]
                if errors == "raise":
                    with pytest.raises(mcext.MemcacheError) as raised:
                        await call()
                    error = raised.value
                    if name == "set_many":
                        assert error.keys == ["k"]
                        (error,) = error.errors.values()
                    assert type(error) is mcext.ValueTooLarge
                    assert error.command == {"set_many": "set"}.get(name, name)
                else:
                    assert await call() == (["k"] if name == "set_many" else False)
                assert await cache.get("k") is None
                if name == "set_many":
                    assert await cache.get("other") == b"v"
                await forgiving.aclose()

    with start_memcached() as server:
        asyncio.run(main(server))
