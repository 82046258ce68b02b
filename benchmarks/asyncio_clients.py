"""The asyncio clients side by side: python benchmarks/asyncio_clients.py, or python benchmarks/run.py asyncio

What a call costs the client's process, and how long it takes, by the number of tasks that make calls at the same time,
on asyncio's own loop and on uvloop. Each task has keys of its own: with one key for all, a client that merges equal
gets of a turn would ask for one and count a hundred. Beside the clients stands the floor of the same round: a bare
asyncio.BufferedProtocol that sends each turn's requests in one write and counts the bytes of the replies.

All share a core with the servers. Each client on each loop is a process of its own, new for each row, since what malloc
learns from large values makes the small ones faster. They take turns, round by round, in another order each time; the
figures are medians over the rounds. The first call of each task in a turn is not timed.

One of them, redis-py, speaks to a redis-server, which is started for each row and stopped: another server, the outside
yardstick.

At last one of ten servers is stopped for a while: ten tasks wait for it, ninety ask the others, and measured is what
these take for a call, beside the same without the ten.

What a client needs is installed into build/bench. One that cannot be had is named and left out.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import environment  # noqa: E402
import report  # noqa: E402
from asyncio_contestants import CONTESTANTS, FLOOR, LOOPS  # noqa: E402

from mcext.testing import Memcached, memcached  # noqa: E402

TASKS = (1, 10, 100, 1000)
ROUNDS = 15
MILLISECONDS = 25  # of a turn, about; a turn has at least FEWEST calls a task
FEWEST = 5
SERVERS = 10
LATE_CALLS = 20  # of each task, while one server is stopped
STOPPED = 0.4  # seconds; less than any client waits for a reply
LATE_ROUNDS = 7
REDIS_SECONDS = 20  # until a redis-server answers; one that cannot start ends at once

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    method: str
    size: int
    tasks: Sequence[int] = TASKS

    @property
    def name(self) -> str:
        return f"{self.method}_{self.size}"

    @property
    def title(self) -> str:
        if self.method == "incr":
            return "incr"
        if self.method == "delete":
            return "delete"
        size = {100: "100 bytes", 10_000: "10 kB", 1_000_000: "1 MB"}[self.size]
        return f"get_many of 100, {size}" if self.method == "get_many" else f"{self.method}, {size}"


ROWS = (
    Row("get", 100),
    Row("set", 100),
    Row("incr", 100),
    Row("delete", 100),
    Row("get_many", 100, (1, 10, 100)),
    Row("get", 10_000),
    Row("set", 10_000),
    Row("get", 1_000_000, (1, 10)),
    Row("set", 1_000_000, (1, 10)),
)


def redis_lack() -> str:
    if not shutil.which("redis-server"):
        return "there is no redis-server (Debian: redis-server)"
    try:
        with redis_server():
            return ""
    except RuntimeError as error:
        return str(error)


def redis_version() -> str:
    """As in "Redis 7.0.15"."""
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()
    return " ".join([said[0], *(word.removeprefix("v=") for word in said if word.startswith("v="))])


def redis_answers(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=1) as sock:
        sock.sendall(b"PING\r\n")
        return sock.recv(7) == b"+PONG\r\n"
    return False


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """Starts one that keeps nothing on disk; yields its address once it answers. RuntimeError where it does not."""
    with socket.socket() as holder, tempfile.TemporaryDirectory(prefix="mcext-") as folder:
        # A socket that is bound so and does not listen keeps the port from all but who asks for it by number.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        host, port = holder.getsockname()
        options = ["--port", str(port), "--bind", host, "--save", "", "--appendonly", "no", "--dir", folder]
        output = Path(folder) / "output"
        with output.open("wb") as log:
            process = subprocess.Popen(["redis-server", *options], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + REDIS_SECONDS
            while not redis_answers((host, port)):
                if process.poll() is not None or time.monotonic() > deadline:
                    said = output.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
                    raise RuntimeError(f"redis-server does not start: {said[-1]}")
                time.sleep(0.02)
            yield f"{host}:{port}"
        finally:
            process.kill()
            process.wait()


class Seat:
    """A contestant on a loop, and the processes that it has one after the other."""

    def __init__(self, name: str, loop: str) -> None:
        self.name, self.loop = name, loop
        self.contestant = CONTESTANTS[name]
        self.worker: Any = None
        packages = [*self.contestant.packages, *filter(None, [LOOPS[loop]])]
        folders = [str(environment.install(package)) for package in packages]
        folders += filter(None, [os.environ.get(environment.BUILD_ENVIRONMENT)])
        self.environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
        if folders:
            self.environment["PYTHONPATH"] = os.pathsep.join(folders)
        self.command = [sys.executable, str(environment.HERE / "asyncio_worker.py"), name, loop]

    def lack(self) -> str:
        if self.contestant.redis and (reason := redis_lack()):
            return reason
        result = subprocess.run([*self.command, "--check"], env=self.environment, capture_output=True, text=True)
        return "" if result.returncode == 0 else (result.stderr.strip().splitlines() or ["it cannot be imported"])[-1]

    def begin(self, servers: list[str], tasks: int) -> None:
        self.worker = environment.Worker(self.command, self.environment)
        self.worker.order(open=servers, tasks=tasks)

    def end(self) -> None:
        if self.worker:
            with contextlib.suppress(RuntimeError):
                self.worker.order(close=True)
            self.worker.close()
        self.worker = None


def loop_lack(loop: str) -> str:
    if not LOOPS[loop]:
        return ""
    try:
        folder = environment.install(LOOPS[loop])
    except RuntimeError as error:
        return str(error)
    command = [sys.executable, "-c", f"import {LOOPS[loop]}"]
    found = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True)
    return "" if found.returncode == 0 else (found.stderr.strip().splitlines() or ["the import failed"])[-1]


def seats(names: Sequence[str], loops: Sequence[str], missing: dict[str, str]) -> list[Seat]:
    """Those that can be had; the others' reasons are put into missing."""
    found = []
    for loop in loops:
        if reason := loop_lack(loop):
            missing[loop] = reason
            continue
        for name in names:
            if name in missing:
                continue
            try:
                seat = Seat(name, loop)
                reason = seat.lack()
            except RuntimeError as error:
                reason = str(error)
            if reason:
                missing[name] = reason
            else:
                found.append(seat)
    return found


