"""Which server a key goes to: `placement=` of Client and Cache. docs/fleets.md is the guide.

    client = mcext.Client(["10.0.0.1:11211", "10.0.0.2:11211"], placement=placement.pylibmc({"ketama": True}))

Each function here gives a placement: immutable, comparable, hashable, picklable. Server by server the result is that of
the client that it is named after. Names and weights are those of the servers as they were written; no name is looked
up.

What is in C (core/fleet) looks a key up in a table. The tables are made here: once for each list of servers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mcext import _core

if TYPE_CHECKING:
    from typing import Literal

    _Hash = Literal["default", "md5", "crc", "fnv1_64", "fnv1a_64", "fnv1_32", "fnv1a_32", "murmur", "jenkins"]
    _ProxyHash = Literal[
        "fnv1a_64", "fnv1_64", "fnv1a_32", "fnv1_32", "one_at_a_time", "md5", "crc32", "crc32a", "murmur", "jenkins"
    ]

__all__ = [
    "Placement",
    "libmc",
    "libmemcached",
    "pylibmc",
    "pymemcache",
    "python_memcached",
    "rendezvous",
    "twemproxy",
    "uhashring",
]

_BUCKETS_AT_MOST = 65_535  # the number of one has two bytes in a table
_DEFAULT_PORT = 11211
_ALL = 1 << 64


class _Row(NamedTuple):
    """A server of a list: the number of its first bucket, how many it has, its address taken apart."""

    bucket: int
    weight: int
    host: str
    port: int | None  # None: a Unix socket, and host is its path
    name: str | None


class _Table(NamedTuple):
    """What _core._Table takes: of each point, slot or entry the value and the bucket."""

    kind: str
    values: list[Any] | None
    owners: list[int]


class _Scheme(NamedTuple):
    """How a placement chooses."""

    make: Callable[[list[_Row]], _Table]
    hash: str | None = None  # of keys: mc_key_hash_find's name; None: the table's kind has its own
    names: Callable[[_Row], str] | None = None  # by which it tells servers apart
    hashes_prefix: bool = True  # of a Cache's keys
    tag: str = ""


class Placement:
    """Which server a key goes to. The functions of mcext.placement make them."""

    __slots__ = ("_arguments", "_name", "_scheme")

    _arguments: tuple[tuple[str, Any], ...]
    _name: str
    _scheme: _Scheme | None

    def __init__(self, name: str, arguments: Mapping[str, Any], scheme: _Scheme | None) -> None:
        for attribute, value in (("_name", name), ("_arguments", tuple(arguments.items())), ("_scheme", scheme)):
            object.__setattr__(self, attribute, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a placement cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a placement cannot be changed")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Placement):
            return NotImplemented
        return (self._name, self._arguments) == (other._name, other._arguments)

    def __hash__(self) -> int:
        return hash((self._name, self._arguments))

    def __repr__(self) -> str:
        shown = ", ".join(
            repr(dict(value)) if name == "behaviors" else f"{name}={value!r}" for name, value in self._arguments
        )
        return f"mcext.placement.{self._name}({shown})"

    def __reduce__(self) -> tuple[Callable[..., Placement], tuple[Any, ...]]:
        given = (dict(value) if name == "behaviors" else value for name, value in self._arguments)
        return globals()[self._name], tuple(given)

    # What the extension calls.

    def _check(self, servers: Iterable[tuple[Any, int]]) -> None:
        """Raise ValueError where servers, each with its weight, cannot be placed."""
        if self._scheme is not None:
            _check(self._scheme, [_Row(0, int(weight), *_identity(server)) for server, weight in servers])

    def _table(self, buckets: Iterable[Any]) -> _core._Table | None:
        """The table for a list that holds each server as often as its weight; None: python-memcached's walk."""
        scheme = self._scheme
        if scheme is None:
            return None
        rows = _rows(buckets)
        _check(scheme, rows)
        kind, values, owners = scheme.make(rows)
        return _core._Table(kind, scheme.hash, scheme.tag, values, owners, scheme.hashes_prefix)


# The servers


