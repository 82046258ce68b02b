"""References to what a caller hands in are level after many calls: one too many is no memory that anybody could see.

So are the blocks of Python's own allocator, for what a call makes of it.
"""

import gc
import socket
import sys
from types import SimpleNamespace

import pytest
from scripted_server import PATIENCE

import mcext
import memcache
from mcext.testing import memcached

AT_ONCE = 20 * PATIENCE
CALLS = 20  # in a round

pytestmark = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="without the GIL a count is spread over threads"
)


@pytest.fixture(scope="module", autouse=True)
def quick_collector():
    """What is there already is not looked at again and again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def server():
    with memcached() as server:
        yield server


def check_level(call, watched):
    """References to each of the watched are as many after each round of calls.

    A block lost in each call is lost in each round; what the interpreter keeps for itself comes in some of them.
    """

    def count():
        for _ in range(CALLS):
            call()
        gc.collect()
        return [sys.getrefcount(each) for each in watched], sys.getallocatedblocks()

    before, blocks = count()
    for _ in range(20):
        after, more = count()
        assert [*zip(watched, before)] == [*zip(watched, after)]
        if more - blocks < CALLS // 2:
            return
        blocks = more
    pytest.fail("each call leaves something behind")


# The class of the sockets


class Other(socket.socket):
    """Not Python's own class: connections are made with it."""


class Refusing(socket.socket):
    def connect(self, address):
        raise ConnectionRefusedError


class Failing(socket.socket):
    def __init__(self, *arguments, **options):
        raise OSError("no more sockets")


class Raising(socket.socket):
    def sendall(self, *arguments):
        raise KeyboardInterrupt

    send = sendmsg = sendall


@pytest.mark.parametrize("kind", [Other, Refusing, Failing, Raising])
@pytest.mark.parametrize("where", ["socket.socket", "memcache.socket"])
def test_the_class_of_the_sockets(server, kind, where, monkeypatch):
    """On connections that are there, that are new, that fail."""
    if where == "socket.socket":
        monkeypatch.setattr(socket, "socket", kind)
    else:
        monkeypatch.setattr(memcache, "socket", SimpleNamespace(socket=kind))
    client = mcext.Client([server.address], socket_timeout=AT_ONCE, dead_retry=0)

    def reconnected():
        client.disconnect_all()
        client.get("key1")

    def lines_of_a_host():
        host = client.servers[0]
        if host.connect():
            host.send_cmd("version")
            host.readline()
            host.close_socket()

    def come_and_gone():
        other = mcext.Client([server.address], socket_timeout=AT_ONCE)
        other.get("key1")
        other.get_multi(["key1", "key2"])

    def moved():
        client.set_servers([(server.address, 2), "127.0.0.1:1"])
        client.get("key1")
        client.set_servers([server.address])
        client.get("key1")

    def quietly(call):
        try:
            call()
        except (KeyboardInterrupt, OSError, memcache._Error):
            client.disconnect_all()

    for call in (
        *(reconnected, lines_of_a_host, come_and_gone, moved, client.get_stats, client.flush_all, client.quit_all),
        lambda: client.get("key1"),
        lambda: client.get_multi(["key1", "key2"]),
        lambda: client.set("key1", b"v"),
        lambda: client.set_multi({"key1": b"v", "key2": b"v"}),
        lambda: client.set("key1", b"v", noreply=True),
        lambda: client.incr("number"),
        lambda: client.servers[0].socket,
    ):
        check_level(lambda call=call: quietly(call), [kind])


# Keys


# Made anew, so that no constant of this file is counted.
TEXT, ENCODED = "".join(["ke", "y1"]), b"".join([b"ke", b"y2"])
FOREIGN, NUMBER = "".join(["schl", "üssel"]), 10**20 + 1
PAIRS = {
    "text": (TEXT, [TEXT]),
    "bytes": (ENCODED, [ENCODED]),
    "text of two alphabets": (FOREIGN, [FOREIGN]),
    "(hash, text)": ((NUMBER, TEXT), [NUMBER, TEXT]),
    "(hash, bytes)": ((NUMBER, ENCODED), [NUMBER, ENCODED]),
    "(hash, text of two alphabets)": ((NUMBER, FOREIGN), [NUMBER, FOREIGN]),
}
SINGLE = {
    "get": lambda client, key: client.get(key),
    "gets": lambda client, key: client.gets(key),
    "set": lambda client, key: client.set(key, b"v"),
    "set, noreply": lambda client, key: client.set(key, b"v", noreply=True),
    "set of a number": lambda client, key: client.set(key, 5),
    "add": lambda client, key: client.add(key, b"v"),
    "append": lambda client, key: client.append(key, b""),
    "cas": lambda client, key: client.cas(key, b"v"),
    "gets and cas": lambda client, key: (client.gets(key), client.cas(key, b"v"), client.reset_cas()),
    "incr": lambda client, key: (client.set(key, 5), client.incr(key)),
    "touch": lambda client, key: client.touch(key),
    "delete": lambda client, key: client.delete(key),
    "check_key": lambda client, key: client.check_key(key),
    "_get_server": lambda client, key: client._get_server(key),
}
MULTI = {
    "get_multi": lambda client, key: client.get_multi([key]),
    "get_multi of a tuple": lambda client, key: client.get_multi((key, "key3")),
    "get_multi of an iterator": lambda client, key: client.get_multi(iter([key])),
    "get_multi with a prefix": lambda client, key: client.get_multi([key], key_prefix="p"),
    "set_multi": lambda client, key: client.set_multi({key: b"v"}),
    "set_multi with a prefix": lambda client, key: client.set_multi({key: b"v"}, key_prefix="p"),
    "set_multi, noreply": lambda client, key: client.set_multi({key: b"v"}, noreply=True),
    "delete_multi": lambda client, key: client.delete_multi([key]),
}


