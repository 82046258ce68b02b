"""Whatever the caller passes is rejected before a byte is sent, or is exactly one well-formed command on the wire.

A server keeps all bytes of all connections; at the end of a test they must be the commands that were expected, one
after the other, and nothing else.
"""

import contextlib
import re
import socket
import threading
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from types import FunctionType

import plain_socket
import ports
import pytest
from over_tls import server_end

import memcache

EVIL = "0\r\nflush_all\r\n"
KEY_ERRORS = memcache.Client.MemcachedKeyError
REJECTED = (KEY_ERRORS, TypeError, ValueError)

KEY = rb"[^\x00\n ]+"
TIME = rb"-?[0-9]{1,19}"
TAIL = rb"( noreply)? ?\r\n"  # the space is python-memcached's, by _encode_cmd
WELL_FORMED = re.compile(
    rb"(?s:"
    rb"gets? KEY( KEY)*\r\n"
    rb"|(set|add|replace|append|prepend) KEY [0-9]{1,10} TIME (?P<length>[0-9]+)TAIL"
    rb"|cas KEY [0-9]{1,10} TIME (?P<cas_length>[0-9]+) [0-9]{1,20}TAIL"
    rb"|delete KEY( TIME)?TAIL"
    rb"|touch KEY TIMETAIL"
    rb"|(incr|decr) KEY [0-9]{1,20}TAIL"
    rb"|stats( [^\x00\n]+)?\r\n"
    rb"|flush_all\r\n|version\r\n|quit\r\n)".replace(b"KEY", KEY)
    .replace(b"TIME", TIME)
    .replace(b"TAIL", TAIL)
)
ANSWERS = {
    b"get": b"END\r\n",
    b"gets": b"END\r\n",
    b"stats": b"END\r\n",
    b"delete": b"DELETED\r\n",
    b"touch": b"TOUCHED\r\n",
    b"incr": b"1\r\n",
    b"decr": b"1\r\n",
    b"flush_all": b"OK\r\n",
    b"version": b"VERSION 1\r\n",
    b"quit": b"",
}


