"""A cache for aiocache, over mcext.AsyncCache.

    caches.set_config({"default": {"cache": "mcext.aiocache.MemcachedCache", "servers": ["10.0.0.1:11211"]}})

docs/frameworks.md has more. Values are stored as aiocache's own memcached cache stores them: each reads the other's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from aiocache.base import BaseCache
from aiocache.serializers import JsonSerializer

from mcext.async_cache import AsyncCache
from mcext.errors import MemcacheError, PartialFailure, ServerError
from mcext.settings import cache_options, server_list
from mcext.tokens import ABSENT

__all__ = ["MemcachedCache"]


class MemcachedCache(BaseCache):
    """aiocache's cache in memcached.

    servers: a str or a list of what mcext.AsyncCache takes.
    timeout: seconds that a call may take.
    serializer: one of aiocache's; None: its JsonSerializer.
    plugins, namespace, key_builder, ttl: aiocache's.
    options: those of mcext.AsyncCache.

    What fails is a miss, False, or -1 of increment; add and RedLock go on as if there had been nothing. With
    errors="raise" it is raised. Raises TypeError or ValueError for wrong arguments.

    client is the mcext.AsyncCache, for its metrics() and for raw().
    """

    NAME = "mcext"

    def __init__(
        self,
        servers: Any = "127.0.0.1:11211",
        *,
        serializer: Any = None,
        plugins: Any = None,
        namespace: str | None = None,
        key_builder: Any = None,
        timeout: float = 5,
        ttl: float | None = None,
        errors: str = "miss",
        **options: Any,
    ) -> None:
        # aiocache's own timeout is an exception, and costs a task a call: the client has one.
        super().__init__(serializer or JsonSerializer(), plugins, namespace, key_builder, timeout=None, ttl=ttl)
        if errors not in ("raise", "miss"):
            raise ValueError(f"errors must be 'raise' or 'miss', not {errors!r}")
        known = cache_options(options, source="options of mcext.aiocache.MemcachedCache", of=AsyncCache)
        # It raises: a key that is there already is not one that could not be stored. Nothing is unpickled: values are
        # the serializer's.
        known = {"allow_pickle": False, **known, "errors": "raise", "timeout": timeout}
        self.client: AsyncCache[Any] = AsyncCache(server_list(servers), **known)
        self._failures: contextlib.AbstractContextManager[object] = (
            contextlib.suppress(MemcacheError) if errors == "miss" else contextlib.nullcontext()
        )

    def _build_key(self, key: Any, namespace: str | None = None) -> str:
        return str(super()._build_key(key, namespace=namespace).replace(" ", "_"))

    async def _get(self, key: Any, encoding: str | None = "utf-8", _conn: Any = None) -> Any:
        value = None
        with self._failures:
            value = await self.client.get(key)
        return _text(value, encoding)

    async def _gets(self, key: Any, encoding: str | None = "utf-8", _conn: Any = None) -> int | None:
        item = None
        with self._failures:
            item = await self.client.get_item(key)
        return None if item is None else item.cas

    async def _multi_get(self, keys: Iterable[Any], encoding: str | None = "utf-8", _conn: Any = None) -> list[Any]:
        keys = list(keys)
        found: dict[Any, Any] = {}
        with self._failures:
            try:
                found = await self.client.get_many(keys)
            except PartialFailure as failure:
                found = failure.result
                raise
        return [_text(found.get(key), encoding) for key in keys]

    async def _set(
        self, key: Any, value: Any, ttl: Any = None, _cas_token: int | None = None, _conn: Any = None
    ) -> bool:
        with self._failures:
            return await self.client.set(key, _data(value), ttl or None, cas=_cas_token)
        return False

    async def _multi_set(self, pairs: Iterable[tuple[Any, Any]], ttl: Any = None, _conn: Any = None) -> bool:
        with self._failures:
            await self.client.set_many({key: _data(value) for key, value in pairs}, ttl or None)
        return True

    async def _add(self, key: Any, value: Any, ttl: Any = None, _conn: Any = None) -> bool:
        is_new = True
        with self._failures:
            is_new = await self.client.add(key, _data(value), ttl or None)
        if not is_new:
            raise ValueError(f"Key {key!r} already exists, use .set to update the value")
        return True

    async def _exists(self, key: Any, _conn: Any = None) -> bool:
        with self._failures:
            return await self.client.get(key, ABSENT) is not ABSENT
        return False

    async def _increment(self, key: Any, delta: int, _conn: Any = None) -> int:
        with self._failures:
            try:
                return await self._count(key, delta)
            except ServerError as error:
                raise TypeError(f"Value is not an integer that can be incremented: {error.message}") from error
        return -1

    async def _count(self, key: Any, delta: int) -> int:
        """memcached's own numbers are never below 0: what is, is text to it."""
        while True:
            if delta >= 0:
                count = await self.client.incr(key, delta, initial=delta)
            else:
                count = await self.client.decr(key, -delta)
            if count is not None:
                return count
            if await self.client.add(key, _data(str(delta))):
                return delta

    async def _expire(self, key: Any, ttl: Any, _conn: Any = None) -> bool:
        with self._failures:
            return await self.client.touch(key, ttl or None)
        return False

    async def _delete(self, key: Any, _conn: Any = None) -> int:
        with self._failures:
            return int(await self.client.delete(key))
        return 0

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        if namespace:
            raise ValueError("memcached cannot be cleared of one namespace")
        with self._failures:
            await self.client.flush_all()
        return True

    async def _raw(
        self, command: str, *args: Any, encoding: str | None = "utf-8", _conn: Any = None, **kwargs: Any
    ) -> Any:
        result = await getattr(self.client, command)(*args, **kwargs)
        return _text(result, encoding) if command == "get" else result

    async def _redlock_release(self, key: Any, value: Any) -> bool:
        """Whether the lock was this one's, and is no more."""
        with self._failures:
            item = await self.client.get_item(key)
            if item is None or item.value != _data(value):
                return False
            try:
                return await self.client.delete(key, cas=item.cas)
            except ServerError:  # it has no meta protocol, which that takes
                return await self.client.delete(key)
        return False

    async def _close(self, *args: Any, _conn: Any = None, **kwargs: Any) -> None:
        await self.client.aclose()

    def __repr__(self) -> str:
        return f"MemcachedCache ({', '.join(server.address for server in self.client.servers)})"


def _data(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _text(value: Any, encoding: str | None) -> Any:
    """What the serializer is given: bytes, or text of this encoding. A counter is an int, as we read it."""
    data = _data(str(value) if isinstance(value, int) else value)
    return data.decode(encoding) if isinstance(data, bytes) and encoding is not None else data
