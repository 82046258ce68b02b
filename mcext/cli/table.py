"""The table of `top` on the screen."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from mcext.cli.output import escape
from mcext.cli.sampling import Row, sum_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

__all__ = ["Table"]


def _plain(value: Any) -> str:
    return f"{value:,.0f}"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _size(value: float) -> str:
    for unit in ("", "K", "M", "G", "T"):
        if value < 1000 or unit == "T":
            break
        value /= 1024
    return f"{value:.0f}{unit}" if not unit or value >= 100 else f"{value:.1f}{unit}"


class _Column(NamedTuple):
    key: str  # that sorts by it
    head: str
    name: str
    text: Callable[[Any], str]


_COLUMNS = (
    _Column("h", "HIT", "hit_rate", _share),
    _Column("c", "CMD/s", "commands", _plain),
    _Column("g", "GET/s", "gets", _plain),
    _Column("w", "SET/s", "sets", _plain),
    _Column("i", "ITEMS", "items", _plain),
    _Column("b", "BYTES", "bytes", _size),
    _Column("", "OF", "limit", _size),
    _Column("n", "CONN", "connections", _plain),
    _Column("e", "EVICT/s", "evictions", _plain),
)
_HELP = "q quit  r reverse  sort: s server  h hit  c cmd  g get  w set  i items  b bytes  n conn  e evict"
_OTHER_LINES = 6  # the heads, a sum, what is left out, an empty one, two of help
_ERRORS_AT_MOST = 3
_NAME_AT_MOST = 30  # characters of a server's that columns make room for
_DROPPED = ("limit", "gets", "sets", "items", "connections", "evictions", "bytes", "commands")  # the first one first


class Table:
    """The whole screen; afterwards it is as it was."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._rows: list[Row] = []
        self._by: _Column | None = None  # None: as the servers were given
        self._by_name = False
        self._is_reversed = False

    def __enter__(self) -> Self:
        self._live = Live(console=Console(), screen=True, auto_refresh=False)
        self._live.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, rows: list[Row]) -> None:
        self._rows = rows
        self._draw()

    def press(self, key: str) -> None:
        columns = [column for column in _COLUMNS if column.key == key]
        if key == "r":
            self._is_reversed = not self._is_reversed
        elif key == "s":
            self._by, self._by_name, self._is_reversed = None, True, False
        elif columns:
            self._by, self._by_name, self._is_reversed = columns[0], False, False
        self._draw()

    def _draw(self) -> None:
        if self._live is None:
            return
        # As it is now: the environment's LINES and COLUMNS may say what it was when the program began.
        self._live.console.size = ConsoleDimensions(*os.get_terminal_size(sys.stdout.fileno()))
        rows = self._sorted()
        failed = [row for row in rows if row.error][:_ERRORS_AT_MOST]
        space = max(self._live.console.height - _OTHER_LINES - len(failed), 1)
        total = [sum_of(rows)] if len(rows) > 1 else []
        columns = _that_fit([*rows[:space], *total], self._live.console.width)
        table = RichTable(box=None, expand=True, pad_edge=False)
        table.add_column(self._mark("SERVER", self._by_name), no_wrap=True, overflow="ellipsis", ratio=1)
        for column in columns:
            table.add_column(self._mark(column.head, column is self._by), justify="right", no_wrap=True)
        for row in rows[:space]:
            table.add_row(*_cells(row, columns))
        if len(rows) > space:
            table.add_row(Text(f"... {len(rows) - space} more"))
        for row in total:
            table.add_row(*_cells(row, columns), style="bold")
        errors = [Text(escape(f"{row.server}: {row.error}"), style="red", no_wrap=True) for row in failed]
        self._live.update(Group(table, Text(""), *errors, Text(_HELP, style="dim")), refresh=True)

    def _mark(self, head: str, is_sorted_by: bool) -> Text:
        arrow = "" if not is_sorted_by else " ^" if self._is_reversed != self._by_name else " v"
        return Text(head + arrow, style="bold reverse" if is_sorted_by else "bold")

    def _sorted(self) -> list[Row]:
        if self._by_name:
            return sorted(self._rows, key=lambda row: row.server, reverse=self._is_reversed)
        by = self._by
        if by is None:
            return self._rows[::-1] if self._is_reversed else self._rows
        known = [row for row in self._rows if getattr(row, by.name) is not None]
        known.sort(key=lambda row: getattr(row, by.name), reverse=not self._is_reversed)
        return known + [row for row in self._rows if getattr(row, by.name) is None]


def _cells(row: Row, columns: list[_Column]) -> list[Text]:
    if row.error:
        return [Text(escape(row.server), style="red"), Text("down", style="red")]
    return [Text(escape(row.server)), *(Text(_text(row, column)) for column in columns)]


def _text(row: Row, column: _Column) -> str:
    value = getattr(row, column.name)
    return "-" if value is None else column.text(value)


def _that_fit(rows: list[Row], width: int) -> list[_Column]:
    """The columns for which there is room."""
    columns = list(_COLUMNS)
    room = width - min(max((len(row.server) for row in rows), default=0), _NAME_AT_MOST)
    wide = {one: 2 + max(len(one.head) + 2, *(len(_text(row, one)) for row in rows)) for one in columns if rows}
    for name in _DROPPED:
        if sum(wide.get(one, 0) for one in columns) <= room:
            break
        columns = [one for one in columns if one.name != name]
    return columns
