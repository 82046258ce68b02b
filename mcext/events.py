"""What a cache tells its on_event hook."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NamedTuple

__all__ = ["Event"]


class Event(NamedTuple):
    """A call that failed or was slow, a dead mark, a connect.

    kind: "error", "slow", "dead" or "connect".
    command: the memcached command ("get").
    server: the address as it was given, or None where the call had no single one.
    keys: how many keys it is about.
    seconds: since the call began.
    error: the exception of a call that failed, whether it was raised or was a miss; else None.
    may_have_run: of an error: False where the server certainly did not execute the command.
    """

    kind: str
    command: str
    server: str | None
    keys: int
    seconds: float
    error: BaseException | None
    may_have_run: bool


_running = threading.local()


class _Unraisable(NamedTuple):
    exc_type: type[BaseException] | None
    exc_value: BaseException | None
    exc_traceback: TracebackType | None
    err_msg: str
    object: object


def tell(hook: Callable[[Event], object], events: Iterable[tuple[Any, ...]]) -> None:
    """Call hook for each event. It may use the cache, of which nothing is told then; what it raises goes to
    sys.unraisablehook.
    """
    if getattr(_running, "hook", False):
        return
    _running.hook = True
    try:
        for kind, command, server, keys, seconds, error, _ in events:
            run = bool(getattr(error, "may_have_run", False))
            try:
                hook(Event(kind, command, server or getattr(error, "server", None), keys, seconds, error, run))
            except BaseException:  # whatever it is, it must not reach the caller
                _report(hook)
    finally:
        _running.hook = False


def _report(hook: object) -> None:
    kind, value, traceback = sys.exc_info()
    told = _Unraisable(kind, value, traceback, "Exception ignored in on_event", hook)
    sys.unraisablehook(told)  # type: ignore[arg-type]  # a struct sequence of sys's own, which nobody else can make
