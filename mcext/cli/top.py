"""top: a live table of servers. Keys sort it, q ends it."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from mcext.cli.options import add_servers, fleet, seconds
from mcext.cli.output import document, is_terminal
from mcext.cli.sampling import Sampler
from mcext.cli.wrong import Wrong

if TYPE_CHECKING:
    import argparse

    from mcext.cli.table import Table

__all__ = ["top"]


def top_options(parser: argparse.ArgumentParser) -> None:
    add_servers(parser, positional=True)
    parser.add_argument("--interval", type=seconds, default=1.0, metavar="SECONDS", help="between two looks (1)")


def top(arguments: Any) -> int:
    where = fleet(arguments)
    if not arguments.json:
        if not is_terminal(sys.stdout) or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
            raise Wrong("top needs a terminal that can draw; --json prints a line at each look")
        try:
            import rich  # noqa: F401
        except ImportError:
            raise Wrong("top needs pip install mcext[cli]") from None
    sampler = Sampler(where, arguments.interval)
    try:
        sampler.begin()
        if arguments.json:
            _print(sampler, arguments.interval)
        else:
            _show(sampler, arguments.interval)
    finally:
        sampler.close()
    return 0


def _print(sampler: Sampler, interval: float) -> None:
    while True:
        document({"time": round(time.time(), 3), "servers": [row._asdict() for row in sampler.rows()]})
        sys.stdout.flush()
        time.sleep(interval)


def _show(sampler: Sampler, interval: float) -> None:
    from mcext.cli.table import Table
    from mcext.cli.terminal import ended_in_order

    table = Table()
    with ended_in_order():
        while _is_suspended(sampler, table, interval):
            os.kill(os.getpid(), signal.SIGTSTP)  # it goes on here when it is continued


def _is_suspended(sampler: Sampler, table: Table, interval: float) -> bool:
    """Show the table until q, or until Ctrl-Z: True then."""
    from mcext.cli.terminal import SUSPEND, Keys

    with Keys() as keys, table:
        due = time.monotonic()
        while True:
            left = due - time.monotonic()
            if left <= 0:
                table.show(sampler.rows())
                due = time.monotonic() + interval
                continue
            key = keys.next(left)
            if key in ("q", "Q", ""):
                return False
            if key == SUSPEND:
                return True
            if key is not None:
                table.press(key)
