"""`mcext.AsyncCache`: Cache for asyncio. docs/asyncio.md is its guide.

    async with mcext.AsyncCache(["10.0.0.1:11211", "10.0.0.2:11211"], timeout=0.5) as cache:
        await cache.get_or_set("front page", render, ttl=60, stale=600)

What is hot is in C (binding/async_*.c): calls are coroutine objects, streams are protocols of asyncio's transports.
Here are the connects, and what is composed of several calls. Options, servers and counters are those of a Cache that
makes no calls of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from mcext import _core, async_fill
from mcext.cache import Cache, ServerState
from mcext.errors import (
    ConflictError,
    ConnectionLost,
    MemcacheError,
    PartialFailure,
    ProtocolError,
    ServerError,
    ServerUnavailable,
    partial_failure,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import timedelta
    from typing import Literal

    from typing_extensions import Self, TypeVar, Unpack

    from mcext.codecs import Codec, Serde
    from mcext.compress import Compression
    from mcext.events import Event
    from mcext.memo import AsyncDecorator, Options
    from mcext.placement import Placement
    from mcext.server import Server
    from mcext.tokens import Absent

    T = TypeVar("T", default=Any)
else:
    from collections.abc import Coroutine
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["AsyncCache"]

# What a server has of the meta protocol: as in core/wire/meta.h.
_UNKNOWN, _NONE, _LEASES, _STABLE = range(4)

# What a look found: as in binding/cache_lease.h.
_NO_META = 4

_ROUNDS = 16  # a number may go while it is made, and be made while it is asked for

Coroutine.register(_core._AsyncCall)


class _Stream(_core._AsyncStream, asyncio.BufferedProtocol):
    """A connection; gone is set when its transport has ended."""

    __slots__ = ("__weakref__", "gone")

    gone: asyncio.Future[None]

    def connection_made(self, transport: Any) -> None:
        self.gone = asyncio.get_running_loop().create_future()
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        super().connection_lost(error)


def _count(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 1 <= value <= most:
        raise ValueError(f"{name} must be between 1 and {most}, not {value}")
    return value


def _since(start: int, call: Any) -> Any:
    """The call as a step of one that began then, by time.monotonic_ns(): its time is the same."""
    call._start = start
    return call


def _words(error: BaseException) -> str:
    """What is told of a connect that failed."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ssl.SSLError):
        return f"[Errno {error.errno}] {error.strerror}"
    return str(error) or type(error).__name__


