"""The program that callgrind.py runs under valgrind: it does the calls in sections, with a mark on both sides of each.

Arguments: a JSON object {"client", "servers", "sections": [[call, mode, count], ...]}.
The mark is getpriority, which nothing else here calls: valgrind writes out its counts at each call of it.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from clients import KINDS, PLACED
from placement import key_names
from workload import BY_NAME, Bound


def mark() -> None:
    os.getpriority(os.PRIO_PROCESS, 0)


def empty(self: Any, key: str) -> None:
    pass


def empty_runs(client: Any) -> dict[str, Callable[[int], None]]:
    """A method that does nothing, called bound and through the client: the difference is what the look-up costs."""

    def bound(count: int) -> None:
        method = client.empty
        for _ in itertools.repeat(None, count):
            method("key")

    def attribute(count: int) -> None:
        for _ in itertools.repeat(None, count):
            client.empty("key")

    type(client).empty = empty
    return {"bound": bound, "attribute": attribute}


def main() -> None:
    order = json.loads(sys.argv[1])
    kind, addresses = (KINDS | PLACED)[order["client"]], order["servers"]
    clients = {0: kind.open(addresses, 0)}  # by the pickle protocol
    bounds: dict[str, Bound] = {}
    for name, mode, count in order["sections"]:
        run: Callable[[int], None]
        if name == "empty":
            run = empty_runs(clients[0])[mode]
        else:
            if name not in bounds:
                call = BY_NAME[name]
                keys = key_names("000", call.key_count(len(addresses)))
                if call.protocol not in clients:
                    clients[call.protocol] = kind.open(addresses, call.protocol)
                bounds[name] = Bound(clients[call.protocol], call, keys)
            bounds[name].check()
            run = bounds[name].run if mode == "bound" else bounds[name].run_attribute
        run(20)
        mark()
        run(count)
        mark()


if __name__ == "__main__":
    main()
