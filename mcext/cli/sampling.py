"""What `top` shows of each server: its statistics, and what they became more by in the time since the last look."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from mcext.errors import MemcacheError, PartialFailure

if TYPE_CHECKING:
    from mcext.cache import Cache
    from mcext.cli.fleet import Fleet, Stored

__all__ = ["Row", "Sampler", "sum_of"]

# What a server has carried out; a cas is counted among the sets, and a look that touches among the gets, too.
_COMMANDS = (
    *("cmd_get", "cmd_set", "cmd_touch", "delete_hits", "delete_misses"),
    *("incr_hits", "incr_misses", "decr_hits", "decr_misses"),
)


class Row(NamedTuple):
    """One server. Rates are a second's; None: not known (yet). hit_rate: from 0 to 1. error: why there is no answer."""

    server: str
    hit_rate: float | None = None
    commands: float | None = None
    gets: float | None = None
    sets: float | None = None
    items: int | None = None
    bytes: int | None = None
    limit: int | None = None
    connections: int | None = None
    evictions: float | None = None
    error: str = ""


class Sampler:
    """Asks all servers again and again, each from a thread of its own: one that hangs holds up nobody.

    interval: seconds between two looks.
    """

    def __init__(self, fleet: Fleet, interval: float) -> None:
        self._fleet, self._interval = fleet, interval
        self._all = fleet.cache()
        self._rows: dict[str, Row] = {}
        self._watched: dict[str, threading.Event] = {}  # by address, what ends the thread
        self._news = threading.Event()

    def begin(self) -> None:
        """Ask which servers there are, where they are found by asking, and wait until each has answered or failed."""
        self._all.refresh_servers()
        addresses = self._watch()
        while any(address not in self._rows for address in addresses):
            self._news.wait()
            self._news.clear()

    def close(self) -> None:
        for end in self._watched.values():
            end.set()
        self._all.close()

    def rows(self) -> list[Row]:
        """The last known of each server that there is now."""
        return [self._rows.get(address, Row(address)) for address in self._watch()]

    def _watch(self) -> list[str]:
        """A thread for each server, and no other; their addresses."""
        addresses = [server.address for server in self._all.servers]
        for address in self._watched.keys() - {*addresses}:
            self._watched.pop(address).set()
        for address in addresses:
            if address not in self._watched:
                self._watched[address] = end = threading.Event()
                threading.Thread(
                    target=self._run, args=(address, end), name=f"mcext top {address}", daemon=True
                ).start()
        return addresses

    def _run(self, address: str, end: threading.Event) -> None:
        with self._fleet.one(address, dead_retry=0) as cache:
            before: tuple[float, dict[str, int]] | None = None
            while True:
                due = time.monotonic() + self._interval
                self._rows[address], before = _look(address, cache, before)
                self._news.set()
                if end.wait(max(due - time.monotonic(), 0)):
                    return


def _look(
    address: str, cache: Cache[Stored], before: tuple[float, dict[str, int]] | None
) -> tuple[Row, tuple[float, dict[str, int]] | None]:
    try:
        (values,) = cache.stats().values()
    except PartialFailure as failure:
        return Row(address, error=str(failure.errors[address].args[0])), None
    except MemcacheError as error:
        return Row(address, error=str(error.args[0])), None
    now = time.monotonic()
    numbers = {name: int(text) for name, text in values.items() if text.isdecimal() and len(text) < 21}
    return _row_of(address, numbers, *(_since(before, now, numbers) if before else ({}, 0.0))), (now, numbers)


def _since(before: tuple[float, dict[str, int]], now: float, numbers: dict[str, int]) -> tuple[dict[str, int], float]:
    """By how much each number became more, and in how many seconds; nothing where the server began anew."""
    then, old = before
    if numbers.get("uptime", 0) < old.get("uptime", 0) or numbers.get("pid") != old.get("pid"):
        return {}, 0.0
    return {name: max(number - old.get(name, 0), 0) for name, number in numbers.items()}, now - then


def _row_of(address: str, numbers: dict[str, int], more: dict[str, int], seconds: float) -> Row:
    def rate(*names: str) -> float | None:
        return sum(more.get(name, 0) for name in names) / seconds if seconds > 0 else None

    asked = more.get("get_hits", 0) + more.get("get_misses", 0)
    return Row(
        address,
        more.get("get_hits", 0) / asked if asked else None,
        rate(*_COMMANDS),
        rate("cmd_get"),
        rate("cmd_set"),
        numbers.get("curr_items"),
        numbers.get("bytes"),
        numbers.get("limit_maxbytes"),
        numbers.get("curr_connections"),
        rate("evictions"),
    )


def sum_of(rows: list[Row]) -> Row:
    """Of all servers; the hit rate is that of all gets."""

    def total(name: str) -> float | None:
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        return sum(known) if known else None

    weighed = [(row.gets, row.hit_rate) for row in rows if row.gets and row.hit_rate is not None]
    gets = sum(each for each, _ in weighed)
    hit_rate = sum(each * share for each, share in weighed) / gets if gets else None
    names = ("commands", "gets", "sets", "items", "bytes", "limit", "connections", "evictions")
    return Row("all", hit_rate, *map(total, names))  # type: ignore[arg-type]