class AsyncCache(_core._AsyncCache[T]):
    """A client of one or more memcached servers for asyncio: Cache's methods, awaited.

    The options are Cache's, and besides:

    connections: streams to each server, 1 to 16: what is large goes by the second, so that small calls do not wait.
    max_pending: calls under way at one time; one more raises Overloaded, and nothing is sent.

    timeout is for the whole of a call, connect included, from when it is first run. Keys and ttl are as Cache's.

    All calls of one turn of the loop share streams: single gets go to a server in one line, and everything in one
    write. A call that is cancelled harms nobody: what was not yet written is not sent; of what was, the answer is read
    and dropped, and the server may have carried it out.

    It is made anywhere, and belongs to the event loop of its first call. A call in another running loop, or another
    thread, raises RuntimeError; when that loop has been closed, and in the child of a fork, it begins anew. Close it by
    `await aclose()` or `async with`; a later call opens it anew.

    Raises TypeError or ValueError for a wrong argument.
    """

    __slots__ = ("_cache", "_flights", "_leases", "_made_in", "_readying", "_streams", "_tasks", "_timeout")

    _stream_class = _Stream

    def __init__(
        self,
        servers: str | Iterable[str | tuple[str, int] | Server],
        *,
        timeout: float = 1.0,
        connect_timeout: float | None = None,
        dead_retry: float = 5.0,
        errors: Literal["raise", "miss"] = "raise",
        prefix: str | bytes = "",
        codec: Codec[T] | Serde | None = None,
        compression: Compression | None = None,
        max_value_length: int = 134217728,
        allow_pickle: bool = True,
        on_event: Callable[[Event], object] | None = None,
        slow: float | None = None,
        placement: Placement | None = None,
        on_dead: Literal["walk", "miss", "next"] | None = None,
        tls_context: ssl.SSLContext | None = None,
        tls_server_hostname: str | None = None,
        username: str | bytes | None = None,
        password: str | bytes | Callable[[], str | bytes] | None = None,
        connections: int = 2,
        max_pending: int = 10_000,
    ) -> None:
        connections = _count("connections", connections, 16)
        max_pending = _count("max_pending", max_pending, 2**31 - 1)
        try:
            self._cache: Cache[T] = Cache(
                servers,
                timeout=timeout,
                connect_timeout=connect_timeout,
                dead_retry=dead_retry,
                errors=errors,
                prefix=prefix,
                codec=codec,
                compression=compression,
                max_value_length=max_value_length,
                allow_pickle=allow_pickle,
                on_event=on_event,
                slow=slow,
                placement=placement,
                on_dead=on_dead,
                tls_context=tls_context,
                tls_server_hostname=tls_server_hostname,
                username=username,
                password=password,
            )
        finally:
            del username, password  # no traceback has them among its locals
        super().__init__(self._cache, timeout, max_value_length, connections, max_pending)
        self._timeout = int(min(timeout, 1e9) * 1e9)
        self._made_in: tuple[Any, int] = (None, 0)
        self._start_over()
        self._leases: dict[bytes, tuple[int, float]] = {}

    # ---- what belongs to a loop

    def _start_over(self) -> None:
        self._tasks: dict[asyncio.Task[None], _Stream] = {}  # connects under way
        self._streams: set[_Stream] = set()
        self._flights: dict[bytes, Any] = {}
        self._readying: asyncio.Future[None] | None = None

    def _enter(self) -> asyncio.AbstractEventLoop:
        """The running loop. What another one has left, or the parent of this process, is forgotten."""
        loop, generation = asyncio.get_running_loop(), _core._generation()
        if self._made_in[0] is not loop or self._made_in[1] != generation:
            if self._loop not in (None, loop) and self._made_in[1] == generation and not self._loop.is_closed():
                raise RuntimeError(f"{self!r} belongs to the event loop {self._loop!r}, and is used in {loop!r}")
            self._made_in = loop, generation
            self._start_over()
        return loop

    def _flights_of_this_loop(self) -> dict[bytes, Any]:
        self._enter()
        return self._flights

    # ---- connects

    def _open(self, stream: _Stream, host: Any) -> None:
        """A stream is needed: it is told when it is there, or why not.

        What its first caller has among his context variables is not kept for as long as the connection is.
        """
        task = contextvars.Context().run(self._enter().create_task, self._connect(stream, host))
        tasks = self._tasks
        tasks[task] = stream
        task.add_done_callback(lambda task: tasks.pop(task, None))

    async def _connect(self, stream: _Stream, host: Any) -> None:
        failed: tuple[str, str, BaseException | None]
        await asyncio.sleep(0)  # an eager task would fail before anybody waits for it
        try:
            refused = await asyncio.wait_for(self._make_connection(stream, host), host.connect_timeout)
            if refused is None:
                if stream._opened() is not False:
                    return
                failed = "ServerUnavailable", "the server closed the connection", None
            else:
                failed = "AuthenticationError", *refused
        except asyncio.TimeoutError:
            failed = "ServerTimeout", "the connect timed out", None
        except asyncio.CancelledError:  # the loop ends: it says nothing about the server
            stream._given_up()
            raise
        except ProtocolError:  # to name and password: nothing else is asked before it is open
            failed = (
                "AuthenticationError",
                "the server's answer to the username and the password is not one of memcached's",
                None,
            )
        except Exception as error:
            text = str(error.args[0]) if isinstance(error, MemcacheError) else _words(error)
            failed = "ServerUnavailable", text, None if isinstance(error, MemcacheError) else error
        try:
            stream._failed(*failed)
        finally:
            del failed  # whose traceback has this frame

    async def _make_connection(self, stream: _Stream, host: Any) -> Any:
        """Connects, and says name and password: None, or why these were refused."""
        loop = asyncio.get_running_loop()
        context, name = self._cache._tls
        if isinstance(host.address, str):
            await loop.create_unix_connection(lambda: stream, host.address)
        elif context is not None:
            await loop.create_connection(
                lambda: stream, host.ip, host.port, ssl=context, server_hostname=name or host.ip
            )
        else:
            await loop.create_connection(lambda: stream, host.ip, host.port)
        self._streams.add(stream)
        stream.gone.add_done_callback(lambda _: self._streams.discard(stream))
        return await self._greet(stream) if self._cache._secrets is not None else None

    def _make_ready(self) -> Awaitable[None]:
        """Servers that are found by asking are asked, in a thread: its end."""
        loop = self._enter()
        if self._readying is None or self._readying.done():
            self._readying = loop.run_in_executor(None, self._ask_sources)
        return asyncio.shield(self._readying)

    def _ask_sources(self) -> None:
        watch = _core._watch(self._cache)
        if watch is not None:
            watch.ready(self._cache)

    async def aclose(self) -> None:
        """Close the connections; those in use when their calls end. A later call opens new ones.

        Where servers are found by asking, the thread that asks ends, too.
        """
        loop = self._enter()
        self._cache.close()
        if self._loop is not loop:
            return
        self._retire(True)
        # Those of now: a call that is made up of several and goes on opens new ones.
        tasks, streams = list(self._tasks), [*self._tasks.values(), *self._streams]
        if tasks:
            await asyncio.wait(tasks)
        ends = [stream.gone for stream in streams if hasattr(stream, "gone")]
        if ends:
            await asyncio.wait(ends)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *unused: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<mcext.AsyncCache of {', '.join(self._cache._hosts) or 'no servers'}>"

    # ---- composed of several calls

    async def _level(self, key: str | bytes, start: int, is_md: bool) -> int:
        """What the server of key has of the meta protocol; it is asked where that is not known. is_md: of that command
        is told what fails, else of mg."""
        known = self._meta_level(key)
        if known is None:
            return _STABLE  # there is no server, which the call behind this tells
        level, host = known
        return await self._ask_level(host, start, is_md) if level == _UNKNOWN else level

    async def _ask_level(self, host: Any, start: int, is_md: bool) -> int:
        level: int
        try:
            level = await _since(start, self._probe(host, None, is_md))
        except (ConnectionLost, ProtocolError):  # twemproxy and mcrouter close
            level = _NONE
        self._set_meta(host, level)
        return level

    def _is_late(self, start: int) -> bool:
        return time.monotonic_ns() - start >= self._timeout

    async def _by_level(
        self, key: str | bytes, ask: Callable[[int, int], Awaitable[Any]], missed: Any, is_md: bool = False
    ) -> Any:
        """ask(level, start), by what the server of key has. Where a server cannot be asked what it has, the next one
        that there is for key is."""
        start = time.monotonic_ns()
        failed: MemcacheError | None = None
        level = None
        while level is None:
            try:
                level = await self._level(key, start, is_md)
            except MemcacheError as error:
                is_known = failed is not None and failed.server == error.server
                is_last = self._is_late(start) or is_known or error.server is None
                failed = failed or error
                if is_known and not is_md and not self._is_late(start):
                    level = _LEASES  # mg harms no server; the call finds the next one itself
                elif is_last:
                    if self.errors == "miss":
                        return missed
                    raise failed from None
        try:
            return await ask(level, start)
        except ServerUnavailable as error:
            if failed is None or error.server not in (None, failed.server):
                raise
            raise failed from None  # which says why

    async def get_item(self, key: str | bytes) -> _core.Item[T] | None:
        """Fetch an Item; see Cache.get_item."""

        async def ask(level: int, start: int) -> Any:
            if level != _NONE:
                found = await _since(start, self._item(key))
                if found is not NotImplemented:
                    if found is None:  # a miss, by errors
                        return None
                    item, is_won, token = found
                    return await self._without_lease(key, item, token) if is_won else item
            return await _since(start, self._gets_item(key))

        return await self._by_level(key, ask, None)  # type: ignore[no-any-return]

    async def _sort_by_level(
        self, keys: Iterable[str | bytes], start: int
    ) -> tuple[dict[bool, list[str | bytes]], dict[str | bytes, MemcacheError]]:
        """Keys by whether their servers have the meta protocol, and those whose servers cannot be asked."""
        known = [(key, self._meta_level(key)) for key in keys]
        hosts = list({id(at[1]): at[1] for _, at in known if at and at[0] == _UNKNOWN}.values())
        asked = await asyncio.gather(*(self._ask_level(host, start, False) for host in hosts), return_exceptions=True)
        levels = dict(zip(map(id, hosts), asked, strict=True))
        by_meta: dict[bool, list[str | bytes]] = {True: [], False: []}
        failed: dict[str | bytes, MemcacheError] = {}
        for key, at in known:
            level = _STABLE if at is None else levels.get(id(at[1]), at[0])
            if isinstance(level, MemcacheError):
                failed[key] = level
            elif isinstance(level, BaseException):
                raise level
            else:
                by_meta[level != _NONE].append(key)
        return by_meta, failed

    async def get_items(self, keys: Iterable[str | bytes]) -> dict[str | bytes, _core.Item[T]]:
        """Fetch many Items, from all their servers at once; see Cache.get_items."""
        start = time.monotonic_ns()
        by_meta, unasked = await self._sort_by_level(keys, start)
        if unasked and not self._is_late(start):  # the next servers that there are for these
            by_meta[True] += unasked
        elif self.errors == "miss":
            unasked = {}
        result: dict[str | bytes, _core.Item[T]] = {}
        failed: list[Any] = []
        won: list[tuple[str | bytes, int]] = []
        try:
            for is_meta, some in by_meta.items():
                if not some:
                    continue
                try:
                    found = await _since(start, self._items(some) if is_meta else self._gets_items(some))
                    if found is NotImplemented:
                        found = await _since(start, self._gets_items(some))
                except PartialFailure as error:
                    failed.append(error)
                    result.update(error.result)
                    continue
                result.update(found[0])
                won += found[1]
            while won:
                key, token = won.pop(0)
                renewed = await self._without_lease(key, result.get(key), token)
                if renewed is not None:
                    result[key] = renewed
        finally:
            for key, token in won:  # this call has ended before
                self._let_go(key, token)
        undone = [key for failure in failed for key in failure.keys]
        errors = {server: each for failure in failed for server, each in failure.errors.items()}
        for key, why in unasked.items():
            if key in undone or key not in by_meta[True]:
                there = errors.get(why.server)
                if there is None or isinstance(there, ServerUnavailable):
                    errors[why.server] = why
                if key not in undone:
                    undone.append(key)
        if not undone:
            return result
        raise partial_failure("mg", result, errors, undone)

    async def _without_lease(self, key: str | bytes, item: _core.Item[T] | None, token: int) -> _core.Item[T] | None:
        """An mg of a stale item is given the lease on it, which nobody asked for: it goes back, which gives the item
        another token. Where that fails, the item is recomputed when it has expired."""
        try:
            await self._release(key, token, True)
            again = await self._gets_item(key) if item is not None else None
        except MemcacheError:
            return item
        if item is None or again is None:
            return item
        return _core.Item([again.value, again.flags, again.cas, *list(item)[3:]])

    def _let_go(self, key: str | bytes, token: int) -> None:
        """The same where nobody can wait any more."""
        release = self._release(key, token, True)
        with contextlib.suppress(StopIteration, MemcacheError, RuntimeError):  # the last: no loop runs
            release.send(None)
        release.close()

    async def get_and_touch(self, key: str | bytes, ttl: float | timedelta | None, default: Any = None) -> Any:
        """Fetch the value of key, and set a new time to live; see Cache.get_and_touch."""

        async def ask(level: int, start: int) -> Any:
            if level != _NONE:
                found = await _since(start, self._touched(key, ttl))
                if found is None:  # a miss, by errors
                    return default
                if found is not NotImplemented:
                    is_there, value, is_won, token = found
                    if is_won:
                        await self._without_lease(key, None, token)
                    return value if is_there else default
            if not await _since(start, self.touch(key, ttl)):
                return default
            try:
                return await _since(start, self.get(key, default))
            except MemcacheError as error:
                error.may_have_run = True  # the touch has
                raise

        return await self._by_level(key, ask, default)

    async def _delete_by_token(self, key: str | bytes, token: int) -> bool:
        _core._check_token(token)

        async def ask(level: int, start: int) -> bool:
            if level == _STABLE:
                done = await _since(start, self._md(key, b"C%d" % token))
                if done is not NotImplemented:
                    return bool(done)
            if self.errors == "miss":
                return False
            raise ServerError(
                "the server has no meta protocol (memcached 1.6.10)", server=self.server_for(key), command="md"
            )

        return await self._by_level(key, ask, False, is_md=True)  # type: ignore[no-any-return]

    async def _count(self, name: str, key: str | bytes, delta: Any, initial: Any, ttl: Any) -> int | None:
        """incr and decr with initial."""
        delta = 1 if delta is None else delta
        ask = self.incr if name == "incr" else self.decr
        if initial is not None:
            _core._check_initial(initial)
        _core._check_ttl(ttl)
        for _ in range(_ROUNDS):
            number = await ask(key, delta)
            if number is not None or initial is None:
                return number
            made = await self._add_number(key, initial, ttl)
            if made is None:
                return None
            if made:
                return initial  # type: ignore[no-any-return]
        if self.errors == "miss":
            return None
        raise ConflictError("others were faster at each try", command=name)

    # ---- what mcext.async_fill asks

    async def _look(self, key: str | bytes, lease: int, refresh: int) -> Any:
        look = super()._look

        async def ask(level: int, start: int) -> Any:
            found = await _since(start, look(key, lease, refresh)) if level != _NONE else NotImplemented
            return (_NO_META, None, 0, False) if found is NotImplemented else found

        return await self._by_level(key, ask, None)

    async def _invalidate(self, key: str | bytes, seconds: int) -> bool | None:
        """None: the server has no meta protocol."""

        async def ask(level: int, start: int) -> bool | None:
            if level == _NONE:
                return None
            done = await _since(start, self._md(key, b"I T%d" % seconds if seconds >= 0 else b"I"))
            return None if done is NotImplemented else bool(done)

        return await self._by_level(key, ask, False, is_md=True)  # type: ignore[no-any-return]

    def _count_fill(self, key: str | bytes, which: int) -> None:
        self._cache._count_fill(key, which)

    async def get_or_set(
        self,
        key: str | bytes,
        factory: Callable[[], T | Awaitable[T]],
        ttl: float | timedelta | None = None,
        *,
        refresh: float | timedelta = 0,
        lease: float | timedelta = 30,
        wait: float | timedelta | None = None,
        stale: float | timedelta = 0,
        fallback: Literal["compute", "raise"] = "compute",
    ) -> T:
        """Fetch the value of key, or factory() once among all processes, which is then stored; see Cache.get_or_set.

        factory: plain, or async. A caller that is cancelled while it computes gives its lease back, and another one
        takes over.
        """
        return await async_fill.get_or_set_async(  # type: ignore[no-any-return]
            self, key, factory, ttl, refresh, lease, wait, stale, fallback
        )

    async def update(
        self,
        key: str | bytes,
        function: Callable[[T | Absent], T | Awaitable[T]],
        ttl: float | timedelta | None = None,
        *,
        retries: int = 16,
    ) -> T | None:
        """Store function(value), again from the start where somebody else was faster; see Cache.update.

        function: plain, or async.
        """
        return await async_fill.update_async(self, key, function, ttl, retries)  # type: ignore[no-any-return]

    async def invalidate(self, key: str | bytes, *, stale: float | timedelta | None = None) -> bool:
        """From now on get_or_set computes key anew; see Cache.invalidate."""
        return await async_fill.invalidate_async(self, key, stale)

    def memoize(
        self,
        ttl: float | timedelta | None = None,
        *,
        key: Callable[..., str | bytes] | None = None,
        **options: Unpack[Options],
    ) -> AsyncDecorator:
        """A decorator: what the function returns is kept, as by get_or_set; see Cache.memoize.

        The function may be plain or async; decorated it is async, and so is its forget(...).
        """
        # Here: CPython 3.12 crashes where a second sub-interpreter imports datetime or decimal, which it needs.
        from mcext import memo

        return memo.memoize(self, ttl, key, options, is_async=True)

    # ---- servers and options

    @property
    def errors(self) -> Literal["raise", "miss"]:
        """What becomes of a failure: "raise" or "miss"."""
        return self._cache.errors

    @property
    def servers(self) -> tuple[ServerState, ...]:
        """The servers, as named tuples (address, alive, connections)."""
        return tuple(
            ServerState(address, host.deaduntil == 0, self._connections(host))
            for address, (host, _) in self._cache._hosts.items()
        )

    def set_servers(self, servers: str | Iterable[str | tuple[str, int] | Server]) -> None:
        """From now on these servers; see Cache.set_servers."""
        self._cache.set_servers(servers)
        with contextlib.suppress(RuntimeError):  # where no loop runs: streams of servers that left end when idle
            if self._loop is asyncio.get_running_loop():
                self._retire(False)

    async def refresh_servers(self) -> None:
        """Ask now which servers there are; see Cache.refresh_servers."""
        await asyncio.get_running_loop().run_in_executor(None, self._cache.refresh_servers)

    def server_for(self, key: str | bytes) -> str | None:
        """The address of the server that key belongs to; see Cache.server_for."""
        return self._cache.server_for(key)

    def metrics(self, reset: bool = False) -> dict[str, Any]:
        """What has been counted; see Cache.metrics."""
        return self._cache.metrics(reset)

    @property
    def on_event(self) -> Callable[[Event], object] | None:
        """Called with an Event behind a call that failed or was slow, a dead mark, a connect; or None."""
        return self._cache.on_event

    @on_event.setter
    def on_event(self, hook: Callable[[Event], object] | None) -> None:
        self._cache.on_event = hook

    @property
    def slow(self) -> float | None:
        """Seconds from which on a call is an event; 0: every call is; None: none is."""
        return self._cache.slow

    @slow.setter
    def slow(self, seconds: float | None) -> None:
        self._cache.slow = seconds

    @property
    def placement(self) -> Placement:
        """Which server a key goes to."""
        return self._cache.placement

    @property
    def on_dead(self) -> Literal["walk", "miss", "next"]:
        """What becomes of a key whose server is dead: "walk", "miss" or "next"."""
        return self._cache.on_dead

    # ---- about all servers

    async def _ask_all(self, command: str, ask: Callable[[Any], Awaitable[Any]]) -> dict[str, Any]:
        if _core._watch(self._cache) is not None:
            await self._make_ready()
        hosts = {address: host for address, (host, _) in self._cache._hosts.items()}
        answers = await asyncio.gather(*map(ask, hosts.values()), return_exceptions=True)
        result: dict[str, Any] = {}
        failed: dict[str, MemcacheError] = {}
        for address, answer in zip(hosts, answers, strict=True):
            if isinstance(answer, MemcacheError):
                failed[address] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                result[address] = answer
        if failed and self.errors == "raise":
            raise partial_failure(command, result, failed, [])
        return result

    async def flush_all(self, delay: float = 0) -> None:
        """Expire all items of all servers, in delay seconds; see Cache.flush_all."""
        text = Cache._delay(delay)
        await self._ask_all("flush_all", lambda host: self._flush_all(host, text))

    async def stats(self, argument: str | None = None) -> dict[str, dict[str, str]]:
        """The statistics of each server; see Cache.stats."""
        _core._check_stats_argument(argument)
        return await self._ask_all("stats", lambda host: self._stats(host, argument))

    async def version(self) -> dict[str, str]:
        """The version of each server; see Cache.version."""
        return await self._ask_all("version", self._version)
