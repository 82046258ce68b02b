"""which: the server that a key belongs to, dead or not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mcext.cli.options import add_placement, add_servers, fleet
from mcext.cli.output import complain, document, escape, field, say

if TYPE_CHECKING:
    import argparse

__all__ = ["which"]


def which_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="+", type=os.fsencode)
    add_servers(parser)
    add_placement(parser)


def which(arguments: Any) -> int:
    with fleet(arguments).cache() as cache:
        cache.refresh_servers()
        for key in arguments.key:
            address = cache.server_for(key)
            if address is None:
                complain("there is no server")
                return 1
            if arguments.json:
                document(field("key", key) | {"server": address})
            else:
                say(address if len(arguments.key) == 1 else f"{address}  {escape(key)}")
    return 0
