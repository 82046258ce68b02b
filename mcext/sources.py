"""What can be asked which servers there are: the configuration endpoint of a cluster, a name of the DNS.

    ElastiCache("cache.example", 11211).look(Settings(3.0)).addresses

mcext.discovery asks again and again. docs/fleets.md says what "elasticache://host:port" and "dns+host:port" mean.
"""

from __future__ import annotations

import re
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from mcext import _core

if TYPE_CHECKING:
    import ssl
    from typing import ClassVar

__all__ = ["Dns", "ElastiCache", "Found", "Settings", "Source", "parse_configuration", "take_apart"]

DEFAULT_SECONDS = 3.0
"""For a look of a client whose connects may take for ever."""

_NODES_AT_MOST = 1000
_BYTES_AT_MOST = 1 << 19  # which so many nodes do not need
_LINE_AT_MOST = 256


class Settings(NamedTuple):
    """What a client's options mean for a look. connect_timeout: seconds for all of it; None: no limit was given."""

    connect_timeout: float | None
    tls_context: ssl.SSLContext | None = None
    tls_server_hostname: str | None = None

    @property
    def seconds(self) -> float:
        return DEFAULT_SECONDS if self.connect_timeout is None else self.connect_timeout


class Found(NamedTuple):
    """What a look brought. version: None where the addresses alone tell whether it is news."""

    version: int | None
    addresses: list[str]

    def is_news(self, known: Found | None) -> bool:
        if known is None:
            return True
        if self.version is None or known.version is None:
            return self.addresses != known.addresses
        return self.version > known.version


class Dns:
    """dns+host:port: each address of the name is a server."""

    prefix: ClassVar[str] = "dns+"
    interval: ClassVar[float] = 30.0

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def __str__(self) -> str:
        return self.prefix + _join(self.host, self.port)

    def look(self, settings: Settings) -> Found:
        """Raises OSError where the name is not found."""
        found = {row[4][0] for row in socket.getaddrinfo(self.host, self.port, 0, socket.SOCK_STREAM)}
        if not 1 <= len(found) <= _NODES_AT_MOST:
            raise ValueError(f"the name has {len(found)} addresses")
        return Found(None, sorted(_join(str(ip), self.port) for ip in found))


class ElastiCache:
    """elasticache://host:port: the configuration endpoint of a cluster, or any of its nodes."""

    prefix: ClassVar[str] = "elasticache://"
    interval: ClassVar[float] = 60.0

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def __str__(self) -> str:
        return self.prefix + _join(self.host, self.port)

    def look(self, settings: Settings) -> Found:
        """Raises OSError or ValueError: it cannot be reached in time, or says what is no configuration."""
        with _Stream(self.host, self.port, settings) as stream:
            stream.send(b"config get cluster\r\n")
            line = stream.line()
            if line == b"ERROR":  # an engine before 1.4.14
                stream.send(b"get AmazonElastiCache:cluster\r\n")
                line = stream.line()
                header = re.fullmatch(rb"VALUE AmazonElastiCache:cluster \d{1,10} (\d{1,7})", line)
            else:
                header = re.fullmatch(rb"CONFIG cluster \d{1,10} (\d{1,7})", line)
            if header is None or int(header[1]) > _BYTES_AT_MOST:
                raise ValueError(f"what it said is no configuration of a cluster: {line[:80]!r}")
            body = stream.receive(int(header[1]))
            if stream.receive(7) != b"\r\nEND\r\n":
                raise ValueError("the configuration is not as long as it says")
            return parse_configuration(body)


def parse_configuration(body: bytes) -> Found:
    """The version, and the nodes' addresses, of a cluster's configuration: b"12\\nhost|ip|port host|ip|port\\n".

    A node's name is its host, or its ip where that is empty. Raises ValueError for anything else.
    """
    whole = re.fullmatch(r"(\d{1,19})\r?\n([!-~]+(?: [!-~]+)*) ?\r?\n?", body.decode("ascii"), re.ASCII)
    nodes = whole[2].split(" ") if whole is not None else []
    if whole is None or len(nodes) > _NODES_AT_MOST:
        raise ValueError(f"no configuration of a cluster: {body[:80]!r}")
    return Found(int(whole[1]), [_node(node) for node in nodes])


def _node(text: str) -> str:
    fields = re.fullmatch(r"([\w.:-]{0,255})\|([\da-fA-F.:]{0,45})\|(\d{1,5})", text, re.ASCII)
    name = fields and (fields[1] or fields[2])
    if not fields or not name or not 1 <= int(fields[3]) <= 65535:
        raise ValueError(f"no node of a cluster: {text[:80]!r}")
    address = _join(name, int(fields[3]))
    if _core._server_key(address) is None:
        raise ValueError(f"no node of a cluster: {text[:80]!r}")
    return address


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Stream:
    """A connection to an endpoint, with one deadline from the connect to the last byte."""

    def __init__(self, host: str, port: int, settings: Settings) -> None:
        self._until = monotonic() + settings.seconds
        self._buffer = b""
        self._socket = self._connect(host, port)
        if settings.tls_context is not None:
            plain = self._socket
            try:
                self._socket = settings.tls_context.wrap_socket(
                    self._in_time(), server_hostname=settings.tls_server_hostname or host
                )
            except BaseException:
                plain.close()
                raise

    def _connect(self, host: str, port: int) -> socket.socket:
        rows = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        error = OSError("the name has no address")
        for number, (family, kind, protocol, _, address) in enumerate(rows):
            made = socket.socket(family, kind, protocol)
            try:
                left = self._until - monotonic()
                made.settimeout(max(left / (len(rows) - number), 0.001))  # one that is silent leaves time for the next
                made.connect(address)
                return made
            except OSError as failed:
                made.close()
                error = failed
            except BaseException:
                made.close()
                raise
        raise error

    def _in_time(self) -> socket.socket:
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)
        return self._socket

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *unused: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._in_time().sendall(data)

    def _more(self) -> None:
        data = self._in_time().recv(1 << 16)
        if not data:
            raise ConnectionError("it closed the connection")
        self._buffer += data

    def line(self) -> bytes:
        """The next line without its end."""
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > _LINE_AT_MOST:
                raise ValueError(f"a line that does not end: {self._buffer[:80]!r}")
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def receive(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


Source = Dns | ElastiCache


def take_apart(one: Any) -> tuple[Any, int]:
    """(what is given, or the Source that it names; its weight) of a server as users give one. Raises TypeError or
    ValueError for what is neither."""
    address, weight = one[:2] if isinstance(one, tuple) and len(one) > 1 else (one, 1)
    if not _core._is_source(one):
        _core._Server(one)
        return one, weight
    if isinstance(one, tuple) and len(one) != 2 and not hasattr(one, "address"):
        raise ValueError(f"a server must be an address or (address, weight), not {one!r}")
    kind = ElastiCache if address.startswith(ElastiCache.prefix) else Dns
    if getattr(one, "name", None) is not None:
        raise ValueError(f"{address!r} stands for several servers, and has no name of its own")
    try:
        host = _core._Server((address[len(kind.prefix) :], weight)).address
    except ValueError as error:
        raise ValueError(f"{address!r} must name a host and a port: {error}") from None
    if not isinstance(host, tuple):
        raise ValueError(f"{address!r} must name a host and a port, not a path")
    return kind(*host), weight
