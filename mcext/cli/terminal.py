"""Keys of a terminal, one at a time, without Enter; and that a terminal is left as it was."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from mcext.cli.output import is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

__all__ = ["SUSPEND", "Keys", "ended_in_order"]

SUSPEND = "\x1a"
"""Ctrl-Z, which comes as a key, so that the screen can be left before the process stops."""
_END = ""
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|O.|.)?")
"""What a key such as an arrow sends: none of them means anything here."""


class Keys:
    """`with Keys() as keys`: standard input gives keys at once and shows none; afterwards it is as it was. Where it is
    no terminal there are no keys."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno() if is_terminal(sys.stdin) else -1
        self._before: list[object] = []
        self._typed: list[str] = []

    def __enter__(self) -> Self:
        if self._fd >= 0:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
            mode = termios.tcgetattr(self._fd)
            mode[6][termios.VSUSP] = b"\0"
            termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)
        return self

    def __exit__(self, *unused: object) -> None:
        if self._before:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    def next(self, within: float) -> str | None:
        """The next key; "" where there will be none any more; None where none comes in so many seconds."""
        if self._typed:
            return self._typed.pop(0)
        if self._fd < 0:
            time.sleep(within)
            return None
        if not select.select([self._fd], [], [], within)[0]:
            return None
        data = os.read(self._fd, 1024)
        if not data:
            return _END
        self._typed = list(_SEQUENCE.sub("", data.decode("latin-1")))
        return self._typed.pop(0) if self._typed else None


@contextmanager
def ended_in_order() -> Iterator[None]:
    """SIGTERM ends the program by way of what restores the terminal."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
