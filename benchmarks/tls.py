"""What TLS costs: python benchmarks/tls.py

The same calls in the clear and over TLS, the same bytes over TLS by a bare loop in C (raw_tls.c: the system's OpenSSL,
linked), and pymemcache's over TLS, to a memcached with and one without -Z. All share a core, so that a call costs what
client and server do, and counted is their CPU time. All take turns in each round, in another order each time: the
figures are medians over the rounds, ratios medians of those of a round.

Needs memcached with TLS, openssl, OpenSSL's headers (Debian: libssl-dev), and pymemcache, which it installs into
build/bench. The tables are printed and written to build/bench/tls.json; --docs renews those in docs/fleets.md.
"""

from __future__ import annotations

import argparse
import json
import os
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
Taken = dict[str, list[tuple[float, float]]]  # of each way, as measured in each round
BOTH, CLIENT = 0, 1


class Way:
    """One way to make the calls: a function of this process."""

    def __init__(self, server: Memcached, call: Call) -> None:
        self.pids = [os.getpid(), server.pid]
        self.call = call

    def run(self, count: int) -> None:
        for _ in range(count):
            self.call()

    def measure(self, count: int) -> tuple[float, float]:
        """µs of CPU time a call: of client and server, and of the client alone."""
        self.run(1)  # whoever had its turn before has filled the caches
        before = [environment.cpu_time([pid]) for pid in self.pids]
        self.run(count)
        client, server = (environment.cpu_time([pid]) - spent for pid, spent in zip(self.pids, before, strict=True))
        return (client + server) / count / 1000, client / count / 1000

    def close(self) -> None:
        """Nothing is open."""


class Bare(Way):
    """The loop in C, a process of its own."""

    def __init__(self, server: Memcached, request: bytes, reply_size: int) -> None:
        program = environment.build_raw("raw_tls", "-lssl", "-lcrypto")
        self.worker = environment.Worker([*map(str, (program, server.host, server.port, server.ca_file, reply_size))])
        assert self.worker.process.stdin
        self.worker.process.stdin.write(f"{len(request)}\n{request.decode()}")
        self.pids = [self.worker.process.pid, server.pid]

    def run(self, count: int) -> None:
        self.worker.ask(str(count))

    def close(self) -> None:
        self.worker.close()


def take_turns(ways: dict[str, Way], rounds: int, count: int) -> Taken:
    taken: Taken = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(ways[name].measure(count))
    for way in ways.values():
        way.close()
    return taken


def row(title: str, taken: Taken, base: str, which: int = BOTH) -> list[str]:
    def figures(name: str) -> list[float]:
        return [figure[which] for figure in taken[name]]

    def ratio(name: str) -> str:
        return f"{statistics.median(a / b for a, b in zip(figures(name), figures(base), strict=True)):.2f}"

    cells = [f"{statistics.median(figures(base)):,.1f}", *(ratio(name) for name in taken if name != base)]
    print(f"{title}: {' | '.join(cells)}", flush=True)
    return [title, *cells]


def reply_size(found: dict[str, bytes]) -> int:
    return sum(len(f"VALUE {key} 0 {len(value)}\r\n\r\n") + len(value) for key, value in found.items()) + len("END\r\n")


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

    def ways(self, plain: Call, tls: Call, other: Call, request: bytes, reply_size: int) -> dict[str, Way]:
        return {
            "in the clear": Way(self.clear, plain),
            "TLS": Way(self.secret, tls),
            "bare": Bare(self.secret, request, reply_size),
            "pymemcache, TLS": Way(self.secret, other),
        }

    def gets(self, value: bytes) -> dict[str, Way]:
        get, tls_get, other_get = self.plain.get, self.tls.get, self.other.get
        ways = lambda: get("k"), lambda: tls_get("k"), lambda: other_get("k")
        return self.ways(*ways, b"get k\r\n", reply_size({"k": value}))

    def sets(self, value: bytes) -> dict[str, Way]:
        put, tls_put, other_put = self.plain.set, self.tls.set, self.other.set
        ways = lambda: put("k", value), lambda: tls_put("k", value), lambda: other_put("k", value)
        return self.ways(*ways, b"set k 0 0 %d\r\n%s\r\n" % (len(value), value), len(b"STORED\r\n"))

    def multis(self, value: bytes) -> dict[str, Way]:
        get, tls_get, other_get = self.plain.get_multi, self.tls.get_multi, self.other.get_many
        ways = lambda: get(KEYS), lambda: tls_get(KEYS), lambda: other_get(KEYS)
        return self.ways(*ways, f"get {' '.join(KEYS)}\r\n".encode(), reply_size(dict.fromkeys(KEYS, value)))

    def connects(self) -> dict[str, Way]:
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
            "full": Way(secret, full),
            "resumed": Way(secret, resumed),
            "in the clear": Way(self.clear, plain),
            "pymemcache, TLS": Way(secret, other),
        }


def tables(clients: Clients, rounds: int) -> list[report.Table]:
    took: dict[str, Taken] = {}
    for title, size in SIZES.items():
        value = b"x" * size
        assert clients.plain.set("k", value) and clients.tls.set("k", value)
        turns = rounds if size < 1_000_000 else max(rounds // 3, 3)
        for name, ways in ("get", clients.gets(value)), ("set", clients.sets(value)):
            took[f"{name}, {title}"] = take_turns(ways, turns, max(min(500, 20_000_000 // size), 20))
    for client in clients.plain, clients.tls:
        assert client.set_multi(dict.fromkeys(KEYS, b"x" * 100)) == [] and client.set("k", b"x" * 100)
    took["get_multi of 100 keys"] = take_turns(clients.multis(b"x" * 100), rounds, 50)
    names = ["call", "in the clear, µs", "TLS", "bare loop in C, TLS", "pymemcache, TLS"]
    connects = [row("connect and get", take_turns(clients.connects(), rounds, 20), "full")]
    return [
        (
            "CPU time of client and server: in the clear, and as a ratio to that",
            names,
            [row(title, taken, "in the clear") for title, taken in took.items()],
        ),
        (
            "The same of the client alone",
            names,
            [row(title, taken, "in the clear", CLIENT) for title, taken in took.items()],
        ),
        (
            "Client and server of a new connection: a full handshake, and as a ratio to that",
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
