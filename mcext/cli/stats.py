"""stats: the statistics of servers, or by how much they changed in an interval."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from mcext.cli.options import add_servers, fleet, seconds
from mcext.cli.output import complain, document, say
from mcext.errors import PartialFailure

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

T = TypeVar("T")

__all__ = ["change", "stats"]

_ABOUT = ("items", "slabs", "settings")


def stats_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("server", nargs="*", metavar="items|slabs|settings|SERVER", help="what about, then servers")
    parser.add_argument("--diff", action="store_true", help="what changed in an interval, and how much of it a second")
    parser.add_argument("--interval", type=seconds, default=1.0, metavar="SECONDS", help="of --diff (1)")
    add_servers(parser)


def stats(arguments: Any) -> int:
    about = arguments.server.pop(0) if arguments.server and arguments.server[0] in _ABOUT else None
    with fleet(arguments).cache() as cache:
        cache.refresh_servers()
        with_heads = len(cache.servers) > 1
        began = time.monotonic()
        found, failed = _ask(cache, about)
        if arguments.diff:
            time.sleep(arguments.interval)
            took = time.monotonic() - began
            later, failed = _ask(cache, about)
            changes = {one: change(found[one], later[one]) for one in later if one in found}
            if arguments.json:
                document({"seconds": round(took, 6), "servers": changes})
            else:
                _show(changes, lambda value: f"{value:>+14,}  {value / took:>+16,.1f}/s", with_heads)
        elif arguments.json:
            document(found)
        else:
            _show(found, "{}".format, with_heads)
    for error in failed.values():
        complain(str(error))
    return int(bool(failed))


def change(before: dict[str, str], after: dict[str, str]) -> dict[str, int | float]:
    """By how much each number became more, those that did."""
    found: dict[str, int | float] = {}
    for name, text in after.items():
        was, now = _number(before.get(name, "0")), _number(text)
        if was is not None and now is not None and now != was:
            found[name] = round(now - was, 6)
    return found


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 1e300 else None


def _ask(cache: Any, about: str | None) -> tuple[dict[str, dict[str, str]], dict[str, Exception]]:
    try:
        return cache.stats(about), {}
    except PartialFailure as failure:
        return failure.result, failure.errors


def _show(found: dict[str, dict[str, T]], text: Callable[[T], str], with_heads: bool) -> None:
    for address, values in found.items():
        if with_heads:
            say(f"{address}:")
        width = max(map(len, values), default=0)
        for name, value in values.items():
            say(f"{name:{width}}  {text(value)}")
