"""`mcext.Server`: a server with what a fleet's other clients call it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Server"]


class Server(NamedTuple):
    """A server, as Client and Cache take it in their list of servers, beside "host:port" and (address, weight).

    address: "host:port", "[ipv6]:port" or "unix:/path".
    weight: how many times the keys of a server of weight 1 it gets, where the placement knows weights.
    name: what stands for it in placements that go by the names of servers (mcext.placement); None: its address.
    """

    address: str
    weight: int = 1
    name: str | None = None
