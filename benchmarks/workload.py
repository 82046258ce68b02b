"""The calls that are measured, and the plan of the raw loop for each of them.

Imported by the parent and by the workers: standard library only, no client.
"""

from __future__ import annotations

import itertools
import pickle
from dataclasses import dataclass
from typing import Any

from placement import connect, key_names, server_order
from values import COUNTER, some_bytes

SMALL_DICT = {"id": 1234, "name": "a small dict", "tags": ["a", "b", "c"], "ratio": 0.5}
TEXT = "a short text"
NUMBER = 1_234_567


@dataclass(frozen=True)
class Call:
    """One row of the table."""

    name: str
    title: str
    method: str
    value: Any
    reach: float  # the ratio to the raw loop that this project wants to reach
    keys: int = 1  # keys in one call
    protocol: int = 0  # of pickles, for clients that can be told

    @property
    def large(self) -> bool:
        return isinstance(self.value, bytes) and len(self.value) > 10_000

    def is_shared(self, server_count: int) -> bool:
        """Whether all clients use the same items: where all store a value alike and one server leaves them no choice.
        What the server takes to send 100 kB depends by half on where the item lies in its memory."""
        return isinstance(self.value, bytes) and server_count == 1

    def key_count(self, server_count: int) -> int:
        """How many keys the calls of this row go through, so that they meet all servers."""
        if self.keys > 1:
            return self.keys
        if server_count == 1:
            return 1
        return 16 if self.large else 64


CALLS = [
    Call("get", "get, 100 bytes", "get", some_bytes(100), 1.10),
    Call("set", "set, 100 bytes", "set", some_bytes(100), 1.10),
    Call("get_str", "get, short str", "get", TEXT, 1.12),
    Call("get_int", "get, int", "get", NUMBER, 1.12),
    Call("get_dict", "get, small pickled dict", "get", SMALL_DICT, 1.25),
    Call("get_dict_5", "get, the same, protocol 5", "get", SMALL_DICT, 1.20, protocol=5),
    Call("incr", "incr", "incr", COUNTER, 1.10),
    Call("get_item", "get_item, 100 bytes", "get_item", some_bytes(100), 1.30),
    Call("get_or_set", "get_or_set, 100 bytes", "get_or_set", some_bytes(100), 1.25),
    Call("get_100k", "get, 100 kB", "get", some_bytes(100_000), 1.20),
    Call("get_1m", "get, 1 MB", "get", some_bytes(1_000_000), 1.50),
    Call("set_1m", "set, 1 MB", "set", some_bytes(1_000_000), 1.05),
    Call("get_multi_10", "get_multi, 10 keys of 100 bytes", "get_multi", some_bytes(100), 1.25, 10),
    Call("get_multi_100", "get_multi, 100 keys", "get_multi", some_bytes(100), 1.40, 100),
    Call("get_multi_1000", "get_multi, 1000 keys", "get_multi", some_bytes(100), 1.40, 1000),
    Call("set_multi_100", "set_multi, 100 keys", "set_multi", some_bytes(100), 1.20, 100),
]
BY_NAME = {call.name: call for call in CALLS}


# What only some clients have, and what they call it.
NAMES = {
    "get": ("get",),
    "set": ("set",),
    "incr": ("incr",),
    "get_multi": ("get_multi", "get_many"),
    "set_multi": ("set_multi", "set_many"),
    "get_item": ("get_item",),
    "get_or_set": ("get_or_set",),
}


def find_methods(client: Any) -> dict[str, Any]:
    """The client's methods, under the names that a Call has for them."""
    found = {}
    for method, names in NAMES.items():
        for name in names:
            if hasattr(client, name):
                found.setdefault(method, getattr(client, name))
    return found


def never_called() -> Any:
    raise RuntimeError("the value was to be found")


