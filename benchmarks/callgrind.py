"""User-space instructions of each call, counted by valgrind's callgrind.

A figure is the difference between a long and a short run of the same call, divided by the difference of their lengths,
so that nothing but the call remains. The server runs outside valgrind, and what the kernel does is not counted.

    python benchmarks/callgrind.py                     this client
    python benchmarks/callgrind.py --all               the others too
    python benchmarks/callgrind.py --annotate get      where the instructions of a get go
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clients import CACHE, KINDS, OURS, Kind
from environment import HERE, available_kinds, child_environment, import_tool, servers
from workload import BY_NAME

CALLS = ["get", "set", "incr", "get_str", "get_int", "get_dict", "get_dict_5", "get_multi_100", "set_multi_100"]
CACHE_CALLS = ["get", "set", "incr", "get_item", "get_or_set", "get_multi_100", "set_multi_100"]
MODES = ["bound", "attribute"]
# Instructions that this project wants to reach, through a method bound once.
REACH = {"get": 1600, "set": 1600, "incr": 1800, "get_multi_100": 68_000, "set_multi_100": 40_000}


def lack() -> str:
    """What is not there to count with, or nothing."""
    return "" if shutil.which("valgrind") else "valgrind is not installed (Debian: apt-get install valgrind)"


def lengths(kind: Kind, name: str) -> tuple[int, int]:
    """The two run lengths; shorter ones do for the clients that take tens of thousands of instructions a call."""
    if name in BY_NAME and BY_NAME[name].keys > 1:
        return 10, 90
    return (2000, 12_000) if kind.name in (OURS, CACHE) else (1000, 4000)


def run_sections(kind: Kind, sections: list[tuple[str, str, int]], addresses: list[str], folder: Path) -> list[Path]:
    """Runs them in one process under callgrind; returns the file of counts of each section."""
    output = folder / "counts"
    order = {"client": kind.name, "servers": addresses, "sections": sections}
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}", "--dump-before=getpriority"]
    command += [sys.executable, str(HERE / "callgrind_target.py"), json.dumps(order)]
    environment = child_environment(kind, PYTHONHASHSEED="0")
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{kind.name} under callgrind ended with {result.returncode}:\n{result.stderr[-3000:]}")
    # The first mark ends what was before the first section, the second ends the section itself, and so on.
    files = [output.with_name(f"{output.name}.{2 * number + 2}") for number in range(len(sections))]
    after = output.with_name(f"{output.name}.{2 * len(sections) + 1}")
    if not files[-1].exists() or after.exists():
        raise RuntimeError("the marks in the program were not met as often as expected")
    return files


def total(counts: Path) -> int:
    with counts.open() as lines:
        for line in lines:
            if line.startswith("totals:"):
                return int(line.split()[1])
    raise RuntimeError(f"{counts} holds no totals")


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Client and server take turns on one core, and neither interrupts the other when it is woken (SCHED_BATCH), so
    that the server has said all that it has to say when the client goes on: what comes in one piece is read in one."""
    cores, policy, parameters = os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setaffinity(0, {min(cores)})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
        os.sched_setaffinity(0, cores)


def count(
    kind: Kind, calls: list[str], modes: list[str], look_up: bool = True, addresses: list[str] | None = None
) -> dict[str, dict[str, float]]:
    """Instructions a call: {call: {mode: figure}}; "empty" is there too where look_up is asked for. Without addresses
    there is one server, on a Unix socket where the client can."""
    # The empty method comes last: it is put on the client's type, which may have to notice that. In how many pieces a
    # long reply comes depends on the server and the load: of several figures the least is the one without such pieces.
    samples = 8 if kind.name in (OURS, CACHE) else 1  # of the others it is a small part of what they take
    names = [(call, mode) for call in calls for mode in modes for _ in range(samples if BY_NAME[call].keys > 1 else 1)]
    names += [("empty", mode) for mode in MODES] if look_up else []
    sections = [(name, mode, length) for name, mode in names for length in lengths(kind, name)]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.enter_context(one_core())
        addresses = addresses or stack.enter_context(servers(1, unix=kind.unix))
        totals = [total(file) for file in run_sections(kind, sections, addresses, Path(folder))]
    figures: dict[str, dict[str, float]] = {}
    for number, (name, mode) in enumerate(names):
        short, long = lengths(kind, name)
        figure = (totals[2 * number + 1] - totals[2 * number]) / (long - short)
        modes_of_name = figures.setdefault(name, {})
        modes_of_name[mode] = min(figure, modes_of_name.get(mode, figure))
    return figures