class Capture:
    """A server that takes well-formed commands only: `broken` holds what was none, `commands` all others."""

    def __init__(self):
        self.commands = []
        self.broken = []
        self.threads = []
        self.listener = ports.listen()
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.last = None
        self.start(self.accept)

    def start(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        self.threads.append(thread)

    def accept(self):
        while True:
            connection, peer = self.listener.accept()
            if peer == self.last:
                connection.close()
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = server_end(connection)
            self.start(self.serve, connection)

    def serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                form = WELL_FORMED.fullmatch(line)
                if not form:
                    self.broken.append(line)
                    return
                length = form["length"] or form["cas_length"]
                if length:
                    block = stream.read(int(length) + 2)
                    if not block.endswith(b"\r\n"):
                        self.broken.append(line + block)
                        return
                    line += block
                if not line.startswith((b"version", b"quit")):
                    self.commands.append(line)
                first = line.split(b"\r\n", 1)[0]
                if not first.endswith(b" noreply"):
                    connection.sendall(ANSWERS.get(first.split(b" ")[0], b"STORED\r\n"))

    def stop(self):
        """Call when the clients have closed their connections: waits until all that they sent has been read."""
        with socket.socket() as last:  # all before it have been accepted when it is
            last.bind(("127.0.0.1", 0))
            self.last = last.getsockname()
            last.connect(self.listener.getsockname())
            self.threads[0].join(20)
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()
        self.listener.close()


class Wire:
    """A client and what it should have sent so far."""

    def __init__(self, **options):
        self.server = Capture()
        self.client = memcache.Client([self.server.address], **{"socket_timeout": 20, **options})
        self.expected = []

    def call(self, expected, function, *arguments, **keywords):
        """expected: the command; None where the call must be rejected; ANY where it may be, or sends some command."""
        try:
            function(*arguments, **keywords)
        except REJECTED:
            if isinstance(expected, bytes):
                raise
        else:
            assert expected is not None, f"{function.__name__}{arguments} {keywords} was not rejected"
            self.expected.append(expected)

    def check(self):
        self.client.disconnect_all()
        self.server.stop()
        assert self.server.broken == []
        # Where an argument may be rejected or sent, any one well-formed command does.
        # A client that replaces something sends a storage command as python-memcached does: a space before the end.
        sent = [re.sub(rb"^([^\n]*) \r\n", rb"\1\r\n", command) for command in self.server.commands]
        for wanted in self.expected:
            assert sent, f"not sent: {wanted}"
            command = sent.pop(0)
            assert command == wanted or wanted is ANY, (command, wanted)
        assert sent == []


ANY = object()


@pytest.fixture
def wire():
    wires = []

    def make(**options):
        wires.append(Wire(**options))
        return wires[-1]

    yield make
    for one in wires:
        one.check()


def single_key_calls(client):
    """Each method that takes one key, and what it sends for it."""
    return [
        (client.get, (), b"get %s\r\n"),
        (client.gets, (), b"gets %s\r\n"),
        (client.set, ("v",), b"set %s 16 0 1\r\nv\r\n"),
        (client.add, (b"v",), b"add %s 0 0 1\r\nv\r\n"),
        (client.replace, (b"v",), b"replace %s 0 0 1\r\nv\r\n"),
        (client.append, (b"v",), b"append %s 0 0 1\r\nv\r\n"),
        (client.prepend, (b"v",), b"prepend %s 0 0 1\r\nv\r\n"),
        (client.cas, (b"v",), b"set %s 0 0 1\r\nv\r\n"),
        (client.delete, (), b"delete %s\r\n"),
        (client.touch, (5,), b"touch %s 5\r\n"),
        (client.incr, (), b"incr %s 1\r\n"),
        (client.decr, (2,), b"decr %s 2\r\n"),
    ]


def multi_key_calls(client):
    return [
        (lambda key, prefix: client.get_multi([key], prefix), b"get %s\r\n"),
        (lambda key, prefix: client.set_multi({key: b"v"}, key_prefix=prefix), b"set %s 0 0 1\r\nv\r\n"),
        (lambda key, prefix: client.delete_multi([key], key_prefix=prefix), b"delete %s\r\n"),
    ]


def is_plain(key):
    return bool(key) and all(byte > 0x20 and byte != 0x7F for byte in key)


def is_safe(key):
    return bool(key) and not {0, 0x0A, 0x20} & set(key)


RULES = pytest.mark.parametrize("check_keys, allowed", [(True, is_plain), (False, is_safe)])


def keys(positions, length=9):
    """All byte values at each of the positions of a key."""
    for at in positions:
        for byte in range(256):
            key = bytearray(b"k" * length)
            key[at] = byte
            yield bytes(key)


@RULES
def test_every_byte_at_every_place_of_a_key(wire, check_keys, allowed):
    one = wire(check_keys=check_keys)
    for key in keys(range(9)):
        one.call(b"get %s\r\n" % key if allowed(key) else None, one.client.get, key)


@RULES
def test_every_byte_in_the_keys_of_every_method(wire, check_keys, allowed):
    one = wire(check_keys=check_keys)
    for key in keys([0, 1, 2], 3):
        for method, arguments, command in single_key_calls(one.client):
            one.call(command % key if allowed(key) else None, method, key, *arguments)


@RULES
def test_every_byte_in_tuple_keys_and_text_keys(wire, check_keys, allowed):
    one = wire(check_keys=check_keys)
    for text in (text for number in range(256) for text in ("k" + chr(number), chr(number) + "k")):
        number, encoded = ord(max(text)), text.encode()
        for method, arguments, command in single_key_calls(one.client):
            wanted = command % encoded if allowed(encoded) else None
            one.call(wanted, method, text, *arguments)
            one.call(wanted, method, (number, encoded), *arguments)
            one.call(wanted, method, (-number, text), *arguments)


@RULES
def test_every_byte_in_the_keys_and_prefixes_of_the_multi_methods(wire, check_keys, allowed):
    one = wire(check_keys=check_keys)
    for key in keys(range(3), 3):
        for method, command in multi_key_calls(one.client):
            wanted = command % key if allowed(key) else None
            one.call(wanted, method, key, b"")
            one.call(wanted, method, (5, key), b"")
            one.call(wanted, method, key[2:], key[:2])
            one.call(wanted, method, b"", key)  # an empty key with a prefix


@RULES
def test_every_byte_in_what_a_key_encoder_returns(wire, check_keys, allowed):
    results = {}
    one = wire(check_keys=check_keys, key_encoder=lambda key: results[key])
    for key in keys(range(3), 3):
        results["name"] = key
        for method, arguments, command in single_key_calls(one.client):
            one.call(command % key if allowed(key) else None, method, "name", *arguments)
        for method, command in multi_key_calls(one.client):
            one.call(command % (b"p" + key) if allowed(key) else None, method, "name", b"p")


@pytest.mark.parametrize("check_keys", [True, False])
def test_what_is_no_key_is_rejected(wire, check_keys):
    class Text:
        def __str__(self):
            return EVIL

        def __bytes__(self):
            return EVIL.encode()

    one = wire(check_keys=check_keys)
    wrong = ["", b"", None, 5, 1.5, True, [], {}, Text(), bytearray(b"k"), memoryview(b"k"), "\ud800", EVIL, "k\n"]
    wrong += [(1, ""), (1, None), (1, 5), (1, "k\n"), (1, (1, "k")), (1,), (), (1, 2, 3), (1, "\ud800")]
    for key in wrong:
        for method, arguments, _ in single_key_calls(one.client):
            one.call(None, method, key, *arguments)
    for key in ("", b"", None, EVIL, "k\n", b"k\n", "\ud800", (1, "k\n"), (1, None), Text()):
        for method, _ in multi_key_calls(one.client):
            if key.__hash__ is not None:
                one.call(None, method, key, "")
    # One bad key among good ones: nothing at all is sent.
    one.call(None, one.client.get_multi, ["a", "b\n", "c"])
    one.call(None, one.client.set_multi, {"a": 1, "b\n": 2, "c": 3})
    one.call(None, one.client.delete_multi, ["a", "b", "c\n"])


def test_what_a_key_encoder_may_not_return(wire):
    results = []
    one = wire(key_encoder=lambda key: results[-1])
    for result in (None, 5, EVIL, EVIL.encode(), b"", [b"k"], object()):
        results.append(result)
        for method, arguments, _ in single_key_calls(one.client):
            one.call(None, method, "name", *arguments)


@pytest.mark.parametrize("check_keys", [True, False])
def test_a_key_over_250_bytes_is_sent_only_unchecked(wire, check_keys):
    one = wire(check_keys=check_keys)
    for length in (250, 251, 5000):
        key = b"k" * length
        taken = not check_keys or length <= 250
        one.call(b"get %s\r\n" % key if taken else None, one.client.get, key)
        one.call(b"get %s\r\n" % key if taken else None, one.client.get_multi, [key[1:]], "k")


LONG = "k" * 251
# memcached refuses a line with such a key; 1.6.18 reads the value behind it as commands.
EVIL_VALUE = b"set injected 0 0 4\r\nEVIL\r\n"
STORES = ("set", "add", "replace", "append", "prepend", "cas")


def long_stores(client, key, prefix=""):
    """Each storage command with that key, which is of more than 250 bytes, prefix and all."""
    calls = [lambda noreply=noreply: client.set_multi({"a": b"1", key: EVIL_VALUE}, key_prefix=prefix, noreply=noreply)
             for noreply in (False, True)]  # fmt: skip
    if not prefix:
        for name in STORES:
            calls.append(lambda name=name: getattr(client, name)(key, EVIL_VALUE))
            calls.append(lambda name=name: getattr(client, name)(key, EVIL_VALUE, 60, 1, noreply=True))
            calls.append(lambda name=name: client._set(name, key, EVIL_VALUE, 0))
    return calls


def refuse_long_stores(client, key, prefix=""):
    for call in long_stores(client, key, prefix):
        with pytest.raises(client.MemcachedKeyLengthError, match="Key length is > 250$"):
            call()


@pytest.mark.parametrize("limit", [0, 251, 1000])
def test_no_storage_command_has_a_key_that_memcached_refuses(wire, limit):
    one = wire(server_max_key_length=limit, cache_cas=True)
    client = one.client
    for key in (LONG, LONG.encode(), (5, LONG), (-1, LONG.encode()), "\xe9" * 125 + "x"):
        refuse_long_stores(client, key)
    refuse_long_stores(client, "k" * 250, "p")
    refuse_long_stores(client, b"k", "p" * 250)
    refuse_long_stores(client, (5, "k" * 250), b"p")
    client.cas_ids[LONG.encode()] = 7  # a cas that is none: it has a token
    refuse_long_stores(client, LONG)
    # 250 bytes are a key, whatever the limit.
    client.set("k" * 250, b"v")
    one.expected.append(b"set %s 0 0 1\r\nv\r\n" % (b"k" * 250))
    client.set_multi({"k" * 249: b"v"}, key_prefix="k")
    one.expected.append(b"set %s 0 0 1\r\nv\r\n" % (b"k" * 250))


def test_a_limit_that_is_assigned_later_lets_no_long_key_be_stored(wire, monkeypatch):
    one = wire()
    one.client.server_max_key_length = 0
    refuse_long_stores(one.client, LONG)
    monkeypatch.setattr(memcache, "SERVER_MAX_KEY_LENGTH", 5000)
    refuse_long_stores(memcache.Client([one.server.address]), LONG)


def test_a_long_key_that_a_key_encoder_made_is_not_stored(wire):
    client = wire(server_max_key_length=0, key_encoder=lambda key: key * 251).client
    for call in [lambda name=name: getattr(client, name)("k", EVIL_VALUE) for name in STORES] + [
        lambda: client.set_multi({"k": EVIL_VALUE}),
        lambda: client.set_multi({(5, "k"): EVIL_VALUE}, noreply=True),
    ]:
        with pytest.raises(client.MemcachedKeyLengthError, match="Key length is > 250$"):
            call()
    client = wire(server_max_key_length=0, key_encoder=lambda key: key * 250).client
    with pytest.raises(client.MemcachedKeyLengthError, match="Key length is > 250$"):
        client.set_multi({"k": EVIL_VALUE}, key_prefix="p")


def test_a_long_key_that_replaced_methods_let_through_is_not_stored(wire):
    class Unchecked(memcache.Client):
        def check_key(self, key, key_extra_len=0):
            pass

    class Chooses(memcache.Client):
        def _get_server(self, key):
            return super()._get_server(key)[0], LONG.encode()

    class Maps(memcache.Client):
        def _map_and_prefix_keys(self, key_iterable, key_prefix):
            return {self.servers[0]: [b"a", LONG.encode()]}, {b"a": "a", LONG.encode(): "b"}

    one = wire()
    address = one.server.address
    refuse_long_stores(Unchecked([address]), LONG)
    refuse_long_stores(Unchecked([address]), "k" * 250, "p")
    refuse_long_stores(Chooses([address]), "short")
    with pytest.raises(KEY_ERRORS, match="Key length is > 250$"):
        Maps([address]).set_multi({"a": b"1", "b": EVIL_VALUE})


def test_a_long_key_is_refused_whatever_the_servers_state():
    nobody = memcache.Client([], server_max_key_length=0)
    refuse_long_stores(nobody, LONG)
    dead = memcache.Client(["127.0.0.1:1"], server_max_key_length=0)
    dead.servers[0].mark_dead("test")
    refuse_long_stores(dead, LONG)


def runs_what_stands_behind_a_refused_line(server):
    """Whether this memcached does, asked without a client. 1.6.18 does; 1.6.45 closes the connection."""
    block = b"set probe 0 0 4\r\nEVIL\r\n"
    command = b"set %s 0 0 %d\r\n%s\r\n" % (LONG.encode(), len(block), block)
    with plain_socket.connect(server) as sock:
        sock.sendall(command + b"quit\r\n")
        with contextlib.suppress(ConnectionResetError):  # a close before all was read
            while sock.recv(4096):
                pass
    return memcache.Client([server.address]).get("probe") is not None


def test_no_value_behind_a_long_key_is_executed(memcached):
    """With a real memcached: what was the defect."""
    runs_it = runs_what_stands_behind_a_refused_line(memcached)
    client = memcache.Client([memcached.address], server_max_key_length=0)
    refuse_long_stores(client, LONG)
    assert client.get("injected") is None
    unchecked = memcache.Client([memcached.address], check_keys=False)
    assert unchecked.set(LONG, EVIL_VALUE) is False
    assert (client.get("injected") == b"EVIL") == runs_it  # what docs/security.md warns of


def test_other_commands_send_long_keys_as_before(wire):
    one = wire(server_max_key_length=0)
    key = LONG.encode()
    one.call(b"get %s\r\n" % key, one.client.get, LONG)
    one.call(b"gets %s\r\n" % key, one.client.gets, LONG)
    one.call(b"get %s\r\n" % key, one.client.get_multi, ["k" * 250], "k")
    one.call(b"delete %s\r\n" % key, one.client.delete, LONG)
    one.call(b"delete %s\r\n" % key, one.client.delete_multi, [LONG])
    one.call(b"touch %s 5\r\n" % key, one.client.touch, LONG, 5)
    one.call(b"incr %s 1\r\n" % key, one.client.incr, LONG)
    one.call(b"decr %s 1\r\n" % key, one.client.decr, LONG)
    one.client.check_key(key)
    unchecked = wire(check_keys=False)
    unchecked.call(b"set %s 0 0 1\r\nv\r\n" % key, unchecked.client.set, LONG, b"v")
    unchecked.call(b"set %s 0 0 1\r\nv\r\n" % key, unchecked.client.set_multi, {"k" * 250: b"v"}, key_prefix="k")


class Index:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value

    def __str__(self):
        return EVIL

    __repr__ = __str__


class Int(Index):
    def __int__(self):
        return self.value


class EvilInt(int):
    def __str__(self):
        return EVIL

    __repr__ = __format__ = __str__


class EvilFloat(float):
    def __str__(self):
        return EVIL

    __repr__ = __format__ = __str__


class EvilStr(str):
    def __str__(self):
        return EVIL

    def encode(self, *arguments):
        return EVIL.encode()


class Text:
    def __str__(self):
        return EVIL

    __repr__ = __str__


NUMBERS = [
    *(0, 1, -1, 5, 2**31 - 1, 2**31, 2**32, -(2**31) - 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64),
    *(10**30, -(10**30), 10**5000),
    *(True, False, None),
    *(0.0, 1.5, -0.5, 1e10, 1e30, float("inf"), float("-inf"), float("nan")),
    *("", "5", " 5", "5 ", "+5", "-5", "0x5", "1_0", "5\n", "5\r", "5\r\n", "5\0", "٥", "1" * 30, EVIL, "5 noreply"),
    *(b"", b"5", b"5\r\n", EVIL.encode(), bytearray(b"5")),
    *(Decimal("5"), Decimal("1.5"), Decimal("1e30"), Decimal("NaN"), Decimal("Infinity"), Fraction(3, 2)),
    *(Index(5), Index(2**80), Int(5), Int(2**80), EvilInt(5), EvilInt(2**80), EvilFloat(5), EvilStr("5"), Text()),
    *(timedelta(0), timedelta(seconds=90), timedelta(microseconds=1), timedelta(-1), timedelta.max, timedelta.min),
    *([], (5,), {}, object(), 1j, type, lambda: 5),
]


def show(value):
    """A name for a test that does not run the value's own code, and is the same in every process."""
    if isinstance(value, (Index, EvilInt, EvilFloat, EvilStr, Text, FunctionType)) or type(value) is object:
        return type(value).__name__
    return "huge" if isinstance(value, int) and value > 2**80 else ascii(value)[:24]


@pytest.mark.parametrize("noreply", [False, True])
@pytest.mark.parametrize("number", NUMBERS, ids=show)
def test_times_and_deltas_of_every_type(wire, number, noreply):
    one = wire()
    client = one.client
    for method in (client.set, client.add, client.replace, client.append, client.prepend, client.cas):
        one.call(ANY, method, "k", b"v", time=number, noreply=noreply)
    one.call(ANY, client.touch, "k", number, noreply=noreply)
    one.call(ANY, client.delete, "k", noreply=noreply, time=number)
    one.call(ANY, client.set_multi, {"k": b"v"}, time=number, noreply=noreply)
    one.call(ANY, client.delete_multi, ["k"], time=number, noreply=noreply)
    one.call(ANY, client.incr, "k", number, noreply=noreply)
    one.call(ANY, client.decr, "k", number, noreply=noreply)


@pytest.mark.parametrize(
    "number", [2**63, -(2**63) - 1, 10**30, 1e30, Decimal("1e30"), Index(2**80), EvilInt(2**80)], ids=show
)
def test_a_time_that_memcached_cannot_read_is_rejected(wire, number):
    # It would take the line for broken and the value for commands.
    one = wire()
    one.call(None, one.client.set, "k", b"flush_all", time=number)
    one.call(None, one.client.set_multi, {"k": b"flush_all"}, time=number)
    one.call(None, one.client.touch, "k", number)


@pytest.mark.parametrize(
    "delta",
    [-1, 2**64, 10**30, 1.0, "", "-1", "+1", " 1", "1 ", "1\n", "1\r\n", "1_0", "0x1", "٥", str(2**64), EVIL, b"1"]
    + [None, Decimal(1), Text(), EvilInt(-1), EvilInt(2**64), [], timedelta(1)],
    ids=show,
)
def test_a_delta_is_an_int_of_64_bits_or_digits(wire, delta):
    one = wire()
    one.call(None, one.client.incr, "k", delta)
    one.call(None, one.client.decr, "k", delta)


def test_good_deltas_go_as_digits(wire):
    one = wire()
    for delta, digits in (
        (0, 0),
        (1, 1),
        (2**64 - 1, 2**64 - 1),
        ("7", 7),
        (str(2**64 - 1), 2**64 - 1),
        (EvilInt(3), 3),
    ):
        one.call(b"incr k %d\r\n" % digits, one.client.incr, "k", delta)


def test_good_times_go_as_digits(wire):
    one = wire()
    times = [(0, 0), (60, 60), (-1, -1), (1.9, 1), (True, 1), (Decimal("1.5"), 1), (2**31, 2**31), (EvilInt(5), 5)]
    times += [(timedelta(seconds=90), 90), (timedelta(microseconds=1), 1), (timedelta(0), 0), (EvilFloat(5), 5)]
    for time, digits in times:
        one.call(b"set k 0 %d 1\r\nv\r\n" % digits, one.client.set, "k", b"v", time)
        one.call(b"touch k %d\r\n" % digits, one.client.touch, "k", time)
    for text, digits in (("5", 5), (EvilStr("5"), 5), ("007", 7), (str(2**63 - 1), 2**63 - 1)):
        one.call(b"touch k %d\r\n" % digits, one.client.touch, "k", text)


@pytest.mark.parametrize("noreply", [1, "yes", EVIL, EVIL.encode(), [0], 2.5, Text(), object()], ids=show)
def test_noreply_is_a_truth_and_never_text(wire, noreply):
    one = wire()
    client = one.client
    one.call(b"set k 0 0 1 noreply\r\nv\r\n", client.set, "k", b"v", noreply=noreply)
    one.call(b"delete k noreply\r\n", client.delete, "k", noreply=noreply)
    one.call(b"touch k 5 noreply\r\n", client.touch, "k", 5, noreply=noreply)
    one.call(b"incr k 1 noreply\r\n", client.incr, "k", noreply=noreply)
    one.call(b"set k 0 0 1 noreply\r\nv\r\n", client.set_multi, {"k": b"v"}, noreply=noreply)
    one.call(b"delete k noreply\r\n", client.delete_multi, ["k"], noreply=noreply)


@pytest.mark.parametrize(
    "token",
    [5, 2**64 - 1, 2**64, -1, 1.5, "5", EVIL, b"5", Text(), EvilInt(5), EvilInt(2**64), None, Decimal(5)],
    ids=show,
)
def test_cas_tokens_of_every_type(wire, token):
    one = wire(cache_cas=True)
    one.client.cas_ids[b"k"] = token
    one.call(ANY, one.client.cas, "k", b"v")


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_in_the_argument_of_get_stats(wire, byte):
    one = wire()
    for argument in (chr(byte), "items" + chr(byte), chr(byte) + "items", "cachedump 1" + chr(byte) + "10"):
        wanted = None if byte in (0x00, 0x0A, 0x0D) else ANY
        one.call(wanted, one.client.get_stats, argument)


def test_other_arguments_of_get_stats(wire):
    one = wire()
    one.call(b"stats cachedump 1 10\r\n", one.client.get_stats, "cachedump 1 10")
    one.call(b"stats items\r\n", one.client.get_stats, "items")
    for argument in (b"items", 5, 1.5, [], Text(), EVIL, EVIL.encode(), "\ud800", bytearray(b"items")):
        one.call(None, one.client.get_stats, argument)


@RULES
def test_every_byte_in_the_keys_that_replaced_methods_return(wire, check_keys, allowed, monkeypatch):
    # What they return is not checked but for what would break a command.
    one = wire(check_keys=check_keys)
    found = []

    def get_server(self, key):
        server, _ = original(self, b"k")
        return server, found[-1]

    def map_and_prefix_keys(self, keys, prefix):
        return {self.servers[0]: [found[-1]]}, {found[-1]: "k"}

    original = memcache.Client._get_server
    for key in [*keys(range(3), 3), b"", "", None, 5, [b"k"], EVIL, EVIL.encode()]:
        found.append(key)
        wanted = key if isinstance(key, bytes) and is_safe(key) else None
        with monkeypatch.context() as patch:
            patch.setattr(memcache.Client, "_get_server", get_server)
            for method, arguments, command in single_key_calls(one.client):
                taken = wanted and (method.__name__ != "cas" or allowed(wanted))  # a cas without a token is a set anew
                one.call(command % wanted if taken else None, method, "name", *arguments)
            for method, command in multi_key_calls(one.client):
                one.call(wanted and command % wanted, method, "name", "")
        if key.__hash__ is not None:
            with monkeypatch.context() as patch:
                patch.setattr(memcache.Client, "_map_and_prefix_keys", map_and_prefix_keys)
                one.call(wanted and b"get %s\r\n" % wanted, one.client.get_multi, ["name"])


@pytest.mark.parametrize("flags", NUMBERS, ids=show)
def test_flags_of_every_type(wire, flags, monkeypatch):
    # Of a replaced _val_to_store_info: nobody else chooses them.
    one = wire()
    monkeypatch.setattr(memcache.Client, "_val_to_store_info", lambda self, value, least: (flags, 1, b"v"))
    good = isinstance(flags, int) and 0 <= flags < 2**32
    for noreply in (False, True):
        wanted = b"set k %d 0 1%s\r\nv\r\n" % (flags, b" noreply" * noreply) if good else None
        one.call(wanted, one.client.set, "k", [1], noreply=noreply)
        one.call(wanted, one.client.set_multi, {"k": [1]}, noreply=noreply)


@pytest.mark.parametrize(
    "command",
    ["", "SET", "set ", "get\r\n", "flush_all", EVIL, b"set", b"get", None, 5, Text(), EvilStr("x")],
    ids=show,
)
def test_commands_of_the_private_methods_are_the_known_ones(wire, command):
    one = wire()
    one.call(None, one.client._set, command, "k", b"v", 0)
    one.call(None, one.client._get, command, "k")
    one.call(None, one.client._deletetouch, [b"OK"], command, "k")
    one.call(None, one.client._incrdecr, command, "k", 1)


VALUES = [
    b"",
    b"\r\n",
    EVIL.encode(),
    bytes(range(256)),
    EVIL,
    "text\r\nget k\r\n",
    5,
    -5,
    10**40,
    True,
    None,
    EvilInt(5),
    EvilStr("x"),
]


@pytest.mark.parametrize("value", VALUES, ids=show)
def test_any_value_stays_inside_its_block(wire, value):
    one = wire()
    for method in (one.client.set, one.client.append):
        one.call(ANY, method, "k", value)
        one.call(ANY, method, "k", value, noreply=True)
        one.call(ANY, method, "k", value, min_compress_len=1)
    one.call(ANY, one.client.set_multi, {"k": value})


def test_what_a_pickler_or_compressor_returns_stays_inside_its_block(wire):
    class Pickler:
        def __init__(self, file, protocol=None):
            self.file = file

        def dump(self, value):
            self.file.write(EVIL.encode())

    one = wire(pickler=Pickler, compressor=lambda value: b"\r\n")
    one.call(b"set k 1 0 14\r\n%s\r\n" % EVIL.encode(), one.client.set, "k", [1])
    one.call(b"set k 9 0 2\r\n\r\n\r\n", one.client.set, "k", [1], 0, 5)
    for wrong in (EVIL, None, 5, [b"x"]):
        other = wire(compressor=lambda value, wrong=wrong: wrong)
        other.call(None, other.client.set, "k", b"v" * 100, 0, 5)


def test_names_of_servers_send_nothing(wire):
    one = wire()
    server = one.server.address
    for address in (EVIL, f"{server}\r\nflush_all", "127.0.0.1\n:1", "unix:\0", f"{server}\n\n", f"{server}\r\n"):
        try:
            client = memcache.Client([address], socket_timeout=0.2)
        except ValueError:
            continue
        assert client.get("k") is None
        client.disconnect_all()
