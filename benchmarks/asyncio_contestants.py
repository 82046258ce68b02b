"""The asyncio clients side by side, each a small class with the same calls: get, set, incr, delete and get_many.

Where a client's own method takes what it is given here, the call is that method, so that nothing is added to it. The
settings are the defaults of each, two connections a server among them, and those that its documentation gives for this
use. What a call returns is compared with what was stored by `content` and `contents`, before any call is timed.

Imported in a process of its own for each contestant: a client is imported only when it is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

LINE_BYTES = 16_000  # memcached reads no longer line of keys at once


class Contestant:
    """What all have. `get` and the others are set by open(); keys are made by `key`, values are bytes."""

    name = ""
    packages: Sequence[str] = ()  # their lines in requirements.txt
    many_servers = True
    redis = False  # it speaks to redis-server
    key: Callable[[str], Any] = staticmethod(str)

    get: Callable[..., Any]
    set: Callable[..., Any]
    incr: Callable[..., Any]
    delete: Callable[..., Any]
    get_many: Callable[..., Any]

    async def open(self, servers: list[str], tasks: int) -> None:
        raise NotImplementedError

    def plan(self, method: str, keys: Sequence[Any], value: bytes) -> None:
        """Told before the calls of a turn; only the floor needs to know."""

    def number(self, number: int) -> Any:
        """What is to be set so that incr finds a number."""
        return b"%d" % number

    def content(self, answer: Any, key: Any) -> Any:
        """The bytes in the answer of get."""
        return answer

    def contents(self, answer: Any, keys: Sequence[Any]) -> dict[Any, Any]:
        """The bytes in the answer of get_many, by key."""
        return {key: self.content(item, key) for key, item in answer.items()}

    async def close(self) -> None:
        """Nothing is open."""


def host_and_port(server: str) -> tuple[str, int]:
    host, port = server.rsplit(":", 1)
    return host, int(port)


# ---- the floor


class CountingProtocol(asyncio.BufferedProtocol):
    """Requests are made ready before. Those of one turn of the loop leave in one write, gets in one line; of replies
    the bytes are counted and nothing is looked at. With one task a request leaves at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, at_once: bool) -> None:
        self.loop = loop
        self.at_once = at_once
        self.buffer = memoryview(bytearray(1 << 18))
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []  # (reply bytes up to here, who waits)
        self.first = 0
        self.expected = 0
        self.received = 0
        self.requests: list[bytes] = []
        self.keys: list[bytes] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.received += count
        waiting, received, first = self.waiting, self.received, self.first
        while first < len(waiting) and waiting[first][0] <= received:
            waiting[first][1].set_result(None)
            first += 1
        if first == len(waiting):
            waiting.clear()
            first = 0
        self.first = first

    def call(self, request: bytes, reply_size: int) -> asyncio.Future[None]:
        future = self.loop.create_future()
        self.expected += reply_size
        self.waiting.append((self.expected, future))
        if self.at_once:
            self.transport.write(request)
        else:
            if not self.requests:
                self.loop.call_soon(self.send)
            self.requests.append(request)
        return future

    def get(self, key: bytes, reply_size: int) -> asyncio.Future[None]:
        if self.at_once:
            return self.call(b"get " + key + b"\r\n", reply_size + 5)
        future = self.loop.create_future()
        self.expected += reply_size
        self.waiting.append((self.expected, future))
        if not self.keys:
            self.loop.call_soon(self.send_gets)
        self.keys.append(key)
        return future

    def send(self) -> None:
        requests, self.requests = self.requests, []
        if len(requests[0]) > 1 << 16:
            for request in requests:
                self.transport.write(request)
        else:
            self.transport.write(b"".join(requests))

    def send_gets(self) -> None:
        keys, self.keys = self.keys, []
        in_a_line = max(1, LINE_BYTES // (len(keys[0]) + 1))
        if len(keys) <= in_a_line:
            self.transport.write(b"get " + b" ".join(keys) + b"\r\n")
            lines = 1
        else:
            parts = [keys[begin : begin + in_a_line] for begin in range(0, len(keys), in_a_line)]
            self.transport.write(b"".join(b"get " + b" ".join(part) + b"\r\n" for part in parts))
            lines = len(parts)
        # What ends the lines is counted for the last one of the turn.
        self.expected += 5 * lines
        self.waiting[-1] = (self.expected, self.waiting[-1][1])


class Floor(Contestant):
    name = "floor"
    key = staticmethod(str.encode)

    async def open(self, servers: list[str], tasks: int) -> None:
        loop = asyncio.get_running_loop()
        self.streams = []
        for server in servers:
            _, stream = await loop.create_connection(lambda: CountingProtocol(loop, tasks == 1), *host_and_port(server))
            self.streams.append(stream)
        self.plans: dict[Any, tuple[Any, bytes, int]] = {}
        self.sizes: dict[Any, int] = {}

    def stream(self, key: bytes) -> CountingProtocol:
        return self.streams[int(key.rsplit(b":", 1)[1]) % len(self.streams)]

    def plan(self, method: str, keys: Sequence[Any], value: bytes) -> None:
        if method == "get_many":
            request = b"get " + b" ".join(keys) + b"\r\n"
            size = sum(len(b"VALUE %s 0 %d\r\n\r\n" % (key, len(value))) + len(value) for key in keys) + 5
            self.plans[keys[0]] = (self.stream(keys[0]), request, size)
            return
        for key in keys:
            stream = self.stream(key)
            if method == "get":
                size = len(b"VALUE %s 0 %d\r\n\r\n" % (key, len(value))) + len(value)
                self.plans[key] = (stream, key, size)
            elif method == "set":
                self.plans[key] = (stream, b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value), len(b"STORED\r\n"))
            elif method == "incr":
                self.plans[key] = (stream, b"incr %s 1\r\n" % key, len(value) + 2)
            else:
                self.plans[key] = (stream, b"delete %s\r\n" % key, len(b"DELETED\r\n"))

    def get(self, key: bytes) -> Any:
        stream, key, size = self.plans[key]
        return stream.get(key, size)

    def set(self, key: bytes, value: bytes) -> Any:
        stream, request, size = self.plans[key]
        return stream.call(request, size)

    def incr(self, key: bytes, delta: int) -> Any:
        stream, request, size = self.plans[key]
        return stream.call(request, size)

    def delete(self, key: bytes) -> Any:
        stream, request, size = self.plans[key]
        return stream.call(request, size)

    def get_many(self, keys: Sequence[bytes]) -> Any:
        stream, request, size = self.plans[keys[0]]
        return stream.call(request, size)

    async def close(self) -> None:
        for stream in self.streams:
            if stream.expected != stream.received:
                raise RuntimeError(f"the floor expected {stream.expected} bytes and got {stream.received}")
            stream.transport.close()


