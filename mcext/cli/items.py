"""get, set, add, delete, touch, incr, decr: items, their bytes and flags as they are stored."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from mcext.cli.fleet import Fleet, Stored
from mcext.cli.options import add_placement, add_servers, fleet, seconds, whole
from mcext.cli.output import complain, document, escape, field, is_terminal, say
from mcext.cli.wrong import Wrong
from mcext.errors import MemcacheError, PartialFailure

if TYPE_CHECKING:
    import argparse

    from mcext.cache import Cache

__all__ = ["add", "decr", "delete", "get", "incr", "set", "touch"]

_READ_AT_MOST = 1 << 27  # of a value from standard input: what Cache stores at most


# The arguments


def _keys(parser: argparse.ArgumentParser, several: bool = True) -> None:
    parser.add_argument("key", nargs="+" if several else 1, type=os.fsencode)
    add_servers(parser)
    add_placement(parser)


def _ttl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ttl", type=seconds, metavar="SECONDS", help="time to live (until it is evicted)")


def get_options(parser: argparse.ArgumentParser) -> None:
    _keys(parser)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--raw", action="store_true", help="the bytes of the value of one key, and nothing else")
    shown.add_argument(
        "--pickle", action="store_true", help="decode the value as mcext.Client does: a pickle can run any code here"
    )


def set_options(parser: argparse.ArgumentParser) -> None:
    _keys(parser, several=False)
    parser.add_argument("value", type=os.fsencode, help="what to store; -: what comes from standard input")
    _ttl(parser)
    parser.add_argument("--flags", type=whole, default=0, help="a number beside the value (0); Client's text has 16")


add_options = set_options


def delete_options(parser: argparse.ArgumentParser) -> None:
    _keys(parser)


def touch_options(parser: argparse.ArgumentParser) -> None:
    _keys(parser)
    _ttl(parser)


def incr_options(parser: argparse.ArgumentParser) -> None:
    _keys(parser, several=False)
    parser.add_argument("delta", nargs="?", type=whole, default=1, help="by how much (1)")
    parser.add_argument("--initial", type=whole, metavar="NUMBER", help="what a missing key is made; else it is a miss")
    _ttl(parser)


decr_options = incr_options


# get


class _Item(NamedTuple):
    """An item as the server has it. None: it has no meta protocol to tell it by."""

    value: Stored
    cas: int | None
    ttl: int | None
    age: int | None
    hit: bool | None
    stale: bool | None
    is_meta: bool


def get(arguments: Any) -> int:
    keys = list(dict.fromkeys(arguments.key))
    if arguments.raw and len(keys) > 1:
        raise Wrong("--raw takes one key")
    is_raw = arguments.raw or not (arguments.json or arguments.pickle or len(keys) > 1 or is_terminal(sys.stdout))
    status = 0
    where = fleet(arguments)
    with where.cache() as cache:
        found, failed = _look_up(where, cache, keys)
        for error in failed.values():
            complain(str(error))
            status = 1
        for key in keys:
            if key in found:
                status |= _show(key, found[key], arguments, is_raw)
            elif not failed or cache.server_for(key) not in failed:
                if arguments.json:
                    document(field("key", key) | {"found": False})
                complain(f"{escape(key)}: not found")
                status = 1
    return status


def _look_up(where: Fleet, cache: Cache[Stored], keys: list[bytes]) -> tuple[dict[bytes, _Item], dict[str, Any]]:
    failed: dict[str, Any] = {}
    try:
        items = cache.get_items(keys)
    except PartialFailure as failure:
        items, failed = failure.result, failure.errors
    found = {
        key: _Item(item.value, item.cas, item.ttl, item.age, item.hit, item.stale, item.size is not None)
        for key, item in items.items()
    }
    lacking: dict[str, list[bytes]] = {}
    for key in keys:
        address = cache.server_for(key)
        if key not in found and address is not None and address not in failed:
            lacking.setdefault(address, []).append(key)
    for address, asked in lacking.items():
        # A Cache takes no bytes with no flags for the stub of a lease, and so for a miss.
        try:
            with where.connect(address) as connection:
                for key in asked:
                    empty = connection.value(key)
                    if empty is not None:
                        found[key] = _Item(Stored(empty[1], empty[0]), None, None, None, None, None, False)
        except MemcacheError as error:
            failed[address] = error
    return found, failed


def _show(key: bytes, item: _Item, arguments: Any, is_raw: bool) -> int:
    data, flags = item.value
    if is_raw:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    value: str | None = None
    if arguments.pickle:
        try:
            value = _decoded(data, flags)
        except Exception as error:  # of a pickle, anything
            complain(f"{escape(key)}: it does not decode: {type(error).__name__}: {error}")
            return 1
    fields: dict[str, Any] = {"flags": flags, "size": len(data)}
    if item.is_meta:
        fields |= {"ttl": item.ttl, "age": item.age, "hit": item.hit, "stale": item.stale}
    if item.cas is not None:
        fields["cas"] = item.cas
    if arguments.json:
        document(
            field("key", key) | {"found": True} | fields | (field("value", data) if value is None else {"repr": value})
        )
        return 0
    say(f"{escape(key)}  {' '.join(f'{name}={_word(name, one)}' for name, one in fields.items())}")
    say(escape(data) if value is None else value)
    return 0


def _word(name: str, value: Any) -> str:
    if value is None:
        return "never" if name == "ttl" else "unknown"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _decoded(data: bytes, flags: int) -> str:
    from mcext.codecs import Default

    return repr(Default().decode(data, flags))


# What changes items


def set(arguments: Any) -> int:
    return _store("set", arguments)


def add(arguments: Any) -> int:
    return _store("add", arguments)


def _store(verb: str, arguments: Any) -> int:
    (key,) = arguments.key
    value = Stored(_value(arguments.value), arguments.flags)
    where = fleet(arguments)
    with where.cache() as cache:
        if value == Stored(b"", 0):
            stored = _store_empty(verb, where, cache, key, arguments.ttl)
        else:
            stored = getattr(cache, verb)(key, value, arguments.ttl)
    return _say(arguments, key, "stored", stored, "not stored" if verb == "set" else "not stored: it is there already")


def _store_empty(verb: str, where: Fleet, cache: Cache[Stored], key: bytes, ttl: float | None) -> bool:
    """By hand: a Cache makes a pickle of no bytes, so that they are not taken for a lease's stub."""
    cache.get(key)  # checks the key, and that its server is there
    address = cache.server_for(key)
    if address is None:
        raise Wrong("there is no server")
    with where.connect(address) as connection:
        return connection.store(verb.encode(), key, 0, b"", ttl)