def measure(kinds: list[Kind], progress: Any) -> list[dict[str, Any]]:
    """A row for each client and call: instructions bound and through the client, and the look-up alone."""
    rows = []
    for kind in kinds:
        progress(f"instructions: {kind.name}")
        figures = count(kind, [call for call in CALLS if BY_NAME[call].method in kind.methods], MODES)
        empty = figures.pop("empty")
        for name, figure in figures.items():
            row = {"client": kind.name, "call": name, **figure, "look_up": empty["attribute"] - empty["bound"]}
            rows.append(row)
    return rows


def functions(counts: Path) -> dict[str, tuple[int, int]]:
    """Each function's own instructions, and those with all that it called."""
    names: dict[str, str] = {}  # callgrind writes a name once and its number from then on
    own: dict[str, int] = {}
    called: dict[str, int] = {}
    function, in_call = "", False
    for line in counts.read_text().splitlines():
        key, equals, text = line.partition("=")
        if equals and key in ("fn", "cfn"):
            number, _, name = text.partition(" ")
            names[number] = name or names[number]
            if key == "fn":
                function = names[number]
            else:
                callee = names[number]
        elif key == "calls":
            # No calls: a frame that was entered before the section.
            in_call, counted = True, not text.startswith("0 ") and callee != function
        elif not equals and line[:1] in "0123456789+-*" and line:
            cost = int(line.split()[1])
            if not in_call:
                own[function] = own.get(function, 0) + cost
            elif counted:
                called[function] = called.get(function, 0) + cost
            in_call = False
    return {name: (own.get(name, 0), own.get(name, 0) + called.get(name, 0)) for name in own.keys() | called.keys()}


def annotate(kind: Kind, call: str, lines: int) -> None:
    """Prints the functions of one call, by their own instructions and with those they call."""
    length = lengths(kind, call)[1]
    with tempfile.TemporaryDirectory() as folder, servers(1, unix=True) as addresses:
        (counts,) = run_sections(kind, [(call, "bound", length)], addresses, Path(folder))
        figures = functions(counts)
    for column, title in enumerate(("by their own instructions", "with what they call")):
        print(f"{BY_NAME[call].title}: functions {title}\n\n{'own':>12}{'with callees':>14}")
        for name in sorted(figures, key=lambda name: -figures[name][column])[:lines]:
            print(f"{figures[name][0] / length:>12,.1f}{figures[name][1] / length:>14,.1f}  {name}")
        print()


def print_table(rows: list[dict[str, Any]]) -> None:
    rich_table = import_tool("rich", "rich.table")
    console = import_tool("rich", "rich.console").Console(width=120)
    table = rich_table.Table(title="User-space instructions a call")
    for column in ("client", "call", "bound", "through the client", "of that the look-up", "reach (bound)"):
        table.add_column(column, justify="left" if column in ("client", "call") else "right")
    for row in rows:
        reach = REACH.get(row["call"]) if row["client"] == OURS else None
        figures = [f"{row[name]:,.0f}" for name in ("bound", "attribute", "look_up")]
        table.add_row(row["client"], BY_NAME[row["call"]].title, *figures, f"{reach:,}" if reach else "")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="instructions a call, counted by callgrind")
    parser.add_argument("--all", action="store_true", help="all clients, not only this one")
    parser.add_argument("--client", choices=list(KINDS), help="this client only")
    parser.add_argument(
        "--annotate",
        choices=sorted({*CALLS, *CACHE_CALLS}),
        metavar="CALL",
        help="where the instructions of this call go",
    )
    parser.add_argument("--lines", type=int, default=30, help="functions to show with --annotate")
    options = parser.parse_args()
    if lack():
        sys.exit(lack())
    if options.annotate:
        annotate(KINDS[options.client or OURS], options.annotate, options.lines)
        return
    kinds, missing = available_kinds(None if options.all else [options.client or OURS])
    for name, reason in missing.items():
        print(f"{name} is left out: {reason}")
    if not kinds:
        sys.exit(1)
    print_table(measure(kinds, lambda text: print(text, file=sys.stderr)))


if __name__ == "__main__":
    main()