# ---- mcext


class AsyncCache(Contestant):
    name = "mcext.AsyncCache"

    async def open(self, servers: list[str], tasks: int) -> None:
        import mcext

        self.cache = mcext.AsyncCache(servers)
        self.get, self.set, self.get_many = self.cache.get, self.cache.set, self.cache.get_many
        self.incr, self.delete = self.cache.incr, self.cache.delete

    def number(self, number: int) -> Any:
        return number

    async def close(self) -> None:
        await self.cache.aclose()


class Threads(Contestant):
    name = "to_thread(mcext.Cache)"

    async def open(self, servers: list[str], tasks: int) -> None:
        import mcext

        cache = mcext.Cache(servers)
        to_thread = asyncio.to_thread
        get, put, incr, delete, get_many = cache.get, cache.set, cache.incr, cache.delete, cache.get_many
        self.get = lambda key: to_thread(get, key)
        self.set = lambda key, value: to_thread(put, key, value)
        self.incr = lambda key, delta: to_thread(incr, key, delta)
        self.delete = lambda key: to_thread(delete, key)
        self.get_many = lambda keys: to_thread(get_many, keys)
        self.cache = cache

    def number(self, number: int) -> Any:
        return number

    async def close(self) -> None:
        self.cache.close()


class Blocking(Contestant):
    """The client that is no asyncio client, called as it is: nothing else runs meanwhile. What its calls cost is what
    asyncio can add to; a value of 1 MB is to be as fast as here."""

    name = "mcext.Cache, blocking"
    many_servers = False

    async def open(self, servers: list[str], tasks: int) -> None:
        import mcext

        self.cache = mcext.Cache(servers)

    async def get(self, key: str) -> Any:
        return self.cache.get(key)

    async def set(self, key: str, value: Any) -> Any:
        return self.cache.set(key, value)

    async def incr(self, key: str, delta: int) -> Any:
        return self.cache.incr(key, delta)

    async def delete(self, key: str) -> Any:
        return self.cache.delete(key)

    async def get_many(self, keys: Sequence[str]) -> Any:
        return self.cache.get_many(keys)

    def number(self, number: int) -> Any:
        return number

    async def close(self) -> None:
        self.cache.close()


