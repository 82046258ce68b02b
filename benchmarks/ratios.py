"""How long each call takes in each client, as a ratio to the raw loop.

Client and server share one core, so that a call's whole cost shows and not only what the client does while the server
works. All clients take turns, round by round, so that whatever else the machine does falls on all of them; each round
compares with the raw loop of the same round.

On that one core nothing waits for anything but the processor, so a call's time is also the CPU time of client and
server together. Both are measured: where the machine does other work at the same time, only the second is of use.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clients import KINDS, Kind
from environment import Worker, build_raw, client_worker, cpu_time, pin, running_servers
from workload import Call, raw_plan

TRANSPORTS = {"tcp": False, "unix": True}
RAW_PREFIX = "raw"  # those of the clients are as long
CLOCKS = ("wall", "cpu")
SLOW = 15  # a client that takes so many times as long as the raw loop
FEW = 5  # does only so many rounds
RAWS = 3  # processes of the raw loop, in turn: how fast one copies 1 MB depends on where its memory happens to lie


def turn(name: str, worker: Worker, count: int, pids: list[int]) -> dict[str, int]:
    """One turn of a client, or of the raw loop, which has no name: nanoseconds by both clocks."""

    def run(count: int) -> list[int]:
        answer: list[int] = worker.order(run=count) if name else json.loads(worker.ask(str(count)))
        return answer

    run(1)  # a connection that was idle for long may be looked at first: not part of the figure
    before = cpu_time(pids)
    wall, cpu = run(count)
    return {"wall": wall, "cpu": cpu + cpu_time(pids) - before}


def calibrate(raw: Worker, milliseconds: float) -> int:
    """How many calls the raw loop does in that time."""
    count = 1
    while True:
        cpu: int = json.loads(raw.ask(str(count)))[1]
        if cpu > milliseconds * 1e6 / 8:  # half of a call's time, or a little less, is its client's
            return max(1, round(count * milliseconds * 1e6 / 2 / cpu))
        count *= 2


def measure_call(
    call: Call, servers: list[Any], workers: dict[str, Worker], rounds: int, milliseconds: float
) -> list[dict[str, Any]]:
    addresses = [server.address for server in servers]
    pids = [server.pid for server in servers]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan"
        plan.write_bytes(raw_plan(call, RAW_PREFIX, addresses))
        raws = [Worker([str(build_raw()), str(plan)]) for _ in range(RAWS)]
        try:
            taking_part = {"": raws[0]}
            shared = RAW_PREFIX if call.is_shared(len(addresses)) else ""
            for name, worker in workers.items():
                if call.method not in KINDS[name].methods:
                    continue
                try:
                    own = shared if KINDS[name].shares else ""
                    worker.order(call=call.name, keys=call.key_count(len(addresses)), shared=own)
                    taking_part[name] = worker
                except RuntimeError as error:
                    rows.append({"call": call.name, "client": name, "error": str(error)})
            count = calibrate(raws[0], milliseconds)
            times: dict[str, list[dict[str, int]]] = {name: [] for name in taking_part}
            for number in range(rounds):
                order = list(taking_part)
                order = order[number % len(order) :] + order[: number % len(order)]
                taking_part[""] = raws[number % RAWS]
                for name in order:
                    if len(times[name]) < FEW or times[name][0]["cpu"] < SLOW * times[""][0]["cpu"]:
                        times[name].append(turn(name, taking_part[name], count, pids))
        finally:
            for raw in raws:
                raw.close()
    limits = times.pop("")
    for name, taken in times.items():
        row = {"call": call.name, "client": name, "calls_in_a_round": count, "rounds": len(taken)}
        for clock in CLOCKS:
            ratios = [took[clock] / limit[clock] for took, limit in zip(taken, limits[: len(taken)], strict=True)]
            low, median, high = statistics.quantiles(ratios, n=4)
            raw_ns = statistics.median(limit[clock] for limit in limits) / count
            row[clock] = {"median": median, "low": low, "high": high, "raw_ns": raw_ns}
        rows.append(row)
    return rows


def measure(
    kinds: list[Kind],
    calls: Iterable[Call],
    transports: list[str],
    server_counts: list[int],
    rounds: int,
    milliseconds: float,
    core: int,
    progress: Any,
) -> list[dict[str, Any]]:
    """A row for each transport, number of servers, call and client."""
    before = os.sched_getaffinity(0)
    pin(core)
    rows = []
    try:
        for transport in transports:
            for server_count in server_counts:
                with running_servers(server_count, TRANSPORTS[transport]) as servers, contextlib.ExitStack() as stack:
                    workers = {}
                    for number, kind in enumerate(kinds):
                        if TRANSPORTS[transport] and not kind.unix:
                            continue
                        workers[kind.name] = client_worker(kind)
                        stack.callback(workers[kind.name].close)
                        workers[kind.name].order(open=[server.address for server in servers], prefix=f"{number:03d}")
                    for call in calls:
                        progress(f"{transport}, {server_count} server{'s' * (server_count > 1)}: {call.title}")
                        for row in measure_call(call, servers, workers, rounds, milliseconds):
                            rows.append({"transport": transport, "servers": server_count} | row)
    finally:
        os.sched_setaffinity(0, before)
    return rows
