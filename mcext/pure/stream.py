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

_generation = _core._generation
_modules = sys.modules

# A stream that was idle for so long is looked at before it is used.
LOOK_AFTER = 1.0
# A socket's timeout is set anew where it is off by more than this part of what is left.
SLACK = 0.02
# Bytes that a socket which is not Python's own is given at once.
SEND_AT_ONCE = 65536

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


class Stream:
    """What one thread has of a server: a socket or None, bytes read and not yet used, and where it stands."""

    __slots__ = (
        "socket",  # None where there is no connection
        "buffer",  # bytes that were read and not used
        "stamp",  # the host's when the socket came: another process, or a disconnect since, makes it old
        "in_step",  # all replies have been read whole
        "busy",  # a call of a client is between its request and the end of the reply
        "below",  # the stream of an outer call of this thread that waits for the inner one to end
        "spare",  # an inner call's, to come into the place of this one, which is old
        "is_noted",  # the socket tells of what is sent on it
        "in_pieces",  # the socket is not Python's own, and may give each of its steps the time of all
        "sends",  # requests since the stream was last in step
        "command",  # the first of them
        "line",  # the last line that was read of the replies
        "lines",  # how many
        "started",  # a byte of the reply has come
        "unanswered",  # noreply commands since then
        "deadline",  # of the call that uses it, as monotonic(); None: each operation has the host's timeout
        "late",  # the deadline had passed before the request went out: that says nothing about the server
        "connect_within",  # seconds that the next connect may take, or None
        "timeout",  # as the socket has it; False: not known
        "most",  # seconds that whoever made the socket gave it, where they are fewer than the host's; or None
        "used",  # when it was last in step, as monotonic()
        "__weakref__",
    )

    def __init__(self):
        self.socket = self.below = self.spare = self.deadline = self.connect_within = self.stamp = None
        self.busy = self.late = False
        self.used = 0.0
        self.begin_anew(None)

    def begin_anew(self, socket):
        """A new connection in this place."""
        self.socket = socket
        self.buffer = b""
        self.in_step = True
        self.sends = self.lines = self.unanswered = 0
        self.command = self.line = None
        self.started = False
        self.most = None
        self.put(socket)

    def put(self, socket):
        """A socket, or another one around the same stream."""
        self.socket = socket
        self.timeout = False
        self.in_pieces = self.is_noted = False
        if socket is not None:
            self.in_pieces = type(socket).__module__ != "socket"
            self.is_noted = note(socket, self)

    def sent(self, command):
        """Before the first byte of a request leaves. command: its line; None where it is not one command."""
        if self.in_step or self.sends == 0:
            self.command = command
            self.lines = self.sends = 0
            self.line = None
            self.started = self.in_step = False
        self.sends += 1

    def is_answered(self):
        """Whether the lines that were read are all of the reply to the one request that was sent."""
        command, line = self.command, self.line
        if self.sends != 1 or self.buffer or not line or not isinstance(command, bytes):
            return False
        word = command.split(None, 1)[0] if command.strip() else b""
        if word in _LISTS:
            return line == b"END"
        return word in _ONE_LINE and self.lines == 1 and is_whole(line) and not command.endswith(b" noreply")

    def step(self):
        """The reply has been read whole."""
        self.in_step = True
        self.sends = 0
        self.used = monotonic()

    def limit(self, seconds):
        """Sets the socket's timeout, where that is not what it has already."""
        timeout = self.timeout
        if timeout is False:
            timeout = self._ask_timeout(seconds)
        if self.most is not None and (seconds is None or seconds > self.most):
            seconds = self.most
        if timeout == seconds:
            return
        if timeout is not None and seconds is not None and abs(timeout - seconds) <= seconds * SLACK:
            return
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
        return timeout

    def check_process(self):
        """Raises where a call forked in its middle, and this is the child: the stream is the parent's."""
        if self.stamp >> 32 != _generation():
            raise ConnectionError("the connection is another process's")

    def send(self, data, seconds):
        """All of data, within the deadline of the call that uses the stream, else within seconds."""
        socket = self.socket
        if self.in_pieces:
            self._send_in_pieces(socket, data, seconds)
        else:
            self.limit(seconds if self.deadline is None else max(self.deadline - monotonic(), 0.001))
            socket.sendall(data)
        if self.socket is not socket:
            raise ConnectionError("the connection was closed")

    def _send_in_pieces(self, socket, data, seconds):
        sends = self.sends
        for start in range(0, len(data), SEND_AT_ONCE):
            if self.deadline is not None:
                seconds = self.deadline - monotonic()
                if seconds <= 0:
                    if start:
                        raise TimeoutError("timed out")
                    seconds = 0.001
            self.limit(seconds)
            socket.sendall(data if len(data) <= SEND_AT_ONCE else data[start : start + SEND_AT_ONCE])
        self.sends = min(self.sends, sends + 1)  # a socket that is noted has told of each piece

    def receive(self, size, seconds):
        """What the socket gives next, b"" where the server has closed: within the deadline of the call that uses the
        stream, else within seconds. Behind the deadline only what is there already, else TimeoutError."""
        self.check_process()
        if self.deadline is not None:
            seconds = self.deadline - monotonic()
            if seconds <= 0:
                return self._receive_at_once(size)
        self.limit(seconds)
        socket = self.socket
        try:
            data = socket.recv(size)
        except OSError:
            if self.socket is socket:
                raise
            return b""  # a signal handler has closed it, or the socket's own method
        if data:
            self.started = True
        return data

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
        if data:
            self.started = True
        return data

    def is_quiet(self):
        """Whether the server has neither closed nor said anything, as far as the socket can be asked."""
        try:
            number = self.socket.fileno()
        except AttributeError:
            return True  # a test's fake
        return not isinstance(number, int) or _core._is_quiet(number)


@cache
def noting(kind):
    """A class of sockets as this one, telling the stream of what is sent: also by who takes the socket from the host,
    as a copy of python-memcached's send_cmd does. On Python's own, a server that has closed is an error, no signal."""
    from socket import MSG_NOSIGNAL

    own = MSG_NOSIGNAL if kind.__module__ == "socket" else 0

    class Socket(kind):
        __slots__ = ()
        is_noting = True

        def sendall(self, data, flags=own):
            _note(self, data)
            return super().sendall(data, flags)

    Socket.__name__, Socket.__qualname__, Socket.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Socket


def note(socket, stream):
    """From now on the stream is told of what is sent on this socket; False where it is not of Python's own kind."""
    module = _modules.get("_socket")
    if module is None or not isinstance(socket, module.socket):
        return False
    if not hasattr(type(socket), "is_noting"):
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
        stream.sent(one_command(data))


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
