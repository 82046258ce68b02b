"""The whole API as a typed program uses it. Only type checkers read this file; see test_typing.py.

A line with `type: ignore` is one that a checker has to refuse: both are told to complain of a needless one.
"""

import pickle
import ssl
import zlib
from datetime import timedelta
from typing import Any

import mcext
from mcext import Client, Server, placement
from mcext.testing import memcached

version: str = mcext.__version__


def servers_for_tests() -> None:
    with memcached("-m", "100", tls=True, auth=("name", "password")) as server:
        context: ssl.SSLContext | None = server.tls_context
        files: list[str] = [server.ca_file, server.certificate_file]
        words: tuple[str | None, str | None] = server.username, server.password
        print(context, files, words)


class Sessions(Client):
    """A subclass with a method of its own and an overridden one."""

    def session(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"session-{number}", {})
        return found

    def _get_server(self, key: bytes | tuple[int, bytes]) -> tuple[Any, bytes | None]:
        return super()._get_server(key)


def make() -> Client:
    Client(["127.0.0.1:11211"])
    Client([("127.0.0.1:11211", 2), "unix:/run/memcached.sock"], 1)
    Client("localhost:11211")
    Client("localhost:11211".split())
    Client(address for address in ("a", "b"))
    one = Client(["a"], username=b"name", password=lambda: "password")
    Client(["b"], username=one.username, password=one.password)
    one.password = None
    Client(["a"], username=5, password="password")  # type: ignore[arg-type]
    Client(11211)  # type: ignore[arg-type]
    Client(["a"], socket_timeuot=1)  # type: ignore[call-arg]
    return Client(
        ["127.0.0.1:11211"],
        debug=0,
        pickleProtocol=pickle.HIGHEST_PROTOCOL,
        pickler=pickle.Pickler,
        unpickler=pickle.Unpickler,
        compressor=zlib.compress,
        decompressor=zlib.decompress,
        pload=None,
        pid=None,
        server_max_key_length=250,
        server_max_value_length=1 << 20,
        dead_retry=30,
        socket_timeout=0.5,
        cache_cas=True,
        flush_on_reconnect=0,
        check_keys=True,
        key_encoder=str.upper,
        connect_timeout=0.25,
        max_value_length=1 << 20,
        allow_pickle=False,
        placement=placement.libmemcached("ketama", hash="md5"),
        on_dead="next",
        username="name",
        password=b"password",
    )


def placed(client: Client) -> placement.Placement:
    Client(["127.0.0.1:11211"], placement="ketama")  # type: ignore[arg-type]
    Client(["127.0.0.1:11211"], on_dead="eject")  # type: ignore[arg-type]
    placement.libmemcached("ketama_wieghted")  # type: ignore[arg-type]
    placement.twemproxy(hash="hsieh")  # type: ignore[arg-type]
    client.placement = placement.pylibmc({"ketama": True, "tcp_nodelay": True})
    client.on_dead = "miss"
    where: str | None = client.server_for("key")
    where = client.server_for((17, b"key"))
    print(where, placement.python_memcached() == client.placement, client.on_dead)
    print(placement.libmc(hash="crc32"), placement.pymemcache(), placement.uhashring(ketama=True))
    return placement.twemproxy("modula", hash="one_at_a_time", hash_tag="{}")


