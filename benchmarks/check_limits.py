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

from callgrind import CALLS, count, lack
from clients import KINDS, OURS
from environment import TAG, available_kinds
from workload import BY_NAME

LIMITS = Path(__file__).with_name("limits.json")


def main() -> int:
    parser = argparse.ArgumentParser(description="compares instruction counts with limits.json")
    parser.add_argument("--write", action="store_true", help="write the limits of this Python from what is measured")
    options = parser.parse_args()

    stored = json.loads(LIMITS.read_text())
    limits = stored["limits"].get(TAG)
    if limits is None and not options.write:
        print(f"limits.json has no limits for {TAG}; add them with: {sys.argv[0]} --write")
        return 2
    _, missing = available_kinds([OURS])
    if missing or lack():
        print(missing.get(OURS) or lack())
        return 2
    calls = CALLS if options.write else [call for call in CALLS if call in limits]
    measured = {call: modes["bound"] for call, modes in count(KINDS[OURS], calls, ["bound"], look_up=False).items()}
    if options.write:
        stored["limits"][TAG] = {call: math.ceil(figure * stored["headroom"]) for call, figure in measured.items()}
        stored["limits"] = dict(sorted(stored["limits"].items()))
        LIMITS.write_text(json.dumps(stored, indent=2) + "\n")
        limits = stored["limits"][TAG]

    print(f"{f'instructions a call, {TAG}':<32}{'measured':>12}{'limit':>12}")
    above = []
    for call in calls:
        if measured[call] > limits[call]:
            above.append(call)
        mark = "  ABOVE THE LIMIT" if call in above else ""
        print(f"{BY_NAME[call].title:<32}{measured[call]:>12,.0f}{limits[call]:>12,}{mark}")
    if above:
        print(f"{len(above)} above the limit. See: python benchmarks/callgrind.py --annotate {above[0]}")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
