"""A stream: the connection that one thread has to one server, and whether it is in step.

The rule that keeps one key's value from another key's caller: a stream is out of step from before the first byte of a
request is sent until its reply has been read whole. One that is found out of step, or that another process made, is
closed before anything else is done. Belongs to one thread (one greenlet); no lock.
"""

from __future__ import annotations

import sys
from functools import cache
from time import monotonic
from weakref import WeakKeyDictionary, ref

from mcext import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_modules = sys.modules

# Commands whose reply is one line, and the lines that are known to be all of it.
_ONE_LINE = frozenset(b"set add replace append prepend cas delete touch incr decr flush_all version verbosity".split())
_LISTS = frozenset([b"get", b"gets", b"gat", b"gats", b"stats"])
_WHOLE = frozenset(
    b"STORED NOT_STORED EXISTS NOT_FOUND DELETED TOUCHED OK".split()
    + [
        b"SERVER_ERROR object too large for cache",
        b"SERVER_ERROR out of memory storing object",
        b"CLIENT_ERROR cannot increment or decrement non-numeric value",
        b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]",
    ]
)


_STORAGE = frozenset(b"set add replace append prepend cas".split())


def one_command(data):
    """The line of a command, where data is one command whole, with its last end of line or without it; else None."""
    if not isinstance(data, (bytes, bytearray)):
        return None
    end = data.find(b"\r\n")
    rest = len(data) - end - 2  # of a data block and its end
    if end < 0 or rest == 0:
        return bytes(data[:end] if end >= 0 else data)
    words = data[:end].split()
    if len(words) > 4 and words[0] in _STORAGE and words[4].isdigit() and len(words[4]) <= 20:
        if rest == int(words[4]) or (rest == int(words[4]) + 2 and data.endswith(b"\r\n")):
            return bytes(data[:end])
    return None


def is_whole(line):
    """Whether this line is known to be all that a server says to a command with a reply of one line."""
    return line in _WHOLE or line.isdigit() or line.startswith(b"VERSION ")


class Stream(_core._Stream):
    """What one thread has of a server: a socket or None, bytes read and not yet used, and where it stands.

    What every call does is the base class's, in C.
    """

    __slots__ = ("__weakref__",)

    def begin_anew(self, socket):
        """A new connection in this place."""
        self.buffer = b""
        self.in_step = True
        self.sends = self.lines = self.unanswered = 0
        self.command = self.line = self.most = None
        self.started = False
        self.put(socket)

    def put(self, socket):
        """A socket, or another one around the same stream."""
        self.socket = socket
        self.kind = None
        self.forget_timeout()
        self.in_pieces = False
        if socket is not None:
            self.in_pieces = type(socket).__module__ != "socket"
            if note(socket, self):
                self.kind, self.flags = type(socket).noted

    def is_answered(self):
        """Whether the lines that were read are all of the reply to the one request that was sent."""
        command, line = self.command, self.line
        if self.sends != 1 or self.buffer or not line or not isinstance(command, bytes):
            return False
        word = command.split(None, 1)[0] if command.strip() else b""
        if word in _LISTS:
            return line == b"END"
        return word in _ONE_LINE and self.lines == 1 and is_whole(line) and not command.endswith(b" noreply")

    def _note(self, data):
        self.sent(one_command(data))

    def _set_timeout(self, seconds):
        set_timeout = getattr(self.socket, "settimeout", None)
        if set_timeout is not None:  # a test's fake may have none
            set_timeout(seconds)
        self.timeout = seconds

    def _ask_timeout(self, seconds):
        """Of a socket that somebody else made: a shorter time than ours is what he wants."""
        ask = getattr(self.socket, "gettimeout", None)
        timeout = ask() if ask is not None else seconds
        if not isinstance(timeout, (int, float, type(None))):  # a mock's
            timeout = seconds
        if timeout is not None and (seconds is None or timeout < seconds):
            self.most = timeout
        self.timeout = timeout

    def _receive_at_once(self, size):
        set_timeout = getattr(self.socket, "settimeout", None)
        if set_timeout is None:
            raise TimeoutError("timed out")
        set_timeout(0)
        self.timeout = 0
        try:
            data = self.socket.recv(size)
        except (BlockingIOError, TimeoutError):
            raise TimeoutError("timed out") from None
        return data

    def end_if(self, last):
        """end(), where the last line that was read is this one: the caller has not seen it."""
        if self.line == last:
            self.end()

    def go_on(self):
        """Between two batches of one call."""
        self.in_step = False
        self.sends = 0

    def leave_out(self, before):
        """The time since then went into the caller's own code: it is not the server's."""
        if self.deadline is not None:
            now = monotonic()
            self.deadline += now - before
            self.late = now >= self.deadline

    def is_quiet(self):
        """Whether the server has neither closed nor said anything, as far as the socket can be asked."""
        try:
            number = self.socket.fileno()
        except AttributeError:
            return True  # a test's fake
        if not isinstance(number, int) or _core._is_quiet(number):
            return True
        ssl = _modules.get("ssl")
        return ssl is not None and isinstance(self.socket, ssl.SSLSocket) and self._is_of_tls_alone(ssl)

    def _is_of_tls_alone(self, ssl):
        """Whether what has come is only what TLS itself says, as new keys; they are taken."""
        before = self.socket.gettimeout()
        self.socket.settimeout(0)
        try:
            self.socket.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        finally:
            self.socket.settimeout(before)
        return False