def single(client: Client) -> None:
    stored: int = client.set("key", {"any": "value"})
    stored = client.set(b"key", 1, 60)
    stored = client.set((17, "key"), None, timedelta(minutes=1), 1000, True)
    stored = client.add("key", 1, time=timedelta(minutes=1))
    stored = client.replace("key", 1, time=0.5 * 3600, min_compress_len=100)
    stored = client.append("key", b"tail", noreply=True)
    stored = client.prepend("key", "head")
    stored = client.cas("key", "value")
    deleted: int = client.delete("key")
    deleted = client.delete("key", True)
    deleted = client.delete("key", time=0)
    touched: int = client.touch("key", 1.5, noreply=False)
    touched = client.touch("key", "60")
    count: int | None = client.incr("key")
    count = client.decr("key", 10)
    count = client.incr("key", delta="10")
    text: str = client.get("key")
    text = client.get("key", "default")
    text = client.gets("key")
    print(stored, deleted, touched, count, text)
    client.set(5, 1)  # type: ignore[arg-type]
    client.set("key")  # type: ignore[call-arg]
    client.set("key", 1, time="60")  # type: ignore[arg-type]
    client.get(None)  # type: ignore[arg-type]
    client.incr("key", 1.5)  # type: ignore[arg-type]


def multi(client: Client) -> None:
    numbers: dict[int, Any] = client.get_multi([1, 2, 3], key_prefix="user-")
    texts: dict[str, Any] = client.get_multi(f"{n}" for n in range(3))
    pairs: dict[tuple[int, str], Any] = client.get_multi([(1, "a"), (2, "b")])
    failed: list[str] = client.set_multi({"a": 1, "b": [2]}, time=60, key_prefix=b"p", min_compress_len=1, noreply=True)
    failed_numbers: list[int] = client.set_multi({1: "a"})
    deleted: int = client.delete_multi(["a", 1], time=0, key_prefix="p", noreply=True)
    print(numbers, texts, pairs, failed, failed_numbers, deleted)
    client.get_multi(5)  # type: ignore[arg-type]
    client.set_multi(["a"])  # type: ignore[arg-type]


def rest(client: Client) -> None:
    stats: list[tuple[str, dict[str, str]]] = client.get_stats()
    stats = client.get_stats("cachedump 1 10")
    for name, slabs in client.get_slabs():
        for slab, items in slabs.items():
            print(name, slab, items["number"])
    for name, figures in client.get_slab_stats():
        print(name, figures["active_slabs"], stats)
    client.flush_all()
    client.quit_all()
    client.disconnect_all()
    client.forget_dead_hosts()
    client.set_servers(["127.0.0.1:11211", ("127.0.0.1:11212", 3)])
    client.set_servers([Server("127.0.0.1:11211"), mcext.Server("127.0.0.1:11212", weight=3, name="two")])
    client.refresh_servers()
    client.reset_cas()
    client.check_key(b"key")
    client.check_key(b"key", key_extra_len=10)
    client.debuglog("a line")


def attributes(client: Client) -> None:
    for host in client.servers:
        if host.connect():
            host.send_cmd("stats items")
            print(host.readline(), host.address, host.family, host.weight, host.deaduntil, host.socket_timeout)
            host.expect(b"OK", raise_exception=True)
            host.send_cmds(b"get a\r\nget b\r\n")
            host.recv(10)
            host.flush()
            host.quit()
            host.mark_dead("a reason")
            host.close_socket()
    client.socket_timeout = 1.5
    client.dead_retry = 5
    client.debug = 1
    client.cache_cas = True
    client.key_encoder = str.lower
    client.server_max_value_length = 0
    client.max_value_length = 1 << 20
    hits: int = client.stats["get"]
    token: int = client.cas_ids[b"key"]
    print(hits, token, len(client.buckets), client._FLAG_PICKLE, client._SERVER_RETRIES)
    client.stats = "none"  # type: ignore[assignment]


def errors(client: Client) -> None:
    try:
        client.set("a key with spaces", 1)
    except Client.MemcachedKeyCharacterError as error:
        print(error)
    except (client.MemcachedKeyLengthError, client.MemcachedKeyNoneError, client.MemcachedKeyTypeError):
        raise
    except (Client.MemcachedKeyError, Client.MemcachedStringEncodingError):
        raise


def main() -> None:
    with memcached() as server:
        client = Sessions([server.address])
        print(client.session(1))
        single(client)
        multi(client)
        rest(client)
        attributes(client)
        errors(client)
