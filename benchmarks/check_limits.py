"""The gate: no call may take more instructions than limits.json allows for this Python.

Instruction counts do not move with the load of the machine, so a figure above its limit is a change of the code (or of
the compiler). The limits are the figures of the day they were written, with a few percent of headroom; --write renews
them. They are raised only with a reason in the message of the commit.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from callgrind import CACHE_CALLS, CALLS, count, lack
from clients import CACHE, KINDS, MODULO, OURS, PLACED
from environment import TAG, available_kinds, servers
from workload import BY_NAME

LIMITS = Path(__file__).with_name("limits.json")


def main() -> int:
    parser = argparse.ArgumentParser(description="compares instruction counts with limits.json")
    parser.add_argument("--write", action="store_true", help="write the limits of this Python from what is measured")
    options = parser.parse_args()

    stored = json.loads(LIMITS.read_text())
    _, missing = available_kinds([OURS])
    if missing or lack():
        print(missing.get(OURS) or lack())
        return 2
    above = []
    # Client's methods are bound once, as the first tables of this project were; Cache's are found on it each time.
    for kind, calls, mode, part in ((OURS, CALLS, "bound", "limits"), (CACHE, CACHE_CALLS, "attribute", "cache")):
        of_tag = stored.setdefault(part, {})
        if TAG not in of_tag and not options.write:
            print(f"limits.json has no {part} for {TAG}; add them with: {sys.argv[0]} --write")
            return 2
        names = calls if options.write else [call for call in calls if call in of_tag[TAG]]
        figures = count(KINDS[kind], names, [mode], look_up=False)
        measured = {call: modes[mode] for call, modes in figures.items()}
        if options.write:
            of_tag[TAG] = {call: math.ceil(figure * stored["headroom"]) for call, figure in measured.items()}
            stored[part] = dict(sorted(of_tag.items()))
            LIMITS.write_text(json.dumps(stored, indent=2) + "\n")
        above += show(kind, names, measured, of_tag[TAG])
    above += show_placements(stored["placements"])
    if above:
        print(f"{len(above)} above the limit. See: python benchmarks/callgrind.py --annotate {above[0]}")
    return 1 if above else 0


def show_placements(limits: dict[str, int]) -> list[str]:
    """What choosing one of ten servers takes more in a get than python-memcached's modulo: the same on every Python."""
    with servers(10, unix=True) as addresses:
        figures = {
            name: count(kind, ["get"], ["bound"], look_up=False, addresses=addresses)["get"]["bound"]
            for name, kind in PLACED.items()
        }
    above = []
    print(f"{'get of ten servers, more than ' + MODULO:<42}{'measured':>12}{'limit':>12}")
    for name, limit in limits.items():
        more = figures[name] - figures[MODULO]
        mark = ""
        if more > limit:
            above.append("get")
            mark = "  ABOVE THE LIMIT"
        print(f"{name:<42}{more:>12,.0f}{limit:>12,}{mark}")
    return above


def show(kind: str, calls: list[str], measured: dict[str, float], limits: dict[str, int]) -> list[str]:
    """Prints the table of a client; returns the calls that are above their limit."""
    above = []
    print(f"{f'{kind}, instructions, {TAG}':<42}{'measured':>12}{'limit':>12}")
    for call in calls:
        mark = ""
        if measured[call] > limits[call]:
            above.append(call)
            mark = "  ABOVE THE LIMIT"
        print(f"{BY_NAME[call].title:<42}{measured[call]:>12,.0f}{limits[call]:>12,}{mark}")
    return above


if __name__ == "__main__":
    sys.exit(main())
