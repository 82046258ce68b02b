"""A cache for cachelib, and so for what takes one of its caches (Flask-Session, say), over mcext.Cache.

    from mcext.cachelib import MemcachedCache

    cache = MemcachedCache(["10.0.0.1:11211"], default_timeout=300, key_prefix="shop:", timeout=0.5)

mcext.flask has it for Flask-Caching. docs/frameworks.md has more.
"""

from __future__ import annotations

import re
from typing import Any

from cachelib.base import BaseCache

from mcext.cache import Cache
from mcext.settings import cache_options, server_list
from mcext.tokens import ABSENT

__all__ = ["MemcachedCache"]

_LONGEST_KEY = 250  # bytes
_is_clean = re.compile(r"[^\x00-\x20\x7f]+").fullmatch


class MemcachedCache(BaseCache):
    """cachelib's cache in memcached.

    servers: a str or a list of what mcext.Cache takes; None: one on this machine.
    default_timeout: seconds that a value is kept where nothing is said; 0: until it is evicted.
    key_prefix: stands before each key on the server.
    ignore_delete_many_errors: has no effect: what a server that fails had is as good as deleted.
    options: those of mcext.Cache.

    What fails is None, False, or a key that was not stored; with errors="raise" it is raised. As with cachelib's own,
    what cannot be a key is not there, and cannot be stored (ValueError). Raises TypeError or ValueError for wrong
    arguments.

    cache is the mcext.Cache, for its metrics().
    """

    _source = "options of mcext.cachelib.MemcachedCache"

    def __init__(
        self,
        servers: Any = None,
        default_timeout: int = 300,
        key_prefix: str | None = None,
        ignore_delete_many_errors: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(default_timeout)
        self.ignore_delete_many_errors = ignore_delete_many_errors
        self.key_prefix = key_prefix
        known = {"errors": "miss", "prefix": key_prefix or "", **cache_options(options, source=self._source)}
        self.cache: Cache[Any] = Cache(server_list("127.0.0.1:11211" if servers is None else servers), **known)

    def _is_key(self, key: str) -> bool:
        return bool(_is_clean(key)) and len(f"{self.key_prefix or ''}{key}".encode()) <= _LONGEST_KEY

    def _ttl(self, timeout: Any) -> tuple[Any, bool]:
        """A ttl of Cache; and whether it is over already, which Cache takes none of."""
        seconds = self._normalize_timeout(timeout)
        return seconds or None, seconds < 0

    def get(self, key: str) -> Any:
        return self.cache.get(key) if self._is_key(key) else None

    def get_dict(self, *keys: str) -> dict[str, Any]:
        found = self.cache.get_many([key for key in keys if self._is_key(key)])
        return {key: found.get(key) for key in keys}

    def get_many(self, *keys: str) -> list[Any]:
        return list(map(self.get_dict(*keys).__getitem__, keys))

    def has(self, key: str) -> bool:
        return self._is_key(key) and self.cache.get(key, ABSENT) is not ABSENT

    def set(self, key: str, value: Any, timeout: Any = None) -> bool:
        ttl, is_over = self._ttl(timeout)
        if is_over:
            self.cache.delete(key)
            return True
        return self.cache.set(key, value, ttl)

    def add(self, key: str, value: Any, timeout: Any = None) -> bool:
        ttl, is_over = self._ttl(timeout)
        if is_over:
            return self.cache.add(key, value, 1) and self.cache.delete(key)
        return self.cache.add(key, value, ttl)

    def set_many(self, mapping: dict[str, Any], timeout: Any = None) -> list[Any]:
        ttl, is_over = self._ttl(timeout)
        if is_over:
            self.cache.delete_many(mapping)
            return list(mapping)
        failed = set(self.cache.set_many(mapping, ttl))
        return [key for key in mapping if key not in failed]

    def delete(self, key: str) -> bool:
        return self._is_key(key) and self.cache.delete(key)

    def delete_many(self, *keys: str) -> list[Any]:
        usable = [key for key in keys if self._is_key(key)]
        self.cache.delete_many(usable)
        return usable

    def clear(self) -> bool:
        self.cache.flush_all()
        return True

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add delta, by token: nobody's increment is lost. memcached's own numbers are never below 0."""
        return self.cache.update(key, lambda value: (value or 0) + delta, self._ttl(None)[0], retries=100)

    def dec(self, key: str, delta: int = 1) -> int | None:
        return self.inc(key, -delta)
