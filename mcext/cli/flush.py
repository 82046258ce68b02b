"""flush: all items of servers expire, where whoever sits at the terminal says so."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mcext.cli.options import add_servers, fleet
from mcext.cli.output import complain, document, escape, is_terminal, say
from mcext.cli.wrong import Wrong
from mcext.errors import PartialFailure

if TYPE_CHECKING:
    import argparse

    from mcext.cache import Cache

__all__ = ["flush"]


def flush_options(parser: argparse.ArgumentParser) -> None:
    add_servers(parser, positional=True)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def flush(arguments: Any) -> int:
    if not arguments.yes and not is_terminal(sys.stdin):
        raise Wrong("flush asks at a terminal, and there is none: --yes says yes")
    with fleet(arguments).cache() as cache:
        cache.refresh_servers()
        if not arguments.yes and not _is_meant(cache):
            complain("nothing was flushed")
            return 1
        failed: dict[str, Exception] = {}
        try:
            cache.flush_all()
        except PartialFailure as failure:
            failed = failure.errors
        done = [server.address for server in cache.servers if server.address not in failed]
    if arguments.json:
        document({"flushed": done})
    else:
        for address in done:
            say(f"{address}: flushed")
    for error in failed.values():
        complain(str(error))
    return int(bool(failed))


def _is_meant(cache: Cache[Any]) -> bool:
    counts: dict[str, str] = {server.address: "unknown" for server in cache.servers}
    try:
        found = cache.stats()
    except PartialFailure as failure:
        found = failure.result
    counts |= {address: values.get("curr_items", "unknown") for address, values in found.items()}
    for address, count in counts.items():
        print(escape(f"{address}: {count} items"), file=sys.stderr)
    print("Flush all of these? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
