"""An exchange: a request and its reply on a server's stream, what failed and what may be tried once more.

ask() has one with one server, ask_many() one with each of several, which are all sent to before any is read. A server
that is no _Host (anything with a host's methods will do) has no stream that we know of.
"""

from functools import wraps
from time import monotonic

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

    `with Budget()` is for all that the caller's thread connects to meanwhile.
    """

    def __init__(self):
        self.spent = 0.0

    @staticmethod
    def of_this_call():
        return _budgets.find()[-1] or Budget()

    @staticmethod
    def for_all(method):
        """A method whose connects have one together."""

        @wraps(method)
        def with_budget(*arguments, **options):
            with Budget():
                return method(*arguments, **options)

        return with_budget

    def __enter__(self):
        _budgets.find().append(self)
        return self

    def __exit__(self, *error):
        budgets = _budgets.find()
        if self in budgets:
            del budgets[budgets.index(self) :]

    def connect(self, server):
        """server.connect(), in what is left."""
        if not isinstance(server, _Host):
            return server.connect()
        within = server.connect_timeout
        if within is not None:
            if self.spent >= within:
                return 0
            server._here().connect_within = within - self.spent
        before = monotonic()
        answer = server.connect()
        if not answer:
            self.spent += monotonic() - before
        return answer


class _Budgets(PerCaller):
    """Of the calls that the caller is in, the innermost last."""

    @staticmethod
    def make():
        return [None]


_budgets = _Budgets()


class Exchange:
    """begin(), the request, the reply, end() where that was read whole, and leave() in every case."""

    __slots__ = ("server", "stream", "late", "batches", "owed")

    def __init__(self, server):
        self.server = server
        self.stream = None
        self.late = False
        self.batches = 1
        self.owed = 0

    def begin(self, start, noreply=False):
        """Makes the stream ready, and marks it out of step. False where the server cannot be reached.

        start: of the call, as monotonic(): from then on it has the host's socket_timeout.
        """
        server = self.server
        if not isinstance(server, _Host):
            return True
        stream = server._here()
        if stream.socket is None or not server._is_in_step(stream):
            before = monotonic()
            if stream.socket is not None:
                server._put_aside(stream)
            if not Budget.of_this_call().connect(server):
                return False
            stream = server._here()
            start += monotonic() - before
        self.stream = stream
        seconds = server.socket_timeout
        if stream.most is not None and (seconds is None or stream.most < seconds):
            seconds = stream.most
        stream.deadline = None if seconds is None else start + seconds
        self.late = seconds is not None and monotonic() >= stream.deadline
        if stream.unanswered and not noreply:
            self.owed = stream.unanswered
            stream.unanswered = 0
            server.send_cmd(b"version")
        stream.busy = True
        stream.sent(None)  # whatever moves the bytes: from here on the stream is not to be trusted
        stream.sends = 0
        return True

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
        """Whether line is an answer to cmd, an error among them; ends the exchange where it is known to be all of it."""
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
        stream.busy = False
        stream.deadline = None
        server = self.server
        if stream.below is not None:
            server._unpark(stream)
        elif stream.socket is not None and not (stream.in_step and stream.stamp == server._stamp):
            try:
                if server._here() is stream:
                    server.close_socket()
                else:  # an inner call's has taken its place
                    stream.socket.close()
                    stream.socket = None
            except OSError as error:
                self.say(error)

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
    start = monotonic() if start is None else start
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


def ask_many(servers, send, read, noreply=False):
    """An exchange with each of servers ({server: what is asked of it}); the first batches of all are sent before any is
    read. send(server, texts) sends a batch and says how many of texts are in it; read(exchange, server, texts) reads
    the replies to those, and says whether it may go on. False where a server failed. Between batches nothing is left
    unread, so no side waits for the other's full buffers."""
    start = monotonic()
    done = []
    legs = [_leg(server, texts, send, read, noreply, start, done) for server, texts in servers.items()]
    try:
        for leg in legs:
            next(leg, None)
        for leg in legs:
            next(leg, None)
    finally:
        for leg in legs:
            leg.close()
    return len(done) == len(legs)


def _leg(server, texts, send, read, noreply, start, done):
    """One server's part of ask_many: yields when its first batch is sent."""
    is_ahead = False
    for again in (True, False):
        exchange = Exchange(server)
        try:
            if not exchange.begin(start, noreply):
                return
            count = send(server, texts)
            if not is_ahead:
                is_ahead = True
                yield
            asked, sent = texts[:count], count
            while read(exchange, server, asked):
                if sent >= len(texts):
                    done.append(server)
                    return
                exchange.go_on()
                count = send(server, texts[sent:])
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
            exchange.leave()
