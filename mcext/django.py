"""Django's cache over mcext.Cache, and over mcext.AsyncCache where it is awaited.

    CACHES = {"default": {"BACKEND": "mcext.django.MemcachedCache", "LOCATION": "10.0.0.1:11211;10.0.0.2:11211"}}

docs/django.md is its guide.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, InvalidCacheKey
from django.core.cache.backends.memcached import BaseMemcachedCache
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.core.signals import setting_changed

import mcext
from mcext import AsyncCache, Cache, MemcacheError, PartialFailure, codecs, placement
from mcext.fill import LAST_SECOND
from mcext.settings import cache_options, options_known, server_list

__all__ = ["MemcachedCache"]

_OVER = 0  # what get_backend_timeout gives for a time that is over: Django's other caches expire the value at once
_LONGEST_KEY = 250  # bytes
_WAIT = 10.0  # seconds that a request waits for the value that another computes; then it computes, and stores nothing


# What another client's fleet holds: the codec of its values, and the placement by which it chose their servers.
_VALUES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "python-memcached": (lambda: None, placement.python_memcached),
    "pylibmc": (codecs.Pylibmc, lambda: placement.pylibmc({})),
    "pymemcache": (codecs.Pymemcache, placement.pymemcache),
}


class _Client(Cache[Any]):
    """A Cache that also has the names which Django's BaseMemcachedCache calls."""

    __slots__ = ()

    get_multi = Cache.get_many
    set_multi = Cache.set_many
    delete_multi = Cache.delete_many
    disconnect_all = Cache.close


class _Clients:
    """The clients of one configuration in this process: Django makes an object of the backend in each thread and task,
    and these share connections."""

    def __init__(self, servers: list[Any], options: Mapping[str, Any]) -> None:
        self._servers = servers
        self._options = options
        known = options_known(Cache)
        self.cache = _Client(servers, **{name: value for name, value in options.items() if name in known})
        self._of_loops: dict[asyncio.AbstractEventLoop, tuple[AsyncCache[Any], AsyncGenerator[None, None]]] = {}
        AsyncCache(servers, **options)  # refuses what is wrong now, not at the first call

    def of_this_loop(self) -> AsyncCache[Any]:
        loop = asyncio.get_running_loop()
        known = self._of_loops.get(loop)
        return known[0] if known else self._take(loop)

    def _take(self, loop: asyncio.AbstractEventLoop) -> AsyncCache[Any]:
        """One whose loop has been closed (async_to_sync has a loop a call) begins anew in this one; or there is one
        more."""
        cache = None
        for other in list(self._of_loops):
            if cache is None and other.is_closed():
                cache, _ = self._of_loops.pop(other, (None, None))
        cache = cache or AsyncCache(self._servers, **self._options)
        end = _closing(cache)
        with contextlib.suppress(StopIteration):
            end.__anext__().send(None)  # from now on the loop knows of it
        self._of_loops[loop] = cache, end
        return cache


async def _closing(cache: AsyncCache[Any]) -> AsyncGenerator[None, None]:
    """What a loop lets run to its end before it is closed (shutdown_asyncgens): there is nobody else to close cache."""
    try:
        yield
    finally:
        await cache.aclose()


# By configuration: a few. There is no lock, which a fork could leave held; what another thread was faster with is
# found by both.
_made: list[tuple[object, _Clients]] = []


def _clients(location: Any, written: Mapping[str, Any]) -> _Clients:
    """The first ones that were made for this configuration."""
    configuration = location, written
    if not any(known == configuration for known, _ in _made):
        _made.append((configuration, _Clients(server_list(location), _options(written))))
    return next(clients for known, clients in _made if known == configuration)


