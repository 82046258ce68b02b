"""What happens to 1,000 callers when a value expires that takes 100 ms to compute: python benchmarks/stampede.py

Ten processes of a hundred threads want the value of one key, each thread once, at moments drawn over 200 ms. Computing
is waiting, as for a database that has time for all: with a real one it takes longer the more do it. Measured are this
client's get_or_set, the same with a stale value to serve, a plain get, then set, and Django's get_or_set.

The figures are printed and written to build/bench/stampede.json. With --docs docs/stampede.json and the plot
docs/stampede.svg are renewed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROCESSES, THREADS = 10, 100
COMPUTING = 0.1  # seconds
ARRIVALS = 0.2
KEY = "front-page"


# ---- one of the processes


def open_cache(kind: str, address: str) -> tuple[Callable[[], Any], Callable[[Callable[[], str]], Any]]:
    """(What opens a thread's connection, what a caller does)."""
    if kind == "Django's get_or_set":
        from django.conf import settings

        backend = {"BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache", "LOCATION": address}
        settings.configure(CACHES={"default": backend})
        from django.core.cache import cache as django_cache

        return lambda: django_cache.get("warm"), lambda factory: django_cache.get_or_set(KEY, factory, 60)
    import mcext

    cache = mcext.Cache([address], timeout=30)

    def get_then_set(factory: Callable[[], str]) -> Any:
        value = cache.get(KEY)
        if value is None:
            value = factory()
            cache.set(KEY, value, 60)
        return value

    calls: dict[str, Callable[[Callable[[], str]], Any]] = {
        "get, then set": get_then_set,
        "get_or_set": lambda factory: cache.get_or_set(KEY, factory, 60),
        "get_or_set, stale=600": lambda factory: cache.get_or_set(KEY, factory, 60, stale=600),
    }
    return lambda: cache.get("warm"), calls[kind]


def work(kind: str, address: str, seed: int) -> None:
    warm, call = open_cache(kind, address)
    rng = random.Random(seed)
    waits: list[float] = []
    runs: list[int] = []
    all_are_warm = threading.Barrier(THREADS + 1)
    start: list[float] = []
    go = threading.Event()

    def factory() -> str:
        runs.append(1)
        time.sleep(COMPUTING)
        return "x" * 1000

    def caller(moment: float) -> None:
        warm()
        all_are_warm.wait()
        go.wait()
        time.sleep(max(0.0, start[0] + moment - time.monotonic()))
        began = time.monotonic()
        call(factory)
        waits.append(time.monotonic() - began)

    threads = [threading.Thread(target=caller, args=(rng.uniform(0, ARRIVALS),)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    all_are_warm.wait()
    print("ready", flush=True)
    start.append(float(sys.stdin.readline()))
    go.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"waits": waits, "runs": len(runs)}), flush=True)


# ---- all of them


def measure(kind: str) -> dict[str, Any]:
    import environment

    import mcext
    from mcext.testing import memcached

    folders = [str(environment.ROOT)]
    if kind.startswith("Django"):
        folders = [str(environment.install(package)) for package in ("Django", "pymemcache")]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    with memcached("-c", "4096") as server:
        if "stale" in kind:
            mcext.Cache([server.address]).set(KEY, "old", 599)  # a second beyond its ttl
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--work", kind, server.address, str(number)],
                env=surroundings,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )  # fmt: skip
            for number in range(PROCESSES)
        ]
        for process in processes:
            assert process.stdout and process.stdout.readline() == "ready\n", f"{kind} did not start"
        start = time.monotonic() + 0.5
        for process in processes:
            assert process.stdin
            process.stdin.write(f"{start}\n")
            process.stdin.flush()
        answers = [json.loads(process.communicate()[0]) for process in processes]
    waits = sorted(wait for answer in answers for wait in answer["waits"])
    return {
        "kind": kind,
        "runs": sum(answer["runs"] for answer in answers),
        "waits_ms": [round(1000 * wait, 2) for wait in waits],
    }


KINDS = ("get, then set", "Django's get_or_set", "get_or_set", "get_or_set, stale=600")
COLOURS = ("#999999", "#cc79a7", "#0072b2", "#56b4e9")


def summary(result: dict[str, Any]) -> str:
    cuts = statistics.quantiles(result["waits_ms"], n=100)
    at_once = sum(wait < 50 for wait in result["waits_ms"])
    return (
        f"{result['kind']:24}{result['runs']:>6} computations; waits: median {cuts[49]:.1f} ms, 99 of 100 within"
        f" {cuts[98]:.1f} ms; {at_once} of {len(result['waits_ms'])} within 50 ms"
    )


def plot(results: list[dict[str, Any]], target: Path) -> None:
    """On the left how often it was computed, on the right how many callers had their value after how long."""
    from environment import import_tool

    matplotlib = import_tool("matplotlib", "matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "stampede"  # the same results make the same file
    pyplot = import_tool("matplotlib", "matplotlib.pyplot")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained", width_ratios=[1, 1.3])
    places = range(len(results))
    left.barh(places, [result["runs"] for result in results], color=COLOURS)
    for place, result in zip(places, results):
        left.text(result["runs"] + 15, place, f"{result['runs']:,}", va="center")
    left.set_yticks(places, [result["kind"] for result in results])
    left.invert_yaxis()
    left.set_xlim(0, 1.18 * max(result["runs"] for result in results))
    left.set_xlabel("computations")
    for result, colour in zip(results, COLOURS):
        count = len(result["waits_ms"])
        right.step(result["waits_ms"], [number + 1 for number in range(count)], color=colour, linewidth=2)
    right.set_xlim(0, 250)
    right.set_xlabel("callers that have a value, after milliseconds of waiting")
    for axes in (left, right):
        axes.set_axisbelow(True)
        axes.grid(axis="x", color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("1,000 callers in 200 ms, and a value that takes 100 ms to compute has expired", fontsize=11)
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description="1,000 callers of a value that has expired", allow_abbrev=False)
    parser.add_argument("--docs", action="store_true", help="renew docs/stampede.json and docs/stampede.svg")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        kind, address, seed = options.work
        work(kind, address, int(seed))
        return 0
    from environment import BUILD, ROOT, machine

    results = []
    for kind in KINDS:
        results.append(measure(kind))
        print(summary(results[-1]), flush=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine(), "results": results}) + "\n"
    (BUILD / "stampede.json").write_text(text)
    if options.docs:
        (ROOT / "docs" / "stampede.json").write_text(text)
        plot(results, ROOT / "docs" / "stampede.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
