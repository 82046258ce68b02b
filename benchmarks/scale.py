"""How the cost of a call grows with servers, keys, connections and threads; what importing costs; what a connection
holds.

    python benchmarks/scale.py                    everything
    python benchmarks/scale.py late import        some of it
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import resource
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import callgrind
from clients import KINDS, OURS, Kind
from environment import HERE, Worker, available_kinds, build_raw, child_environment, servers
from workload import BY_NAME, Call, raw_plan

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
LATE = 0.050  # seconds

FAILED = "failed"

Table = dict[str, Any]


def run_target(kind: Kind, name: str, **arguments: Any) -> Any:
    """What the measurement returns; None where one of the other clients failed in it, which its table then says."""
    command = [sys.executable, str(HERE / "scale_target.py"), kind.name, name, json.dumps(arguments)]
    result = subprocess.run(command, env=child_environment(kind), capture_output=True, text=True)
    if result.returncode != 0:
        reason = f"{name} of {kind.name}: {(result.stderr.strip().splitlines() or [f'exit {result.returncode}'])[-1]}"
        if kind.name == OURS:
            raise RuntimeError(reason)
        print(reason, file=sys.stderr)
        return None
    return json.loads(result.stdout)


@contextlib.contextmanager
def late_proxy(address: str) -> Iterator[str]:
    """A server that answers LATE seconds after the one at the address."""
    command = [sys.executable, str(HERE / "late_proxy.py"), *address.rsplit(":", 1), str(LATE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


@contextlib.contextmanager
def many_addresses(count: int) -> Iterator[tuple[list[str], int]]:
    """One memcached that listens on that many loopback addresses: to a client they are as many servers."""
    from mcext.testing import memcached

    with memcached("-l", "127.0.0.1") as server:  # only to find a port that is free
        port = server.port
    hosts = [f"127.0.{number // 250}.{number % 250 + 1}" for number in range(count)]
    command = ["memcached", "-u", "root", "-t", "2", "-c", "20000", "-m", "256", "-p", str(port), "-l", ",".join(hosts)]
    with subprocess.Popen(command) as process:
        try:
            wait_until_listening(hosts[-1], port, process)
            yield [f"{host}:{port}" for host in hosts], process.pid
        finally:
            process.terminate()


def wait_until_listening(host: str, port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            socket.create_connection((host, port), 1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise RuntimeError("memcached ended at its start")


def having(kinds: list[Kind], *methods: str) -> list[Kind]:
    return [kind for kind in kinds if set(methods) <= set(kind.methods)]


def late_server(kinds: list[Kind]) -> list[Table]:
    rows = []
    with servers(10, unix=False) as addresses, late_proxy(addresses[0]) as late:
        raw = [raw_seconds(BY_NAME["get_multi_100"], addresses[:count], 200) for count in (1, 10)]
        rows.append(["raw loop", *(f"{took * 1e3:.2f}" for took in raw), ""])
        for kind in having(kinds, "get_multi"):
            one = run_target(kind, "get_multi", servers=addresses[:1], keys=100, repeat=200)
            ten = run_target(kind, "get_multi", servers=addresses, keys=100, repeat=200)
            slow = run_target(kind, "get_multi", servers=[late, *addresses[1:]], keys=100, repeat=11)
            rows.append([kind.name, *(f"{took * 1e3:.2f}" if took else FAILED for took in (one, ten, slow))])
    title = "get_multi of 100 keys, milliseconds: one server, ten, and ten of which one answers 50 ms late"
    return [{"title": title, "columns": ["client", "1 server", "10 servers", "10, one late"], "rows": rows}]


def raw_seconds(call: Call, addresses: list[str], repeat: int) -> float:
    """The median time of one call of the raw loop."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan"
        plan.write_bytes(raw_plan(call, "raw", addresses))
        raw = Worker([str(build_raw()), str(plan)])
        try:
            times: list[int] = [json.loads(raw.ask("1"))[0] for _ in range(repeat)]
            return statistics.median(times) / 1e9
        finally:
            raw.close()


def raw_key(method: str, addresses: list[str], keys: int) -> str:
    """Nanoseconds a key of the raw loop."""
    if method == "set_multi" and keys > 10_000:
        return ""  # it reads nothing before all is sent, and so many replies would not fit into the socket's buffers
    call = dataclasses.replace(BY_NAME[f"{method}_100"], keys=keys)
    return f"{raw_seconds(call, addresses, max(3, min(2000, 200_000 // keys))) * 1e9 / keys:,.0f}"