def _options(written: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of AsyncCache that OPTIONS has, and those that its `values` means."""
    rest = dict(written)
    name = rest.pop("values", None)
    options = {"errors": "miss", **cache_options(rest, source="OPTIONS", of=AsyncCache)}
    if name is not None:
        if not isinstance(name, str) or name not in _VALUES:
            raise ValueError(f"OPTIONS: values must be one of {', '.join(map(repr, _VALUES))}, not {name!r}")
        if "codec" in options:
            raise ValueError("OPTIONS: values and codec exclude each other")
        make_codec, make_placement = _VALUES[name]
        options["codec"] = make_codec()
        options.setdefault("placement", make_placement())
    return options


def _forget(*, setting: str, **unused: Any) -> None:
    """Tests replace settings; nobody else does."""
    if setting == "CACHES":
        while _made:
            _made.pop()[1].cache.close()


setting_changed.connect(_forget)


def _counted(key: str, value: int | None) -> int:
    if value is None:
        raise ValueError(f"Key {key!r} not found, or its value is no number")
    return value


class MemcachedCache(BaseMemcachedCache):
    """Django's cache over mcext.Cache and mcext.AsyncCache.

    LOCATION: "host:port", "unix:/path" and what else Cache takes, with ";", "," or white space between several; or a
        list.
    OPTIONS: Cache's and AsyncCache's keywords; a str as codec, compression, placement, tls_context or on_event is the
        dotted path of it. errors is "miss" unless it says otherwise: what fails is a miss. And besides:
    values: "python-memcached", "pylibmc" or "pymemcache": values and servers are as Django's backend of that name has
        stored and chosen them, and those that still use it read what this one stores.

    A call raises InvalidCacheKey for a key that memcached cannot have. Raises ImproperlyConfigured where LOCATION or
    OPTIONS are wrong.
    """

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        where = f"the cache at {server!r}"
        options = params.get("OPTIONS") or {}
        if not isinstance(options, Mapping):
            raise ImproperlyConfigured(f"{where}: OPTIONS must be a dict, not {type(options).__name__}")
        super().__init__(server, {**params, "OPTIONS": options}, mcext, ())
        self._class = _Client
        try:
            self._clients = _clients(server, options)
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"{where}: {error}") from error
        self._cache = self._clients.cache
        prefix = options.get("prefix", "")
        self._longest_key = _LONGEST_KEY - len(prefix.encode() if isinstance(prefix, str) else prefix)
        # Another client's readers would take the mark of a key that is being computed for a value.
        self._has_leases = "values" not in self._options

    # ---- times and keys

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float | None:
        """In seconds; None: for ever; 0: it is over."""
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        if seconds is None:
            return None
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if not isinstance(seconds, (int, float)):
            raise TypeError(f"timeout must be a number of seconds, a timedelta or None, not {type(seconds).__name__}")
        # Beyond what memcached can hold it is for ever.
        return max(float(seconds), _OVER) if seconds < LAST_SECOND - time.time() else None

    def validate_key(self, key: str) -> None:
        """Raises InvalidCacheKey where memcached cannot have it."""
        if not 0 < len(key) <= self._longest_key or " " in key or not (key.isascii() and key.isprintable()):
            if not key:
                raise InvalidCacheKey("Cache key is empty")
            super().validate_key(key)
            try:
                length = len(key.encode())
            except UnicodeEncodeError as error:  # half of a surrogate pair
                raise InvalidCacheKey(f"Cache key cannot be encoded in UTF-8: {key!r}") from error
            if length > self._longest_key:
                raise InvalidCacheKey(f"Cache key is longer than {self._longest_key} bytes in UTF-8: {key!r}")

    # ---- calls

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        key = self.make_and_validate_key(key, version=version)
        ttl = self.get_backend_timeout(timeout)
        if ttl == _OVER:
            return self._cache.add(key, value, 1) and self._cache.delete(key)
        return self._cache.add(key, value, ttl)

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> None:
        key = self.make_and_validate_key(key, version=version)
        ttl = self.get_backend_timeout(timeout)
        is_stored = False
        try:
            is_stored = ttl != _OVER and self._cache.set(key, value, ttl)
        finally:
            if not is_stored:  # no old value stays
                self._delete_quietly([key])

    def _delete_quietly(self, keys: list[str]) -> None:
        with contextlib.suppress(MemcacheError):  # of what failed before is told
            self._cache.delete_multi(keys)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        key = self.make_and_validate_key(key, version=version)
        ttl = self.get_backend_timeout(timeout)
        return self._cache.delete(key) if ttl == _OVER else self._cache.touch(key, ttl)

    def set_many(self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> list[Any]:
        ttl = self.get_backend_timeout(timeout)
        keys = {self.make_and_validate_key(key, version=version): key for key in data}
        failed = list(keys)
        try:
            if ttl != _OVER:
                failed = list(self._cache.set_multi({each: data[key] for each, key in keys.items()}, ttl))
        except PartialFailure as error:
            failed = error.keys
            raise
        finally:
            if failed:
                self._delete_quietly(failed)
        return [keys[each] for each in failed] if ttl != _OVER else []

    def get_or_set(self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> Any:
        """As Django's; where many callers miss a key at once, one of all processes computes it."""
        ttl = self.get_backend_timeout(timeout)
        if ttl == _OVER or not self._has_leases:
            return super().get_or_set(key, default, timeout=timeout, version=version)
        key = self.make_and_validate_key(key, version=version)
        return self._cache.get_or_set(key, default if callable(default) else lambda: default, ttl, wait=_WAIT)

    def incr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        key = self.make_and_validate_key(key, version=version)
        return _counted(key, self._cache.incr(key, delta) if delta >= 0 else self._cache.decr(key, -delta))

    def close(self, **kwargs: Any) -> None:
        """Keeps the connections: Django calls it at the end of each request."""

    # ---- the same, awaited: Django's own would do each in one thread of the process

    async def aget(self, key: Any, default: Any = None, version: Any = None) -> Any:
        key = self.make_and_validate_key(key, version=version)
        return await self._clients.of_this_loop().get(key, default)

    async def aget_many(self, keys: Iterable[Any], version: Any = None) -> dict[Any, Any]:
        asked = {self.make_and_validate_key(key, version=version): key for key in keys}
        found = await self._clients.of_this_loop().get_many(asked)
        return {asked[each]: value for each, value in found.items()}

    async def ahas_key(self, key: Any, version: Any = None) -> bool:
        return await self.aget(key, self._missing_key, version=version) is not self._missing_key

    async def aadd(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        each = self.make_and_validate_key(key, version=version)
        ttl, cache = self.get_backend_timeout(timeout), self._clients.of_this_loop()
        try:
            if ttl == _OVER:
                return await cache.add(each, value, 1) and await cache.delete(each)
            return await cache.add(each, value, ttl)
        except SynchronousOnlyOperation:  # a QuerySet, say: it is pickled in a thread, where it may ask the database
            return await super().aadd(key, value, timeout, version)  # type: ignore[no-any-return]

    async def aset(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> None:
        each = self.make_and_validate_key(key, version=version)
        ttl, cache = self.get_backend_timeout(timeout), self._clients.of_this_loop()
        is_stored = False
        try:
            is_stored = ttl != _OVER and await cache.set(each, value, ttl)
        except SynchronousOnlyOperation:
            await super().aset(key, value, timeout, version)
            is_stored = True
        finally:
            if not is_stored:
                await self._adelete_quietly([each])

    async def _adelete_quietly(self, keys: Iterable[Any]) -> None:
        with contextlib.suppress(MemcacheError):
            await self._clients.of_this_loop().delete_many(keys)

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> list[Any]:
        ttl = self.get_backend_timeout(timeout)
        keys = {self.make_and_validate_key(key, version=version): key for key in data}
        failed: list[Any] = list(keys)
        try:
            if ttl != _OVER:
                values = {each: data[key] for each, key in keys.items()}
                failed = await self._clients.of_this_loop().set_many(values, ttl)
        except SynchronousOnlyOperation:
            failed = []
            return await super().aset_many(data, timeout, version)  # type: ignore[no-any-return]
        except PartialFailure as error:
            failed = error.keys
            raise
        finally:
            if failed:
                await self._adelete_quietly(failed)
        return [keys[each] for each in failed] if ttl != _OVER else []

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        key = self.make_and_validate_key(key, version=version)
        ttl, cache = self.get_backend_timeout(timeout), self._clients.of_this_loop()
        return await cache.delete(key) if ttl == _OVER else await cache.touch(key, ttl)

    async def adelete(self, key: Any, version: Any = None) -> bool:
        return await self._clients.of_this_loop().delete(self.make_and_validate_key(key, version=version))

    async def adelete_many(self, keys: Iterable[Any], version: Any = None) -> None:
        await self._clients.of_this_loop().delete_many(
            [self.make_and_validate_key(key, version=version) for key in keys]
        )

    async def aincr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        key, cache = self.make_and_validate_key(key, version=version), self._clients.of_this_loop()
        return _counted(key, await (cache.incr(key, delta) if delta >= 0 else cache.decr(key, -delta)))

    async def adecr(self, key: Any, delta: int = 1, version: Any = None) -> int:
        return await self.aincr(key, -delta, version=version)

    async def aget_or_set(self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> Any:
        """As get_or_set; default may be an async function, too."""
        ttl = self.get_backend_timeout(timeout)
        computed = []

        async def compute() -> Any:
            value = default() if callable(default) else default
            computed.append(await value if inspect.isawaitable(value) else value)
            return computed[-1]

        try:
            if ttl != _OVER and self._has_leases:
                each = self.make_and_validate_key(key, version=version)
                return await self._clients.of_this_loop().get_or_set(each, compute, ttl, wait=_WAIT)
            value = await self.aget(key, self._missing_key, version=version)
            if value is not self._missing_key:
                return value
            await compute()
        except SynchronousOnlyOperation:
            if not computed:  # it is default's own
                raise
        await self.aadd(key, computed[-1], timeout, version=version)
        return await self.aget(key, computed[-1], version=version)  # another caller's, who was faster

    async def aclear(self) -> None:
        await self._clients.of_this_loop().flush_all()

    async def aclose(self, **kwargs: Any) -> None:
        """Keeps the connections, as close."""
