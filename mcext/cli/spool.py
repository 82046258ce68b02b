"""A listing that is being read, kept in a temporary file until whoever wants its lines takes them.

memcached writes a listing from one thread, which goes through its items, and spoils it for a reader that takes nothing
for a second. So a thread here takes what comes at once; a pager, or a copy, may take its time.
"""

from __future__ import annotations

import os
import tempfile
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from mcext.cli.wire import Connection

__all__ = ["Spool"]

_END = b"END\r\n"
_READ_AT_ONCE = 1 << 16
_LINE_AT_MOST = 4096


class Spool:
    """Reads the connection until a line END, which is the last. Leaving the `with` closes the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._file = tempfile.TemporaryFile(buffering=0)
        self._changed = threading.Condition()
        self._length = 0
        self._is_whole = self._is_left = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="mcext listing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._is_left = True
        self._connection.shut()
        self._thread.join()
        self._file.close()

    def lines(self) -> Iterator[bytes]:
        """Without their ends. Raises the MemcacheError that ended the reading."""
        at, rest = 0, b""
        while block := self._take(at):
            at += len(block)
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
            if len(rest) > _LINE_AT_MOST:
                self._connection.refuse(rest)
        if self._error is not None:
            raise self._error

    def _take(self, at: int) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._length > at or self._is_whole)
            length = min(self._length - at, _READ_AT_ONCE)
        return os.pread(self._file.fileno(), length, at) if length else b""

    def _read(self) -> None:
        last = b"\n"  # the end of what came before
        try:
            while not self._is_left:
                block = self._connection.block()
                last = (last + block)[-len(_END) - 1 :]
                is_end = last.endswith(b"\n" + _END)
                self._keep(block[: -len(_END)] if is_end else block)
                if is_end:
                    break
        except BaseException as error:
            self._error = error
        with self._changed:
            self._is_whole = True
            self._changed.notify()

    def _keep(self, block: bytes) -> None:
        while block:
            written = os.pwrite(self._file.fileno(), block, self._length)
            block = block[written:]
            with self._changed:
                self._length += written
                self._changed.notify()
