"""Servers, and how to get at them: as a Cache of all, a Cache of one, or a bare connection."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from mcext.cache import Cache
from mcext.cli.wrong import Wrong

if TYPE_CHECKING:
    import ssl
    from typing import Literal

    from mcext.cli.wire import Connection
    from mcext.placement import Placement

__all__ = ["Access", "Bytes", "Fleet", "Stored"]


@dataclass(frozen=True)
class Access:
    """How each server of a fleet is spoken to. timeout: seconds."""

    timeout: float
    tls_context: ssl.SSLContext | None = None
    tls_server_hostname: str | None = None
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)


class Stored(NamedTuple):
    """A value as it is stored."""

    data: bytes
    flags: int


class Bytes:
    """The codec of the command line: bytes and flags as they are. Nothing is decoded, nothing is unpickled."""

    max_length = 2**31 - 3

    def encode(self, value: Stored) -> tuple[bytes, int]:
        return value

    def decode(self, data: bytes, flags: int) -> Stored:
        return Stored(data, flags)


class Fleet:
    """Servers as they were given, each with its weight, and how to speak to them.

    places: whether it is of account which server a key goes to; where it is not, nothing warns about that.
    """

    def __init__(
        self,
        servers: list[tuple[str, int]],
        access: Access,
        placement: Placement | None = None,
        on_dead: Literal["walk", "miss", "next"] | None = None,
        places: bool = False,
    ) -> None:
        self.servers, self.access = servers, access
        self._placement, self._on_dead, self._places = placement, on_dead, places

    def cache(self, **options: Any) -> Cache[Stored]:
        """Of all servers. Raises Wrong where they are none. To be called by the main thread."""
        with warnings.catch_warnings():
            if not self._places:
                warnings.filterwarnings("ignore", "servers are found by asking", RuntimeWarning)
            return self._make(self.servers, self._placement, self._on_dead, **options)

    def one(self, address: str, **options: Any) -> Cache[Stored]:
        """Of one server."""
        return self._make([(address, 1)], None, None, **options)

    def connect(self, address: str) -> Connection:
        """A bare connection to one server, which is let in. Raises MemcacheError."""
        from mcext.cli.wire import Connection

        return Connection(address, self.access)

    def addresses(self) -> list[str]:
        """Of all servers; those that are found by asking are asked for now. Raises ServerUnavailable where nobody
        answers."""
        with self.cache() as cache:
            cache.refresh_servers()
            return [server.address for server in cache.servers]

    def _make(self, servers: list[tuple[str, int]], placement: Any, on_dead: Any, **options: Any) -> Cache[Stored]:
        access = self.access
        try:
            return Cache(
                servers,
                codec=Bytes(),
                placement=placement,
                on_dead=on_dead,
                tls_context=access.tls_context,
                tls_server_hostname=access.tls_server_hostname,
                username=access.username,
                password=access.password,
                **{"timeout": access.timeout, **options},
            )
        except ValueError as error:
            raise Wrong(str(error)) from None
