"""A backend for dogpile.cache, over mcext.Cache. Installed, it is known by its name:

    region = make_region().configure(
        "mcext.memcached", expiration_time=3600, arguments={"url": ["10.0.0.1:11211"], "distributed_lock": True}
    )

docs/frameworks.md has more. Values are stored as `dogpile.cache.memcached` stores them: each reads the other's.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from dogpile.cache.api import NO_VALUE, BackendFormatted, BackendSetType, CacheBackend, CacheMutex

from mcext.cache import Cache
from mcext.errors import MemcacheError, PartialFailure, ServerError
from mcext.settings import cache_options, options_known, server_list
from mcext.warn import warn

__all__ = ["MemcachedBackend", "MemcachedLock"]

_NAP, _NAP_AT_MOST = 0.005, 0.25  # seconds, between two looks at a lock


class MemcachedBackend(CacheBackend):
    """dogpile.cache's backend of the name "mcext.memcached".

    arguments: url: the servers, a str or a list of what mcext.Cache takes; mcext.Cache's options; and
        memcached_expire_time: seconds for which memcached keeps a value; 0 or None: until it is evicted.
        distributed_lock: True: one creator of a value among all processes, by a lock in memcached.
        lock_timeout: seconds after which a lock of one that died is free again; 0: never. The default is 30.

    What fails is no value, and a lock is granted that no server has: who wants the value creates it. With
    errors="raise" it is raised. As with dogpile's other backends arguments that there are not are let pass: with a
    RuntimeWarning. Raises TypeError or ValueError for wrong ones.

    cache is the mcext.Cache, for its metrics().
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        options = dict(arguments)
        servers = server_list(options.pop("url"))
        self.distributed_lock = bool(options.pop("distributed_lock", False))
        self.lock_timeout = _seconds("lock_timeout", options.pop("lock_timeout", 30))
        self._expire_time = _seconds("memcached_expire_time", options.pop("memcached_expire_time", None))
        errors = options.pop("errors", "miss")
        if errors not in ("raise", "miss"):
            raise ValueError(f"errors must be 'raise' or 'miss', not {errors!r}")
        unknown = sorted(options.keys() - set(options_known()))
        if unknown:
            warn(f"mcext.memcached knows no such arguments, and does without them: {', '.join(unknown)}")
        known = {name: options[name] for name in options.keys() - set(unknown)}
        # It raises: a lock that another has is not one that no server has.
        self.cache: Cache[Any] = Cache(servers, errors="raise", **cache_options(known, source="arguments"))
        self._failures: contextlib.AbstractContextManager[object] = (
            contextlib.suppress(MemcacheError) if errors == "miss" else contextlib.nullcontext()
        )

    def has_lock_timeout(self) -> bool:
        return self.lock_timeout is not None

    def get_mutex(self, key: str) -> CacheMutex | None:
        if not self.distributed_lock:
            return None
        return MemcachedLock(self.cache, f"_lock{key}", self.lock_timeout, self._failures)

    def get(self, key: str) -> BackendFormatted:
        value = None
        with self._failures:
            value = self.cache.get(key)
        return NO_VALUE if value is None else value

    def get_multi(self, keys: Iterable[str]) -> list[BackendFormatted]:
        keys = list(keys)
        found: dict[str, Any] = {}
        with self._failures:
            try:
                found = self.cache.get_many(keys)
            except PartialFailure as failure:
                found = failure.result
                raise
        values = map(found.get, keys)
        return [NO_VALUE if value is None else value for value in values]

    def set(self, key: str, value: BackendSetType) -> None:
        with self._failures:
            self.cache.set(key, value, self._expire_time)

    def set_multi(self, mapping: Mapping[str, BackendSetType]) -> None:
        with self._failures:
            self.cache.set_many(mapping, self._expire_time)

    def delete(self, key: str) -> None:
        with self._failures:
            self.cache.delete(key)

    def delete_multi(self, keys: Iterable[str]) -> None:
        with self._failures:
            self.cache.delete_many(list(keys))


class MemcachedLock(CacheMutex):
    """A lock that is an item of memcached: it holds the token of its owner, who alone takes it away.

    seconds: after them it is free again, whoever had it; None: never. failures: a context in which those that are to
    be hidden are caught.
    """

    def __init__(
        self,
        cache: Cache[Any],
        key: str,
        seconds: float | None,
        failures: contextlib.AbstractContextManager[object],
    ) -> None:
        self._cache, self._key, self._seconds, self._failures = cache, key, seconds, failures
        self._token = ""

    def acquire(self, wait: bool = True) -> bool:
        """True once it is this one's, or where its server fails; False where another has it and wait is false."""
        token, nap = secrets.token_hex(16), _NAP
        with self._failures:
            while not self._add(token):
                if not wait:
                    return False
                time.sleep(nap * random.uniform(0.5, 1))
                nap = min(2 * nap, _NAP_AT_MOST)
        return True

    def _add(self, token: str) -> bool:
        try:
            is_ours = self._cache.add(self._key, token, self._seconds)
        except MemcacheError:  # it may have been stored all the same
            self._token = token
            raise
        if is_ours:
            self._token = token
        return is_ours

    def release(self) -> None:
        token, self._token = self._token, ""
        with self._failures:
            item = self._cache.get_item(self._key)
            if item is not None and item.value == token:
                try:
                    self._cache.delete(self._key, cas=item.cas)
                except ServerError:  # it has no meta protocol, which that takes
                    self._cache.delete(self._key)

    def locked(self) -> bool:
        with self._failures:
            return self._cache.get(self._key) is not None
        return False


def _seconds(name: str, value: object) -> float | None:
    if value is None or (value == 0 and not isinstance(value, bool)):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{name} must not be less than 0, and is {value!r}")
    return value
