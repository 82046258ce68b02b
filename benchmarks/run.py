"""All benchmarks with one command: `make bench`, or python benchmarks/run.py [PART...].

The results are printed as tables and written to build/bench: results.json, tables.md and the plots. With --docs the
plots, the results and the tables in docs are renewed from the same run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from typing import Any

import asyncio_clients
import callgrind
import django_page
import parts
import ratios
import report
import scale
import spread
from clients import KINDS
from environment import BUILD, available_kinds, default_core, machine
from workload import BY_NAME, CALLS

PARTS = ("ratios", "instructions", "parts", "scale", "spread", "asyncio", "django")
SPREAD_CALLS = ("set_1m", "get_1m")


def progress(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="measures mcext and other memcached clients", allow_abbrev=False)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=41, help="rounds of each call (default: 41)")
    parser.add_argument("--milliseconds", type=float, default=4, help="length of the raw loop's turn (default: 4)")
    parser.add_argument("--runs", type=int, default=30, help="runs of the spread (default: 30)")
    parser.add_argument("--calls", nargs="+", choices=list(BY_NAME), metavar="CALL")
    parser.add_argument("--clients", nargs="+", choices=list(KINDS), metavar="CLIENT")
    parser.add_argument("--transports", nargs="+", choices=list(ratios.TRANSPORTS), default=list(ratios.TRANSPORTS))
    parser.add_argument("--servers", nargs="+", type=int, default=[1, 8], metavar="COUNT")
    parser.add_argument("--clock", choices=ratios.CLOCKS, default="cpu", help="which of both to show (default: cpu)")
    parser.add_argument("--core", type=int, default=default_core(), help="the core for client and server")
    parser.add_argument("--free-threaded", metavar="PYTHON", help="a free-threaded python that has mcext")
    parser.add_argument("--docs", action="store_true", help="renew docs/ from this run")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    options = arguments()
    chosen = options.parts or list(PARTS)
    kinds, missing = available_kinds(options.clients)
    for name, reason in missing.items():
        progress(f"{name} is left out: {reason}")
    if not kinds:
        return 1
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "clients": [kind.name for kind in kinds],
        "left_out": missing,
    }
    if "ratios" in chosen:
        results["clock"] = options.clock
        calls = [call for call in CALLS if call.name in (options.calls or BY_NAME)]
        results["ratios"] = ratios.measure(
            kinds,
            calls,
            options.transports,
            options.servers,
            options.rounds,
            options.milliseconds,
            options.core,
            progress,
        )
    if "instructions" in chosen and callgrind.lack():
        missing["instructions"] = callgrind.lack()
        progress(f"no instruction counts: {callgrind.lack()}")
    elif "instructions" in chosen:
        results["instructions"] = callgrind.measure(kinds, progress)
    if "parts" in chosen and not callgrind.lack():
        results["parts"] = [parts.measure(progress)]
    if "scale" in chosen:
        results["scale"] = scale.measure(kinds, progress)
        if options.free_threaded:
            results["scale"] += scale.free_threaded(options.free_threaded, progress)

    if "spread" in chosen:
        calls = [BY_NAME[name] for name in options.calls or SPREAD_CALLS]
        results["spread"] = [spread.measure(kinds, calls, options.runs, options.core, options.clock, progress)]

    if "asyncio" in chosen:
        results["asyncio"] = asyncio_clients.measure(progress, missing, options.core)

    if "django" in chosen:
        results["django"] = django_page.measure(progress, missing, options.core)

    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    report.show(results)
    report.write(results, BUILD)
    if options.docs:
        report.write_docs(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
