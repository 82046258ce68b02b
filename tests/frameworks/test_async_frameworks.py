"""AsyncCache in Starlette, FastAPI and aiohttp applications, whose clients hang up in the middle.

The others have their right answers, and nothing is left of the calls that were cancelled. The cache's replies are held
back now and then, so that many hang up while a call is under way.
"""

import asyncio
import contextlib
import gc
import json
import random

import pytest
from holding_proxy import HoldingProxy
from loops import LOOPS, run, until

import mcext
from mcext import _core
from mcext.testing import memcached as start_memcached

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore::ResourceWarning")]

KEYS = 40
CLIENTS, REQUESTS = 60, 15
STREAMED = 20  # values of one response


async def value_of(cache, name):
    return {"name": name, "value": await cache.get(name)}


async def many_of(cache, name):
    keys = [name, *(f"k{i}" for i in range(10))]
    found = await cache.get_many(keys)
    return {"name": name, "value": found[name], "right": all(value[0] == key for key, value in found.items())}


async def filled_of(cache, name):
    async def factory():
        await asyncio.sleep(0.001)
        return [name, "filled"]

    value = await cache.get_or_set(f"filled-{name}-{random.randrange(50)}", factory, 60)
    await cache.incr("served", initial=1)
    return {"name": name, "value": value}


async def stream_of(cache, name):
    for _ in range(STREAMED):
        yield json.dumps(await value_of(cache, name)).encode() + b"\n"


KINDS = {"value": value_of, "many": many_of, "filled": filled_of}


# ---- applications


@contextlib.asynccontextmanager
async def by_uvicorn(application):
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="critical", lifespan="off", loop="none"))
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, 20)


def starlette_application(cache):
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.routing import Route

    async def one(request):
        return JSONResponse(await KINDS[request.path_params["kind"]](cache, request.path_params["name"]))

    async def stream(request):
        return StreamingResponse(stream_of(cache, request.path_params["name"]))

    return Starlette(routes=[Route("/stream/{name}", stream), Route("/{kind}/{name}", one)])


def fastapi_application(cache):
    import fastapi
    from fastapi.responses import StreamingResponse

    application = fastapi.FastAPI()

    @application.get("/stream/{name}")
    async def stream(name: str):
        return StreamingResponse(stream_of(cache, name))

    @application.get("/{kind}/{name}")
    async def one(kind: str, name: str):
        return await KINDS[kind](cache, name)

    return application


@contextlib.asynccontextmanager
async def aiohttp_application(cache):
    from aiohttp import web

    async def one(request):
        return web.json_response(await KINDS[request.match_info["kind"]](cache, request.match_info["name"]))

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in stream_of(cache, request.match_info["name"]):
            await response.write(piece)
        await response.write_eof()
        return response

    application = web.Application()
    application.add_routes([web.get("/stream/{name}", stream), web.get("/{kind}/{name}", one)])
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site._server.sockets[0].getsockname()[1]
    finally:
        await runner.cleanup()


APPLICATIONS = {
    "Starlette": lambda cache: by_uvicorn(starlette_application(cache)),
    "FastAPI": lambda cache: by_uvicorn(fastapi_application(cache)),
    "aiohttp": aiohttp_application,
}


# ---- clients


async def ask(port, kind, name, hangs_up):
    """The lines of the response's body; None: it has hung up before it came to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /{kind}/{name} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
        if hangs_up is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), hangs_up)
            writer.transport.abort()
            return None
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 200"), head
    found = [part for part in body.split(b"\r\n") if part.strip()[:1] == b"{"]
    return [json.loads(line) for part in found for line in part.splitlines()]


async def client(port, dice):
    answered = 0
    for _ in range(REQUESTS):
        kind = dice.choice([*KINDS, "stream"])
        name = f"k{dice.randrange(KEYS)}"
        hangs_up = dice.choice([None, None, 0, 0.001, 0.003, 0.01])
        lines = await ask(port, kind, name, hangs_up)
        if lines is not None:
            answered += 1
            assert len(lines) == (STREAMED if kind == "stream" else 1)
            for line in lines:
                assert line["name"] == name and line["value"][0] == name, line
                assert line.get("right", True)
    return answered


async def hold_now_and_then(proxy, dice):
    while True:
        proxy.hold(dice.randrange(3000))
        await asyncio.sleep(dice.uniform(0, 0.01))
        proxy.release()
        await asyncio.sleep(dice.uniform(0, 0.003))


def no_call_is_left():
    gc.collect()
    return not any(isinstance(each, _core._AsyncCall) for each in gc.get_objects())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", APPLICATIONS)
def test_clients_hang_up_and_the_others_have_their_answers(loop, name):
    dice = random.Random(name)

    async def main():
        with start_memcached() as server:
            with mcext.Cache([server.address]) as other:
                other.set_many({f"k{i}": [f"k{i}", "x" * dice.randrange(3000)] for i in range(KEYS)})
            async with HoldingProxy(server) as proxy:
                cache = mcext.AsyncCache([proxy.address], timeout=20)
                async with APPLICATIONS[name](cache) as port:
                    holding = asyncio.ensure_future(hold_now_and_then(proxy, dice))
                    answered = await asyncio.gather(*[client(port, dice) for _ in range(CLIENTS)])
                    holding.cancel()
                    proxy.release()
                    assert sum(answered) > CLIENTS
                    assert await cache.get("k1") == ["k1", (await cache.get("k1"))[1]]
                assert len(proxy.connections) <= 2, "streams were lost"
                await cache.aclose()
                assert cache._pending == 0
                await until(no_call_is_left)

    run(loop, main(), patience=120)


def test_an_application_that_is_called_without_a_socket():
    """httpx's transport calls it in the test's own loop; each test has a loop of its own."""
    import httpx

    async def main(cache):
        transport = httpx.ASGITransport(app=starlette_application(cache))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            for _ in range(3):
                answers = await asyncio.gather(*[client.get(f"/value/k{i}") for i in range(KEYS)])
                assert [each.json()["value"] for each in answers] == [[f"k{i}"] for i in range(KEYS)]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.get("/value/k1"), 0)
            assert (await client.get("/value/k2")).json()["value"] == ["k2"]

    with start_memcached() as server:
        with mcext.Cache([server.address]) as other:
            other.set_many({f"k{i}": [f"k{i}"] for i in range(KEYS)})
        cache = mcext.AsyncCache([server.address])
        for _ in range(3):
            asyncio.run(main(cache))
        assert cache._pending == 0
