"""An exchange: a request and its reply on a server's stream, what failed and what may be tried once more.

ask() has one with one server, ask_many() one with each of several, which are all sent to before any is read. A server
that is no _Host (anything with a host's methods will do) has no stream that we know of.

begin() or its kind, the request, the reply, stream.end() where that was read whole, and stream.leave() in every case.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import monotonic
from weakref import ref

from mcext import _core
from mcext.pure.host import _Host
from mcext.pure.stream import is_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Noreply commands on one stream before the server has to say that it has read them.
UNANSWERED_AT_MOST = 512
# Bytes of a key: memcached's own limit (protocol.txt, "Keys"), beyond which it takes a data block for commands.
PROTOCOL_KEY_LENGTH = 250

# Lines that are all of an answer to a command.
ANSWERS = {
    "set": (b"STORED", b"NOT_STORED"),
    "cas": (b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND"),
    "delete": (b"DELETED", b"NOT_FOUND"),
    "touch": (b"TOUCHED", b"NOT_FOUND"),
    "incr": (b"NOT_FOUND",),
}
ANSWERS |= dict.fromkeys(("add", "replace", "append", "prepend"), ANSWERS["set"])
ANSWERS["decr"] = ANSWERS["incr"]
_ERRORS = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")


class Failed(Exception):
    """The server did not answer: the call is a miss."""


_budget: Any = ContextVar("mcext_budget", default=None)


class Budget:
    """The time that the connects of a call may take together: as long as the longest of them alone.

    Of a call that makes one, all connects of its thread (its greenlet) until it ends: it is found by a weak reference,
    so that it ends with the call's frame, however that ends.
    """

    __slots__ = ("spent", "before", "__weakref__")

    def __init__(self):
        self.spent = 0.0

    @staticmethod
    def of_this_call():
        found = _budget.get()
        return (found and found()) or Budget()

    def __enter__(self):
        self.before = _budget.get()
        _budget.set(ref(self))
        return self

    def __exit__(self, *error):
        _budget.set(self.before)

    def connect(self, server):
        """server.connect(), in what is left."""
        if not isinstance(server, _Host):
            return server.connect()
        stream = server._here()
        if stream.socket is not None and not server._is_in_step(stream):
            server._put_aside(stream)  # not left to _get_socket: an override of it may not look
        if not self.spent:
            before = monotonic()
            answer = server.connect()
        else:
            within = server.connect_timeout
            if within is not None and self.spent >= within:
                return 0
            stream = server._here()
            stream.connect_within = None if within is None else within - self.spent
            before = monotonic()
            try:
                answer = server.connect()
            finally:
                stream.connect_within = None
        if not answer:
            self.spent += monotonic() - before
        return answer


class _NoStream:
    """In the place of the stream of a server that is no _Host: what that has done nobody knows."""

    started = late = False
    unanswered = 0
    deadline = None
    buffer = b""

    def nothing(self, *given):
        """There is nothing to be kept."""

    end = end_if = settle = resume = go_on = leave = leave_out = nothing


_no_stream = _NoStream()


def begin(server, start):
    """The stream of an exchange with server: ready, and marked out of step. Raises Failed where it cannot be reached.

    start: of the call, as monotonic(): from then on it has the host's socket_timeout. None: now.
    """
    if not isinstance(server, _Host):
        return _no_stream
    stream = server._begin(start)
    if stream is None:
        before = monotonic()
        stream = server._here()
        if stream.socket is not None and not server._is_in_step(stream):
            stream = server._put_aside(stream)
        if stream.socket is None and not Budget.of_this_call().connect(server):
            raise Failed
        stream = server._here()
        stream.begin(server, None if start is None else start + monotonic() - before)
    return stream


def catch_up(server, stream):
    """Behind noreply commands: a marker is sent, up to whose reply settle() reads."""
    owed, stream.unanswered = stream.unanswered, 0
    server.send_cmd(b"version")
    stream.sends, stream.owed = 0, owed


def end_unread(server, stream, commands, longest_key):
    """So many noreply commands were sent. Behind a key that memcached refuses it takes a data block for commands, and
    what these answer could look like a marker's reply: such a stream is not used again."""
    if stream is _no_stream or len(longest_key) > PROTOCOL_KEY_LENGTH:
        return
    stream.end()
    stream.unanswered += commands
    if stream.unanswered > UNANSWERED_AT_MOST:
        try:
            server._bring_in_step(stream)
        except (_core._Error, _core._ConnectionDeadError, OSError) as error:
            stream.in_step = False
            _say(server, error)


