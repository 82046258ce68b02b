"""Name and password of an AsyncCache: who is kept out is told so, and nothing of them is in what is told."""

import asyncio

import pytest
from scripted_server import CLOSE, PATIENCE, RESET, STALL, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

NAME, WORD = "alice", "correct-horse"
SAID = b"set auth 0 -1 19\r\nalice correct-horse\r\n"


def cache_of(server, **options):
    return mcext.AsyncCache(
        [server.address],
        **{"timeout": 20 * PATIENCE, "username": NAME, "password": WORD, "dead_retry": 1000, **options},
    )


@pytest.mark.parametrize("tls", [False, True])
def test_a_wrong_password_ends_all_calls_and_the_server_is_left_alone(tls):
    async def main(server):
        events = []
        options = {"tls_context": server.tls_context} if tls else {}
        async with cache_of(server, password="wrong", on_event=events.append, **options) as cache:
            got = await asyncio.gather(
                cache.get("a"), cache.set("b", 1), cache.incr("c"), cache.get("d"), return_exceptions=True
            )
            for each in got:
                assert type(each) is mcext.AuthenticationError and each.may_have_run is False
                assert NAME not in repr(each) + str(each) and "wrong" not in repr(each) + str(each)
            assert cache.servers[0].alive is False
            with pytest.raises(mcext.ServerUnavailable):
                await cache.get("a")
            assert cache.metrics()["connects"] == cache.metrics()["dead_marks"] == 1
            assert [event.kind for event in events[:2]] == ["connect", "dead"]
            assert NAME not in repr(cache) + repr(events) and "wrong" not in repr(events)

    with start_memcached(auth=(NAME, WORD), tls=tls) as server:
        asyncio.run(main(server))


@pytest.mark.parametrize("tls", [False, True])
def test_the_password_is_asked_for_at_each_connect(tls):
    asked = []

    def password():
        asked.append(1)
        return WORD

    async def main(server):
        options = {"tls_context": server.tls_context} if tls else {}
        async with cache_of(server, password=password, **options) as cache:
            assert await asyncio.gather(*(cache.set(f"k{number}", number) for number in range(50))) == [True] * 50
            assert len(asked) == 1
            server.restart()
            await asyncio.sleep(0.1)
            assert await cache.get("k1") is None
            assert len(asked) == 2

    with start_memcached(auth=(NAME, WORD), tls=tls) as server:
        asyncio.run(main(server))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (SAID, mcext.AuthenticationError),
        (b"alice correct-horse\r\n", mcext.AuthenticationError),
        (b"SERVER_ERROR alice correct-horse\r\n", mcext.AuthenticationError),
        (b"x" * 20000, mcext.AuthenticationError),
        (CLOSE, mcext.ServerUnavailable),
        (RESET, mcext.ServerUnavailable),
        (STALL, mcext.ServerTimeout),
    ],
)
def test_whatever_is_answered_nothing_of_them_is_told(answer, kind):
    time_to_connect = (3 if answer == STALL else 20) * PATIENCE

    async def main(server):
        events = []
        async with cache_of(server, connect_timeout=time_to_connect, on_event=events.append) as cache:
            with pytest.raises(mcext.MemcacheError) as raised:
                await cache.set("k", 1)
            error = raised.value
            assert type(error) is kind and error.may_have_run is False
            for shown in (str(error), repr(error), repr(error.__dict__), repr(error.__cause__), repr(events)):
                assert NAME not in shown and WORD not in shown
            assert not cache.servers[0].alive

    with ScriptedServer(lambda command, number: (answer, STALL) if isinstance(answer, bytes) else answer) as server:
        asyncio.run(main(server))
        server.wait_for(lambda server: server.received == SAID)
