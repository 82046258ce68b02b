"""Which keys a client is measured with over several servers.

Each client has a placement of its own, and ten keys by chance meet eight servers with one and six with another: more
servers, more work. So all go round the servers in one and the same order, the raw loop too, and each client gets keys
that its own placement sends there. Where a key went is asked of the servers.
"""

from __future__ import annotations

import random
import socket
from typing import Any

KEYS_IN_A_LINE = 50  # short enough for any server's limit


def connect(server: str) -> socket.socket:
    if server.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(server.removeprefix("unix:"))
        return sock
    host, port = server.rsplit(":", 1)
    return socket.create_connection((host, int(port)))


def key_names(prefix: str, count: int, first: int = 0) -> list[str]:
    return [f"bench:{prefix.replace(' ', '-')}:{number:06d}" for number in range(first, first + count)]


def server_order(count: int, server_count: int) -> list[int]:
    """The server that each of so many keys is to meet: all as often, but for one key, and in no regular order, which
    would cost more switches between processes."""
    order = [number % server_count for number in range(count)]
    random.Random(count).shuffle(order)
    return order


def present(server: str, keys: list[str]) -> set[str]:
    """Those of the keys that this server has."""
    found = set()
    with connect(server) as sock, sock.makefile("rb") as replies:
        for begin in range(0, len(keys), KEYS_IN_A_LINE):
            sock.sendall(f"get {' '.join(keys[begin : begin + KEYS_IN_A_LINE])}\r\n".encode())
            while (line := replies.readline()) != b"END\r\n":
                words = line.split()
                if len(words) != 4 or words[0] != b"VALUE":
                    raise RuntimeError(f"{server} answered {line!r}")
                found.add(words[1].decode())
                replies.read(int(words[3]) + 2)
    return found


class Placement:
    """The keys of one client, by the server that it chooses for them."""

    def __init__(self, client: Any, servers: list[str], prefix: str) -> None:
        self.set = client.set
        self.servers = servers
        self.prefix = prefix
        self.tried = 0
        self.keys: list[list[str]] = [[] for _ in servers]

    def try_more(self, count: int) -> None:
        names = key_names(self.prefix, count, self.tried)
        self.tried += count
        for name in names:
            if not self.set(name, b"here"):
                raise RuntimeError(f"set of {name} failed")
        homes = [present(server, names) for server in self.servers]
        for name in names:
            where = [number for number, home in enumerate(homes) if name in home]
            if len(where) != 1:
                raise RuntimeError(f"{name} is on {len(where)} servers")
            self.keys[where[0]].append(name)

    def choose(self, count: int) -> list[str]:
        """So many keys that go round the servers in the order that all clients have."""
        order = server_order(count, len(self.servers))
        while any(len(keys) < order.count(number) for number, keys in enumerate(self.keys)):
            if self.tried > 100 * count + 1000:
                raise RuntimeError(f"{self.tried} keys, and some servers have none or few of them")
            self.try_more(count)
        left = [iter(keys) for keys in self.keys]
        return [next(left[number]) for number in order]
