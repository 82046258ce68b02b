"""One computation for all callers: what Cache.get_or_set does behind a look that was no hit.

A look (`Cache._look`) says what there is and may bring the lease: the right and the duty to compute. The lease is an
item of no bytes and no flags, the stub, or a token on an old value; memcached gives it to one caller. The computed
value is stored with the lease's token, so that whoever wrote, deleted or invalidated the key meanwhile wins.

In one process the callers of a key wait for one of them, the one that computes or that asks the server for another's
value: a flight.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcext import _core, events
from mcext.errors import DecodeError, LeaseTimeout, MemcacheError

if TYPE_CHECKING:
    from mcext.cache import Cache

__all__ = ["get_or_set", "invalidate"]

# What a look found: as in binding/cache_lease.c.
_HIT, _WON, _TAKEN, _NO_LEASE, _NO_META, _OLD = range(6)

# What fills are counted as.
_FILL_WON, _FILL_LOST, _FILL_WAITED = range(3)

_LONGEST = 60 * 60 * 24 * 30  # seconds; memcached takes more for a time of day
_LAST_SECOND = 2**31 - 1  # that memcached can hold, since 1970
_FIRST_DELAY, _LAST_DELAY = 0.005, 0.25  # seconds between two looks for another's value
_LEASES_AT_MOST = 10_000  # on old values that a process keeps in mind
_LEASE_SUFFIX = b".lease"  # of the item that stands for a lease where there is no meta protocol


def _seconds(name: str, value: Any, least: float, default: float) -> float:
    if value is None:
        return default
    value = value.total_seconds() if hasattr(value, "total_seconds") else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or a timedelta, not {type(value).__name__}")
    if not least <= value <= _LONGEST:
        raise ValueError(f"{name} must be between {least:g} and {_LONGEST} seconds, not {value!r}")
    return value


def _whole(seconds: float) -> int:
    return -int(-seconds // 1)


class _Order:
    """The arguments of one get_or_set, checked."""

    __slots__ = ("factory", "fallback", "key", "lease", "refresh", "stale", "ttl", "wait")

    def __init__(
        self, key: str | bytes, factory: Any, ttl: Any, refresh: Any, lease: Any, wait: Any, stale: Any, fallback: Any
    ) -> None:
        if not callable(factory):
            raise TypeError(f"factory must be callable, not {type(factory).__name__}")
        if fallback not in (None, "compute", "raise"):
            raise ValueError(f"fallback must be 'compute' or 'raise', not {fallback!r}")
        self.key = key
        self.factory: Callable[[], Any] = factory
        self.ttl = None if ttl is None else _ttl(ttl)
        self.refresh = _whole(_seconds("refresh", refresh, 0, 0))
        self.lease = _whole(_seconds("lease", lease, 2, 30))
        self.wait = _seconds("wait", wait, 0, 2 * self.lease)
        self.stale = _whole(_seconds("stale", stale, 0, 0))
        self.fallback = fallback or "compute"
        if self.refresh + self.stale > _LONGEST:
            raise ValueError(f"refresh and stale must not be more than {_LONGEST} seconds together")
        if self.kept is not None and self.kept > _LAST_SECOND - time.time():
            raise ValueError(f"ttl is more than memcached can hold: {ttl!r}")
        if self.ttl is not None and self.refresh >= self.ttl:
            raise ValueError(f"refresh must be less than ttl, and is {self.refresh} of {self.ttl} seconds")

    @property
    def kept(self) -> float | None:
        """Seconds for which the server keeps the value."""
        return None if self.ttl is None else self.ttl + self.stale


def check(
    ttl: Any, *, refresh: Any = None, lease: Any = None, wait: Any = None, stale: Any = None, fallback: Any = None
) -> None:
    """Raise TypeError or ValueError where one of these is wrong."""
    _Order("", check, ttl, refresh, lease, wait, stale, fallback)


def _ttl(ttl: Any) -> float:
    seconds = ttl.total_seconds() if hasattr(ttl, "total_seconds") else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"ttl must be a number of seconds, a timedelta or None, not {type(ttl).__name__}")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"ttl must be more than 0, or None, not {ttl!r}")
    return seconds


class _Flight:
    """A caller of this process that computes the value of a key, or waits at the server for another's."""

    __slots__ = ("computes", "done", "thread")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.thread = threading.get_ident()
        self.computes = False


