"""What TLS costs: python benchmarks/tls.py

The same calls in the clear and over TLS, and pymemcache's over TLS: memcached, with and without -Z, and this process on
one core, so that a call costs what both do. Counted is the CPU time of client and server together, which other work on
the machine does not move. All take turns in each round, in another order each time; the figures are medians over the
rounds, and ratios those of one round each.

Needs memcached with TLS, openssl and pymemcache (benchmarks/requirements.txt). The tables are printed and written to
build/bench/tls.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from environment import BUILD, import_tool  # noqa: E402

import mcext  # noqa: E402
from mcext.testing import memcached  # noqa: E402

SIZES = {"100 B": 100, "10 kB": 10_000, "1 MB": 1_000_000}
KEYS = [f"key:{number}" for number in range(100)]


def cpu_clock(pid: int) -> int:
    """The clock of a process's CPU time (clock_getcpuclockid)."""
    return (~pid << 3) | 2


class Meter:
    """CPU time of this process and one server, of so many calls."""

    def __init__(self, pid: int) -> None:
        self.clock = cpu_clock(pid)

    def _now(self) -> int:
        return time.process_time_ns() + time.clock_gettime_ns(self.clock)

    def measure(self, call: Callable[[], Any], count: int) -> float:
        call()  # whoever had its turn before has filled the caches
        before = self._now()
        for _ in range(count):
            call()
        return (self._now() - before) / count / 1000


def turns(ways: dict[str, tuple[Meter, Callable[[], Any]]], rounds: int, count: int) -> dict[str, list[float]]:
    """µs of each way in each round."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            meter, call = ways[name]
            taken[name].append(meter.measure(call, count))
    return taken


def row(title: str, taken: dict[str, list[float]], first: str) -> dict[str, Any]:
    ratios = {
        name: statistics.median(mine / theirs for mine, theirs in zip(times, taken[first], strict=True))
        for name, times in taken.items()
    }
    medians = {name: statistics.median(times) for name, times in taken.items()}
    words = ", ".join(f"{name} {medians[name]:,.1f} µs ({ratios[name]:.2f})" for name in taken)
    print(f"{title}: {words}", flush=True)
    return {"call": title, "us": medians, "ratio": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    given = parser.parse_args()
    pymemcache = import_tool("pymemcache", "pymemcache")
    os.sched_setaffinity(0, {given.core})  # the servers inherit it
    with memcached("-t", "1", "-I", "4m") as clear, memcached("-t", "1", "-I", "4m", tls=True) as secret:
        meters = Meter(clear.pid), Meter(secret.pid)
        context = secret.tls_context
        clients = {
            "plain": (meters[0], mcext.Client([clear.address], socket_timeout=30)),
            "TLS": (meters[1], mcext.Client([secret.address], socket_timeout=30, tls_context=context)),
        }
        other = pymemcache.Client(
            (secret.host, secret.port), timeout=30, no_delay=True, default_noreply=False, tls_context=context
        )
        rows = []
        for title, size in SIZES.items():
            value = b"x" * size
            rounds = given.rounds if size < 1_000_000 else max(given.rounds // 3, 3)
            for name in "get", "set":
                ways = {}
                for way, (meter, client) in clients.items():
                    assert client.set("k", value) and client.get("k") == value
                    get, put = client.get, client.set
                    ways[way] = (
                        meter,
                        (lambda get=get: get("k")) if name == "get" else (lambda put=put, value=value: put("k", value)),
                    )
                ways["pymemcache, TLS"] = (
                    meters[1],
                    ((lambda: other.get("k")) if name == "get" else lambda value=value: other.set("k", value)),
                )
                taken = turns(ways, rounds, max(min(500, 20_000_000 // size), 20))
                rows.append(row(f"{name} of {title}", taken, "plain"))
        for way, (_, client) in clients.items():
            assert client.set_multi(dict.fromkeys(KEYS, b"x" * 100)) == [], way
        ways = {way: (meter, lambda client=client: client.get_multi(KEYS)) for way, (meter, client) in clients.items()}
        ways["pymemcache, TLS"] = meters[1], lambda: other.get_many(KEYS)
        rows.append(row("get_multi of 100", turns(ways, given.rounds, 50), "plain"))
        rows.append(row("connect and get", turns(connects(clients, secret, other), given.rounds, 20), "full"))
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "tls.json").write_text(json.dumps(rows, indent=1))


def connects(clients: dict[str, Any], secret: Any, other: Any) -> dict[str, tuple[Meter, Callable[[], Any]]]:
    """A get on a new connection, each time."""
    (plain_meter, plain), (meter, client) = clients["plain"], clients["TLS"]
    contexts = [secret.tls_context, __import__("ssl").create_default_context(cafile=secret.ca_file)]

    def in_the_clear() -> None:
        plain.disconnect_all()
        assert plain.get("k") is not None

    def full() -> None:
        contexts.reverse()
        client.tls_context = contexts[0]  # no session of the one is used for the other
        assert client.get("k") is not None

    def resumed() -> None:
        client.disconnect_all()
        assert client.get("k") is not None

    def others() -> None:
        other.close()
        assert other.get("k") is not None

    for each in plain, client:
        each.set("k", b"small")
    return {
        "full": (meter, full),
        "resumed": (meter, resumed),
        "plain": (plain_meter, in_the_clear),
        "pymemcache": (meter, others),
    }


if __name__ == "__main__":
    main()
