"""The options that all verbs have, and the fleet of servers that they mean.

Servers are written "host:port", "[ipv6]:port", "unix:/path", "elasticache://host:port", "dns+host:port", each with
"=WEIGHT" behind it where it has one; several in one word have commas between them.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from mcext.cli.fleet import Access, Fleet
from mcext.cli.wrong import Wrong

if TYPE_CHECKING:
    import argparse
    import ssl
    from collections.abc import Iterable

__all__ = [
    "add_access",
    "add_common",
    "add_placement",
    "add_servers",
    "fleet",
    "fleet_of",
    "positive",
    "seconds",
    "servers_in",
    "whole",
]

_DEFAULT_SERVERS = "127.0.0.1:11211"
_TLS = ("tls_ca", "tls_cert", "tls_key", "tls_server_hostname")


# What to add to a parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """Those of every verb."""
    parser.add_argument("--json", action="store_true", help="print JSON: a document, or one a line")
    parser.add_argument(
        "--timeout", type=seconds, default=3.0, metavar="SECONDS", help="how long to wait for a server (3)"
    )
    add_access(parser)


def add_servers(parser: argparse.ArgumentParser, positional: bool = False) -> None:
    """positional: a verb that names no key takes its servers as arguments, too."""
    if positional:
        parser.add_argument("server", nargs="*", help="as in --servers")
    parser.add_argument(
        "--servers",
        "-s",
        metavar="LIST",
        help="host:port, unix:/path, elasticache://host:port, dns+host:port, with commas between them, each with"
        f" =WEIGHT if it has one; else $MCEXT_SERVERS, else {_DEFAULT_SERVERS}",
    )


def add_placement(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--placement",
        metavar="NAME[:OPTION=VALUE,...]",
        help="which server a key goes to, as mcext.placement names it: rendezvous, ketama, twemproxy,"
        " libmemcached:distribution=ketama,hash=md5 (python_memcached)",
    )
    parser.add_argument("--on-dead", choices=("walk", "miss", "next"), help="what becomes of a dead server's keys")


def add_access(parser: argparse.ArgumentParser, prefix: str = "", of: str = "") -> None:
    """TLS and authentication."""
    add = parser.add_argument
    add(f"--{prefix}tls", action="store_true", help=f"speak TLS{of}; implied by the next four")
    add(f"--{prefix}tls-ca", metavar="FILE", help="certificates of the authorities to trust (the system's)")
    add(f"--{prefix}tls-cert", metavar="FILE", help="a certificate to show")
    add(f"--{prefix}tls-key", metavar="FILE", help="its key, where the file of the certificate has none")
    add(f"--{prefix}tls-server-hostname", metavar="NAME", help="the name that the servers' certificates have")
    environment = f"MCEXT_{prefix.upper().replace('-', '_')}PASSWORD"
    add(
        f"--{prefix}username",
        metavar="NAME",
        help=f"the name to say{of}; the password is in ${environment} or a file, or is asked for",
    )
    add(f"--{prefix}password-file", metavar="FILE", help="a file whose first line is the password")


# Types of arguments


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    number = float(text)
    if not 0 < number <= 1e9:
        raise ValueError
    return number


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def whole(text: str) -> int:
    """0 or more."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


# What they mean


def fleet(arguments: Any) -> Fleet:
    """The fleet of a verb's --servers, or of its servers as arguments."""
    given = list(getattr(arguments, "server", []))
    if arguments.servers:
        given.append(arguments.servers)
    given = given or [os.environ.get("MCEXT_SERVERS", "") or _DEFAULT_SERVERS]
    return fleet_of(given, arguments, on_dead=getattr(arguments, "on_dead", None))


def fleet_of(words: Iterable[str], arguments: Any, prefix: str = "", on_dead: Any = None) -> Fleet:
    """A fleet with the access that the options with this prefix mean."""
    placement = None
    if getattr(arguments, "placement", None):
        from mcext.cli.placements import placement_of

        placement = placement_of(arguments.placement)
    places = hasattr(arguments, "placement")
    return Fleet(servers_in(words), _access(arguments, prefix), placement, on_dead, places)


def servers_in(words: Iterable[str]) -> list[tuple[str, int]]:
    """(address, weight) of each server."""
    found = []
    for one in (one.strip() for word in words for one in word.split(",")):
        if not one:
            continue
        weighted = re.fullmatch(r"(.+)=(\d{1,9})", one)
        found.append((weighted[1], int(weighted[2])) if weighted else (one, 1))
    if not found:
        raise Wrong("there is no server in the list of servers")
    return found


def _access(arguments: Any, prefix: str) -> Access:
    given = {name: getattr(arguments, prefix.replace("-", "_") + name) for name in ("tls", "username", *_TLS)}
    context = _context(prefix, given) if given["tls"] or any(given[name] for name in _TLS) else None
    file = getattr(arguments, f"{prefix.replace('-', '_')}password_file")
    username = given["username"]
    if username is None and file is not None:
        raise Wrong(f"--{prefix}password-file is of no use without --{prefix}username")
    password = None if username is None else _password(prefix, username, file)
    return Access(arguments.timeout, context, given["tls_server_hostname"], username, password)


def _context(prefix: str, given: dict[str, Any]) -> ssl.SSLContext:
    import ssl

    try:
        context = ssl.create_default_context(cafile=given["tls_ca"])
    except OSError as error:
        raise Wrong(f"--{prefix}tls-ca {given['tls_ca']}: {_reason(error)}") from None
    if given["tls_key"] and not given["tls_cert"]:
        raise Wrong(f"--{prefix}tls-key is of no use without --{prefix}tls-cert")
    if given["tls_cert"]:
        try:
            context.load_cert_chain(given["tls_cert"], given["tls_key"])
        except OSError as error:
            raise Wrong(f"--{prefix}tls-cert {given['tls_cert']}: {_reason(error)}") from None
    return context


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _password(prefix: str, username: str, file: str | None) -> bytes:
    """From the file, the environment, or whoever sits at the terminal; never from an argument, which all can see."""
    if file is not None:
        try:
            with open(file, "rb") as text:
                return text.readline().rstrip(b"\r\n")
        except OSError as error:
            raise Wrong(f"--{prefix}password-file {file}: {_reason(error)}") from None
    environment = f"MCEXT_{prefix.upper().replace('-', '_')}PASSWORD"
    if environment in os.environ:
        return os.fsencode(os.environ[environment])
    import getpass

    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise Wrong(f"no password: set ${environment} or give --{prefix}password-file") from None
    from mcext.cli.output import escape

    try:
        return os.fsencode(getpass.getpass(f"{prefix.replace('-', ' ')}password of {escape(username)}: "))
    except EOFError:
        raise Wrong("no password was given") from None