def get_or_set(
    cache: Cache[Any],
    key: str | bytes,
    factory: Any,
    ttl: Any,
    refresh: Any,
    lease: Any,
    wait: Any,
    stale: Any,
    fallback: Any,
    looked: Any,
) -> Any:
    """See Cache.get_or_set. looked: the first look's answer or exception; None: it is to be made."""
    order = _Order(key, factory, ttl, refresh, lease, wait, stale, fallback)
    call = _Call(cache, order)
    try:
        return call.run(looked)
    finally:
        call.land()


class _Call:
    """One call, from its look on."""

    def __init__(self, cache: Cache[Any], order: _Order) -> None:
        self.cache = cache
        self.order = order
        self.name = b""  # of the key, when a look has found it right
        self.flights: dict[bytes, _Flight] = cache._flights_of_this_process()
        self.flight: _Flight | None = None
        self.began = time.monotonic()
        self.delay = _FIRST_DELAY
        self.waited = False

    def run(self, looked: Any) -> Any:
        order = self.order
        if looked is None:
            looked = self.look()
        self.name = order.key.encode() if isinstance(order.key, str) else order.key
        if isinstance(looked, DecodeError) and self.cache.errors == "miss":  # on_event has been told
            self.cache.delete(order.key)
            looked = self.look()
        while True:
            if isinstance(looked, MemcacheError):
                return self.without_server(looked)
            found, value, token, has_value = looked
            if found == _HIT:
                return value
            if found == _OLD:
                if not self.is_overdue(token):
                    return value
                self.release(token, True)  # the next look of all callers wins it
                looked = self.look()
                continue
            if found == _WON:
                return self.lead(token, value, has_value)
            if found == _NO_LEASE:
                return self.compute_and_add()
            if found == _NO_META:
                return self.without_meta()
            if not self.wait_a_little():
                return self.without_value()
            looked = self.look()

    def look(self) -> Any:
        order = self.order
        try:
            return self.cache._look(order.key, order.lease, order.refresh + order.stale)
        except MemcacheError as error:
            return error

    # ---- one computes

    def lead(self, token: int, old: Any, has_old: bool) -> Any:
        """Compute with the lease, and store what comes of it unless somebody was faster."""
        cache, order = self.cache, self.order
        self.take_off(computes=True)
        try:
            value = order.factory()
        except BaseException as error:
            self.release(token, has_old)
            if has_old and order.stale and isinstance(error, Exception):
                self.tell(error)
                return old
            raise
        try:
            stored = cache.set(order.key, value, order.kept, cas=token)
        except MemcacheError:  # on_event has been told; the work is done, and the value is right
            stored = False
        except BaseException:  # it cannot be encoded
            self.release(token, has_old)
            raise
        cache._count_fill(order.key, _FILL_WON if stored else _FILL_LOST)
        return value

    def release(self, token: int, has_old: bool) -> None:
        try:
            self.cache._release(self.order.key, token, has_old)
        except MemcacheError:
            return  # on_event has been told, and the lease runs out

    def compute_and_add(self) -> Any:
        """The server grants no lease: many may compute, and none overwrites what is newer."""
        self.take_off(computes=True)
        value = self.order.factory()
        self.add(value, self.order.kept)
        return value

    def add(self, value: Any, ttl: float | None) -> None:
        try:
            stored = self.cache.add(self.order.key, value, ttl)
        except MemcacheError:  # as in lead
            stored = False
        self.cache._count_fill(self.order.key, _FILL_WON if stored else _FILL_LOST)

    # ---- the others are served the old value, or wait

    def is_overdue(self, token: int) -> bool:
        """Whether the lease on an old value has been out for longer than it lasts, as far as this process knows.

        memcached never takes it back: a leader that died would leave the value old until it ends.
        """
        leases = self.cache._leases
        now = time.monotonic()
        seen, since = leases.get(self.name, (None, now))
        if seen != token:
            if len(leases) >= _LEASES_AT_MOST:
                leases.clear()
            leases[self.name] = token, now
            return False
        if now - since <= self.order.lease:
            return False
        leases.pop(self.name, None)
        return True

    def take_off(self, computes: bool = False) -> None:
        """From now on the others of this process wait for this call."""
        flight = self.flight or _Flight()
        flight.computes = computes
        if computes:
            self.flights[self.name] = flight
        elif self.flights.setdefault(self.name, flight) is not flight:
            return
        self.flight = flight

    def land(self) -> None:
        flight, self.flight = self.flight, None
        if flight is not None:
            if self.flights.get(self.name) is flight:
                self.flights.pop(self.name, None)
            flight.done.set()

    def wait_a_little(self) -> bool:
        """Wait for another's value: False where there is no time left."""
        other = self.flights.get(self.name)
        if other is not None and other.computes and other.thread == threading.get_ident():
            raise RuntimeError(f"get_or_set of {self.order.key!r} is called by its own factory")
        left = self.began + self.order.wait - time.monotonic()
        if left <= 0:
            return False
        if not self.waited:
            self.waited = True
            self.cache._count_fill(self.order.key, _FILL_WAITED)
        if other is None or other is self.flight:
            self.take_off()
        if self.flight is not None:
            time.sleep(min(left, self.delay * random.uniform(0.5, 1.5)))
            self.delay = min(2 * self.delay, _LAST_DELAY)
        elif other is not None:
            other.done.wait(min(left, self.order.lease))
        return True

    # ---- what is left where something is missing

    def without_server(self, error: MemcacheError) -> Any:
        if self.order.fallback == "raise" or (isinstance(error, DecodeError) and self.cache.errors == "raise"):
            raise error
        return self.order.factory()

    def without_value(self) -> Any:
        if self.order.fallback == "raise":
            raise LeaseTimeout(
                f"no other caller had a value within {self.order.wait:g} seconds",
                server=self.cache.server_for(self.order.key),
                command="get_or_set",
            )
        return self.order.factory()

    def tell(self, error: Exception) -> None:
        hook = self.cache.on_event
        if hook is not None:
            server = self.cache.server_for(self.order.key)
            events.tell(hook, [("error", "get_or_set", server, 1, time.monotonic() - self.began, error, False)])

    # ---- no meta protocol: a lease of its own item

    def without_meta(self) -> Any:
        """A lease is an item beside the key's: who can add it computes, and the others look for the value."""
        cache, order = self.cache, self.order
        is_removed = False
        while True:
            granted: bool | None = False
            try:
                found = cache._gets(order.key)
                if found is not None and found[2]:
                    return found[0]
                granted = cache._add_beside(order.key, _LEASE_SUFFIX, order.lease)
                if granted:  # the value may have come between the two
                    found = cache._gets(order.key)
                    if found is not None and found[2]:
                        self.release_beside()
                        return found[0]
            except MemcacheError as error:
                if granted:
                    self.release_beside()
                if not isinstance(error, DecodeError) or self.cache.errors == "raise" or is_removed:
                    return self.without_server(error)
                is_removed = True  # on_event has been told
                self.cache.delete(order.key)
                continue
            if granted or granted is None:  # None: the key is too long for another one beside it
                return self.lead_beside(bool(granted))
            if not self.wait_a_little():
                return self.without_value()

    def lead_beside(self, has_lease: bool) -> Any:
        self.take_off(computes=True)
        try:
            value = self.order.factory()
            self.add(value, self.order.ttl)
        finally:
            if has_lease:
                self.release_beside()
        return value

    def release_beside(self) -> None:
        try:
            self.cache._delete_beside(self.order.key, _LEASE_SUFFIX)
        except MemcacheError:
            return  # as in release


def invalidate(cache: Cache[Any], key: str | bytes, stale: Any) -> bool:
    """See Cache.invalidate."""
    seconds = -1 if stale is None else _whole(_seconds("stale", stale, 0, -1))
    if seconds == 0:
        return cache.delete(key)
    found = cache._invalidate(key, seconds)
    return cache.delete(key) if found is None else found


def flights() -> tuple[int, dict[bytes, _Flight]]:
    """An empty table of those of this process."""
    return _core._generation(), {}