def _identity(server: Any) -> tuple[str, int | None, str | None]:
    if not isinstance(server, _core._Server):
        raise TypeError(f"a placement chooses among hosts, and {type(server).__name__} is none")
    return server._identity


def _rows(buckets: Iterable[Any]) -> list[_Row]:
    """The servers in the order of their first buckets."""
    found: dict[int, _Row] = {}
    for number, server in enumerate(buckets):
        row = found.get(id(server))
        if row is None:
            row = _Row(number, 0, *_identity(server))
        found[id(server)] = row._replace(weight=row.weight + 1)
    return list(found.values())


def _check(scheme: _Scheme, rows: list[_Row]) -> None:
    for row in rows:
        if row.weight < 1:
            raise ValueError(f"the weight of a server must be 1 or more with this placement, not {row.weight}")
    total = sum(row.weight for row in rows)
    if total > _BUCKETS_AT_MOST:
        raise ValueError(
            f"the weights of all servers must not be more than {_BUCKETS_AT_MOST} together with this placement,"
            f" and are {total}"
        )
    if scheme.names is None:
        return
    names = set()
    for row in rows:
        name = scheme.names(row)
        if name in names:
            raise ValueError(f"this placement goes by the names of servers, and two have the name {name!r}")
        names.add(name)


def _short_name(row: _Row, of_a_socket: str) -> str:
    if row.name is not None:
        return row.name
    if row.port is None:
        return row.host + of_a_socket
    return row.host if row.port == _DEFAULT_PORT else f"{row.host}:{row.port}"


def _libmemcached_name(row: _Row) -> str:
    return _short_name(row, ":0")


def _twemproxy_name(row: _Row) -> str:
    return _short_name(row, ":")


def _libmc_name(row: _Row) -> str:
    return _short_name(row, "")


def _full_name(row: _Row) -> str:
    if row.name is not None:
        return row.name
    return row.host if row.port is None else f"{row.host}:{row.port}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# Points of rings


def _ring(points: Iterable[tuple[int, int]], rows: list[_Row]) -> _Table:
    """From (value, number of the row). Of points that are alike the one of the lower row is met."""
    ordered = sorted(points)
    return _Table("ring", [value for value, _ in ordered], [rows[number].bucket for _, number in ordered])


def _float32(number: float) -> float:
    rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return rounded


def _digests(rows: list[_Row]) -> list[int]:
    """How many digests, of four points each, libmemcached and twemproxy give a server. Each step is C's float: of 25
    equal servers each has 39, and not 40 (libmemcached/hosts.cc, update_continuum)."""
    total, count = _float32(sum(row.weight for row in rows)), _float32(len(rows))
    digests = []
    for row in rows:
        share = _float32(_float32(row.weight) / total)
        share = _float32(_float32(_float32(share * 160) / 4) * count)
        digests.append(int(_float32(share + 1e-10)))
    return digests


def _ketama(rows: list[_Row], digests: list[int], name: Callable[[_Row], str]) -> list[tuple[int, int]]:
    return [
        (value, number)
        for number, row in enumerate(rows)
        for digest in range(digests[number])
        for value in struct.unpack("<4I", _core._md5(_bytes(f"{name(row)}-{digest}")))
    ]


def _weighted_ring(rows: list[_Row], name: Callable[[_Row], str]) -> _Table:
    return _ring(_ketama(rows, _digests(rows), name), rows)


def _hundred_points(rows: list[_Row], hash: str, name: Callable[[_Row], str]) -> _Table:
    points = (
        (_core._key_hash(hash, _bytes(f"{name(row)}-{point}")), number)
        for number, row in enumerate(rows)
        for point in range(100)
    )
    return _ring(points, rows)


def _slots(rows: list[_Row]) -> _Table:
    return _Table("slots", None, [row.bucket for row in rows])


# The placements


