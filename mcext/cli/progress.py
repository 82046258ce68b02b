"""A progress bar on stderr, where that is a terminal. Where the library for it is missing the work goes on without."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mcext.cli.output import complain, is_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mcext.cli.fleet import Fleet

__all__ = ["count_of_items", "progress"]

_STEPS_AT_ONCE = 256


@contextmanager
def progress(what: str, total: Callable[[], int], is_quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Gives a function to be called with how many more steps are done. total: called where there is a bar. is_quiet: it
    is drawn at each step, and takes no time between them."""
    if not is_terminal(sys.stderr):
        yield lambda steps: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        complain("no progress bar: it needs pip install mcext[cli]")
        yield lambda steps: None
        return
    from mcext.cli.terminal import ended_in_order

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ended_in_order(), Progress(*columns, console=Console(stderr=True), auto_refresh=not is_quiet) as bar:
        task = bar.add_task(what, total=total())
        waiting = 0

        def step(steps: int) -> None:
            nonlocal waiting
            waiting += steps
            if is_quiet or waiting >= _STEPS_AT_ONCE:
                bar.update(task, advance=waiting, refresh=is_quiet)
                waiting = 0

        try:
            yield step
        finally:
            bar.advance(task, waiting)


def count_of_items(fleet: Fleet, addresses: list[str]) -> int:
    """How many items these servers say that they have; of one that does not answer, none."""
    count = 0
    for address in addresses:
        with fleet.one(address, errors="miss") as cache:
            for values in cache.stats().values():
                text = values.get("curr_items", "")
                count += int(text) if text.isdecimal() and len(text) < 16 else 0
    return count
