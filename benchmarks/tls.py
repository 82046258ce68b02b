"""What TLS costs: python benchmarks/tls.py

The same calls in the clear and over TLS, and pymemcache's over TLS, to a memcached with and one without -Z. They and
this process share a core, so that a call costs what client and server do, and counted is their CPU time. All take turns
in each round, in another order each time: the figures are medians over the rounds, ratios medians of those of a round.

Needs memcached with TLS, openssl, and pymemcache, which it installs into build/bench. The tables are printed and
written to build/bench/tls.json; with --docs those in docs/fleets.md are renewed.
"""

from __future__ import annotations

import argparse
import json
import ssl
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import environment  # noqa: E402
import report  # noqa: E402

import mcext  # noqa: E402
from mcext.testing import Memcached, memcached  # noqa: E402

SIZES = {"100 bytes": 100, "10 kB": 10_000, "1 MB": 1_000_000}
KEYS = [f"key:{number}" for number in range(100)]
BEGIN, END = "<!-- tls: begin -->", "<!-- tls: end -->"

Call = Callable[[], Any]


def measure(server: Memcached, call: Call, count: int) -> float:
    """µs of CPU time a call, of this process and the server."""
    call()  # whoever had its turn before has filled the caches
    before = time.process_time_ns() + environment.cpu_time([server.pid])
    for _ in range(count):
        call()
    return (time.process_time_ns() + environment.cpu_time([server.pid]) - before) / count / 1000


def take_turns(ways: dict[str, tuple[Memcached, Call]], rounds: int, count: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(measure(*ways[name], count))
    return taken


def row(title: str, taken: dict[str, list[float]], base: str) -> list[str]:
    def ratio(name: str) -> str:
        return f"{statistics.median(a / b for a, b in zip(taken[name], taken[base], strict=True)):.2f}"

    cells = [f"{statistics.median(taken[base]):,.1f}", *(ratio(name) for name in taken if name != base)]
    print(f"{title}: {' | '.join(cells)}", flush=True)
    return [title, *cells]


class Clients:
    """One in the clear, one over TLS, and pymemcache's over TLS."""

    def __init__(self, clear: Memcached, secret: Memcached) -> None:
        pymemcache = environment.import_tool("pymemcache", "pymemcache")
        self.clear, self.secret = clear, secret
        self.plain = mcext.Client([clear.address], socket_timeout=30)
        self.tls = mcext.Client([secret.address], socket_timeout=30, tls_context=secret.tls_context)
        self.contexts = [secret.tls_context, ssl.create_default_context(cafile=secret.ca_file)]
        self.other = pymemcache.Client(
            *[(secret.host, secret.port)],
            **{"timeout": 30, "no_delay": True, "default_noreply": False, "tls_context": secret.tls_context},
        )

    def ways(self, plain: Call, tls: Call, other: Call) -> dict[str, tuple[Memcached, Call]]:
        return {
            "in the clear": (self.clear, plain),
            "TLS": (self.secret, tls),
            "pymemcache, TLS": (self.secret, other),
        }

    def gets(self) -> dict[str, tuple[Memcached, Call]]:
        get, tls_get, other_get = self.plain.get, self.tls.get, self.other.get
        return self.ways(lambda: get("k"), lambda: tls_get("k"), lambda: other_get("k"))

    def sets(self, value: bytes) -> dict[str, tuple[Memcached, Call]]:
        put, tls_put, other_put = self.plain.set, self.tls.set, self.other.set
        return self.ways(lambda: put("k", value), lambda: tls_put("k", value), lambda: other_put("k", value))

    def multis(self) -> dict[str, tuple[Memcached, Call]]:
        get, tls_get, other_get = self.plain.get_multi, self.tls.get_multi, self.other.get_many
        return self.ways(lambda: get(KEYS), lambda: tls_get(KEYS), lambda: other_get(KEYS))

    def connects(self) -> dict[str, tuple[Memcached, Call]]:
        """A get on a new connection, each time."""

        def full() -> None:
            self.contexts.reverse()
            self.tls.tls_context = self.contexts[0]  # with which no session of the other is used
            assert self.tls.get("k") is not None

        def resumed() -> None:
            self.tls.disconnect_all()
            assert self.tls.get("k") is not None

        def plain() -> None:
            self.plain.disconnect_all()
            assert self.plain.get("k") is not None

        def other() -> None:
            self.other.close()
            assert self.other.get("k") is not None

        secret = self.secret
        return {
            "full": (secret, full),
            "resumed": (secret, resumed),
            "in the clear": (self.clear, plain),
            "pymemcache, TLS": (secret, other),
        }


def tables(clients: Clients, rounds: int) -> list[report.Table]:
    calls = []
    for title, size in SIZES.items():
        value = b"x" * size
        assert clients.plain.set("k", value) and clients.tls.set("k", value)
        turns = rounds if size < 1_000_000 else max(rounds // 3, 3)
        for name, ways in ("get", clients.gets()), ("set", clients.sets(value)):
            taken = take_turns(ways, turns, max(min(500, 20_000_000 // size), 20))
            calls.append(row(f"{name}, {title}", taken, "in the clear"))
    for client in clients.plain, clients.tls:
        assert client.set_multi(dict.fromkeys(KEYS, b"x" * 100)) == [] and client.set("k", b"x" * 100)
    calls.append(row("get_multi of 100 keys", take_turns(clients.multis(), rounds, 50), "in the clear"))
    connects = [row("connect and get", take_turns(clients.connects(), rounds, 20), "full")]
    return [
        (
            "CPU time of client and server: in the clear, and as a ratio to that",
            ["call", "in the clear, µs", "TLS", "pymemcache, TLS"],
            calls,
        ),
        (
            "The same of a new connection: a full handshake, and as a ratio to that",
            ["call", "full, µs", "resumed", "in the clear", "pymemcache, TLS"],
            connects,
        ),
    ]


def write_docs(text: str) -> None:
    page = ROOT / "docs" / "fleets.md"
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{text}{END}{rest.partition(END)[2]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--core", type=int, default=environment.default_core())
    parser.add_argument("--docs", action="store_true", help="renew the tables in docs/fleets.md")
    options = parser.parse_args()
    environment.pin(options.core)  # the servers, too
    with memcached("-t", "1", "-I", "4m") as clear, memcached("-t", "1", "-I", "4m", tls=True) as secret:
        made = tables(Clients(clear, secret), options.rounds)
    results = {"date": time.strftime("%Y-%m-%d"), "machine": environment.machine(), "left_out": {}}
    environment.BUILD.mkdir(parents=True, exist_ok=True)
    (environment.BUILD / "tls.json").write_text(json.dumps({**results, "tables": made}, indent=1) + "\n")
    if options.docs:
        write_docs(f"{report.about(results)}\n{report.markdown(made)}")


if __name__ == "__main__":
    main()