def _one_of(function: str, parameter: str, value: object, known: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{parameter} of {function} must be one of {', '.join(known)}, not {value!r}")


def python_memcached() -> Placement:
    """python-memcached's, which is the default: crc32 of the key, modulo the servers, each as often as its weight."""
    return Placement("python_memcached", {}, None)


def rendezvous() -> Placement:
    """For new fleets: a server that comes takes its share of keys from all others, one that goes gives its keys to all
    others, and no other key moves; the order of the servers is of no account.

    mix64 is the last step of splitmix64, fnv1a FNV-1a with 64 bits. A server of weight w has w seeds, mix64(fnv1a(s)),
    where s is its name or "host:port" or a Unix socket's path, then "-" and a number from 0 to w - 1. The key belongs
    to the server with the seed for which mix64(fnv1a(key) ^ seed) is highest. Weights are best small.
    """

    def make(rows: list[_Row]) -> _Table:
        seeds, owners = [], []
        for row in rows:
            for number in range(row.weight):
                seeds.append(_mix64(_core._key_hash("fnv1a", _bytes(f"{_full_name(row)}-{number}"))))
                owners.append(row.bucket)
        return _Table("seeds", seeds, owners)

    return Placement("rendezvous", {}, _Scheme(make, "fnv1a", _full_name))


def _mix64(number: int) -> int:
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % _ALL
    number = (number ^ number >> 27) * 0x94D049BB133111EB % _ALL
    return number ^ number >> 31


_LIBMEMCACHED_HASHES = (
    "default",
    "md5",
    "crc",
    "fnv1_64",
    "fnv1a_64",
    "fnv1_32",
    "fnv1a_32",
    "murmur",
    "jenkins",
)


def libmemcached(
    distribution: Literal["modula", "consistent", "ketama", "ketama_weighted"] = "modula", hash: _Hash = "default"
) -> Placement:
    """libmemcached's (1.0 and 1.1), and so that of PHP's memcached and of other clients made with it.

    distribution: "modula"; "consistent" or "ketama", which are one; "ketama_weighted" (PHP: OPT_LIBKETAMA_COMPATIBLE).
    hash: "default" (one-at-a-time), "md5", "crc", "fnv1_64", "fnv1a_64", "fnv1_32", "fnv1a_32", "murmur" or "jenkins":
        of keys, and, with "consistent" and "ketama", of the ring. The default with "ketama_weighted" is "md5".

    "modula" knows no weights. With "consistent" and "ketama" a weight of more than 1 makes the ring the one of
    "ketama_weighted", as it does there. A prefix of Cache's is not hashed. Raises ValueError for what is not known.
    """
    _one_of("libmemcached", "distribution", distribution, ("modula", "consistent", "ketama", "ketama_weighted"))
    _one_of("libmemcached", "hash", hash, _LIBMEMCACHED_HASHES)
    is_weighted = distribution == "ketama_weighted"
    scheme = _libmemcached(
        distribution != "modula", is_weighted, "md5" if is_weighted and hash == "default" else hash, False
    )
    return Placement("libmemcached", {"distribution": distribution, "hash": hash}, scheme)


def _libmemcached(is_ring: bool, is_weighted: bool, hash: str, hashes_prefix: bool, sorts: bool = False) -> _Scheme:
    def make(rows: list[_Row]) -> _Table:
        if sorts:
            rows = sorted(rows, key=lambda row: (_bytes(row.host), row.port or 0))
        if not is_ring:
            return _slots(rows)
        if is_weighted or any(row.weight > 1 for row in rows):
            return _weighted_ring(rows, _libmemcached_name)
        return _hundred_points(rows, hash, _libmemcached_name)

    return _Scheme(make, hash, _libmemcached_name if is_ring else None, hashes_prefix)


# The names that pylibmc 1.6 knows. Those that choose a server are applied in this order, which is its own.
_CHOOSING = ("hash", "ketama", "ketama_weighted", "distribution", "_hash_with_prefix_key", "_sort_hosts")
_NOT_CHOOSING = frozenset(
    "no_block tcp_nodelay tcp_keepalive ketama_hash cas buffer_requests verify_keys connect_timeout send_timeout"
    " receive_timeout num_replicas auto_eject retry_timeout _retry_timeout remove_failed failure_limit dead_timeout"
    " _io_msg_watermark _io_bytes_watermark _io_key_prefetch _noreply _poll_timeout _socket_send_size"
    " _socket_recv_size pickle_protocol namespace".split()
)
_PYLIBMC_DISTRIBUTIONS = ("modula", "consistent", "consistent ketama", "consistent weighted")


def pylibmc(behaviors: Mapping[str, Any]) -> Placement:
    """pylibmc's, from the dict of behaviors that its Client is given, as it is.

    "hash", "ketama", "ketama_weighted", "distribution", "_sort_hosts" choose the server. With "_hash_with_prefix_key"
    the prefix of a Cache, which is pylibmc's "namespace", is hashed with the key. All other behaviors are ignored:
    "ketama_hash", too, of which libmemcached makes no use.

    Raises ValueError that names it for a behavior that pylibmc does not know, or that chooses servers in a way that is
    not known here ("random", "virtual bucket", "consistent ketama spy", "hsieh"); TypeError where it is no mapping.
    """
    if not isinstance(behaviors, Mapping):
        raise TypeError(f"behaviors must be a dict, not {type(behaviors).__name__}")
    given = dict(behaviors)
    if "hash_with_prefix_key" in given:
        given.setdefault("_hash_with_prefix_key", given.pop("hash_with_prefix_key"))
    unknown = sorted(map(str, given.keys() - _NOT_CHOOSING - {*_CHOOSING}))
    if unknown:
        raise ValueError(f"pylibmc has no behavior {', '.join(unknown)}")
    chosen = {name: given[name] for name in _CHOOSING if name in given}

    is_ring = is_weighted = False
    hash = "default"
    if "hash" in chosen:
        hash = chosen["hash"]
        _one_of("pylibmc", "the behavior hash", hash, _LIBMEMCACHED_HASHES)
    for name in ("ketama", "ketama_weighted", "_hash_with_prefix_key", "_sort_hosts"):
        if name in chosen:
            if not isinstance(chosen[name], int):
                raise ValueError(f"the behavior {name} of pylibmc must be True or False, not {chosen[name]!r}")
            chosen[name] = bool(chosen[name])
    if "ketama" in chosen:
        is_ring = chosen["ketama"]
    if "ketama_weighted" in chosen:  # False is "ketama": True (libmemcached/behavior.cc)
        is_ring, is_weighted = True, chosen["ketama_weighted"]
        hash = "md5" if is_weighted else hash
    if "distribution" in chosen:
        distribution = str(chosen["distribution"]).replace("_", " ")
        _one_of("pylibmc", "the behavior distribution", distribution, _PYLIBMC_DISTRIBUTIONS)
        chosen["distribution"] = distribution
        is_ring, is_weighted = distribution != "modula", distribution == "consistent weighted"
    scheme = _libmemcached(
        is_ring, is_weighted, hash, chosen.get("_hash_with_prefix_key", False), chosen.get("_sort_hosts", False)
    )
    return Placement("pylibmc", {"behaviors": tuple(chosen.items())}, scheme)


_LIBMC_HASHES = {"md5": "md5", "fnv1_32": "unsigned_fnv1_32", "fnv1a_32": "unsigned_fnv1a_32", "crc32": "crc32"}


def libmc(hash: Literal["md5", "fnv1_32", "fnv1a_32", "crc32"] = "md5") -> Placement:
    """libmc's (1.4): a ring of a hundred points of md5 for each server; it knows no weights.

    hash: of keys: "md5", "fnv1_32", "fnv1a_32" or "crc32" (libmc.MC_HASH_CRC_32).

    The name of an mcext.Server is what libmc calls an alias. Raises ValueError for a hash that is not known.
    """
    _one_of("libmc", "hash", hash, _LIBMC_HASHES)
    scheme = _Scheme(lambda rows: _hundred_points(rows, "md5", _libmc_name), _LIBMC_HASHES[hash], _libmc_name)
    return Placement("libmc", {"hash": hash}, scheme)


def pymemcache() -> Placement:
    """pymemcache's HashClient (4.0) with its own hasher: rendezvous, by murmur3 of server and key; no weights.

    Of a key the lower eight bits of each character are hashed; a prefix of Cache's is not. pymemcache hashes keys that
    are bytes as their repr(), which is elsewhere: here bytes are hashed as the str that they encode.
    """

    def make(rows: list[_Row]) -> _Table:
        rows = sorted(rows, key=_full_name)  # of two scores that are alike the larger name's is taken
        texts = [bytes(ord(character) & 0xFF for character in _full_name(row) + "-") for row in rows]
        return _Table("texts", texts, [row.bucket for row in rows])

    return Placement("pymemcache", {}, _Scheme(make, None, _full_name, hashes_prefix=False))


def uhashring(ketama: bool = False) -> Placement:
    """uhashring's (2.5), and so that of python-binary-memcached and meta-memcache: a ring of md5, nodes "host:port".

    ketama: of hash_fn="ketama".

    Nodes of other names are mcext.Server(address, weight, name).
    """
    if not isinstance(ketama, bool):
        raise TypeError(f"ketama must be True or False, not {type(ketama).__name__}")
    hash, top = ("md5", 1 << 32) if ketama else ("md5_64", _ALL)

    def make(rows: list[_Row]) -> _Table:
        # The first point that is above the key's hash is, one lower, the first that is not below it. Of points that
        # are alike the last one counts.
        ring = {(point - 1) % top: number for point, number in (_uhashring_ketama if ketama else _uhashring)(rows)}
        return _ring(ring.items(), rows)

    return Placement("uhashring", {"ketama": ketama}, _Scheme(make, hash, _full_name))


def _uhashring(rows: list[_Row]) -> Iterable[tuple[int, int]]:
    for number, row in enumerate(rows):
        for point in range(160 * row.weight):
            yield _core._key_hash("md5_64", _bytes(f"{_full_name(row)}-{point}")), number


def _uhashring_ketama(rows: list[_Row]) -> Iterable[tuple[int, int]]:
    total = sum(row.weight for row in rows)
    return _ketama(rows, [40 * len(rows) * row.weight // total for row in rows], _full_name)


_TWEMPROXY_HASHES = {name: name for name in _LIBMEMCACHED_HASHES[3:]} | {
    "one_at_a_time": "default",
    "md5": "md5",
    "crc32": "crc",
    "crc32a": "crc32",
}


def twemproxy(
    distribution: Literal["ketama", "modula"] = "ketama", hash: _ProxyHash = "fnv1a_64", hash_tag: str | None = None
) -> Placement:
    """twemproxy's (0.5), as its configuration has it, for a client beside the proxy or in its place.

    distribution: "ketama" or "modula".
    hash: of keys: "fnv1a_64", "fnv1_64", "fnv1a_32", "fnv1_32", "one_at_a_time", "md5", "crc32", "crc32a", "murmur" or
        "jenkins".
    hash_tag: two characters, such as "{}"; of a key that holds both, what stands between them is hashed alone.

    A server with a name there is an mcext.Server(address, weight, name). Both distributions know weights. Raises
    ValueError for what is not known.
    """
    _one_of("twemproxy", "distribution", distribution, ("ketama", "modula"))
    _one_of("twemproxy", "hash", hash, _TWEMPROXY_HASHES)
    if hash_tag is not None and not (isinstance(hash_tag, str) and len(hash_tag) == 2 and hash_tag.isascii()):
        raise ValueError(f"hash_tag of twemproxy must be two ASCII characters, or None, not {hash_tag!r}")

    def make(rows: list[_Row]) -> _Table:
        # It sorts its servers before it numbers them (nc_conf.c, conf_validate_server; nc_string.c, string_compare).
        rows = sorted(rows, key=lambda row: (len(_bytes(_twemproxy_name(row))), _bytes(_twemproxy_name(row))))
        if distribution == "ketama":
            return _weighted_ring(rows, _twemproxy_name)
        return _slots([row for row in rows for _ in range(row.weight)])

    arguments = {"distribution": distribution, "hash": hash, "hash_tag": hash_tag}
    scheme = _Scheme(make, _TWEMPROXY_HASHES[hash], _twemproxy_name, tag=hash_tag or "")
    return Placement("twemproxy", arguments, scheme)
