"""bench: how fast servers answer this machine. It times calls of one Cache, which its threads share."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from mcext.cli.fleet import Fleet, Stored
from mcext.cli.options import add_servers, fleet, positive, seconds, whole
from mcext.cli.output import document, say
from mcext.cli.progress import progress
from mcext.errors import MemcacheError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from mcext.cache import Cache

__all__ = ["bench"]

_KINDS = 3  # of calls
_KEYS = 1000
_MANY = 100
_TTL = 600


def bench_options(parser: argparse.ArgumentParser) -> None:
    add_servers(parser, positional=True)
    parser.add_argument("--threads", type=positive, default=1, metavar="NUMBER", help="that call at the same time (1)")
    parser.add_argument("--size", type=whole, default=100, metavar="BYTES", help="of each value (100)")
    parser.add_argument("--seconds", type=seconds, default=2.0, metavar="SECONDS", help="for each kind of call (2)")


def bench(arguments: Any) -> int:
    where = fleet(arguments)
    keys = [f"mcext-bench:{os.getpid()}:{number}" for number in range(_KEYS)]
    value = Stored(b"v" * arguments.size, 1 << 16)  # a flag, so that no bytes are none of a lease
    results = []
    with where.cache() as cache:
        try:
            with progress("measuring", lambda: _KINDS, is_quiet=True) as step:
                for name, call in _calls(cache, keys, value):
                    results.append(_measure(name, call, arguments.threads, arguments.seconds))
                    step(1)
        finally:
            _clean(where, keys)
    if arguments.json:
        document({"threads": arguments.threads, "size": arguments.size, "results": results})
        return 0
    threads = f"{arguments.threads} thread{'' if arguments.threads == 1 else 's'}"
    say(f"{threads}, values of {arguments.size} bytes, {_KEYS} keys; microseconds of a call")
    say(f"{'':18} {'calls/s':>10} {'median':>9} {'99 %':>9} {'99.9 %':>9} {'longest':>9}")
    for row in results:
        times = " ".join(f"{row[name]:>9.1f}" for name in ("median", "p99", "p999", "longest"))
        say(f"{row['call']:18} {row['calls_per_second']:>10,.0f} {times}")
    return 0


def _clean(where: Fleet, keys: list[str]) -> None:
    """Delete what was stored, in a moment: what has failed, or was interrupted, is to be told. What is left expires."""
    with where.cache(timeout=min(where.access.timeout, 1.0), errors="miss") as cache:
        cache.delete_many(keys)


def _calls(cache: Cache[Stored], keys: list[str], value: Stored) -> Iterator[tuple[str, Callable[[int], object]]]:
    batches = [keys[at : at + _MANY] for at in range(0, _KEYS, _MANY)]
    yield "set", lambda number: cache.set(keys[number % _KEYS], value, _TTL)
    cache.set_many(dict.fromkeys(keys, value), _TTL)
    yield "get", lambda number: cache.get(keys[number % _KEYS])
    yield f"get_many of {_MANY}", lambda number: cache.get_many(batches[number % len(batches)])


def _measure(name: str, call: Callable[[int], object], threads: int, duration: float) -> dict[str, Any]:
    """The calls of all threads in so many seconds: how many a second, and microseconds of one."""
    end = threading.Event()
    taken: list[list[int]] = [[] for _ in range(threads)]
    failed: list[BaseException] = []

    def run(mine: list[int], number: int) -> None:
        clock, is_end = time.perf_counter_ns, end.is_set
        try:
            while not is_end():
                began = clock()
                call(number)
                mine.append(clock() - began)
                number += 1
        except BaseException as error:
            failed.append(error)
            end.set()

    workers = [
        threading.Thread(target=run, args=(mine, 7 * number), name=f"mcext bench {number}", daemon=True)
        for number, mine in enumerate(taken)
    ]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    try:
        end.wait(duration)
    finally:
        end.set()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - began
    if failed:
        raise failed[0]
    times = sorted(one for mine in taken for one in mine)
    if not times:
        raise MemcacheError("no call ended in the time", command=name)
    return {
        "call": name,
        "calls": len(times),
        "calls_per_second": round(len(times) / took, 1),
        **{label: _microseconds(times, share) for label, share in (("median", 0.5), ("p99", 0.99), ("p999", 0.999))},
        "longest": round(times[-1] / 1000, 1),
    }


def _microseconds(times: list[int], share: float) -> float:
    return round(times[min(int(len(times) * share), len(times) - 1)] / 1000, 1)