@cache
def noting(kind):
    """A class of sockets as this one, telling the stream of what is sent: also by who takes the socket from the host,
    as a copy of python-memcached's send_cmd does. On Python's own, a server that has closed is an error, no signal;
    another class's sendall may take no flags."""
    from socket import MSG_NOSIGNAL

    own = MSG_NOSIGNAL if kind.__module__ == "socket" else None

    class Socket(kind):
        __slots__ = ()
        noted = (kind, own)

        def sendall(self, data, *flags):
            _note(self, data)
            return super().sendall(data, *(flags or (() if own is None else (own,))))

    Socket.__name__, Socket.__qualname__, Socket.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Socket


def note(socket, stream):
    """From now on the stream is told of what is sent on this socket; False where it is not of Python's own kind."""
    module = _modules.get("_socket")
    if module is None or not isinstance(socket, module.socket):
        return False
    if not hasattr(type(socket), "noted"):
        try:
            socket.__class__ = noting(type(socket))
        except TypeError:  # a class whose objects cannot change it
            return False
    _streams[socket] = ref(stream)
    return True


def _note(socket, data):
    found = _streams.get(socket)
    stream = found and found()
    if stream is None or stream.socket is not socket:
        return
    if stream.busy:  # what the call has sent is counted: it knows its reply
        stream.in_step = False
        stream.sends += 1
    else:
        stream._note(data)


_streams: Any = WeakKeyDictionary()  # of sockets that are noted


_Local: Any = _core._Local
if _Local is object:  # put in place of threading.local: what is a thread's own must be so all the same
    from _thread import _local as _Local


class PerCaller(_Local):
    """An object for each thread; with greenlets that switch within a thread, one for each of them. They end with this,
    or with the thread or the greenlet: whichever goes first."""

    own = None
    by_greenlet = None

    def make(self):
        raise NotImplementedError

    def find(self):
        """The caller's."""
        greenlet = _greenlet()
        if greenlet is not None:
            found = self._by_greenlet().get(greenlet)
            if found is None:
                found = self.by_greenlet[greenlet] = self.make()
            return found
        found = self.own
        if found is None:
            found = self.own = self.make()
        return found

    def put(self, value):
        """Another one in its place."""
        greenlet = _greenlet()
        if greenlet is not None:
            self._by_greenlet()[greenlet] = value
        else:
            self.own = value

    def _by_greenlet(self):
        if self.by_greenlet is None:
            self.by_greenlet = WeakKeyDictionary()
        return self.by_greenlet


def _greenlet():
    """The greenlet that calls; None for a thread's own, and where the thread-local class tells them apart itself."""
    module = _modules.get("greenlet") if _core._local_is_native else None
    if module is None:
        return None
    current = module.getcurrent()
    return None if current.parent is None else current


class Streams(PerCaller):
    """The streams of one host."""

    make = staticmethod(Stream)