def judge(stream, cmd, line):
    """Whether line is an answer to cmd, an error too; ends the exchange where it is known to be all of it."""
    if not isinstance(line, bytes):
        return False
    if line in ANSWERS[cmd] or knows(cmd, line):
        stream.end()
        return True
    return line.startswith(_ERRORS)


def knows(cmd, line):
    """Whether line is known to be all of an answer to cmd."""
    if line in ANSWERS[cmd]:
        return True
    if cmd in ("incr", "decr") and line.isdigit():
        return len(line) <= 20 and int(line) < 1 << 64
    return line.startswith(_ERRORS) and is_whole(line)


def _fail(server, stream, error):
    """The server did not answer: a dead mark where that took all of its time, else a debug line."""
    if isinstance(error, TimeoutError) and not stream.late:
        server.mark_dead(error)
    else:
        _say(server, error)


def _say(server, error):
    if isinstance(server, _Host):
        server.debuglog(f"MemCache: {server}: {error}.  Closing the connection.")


def ask(server, talk, repeatable, noreply=False, start=None):
    """talk(stream), which sends and reads, in an exchange with server. Once more on a new connection where that is
    right: the command may be repeated, and the server closed before it said anything. Raises Failed."""
    again = repeatable
    while True:
        stream = _no_stream
        try:
            stream = begin(server, start)
            if start is None:
                start = monotonic()  # a second try has what is left of the time
            if stream.unanswered and not noreply:
                catch_up(server, stream)
            return talk(stream)
        except (_core._ConnectionDeadError, ConnectionError) as error:
            if not again or stream.started:
                _fail(server, stream, error)
                raise Failed from None
            again = False
        except (_core._Error, OSError) as error:
            _fail(server, stream, error)
            raise Failed from None
        finally:
            stream.leave(server)


class Clock:
    """When the call began, and its exchanges: what goes into the caller's own code is no server's time."""

    __slots__ = ("start", "streams")

    def __init__(self):
        self.start = monotonic()
        self.streams = {}  # by server, of those that are asked now

    def leave_out(self, before):
        self.start += monotonic() - before
        for server, stream in self.streams.items():
            stream.leave_out(before)
            stream.resume(server)


def ask_many(servers, send, read, noreply=False):
    """An exchange with each of servers ({server: what is asked of it}); the first batches of all are sent before any is
    read. send(clock, server, texts) sends a batch and says how many of texts are in it; read(stream, server, texts)
    reads the replies to those, and says whether it may go on. False where a server failed. Between batches nothing is
    left unread, so no side waits for the other's full buffers."""
    clock = Clock()
    done = []
    legs = [_leg(server, texts, send, read, noreply, clock, done) for server, texts in servers.items()]
    try:
        for leg in legs:
            next(leg, None)
        for leg in legs:
            next(leg, None)
    finally:
        for leg in legs:
            leg.close()
    return len(done) == len(legs)


def _leg(server, texts, send, read, noreply, clock, done):
    """One server's part of ask_many: yields when its first batch is sent."""
    is_ahead = False
    again = True
    while True:
        stream = _no_stream
        try:
            stream = clock.streams[server] = begin(server, clock.start)
            if stream.unanswered and not noreply:
                catch_up(server, stream)
            count = send(clock, server, texts)
            if not is_ahead:
                is_ahead = True
                yield
            asked, sent = texts[:count], count
            while read(stream, server, asked):
                if sent >= len(texts):
                    done.append(server)
                    return
                again = False
                stream.go_on()
                count = send(clock, server, texts[sent:])
                asked = texts[sent : sent + count]
                sent += count
            return
        except Failed:
            return
        except (_core._ConnectionDeadError, ConnectionError) as error:
            if not again or stream.started:
                _fail(server, stream, error)
                return
            again = False
        except (_core._Error, OSError) as error:
            _fail(server, stream, error)
            return
        finally:
            clock.streams.pop(server, None)
            stream.leave(server)