def keys_in_a_call(kinds: list[Kind]) -> list[Table]:
    counts = [10, 100, 1000, 10_000, 100_000]
    rows: dict[str, list[list[str]]] = {"get_multi": [], "set_multi": []}
    with servers(1, unix=False) as addresses:
        for method in rows:
            rows[method].append(["raw loop", *(raw_key(method, addresses, count) for count in counts)])
        for kind in having(kinds, "get_multi", "set_multi"):
            figures = [run_target(kind, "keys", servers=addresses, count=count) for count in counts]
            for method, place in (("get_multi", 0), ("set_multi", 2)):
                texts = [f"{row[place]:,.0f} / {row[place + 1]:,.0f}" if row else FAILED for row in figures]
                rows[method].append([kind.name, *texts])
    columns = ["client", *(f"{count:,} keys" for count in counts)]
    what = "nanoseconds a key: wall clock / CPU of the client"
    tables = [{"title": f"{method}, {what}", "columns": columns, "rows": rows[method]} for method in rows]
    if OURS in [kind.name for kind in kinds] and not callgrind.lack():
        calls = ["get_multi_10", "get_multi_100", "get_multi_1000"]
        counted = callgrind.count(KINDS[OURS], calls, ["bound"], look_up=False)
        row = [f"{counted[call]['bound'] / BY_NAME[call].keys:,.0f}" for call in calls]
        columns = [BY_NAME[call].title for call in calls]
        tables.append({"title": f"{OURS}: user-space instructions a key", "columns": columns, "rows": [row]})
    return tables


def servers_in_the_list(kinds: list[Kind]) -> list[Table]:
    counts = [1, 10, 100, 1000]
    rows: list[list[list[str]]] = [[], []]
    instructions: list[str] = []
    with many_addresses(max(counts)) as (addresses, _):
        if OURS in [kind.name for kind in kinds] and not callgrind.lack():
            for count in counts:
                counted = callgrind.count(KINDS[OURS], ["get"], ["bound"], False, addresses[:count])
                instructions.append(f"{counted['get']['bound']:,.0f}")
        for kind in kinds:
            figures = run_target(kind, "server_list", servers=addresses, counts=counts) or [None] * len(counts)
            for part, place in ((0, 0), (1, 2)):
                texts = [f"{row[place] * 1e6:.1f} / {row[place + 1] * 1e6:.1f}" if row else FAILED for row in figures]
                rows[part].append([kind.name, *texts])
    columns = ["client", *(f"{count:,} servers" for count in counts)]
    what = ["get of one key, microseconds by the number of servers in the list", "gets that go round all servers"]
    tables = [
        {"title": f"{title}: wall clock / CPU of the client", "columns": columns, "rows": rows[place]}
        for place, title in enumerate(what)
    ]
    if instructions:
        title = f"{OURS}: user-space instructions of a get by the number of servers in the list (64 keys in turn)"
        tables.append({"title": title, "columns": columns[1:], "rows": [instructions]})
    return tables


def idle_connections(kinds: list[Kind]) -> list[Table]:
    if OURS not in [kind.name for kind in kinds]:
        return []
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    threads = [count for count in (1, 10, 100) if hard == resource.RLIM_INFINITY or count * 100 + 500 < hard]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with many_addresses(100) as (addresses, pid):
        arguments = {"servers": addresses, "pid": pid}
        figures = [run_target(KINDS[OURS], "idle_connections", threads=count, **arguments) for count in threads]
    rows = [[f"{row[0]:,.0f}", f"{row[1] * 1e6:.2f}", f"{row[2] * 1e6:.1f}"] for row in figures]
    title = "CPU of a get by the number of idle connections of the client (100 servers), microseconds"
    columns = ["connections", "in a thread that calls often", "the one call of a new thread, its start included"]
    return [{"title": title, "columns": columns, "rows": rows}]


def idle_memory(kinds: list[Kind]) -> list[Table]:
    if OURS not in [kind.name for kind in kinds]:
        return []
    from mcext.testing import memcached

    with memcached("-t", "1") as server:
        figures = run_target(KINDS[OURS], "idle_memory", servers=[server.address], pid=server.pid, threads=64)
    rows = [["get of 1 MB", f"{figures[0]:,.0f}"], ["set of 1 MB", f"{figures[1]:,.0f}"]]
    return [{"title": "User memory of an idle connection", "columns": ["after", "bytes"], "rows": rows}]


def threads_together(kinds: list[Kind]) -> list[Table]:
    rounds: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    with servers(1, unix=False) as addresses:
        for _ in range(12):
            for kind in kinds:
                arguments = {"servers": addresses, "threads": 8, "calls": 800, "rounds": 3}
                rounds[kind.name] += run_target(kind, "threads_together", **arguments) or []
    rows = []
    for name, rates in rounds.items():
        if len(rates) < 2:
            rows.append([name, FAILED, ""])
            continue
        low, median, high = statistics.quantiles(rates, n=4)
        rows.append([name, f"{median:,.0f}", f"{low:,.0f}–{high:,.0f}"])
    title = "8 threads together, gets a second (one shared client here, a client for each thread in the others)"
    return [{"title": title, "columns": ["client", "median", "quartiles"], "rows": rows}]