def _value(given: bytes) -> bytes:
    if given != b"-":
        return given
    data = sys.stdin.buffer.read(_READ_AT_MOST + 1)
    if len(data) > _READ_AT_MOST:
        raise Wrong(f"the value on standard input has more than {_READ_AT_MOST} bytes")
    return data


def delete(arguments: Any) -> int:
    return _one_by_one(arguments, "deleted", lambda cache, key: cache.delete(key))


def touch(arguments: Any) -> int:
    return _one_by_one(arguments, "touched", lambda cache, key: cache.touch(key, arguments.ttl))


def _one_by_one(arguments: Any, done: str, call: Any) -> int:
    status = 0
    with fleet(arguments).cache() as cache:
        for key in dict.fromkeys(arguments.key):
            status |= _say(arguments, key, done, call(cache, key), "not found")
    return status


def incr(arguments: Any) -> int:
    return _count("incr", arguments)


def decr(arguments: Any) -> int:
    return _count("decr", arguments)


def _count(verb: str, arguments: Any) -> int:
    (key,) = arguments.key
    if arguments.ttl is not None and arguments.initial is None:
        raise Wrong("--ttl is for the number that --initial makes")
    with fleet(arguments).cache() as cache:
        made = {} if arguments.initial is None else {"initial": arguments.initial, "ttl": arguments.ttl}
        number = getattr(cache, verb)(key, arguments.delta, **made)
    if arguments.json:
        document(field("key", key) | {"number": number})
    elif number is not None:
        say(str(number))
    if number is None:
        complain(f"{escape(key)}: not found")
    return int(number is None)


def _say(arguments: Any, key: bytes, done: str, is_done: bool, otherwise: str) -> int:
    if arguments.json:
        document(field("key", key) | {done: is_done})
    elif is_done:
        say(f"{escape(key)}: {done}")
    if not is_done:
        complain(f"{escape(key)}: {otherwise}")
    return int(not is_done)
