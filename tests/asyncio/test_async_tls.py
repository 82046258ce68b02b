"""AsyncCache over TLS: who is not the server that is meant gets no request."""

import asyncio

import pytest
import server_contexts
from scripted_server import PATIENCE, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached


def test_a_server_that_is_trusted_is_served():
    async def main(server):
        async with mcext.AsyncCache(
            [server.address], timeout=20 * PATIENCE, tls_context=server.tls_context
        ) as cache:  # fmt: skip
            items = {f"k{number}": b"x" * number * 100 for number in range(300)}
            assert await cache.set_many(items) == []
            assert await asyncio.gather(*map(cache.get, items)) == list(items.values())
            assert await cache.get_many(items) == items
            server.restart()
            await asyncio.sleep(0.1)
            assert await cache.get("k1") is None

    with start_memcached(tls=True) as server:
        asyncio.run(main(server))


@pytest.mark.parametrize("who", ["expired", "not_yet_valid", "other_name", "self_signed"])
def test_a_server_that_is_not_trusted_is_asked_nothing(who):
    async def main(server):
        context = server_contexts.client()
        async with mcext.AsyncCache([server.address], timeout=20 * PATIENCE, tls_context=context) as cache:
            with pytest.raises(mcext.ServerUnavailable) as raised:
                await cache.set("k", 1)
            assert raised.value.may_have_run is False
            assert "CERTIFICATE_VERIFY_FAILED" in str(raised.value)
            assert cache.servers[0].alive is False

    with ScriptedServer(tls=getattr(server_contexts, who)()) as server:
        asyncio.run(main(server))
        assert server.received == b""
