"""check: whether servers can be used as the options say, what they can do, and whether `import memcache` is mcext."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import mcext
from mcext.cli.fleet import Fleet
from mcext.cli.options import add_servers, fleet
from mcext.cli.output import document, say
from mcext.cli.wire import Connection
from mcext.errors import AuthenticationError, MemcacheError, ServerError

if TYPE_CHECKING:
    import argparse

__all__ = ["check"]

_CLOCKS_MAY_DIFFER = 2  # seconds: a server tells whole ones
_NEARLY = 0.9


def check_options(parser: argparse.ArgumentParser) -> None:
    add_servers(parser, positional=True)


def check(arguments: Any) -> int:
    where = fleet(arguments)
    servers = {address: _look(where, address) for address in where.addresses()}
    problem = mcext._memcache_problem()
    if arguments.json:
        document({"servers": servers, "memcache": problem or "mcext"})
    else:
        for address, found in servers.items():
            say(address)
            for name, value in _lines(found):
                say(f"  {name:15} {value}")
        say(f"import memcache   {problem or 'is mcext'}")
    return int(problem is not None or not all(found["usable"] for found in servers.values()))


def _look(where: Fleet, address: str) -> dict[str, Any]:
    """What is known of a server, for a JSON document."""
    began = time.monotonic()
    found: dict[str, Any] = {"usable": False}
    try:
        with where.connect(address) as connection:
            found["connect_seconds"] = round(time.monotonic() - began, 6)
            found["tls"] = connection.tls or None
            found |= _asked(connection)
            found["authentication"] = _authentication(where, found.pop("wants_authentication"))
            found["usable"] = True
    except MemcacheError as error:
        found["problem"] = str(error.args[0])
        if isinstance(error, AuthenticationError):
            found["authentication"] = "refused" if where.access.username is not None else "wanted, and no name is given"
    return found


def _authentication(where: Fleet, is_wanted: bool) -> str:
    if where.access.username is None:
        return "not wanted"
    return "accepted" if is_wanted else "not wanted: any name is taken"


def _asked(connection: Connection) -> dict[str, Any]:
    line = connection.ask(b"version")
    if not line.startswith(b"VERSION "):
        connection.refuse(line)
    found: dict[str, Any] = {"version": line[8:].decode("utf-8", "backslashreplace")}
    found["meta_protocol"] = connection.ask(b"mn") == b"MN"
    now, values = time.time(), connection.statistics()
    try:
        settings = connection.statistics(b"settings")
    except ServerError:  # a proxy may have none
        settings = {}

    def number(values: dict[str, str], name: str) -> int | None:
        text = values.get(name, "")
        return int(text) if text.isdecimal() and len(text) < 21 else None

    found["limits"] = {
        "bytes": number(values, "limit_maxbytes"),
        "bytes_used": number(values, "bytes"),
        "item_size": number(settings, "item_size_max"),
        "connections": number(settings, "maxconns"),
        "connections_used": number(values, "curr_connections"),
        "threads": number(values, "threads"),
    }
    clock = number(values, "time")
    found["clock_ahead_seconds"] = None if clock is None else round(clock - now)
    found["wants_authentication"] = settings.get("auth_enabled_ascii", "no") != "no"
    return found


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for people."""
    if "problem" in found:
        return [("usable", f"no: {found['problem']}")]
    limits = found["limits"]
    lines = [
        ("usable", f"yes, connected in {found['connect_seconds'] * 1000:.1f} ms"),
        ("version", found["version"]),
        ("meta protocol", "yes" if found["meta_protocol"] else "no: leases stand beside keys, and items have no ttl"),
        ("TLS", found["tls"] or "no"),
        ("authentication", found["authentication"]),
        ("memory", f"{_size(limits['bytes_used'])} of {_size(limits['bytes'])}"),
        ("largest item", _size(limits["item_size"])),
        ("connections", _of(limits["connections_used"], limits["connections"])),
        ("threads", str(limits["threads"] or "unknown")),
    ]
    ahead = found["clock_ahead_seconds"]
    if ahead is not None and abs(ahead) > _CLOCKS_MAY_DIFFER:
        lines.append(("clock", f"{abs(ahead)} s {'ahead of' if ahead > 0 else 'behind'} this machine's"))
    return lines


def _of(used: int | None, limit: int | None) -> str:
    if used is None or limit is None:
        return "unknown"
    return f"{used} of {limit}{': nearly all are in use' if used > limit * _NEARLY else ''}"


def _size(number: float | None) -> str:
    if number is None:
        return "unknown"
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "bytes" or number == int(number) else f"{number:.1f} {unit}"
