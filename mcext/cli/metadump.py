"""The keys of a server, from its `lru_crawler metadump`: a line for each item.

    key=user%3A7 exp=1796054260 la=1796054230 cas=4 fetch=yes cls=1 size=60

`metadump hash` lists each item that stays once. `metadump all` goes through lists in which items move meanwhile, and
may miss some: it is for servers that have no other.
"""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from mcext import errors
from mcext.cli.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcext.cli.fleet import Fleet
    from mcext.cli.wire import Connection

__all__ = ["Listed", "is_text_key", "listing"]

_LINE = re.compile(rb"key=([!-~]{1,800}) exp=(-?\d{1,12}) la=(-?\d{1,12}) (?:[!-~]+ )*?size=(\d{1,12})(?: .*)?")
_BUSY_SECONDS = 10.0
"""For which another crawl, such as the server's own, is waited for."""


class Listed(NamedTuple):
    """An item in a listing. size: bytes that it takes at the server, with its key and what the server keeps of it.
    expires: when it does, by time.monotonic(), or None. age: seconds since it was last read or written."""

    key: bytes
    size: int
    expires: float | None
    age: int

    @property
    def ttl(self) -> int | None:
        """Seconds that are left now; None: it does not expire."""
        return None if self.expires is None else max(math.ceil(self.expires - time.monotonic()), 0)


def is_text_key(key: bytes) -> bool:
    """Whether the text protocol has this key: others are stored with the meta protocol's base64."""
    return bool(key) and not any(byte <= 0x20 or byte == 0x7F for byte in key)


def listing(fleet: Fleet, address: str) -> Iterator[Listed]:
    """The items of one server. Raises MemcacheError."""
    with fleet.connect(address) as connection:
        statistics = connection.statistics()
        now = _number(statistics.get("time", "")) or int(time.time())  # its clock, not ours
        began = time.monotonic()
        for line in _lines(connection, _number(statistics.get("curr_items", ""))):
            found = _LINE.fullmatch(line)
            if found is None:
                connection.refuse(line)
            expires = int(found[2])
            yield Listed(
                unquote_to_bytes(found[1]),
                int(found[4]),
                None if expires < 0 else began + expires - now,
                max(now - int(found[3]), 0),
            )


def _lines(connection: Connection, count: int) -> Iterator[bytes]:
    first = _begin(connection, b"hash")
    # While its table of keys grows, a server may have none to go through.
    if (first is None and count) or (first is not None and not first.startswith((b"key=", b"BUSY"))):
        first = _begin(connection, b"all")
    if first is None:
        return
    if first == b"ERROR":
        raise errors.ServerError("it lists no keys: it is older than memcached 1.4.31", server=connection.address)
    if not first.startswith(b"key="):
        connection.refuse(b"SERVER_ERROR " + first if first.startswith(b"BUSY") else first)
    yield first
    with Spool(connection) as spool:
        yield from spool.lines()


def _begin(connection: Connection, which: bytes) -> bytes | None:
    """The first line of a listing; None: it is empty."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        line = connection.ask(b"lru_crawler metadump " + which)
        if line == b"OK":  # which newer servers say before the first item
            line = connection.line()
        if not line.startswith(b"BUSY") or time.monotonic() > until:
            return None if line == b"END" else line
        time.sleep(0.05)


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,12}", text) else 0
