"""What copies a batch of listed items from one server to a fleet; several threads may use it at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from mcext.cli.fleet import Fleet, Stored
from mcext.cli.metadump import Listed, is_text_key
from mcext.cli.output import escape
from mcext.errors import MemcacheError, PartialFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcext.cache import Cache
    from mcext.cli.wire import Connection

__all__ = ["NAMES", "Copier"]

NAMES = {
    "copied": "copied",
    "there": "there already",
    "gone": "gone meanwhile",
    "binary": "left out, for their keys are binary",
    "failed": "failed",
}

_LEFT_ALONE_SECONDS = 5.0
_KEY_AT_MOST = 250


class Copier:
    """fail: called with a number of items that were not copied, and why. addresses: the servers that are copied to."""

    def __init__(self, old: Fleet, new: Fleet, fail: Callable[[int, str], None]) -> None:
        self._old, self._new, self._fail = old, new, fail
        self._to = new.cache()
        self._to.refresh_servers()
        self.addresses = [server.address for server in self._to.servers]
        self._from: dict[str, Cache[Stored]] = {}
        self._lock = threading.Lock()
        self._mine = threading.local()  # bare connections: those of one thread
        self._all: list[Connection] = []
        self._not_before: dict[str, float] = {}  # when a server that failed is asked again what it has

    def close(self) -> None:
        for cache in [self._to, *self._from.values()]:
            cache.close()
        for connection in self._all:
            connection.close()

    def copy(self, address: str, batch: list[Listed], stop: threading.Event) -> Counter[str]:
        """Copy what the new fleet has not; how many of the batch were copied, there, gone and binary."""
        counts: Counter[str] = Counter()
        wanted = {one.key: one for one in batch if is_text_key(one.key) and len(one.key) <= _KEY_AT_MOST}
        counts["binary"] = sum(one.key not in wanted for one in batch)
        there = self._there([*wanted])
        counts["there"] = len(there)
        wanted = {key: one for key, one in wanted.items() if key not in there}
        for key, (value, expires) in self._read(address, wanted, counts).items():
            if stop.is_set():
                break
            self._store(key, value, expires, counts)
        return counts

    def _read(
        self, address: str, wanted: dict[bytes, Listed], counts: Counter[str]
    ) -> dict[bytes, tuple[Stored, float | None]]:
        """Values, each with when it expires by time.monotonic()."""
        began = time.monotonic()
        try:
            items = self._source(address).get_items([*wanted]) if wanted else {}
        except PartialFailure as failure:
            self._fail(len(wanted), str(failure.errors[address]))
            return {}
        found: dict[bytes, tuple[Stored, float | None]] = {}
        try:
            for key, listed in wanted.items():
                if key in items:
                    item = items[key]
                    expires = listed.expires if item.size is None else None if item.ttl is None else began + item.ttl
                    found[key] = item.value, expires
                    continue
                empty = self._connection(self._old, address).value(key)
                if empty is None:
                    counts["gone"] += 1
                else:
                    found[key] = Stored(empty[1], empty[0]), listed.expires
        except MemcacheError as error:
            self._drop(self._old, address)
            self._fail(len(wanted) - len(found) - counts["gone"], str(error))
        return found

    def _store(self, key: bytes, value: Stored, expires: float | None, counts: Counter[str]) -> None:
        ttl = None if expires is None else expires - time.monotonic()
        if ttl is not None and ttl <= 0:
            counts["gone"] += 1
            return
        try:
            if value == Stored(b"", 0):
                stored = self._add_empty(key, ttl)
            else:
                stored = self._to.add(key, value, ttl)
        except (MemcacheError, ValueError) as error:  # ValueError: a time to live that no memcached should have given
            self._fail(1, f"{escape(key)}: {error}")
            return
        counts["copied" if stored else "there"] += 1

    def _add_empty(self, key: bytes, ttl: float | None) -> bool:
        """By hand: a Cache makes a pickle of no bytes, so that they are not taken for a lease's stub."""
        self._to.get(key)  # raises where the key's server is dead
        address = self._to.server_for(key) or ""
        try:
            return self._connection(self._new, address).store(b"add", key, 0, b"", ttl)
        except MemcacheError:
            self._drop(self._new, address)
            raise

    # ---- what the new fleet has

    def _there(self, keys: list[bytes]) -> set[bytes]:
        """Those keys that the new fleet has. Of a server that does not say so, none: `add` tells."""
        by_server: dict[str, list[bytes]] = {}
        for key in keys:
            address = self._to.server_for(key)
            if address is not None:
                by_server.setdefault(address, []).append(key)
        there: set[bytes] = set()
        for address, asked in by_server.items():
            if self._not_before.get(address, 0.0) > time.monotonic():
                continue
            try:
                there |= self._connection(self._new, address).those_there(asked)
            except MemcacheError:
                self._drop(self._new, address)
                self._not_before[address] = time.monotonic() + _LEFT_ALONE_SECONDS
        return there

    # ---- who is asked

    def _source(self, address: str) -> Cache[Stored]:
        with self._lock:
            if address not in self._from:
                self._from[address] = self._old.one(address)
            return self._from[address]

    def _connection(self, fleet: Fleet, address: str) -> Connection:
        """This thread's own."""
        mine: dict[tuple[Fleet, str], Connection] = self._mine.__dict__.setdefault("connections", {})
        if (fleet, address) not in mine:
            mine[fleet, address] = made = fleet.connect(address)
            self._all.append(made)
        return mine[fleet, address]

    def _drop(self, fleet: Fleet, address: str) -> None:
        connection = self._mine.__dict__.setdefault("connections", {}).pop((fleet, address), None)
        if connection is not None:
            connection.close()
