"""The same calls through python-memcached and through the client under test, each on servers of its own.

Results, exceptions, debug lines, stored bytes, flags and expiry must agree. hypothesis makes the sequences of calls;
where docs/differences.md says that we differ, a predicate below has the name of the row, and the call is left out
(those known before it is made) or checked against the row (those that the oracle's answer shows).

    MCEXT_SEQUENCES=20000 pytest tests/compatibility/test_differential.py     more sequences than the usual few hundred
    MCEXT_SEED=1234 pytest tests/compatibility/test_differential.py           other sequences than the usual ones

The sequences are the same in each run: what fails was made to fail by a change. `make nightly` takes another seed each
time, and a failure says which.
"""

import bz2
import contextlib
import inspect
import io
import os
import random
import re
import socket
import zlib
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace

import oracle
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings, strategies
from hypothesis import seed as hypothesis_seed

import memcache
from mcext.testing import memcached

SEQUENCES = int(os.environ.get("MCEXT_SEQUENCES", "300"))
SEED = int(os.environ.get("MCEXT_SEED", "1"))
SERVERS = 3
MIB = 1 << 20
GOOD_KEY = rb"[^\x00-\x20\x7f]{1,250}"
LATER = 2_100_000_000  # an absolute time, years away
TOO_LATE = 1 << 40  # an absolute time that memcached refuses


class Disagreement(AssertionError):
    """The two clients did not answer alike."""


# Values and configurations. They print as the Python text that makes them, so that a failure can be replayed by hand.


class Text(str):
    __slots__ = ()


class Raw(bytes):
    __slots__ = ()


class Number(int):
    __slots__ = ()


class Thing:
    def __init__(self, content):
        self.content = content

    def __eq__(self, other):
        return type(other) is Thing and other.content == self.content

    __hash__ = None

    def __repr__(self):
        return f"Thing({self.content!r})"


@dataclass(frozen=True)
class Big:
    """A value of a given size: text and bytes that compress well, noise that does not, digits of an int."""

    kind: str
    size: int

    def value(self):
        if self.kind == "text":
            return "x" * self.size
        if self.kind == "bytes":
            return b"y" * self.size
        if self.kind == "int":
            return 10 ** (self.size - 1)
        if self.kind == "noise":
            return random.Random(self.size).randbytes(self.size)
        return [b"z" * self.size]


def lower(key):
    return key.lower() if isinstance(key, (str, bytes)) else key


def marked(key):
    return b"m:" + key if isinstance(key, bytes) else "m:" + key if isinstance(key, str) else key


@dataclass
class Configuration:
    weights: list  # one server each; None: the address alone
    options: dict = field(default_factory=dict)


@dataclass
class Call:
    name: str
    arguments: tuple = ()
    options: dict = field(default_factory=dict)

    def real(self):
        def real(value):
            if isinstance(value, dict):
                return {key: real(one) for key, one in value.items()}
            return value.value() if isinstance(value, Big) else value

        return [real(one) for one in self.arguments], {key: real(one) for key, one in self.options.items()}


SINGLE_STORES = ("set", "add", "replace", "append", "prepend", "cas")
SINGLE = (*SINGLE_STORES, "get", "gets", "delete", "touch", "incr", "decr")
MULTI = ("get_multi", "set_multi", "delete_multi")
CLOSING = ("set_servers", "disconnect_all", "quit_all", "mark_dead", "close_socket")

short_keys = ["a", "b", "c", "Key", b"b", b"raw", "schlüssel", "鍵", "1", Text("t"), Raw(b"r"), b"\x80\xff"]
limit_keys = ["k" * 9, "k" * 10, "k" * 11, "k" * 249, "k" * 250, "k" * 251, "é" * 125, "é" * 125 + "x", b"\xff" * 250]
bad_keys = ["a b", " ", "a\x7fb", "\x01", "a\tb", "a\rb", "\x00", "\x1f", "a\nb", "a\n", "", b"", b"a b", "\ud800"]
numbers = [0, 1, 42, -3, 10**40, 1.5]  # keys in the _multi calls only
hashes = strategies.sampled_from([0, 1, 2, 5, -1, -7, 10**30, -(10**30)])


def weighted(*pairs):
    """One of these strategies, each as often as the number before it says (one_of drops doubles)."""
    choices = [number for number, (weight, _) in enumerate(pairs) for _ in range(weight)]
    return strategies.sampled_from(choices).flatmap(lambda number: pairs[number][1])