def shared_client(kinds: list[Kind]) -> list[Table]:
    """On free-threaded CPython: what sharing one client costs each call. A call takes less where threads keep the cores
    busy, so the measure is as many threads that share nothing."""
    if OURS not in [kind.name for kind in kinds]:
        return []
    threads = [1, 2, 4]
    with servers(1, unix=True) as addresses:
        arguments = {"servers": addresses, "threads": threads, "calls": 200_000, "rounds": 10}
        figures = run_target(KINDS[OURS], "shared_cpu", **arguments)
    rows = []
    for count, figure in zip(threads, figures):
        shared_user, shared, own_user, own = (seconds * 1e6 for seconds in figure)
        texts = [f"{shared_user:.2f}", f"{own_user:.2f}", f"{(shared_user / own_user - 1) * 100:+.0f} %"]
        texts += [f"{shared:.2f}", f"{own:.2f}", f"{(shared / own - 1) * 100:+.0f} %"]
        rows.append([str(count), *texts])
    title = (
        f"Free-threaded CPython {sys.version.split()[0]}: CPU of a get, microseconds, of threads that share one client"
    )
    columns = ["user CPU", "a client each", "sharing", "with the system's", "a client each", "sharing"]
    return [{"title": title, "columns": ["threads", *columns], "rows": rows}]


IMPORT = """
import sys, time
before = set(sys.modules)
start = time.process_time_ns()
import memcache
took = time.process_time_ns() - start
added = set(sys.modules) - before
print(took, len(added), *sorted(added & {"pickle", "socket", "threading", "zlib"}))
"""


def import_time(kinds: list[Kind]) -> list[Table]:
    taking_part = [kind for kind in kinds if kind.name in (OURS, "python-memcached")]
    times: dict[str, list[float]] = {kind.name: [] for kind in taking_part}
    modules = {}
    for _ in range(60):
        for kind in taking_part:
            command = [sys.executable, "-c", IMPORT]
            result = subprocess.run(
                command, cwd=HERE, env=child_environment(kind), check=True, capture_output=True, text=True
            )
            took, added, *names = result.stdout.split()
            times[kind.name].append(int(took) / 1e6)
            modules[kind.name] = [added, ", ".join(names)]
    rows = []
    for name, figures in times.items():
        low, median, high = statistics.quantiles(figures, n=4)
        rows.append([name, f"{median:.2f}", f"{low:.2f}–{high:.2f}", *modules[name]])
    title = "What `import memcache` adds to the start of an interpreter, milliseconds of CPU"
    return [{"title": title, "columns": ["package", "median", "quartiles", "modules", "of these"], "rows": rows}]


MEASUREMENTS: dict[str, Callable[[list[Kind]], list[Table]]] = {
    "late": late_server,
    "keys": keys_in_a_call,
    "servers": servers_in_the_list,
    "idle": idle_connections,
    "memory": idle_memory,
    "threads": shared_client if FREE_THREADED else threads_together,
    "import": import_time,
}


def measure(kinds: list[Kind], progress: Any, names: list[str] | None = None) -> list[Table]:
    tables = []
    for name in names or MEASUREMENTS:
        progress(f"scale: {name}")
        tables += MEASUREMENTS[name](kinds)
    return tables


def free_threaded(python: str, progress: Any) -> list[Table]:
    """The measurement that needs a free-threaded CPython, run by that interpreter, which must have mcext installed."""
    progress(f"scale: threads, on {python}")
    command = [python, str(Path(__file__).resolve()), "threads", "--clients", OURS, "--json"]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    tables: list[Table] = json.loads(result.stdout)
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description="how the cost of a call grows")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(MEASUREMENTS)}")
    parser.add_argument("--clients", nargs="+", choices=list(KINDS), metavar="CLIENT")
    parser.add_argument("--json", action="store_true", help="print the tables as JSON")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASUREMENTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    kinds, missing = available_kinds(options.clients)
    for name, reason in missing.items():
        print(f"{name} is left out: {reason}", file=sys.stderr)
    tables = measure(kinds, lambda text: print(f"... {text}", file=sys.stderr, flush=True), options.names)
    if options.json:
        print(json.dumps(tables))
        return
    import report

    report.show({"clients": [], "left_out": {}, "scale": tables})


if __name__ == "__main__":
    main()
