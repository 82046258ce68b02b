"""`stats` counts each thread's calls, in the dict that the caller holds, whichever way a call takes."""

import socket
import threading
from types import SimpleNamespace

import oracle
import pytest

import memcache
from mcext.testing import memcached

BIG = b"x" * 100_000
CALLS = {
    "get": lambda mc: mc.get("here"),
    "get of a miss": lambda mc: mc.get("absent"),
    "get of a large value": lambda mc: mc.get("big"),
    "get of a pickle": lambda mc: mc.get("pickle"),
    "get by a tuple": lambda mc: mc.get((5, "here")),
    "get by a text of two alphabets": lambda mc: mc.get("schlüssel"),
    "gets": lambda mc: mc.gets("here"),
    "get_multi": lambda mc: mc.get_multi(["here", "absent", "number"]),
    "get_multi of nothing": lambda mc: mc.get_multi([]),
    "set": lambda mc: mc.set("key", b"v"),
    "set of text for a time": lambda mc: mc.set("key", "v", 60),
    "set of a large value": lambda mc: mc.set("key", BIG),
    "set of a pickle": lambda mc: mc.set("key", [1]),
    "set of what is too large": lambda mc: mc.set("key", bytes(2 << 20)),
    "set, compressed": lambda mc: mc.set("key", BIG, min_compress_len=10),
    "set, noreply": lambda mc: mc.set("key", b"v", noreply=True),
    "add": lambda mc: mc.add("here", b"v"),
    "replace": lambda mc: mc.replace("absent", b"v"),
    "append": lambda mc: mc.append("absent", b"v"),
    "prepend": lambda mc: mc.prepend("absent", b"v"),
    "cas without a token": lambda mc: mc.cas("key", b"v"),
    "set_multi": lambda mc: mc.set_multi({"a": 1, "b": b"v"}),
    "delete": lambda mc: mc.delete("absent"),
    "delete_multi": lambda mc: mc.delete_multi(["a", "b"]),
    "touch": lambda mc: mc.touch("here", 100),
    "incr": lambda mc: mc.incr("number"),
    "incr of a miss": lambda mc: mc.incr("absent"),
    "decr": lambda mc: mc.decr("number", 2),
    "incr, noreply": lambda mc: mc.incr("number", noreply=True),
    "get_stats": lambda mc: mc.get_stats(),
    "get_slab_stats": lambda mc: mc.get_slab_stats(),
    "flush_all": lambda mc: mc.flush_all(),
    "disconnect_all": lambda mc: mc.disconnect_all(),
}


class Chooser(memcache.Client):
    def _get_server(self, key):
        return super()._get_server(key)


class Counter(memcache.Client):
    def _statlog(self, func):
        super()._statlog(func)


class Nothing(memcache.Client):
    """No method is replaced: the class alone is another."""


@pytest.fixture(scope="module")
def server():
    with memcached("-t", "1") as server:  # what was sent first is done first, on all connections
        yield server


@pytest.fixture(params=["plain", "python sockets", "a subclass", "a replaced _get_server", "a replaced _statlog"])
def make(request, server, monkeypatch):
    """Makes clients of whichever way: make(kind of its own, if any)."""
    if request.param == "python sockets":
        monkeypatch.setattr(memcache, "socket", SimpleNamespace(socket=type("Other", (socket.socket,), {})))
    kinds = {"a subclass": Nothing, "a replaced _get_server": Chooser, "a replaced _statlog": Counter}
    return lambda: kinds.get(request.param, memcache.Client)([server.address], socket_timeout=20)


def prepare(client):
    client.flush_all()
    assert client.set_multi({"here": b"v", "number": 5, "big": BIG, "pickle": [1], "schlüssel": b"v"}) == []


@pytest.fixture(scope="module")
def expected(server):
    """What python-memcached counts for each call."""
    client = oracle.load().Client([server.address], socket_timeout=20)
    counted = {}
    for name, call in CALLS.items():
        prepare(client)
        client.stats = {}
        call(client)
        counted[name] = dict(client.stats)
    client.disconnect_all()
    return counted


def test_the_dict_that_the_caller_holds_counts_on(make, expected):
    """It is looked at alone, and never asked for again."""
    client = make()
    held = client.stats
    for name, call in CALLS.items():
        prepare(client)
        for turn in range(1, 4):
            held.clear()
            call(client)
            assert held == expected[name], (name, turn)
    assert client.stats is held


def test_calls_are_counted_while_nobody_looks(make, expected):
    client = make()
    for name, call in CALLS.items():
        prepare(client)
        client.stats = {}
        for _ in range(3):
            call(client)
        assert client.stats == {word: 3 * count for word, count in expected[name].items()}, name


def test_a_small_value_above_the_limit_is_counted(make):
    """Nothing is sent, and the server was found."""
    client = make()
    prepare(client)
    client.stats = {}
    client.server_max_value_length = 100
    for turn in range(1, 4):
        assert client.set("key", b"v" * 101) == 0
        assert client.stats == {"set": turn}


def test_a_dict_that_was_counted_into_unseen_and_is_then_held_counts_on(make):
    client = make()
    prepare(client)
    for turn in range(1, 4):
        client.get("here")
        client.incr("number")
        held = client.stats
        assert (held["get"], held["incr"]) == (turn * 3 - 2, turn * 3 - 2)
        for more in (1, 2):
            client.get("here")
            client.incr("number")
            assert (held["get"], held["incr"]) == (turn * 3 - 2 + more, turn * 3 - 2 + more)
        del held  # nobody looks until the next turn


def test_a_dict_that_was_assigned_counts_on(make):
    client = make()
    prepare(client)
    client.get("here")
    mine = {"get": 40, "mine": "left alone"}
    client.stats = mine
    for more in range(1, 4):
        client.get("here")
        assert mine == {"get": 40 + more, "mine": "left alone"}
    assert client.stats is mine


def test_each_thread_holds_the_counts_of_its_own_calls(make):
    client = make()
    prepare(client)
    held = client.stats
    held.clear()
    found = {}

    def other(number):
        mine = client.stats
        for _ in range(number):
            client.get("here")
        found[number] = dict(mine)

    threads = [threading.Thread(target=other, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
        client.set("key", b"v")
    for thread in threads:
        thread.join()
    assert found == {1: {"get": 1}, 2: {"get": 2}, 3: {"get": 3}}
    assert held == {"set": 3}