class Bound:
    """One call of one client, ready to be repeated: its methods are looked up once, and each run is a plain loop."""

    def __init__(self, client: Any, call: Call, keys: list[str], store: bool = True) -> None:
        self.call = call
        self.client = client
        self.keys = keys
        self.methods = find_methods(client)
        if call.method not in self.methods:
            raise RuntimeError(f"it has no {call.method}")
        self.mapping = {key: call.value for key in self.keys}
        for key in self.keys if store else []:
            if not self.methods["set"](key, call.value):
                raise RuntimeError(f"set of {key} failed")

    def check(self) -> None:
        """Does the call once and compares the result: a failed call would be a fast one."""
        expected: Any
        key, value = self.keys[0], self.call.value
        if self.call.method == "get":
            expected, got = value, self.methods["get"](key)
        elif self.call.method == "set":
            expected, got = True, bool(self.methods["set"](key, value))
        elif self.call.method == "incr":
            self.methods["set"](key, value)
            expected, got = value + 1, self.methods["incr"](key, 1)
        elif self.call.method == "get_multi":
            expected, got = self.mapping, self.methods["get_multi"](self.keys)
        elif self.call.method == "get_item":
            expected, got = value, self.methods["get_item"](key).value
        elif self.call.method == "get_or_set":
            expected, got = value, self.methods["get_or_set"](key, never_called)
        else:
            self.methods["set_multi"](self.mapping)
            expected, got = self.mapping, self.methods["get_multi"](self.keys)
        if got != expected:
            raise RuntimeError(f"{self.call.name}: the client returned {got!r:.200} instead of {expected!r:.200}")

    def run(self, count: int) -> None:
        """The call count times, through a method that was bound before."""
        method = self.methods[self.call.method]
        if len(self.keys) == 1:
            self.run_one(method, count)
        elif self.call.method in ("get", "get_item"):
            for key in itertools.islice(itertools.cycle(self.keys), count):
                method(key)
        elif self.call.method == "get_or_set":
            for key in itertools.islice(itertools.cycle(self.keys), count):
                method(key, never_called)
        elif self.call.method == "set":
            value = self.call.value
            for key in itertools.islice(itertools.cycle(self.keys), count):
                method(key, value)
        elif self.call.method == "incr":
            for key in itertools.islice(itertools.cycle(self.keys), count):
                method(key, 1)
        else:
            argument = self.keys if self.call.method == "get_multi" else self.mapping
            for _ in itertools.repeat(None, count):
                method(argument)

    def run_one(self, method: Any, count: int) -> None:
        """The same for one key, with the cheapest loop there is."""
        (key,) = self.keys
        value = self.call.value
        if self.call.method in ("get", "get_item"):
            for _ in itertools.repeat(None, count):
                method(key)
        elif self.call.method == "set":
            for _ in itertools.repeat(None, count):
                method(key, value)
        elif self.call.method == "get_or_set":
            for _ in itertools.repeat(None, count):
                method(key, never_called)
        else:
            for _ in itertools.repeat(None, count):
                method(key, 1)

    def run_attribute(self, count: int) -> None:
        """As run with one server, the method looked up on the client each time, as applications write it."""
        client, key, value = self.client, self.keys[0], self.call.value
        if self.call.method == "get":
            for _ in itertools.repeat(None, count):
                client.get(key)
        elif self.call.method == "set":
            for _ in itertools.repeat(None, count):
                client.set(key, value)
        elif self.call.method == "incr":
            for _ in itertools.repeat(None, count):
                client.incr(key, 1)
        elif self.call.method == "get_item":
            for _ in itertools.repeat(None, count):
                client.get_item(key)
        elif self.call.method == "get_or_set":
            for _ in itertools.repeat(None, count):
                client.get_or_set(key, never_called)
        elif self.call.method == "get_multi":
            self.run_many_attribute("get_multi", self.keys, count)
        else:
            self.run_many_attribute("set_multi", self.mapping, count)

    def run_many_attribute(self, method: str, argument: Any, count: int) -> None:
        client = self.client
        name = self.methods[method].__name__
        if name == "get_multi":
            for _ in itertools.repeat(None, count):
                client.get_multi(argument)
        elif name == "get_many":
            for _ in itertools.repeat(None, count):
                client.get_many(argument)
        elif name == "set_multi":
            for _ in itertools.repeat(None, count):
                client.set_multi(argument)
        else:
            for _ in itertools.repeat(None, count):
                client.set_many(argument)


# --- the raw loop ---------------------------------------------------------------------------------


def stored_form(call: Call) -> tuple[bytes, int]:
    """The bytes and the flags under which python-memcached stores the value of a call."""
    value = call.value
    if type(value) is bytes:
        return value, 0
    if type(value) is str:
        return value.encode(), 16
    if type(value) is int:
        return b"%d" % value, 2
    return pickle.dumps(value, call.protocol), 1


def set_request(key: str, call: Call) -> bytes:
    data, flags = stored_form(call)
    return b"set %s %d 0 %d\r\n%s\r\n" % (key.encode(), flags, len(data), data)


def value_reply_size(key: str, call: Call) -> int:
    data, flags = stored_form(call)
    return len(b"VALUE %s %d %d\r\n" % (key.encode(), flags, len(data))) + len(data) + 2


def raw_calls(call: Call, prefix: str, server_count: int) -> list[list[tuple[int, bytes, int]]]:
    """What the raw loop does: a list of calls, each a list of (server, request, size of the reply)."""
    keys = key_names(prefix, call.key_count(server_count))
    homes = dict(zip(keys, server_order(len(keys), server_count), strict=True))
    stored = len(b"STORED\r\n")
    if call.method in ("get", "get_item", "get_or_set"):  # the latter beside what a get takes at least
        return [[(homes[key], f"get {key}\r\n".encode(), value_reply_size(key, call) + 5)] for key in keys]
    if call.method == "set":
        return [[(homes[key], set_request(key, call), stored)] for key in keys]
    if call.method == "incr":
        size = len(str(COUNTER)) + 2
        return [[(homes[key], f"incr {key} 1\r\n".encode(), size)] for key in keys]
    parts = []
    for server in range(server_count):
        own = [key for key in keys if homes[key] == server]
        if not own:
            continue
        if call.method == "get_multi":
            request = f"get {' '.join(own)}\r\n".encode()
            parts.append((server, request, sum(value_reply_size(key, call) for key in own) + 5))
        else:
            parts.append((server, b"".join(set_request(key, call) for key in own), stored * len(own)))
    return [parts]


def raw_plan(call: Call, prefix: str, servers: list[str]) -> bytes:
    """Stores what the raw loop reads and returns its plan (see raw.c)."""
    keys = key_names(prefix, call.key_count(len(servers)))
    for key, home in zip(keys, server_order(len(keys), len(servers)), strict=True):
        with connect(servers[home]) as sock:
            sock.sendall(set_request(key, call))
            if sock.recv(64) != b"STORED\r\n":
                raise RuntimeError(f"the server did not store {key}")
    lines = [b"connections %d\n" % len(servers)]
    for server in servers:
        if server.startswith("unix:"):
            lines.append(f"unix {server.removeprefix('unix:')}\n".encode())
        else:
            lines.append(f"tcp {server.replace(':', ' ')}\n".encode())
    calls = raw_calls(call, prefix, len(servers))
    lines.append(b"calls %d\n" % len(calls))
    for parts in calls:
        lines.append(b"call %d\n" % len(parts))
        for place, request, reply_size in parts:
            lines.append(b"part %d %d %d\n" % (place, len(request), reply_size) + request + b"\n")
    return b"".join(lines)
