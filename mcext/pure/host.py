"""_Host: one server, as python-memcached's users see, subclass and patch it.

Structured as python-memcached 1.62's: `connect` goes through `_get_socket`, that through `_check_dead`, `expect` by
`readline`, and all bytes through `self.socket` and `self.buffer`, which are the calling thread's. The data (address,
weight, timeouts, dead mark) is the base class's, in C, and is the same for every thread and for calls that never come
here.
"""

from __future__ import annotations

import sys
from time import monotonic, sleep

from mcext import _core
from mcext.pure.stream import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_modules = sys.modules

# Where one of these comes, no other answer does: a server that wants a name and a password before anything else.
UNAUTHENTICATED = (
    b"CLIENT_ERROR unauthenticated",
    b"CLIENT_ERROR authentication failure",
    b"CLIENT_ERROR bad authentication token format",
)
# What a server may say to a noreply command.
LINES_PER_COMMAND = 8


class _Host(_core._Server):
    """One server of a client.

    _Host(host, debug=0, dead_retry=30, socket_timeout=3, flush_on_reconnect=0)

    host: as in Client, an address or (address, weight). dead_retry, socket_timeout: seconds.
    """

    __module__ = "memcache"

    def __init__(
        self,
        host: str | tuple[str, int],
        debug: int = 0,
        dead_retry: float = 30,
        socket_timeout: float | None = 3,
        flush_on_reconnect: int = 0,
    ) -> None:
        super().__init__(host, debug, dead_retry, socket_timeout, flush_on_reconnect)

    # The calling thread's stream

    def _find_here(self):
        """The caller's stream, which _here looks for before; made where there is none."""
        if self._streams is None:
            self._streams = Streams()
        return self._streams.find()

    @property
    def socket(self) -> Any:
        """The socket that the calling thread has to this server, or None."""
        stream = self._here()
        if stream.socket is None or stream.stamp == self._stamp:
            return stream.socket
        if stream.busy and stream.stamp >> 32 == _core._generation():
            return stream.socket  # disconnected meanwhile: the call in which it is goes on to its end
        return None

    @socket.setter
    def socket(self, value: Any) -> None:
        stream = self._here()
        if self.socket is None:
            if stream.busy and value is not None:
                stream = self._park(stream)
            elif stream.socket is not None:
                stream.socket.close()  # another process's, or from before a disconnect
            stream.begin_anew(value)
            stream.stamp = self._stamp
        else:  # another one around the same stream (TLS), or none
            stream.put(value)

    @property
    def buffer(self) -> bytes:
        """Bytes that were read from that socket and not yet used."""
        return self._here().buffer

    @buffer.setter
    def buffer(self, value: bytes) -> None:
        self._here().buffer = value if type(value) is bytes else bytes(memoryview(value))

    # python-memcached's methods

    def debuglog(self, str: object) -> None:
        """Write a line to sys.stderr where debug is set."""
        if self.debug and sys.stderr is not None:
            sys.stderr.write(f"MemCached: {str}\n")

    def _check_dead(self) -> int:
        """1 while the dead mark holds, else 0."""
        until = self.deaduntil
        if not until:
            return 0
        if until > _core._wall_clock():
            return 1
        self.deaduntil = 0
        return 0

    def connect(self) -> int:
        """Connect, for the calling thread; 1, or 0 where the server cannot be reached."""
        if self._get_socket():
            return 1
        return 0

    def mark_dead(self, reason: object) -> None:
        """Take the server as dead for dead_retry seconds, for all threads, and close its connections."""
        self.debuglog(f"MemCache: {self}: {reason}.  Marking dead.")
        self._mark()
        if self.flush_on_reconnect:
            self.flush_on_next_connect = 1
        self.close_socket()
        self._disconnect(False)

    def _get_socket(self) -> Any:
        """The calling thread's socket, connected where it was not; None where the server is dead."""
        if self._check_dead():
            return None
        made = self._ready_socket()
        if made is not None:
            return made
        stream = self._here()
        if stream.socket is not None and self._is_in_step(stream) and stream.is_quiet():
            return stream.socket
        if stream.socket is not None or stream.busy:
            stream = self._put_aside(stream)
        try:
            made = self._open(stream)
        except (OSError, _core._Error) as error:
            self.mark_dead(f"connect: {error}")
            return None
        if self._take_flush() and not self._flush_first():
            return None
        return made

    def close_socket(self) -> None:
        """Close the calling thread's connection."""
        stream = self._here()
        socket = stream.socket
        stream.socket = None
        stream.buffer = b""
        if socket is not None:
            socket.close()

    def send_cmd(self, cmd: str | bytes | bytearray | memoryview) -> None:
        """Send a command, bytes or str, and the end of the line."""
        if isinstance(cmd, str):
            cmd = cmd.encode("utf8")
        self._send(b"".join((cmd, b"\r\n")))

    def send_cmds(self, cmds: str | bytes | bytearray | memoryview) -> None:
        """Send commands that have their ends of lines already."""
        if isinstance(cmds, str):
            cmds = cmds.encode("utf8")
        self._send(cmds)

    def readline(self, raise_exception: bool = False) -> Any:
        """The next line, as bytes, without its end.

        Where the server has closed: "", or _ConnectionDeadError with raise_exception. TimeoutError behind the time.
        """
        line = self._read_line()
        if line is not None:
            return line
        self.debuglog(f"MemCache: {self}: connection closed in readline().  Closing the connection.")
        self.close_socket()
        if raise_exception:
            raise _core._ConnectionDeadError()
        return ""

    def expect(self, text: Any, raise_exception: bool = False) -> Any:
        """readline(), with a debug line where it is not text."""
        line = self.readline(raise_exception)
        if self.debug and line != text:
            wanted = text if isinstance(text, str) else bytes(text).decode("utf8", "replace")
            shown = line if isinstance(line, str) else line.decode("utf8", "replace")
            self.debuglog(f"while expecting {wanted!r}, got unexpected response {shown!r}")
        return line

    def recv(self, rlen: int) -> bytes:
        """Exactly rlen bytes; memcache._Error where the server closes before."""
        return self._read(rlen)

    def quit(self) -> None:
        """Say quit and wait until the server has closed, so that its side keeps TIME_WAIT."""
        stream = self._here()
        if self.socket and not self._is_in_step(stream):
            self.close_socket()  # an answer is still to come, and somebody may wait for it
        elif self.socket:
            self.send_cmd("quit")
            seconds = self.socket_timeout
            until = None if seconds is None else monotonic() + seconds
            stream.deadline = until
            try:
                while self._receive(4096):  # nobody reads what it still says
                    if until is not None and monotonic() >= until:
                        break
            finally:
                stream.deadline = None
            self.close_socket()

    def flush(self) -> None:
        """Send flush_all and read the answer."""
        self.send_cmd("flush_all")
        self.expect(b"OK")

    def __str__(self) -> str:
        dead = f" (dead until {int(self.deaduntil)})" if self.deaduntil else ""
        if not hasattr(self, "ip"):
            return f"unix:{self.address}{dead}"
        if ":" in self.ip:
            return f"inet6:[{self.ip}]:{self.port}{dead}"
        return f"inet:{self.ip}:{self.port}{dead}"

    # What the above stands on

    def _is_in_step(self, stream):
        """Whether the next reply on it is the next request's."""
        if stream.stamp != self._stamp:
            return False
        if not stream.in_step:
            if stream.busy or not stream.is_answered():
                return False
            stream.step()  # a tool's exchange, read to its end
        return True

    def _put_aside(self, stream):
        """Closes it; but where an outer call of this thread reads from it, the inner one gets a stream of its own. The
        one to be used."""
        if stream.busy:
            return self._park(stream)
        self.close_socket()
        return stream

    def _park(self, stream):
        inner = type(stream)()
        inner.below = stream
        stream.is_parked = True
        self._streams.put(inner)
        return inner

    def _restore(self, stream):
        """An outer call goes on: its stream comes back, and what its caller's code left in its place is closed."""
        above = self._here()
        if above is not stream:
            if above.socket is not None:
                above.socket.close()
                above.socket = None
            stream.is_parked = False
            self._streams.put(stream)

    def _unpark(self, stream):
        """The inner call is over: the outer one's stream comes back. What is in step is kept until that is closed."""
        below, stream.below = stream.below, None
        if stream.in_step and stream.socket is not None and below.stamp != self._stamp:
            below.spare = stream
        elif stream.socket is not None:
            self.close_socket()
        below.is_parked = False
        self._streams.put(below)

    def _leave(self, stream):
        """A call is over that leaves its stream out of step, or has changed places with another call's."""
        if stream.is_parked:
            self._restore(stream)
        if stream.below is not None:
            self._unpark(stream)
        elif stream.socket is not None and not (stream.in_step and stream.stamp == self._stamp):
            try:
                self.close_socket()
            except OSError as error:
                self.debuglog(f"MemCache: {self}: {error}.  Closing the connection.")
        if stream.spare is not None:
            self._streams.put(stream.spare)
            stream.spare = None

    def _open(self, stream):
        """A connected socket, set as this thread's."""
        within = stream.connect_within
        if within is None:
            within = self.connect_timeout
        until = None if within is None else monotonic() + within
        while True:
            stamp = self._stamp
            made = self._connect(within)
            if stamp != self._stamp:
                made.close()  # a fork while it was made: the parent has it too; or a disconnect
                continue
            self.socket = made
            self.buffer = b""
            stream.timeout = seconds = self.socket_timeout
            if hasattr(made, "settimeout"):  # a test's fake may have none
                made.settimeout(seconds)
            stream.used = monotonic()
            try:
                self._authenticate(until)
            except ConnectionError:
                if stamp >> 32 == _core._generation():
                    raise
                continue  # the function that gives the password forked, and this is the child
            return made

    def _connect(self, within):
        import socket

        kind = _core._socket_class()  # None: Python's own, which is given each address of the name in turn
        if kind is not None or self.family == socket.AF_UNIX:
            addresses = [(self.family, self.address)]
        else:
            found = socket.getaddrinfo(self.ip, self.port, 0, socket.SOCK_STREAM)
            addresses = [(one[0], one[4]) for one in found]
        until = None if within is None else monotonic() + within
        error = OSError("the name has no address")
        for family, address in addresses:
            made = (kind or socket.socket)(family, socket.SOCK_STREAM)
            try:
                if hasattr(made, "settimeout"):
                    made.settimeout(None if until is None else max(until - monotonic(), 0.001))
                _connect(made, address, until)
                return self._wrap(made, until)
            except OSError as failed:
                made.close()
                error = failed
            except BaseException:
                made.close()
                raise
            if until is not None and monotonic() >= until:
                break
        raise error

    def _wrap(self, made, until):
        """The connected socket, in TLS where that is to be."""
        context = self.tls_context
        if context is None or not hasattr(self, "ip"):
            return made
        if hasattr(made, "settimeout"):
            made.settimeout(None if until is None else max(until - monotonic(), 0.001))
        return context.wrap_socket(made, server_hostname=self.tls_server_hostname or self.ip)

    def _flush_first(self):
        """flush_all on a connection to a server that was dead."""
        try:
            self.flush()
        except (OSError, _core._Error) as error:
            self.flush_on_next_connect = 1
            self.mark_dead(f"connect: {error}")
            return False
        stream = self._here()
        if stream.socket is None:
            return False
        if stream.is_answered():
            stream.step()
            return True
        self.close_socket()  # what it said is no answer, and what comes next nobody knows
        return bool(self._get_socket())

    def _bring_in_step(self, stream):
        """After noreply commands: what the server says to them goes, so that nobody takes it for the answer to what is
        sent next."""
        owed, stream.unanswered = stream.unanswered, 0
        self.send_cmd(b"version")
        self._read_to_marker(owed)
        if stream.buffer:
            raise _core._Error("bytes behind the reply")
        stream.step()

    def _read_to_marker(self, owed):
        """Reads up to the reply of a version that was sent behind so many noreply commands."""
        for _ in range(LINES_PER_COMMAND * owed + 1):
            line = self.readline(True)
            if line.startswith(b"VERSION "):
                return
            if line in UNAUTHENTICATED:
                raise _core._Error(line.decode())
        raise _core._Error("more lines than commands")


def _connect(made, address, until):
    while True:
        try:
            return made.connect(address)
        except BlockingIOError:
            # A Unix socket whose server has too many callers already: there is no event to wait for.
            if not isinstance(address, str) or (until is not None and monotonic() >= until):
                raise
            sleep(0.001)


_core._set_host_type(_Host)
