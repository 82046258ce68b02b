"""An exchange: a request and its reply on a server's stream, what failed and what may be tried once more.

ask() has one with one server, ask_many() one with each of several, which are all sent to before any is read. A server
that is no _Host (anything with a host's methods will do) has no stream that we know of.
"""

from time import monotonic
from weakref import ref

from mcext import _core
from mcext.pure.host import _Host
from mcext.pure.stream import PerCaller, is_whole

# Noreply commands on one stream before the server has to say that it has read them.
UNANSWERED_AT_MOST = 512
# Bytes of a key: memcached's own limit (protocol.txt, "Keys"), beyond which it takes a data block for commands.
PROTOCOL_KEY_LENGTH = 250

_ANSWERS = {
    "set": (b"STORED", b"NOT_STORED"),
    "cas": (b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND"),
    "delete": (b"DELETED", b"NOT_FOUND"),
    "touch": (b"TOUCHED", b"NOT_FOUND"),
    "incr": (b"NOT_FOUND",),
}
_ANSWERS |= dict.fromkeys(("add", "replace", "append", "prepend"), _ANSWERS["set"])
_ANSWERS["decr"] = _ANSWERS["incr"]
_ERRORS = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")


class Failed(Exception):
    """The server did not answer: the call is a miss."""


class Budget:
    """The time that the connects of a call may take together: as long as the longest of them alone.

    Of a call that makes one, all connects of its thread until it ends: it is found by a weak reference, so that it
    ends with the call's frame, however that ends.
    """

    __slots__ = ("spent", "before", "__weakref__")

    def __init__(self):
        self.spent = 0.0
        self.before = None

    @staticmethod
    def of_this_call():
        found = _latest.find()
        return (found[0] and found[0]()) or Budget()

    def __enter__(self):
        latest = _latest.find()
        self.before = latest[0]
        latest[0] = ref(self)
        return self

    def __exit__(self, *error):
        _latest.find()[0] = self.before

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


class _Latest(PerCaller):
    """The budget of the innermost call that the caller is in."""

    @staticmethod
    def make():
        return [None]


_latest = _Latest()


class Exchange:
    """begin(), the request, the reply, end() where that was read whole, and leave() in every case."""

    __slots__ = ("server", "stream", "late", "batches", "owed")

    def __init__(self, server):
        self.server = server
        self.stream = None
        self.late = False
        self.batches = 1
        self.owed = 0

    def begin(self, start=None, noreply=False):
        """Makes the stream ready, and marks it out of step. False where the server cannot be reached.

        start: of the call, as monotonic(): from then on it has the host's socket_timeout. None: now.
        """
        server = self.server
        if not isinstance(server, _Host):
            return True
        stream = server._here()
        if stream.socket is None or not (stream.in_step and stream.stamp == server._stamp):
            before = monotonic()
            if stream.socket is not None and not server._is_in_step(stream):
                server._put_aside(stream)
            if stream.socket is None or stream.busy:
                if not Budget.of_this_call().connect(server):
                    return False
            stream = server._here()
            if start is not None:
                start += monotonic() - before
        self.stream = stream
        seconds = server.socket_timeout
        if stream.most is not None and (seconds is None or stream.most < seconds):
            seconds = stream.most
        if seconds is None:
            stream.deadline = None
        else:
            now = monotonic()
            stream.deadline = (now if start is None else start) + seconds
            self.late = now >= stream.deadline
        if stream.unanswered and not noreply:
            self.owed = stream.unanswered
            stream.unanswered = 0
            server.send_cmd(b"version")
        # Whatever moves the bytes: from here on the stream is not to be trusted.
        stream.busy = True
        stream.in_step = stream.started = False
        stream.sends = stream.lines = 0
        stream.command = stream.line = None
        return True

    def leave_out(self, before):
        """The time since then went into the caller's own code: it is not the server's."""
        stream = self.stream
        if stream is not None:
            if stream.deadline is not None:
                stream.deadline += monotonic() - before
                self.late = monotonic() >= stream.deadline
            self.resume()

    def resume(self):
        """The caller's own code has run, which may have used the host: this call's stream comes back."""
        if self.stream is not None and self.server._here() is not self.stream:
            self.server._restore(self.stream)

    def go_on(self):
        """Between two batches of one exchange."""
        self.batches += 1
        stream = self.stream
        if stream is not None:
            stream.in_step = False
            stream.sends = 0

    def end(self):
        """The reply has been read whole."""
        stream = self.stream
        if stream is not None and not stream.buffer and stream.sends <= 1:
            stream.step()

    def end_if(self, last):
        """The same where the last line that was read is this one: the caller has not seen it."""
        if self.stream is not None and self.stream.line == last:
            self.end()

    def settle(self):
        """Before the reply is read: what the server said to noreply commands that came before goes."""
        if self.owed:
            self.server._read_to_marker(self.owed)
            self.owed = 0

    def end_unread(self, commands, longest_key):
        """So many noreply commands were sent. Behind a key that memcached refuses it takes a data block for commands,
        and what these answer could look like a marker's reply: such a stream is not used again."""
        stream = self.stream
        if stream is None or len(longest_key) > PROTOCOL_KEY_LENGTH:
            return
        self.end()
        stream.unanswered += commands
        if stream.unanswered > UNANSWERED_AT_MOST:
            try:
                self.server._bring_in_step(stream)
            except (_core._Error, _core._ConnectionDeadError, OSError) as error:
                stream.in_step = False
                self.say(error)

    def judge(self, cmd, line):
        """Whether line is an answer to cmd, an error too; ends the exchange where it is known to be all of it."""
        if not isinstance(line, bytes):
            return False
        if self.knows(cmd, line):
            self.end()
            return True
        return line.startswith(_ERRORS)

    def knows(self, cmd, line):
        """Whether line is known to be all of an answer to cmd."""
        if line in _ANSWERS[cmd]:
            return True
        if cmd in ("incr", "decr") and line.isdigit():
            return len(line) <= 20 and int(line) < 1 << 64
        return line.startswith(_ERRORS) and is_whole(line)

    def has_more(self):
        return self.stream is not None and bool(self.stream.buffer)

    def leave(self):
        stream = self.stream
        if stream is None or not stream.busy:
            return
        server = self.server
        stream.busy = False
        stream.deadline = None
        if server._here() is not stream:
            server._restore(stream)
        if stream.below is not None:
            server._unpark(stream)
        elif stream.socket is not None and not (stream.in_step and stream.stamp == server._stamp):
            try:
                server.close_socket()
            except OSError as error:
                self.say(error)
        if stream.spare is not None:
            server._streams.put(stream.spare)
            stream.spare = None

    def may_be_repeated(self):
        """Whether no byte of the reply has come."""
        return self.stream is None or not self.stream.started

    def fail(self, error):
        """The server did not answer: a dead mark where that took all of its time, else a debug line."""
        if isinstance(error, TimeoutError) and not self.late:
            self.server.mark_dead(error)
        else:
            self.say(error)

    def say(self, error):
        if isinstance(self.server, _Host):
            self.server.debuglog(f"MemCache: {self.server}: {error}.  Closing the connection.")


def ask(server, talk, repeatable, noreply=False, start=None):
    """talk(exchange), which sends and reads, in an exchange with server. Once more on a new connection where that is
    right: the command may be repeated, and the server closed before it said anything. Raises Failed."""
    for again in (True, False) if repeatable else (False,):
        exchange = Exchange(server)
        try:
            if not exchange.begin(start, noreply):
                raise Failed
            return talk(exchange)
        except (_core._ConnectionDeadError, ConnectionError) as error:
            if not (again and exchange.may_be_repeated()):
                exchange.fail(error)
                raise Failed from None
        except (_core._Error, OSError) as error:
            exchange.fail(error)
            raise Failed from None
        finally:
            exchange.leave()


class Clock:
    """When the call began, and its exchanges: what goes into the caller's own code is no server's time."""

    def __init__(self):
        self.start = monotonic()
        self.exchanges = []

    def leave_out(self, before):
        self.start += monotonic() - before
        for exchange in self.exchanges:
            exchange.leave_out(before)


def ask_many(servers, send, read, noreply=False):
    """An exchange with each of servers ({server: what is asked of it}); the first batches of all are sent before any is
    read. send(clock, server, texts) sends a batch and says how many of texts are in it; read(exchange, server, texts)
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
    for again in (True, False):
        exchange = Exchange(server)
        clock.exchanges.append(exchange)
        try:
            if not exchange.begin(clock.start, noreply):
                return
            count = send(clock, server, texts)
            if not is_ahead:
                is_ahead = True
                yield
            asked, sent = texts[:count], count
            while read(exchange, server, asked):
                if sent >= len(texts):
                    done.append(server)
                    return
                exchange.go_on()
                count = send(clock, server, texts[sent:])
                asked = texts[sent : sent + count]
                sent += count
            return
        except (_core._ConnectionDeadError, ConnectionError) as error:
            if not again or exchange.batches > 1 or not exchange.may_be_repeated():
                exchange.fail(error)
                return
        except (_core._Error, OSError) as error:
            exchange.fail(error)
            return
        finally:
            clock.exchanges.remove(exchange)
            exchange.leave()