# ---- the others


class Emcache(Contestant):
    name = "emcache"
    packages = ("emcache",)
    key = staticmethod(str.encode)
    autobatching = False

    async def open(self, servers: list[str], tasks: int) -> None:
        import emcache

        nodes = [emcache.MemcachedHostAddress(*host_and_port(server)) for server in servers]
        self.client = await emcache.create_client(nodes, autobatching=self.autobatching)
        self.get, self.set, self.get_many = self.client.get, self.client.set, self.client.get_many
        self.incr, self.delete = self.client.increment, self.client.delete

    def content(self, answer: Any, key: Any) -> Any:
        return answer.value

    async def close(self) -> None:
        await self.client.close()


class EmcacheBatching(Emcache):
    """Its autobatching merges the gets of a turn of the loop; other calls are as without."""

    name = "emcache, autobatching"
    autobatching = True


class Aiomcache(Contestant):
    name = "aiomcache"
    packages = ("aiomcache",)
    many_servers = False
    key = staticmethod(str.encode)

    async def open(self, servers: list[str], tasks: int) -> None:
        import aiomcache

        client = aiomcache.Client(*host_and_port(servers[0]))
        self.get, self.set, self.incr, self.delete = client.get, client.set, client.incr, client.delete
        multi_get = client.multi_get
        self.get_many = lambda keys: multi_get(*keys)
        self.client = client

    def contents(self, answer: Any, keys: Sequence[Any]) -> dict[Any, Any]:
        return dict(zip(keys, answer, strict=True))

    async def close(self) -> None:
        await self.client.close()


class Memcachio(Contestant):
    name = "memcachio"
    packages = ("memcachio",)
    key = staticmethod(str.encode)

    async def open(self, servers: list[str], tasks: int) -> None:
        import memcachio

        nodes: Any = [host_and_port(server) for server in servers]
        # A connection that waits while others have their turn is not to be closed for it.
        client = memcachio.Client(nodes[0] if len(nodes) == 1 else nodes, idle_connection_timeout=3600)
        self.get, self.set, self.incr, self.delete = client.get, client.set, client.incr, client.delete
        get = client.get
        self.get_many = lambda keys: get(*keys)
        self.client = client

    def content(self, answer: Any, key: Any) -> Any:
        return answer[key].value

    def contents(self, answer: Any, keys: Sequence[Any]) -> dict[Any, Any]:
        return {key: item.value for key, item in answer.items()}

    async def close(self) -> None:
        self.client.connection_pool.close()


class Redis(Contestant):
    """redis-py with hiredis and a redis-server: not a memcached, but what many would take instead."""

    name = "redis-py on redis"
    packages = ("redis", "hiredis")
    many_servers = False
    redis = True

    async def open(self, servers: list[str], tasks: int) -> None:
        import redis.asyncio as redis

        host, port = host_and_port(servers[0])
        # Its pool has a connection for each call that is under way, and a call that gets none fails.
        self.client = redis.Redis(host=host, port=port, max_connections=max(100, tasks))
        self.get, self.set, self.incr = self.client.get, self.client.set, self.client.incr
        self.delete, self.get_many = self.client.delete, self.client.mget

    def contents(self, answer: Any, keys: Sequence[Any]) -> dict[Any, Any]:
        return dict(zip(keys, answer, strict=True))

    async def close(self) -> None:
        await self.client.aclose()


FLOOR = Floor.name
CONTESTANTS: dict[str, type[Contestant]] = {
    one.name: one
    for one in (Floor, AsyncCache, Emcache, EmcacheBatching, Aiomcache, Memcachio, Threads, Blocking, Redis)
}
LOOPS = {"asyncio": "", "uvloop": "uvloop"}  # the package of each


def check(name: str) -> None:
    """Imports what the contestant needs; raises ImportError where it is not there."""
    import importlib

    contestant = CONTESTANTS[name]
    for package in contestant.packages:
        importlib.import_module(package)
    if contestant in (AsyncCache, Threads, Blocking):
        import mcext

        wanted = "AsyncCache" if contestant is AsyncCache else "Cache"
        if not hasattr(mcext, wanted):
            raise ImportError(f"mcext has no {wanted}")


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.new_event_loop()