def client_of(way, server):
    class Chooser(mcext.Client):
        def _get_server(self, key):
            return super()._get_server(key)

    class Mapper(mcext.Client):
        def _map_and_prefix_keys(self, keys, prefix):
            return super()._map_and_prefix_keys(keys, prefix)

    kinds = {"a replaced _get_server": Chooser, "a replaced _map_and_prefix_keys": Mapper}
    servers = [server.address, (server.address, 2)] if way == "two servers" else [server.address]
    if way == "no server":
        servers = []
    return kinds.get(way, mcext.Client)(servers, socket_timeout=AT_ONCE, cache_cas=True)


WAYS = ["one server", "two servers", "no server", "a replaced _get_server", "a replaced _map_and_prefix_keys"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", PAIRS)
def test_no_reference_to_a_key_is_kept(server, kind, way):
    key, watched = PAIRS[kind]
    client = client_of(way, server)
    watched = [key, *watched]
    for name, call in {**SINGLE, **MULTI}.items():
        if name != "check_key" or isinstance(key, bytes):
            check_level(lambda call=call: call(client, key), watched)
    client.disconnect_all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", ["a b", b"a b", (5, "a b"), (5, b"a b"), (10**20, "a b"), (10**20, b""), (5, None)])
def test_keys_that_are_refused(server, wrong, way):
    client = client_of(way, server)
    watched = [wrong, *wrong] if isinstance(wrong, tuple) else [wrong]
    watched = [each for each in watched if each is not None and each != 5]

    def refused(call):
        with pytest.raises((memcache.Client.MemcachedKeyError, TypeError)):
            call(client, wrong)

    for name, call in {**SINGLE, **MULTI}.items():
        if name not in ("check_key", "_get_server", "set_multi with a prefix", "get_multi with a prefix"):
            check_level(lambda call=call: refused(call), watched)
    client.disconnect_all()


@pytest.mark.parametrize("way", WAYS)
def test_what_a_key_encoder_returns(server, way):
    client = client_of(way, server)
    client.key_encoder = lambda key: ENCODED
    for call in {**SINGLE, **MULTI}.values():
        check_level(lambda call=call: call(client, b"any"), [ENCODED, client.key_encoder])
    client.disconnect_all()


# Names and passwords


WORD, ENCODED_WORD, NAME_OF_TWO = "".join(["wo", "rd"]), b"".join([b"wo", b"rd"]), "".join(["n", "äme"])
PASSWORDS = {
    "text": (WORD, [WORD]),
    "bytes": (ENCODED_WORD, [ENCODED_WORD]),
    "a function of text": (asks := lambda: WORD, [WORD, asks]),
    "a function of bytes": (asks := lambda: ENCODED_WORD, [ENCODED_WORD, asks]),
    "a function of what is none": (asks := lambda: NUMBER, [NUMBER, asks]),
    "a function that raises": (asks := lambda: 1 / 0, [asks]),
}


@pytest.mark.parametrize("way", ["one server", "no server", "a replaced _get_server", "a cache", "other sockets"])
@pytest.mark.parametrize("password", PASSWORDS)
def test_no_reference_to_a_password_is_kept(server, password, way, monkeypatch):
    word, watched = PASSWORDS[password]
    watched = [*watched, NAME_OF_TWO]
    if way == "other sockets":
        monkeypatch.setattr(memcache, "socket", SimpleNamespace(socket=Other, timeout=TimeoutError))

    def call():
        if way == "a cache":
            with mcext.Cache([server.address], username=NAME_OF_TWO, password=word, errors="miss") as cache:
                cache.get("key")
                repr(cache._secrets)
            return
        client = client_of(way, server)
        client.username = NAME_OF_TWO
        client.password = word
        client.get("key")
        repr(client.password)
        client.password = word
        client.disconnect_all()
        client.forget_dead_hosts()
        client.get("key")
        for wrong in (5, b"", NAME_OF_TWO * 100):
            with pytest.raises((TypeError, ValueError)):
                client.password = wrong
        client.username = None
        client.password = None
        client.disconnect_all()

    check_level(call, watched)
