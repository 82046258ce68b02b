"""A bare connection to one server, for what Cache has no method for: listings of keys, and what `check` looks at.

Every wait ends: a connect, with TLS and authentication, after the timeout, and each line of an answer, too. A line has
a length that it may not exceed. What fails is one of mcext.errors.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import ssl
import warnings
from time import monotonic, time
from typing import TYPE_CHECKING, NoReturn

from mcext import _core, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from mcext.cli.fleet import Access

__all__ = ["Connection"]

_LINE_AT_MOST = 4096
_READ_AT_ONCE = 1 << 16
_MONTH = 30 * 24 * 60 * 60
_VALUE_AT_MOST = 1 << 27
_STATISTICS_AT_MOST = 100_000


class Connection:
    """address: as servers are written. Raises MemcacheError where the server does not let in whoever calls; ValueError
    where it is no address."""

    def __init__(self, address: str, access: Access) -> None:
        self.address = address
        self._timeout = access.timeout
        self._until = monotonic() + access.timeout
        self._buffer = b""
        self._socket = self._connect(access)
        try:
            if access.username is not None:
                self._authenticate(access.username.encode("utf-8", "surrogateescape"), access.password or b"")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def shut(self) -> None:
        """End it, also for another thread that waits for it."""
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    @property
    def is_in_clear(self) -> bool:
        return not isinstance(self._socket, ssl.SSLSocket)

    @property
    def tls(self) -> str:
        """The version of TLS and the cipher; "": it is not spoken."""
        if not isinstance(self._socket, ssl.SSLSocket):
            return ""
        cipher = self._socket.cipher()
        return f"{self._socket.version()}, {cipher[0] if cipher else 'no cipher'}"

    # ---- to ask and to read

    def ask(self, line: bytes) -> bytes:
        """Send a line; the first line of the answer."""
        self.send(line + b"\r\n")
        return self.line()

    def send(self, data: bytes) -> None:
        self._until = monotonic() + self._timeout
        try:
            self._in_time().sendall(data)
        except OSError as error:
            self._failed(error)

    def line(self) -> bytes:
        """The next line, without its end."""
        self._until = monotonic() + self._timeout
        while (end := self._buffer.find(b"\n")) < 0:
            self._check_length(self._buffer)
            self._more()
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        self._check_length(line)
        return line.rstrip(b"\r")

    def lines(self) -> Iterator[bytes]:
        """Lines, without their ends, until one of them is END, which is left out."""
        while True:
            self._until = monotonic() + self._timeout
            *lines, self._buffer = self._buffer.split(b"\n")
            for line in lines:
                self._check_length(line)
                line = line.rstrip(b"\r")
                if line == b"END":
                    return
                yield line
            self._check_length(self._buffer)
            self._more()

    def block(self) -> bytes:
        """What comes next, as it comes."""
        if not self._buffer:
            self._until = monotonic() + self._timeout
            self._more()
        block, self._buffer = self._buffer, b""
        return block

    def statistics(self, argument: bytes = b"") -> dict[str, str]:
        """What `stats` says, or `stats argument`."""
        self.send(b"stats " + argument + b"\r\n" if argument else b"stats\r\n")
        found: dict[str, str] = {}
        for line in self.lines():
            words = line.decode("utf-8", "backslashreplace").split(" ", 2)
            if words[0] != "STAT" or len(words) < 2 or len(found) == _STATISTICS_AT_MOST:
                self.refuse(line)
            found[words[1]] = words[2] if len(words) > 2 else ""
        return found

    def value(self, key: bytes) -> tuple[int, bytes] | None:
        """(flags, bytes) of an item; None where there is none, or only the stub of a lease."""
        line = self.ask(b"mg " + key + b" f v")
        meta = re.fullmatch(rb"VA (\d{1,10}) f(\d{1,10})((?: [A-Z])*)", line)
        if meta is not None:
            data = self._body(int(meta[1]))
            return None if meta[3] else (int(meta[2]), data)
        if line in (b"EN", b"HD"):
            return None
        line = self.ask(b"get " + key)
        if line == b"END":
            return None
        text = re.fullmatch(rb"VALUE \S+ (\d{1,10}) (\d{1,10})", line)
        if text is None:
            self.refuse(line)
        data = self._body(int(text[2]))
        if self.line() != b"END":
            self.refuse(b"more than one value")
        return int(text[1]), data

    def those_there(self, keys: list[bytes]) -> set[bytes]:
        """Those of the keys that the server has an item of; none where it has no meta protocol. It does not count as a
        use of the items."""
        self.send(b"".join(b"me %b\r\n" % key for key in keys) + b"mn\r\n")
        there, is_meta = set(), True
        for key in keys:
            line = self.line()
            if line.startswith(b"ME "):
                there.add(key)
            elif line == b"ERROR":
                is_meta = False
            elif line != b"EN":
                self.refuse(line)
        if self.line() != (b"MN" if is_meta else b"ERROR"):
            self.refuse(b"answers that are not in step")
        return there

    def store(self, verb: bytes, key: bytes, flags: int, data: bytes, ttl: float | None) -> bool:
        """set or add; ttl: seconds, or None. Whether it was stored."""
        seconds = 0 if ttl is None else math.ceil(ttl)
        if seconds > _MONTH:  # it would be taken for a time
            seconds += int(time())
        self.send(b"%b %b %d %d %d\r\n%b\r\n" % (verb, key, flags, seconds, len(data), data))
        line = self.line()
        if line not in (b"STORED", b"NOT_STORED"):
            self.refuse(line)
        return line == b"STORED"

    def refuse(self, line: bytes) -> NoReturn:
        """The server's line is none that was to come: raise what it means."""
        words = line.decode("utf-8", "backslashreplace")[:200]
        if line.startswith(b"CLIENT_ERROR unauthenticated"):
            raise errors.AuthenticationError("the server wants a name and a password", server=self.address)
        if line.startswith((b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")):
            raise errors.ServerError(words, server=self.address)
        raise errors.ProtocolError(f"the server answered what no memcached answers: {words!r}", server=self.address)

    # ---- beneath

    def _connect(self, access: Access) -> socket.socket:
        host = _core._Server(self.address)
        error: OSError = OSError("the name has no address")
        try:
            if isinstance(host.address, str):
                return self._open(socket.AF_UNIX, host.address, 1)
            name, port = host.address
            rows = socket.getaddrinfo(name, port, host.family, socket.SOCK_STREAM)
            for number, (family, _, _, _, address) in enumerate(rows):
                try:
                    plain = self._open(family, address, len(rows) - number)
                    break
                except OSError as failed:
                    error = failed
            else:
                raise error
        except OSError as failed:
            self._failed(failed)
        if access.tls_context is None:
            return plain
        try:
            plain.settimeout(self._left())
            return access.tls_context.wrap_socket(plain, server_hostname=access.tls_server_hostname or name)
        except OSError as failed:
            plain.close()
            self._failed(failed)
        except BaseException:
            plain.close()
            raise

    def _open(self, family: int, address: object, among: int) -> socket.socket:
        """One that is silent leaves time for those behind it."""
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.settimeout(max(self._left() / among, 0.001))
            made.connect(address)  # type: ignore[arg-type]
            return made
        except BaseException:
            made.close()
            raise

    def _authenticate(self, username: bytes, password: bytes) -> None:
        if self.is_in_clear and not self._is_local():
            # In the words of Cache, which may say the same: a warning is shown once.
            text = "the password goes to {} in clear: without a tls_context everybody on the way can read it"
            warnings.warn(text.format(_core._Server(self.address).address[0]), RuntimeWarning, stacklevel=2)
        words = username + b" " + password
        self.send(b"set auth 0 -1 %d\r\n%b\r\n" % (len(words), words))
        if self.line() != b"STORED":  # its words may repeat what it was told
            raise errors.AuthenticationError("the server does not take the name and the password", server=self.address)

    def _is_local(self) -> bool:
        if self._socket.family == socket.AF_UNIX:
            return True
        import ipaddress

        return ipaddress.ip_address(self._socket.getpeername()[0].partition("%")[0]).is_loopback

    def _body(self, size: int) -> bytes:
        if size > _VALUE_AT_MOST:
            raise errors.ProtocolError(f"the server announced a value of {size} bytes", server=self.address)
        parts, lack = [], size + 2
        while lack > len(self._buffer):
            lack -= len(self._buffer)
            parts.append(self._buffer)
            self._buffer = b""
            self._more()
        whole = b"".join([*parts, self._buffer[:lack]])
        self._buffer = self._buffer[lack:]
        if not whole.endswith(b"\r\n"):
            self.refuse(whole[-20:])
        return whole[:-2]

    def _more(self) -> None:
        try:
            data = self._in_time().recv(_READ_AT_ONCE)
        except OSError as error:
            self._failed(error)
        if not data:
            raise errors.ConnectionLost("the server closed the connection", server=self.address)
        self._buffer += data

    def _check_length(self, line: bytes) -> None:
        if len(line) > _LINE_AT_MOST:
            self.refuse(line)

    def _left(self) -> float:
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _in_time(self) -> socket.socket:
        self._socket.settimeout(self._left())
        return self._socket

    def _failed(self, error: OSError) -> NoReturn:
        if isinstance(error, TimeoutError):
            raise errors.ServerTimeout("the server did not answer in time", server=self.address) from None
        text = error.strerror or str(error) or type(error).__name__
        raise errors.ServerUnavailable(text, server=self.address) from None
