"""What an AsyncCache puts on its streams: what is merged, what goes out at once, and what waits."""

import asyncio
import os
import threading
import time

import pytest
from loops import LOOPS, in_a_loop
from scripted_server import PATIENCE, STALL, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

AT_ONCE = 20 * PATIENCE
Unsent = (mcext.ServerTimeout, mcext.ServerUnavailable)


def cache_of(*servers, **options):
    options = {"timeout": AT_ONCE, **options}
    return mcext.AsyncCache([each if isinstance(each, str) else each.address for each in servers], **options)


def found(command, number):
    """Each key that is asked for has a value, which names it."""
    words = command.split()
    if words[0] != b"get":
        return None
    return b"".join(b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(key), key) for key in words[1:]) + b"END\r\n"


class Lists:
    """A codec: a new list for each decoding."""

    def encode(self, value):
        return value, 0

    def decode(self, data, flags):
        return [data]


# ---- gets of one turn ----------------------------------------------------------------------------------------------


def test_equal_keys_of_one_turn_are_asked_once_and_decoded_for_each():
    async def main(server):
        async with cache_of(server, codec=Lists()) as cache:
            await asyncio.gather(*map(cache.get, "abc"))  # from now on a turn waits for all of its calls
            cache.metrics(reset=True)
            got = await asyncio.gather(*(cache.get(f"k{number % 5}") for number in range(50)))
            assert got == [[b"k%d" % (number % 5)] for number in range(50)]
            assert len({id(each) for each in got}) == 50, "what one changes no other sees"
            counted = cache.metrics()
            assert (counted["calls"], counted["keys"]) == ({"get": 50}, 5)

    with ScriptedServer(found) as server:
        asyncio.run(main(server))
        assert server.commands[-1] == b"get k0 k1 k2 k3 k4\r\n"
        assert len(server.commands) <= 3