def measure_row(
    row: Row, tasks: int, all_seats: list[Seat], servers: dict[bool, str], rounds: int, milliseconds: float
) -> list[dict[str, Any]]:
    errors: dict[Seat, str] = {}  # the last one of each
    counts: dict[Seat, int] = {}
    taken: dict[Seat, dict[int, tuple[float, float]]] = {seat: {} for seat in all_seats}  # by round

    def begin(seat: Seat) -> None:
        prefix = f"{all_seats.index(seat):02d}"
        seat.begin([servers[seat.contestant.redis]], tasks)
        seat.worker.order(call=row.method, size=row.size, prefix=prefix)
        wall, _ = seat.worker.order(run=FEWEST)
        counts.setdefault(seat, max(FEWEST, int(milliseconds * 1e6 * FEWEST / max(wall, 1))))

    for number in range(rounds):
        first = number % len(all_seats)
        for seat in all_seats[first:] + all_seats[:first]:
            try:
                if not seat.worker:
                    begin(seat)
                wall, cpu = seat.worker.order(run=counts[seat])
            except RuntimeError as error:
                errors[seat] = str(error)
                seat.end()
                continue
            calls = counts[seat] * tasks * 1000
            taken[seat][number] = cpu / calls, wall / calls
    for seat in all_seats:
        seat.end()
    floors = {seat.loop: taken[seat] for seat in all_seats if seat.name == FLOOR}
    points = []
    for seat in all_seats:
        point: dict[str, Any] = {"call": row.name, "tasks": tasks, "loop": seat.loop, "client": seat.name}
        if len(taken[seat]) < max(2, rounds // 2):
            point["error"] = errors[seat]
            points.append(point)
            continue
        if len(taken[seat]) < rounds:
            point |= {"failed_rounds": rounds - len(taken[seat]), "why": errors[seat]}
        for place, clock in enumerate(("cpu", "wall")):
            low, median, high = statistics.quantiles([figures[place] for figures in taken[seat].values()], n=4)
            point[clock] = {"median": round(median, 3), "low": round(low, 3), "high": round(high, 3)}
            floor = floors.get(seat.loop, {})
            ratios = [taken[seat][number][place] / floor[number][place] for number in taken[seat] if number in floor]
            if ratios:
                point[clock]["ratio"] = round(statistics.median(ratios), 3)
        points.append(point)
    return points


def measure_late(all_seats: list[Seat], rounds: int, progress: Progress) -> list[dict[str, Any]]:
    some = [seat for seat in all_seats if seat.contestant.many_servers]
    taken: dict[tuple[Seat, bool], list[list[float]]] = {(seat, late): [] for seat in some for late in (False, True)}
    errors: dict[Seat, str] = {}
    with contextlib.ExitStack() as stack:
        running: list[Memcached] = [stack.enter_context(memcached("-t", "1")) for _ in range(SERVERS)]
        stopped = running[-1]
        for number, seat in enumerate(some):
            try:
                seat.begin([server.address for server in running], 100)
                seat.worker.order(place=f"late{number:02d}", server=stopped.address)
            except RuntimeError as error:
                errors[seat] = str(error)
        for number in range(rounds):
            progress(f"one late server of ten: round {number + 1} of {rounds}")
            first = number % max(1, len(some))
            for seat in some[first:] + some[:first]:
                for late in (False, True) if seat not in errors else ():
                    timer = threading.Timer(STOPPED, os.kill, (stopped.pid, signal.SIGCONT))
                    if late:
                        os.kill(stopped.pid, signal.SIGSTOP)
                        timer.start()
                    try:
                        taken[seat, late].append(seat.worker.order(others=LATE_CALLS, late=late))
                    except RuntimeError as error:
                        errors[seat] = str(error)
                    finally:
                        if late:
                            timer.join()
        for seat in some:
            seat.end()
    rows = []
    for seat in some:
        row: dict[str, Any] = {"loop": seat.loop, "client": seat.name}
        if seat in errors:
            row["error"] = errors[seat]
        else:
            for late, title in ((False, "well"), (True, "late")):
                columns = zip(*taken[seat, late], strict=True)
                *times, failed = columns
                row[title] = [*(round(statistics.median(column) / 1e6, 3) for column in times), sum(failed)]
        rows.append(row)
    return rows


def measure(
    progress: Progress,
    missing: dict[str, str],
    core: int,
    rows: Sequence[Row] = ROWS,
    names: Sequence[str] = tuple(CONTESTANTS),
    loops: Sequence[str] = tuple(LOOPS),
    tasks: Sequence[int] = TASKS,
    rounds: int = ROUNDS,
    milliseconds: float = MILLISECONDS,
    late: bool = True,
) -> dict[str, Any]:
    """All that this part measures. Who is left out, and why, is put into missing."""
    lacking: dict[str, str] = {}
    all_seats = seats(names, loops, lacking)
    for name, reason in lacking.items():
        progress(f"{name} is left out: {reason}")
    missing |= lacking
    with_redis = any(seat.contestant.redis for seat in all_seats)
    version = {"redis": redis_version()} if with_redis else {}
    points: list[dict[str, Any]] = []
    allowed = os.sched_getaffinity(0)
    environment.pin(core)  # the servers and the clients, too
    try:
        for row in rows:
            for count in [count for count in row.tasks if count in tasks]:
                progress(f"{row.title}, {count} task{'s' if count > 1 else ''}")
                with contextlib.ExitStack() as stack:
                    server = stack.enter_context(memcached("-t", "1", "-m", "1024", "-I", "4m"))
                    servers = {False: server.address}
                    if with_redis:
                        servers[True] = stack.enter_context(redis_server())
                    points += measure_row(row, count, all_seats, servers, rounds, milliseconds)
        late_rows = measure_late(all_seats, LATE_ROUNDS, progress) if late else []
    finally:
        os.sched_setaffinity(0, allowed)
    return {"titles": {row.name: row.title for row in rows}, "points": points, "late": late_rows} | version


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each row (default: {ROUNDS})")
    parser.add_argument("--milliseconds", type=float, default=MILLISECONDS, help="length of a turn")
    parser.add_argument("--calls", nargs="+", choices=[row.name for row in ROWS], default=[row.name for row in ROWS])
    parser.add_argument("--clients", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--loops", nargs="+", choices=list(LOOPS), default=list(LOOPS))
    parser.add_argument("--tasks", nargs="+", type=int, choices=TASKS, default=TASKS)
    parser.add_argument("--no-late", action="store_true", help="without the late server")
    parser.add_argument("--only-late", action="store_true", help="only the late server")
    parser.add_argument("--core", type=int, default=environment.default_core(), help="the core for all")
    parser.add_argument("--docs", action="store_true", help="renew docs/asyncio.md and its plot from this run")
    options = parser.parse_args()

    def progress(text: str) -> None:
        print(f"... {text}", file=sys.stderr, flush=True)

    rows = [row for row in ROWS if row.name in options.calls and not options.only_late]
    missing: dict[str, str] = {}
    measured = measure(
        progress,
        missing,
        options.core,
        rows,
        options.clients,
        options.loops,
        options.tasks,
        options.rounds,
        options.milliseconds,
        not options.no_late,
    )
    results = {
        "date": datetime.date.today().isoformat(),
        "machine": environment.machine(),
        "left_out": missing,
        "asyncio": measured,
    }
    environment.BUILD.mkdir(parents=True, exist_ok=True)
    (environment.BUILD / "asyncio.json").write_text(json.dumps(results, indent=1) + "\n")
    report.show(results)
    report.write(results, environment.BUILD, "asyncio-tables.md")
    if options.docs:
        report.write_docs(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
