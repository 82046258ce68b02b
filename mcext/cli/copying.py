"""copy: the items of one fleet to another, bytes, flags and times to live as they are.

Items are read where they are listed, and stored by `add` where the new fleet's placement says: what is there already,
or comes there meanwhile, stays. So the same command goes on after an interruption: what the new fleet has is not read
again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from mcext.cli.copier import NAMES, Copier
from mcext.cli.metadump import Listed, listing
from mcext.cli.options import add_access, add_placement, fleet_of, positive
from mcext.cli.output import complain, document, say
from mcext.cli.progress import count_of_items, progress
from mcext.cli.wrong import Wrong
from mcext.errors import MemcacheError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from mcext.cli.fleet import Fleet

__all__ = ["copy"]

_BATCH = 100
_LAST_SECONDS = 2.0
"""For which what is under way is waited for after Ctrl-C."""
_SHOWN_AT_MOST = 20
"""Failures of which each has a line; of the rest there is a number."""


def copy_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", help="servers to copy from, with commas between them")
    parser.add_argument("new", help="servers to copy to")
    parser.add_argument("--threads", type=positive, default=4, metavar="NUMBER", help="batches at the same time (4)")
    add_placement(parser)
    add_access(parser, "new-", " with the servers to copy to")


def copy(arguments: Any) -> int:
    old = fleet_of([arguments.old], _without_placement(arguments))
    new = fleet_of([arguments.new], arguments, "new-", on_dead=arguments.on_dead or "miss")
    addresses = old.addresses()
    work = _Work(old, new, arguments.threads)
    if {*addresses} & {*work.addresses}:
        raise Wrong("a server is in both fleets")
    try:
        with progress("copying", lambda: count_of_items(old, addresses)) as step:
            work.run(addresses, step)
    except KeyboardInterrupt:
        _say_counts(work, arguments.json)
        complain("interrupted; the same command goes on where this one ended")
        raise
    _say_counts(work, arguments.json)
    return int(work.is_incomplete)


def _without_placement(arguments: Any) -> Any:
    from argparse import Namespace

    return Namespace(**{name: value for name, value in vars(arguments).items() if name != "placement"})


def _say_counts(work: _Work, as_json: bool) -> None:
    counts = {name: work.counts[name] for name in NAMES}
    if as_json:
        document(counts)
    else:
        say(", ".join(f"{count} {NAMES[name]}" for name, count in counts.items() if count or name == "copied"))


class _Work:
    """Threads that copy batches of what is listed."""

    def __init__(self, old: Fleet, new: Fleet, threads: int) -> None:
        self._threads = threads
        self._copier = Copier(old, new, self._fail)
        self._old = old
        self._batches: queue.Queue[tuple[str, list[Listed]] | None] = queue.Queue(2 * threads)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._bugs: list[BaseException] = []
        self._shown = 0
        self.counts: Counter[str] = Counter()
        self.is_incomplete = False

    @property
    def addresses(self) -> list[str]:
        """Of the servers that are copied to."""
        return self._copier.addresses

    def run(self, addresses: list[str], step: Callable[[int], None]) -> None:
        threads = [
            threading.Thread(target=self._copy, args=(step,), name=f"mcext copy {number}", daemon=True)
            for number in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        try:
            for address in addresses:
                self._list(address)
            for _ in threads:
                self._put(None)
            self._join(threads)
        finally:
            self._stop.set()
            self._join(threads, _LAST_SECONDS)
            self._copier.close()
        if self._bugs:
            raise self._bugs[0]
        if self._shown > _SHOWN_AT_MOST:
            complain(f"{self._shown - _SHOWN_AT_MOST} more failures are not shown")

    def _list(self, address: str) -> None:
        batch: list[Listed] = []
        try:
            for item in listing(self._old, address):
                batch.append(item)
                if len(batch) == _BATCH:
                    self._put((address, batch))
                    batch = []
        except MemcacheError as error:
            self._fail(0, str(error))
        if batch:
            self._put((address, batch))

    def _put(self, batch: tuple[str, list[Listed]] | None) -> None:
        while not self._stop.is_set():  # a thread that met a fault of this program takes none any more
            try:
                self._batches.put(batch, timeout=0.1)
                return
            except queue.Full:
                continue

    def _copy(self, step: Callable[[int], None]) -> None:
        try:
            while not self._stop.is_set():
                try:
                    taken = self._batches.get(timeout=0.1)
                except queue.Empty:
                    continue
                if taken is None:
                    return
                address, batch = taken
                counts = self._copier.copy(address, batch, self._stop)
                with self._lock:
                    self.counts.update(counts)
                    step(len(batch))
        except BaseException as error:
            self._bugs.append(error)
            self._stop.set()

    @staticmethod
    def _join(threads: list[threading.Thread], within: float | None = None) -> None:
        until = None if within is None else time.monotonic() + within
        for thread in threads:
            thread.join(None if until is None else max(until - time.monotonic(), 0))

    def _fail(self, count: int, text: str) -> None:
        """So many items were not copied, and why."""
        if self._stop.is_set():  # what an interruption cuts off has not failed
            return
        with self._lock:
            self.counts["failed"] += count
            self.is_incomplete = True
            self._shown += 1
            if self._shown <= _SHOWN_AT_MOST:
                complain(text)