def test_gets_of_one_turn_share_lines_of_at_most_16000_bytes():
    keys = [f"{number:04}" + "k" * 200 for number in range(1000)]

    async def main(server):
        async with cache_of(server) as cache:
            assert await asyncio.gather(*map(cache.get, keys)) == [key.encode() for key in keys]

    with ScriptedServer(found) as server:
        asyncio.run(main(server))
        assert max(map(len, server.commands)) <= 16_000
        assert len(server.commands) == -(-1000 * 205 // 15_990)
        assert [key for command in server.commands for key in command.split()[1:]] == [key.encode() for key in keys]
        assert len(server.connections) == 1


def test_what_one_turn_asks_leaves_in_one_write(monkeypatch):
    written = []
    write = asyncio.selector_events._SelectorSocketTransport.write

    def recording(transport, data):
        written.append(bytes(data))
        write(transport, data)

    async def main(server):
        async with cache_of(server) as cache:
            await cache.get("first")
            await asyncio.gather(
                *(cache.get(f"k{number}") for number in range(20)),
                *(cache.set(f"s{number}", b"v") for number in range(20)),
                *(cache.incr(f"n{number}") for number in range(20)),
            )
            await asyncio.gather(*(cache.get(f"k{number}") for number in range(20)))

    monkeypatch.setattr(asyncio.selector_events._SelectorSocketTransport, "write", recording)
    with ScriptedServer(found) as server:
        asyncio.run(main(server))
        assert written[0] == b"get first\r\n"
        assert len(written) <= 4, "the first of a turn need not wait for the others"
        assert b"".join(written) == server.received


def test_what_gather_asks_twice_in_one_turn_after_a_set_sees_the_set():
    """A get that is made behind a set of the same key, in one turn, is not asked before it."""

    async def main():
        async with cache_of(server, connections=1) as cache:
            for number in range(200):
                got = await asyncio.gather(cache.get("other"), cache.set("k", number), cache.get("k"))
                assert got[1] is True
                assert got[2] in (number, number - 1, None)

    with start_memcached() as server:
        asyncio.run(main())


# ---- big values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["set", "get"])
def test_small_calls_overtake_a_large_value(what):
    """It goes, or comes, by another stream; here it does not end."""
    gate = threading.Event()

    def script(command, number):
        if command.startswith(b"set big"):
            gate.wait(AT_ONCE)
            return b"STORED\r\n"
        if command.startswith(b"get big"):
            return b"VALUE big 0 10000000\r\n" + b"x" * 100_000, STALL
        return found(command, number)

    async def main(server):
        async with cache_of(server) as cache:
            await cache.get("first")
            big = asyncio.ensure_future(cache.set("big", b"x" * 1_000_000) if what == "set" else cache.get("big"))
            server_has_it = asyncio.get_running_loop().run_in_executor(
                None, server.wait_for, lambda server: any(b"big" in each for each in server.commands)
            )
            if what == "get":
                await server_has_it
                await asyncio.sleep(0.1 * PATIENCE)
            for _ in range(10):
                assert await asyncio.wait_for(cache.get("small"), AT_ONCE / 2) == b"small"
            assert await asyncio.wait_for(cache.set("small", 1), AT_ONCE / 2) is True
            assert not big.done()
            gate.set()
            await server_has_it
            if what == "get":
                big.cancel()
                server.close_connection(0)  # aclose would wait for the rest
            else:
                assert await big is True

    with ScriptedServer(script) as server:
        try:
            asyncio.run(main(server))
        finally:
            gate.set()
        assert len(server.connections) == 2


class Parts(tuple):
    """An answer: the rest of it comes through a gate."""

    def __new__(cls, first, gate, rest):
        self = super().__new__(cls, (first, rest))
        self.gate = gate
        return self

    def __iter__(self):
        yield self[0]
        self.gate.wait(AT_ONCE)
        yield self[1]


BIG_CALLS = {
    "get": lambda cache: cache.get("big"),
    "get_many": lambda cache: cache.get_many(["big", "k"]),
    "get_item": lambda cache: cache.get_item("big"),
}


def begins(size, gate):
    """A server of which a big value comes in part, and the rest of it through the gate."""

    def script(command, number):
        words = command.split()
        if words[0] == b"mn":
            return b"MN\r\n"
        if words[0] == b"incr":
            return b"5\r\n"
        if b"big" in words[:2]:
            head = b"VALUE big 0 %d\r\n" if words[0] == b"get" else b"VA %d kbig f0 c1\r\n"
            rest = bytes(size - 100_000) + b"\r\n"
            rest += found(b" ".join([b"get", *words[2:]]), number) if words[0] == b"get" else b""
            return Parts(head % size + bytes(100_000), gate, rest)
        return found(command, number) or (b"EN\r\n" if words[0] == b"mg" else None)

    return script


def run_beside(main, gate, size=20_000_000):
    """main(server), of which such a value comes; the rest of it at the latest when main has ended. The server."""
    with ScriptedServer(begins(size, gate)) as server:
        try:
            asyncio.run(main(server))
        finally:
            gate.set()
    return server


async def is_coming(server, cache, connections):
    """The big value, on so many connections."""

    def begun(server):
        return sum(b"big" in command for command in server.commands) == connections

    await asyncio.get_running_loop().run_in_executor(None, server.wait_for, begun)
    while cache.metrics()["bytes_in"] < connections * 100_000:
        await asyncio.sleep(0)


def cancel_all(tasks):
    for task in tasks:
        task.cancel()
    return asyncio.wait(tasks)


@pytest.mark.parametrize("connections", [1, 2])
@pytest.mark.parametrize("name", BIG_CALLS)
def test_nobody_waits_behind_much_of_a_value_that_nobody_waits_for(name, connections):
    gate = threading.Event()

    async def main(server):
        async with cache_of(server, connections=connections) as cache:
            await cache.get_item("none")
            big = []
            for number in range(1, connections + 1):
                big.append(asyncio.ensure_future(BIG_CALLS[name](cache)))
                await is_coming(server, cache, number)
            await cancel_all(big)
            for _ in range(3):
                got = await asyncio.wait_for(asyncio.gather(*map(cache.get, "abc")), 5 * PATIENCE)
                assert got == [b"a", b"b", b"c"]
            assert not gate.is_set()
            assert len(server.connections) == connections + 1
            gate.set()
            for each in server.connections[:connections]:
                assert await asyncio.get_running_loop().run_in_executor(None, each.closed.wait, AT_ONCE)
            if name != "get_item":  # with which a lease might come
                assert cache.metrics()["bytes_in"] < 10_000_000
        assert cache._pending == 0
        assert cache.metrics()["dead_marks"] == 0
        assert cache.metrics()["lost"] == cache.metrics()["timeouts"] == 0

    run_beside(main, gate)


@pytest.mark.parametrize("name", BIG_CALLS)
def test_what_stands_behind_it_already_has_its_answer_there(name):
    gate = threading.Event()

    async def main(server):
        async with cache_of(server, connections=1) as cache:
            await cache.get_item("none")
            big = asyncio.ensure_future(BIG_CALLS[name](cache))
            await is_coming(server, cache, 1)
            behind = [asyncio.ensure_future(call) for call in (cache.incr("n"), cache.set("s", 1), cache.get("a"))]
            await asyncio.sleep(0.1)
            await cancel_all([big])
            assert await asyncio.wait_for(cache.get("b"), 5 * PATIENCE) == b"b"
            assert not any(each.done() for each in behind)
            gate.set()
            assert await asyncio.gather(*behind) == [5, True, b"a"]
            assert await cache.get("b") == b"b"
            assert await asyncio.get_running_loop().run_in_executor(None, server.connections[0].closed.wait, AT_ONCE)
            assert cache.servers[0].connections == 1

    server = run_beside(main, gate)
    assert len(server.connections) == 2
    assert sum(command.startswith((b"incr", b"set")) for command in server.commands) == 2


@pytest.mark.parametrize("loop", LOOPS)
@in_a_loop
async def test_what_was_to_be_written_behind_such_a_value_does_not_keep_its_stream(loop):
    """memcached reads nothing more until it has sent the value, which nobody receives."""
    with start_memcached("-I", "128m", "-m", "1024") as server:
        cache = cache_of(server, connections=1)
        assert await cache.set("big", bytes(64_000_000))
        cache.metrics(reset=True)
        calls = [asyncio.ensure_future(cache.get("big"))]
        while not cache.metrics()["bytes_in"]:
            await asyncio.sleep(0)
        calls.append(asyncio.ensure_future(cache.set("other", bytes(64_000_000))))
        await asyncio.sleep(0)
        await cancel_all(calls)
        assert await cache.get("none") is None
        assert cache.metrics()["connects"] == 1, "most of the value had come already"
        await asyncio.wait_for(cache.aclose(), AT_ONCE)


def test_one_of_a_line_that_nobody_waits_for():
    """The others of the line are answered where they were asked, and those that come later are before them."""
    gate = threading.Event()

    async def main(server):
        async with cache_of(server, connections=1) as cache:
            await asyncio.gather(cache.get("a"), cache.get("b"))  # from now on a turn waits for all of its calls
            big, other = (asyncio.ensure_future(cache.get(key)) for key in ("big", "other"))
            await is_coming(server, cache, 1)
            await cancel_all([big])
            assert await asyncio.wait_for(cache.get("c"), 5 * PATIENCE) == b"c"
            assert not other.done()
            gate.set()
            assert await other == b"other"

    server = run_beside(main, gate)
    assert len(server.connections) == 2


@pytest.mark.parametrize("size", [8_000_000, 20_000_000])
def test_a_value_that_is_waited_for_or_that_ends_soon_keeps_its_stream(size):
    gate = threading.Event()

    async def main(server):
        async with cache_of(server, connections=1) as cache:
            await cache.get("first")
            big = asyncio.ensure_future(cache.get("big"))
            await is_coming(server, cache, 1)
            if size < 8 << 20:
                await cancel_all([big])
            small = asyncio.ensure_future(cache.get("a"))
            await asyncio.sleep(0.1)
            assert not small.done()
            gate.set()
            assert await small == b"a"
            assert big.cancelled() or await big == bytes(size)

    server = run_beside(main, gate, size)
    assert len(server.connections) == 1


# ---- a server that does not read -----------------------------------------------------------------------------------


def test_a_server_that_does_not_read_holds_back_what_is_not_written():
    """What waits behind a full socket is not sent, and has certainly not run; a value that goes out may have."""

    async def main(server):
        async with cache_of(server, timeout=3 * PATIENCE, dead_retry=1000) as cache:
            begun = time.monotonic()
            calls = [cache.set(f"k{number}", b"x" * 1_000_000) for number in range(60)]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert time.monotonic() - begun < AT_ONCE / 2
            # What had been written when the first call's time was up, and had time left itself, is lost with it.
            written = (mcext.ServerTimeout, mcext.ConnectionLost)
            held_back = [each for each in ends if not each.may_have_run]
            assert all(isinstance(each, written if each.may_have_run else Unsent) for each in ends), ends
            assert 0 < len(held_back) < 60
            assert cache.servers[0].alive is False
            assert cache._pending == 0

    def never(command, number):
        return STALL

    with ScriptedServer(never) as server:
        read_nothing = threading.Event()
        server._serve = lambda connection: read_nothing.wait(60)
        try:
            asyncio.run(main(server))
        finally:
            read_nothing.set()


def test_writing_goes_on_when_the_server_reads_again():
    go_on = threading.Event()

    def script(command, number):
        go_on.wait(AT_ONCE)

    async def main(server):
        async with cache_of(server) as cache:
            calls = [asyncio.ensure_future(cache.set(f"k{number}", b"x" * 1_000_000)) for number in range(12)]
            await asyncio.sleep(0.2)
            assert not any(each.done() for each in calls)
            go_on.set()
            assert await asyncio.gather(*calls) == [True] * 12

    with ScriptedServer(script) as server:
        asyncio.run(main(server))
        assert sum(command.startswith(b"set") for command in server.commands) == 12


# ---- max_pending ---------------------------------------------------------------------------------------------------

FULL = {
    "get": (lambda cache: cache.get("k", 7), 7),
    "set": (lambda cache: cache.set("k", 1), False),
    "add": (lambda cache: cache.add("k", 1), False),
    "delete": (lambda cache: cache.delete("k"), False),
    "incr": (lambda cache: cache.incr("k"), None),
    "touch": (lambda cache: cache.touch("k", 1), False),
    "get_item": (lambda cache: cache.get_item("k"), None),
    "get_and_touch": (lambda cache: cache.get_and_touch("k", 10, 7), 7),
    "get_many": (lambda cache: cache.get_many(["k"]), {}),
    "get_items": (lambda cache: cache.get_items(["k"]), {}),
    "set_many": (lambda cache: cache.set_many({"k": 1}), ["k"]),
    "delete_many": (lambda cache: cache.delete_many(["k"]), 0),
    "version": (lambda cache: cache.version(), {}),
    "stats": (lambda cache: cache.stats(), {}),
    "flush_all": (lambda cache: cache.flush_all(), None),
}


@pytest.mark.parametrize("name", FULL)
def test_one_call_too_many_is_refused_at_once_and_nothing_of_it_is_sent(name):
    call, missed = FULL[name]

    async def main(server):
        for errors in ("raise", "miss"):
            cache = cache_of(server, max_pending=3, errors=errors)
            opened = len(server.connections)
            waiting = [asyncio.ensure_future(cache.get(f"k{number}")) for number in range(3)]
            await asyncio.to_thread(server.wait_for, lambda server, opened=opened: len(server.connections) > opened)
            begun = time.monotonic()
            if errors == "raise":
                with pytest.raises(mcext.MemcacheError) as raised:
                    await call(cache)
                error = raised.value
                if isinstance(error, mcext.PartialFailure):
                    (error,) = error.errors.values()
                assert type(error) is mcext.Overloaded
                assert raised.value.may_have_run is error.may_have_run is False
                assert "3" in str(error)
            else:
                assert await call(cache) == missed
            assert time.monotonic() - begun < AT_ONCE / 2
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert cache._pending == 0
            server.close_connection()  # aclose would wait for its answers
            await cache.aclose()

    with ScriptedServer(lambda command, number: STALL) as server:
        asyncio.run(main(server))
        assert all(command.startswith(b"get k") for command in server.commands), server.commands


# ---- noreply -------------------------------------------------------------------------------------------------------


def test_noreply_does_not_wait_and_is_carried_out():
    async def main(server):
        async with cache_of(server) as cache:
            for number in range(100):
                assert await cache.set(f"k{number}", number, noreply=True) is True
            assert await cache.get_many([f"k{number}" for number in range(100)]) == {
                f"k{number}": number for number in range(100)
            }
            assert await cache.add("k1", 5, noreply=True) is True
            assert await cache.append("text", "x", noreply=True) is True
            assert await cache.get("k1") == 1

    with start_memcached() as server:
        asyncio.run(main(server))


def test_what_noreply_does_not_wait_for_goes_out_before_the_cache_is_closed():
    async def main(server):
        cache = cache_of(server)
        assert await cache.set("k", b"v" * 100_000, noreply=True) is True
        await cache.aclose()
        assert await cache.get("k") == b"v" * 100_000
        await cache.aclose()

    with start_memcached("-t", "1") as server:  # what was sent first is done first
        asyncio.run(main(server))


# ---- closing -------------------------------------------------------------------------------------------------------


def test_aclose_lets_calls_end_and_a_later_call_opens_anew():
    async def main(server):
        cache = cache_of(server)
        await cache.get("first")
        calls = [asyncio.ensure_future(cache.incr(f"n{number}")) for number in range(50)]
        await asyncio.sleep(0)
        await cache.aclose()
        assert await asyncio.gather(*calls) == [None] * 50
        assert cache.servers[0].connections == 0
        assert await cache.get("k") == b"k"
        assert cache.servers[0].connections == 1
        await cache.aclose()
        await cache.aclose()

    with ScriptedServer(found) as server:
        before = len(os.listdir("/proc/self/fd"))
        asyncio.run(main(server))
        assert sum(command.startswith(b"incr") for command in server.commands) == 50
        server.wait_for(lambda server: all(each.closed.is_set() for each in server.connections))
        assert len(os.listdir("/proc/self/fd")) <= before


def test_servers_say_how_many_streams_are_open():
    async def main(one, other):
        def counts():
            return {each.address: each.connections for each in cache.servers}

        async with cache_of(one, connections=3) as cache:
            assert counts() == {one.address: 0}
            call = asyncio.ensure_future(cache.get("k"))
            await asyncio.sleep(0)
            assert counts() == {one.address: 0}, "it is not open yet"
            await call
            assert counts() == {one.address: 1}
            await asyncio.gather(*(cache.set(f"k{number}", b"x" * 100_000) for number in range(10)))
            assert counts() == {one.address: 2}
            one.close_connection(0)
            while counts() == {one.address: 2}:
                await asyncio.sleep(0)
            assert counts() == {one.address: 1}
            await cache.get("k")
            assert counts() == {one.address: 2}
            under_way = asyncio.ensure_future(cache.get("k"))
            await asyncio.sleep(0)
            cache.set_servers([other.address])
            assert counts() == {other.address: 0}
            await under_way
            cache.set_servers([one.address, other.address])
            assert counts() == {one.address: 0, other.address: 0}
            await asyncio.gather(*(cache.get(f"k{number}") for number in range(20)))
            assert counts() == {one.address: 1, other.address: 1}
            asked = asyncio.get_running_loop().run_in_executor(None, counts)
            assert await asked == counts()
            await cache.aclose()
            assert counts() == {one.address: 0, other.address: 0}

    with ScriptedServer() as one, ScriptedServer() as other:
        asyncio.run(main(one, other))


def test_set_servers_under_load_fails_no_call():
    async def main(servers):
        async with cache_of(*servers) as cache:
            ended = False

            async def load(number):
                count = 0
                while not ended:
                    assert await cache.set(f"k{number}", number) is True
                    assert await cache.get(f"k{number}") in (number, None)
                    count += 1
                return count

            loads = [asyncio.ensure_future(load(number)) for number in range(50)]
            for turn in range(40):
                cache.set_servers([servers[turn % 3].address, servers[(turn + 1) % 3].address])
                await asyncio.sleep(0.01)
            ended = True
            assert all(await asyncio.gather(*loads))
            assert len(cache.servers) == 2

    with start_memcached() as one, start_memcached() as two, start_memcached() as three:
        asyncio.run(main([one, two, three]))
