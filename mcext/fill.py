"""One computation for all callers: what Cache.get_or_set does behind a look that was no hit.

A look (`Cache._look`) says what there is and may bring the lease: the right and the duty to compute. The lease is an
item of no bytes and no flags, the stub, or a token on an old value; memcached gives it to one caller. The computed
value is stored with the lease's token, so that whoever wrote, deleted or invalidated the key meanwhile wins.

In one process, of an AsyncCache in one loop, the callers of a key wait for one of them, the one that computes or that
asks the server for another's value: a flight.

The logic is one for both, in steps (mcext.steps); here is what Cache has of its own, in mcext.async_fill what
AsyncCache has.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from mcext import _core, events, steps
from mcext.errors import DecodeError, LeaseTimeout, MemcacheError, Overloaded

if TYPE_CHECKING:
    from typing import Protocol

    from mcext.cache import Cache
    from mcext.steps import Primitives, Steps

    class Flight(Protocol):
        """A caller that computes the value of a key, or waits at the server for another's."""

        computes: bool
        failed: bool  # it has landed, and its factory has raised, or nothing was stored

        def is_of_this_caller(self) -> bool: ...
        def sleep(self, seconds: float, /) -> Any: ...
        def wait(self, seconds: float, /) -> Any: ...
        def land(self) -> None: ...


__all__ = ["LAST_SECOND", "Call", "Order", "check", "flights", "get_or_set", "invalidate", "invalidating"]

# What a look found: as in binding/cache_lease.c.
_HIT, _WON, _TAKEN, _NO_LEASE, _NO_META, _OLD = range(6)

# What fills are counted as.
_FILL_WON, _FILL_LOST, _FILL_WAITED = range(3)

_LONGEST = 60 * 60 * 24 * 30  # seconds; memcached takes more for a time of day
LAST_SECOND = 2**31 - 1  # that memcached can hold, since 1970
_FIRST_DELAY, _LAST_DELAY = 0.005, 0.25  # seconds between two looks for another's value
_FAILURES_AT_MOST = 2  # of others that a caller waits for, before it computes for itself
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


class Order:
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
        if self.kept is not None and self.kept > LAST_SECOND - time.time():
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
    Order("", check, ttl, refresh, lease, wait, stale, fallback)


def _ttl(ttl: Any) -> float:
    seconds = ttl.total_seconds() if hasattr(ttl, "total_seconds") else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"ttl must be a number of seconds, a timedelta or None, not {type(ttl).__name__}")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"ttl must be more than 0, or None, not {ttl!r}")
    return seconds


class _Flight:
    """One of this process. It is a thread that takes it, or a greenlet."""

    __slots__ = ("computes", "done", "failed", "thread")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.thread = threading.get_ident()
        self.computes = False
        self.failed = False

    def is_of_this_caller(self) -> bool:
        return self.thread == threading.get_ident()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait(self, seconds: float) -> None:
        """Until it has landed, or so long."""
        self.done.wait(seconds)

    def land(self) -> None:
        self.done.set()


def flights() -> tuple[int, dict[bytes, Flight]]:
    """An empty table of those of this process."""
    return _core._generation(), {}


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
    order = Order(key, factory, ttl, refresh, lease, wait, stale, fallback)
    call = Call(cache, order, cache._flights_of_this_process(), _Flight)
    try:
        return steps.run(call.run(looked))
    finally:
        call.land()