def pools():
    """The few keys that one sequence is about, so that its calls meet each other's values."""
    plain = strategies.sampled_from(short_keys)
    rare = strategies.sampled_from(limit_keys + bad_keys)
    return strategies.tuples(plain, plain, weighted((3, plain), (1, strategies.tuples(hashes, plain))), rare)


def keys(pool, multi):
    good = strategies.sampled_from(pool[:3])
    number = strategies.sampled_from(numbers)
    other = strategies.sampled_from([*[pool[3]] * 6, None, 5, 1.5])
    if not multi:
        return weighted((60, good), (6, other), (1, strategies.just(bytearray(b"x"))))
    pair = strategies.tuples(hashes, strategies.one_of(good.filter(lambda key: not isinstance(key, tuple)), number))
    return weighted((20, good), (3, number), (3, pair), (1, other))


prefixes = strategies.sampled_from(
    ["", "", "", "", "", "", "p:", "p:", b"p:", "é", "k" * 241, "k" * 250, "k" * 251, "p q", "p\n", b"\x01"]
)
sizes = strategies.sampled_from([0, 1, 9, 10, 11, 99, 100, 101, 4095, 4096, 16384, 70000])
large_sizes = strategies.sampled_from([MIB // 2, MIB - 400, MIB - 100, MIB - 50, MIB - 1, MIB, MIB + 1, 2 * MIB])
values = strategies.one_of(
    strategies.sampled_from(["", "text", "größe", "\U0001f600", "1", "20", "007", " 7 ", "x" * 10, "x" * 11, "\ud800"]),
    strategies.sampled_from(
        [b"", b"bytes", b"\xff\xfe", b"12", b"\r\n", b"END\r\n", b"a" * 99, b"a" * 100, b"a" * 101]
    ),
    strategies.sampled_from([0, 1, -1, 42, 99, 100, 2**31, 2**63, 2**64 - 1, 2**64, -(2**64)]),
    strategies.sampled_from([True, False, None, 1.5, Text("sub"), Raw(b"sub"), Number(7), Thing(3), bytearray(b"ba")]),
    strategies.sampled_from([(), [], {}, {"a": [1, "b", None]}, {1, 2}, [0] * 50, "y" * 500]),
    strategies.builds(Big, strategies.sampled_from(["text", "bytes", "noise", "object"]), sizes),
    strategies.builds(Big, strategies.just("int"), strategies.sampled_from([300, 4299, 4300, 4301])),
)
some_values = weighted(
    (40, values),
    (20, strategies.sampled_from(["1", "20", b"10", 99])),
    (1, strategies.builds(Big, strategies.sampled_from(["text", "bytes", "noise", "object"]), large_sizes)),
    (1, strategies.just(lambda: None)),
)
times = strategies.sampled_from([0] * 12 + [100, -1, -100, 2592000, 2592001, LATER, LATER, 100.5, TOO_LATE, None, "5"])
set_times = strategies.one_of(
    times, strategies.sampled_from([timedelta(0), timedelta(seconds=100.9), timedelta(days=-1), timedelta(days=2)])
)
touch_times = strategies.sampled_from([0, 0, 100, -1, 2592001, LATER, "100", "0"])
compress = strategies.sampled_from([0, 0, 0, 1, 5, 99, 100, 101, MIB, -1])
noreply = strategies.sampled_from([False, False, False, True, 1, 0])
weights = strategies.sampled_from([None, None, None, 1, 2, 3, 0])
server_lists = strategies.lists(
    strategies.tuples(strategies.integers(0, SERVERS - 1), weights), max_size=SERVERS, unique_by=lambda one: one[0]
)
deltas = strategies.sampled_from([0, 1, 2, 10, 2**32, 2**64 - 1, "3", "00012"])


def with_options(name, *arguments, **options):
    """Calls of `name` with these positional arguments and any choice of these keyword arguments."""
    return strategies.builds(
        Call, strategies.just(name), strategies.tuples(*arguments), strategies.fixed_dictionaries({}, optional=options)
    )


def calls(pool):
    one = keys(pool, multi=False)
    several = strategies.lists(keys(pool, multi=True), max_size=5)
    store = [
        with_options(
            name, one, some_values, time=set_times if name == "set" else times, min_compress_len=compress,
            noreply=noreply,
        )
        for name in SINGLE_STORES
    ]  # fmt: skip
    count = [with_options(name, one, delta=deltas, noreply=noreply) for name in ("incr", "decr")]
    mapping = strategies.dictionaries(keys(pool, multi=True), some_values, max_size=5)
    return weighted(
        (30, strategies.one_of(store)),
        (15, store[0]),
        (15, with_options("get", one, default=strategies.sampled_from([None, 0, "nothing"]))),
        (10, with_options("gets", one)),
        (10, with_options("cas", one, some_values)),
        (10, strategies.one_of(count)),
        (5, with_options("delete", one, noreply=noreply)),
        (5, with_options("touch", one, time=touch_times, noreply=noreply)),
        (20, with_options("get_multi", several, key_prefix=prefixes)),
        (
            15,
            with_options(
                "set_multi", mapping, time=times, key_prefix=prefixes, min_compress_len=compress, noreply=noreply
            ),
        ),
        (
            8,
            with_options(
                "delete_multi",
                several,
                time=strategies.sampled_from([None, 0]),
                key_prefix=prefixes,
                noreply=noreply,
            ),
        ),
        (3, with_options("check_key", one, key_extra_len=strategies.sampled_from([0, 1, 241, 250]))),
        (2, strategies.builds(lambda listed: Call("set_servers", (listed,)), server_lists)),
        (
            12,
            strategies.sampled_from(
                [
                    Call("flush_all"),
                    Call("reset_cas"),
                    Call("get_stats"),
                    Call("get_stats", ("settings",)),
                    Call("get_slab_stats"),
                    Call("disconnect_all"),
                    Call("quit_all"),
                    Call("forget_dead_hosts"),
                    Call("debuglog", ("a line",)),
                    Call("mark_dead", (0,)),
                    Call("mark_dead", (1,)),
                    Call("close_socket", (0,)),
                ]
            ),
        ),
    )


def configurations():
    options = {
        "cache_cas": strategies.booleans(),
        "check_keys": strategies.sampled_from([True, True, False]),
        "pickleProtocol": strategies.sampled_from([0, 1, 2, 3, 4, 5, -1]),
        "server_max_key_length": strategies.sampled_from([None, 0, 10, 250]),
        "server_max_value_length": strategies.sampled_from([None, None, None, 0, 10, 100, MIB, 2 * MIB]),
        "key_encoder": strategies.sampled_from([None, lower, marked]),
        "compressor": strategies.sampled_from([zlib.compress, bz2.compress]),
        "debug": strategies.sampled_from([0, 1]),
    }

    def paired(chosen):
        return chosen | ({"decompressor": bz2.decompress} if chosen.get("compressor") is bz2.compress else {})

    paired = strategies.fixed_dictionaries({}, optional=options).map(paired)
    plain_keys = {"key_encoder": None, "server_max_key_length": None, "check_keys": True}
    return strategies.builds(
        Configuration,
        weighted((20, strategies.lists(weights, min_size=1, max_size=SERVERS)), (1, strategies.just([]))),
        weighted((1, paired), (3, paired.map(lambda chosen: chosen | plain_keys))),
    )


def sequences():
    return pools().flatmap(lambda pool: strategies.lists(calls(pool), min_size=3, max_size=20))


# The rows of docs/differences.md: each predicate has the row's name, and says whether a call comes under it.


@dataclass
class Situation:
    """A call about to be made, with what the predicates want to know of it."""

    call: Call
    arguments: list
    options: dict
    client: object  # the oracle's
    configuration: Configuration
    listed: list  # its servers, as set_servers is given them here

    @property
    def name(self):
        return self.call.name

    @property
    def checks(self):
        return self.client.do_check_key

    @property
    def noreply(self):
        return bool(self.options.get("noreply"))

    @property
    def has_encoder(self):
        return self.configuration.options.get("key_encoder") is not None

    def caller_keys(self):
        if self.name in MULTI:
            return list(self.arguments[0])
        return [self.arguments[0]] if self.name in (*SINGLE, "check_key") else []

    def prefix(self):
        prefix = self.options.get("key_prefix", "")
        return prefix.encode() if isinstance(prefix, str) else prefix

    def wire_key(self, key):
        """The bytes that would go out for a caller's key, or None where there are none."""
        if self.name in SINGLE:
            key = self.client.key_encoder(key)
        if isinstance(key, tuple):
            key = key[1]
        try:
            if isinstance(key, str):
                key = key.encode("utf8")
            elif self.name in MULTI and not isinstance(key, bytes):
                key = str(key).encode("utf8")
        except UnicodeEncodeError:
            return None
        return self.prefix() + key if isinstance(key, bytes) else None

    def wire_keys(self):
        found = [self.wire_key(key) for key in self.caller_keys()]
        return [key for key in found if key is not None]

    def inner_keys(self):
        """The keys without the prefix."""
        return [key[len(self.prefix()) :] for key in self.wire_keys()]

    def live(self):
        return [host for host in self.client.buckets if not host._check_dead()]

    def servers(self):
        """What the oracle's ten probes find for each key."""
        found = []
        for key in self.caller_keys():
            wire = self.wire_key(key)
            if wire is not None:
                probe = (key[0], wire) if isinstance(key, tuple) else wire
                found.append(self.client._get_server(probe)[0])
        return found


def a_key_that_ends_in_a_newline(s):
    return any(key.endswith(b"\n") for key in [*s.inner_keys(), s.prefix()])


def check_keys_false(s):
    """Empty keys, NUL, LF and space are always rejected. An over-long key that goes out gets an error line; where
    that is followed by a data block or by other keys' replies, the oracle is out of step."""
    if s.name == "check_key":
        return False
    if not s.checks and any(re.search(rb"[\x00\n ]", key) for key in [s.prefix(), *s.wire_keys()]):
        return True
    if not s.checks and s.name not in MULTI and None in map(s.wire_key, s.caller_keys()):
        return True  # neither str nor bytes: the oracle fails somewhere inside, with the first error that comes
    if (
        not s.checks
        and s.name in ("get", "gets", "get_multi")
        and any(re.search(rb"[\t\v\f\r]", k) for k in s.wire_keys())
    ):
        return True  # passed on here; the oracle cannot read the reply
    sent = not s.checks or s.client.server_max_key_length == 0  # behind the next row, where that stores
    return sent and s.name in MULTI and any(len(key) > 250 for key in s.wire_keys())


def a_key_longer_than_250_bytes_in_a_storage_command(s):
    return s.name in (*SINGLE_STORES, "set_multi") and s.checks and any(len(key) > 250 for key in s.wire_keys())


def an_empty_key(s):
    return any(not key for key in [*s.inner_keys(), *s.wire_keys()]) or any(key in ("", b"") for key in s.caller_keys())


def delta(s):
    return False  # all generated ones are in the row's range


def timedelta_(s):
    return isinstance(s.options.get("time"), timedelta) and s.name != "set"


def set_multi_with_a_too_large_value(s):
    if s.name != "set_multi":
        return False
    mapping = s.arguments[0]
    for value in mapping.values():
        try:
            if not s.client._val_to_store_info(value, s.options.get("min_compress_len", 0)):
                return True
        except Exception:
            return False
    return False


def an_error_line_after_a_noreply_call(s):
    """Behind a noreply call no error line is believed, nor what follows it: where memcached refuses a value for its
    size, the keys after that one are in the result of set_multi. So both sides are brought in step before it."""
    if s.name != "set_multi" or s.noreply:
        return False
    for value in s.arguments[0].values():
        try:
            info = s.client._val_to_store_info(value, s.options.get("min_compress_len", 0))
        except Exception:
            return False
        if info and info[1] > 1_000_000:
            return True
    return False


def set_multi_whose_values_cannot_all_be_pickled(s):
    """Also its time, which the oracle formats as it goes and not before the first byte."""
    if s.name != "set_multi":
        return False
    for value in s.arguments[0].values():
        try:
            s.client._val_to_store_info(value, s.options.get("min_compress_len", 0))
        except Exception:
            return True
    return not isinstance(s.options.get("time", 0), (int, float))


def time_is_checked_whatever_the_servers_state(s):
    """The oracle looks at a time only where it comes to send it: not without a server, not for a too large value."""
    time = s.options.get("time", 0)
    return s.name in SINGLE_STORES and not isinstance(time, (int, float, timedelta))


def set_multi_when_a_server_dies_on_the_way(s):
    """With noreply and no server nothing is sent, and the oracle's answer is that all of it was."""
    return s.name == "set_multi" and s.noreply and not s.live()


def delete_multi_with_no_server(s):
    return s.name == "delete_multi" and not s.live()


def key_encoder_in_the_multi_calls(s):
    return s.name in MULTI and s.has_encoder


def get_key_default_with_no_server(s):
    return s.name == "get" and s.options.get("default") is not None and not s.live()


def one_dead_server_of_two(s):
    return bool(s.live()) and None in s.servers()


def malformed_late_or_cut_replies(s):
    """A time that the server refuses is answered by an error line, and the data block read as a command by another:
    both clients do the same, but in set_multi the oracle takes the second for the next key's reply."""
    return s.name == "set_multi" and s.options.get("time") == TOO_LATE


def cas_of_a_tuple_without_a_token(s):
    """The oracle forgets the tuple's hash and stores on the key's own server."""
    if s.name != "cas":
        return False
    key = s.client.key_encoder(s.arguments[0])
    return isinstance(key, tuple) and s.wire_key(s.arguments[0]) not in s.client.cas_ids


def set_servers_with_servers_that_were_there_before(s):
    """The hosts stay, with their health; the oracle makes new ones, all of them alive."""
    if s.name != "set_servers":
        return False
    dead = {number for (number, _), host in zip(s.listed, s.client.servers, strict=True) if host.deaduntil}
    return any(number in dead for number, _ in s.arguments[0])


KNOWN_BEFORE = [
    cas_of_a_tuple_without_a_token,
    a_key_that_ends_in_a_newline,
    check_keys_false,
    a_key_longer_than_250_bytes_in_a_storage_command,
    an_empty_key,
    delta,
    timedelta_,
    set_multi_with_a_too_large_value,
    set_multi_whose_values_cannot_all_be_pickled,
    time_is_checked_whatever_the_servers_state,
    set_multi_when_a_server_dies_on_the_way,
    delete_multi_with_no_server,
    key_encoder_in_the_multi_calls,
    get_key_default_with_no_server,
    one_dead_server_of_two,
    malformed_late_or_cut_replies,
    set_servers_with_servers_that_were_there_before,
]


def a_stored_value_that_does_not_decode(s, error, died):
    """The oracle raised what its decoding raises, or took an OSError of bz2 for one of its socket, and the server for
    dead; we answer None for that key."""
    return s.name in ("get", "gets", "get_multi") and (
        died or isinstance(error, (ValueError, OSError, EOFError)) or type(error).__name__ == "error"  # zlib.error
    )


def incr_on_a_value_that_is_no_number(s, error):
    return s.name in ("incr", "decr") and type(error) is ValueError


# The harness.


def normal(result):
    """A result so that == means the same: with types, and dicts with the types of their keys."""
    if isinstance(result, dict):
        return {(type(key).__name__, key): normal(value) for key, value in result.items()}
    return (type(result).__name__, result)


def raised(error):
    return (type(error).__name__, str(error))


@dataclass(frozen=True)
class Expiry:
    """Seconds that a value has left, -1: for ever. Equal where they differ by no more than the two sides' calls may."""

    seconds: int

    def __eq__(self, other):
        if -1 in (self.seconds, other.seconds):
            return self.seconds == other.seconds
        return abs(self.seconds - other.seconds) < 60


class Side:
    """One client, its servers, and plain sockets to them."""

    def __init__(self, module, servers):
        self.module = module
        self.servers = servers
        self.raw = []
        for server in servers:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(20)
            connection.connect(server.path)
            self.raw.append((connection, connection.makefile("rb")))

    @property
    def is_oracle(self):
        return inspect.isfunction(self.module.Client.get)

    def close(self):
        for connection, file in self.raw:
            file.close()
            connection.close()

    def flush(self):
        for connection, file in self.raw:
            connection.sendall(b"flush_all\r\n")
            assert file.readline() == b"OK\r\n"

    def addresses(self, listed):
        """Servers as a client takes them, for a list of (number, weight or None)."""
        self.listed = listed
        addresses = [(self.servers[number].address, weight) for number, weight in listed]
        return [address if weight is None else (address, weight) for address, weight in addresses]

    def open(self, configuration):
        addresses = self.addresses(list(enumerate(configuration.weights)))
        self.client = self.module.Client(addresses, socket_timeout=20, **configuration.options)

    def call(self, call):
        """(what was returned or raised, the error or None, the debug lines with no address in them)"""
        arguments, options = call.real()
        if call.name in CLOSING:
            self.settle()
        if call.name == "set_servers":
            arguments = [self.addresses(*arguments)]
        log = io.StringIO()
        error = None
        with contextlib.redirect_stderr(log):
            try:
                if call.name in ("mark_dead", "close_socket"):
                    (number,) = arguments
                    if number < len(self.client.servers):
                        getattr(self.client.servers[number], call.name)(*(["test"] if call.name == "mark_dead" else []))
                    result = None
                else:
                    result = getattr(self.client, call.name)(*arguments, **options)
            except Exception as problem:
                error = problem
                result = raised(problem)
            else:
                if call.name == "get_stats":
                    result = self.known_stats(result)
                elif call.name == "get_slab_stats":
                    result = self.known_stats(result, but=dict)
                result = result if call.name == "set_multi" else normal(result)
        lines = re.sub(r"unix:\S*?/socket( \(dead until \d+\))?", "SERVER", log.getvalue())
        return result, error, lines

    def known_stats(self, stats, but=None):
        """The names of the servers as their numbers, and the names of what they say: the figures are their own.

        So are the values of a type `but`: slabs, of which a server keeps what earlier sequences needed.
        """
        names = {f"unix:{server.path}": number for number, server in enumerate(self.servers)}
        known = []
        for name, figures in stats:
            path, weight = re.fullmatch(r"(.*) (\(\d+\))", name).groups()
            slabs = {name for name, value in figures.items() if type(value) is but}
            assert all(name.isdigit() and {*map(type, figures[name].values())} == {str} for name in slabs)
            figures = {name: value for name, value in figures.items() if name not in slabs}
            types = {type(text).__name__ for text in [*figures, *figures.values()]}
            known.append((names[path], weight, sorted(figures), types))
        return known

    def stored(self, keys):
        """{(server, key): (flags, bytes, Expiry)} of those keys, read through the plain sockets."""
        found = {}
        keys = sorted(keys)
        for number, (connection, file) in enumerate(self.raw):
            for start in range(0, len(keys), 20):
                some = keys[start : start + 20]
                connection.sendall(b"".join(b"mg " + key + b" f t v\r\n" for key in some))
                for key in some:
                    line = file.readline()
                    if line != b"EN\r\n":
                        word, size, flags, seconds = line.split()
                        assert (word, flags[:1], seconds[:1]) == (b"VA", b"f", b"t"), line
                        found[number, key] = (int(flags[1:]), file.read(int(size)), Expiry(int(seconds[1:])))
                        assert file.readline() == b"\r\n"
        return found

    def stats(self):
        return dict(self.client.stats)

    def dead(self):
        """The servers that are marked dead, by their numbers."""
        return {number for number, host in enumerate(self.client.servers) if host.deaduntil}

    def revive(self, numbers):
        for number in numbers:
            self.client.servers[number].deaduntil = 0

    def in_step(self):
        """Read whatever replies are left in the oracle's connections. Returns what was there."""
        left = []
        if not self.is_oracle:
            return left
        for host in self.client.servers:
            if host.socket is not None:
                host.send_cmd("version")
                while not (line := host.readline()).startswith(b"VERSION "):
                    left.append(line)
                    assert host.socket is not None, "the server closed the connection"
        return left

    def settle(self):
        """Wait until the servers have taken what this client sent without waiting for an answer.

        A memcached that finds the connection closed when it has an error line to send drops the commands behind it.
        """
        if self.client.buckets:
            self.client.get_multi([(number, "settle") for number in range(len(self.client.buckets))])


def disagree(what, call, theirs, ours):
    raise Disagreement(f"{what}\n  call:   {call!r}\n  oracle: {shown(theirs)}\n  ours:   {shown(ours)}")


def shown(result):
    try:
        text = repr(result)
    except ValueError:  # an int of more digits than Python prints
        text = object.__repr__(result)
    return text if len(text) < 2000 else f"{text[:1000]} ... {text[-500:]}"


def one_by_one(theirs, situation):
    """What get_multi answers where the oracle reads a value that does not decode: None for that one."""
    call = situation.call
    keys = list(call.arguments[0])
    prefix = situation.options.get("key_prefix", "")
    # Of several names for one stored key the last one given stands for it, and the last server's value for all of them.
    names = {situation.wire_key(key): key for key in keys}
    servers = list(theirs.client._map_and_prefix_keys(keys, prefix)[0])
    found = {}
    for key in sorted(keys, key=lambda key: [servers.index(one) for one in servers_of(theirs, key, prefix)]):
        dead = theirs.dead()
        try:
            values = list(theirs.client.get_multi([key], **call.options).values())
        except Exception:
            values = [None]
            theirs.client.disconnect_all()
        if theirs.dead() > dead:
            values = [None]
            theirs.revive(theirs.dead() - dead)
        found.update((names[situation.wire_key(key)], value) for value in values)
    return found


def servers_of(theirs, key, prefix):
    return theirs.client._map_and_prefix_keys([key], prefix)[0]


def left_to_memcached(theirs, situation):
    """True for a count whose outcome two memcacheds need not agree about, whatever the client.

    memcached skips the blanks before a number, and where there is nothing else it reads on past the value; so it does
    in a number from 2**63 on, in which it looks for a minus. A number that gets shorter is padded in its place, but not
    while something else still holds the item. (Beyond 64 bits it is no number.)
    """
    if situation.name not in ("incr", "decr"):
        return False
    delta = int(situation.options.get("delta", 1))
    for _, data, _ in theirs.stored(key for key in situation.wire_keys() if re.fullmatch(GOOD_KEY, key)).values():
        if not data.strip():
            return True
        if data.strip().isdigit() and len(data) <= 20:
            number = int(data)
            if number >= 2**63:
                return True
            number = max(number - delta, 0) if situation.name == "decr" else (number + delta) % 2**64
            if len(str(number)) < len(data):
                return True
    return False


def make_call(theirs, ours, configuration, call, keys, rows):
    arguments, options = call.real()
    situation = Situation(call, arguments, options, theirs.client, configuration, theirs.listed)
    if left_to_memcached(theirs, situation):
        return
    for row in KNOWN_BEFORE:
        if row(situation):
            rows.append(row.__name__)
            return
    if an_error_line_after_a_noreply_call(situation):
        rows.append("an_error_line_after_a_noreply_call")
        theirs.settle()
        ours.settle()
    keys.update(key for key in situation.wire_keys() if re.fullmatch(GOOD_KEY, key))
    dead = theirs.dead()
    their_result, their_error, their_lines = theirs.call(call)
    our_result, our_error, our_lines = ours.call(call)
    died = theirs.dead() - dead
    if (
        (their_error is not None or died)
        and a_stored_value_that_does_not_decode(situation, their_error, died)
        and keys_are_good(situation)
    ):
        rows.append("a_stored_value_that_does_not_decode")
        theirs.client.disconnect_all()
        theirs.revive(died)
        if ours.is_oracle:
            ours.client.disconnect_all()
            ours.revive(died)
            return
        expected = normal(one_by_one(theirs, situation) if call.name == "get_multi" else None)
        if our_result != expected:
            disagree("a value that does not decode", call, expected, our_result)
        return
    if their_error is not None and incr_on_a_value_that_is_no_number(situation, their_error):
        rows.append("incr_on_a_value_that_is_no_number")
        words = re.search(r"b'(.*)'", str(their_error))[1]
        if type(our_error) is not ValueError or words.split(" ", 1)[1] not in str(our_error):
            disagree("no number", call, their_result, our_result)
        return
    left = theirs.in_step()
    ours.in_step()
    if their_error is not None and our_error is not None and not type(their_error).__name__.startswith("Memcached"):
        # The words of Python's own errors are Python's; a key's error has python-memcached's. A time, for one, is
        # looked at before the call is counted.
        rows.append("stats")
        their_result, our_result = their_result[0], our_result[0]
    if situation.name == "set_multi" and their_error is our_error is None:
        their_result, our_result = (not_stored(situation, result) for result in (their_result, our_result))
    if their_result != our_result:
        disagree("the answers differ", call, their_result, our_result)
    if not left and their_error is None and their_lines != our_lines:
        disagree("the debug lines differ", call, their_lines, our_lines)


def not_stored(situation, keys):
    """The result of set_multi in a form to compare: the order is nobody's business. Of several names for one stored
    key the oracle repeats the last."""
    wire_keys = situation.wire_keys()
    if len(set(wire_keys)) < len(wire_keys):
        return sorted(map(situation.wire_key, keys))
    return sorted(map(repr, keys))


def keys_are_good(situation):
    """True where the oracle's error does not come from the keys."""
    for key in situation.caller_keys():
        try:
            situation.client.check_key(situation.wire_key(key) or b"")
        except Exception:
            if situation.checks:
                return False
        if situation.wire_key(key) is None:
            return False
    return True


def run(theirs, ours, configuration, sequence):
    """Make the calls on both sides. Returns the names of the rows met."""
    rows = []
    keys = set()
    for side in (theirs, ours):
        side.flush()
        side.open(configuration)
    try:
        for call in sequence:
            make_call(theirs, ours, configuration, call, keys, rows)
        for side in (theirs, ours):
            side.settle()
        if theirs.stored(keys) != ours.stored(keys):
            disagree("the servers hold different things", sequence, theirs.stored(keys), ours.stored(keys))
        if sorted(theirs.client.cas_ids) != sorted(ours.client.cas_ids):
            disagree("cas_ids", sequence, theirs.client.cas_ids, ours.client.cas_ids)
        if not {"a_stored_value_that_does_not_decode", "stats"} & {*rows} and theirs.stats() != ours.stats():
            disagree("stats", sequence, theirs.stats(), ours.stats())
    finally:
        for side in (theirs, ours):
            side.client.disconnect_all()
    return rows


@contextlib.contextmanager
def two_sides(our_module):
    with contextlib.ExitStack() as stack:

        def side(module):
            servers = [stack.enter_context(memcached("-m", "100", "-t", "1", unix=True)) for _ in range(SERVERS)]
            side = Side(module, servers)
            stack.callback(side.close)
            return side

        yield side(oracle.load()), side(our_module)


@pytest.fixture(scope="module")
def sides():
    with two_sides(memcache) as both:
        yield both


@hypothesis_seed(SEED)
@settings(
    max_examples=SEQUENCES,
    deadline=None,
    database=None,
    print_blob=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(configurations(), sequences())
def test_the_two_clients_agree(sides, configuration, sequence):
    note(f"MCEXT_SEED={SEED} MCEXT_SEQUENCES={SEQUENCES}")
    run(*sides, configuration, sequence)


def test_a_value_that_a_decompressor_takes_for_an_error_of_the_socket(sides):
    """bz2 raises an OSError, and python-memcached takes its server for dead."""
    sequence = [
        Call("set", ("a", b"a" * 100), {"min_compress_len": 1}),
        Call("prepend", ("a", "text")),
        Call("get", ("a",)),
        Call("gets", ("a",)),
        Call("get_multi", (["a", "b"],)),
        Call("set", ("b", 1)),
    ]
    configuration = Configuration([None], {"compressor": bz2.compress, "decompressor": bz2.decompress})
    assert run(*sides, configuration, sequence) == ["a_stored_value_that_does_not_decode"] * 3


def test_a_large_number_before_a_minus_that_an_earlier_value_left(sides):
    """memcached takes it for negative, on that server alone."""
    configuration = Configuration([None])
    for side in sides:
        side.open(configuration)
    theirs = sides[0]
    theirs.client.set("a", "-" * 30)
    theirs.client.delete("a")
    theirs.client.set("a", 2**63)
    with pytest.raises(ValueError, match="non-numeric"):
        theirs.client.incr("a")
    theirs.client.delete("a")
    run(*sides, configuration, [Call("set", ("a", 2**63)), Call("incr", ("a",))])


def wrong_flag(module):
    class Client(module.Client):
        def _val_to_store_info(self, *arguments):
            stored = super()._val_to_store_info(*arguments)
            return stored and (stored[0] | 32, *stored[1:])

    return Client


def wrong_hash(module):
    class Client(module.Client):
        def _get_server(self, key):
            return super()._get_server((1, key) if isinstance(key, bytes) else key)

    return Client


def wrong_type(module):
    class Client(module.Client):
        def set(self, *arguments, **options):
            return int(super().set(*arguments, **options))

    return Client


def wrong_expiry(module):
    class Client(module.Client):
        def _set(self, cmd, key, val, time, *rest):
            return super()._set(cmd, key, val, abs(time), *rest)

    return Client


def wrong_seconds(module):
    class Client(module.Client):
        def _set(self, cmd, key, val, time, *rest):
            return super()._set(cmd, key, val, time and time * 2, *rest)

    return Client


def wrong_servers(module):
    class Client(module.Client):
        def set_servers(self, servers):
            super().set_servers([*reversed(servers)])

    return Client


def wrong_error(module):
    class Client(module.Client):
        def check_key(self, key, key_extra_len=0):
            if key == b"a b":
                raise self.MemcachedKeyLengthError
            super().check_key(key, key_extra_len)

    return Client


def wrong_words(module):
    class Client(module.Client):
        def debuglog(self, str):
            super().debuglog(str.lower())

    return Client


@pytest.mark.parametrize(
    "flaw", [wrong_flag, wrong_hash, wrong_type, wrong_expiry, wrong_seconds, wrong_servers, wrong_error, wrong_words]
)
def test_a_flaw_is_noticed(flaw):
    """python-memcached against itself with one thing changed: the comparison above must see each."""
    module = oracle.load()
    sequence = [
        Call("add", ("a", "text")),
        Call("add", ("a", "text")),
        Call("add", ("b", b"bytes")),
        Call("set", ("c", "text"), {"time": -1}),
        Call("set", ("b", "text"), {"time": 1000}),
        Call("set_servers", ([(1, None), (2, 2)],)),
        Call("set", ("Key", "text")),
        Call("set", ("a b", 1)),
        Call("delete", ("Missing",)),
        Call("get_multi", (["a", "b", "c"],)),
    ]
    configuration = Configuration([None] * SERVERS, {"debug": 1})
    with two_sides(SimpleNamespace(Client=module.Client)) as (theirs, ours):
        run(theirs, ours, configuration, sequence)
        ours.module.Client = flaw(module)
        with pytest.raises(Disagreement):
            run(theirs, ours, configuration, sequence)
