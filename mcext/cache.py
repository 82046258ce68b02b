"""`mcext.Cache`: the client for new code. docs/cache.md is its guide.

    cache = mcext.Cache(["10.0.0.1:11211", "10.0.0.2:11211"], timeout=0.5)
    cache.get_or_set("front page", render, ttl=60, stale=600)

What is hot is in C (binding/cache_*.c); here are the options, and what is composed of several calls.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from mcext import _core, codecs, compress, fill, swap
from mcext.compress import Compression
from mcext.errors import MemcacheError, ServerUnavailable, partial_failure
from mcext.server import Server

if TYPE_CHECKING:
    import ssl
    from datetime import timedelta
    from typing import Literal

    from typing_extensions import Self, TypeVar, Unpack

    from mcext.codecs import Codec, Serde
    from mcext.discovery import Settings
    from mcext.events import Event
    from mcext.memo import Memoized, Options, P, R
    from mcext.placement import Placement
    from mcext.tokens import Absent

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["Cache", "ServerState"]

_PREFIX_AT_MOST = 249


class ServerState(NamedTuple):
    """One server of a cache: its address as it was given, whether it carries no dead mark, and how many connections to
    it are open and idle."""

    address: str
    alive: bool
    connections: int


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be more than 0 seconds, not {value!r}")
    return value


def _prefix(prefix: Any) -> bytes:
    if not isinstance(prefix, (str, bytes)):
        raise TypeError(f"prefix must be str or bytes, not {type(prefix).__name__}")
    text = prefix.encode() if isinstance(prefix, str) else prefix
    if len(text) > _PREFIX_AT_MOST:
        raise ValueError(f"prefix must not be longer than {_PREFIX_AT_MOST} bytes, and is {len(text)}")
    if any(byte <= 0x20 or byte == 0x7F for byte in text):
        raise ValueError(f"prefix must not hold control characters or spaces: {prefix!r}")
    return text


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):  # a str, such as an environment's "no", would be true
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return value


def _max_value_length(length: Any) -> int:
    if isinstance(length, bool) or not isinstance(length, int):
        raise TypeError(f"max_value_length must be a number of bytes, not {type(length).__name__}")
    if not 1 <= length <= 2**31 - 3:
        raise ValueError(f"max_value_length must be between 1 and {2**31 - 3} bytes, not {length}")
    return length


def _rows(servers: Any) -> list[Server]:
    if isinstance(servers, (str, bytes)):
        servers = [servers]
    try:
        given = list(servers)
    except TypeError:
        raise TypeError(f"servers must be a list of addresses, not {type(servers).__name__}") from None
    rows: list[Server] = []
    for each in given:
        is_pair = isinstance(each, tuple) and len(each) == 2
        server = each if isinstance(each, Server) else Server(*each) if is_pair else Server(each)
        address, weight, _ = server
        if not isinstance(address, str):
            raise TypeError(f'servers must hold "host:port", (address, weight) or mcext.Server, not {each!r}')
        if isinstance(weight, bool) or not isinstance(weight, int):
            raise TypeError(f"the weight of a server must be an int, not {weight!r}")
        if not 1 <= weight <= 1000:
            raise ValueError(f"the weight of a server must be between 1 and 1000, not {weight}")
        if any(address == row.address for row in rows):
            raise ValueError(f"servers must hold each address once, and holds {address!r} twice")
        rows.append(server)
    return rows


class _Server(_core._Server):
    """One that may be referred to weakly, as the pools of connections in Python do (gevent's)."""

    __slots__ = ("__weakref__", "_retired")

    _retired: list[dict[str, Any]]  # its cache's, once it is in the list no more

    def __del__(self) -> None:
        """What calls counted that were under way when it left the list."""
        if hasattr(self, "_retired"):
            self._retired.append(_core._counters(self, True))


class Cache(_core._Cache[T]):
    """A client of one or more memcached servers, for new code.

    servers: a list of "host:port", "[ipv6]:port", "unix:/path", (address, weight) or mcext.Server; a str is one server.
    timeout: seconds that a call may take.
    connect_timeout: seconds that a call may spend in connects beside that; None: as timeout.
    dead_retry: seconds for which a server that failed is left alone.
    errors: "raise": what fails is a MemcacheError; "miss": it is a miss, False or None.
    prefix: stands before each key on the server.
    codec: an object with encode(value) -> (bytes, flags) and decode(bytes, flags) -> value, or one of pymemcache's
        serde objects; None: mcext.Client's format. mcext.codecs has some.
    compression: an mcext.Compression; None: nothing is compressed. What is compressed is read in any case.
    max_value_length: bytes of a value, stored or read, after decompression.
    allow_pickle: False refuses pickles, in storing and in reading.
    on_event: called with an Event behind a call that failed or was slow, a dead mark, a connect.
    slow: seconds from which on a call is an event; 0: every call is; None: none is.
    placement: which server a key goes to: one of mcext.placement; None: as for mcext.Client.
    on_dead: what becomes of a key whose server is dead: "walk" (python-memcached's probes), "miss", or "next", the
        placement's next server; None: "walk", with a placement of another client "miss".
    tls_context: an ssl.SSLContext: connections over TCP are encrypted, and servers verified, as it says.
    tls_server_hostname: the name that the servers' certificates must have; None: each server's host as it is given.
    username, password: said to each server on each new connection (memcached -Y), str or bytes; password may be a
        function, which is asked at each connect. Neither is shown anywhere.

    Keys are str or bytes, not empty, at most 250 bytes with the prefix, without control characters or spaces. ttl is a
    number of seconds, rounded up, or a timedelta; None: until it is evicted.

    A cache may be shared by threads, greenlets and the children of a fork; each call works on a connection of its own.
    Close it by close() or `with`; a later call opens it anew.

    Raises TypeError or ValueError for a wrong argument.
    """

    __slots__ = (
        "_codec",
        "_dead_retry",
        "_errors",
        "_flights",
        "_hosts",
        "_leases",
        "_lock",
        "_retired",
        "_secrets",
        "_timeouts",
        "_tls",
    )

    def __init__(
        self,
        servers: str | Iterable[str | tuple[str, int] | Server],
        *,
        timeout: float = 1.0,
        connect_timeout: float | None = None,
        dead_retry: float = 5.0,
        errors: Literal["raise", "miss"] = "raise",
        prefix: str | bytes = "",
        codec: Codec[T] | Serde | None = None,
        compression: Compression | None = None,
        max_value_length: int = 134217728,
        allow_pickle: bool = True,
        on_event: Callable[[Event], object] | None = None,
        slow: float | None = None,
        placement: Placement | None = None,
        on_dead: Literal["walk", "miss", "next"] | None = None,
        tls_context: ssl.SSLContext | None = None,
        tls_server_hostname: str | None = None,
        username: str | bytes | None = None,
        password: str | bytes | Callable[[], str | bytes] | None = None,
    ) -> None:
        self._hosts: dict[str, tuple[Any, int]] = {}  # repr() has them, also where the constructor fails
        try:
            self._secrets = _core._secrets(username, password)
        finally:
            del username, password  # no traceback has them among its locals
        if errors not in ("raise", "miss"):
            raise ValueError(f"errors must be 'raise' or 'miss', not {errors!r}")
        if compression is not None and not isinstance(compression, Compression):
            raise TypeError(f"compression must be an mcext.Compression, not {type(compression).__name__}")
        timeout = _seconds("timeout", timeout)
        self._timeouts = timeout, timeout if connect_timeout is None else _seconds("connect_timeout", connect_timeout)
        self._dead_retry = 0.0 if dead_retry == 0 else _seconds("dead_retry", dead_retry)
        _core._check_tls(tls_context, tls_server_hostname)
        self._tls = tls_context, tls_server_hostname
        self._errors = errors
        self._codec = self._make_codec(codec, compression, max_value_length)
        is_own = compression is not None and codec is None
        super().__init__(
            _prefix(prefix),
            self._codec.encode if self._codec is not None else None,
            self._codec.decode if self._codec is not None else None,
            _least(compression) if compression is not None and is_own else None,
            compression.compress if compression is not None and is_own and not _is_native(compression) else None,
            errors == "raise",
            _max_value_length(max_value_length),
            _truth("allow_pickle", allow_pickle),
            placement,
            on_dead,
        )
        self.on_event = on_event
        self.slow = slow
        self._lock = _core._generation(), threading.RLock()  # a signal handler may call the cache, too
        self._retired: list[dict[str, Any]] = []
        self._flights = fill.flights()
        self._leases: dict[bytes, tuple[int, float]] = {}
        self.set_servers(servers)

    @staticmethod
    def _make_codec(codec: Any, compression: Compression | None, max_length: int) -> Any:
        if codec is None:
            return None
        made = codecs.as_codec(codec)
        if compression is not None:
            made = compress.compressing(made, compression)
        compress.pass_on_max_length(made, max_length)
        return made

    # ---- composed of several calls

    def update(
        self,
        key: str | bytes,
        function: Callable[[T | Absent], T],
        ttl: float | timedelta | None = None,
        *,
        retries: int = 16,
    ) -> T | None:
        """Store function(value), again from the start where somebody else was faster.

        function: called with the value, or mcext.ABSENT where there is none; maybe more than once.
        ttl: of the new value: seconds, a timedelta, or None: until it is evicted.
        retries: how often it is tried again.

        Returns the new value; None where it could not be stored, with errors="miss". Raises ConflictError where others
        were faster each time; what function raises; MemcacheError, by errors; TypeError or ValueError for a wrong
        argument, before anything is sent.
        """
        return swap.update(self, key, function, ttl, retries)  # type: ignore[no-any-return]

    def invalidate(self, key: str | bytes, *, stale: float | timedelta | None = None) -> bool:
        """From now on get_or_set computes key anew: one caller does, the others are served the old value meanwhile.

        stale: for so many seconds at most (or a timedelta); None: for the time that it still has; 0: not at all. Where
        the server has no meta protocol the key is deleted.

        Returns True if there was one. Raises MemcacheError, by errors; TypeError or ValueError for a wrong argument,
        before anything is sent.
        """
        return fill.invalidate(self, key, stale)

    def memoize(
        self,
        ttl: float | timedelta | None = None,
        *,
        key: Callable[..., str | bytes] | None = None,
        **options: Unpack[Options],
    ) -> Callable[[Callable[P, R]], Memoized[P, R]]:
        """A decorator: what the function returns is kept, as by get_or_set.

        ttl: seconds, a timedelta, or None: until it is evicted.
        key: called with the function's arguments, returns the key; None: it is made of module, name and arguments.
        options: get_or_set's refresh, lease, wait, stale and fallback.

        The decorated function has key(...), the key of a call, and forget(...), which deletes it. A call raises
        TypeError that names an argument which has no text that is the same in every process.
        """
        # Here: CPython 3.12 crashes where a second sub-interpreter imports datetime or decimal, which it needs.
        from mcext import memo

        return memo.memoize(self, ttl, key, options)

    # ---- servers

    @property
    def errors(self) -> Literal["raise", "miss"]:
        """What becomes of a failure: "raise" or "miss"."""
        return self._errors

    @property
    def servers(self) -> tuple[ServerState, ...]:
        """The servers, as named tuples (address, alive, connections)."""
        return tuple(
            ServerState(address, host.deaduntil == 0, self._idle(host)) for address, (host, _) in self._hosts.items()
        )

    def set_servers(self, servers: str | Iterable[str | tuple[str, int] | Server]) -> None:
        """From now on these servers, given as to the class.

        Those that stay keep their connections and dead marks; a call under way ends where it began. Raises TypeError or
        ValueError for wrong ones, and nothing is changed.
        """
        rows = _rows(servers)
        watch = _core._watch(self)
        if any(map(_core._is_source, rows)):
            from mcext import discovery

            discovery.watch(self, rows, Cache._take_servers, Cache._settings, Cache._report)
        elif watch is not None:
            watch.replace(self, rows)
        else:
            self._take_servers(rows)

    def refresh_servers(self) -> None:
        """Ask now which servers there are, where they are found by asking ("elasticache://...", "dns+..."), for
        connect_timeout at most; else do nothing.

        Where nobody answers the servers stay as they are, and ServerUnavailable is raised, unless errors="miss".
        """
        watch = _core._watch(self)
        why = watch.refresh(self) if watch is not None else ""
        if why and self._errors == "raise":
            raise ServerUnavailable(why, command="refresh_servers")

    def _take_servers(self, servers: Any) -> None:
        rows = _rows(servers)
        with self._lock_of_this_process():
            hosts = {row.address: (self._host_of(row), row.weight) for row in rows}
            self._set_servers(list(hosts.values()))
            for address, (host, _) in self._hosts.items():
                if address not in hosts or hosts[address][0] is not host:
                    self._retired.append(_core._counters(host, True))
                    host._retired = self._retired
            self._hosts = hosts
            self._sum_of_retired(False)

    def _settings(self) -> Settings:
        """For a look of mcext.discovery."""
        from mcext.discovery import Settings

        return Settings(self._timeouts[1], *self._tls)

    def _report(self, text: str) -> None:
        """A look failed: the calls say so where there are no servers."""

    def _host_of(self, row: Server) -> Any:
        """The one that there is, or a new one."""
        if row.address in self._hosts:
            host = self._hosts[row.address][0]
            if host._identity[2] == row.name:
                return host
        timeout, connect_timeout = self._timeouts
        host = _Server(row._replace(weight=1), 0, self._dead_retry, timeout)
        host.connect_timeout = connect_timeout
        if self._secrets is not None:
            host.username, host.password = self._secrets
        host.tls_context, host.tls_server_hostname = self._tls
        return host

    def close(self) -> None:
        """Close the connections; those in use when their calls end. A later call opens new ones.

        Where servers are found by asking, the thread that asks ends, too.
        """
        watch = _core._watch(self)
        if watch is not None:
            watch.end()
            _core._set_watch(self, watch)  # which the next call begins again
        for host, _ in self._hosts.values():
            host._disconnect(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<mcext.Cache of {', '.join(self._hosts) or 'no servers'}>"

    def _lock_of_this_process(self) -> threading.RLock:
        generation, lock = self._lock
        if generation != _core._generation():  # a thread that a fork left behind may hold it
            self._lock = _, lock = _core._generation(), threading.RLock()
        return lock

    def _flights_of_this_process(self) -> Any:
        generation, flights = self._flights
        if generation != _core._generation():  # what a fork left behind lands nowhere
            self._flights = _, flights = fill.flights()
        return flights

    # ---- about all servers

    def _ask_all(self, command: str, ask: Callable[[Any], Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        failed: dict[str, MemcacheError] = {}
        watch = _core._watch(self)
        if watch is not None:
            watch.ready(self)
        for address, (host, _) in self._hosts.items():
            try:
                result[address] = ask(host)
            except MemcacheError as error:
                failed[address] = error
        if failed and self._errors == "raise":
            raise partial_failure(command, result, failed, [])
        return result

    @staticmethod
    def _delay(delay: Any) -> str:
        """That of flush_all as it is sent."""
        if isinstance(delay, bool) or not isinstance(delay, (int, float)):
            raise TypeError(f"delay must be a number of seconds, not {type(delay).__name__}")
        if not 0 <= delay <= 60 * 60 * 24 * 30:
            raise ValueError(f"delay must be between 0 and 30 days, not {delay!r}")
        return str(math.ceil(delay)) if delay else ""

    def flush_all(self, delay: float = 0) -> None:
        """Expire all items of all servers (protocol.txt, "flush_all"), in delay seconds.

        Raises PartialFailure where a server failed, unless errors="miss"; TypeError or ValueError for a wrong delay.
        """
        text = self._delay(delay)
        self._ask_all("flush_all", lambda host: self._flush_all(host, text))

    def stats(self, argument: str | None = None) -> dict[str, dict[str, str]]:
        """The statistics of each server (protocol.txt, "Statistics"): {address: {name: value}}.

        argument: what follows "stats ", such as "items" or "slabs".

        Raises PartialFailure where a server failed, unless errors="miss"; TypeError or ValueError for a wrong argument.
        """
        return self._ask_all("stats", lambda host: self._stats(host, argument))

    def version(self) -> dict[str, str]:
        """The version of each server: {address: "1.6.18"}.

        Raises PartialFailure where a server failed, unless errors="miss".
        """
        return self._ask_all("version", self._version)

    def metrics(self, reset: bool = False) -> dict[str, Any]:
        """What has been counted since the cache was made, or since the last reset.

        calls by command ({"get": 3}), keys asked for, hits, misses, stored, bytes_in, bytes_out, connects, retries,
        timeouts, lost (connections), dead_marks, fills_won, fills_lost and fills_waited (of get_or_set); durations: 24
        numbers of calls, number i of those of less than 2**i microseconds, the last of all that took longer. servers:
        the same by address, of those that there are now.
        """
        with self._lock_of_this_process():
            servers = {address: _core._counters(host, reset) for address, (host, _) in self._hosts.items()}
            total = _sum([self._sum_of_retired(reset), *servers.values()])
        return {**total, "servers": servers}

    def _sum_of_retired(self, reset: bool) -> dict[str, Any]:
        """What the servers that are in the list no more have counted; kept as one. More may be appended meanwhile."""
        taken = []
        with contextlib.suppress(IndexError):  # one by one: what a signal handler takes is not counted twice
            while True:
                taken.append(self._retired.pop())
        total = _sum(taken)
        if not reset:
            self._retired.append(total)
        return total


def _sum(counted: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {"calls": {}, "durations": [0] * 24, **dict.fromkeys(_core._counter_names(), 0)}
    for each in counted:
        for name, value in each.items():
            if name == "calls":
                for command, count in value.items():
                    total["calls"][command] = total["calls"].get(command, 0) + count
            elif name == "durations":
                total["durations"] = [a + b for a, b in zip(total["durations"], value, strict=True)]
            else:
                total[name] += value
    return total


def _is_native(compression: Compression) -> bool:
    return compression.method == "zlib" and compression.level is None


def _least(compression: Compression) -> int:
    """What Client's min_compress_len is for that: a length that is not yet compressed; 0 would be none."""
    return compression.min_length - 1 if compression.min_length > 1 else -1