class Call:
    """One call, from its look on. Whoever takes its steps lets it land."""

    def __init__(
        self, cache: Primitives, order: Order, flights: dict[bytes, Flight], new_flight: Callable[[], Flight]
    ) -> None:
        self.cache = cache
        self.order = order
        self.name = b""  # of the key, when a look has found it right
        self.flights = flights
        self.new_flight = new_flight
        self.flight: Flight | None = None
        self.began = time.monotonic()
        self.delay = _FIRST_DELAY
        self.waited = False
        self.failed = False
        self.failures = 0  # of others, for which it has waited

    def run(self, looked: Any) -> Steps[Any]:
        order = self.order
        if looked is None:
            looked = yield from self.look()
        self.name = order.key.encode() if isinstance(order.key, str) else order.key
        if isinstance(looked, DecodeError) and self.cache.errors == "miss":  # on_event has been told
            yield partial(self.cache.delete, order.key)
            looked = yield from self.look()
        while True:
            if isinstance(looked, MemcacheError):
                return (yield from self.without_server(looked))
            found, value, token, has_value = looked
            if found == _HIT:
                return value
            if found == _OLD:
                if not self.is_overdue(token):
                    return value
                yield from self.release(token, True)  # the next look of all callers wins it
                looked = yield from self.look()
                continue
            if found == _WON:
                return (yield from self.lead(token, value, has_value))
            if found == _NO_LEASE:
                return (yield from self.compute_and_add(order.kept))
            if found == _NO_META:
                return (yield from self.without_meta())
            if not (yield from self.wait_a_little()):
                return (yield from self.without_value())
            looked = yield from self.look()

    def look(self) -> Steps[Any]:
        order = self.order
        try:
            return (yield partial(self.cache._look, order.key, order.lease, order.refresh + order.stale))
        except MemcacheError as error:
            return error

    # ---- one computes

    def lead(self, token: int, old: Any, has_old: bool) -> Steps[Any]:
        """Compute with the lease, and store what comes of it unless somebody was faster."""
        cache, order = self.cache, self.order
        self.take_off(computes=True)
        try:
            value = yield order.factory
        except GeneratorExit:
            raise
        except BaseException as error:
            self.failed = isinstance(steps.original(error), Exception)
            yield from self.release(token, has_old)
            if has_old and order.stale and self.failed:
                self.tell(steps.original(error))
                return old
            raise
        try:
            stored = yield partial(cache.set, order.key, value, order.kept, cas=token)
        except GeneratorExit:
            raise
        except Overloaded:  # as below; nothing was sent, so the lease would stay out
            stored = False
            yield from self.release(token, has_old)
        except MemcacheError:  # on_event has been told; the work is done, and the value is right
            stored = False
        except BaseException as error:  # it cannot be encoded, or this caller is interrupted
            self.failed = isinstance(steps.original(error), Exception)
            yield from self.release(token, has_old)
            raise
        self.failed = not stored
        cache._count_fill(order.key, _FILL_WON if stored else _FILL_LOST)
        return value

    def release(self, token: int, has_old: bool) -> Steps[None]:
        try:
            yield partial(self.cache._release, self.order.key, token, has_old)
        except MemcacheError:
            return  # on_event has been told, and the lease runs out

    def compute_and_add(self, ttl: float | None) -> Steps[Any]:
        """Without a lease of the server's: many may compute, and none overwrites what is newer."""
        self.take_off(computes=True)
        try:
            value = yield self.order.factory
        except BaseException as error:
            self.failed = isinstance(steps.original(error), Exception)
            raise
        try:
            stored = yield partial(self.cache.add, self.order.key, value, ttl)
        except MemcacheError:  # as in lead
            stored = False
        self.failed = not stored
        self.cache._count_fill(self.order.key, _FILL_WON if stored else _FILL_LOST)
        return value

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
        """From now on the others of this process, or loop, wait for this call."""
        flight = self.flight or self.new_flight()
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
            flight.failed = self.failed
            flight.land()

    def wait_a_little(self) -> Steps[bool]:
        """Wait for another's value: False where there is no time left, or where others have failed: one by one they
        would all wait for each other's failure."""
        other = self.flights.get(self.name)
        if other is not None and other.computes and other.is_of_this_caller():
            raise RuntimeError(f"get_or_set of {self.order.key!r} is called by its own factory")
        left = self.began + self.order.wait - time.monotonic()
        if left <= 0 or self.failures == _FAILURES_AT_MOST:
            return False
        if not self.waited:
            self.waited = True
            self.cache._count_fill(self.order.key, _FILL_WAITED)
        if other is None or other is self.flight:
            self.take_off()
        if self.flight is not None:
            yield partial(self.flight.sleep, min(left, self.delay * random.uniform(0.5, 1.5)))
            self.delay = min(2 * self.delay, _LAST_DELAY)
        elif other is not None:
            yield partial(other.wait, min(left, self.order.lease))
            self.failures += other.failed
        return True

    # ---- what is left where something is missing

    def without_server(self, error: MemcacheError) -> Steps[Any]:
        if self.order.fallback == "raise" or (isinstance(error, DecodeError) and self.cache.errors == "raise"):
            raise error
        return (yield self.order.factory)

    def without_value(self) -> Steps[Any]:
        if self.order.fallback == "raise" and self.failures < _FAILURES_AT_MOST:
            raise LeaseTimeout(
                f"no other caller had a value within {self.order.wait:g} seconds",
                server=self.cache.server_for(self.order.key),
                command="get_or_set",
            )
        return (yield self.order.factory)

    def tell(self, error: BaseException) -> None:
        hook = self.cache.on_event
        if hook is not None:
            server = self.cache.server_for(self.order.key)
            events.tell(hook, [("error", "get_or_set", server, 1, time.monotonic() - self.began, error, False)])

    # ---- no meta protocol: a lease of its own item

    def without_meta(self) -> Steps[Any]:
        """A lease is an item beside the key's: who can add it computes, and the others look for the value."""
        cache, order = self.cache, self.order
        is_removed = False
        while True:
            granted: bool | None = False
            try:
                found = yield partial(cache._gets, order.key)
                if found is not None and found[2]:
                    return found[0]
                granted = yield partial(cache._add_beside, order.key, _LEASE_SUFFIX, order.lease)
                if granted:  # the value may have come between the two
                    found = yield partial(cache._gets, order.key)
                    if found is not None and found[2]:
                        yield from self.release_beside()
                        return found[0]
            except GeneratorExit:
                raise
            except BaseException as error:
                if granted:
                    yield from self.release_beside()
                if not isinstance(error, MemcacheError):
                    raise
                if not isinstance(error, DecodeError) or cache.errors == "raise" or is_removed:
                    return (yield from self.without_server(error))
                is_removed = True  # on_event has been told
                yield partial(cache.delete, order.key)
                continue
            if granted:
                return (yield from self.lead_beside())
            if granted is None:  # the key is too long for another one beside it
                return (yield from self.compute_and_add(order.ttl))
            if not (yield from self.wait_a_little()):
                return (yield from self.without_value())

    def lead_beside(self) -> Steps[Any]:
        try:
            value = yield from self.compute_and_add(self.order.ttl)
        except GeneratorExit:
            raise
        except BaseException:
            yield from self.release_beside()
            raise
        yield from self.release_beside()
        return value

    def release_beside(self) -> Steps[None]:
        try:
            yield partial(self.cache._delete_beside, self.order.key, _LEASE_SUFFIX)
        except MemcacheError:
            return  # as in release


def invalidate(cache: Primitives, key: str | bytes, stale: Any) -> bool:
    """See Cache.invalidate."""
    return steps.run(invalidating(cache, key, stale))


def invalidating(cache: Primitives, key: str | bytes, stale: Any) -> Steps[bool]:
    """The steps of an invalidate."""
    seconds = -1 if stale is None else _whole(_seconds("stale", stale, 0, -1))
    found = None
    if seconds != 0:
        found = yield partial(cache._invalidate, key, seconds)
    if found is None:
        found = yield partial(cache.delete, key)
    return bool(found)
