"""keys: the keys of all servers, as they list them or in an order."""

from __future__ import annotations

import heapq
import sys
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Any

from mcext.cli.fleet import Fleet
from mcext.cli.metadump import Listed, is_text_key, listing
from mcext.cli.options import add_servers, fleet, positive
from mcext.cli.output import complain, document, escape, field, is_terminal, say
from mcext.cli.progress import count_of_items, progress
from mcext.errors import MemcacheError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

__all__ = ["keys"]

_NEVER = float("inf")
# The largest first; of times to live the shortest, which is about to go.
_ORDERS = {
    "size": lambda row: -row[1].size,
    "ttl": lambda row: _NEVER if row[1].ttl is None else row[1].ttl,
    "age": lambda row: -row[1].age,
}

_Row = tuple[str, Listed]


def keys_options(parser: argparse.ArgumentParser) -> None:
    add_servers(parser, positional=True)
    parser.add_argument(
        "--match", metavar="GLOB", help="keys like this: * for any characters, ? for one, [ab] for a or b"
    )
    parser.add_argument(
        "--sort", choices=tuple(_ORDERS), help="the largest, the soonest to expire, the longest not used first"
    )
    parser.add_argument("--limit", type=positive, metavar="NUMBER", help="at most so many")


class _Listing:
    """The rows of all servers, one server after the other. What fails is said, and the next server goes on."""

    def __init__(self, fleet: Fleet, match: str | None) -> None:
        self._fleet, self._match = fleet, match
        self.addresses = fleet.addresses()
        self.status = 0

    def __iter__(self) -> Iterator[_Row]:
        for address in self.addresses:
            try:
                for item in listing(self._fleet, address):
                    yield address, item
            except MemcacheError as error:
                complain(str(error))
                self.status = 1

    def matching(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        for row in rows:
            if self._match is None or fnmatchcase(escape(row[1].key), self._match):
                yield row


def keys(arguments: Any) -> int:
    where = fleet(arguments)
    found = _Listing(where, arguments.match)
    if arguments.sort is None:
        rows: Iterable[_Row] = islice(found.matching(found), arguments.limit)
    else:
        rows = _sorted(where, found, arguments.sort, arguments.limit)
    show = _how_to_show(arguments.json, len(found.addresses) > 1)
    for row in rows:
        show(row)
    return found.status


def _sorted(where: Fleet, found: _Listing, order: str, limit: int | None) -> list[_Row]:
    with progress("listing keys", lambda: count_of_items(where, found.addresses)) as step:
        rows = found.matching(_counted(found, step))
        if limit is None:
            return sorted(rows, key=_ORDERS[order])
        return heapq.nsmallest(limit, rows, key=_ORDERS[order])


def _counted(rows: Iterable[_Row], step: Any) -> Iterator[_Row]:
    for row in rows:
        step(1)
        yield row


def _how_to_show(as_json: bool, with_server: bool) -> Any:
    """A function that prints a row. Into a pipe goes the key alone."""
    if as_json:
        return _show_json
    if not is_terminal(sys.stdout):
        return _show_key
    say(f"{'SIZE':>10} {'TTL':>9} {'AGE':>9}  {'SERVER  ' if with_server else ''}KEY")
    return _show_all if with_server else _show_one


def _show_json(row: _Row) -> None:
    address, item = row
    document(field("key", item.key) | {"size": item.size, "ttl": item.ttl, "age": item.age, "server": address})


def _show_key(row: _Row) -> None:
    key = row[1].key
    sys.stdout.buffer.write((key if is_text_key(key) else escape(key).replace(" ", "\\x20").encode()) + b"\n")


def _show_one(row: _Row) -> None:
    item = row[1]
    say(f"{item.size:>10} {'never' if item.ttl is None else item.ttl:>9} {item.age:>9}  {escape(item.key)}")


def _show_all(row: _Row) -> None:
    address, item = row
    say(f"{item.size:>10} {'never' if item.ttl is None else item.ttl:>9} {item.age:>9}  {address}  {escape(item.key)}")
