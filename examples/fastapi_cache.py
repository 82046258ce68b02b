"""FastAPI and memcached: python examples/fastapi_cache.py 127.0.0.1:11211 [port]

One mcext.AsyncCache for the application, as a dependency of views; and a cache of whole responses, for which one caller
computes, among all processes on all machines, while the others wait for its answer or are served the old one. The cache
of responses is plain ASGI: it works with Starlette as it is. Where memcached is down, everything is computed.
Port 0 takes a free one.
"""

import asyncio
import hashlib
import sys
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Path, Request

import mcext

# ---- the cache as a dependency


def get_cache(request: Request) -> mcext.AsyncCache:
    return request.app.state.cache


Cache = Annotated[mcext.AsyncCache, Depends(get_cache)]


# ---- a cache of responses


NOT_FOR_ALL = {b"set-cookie", b"vary"}


class NotKept(Exception):
    """A response that is for one caller alone."""


class ResponseCache:
    """ASGI middleware that keeps the responses to GET of some paths: ttl={"/report": 60} for 60 seconds, and for 10
    minutes more to be served while one caller computes anew.

    It keeps what is the same for all: nothing of a request that says who it is (Cookie, Authorization); of responses
    those with status 200 and without Set-Cookie, Vary and a Cache-Control of their own, their body and their type.
    """

    def __init__(self, app, ttl):
        self.app, self.ttl = app, ttl

    async def __call__(self, scope, receive, send):
        ttl = self.ttl.get(scope.get("path"))
        names = {name.lower() for name, _ in scope.get("headers", ())}
        if scope["type"] != "http" or scope["method"] != "GET" or ttl is None or names & {b"cookie", b"authorization"}:
            return await self.app(scope, receive, send)
        messages = []

        async def compute():
            async def collect(message):
                messages.append(message)

            await self.app(scope, receive, collect)
            headers = {name.lower(): value for name, value in messages[0]["headers"]}
            if messages[0]["status"] != 200 or not NOT_FOR_ALL.isdisjoint(headers) or b"cache-control" in headers:
                raise NotKept
            body = b"".join(message.get("body", b"") for message in messages[1:])
            return headers.get(b"content-type", b"application/octet-stream") + b"\n" + body

        # A key of any path and query, short enough and without a space.
        key = "page:" + hashlib.sha256(scope["path"].encode() + b"?" + scope["query_string"]).hexdigest()
        try:
            kept = await scope["app"].state.cache.get_or_set(key, compute, ttl, stale=600)
        except NotKept:
            for message in messages:
                await send(message)
            return
        content_type, _, body = kept.partition(b"\n")
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


# ---- the application


def make_application(servers):
    @asynccontextmanager
    async def lifespan(app):
        # Nothing is pickled: a view that is cached stores text or bytes, or a codec makes them of what it has.
        async with mcext.AsyncCache(servers, timeout=0.5, errors="miss", allow_pickle=False) as app.state.cache:
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(ResponseCache, ttl={"/report": 60})
    computed = []

    @app.get("/visits/{name}")
    async def visits(name: Annotated[str, Path(pattern=r"^\w{1,50}$")], cache: Cache):
        """A counter; null where memcached is down."""
        return {"name": name, "visits": await cache.incr(f"visits:{name}", initial=1, ttl=86400)}

    @app.get("/squares/{number}")
    async def square(number: int, cache: Cache):
        """A value that one caller computes."""

        async def compute():
            await asyncio.sleep(0.1)
            return number * number

        return await cache.get_or_set(f"square:{number}", compute, ttl=60, refresh=5)

    @app.get("/report")
    async def report():
        """A page that is dear: it says how often this process has made it."""
        computed.append(1)
        await asyncio.sleep(0.2)
        return {"computed": len(computed)}

    return app


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    uvicorn.run(make_application([sys.argv[1]]), port=int(sys.argv[2]) if len(sys.argv) > 2 else 8000)
