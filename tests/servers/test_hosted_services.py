"""What hosted services refuse is not sent to them unasked (ElastiCache Serverless: no get line of more than 16 kB, no
flush_all with a delay, no stats with an argument, none of memcached's own tools)."""

import datetime

import pytest
from passing import Passing
from scripted_server import ScriptedServer

import mcext
import memcache
from mcext.testing import memcached

LINE = 16000
COUNT = 1200


CLIENTS = {"Client": memcache.Client, "replaced": Passing, "Cache": mcext.Cache}


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("length", [4, 195, 250])
def test_no_get_line_is_longer_than_16000_bytes(kind, length):
    keys = [f"{number:04}".rjust(length, "k") for number in range(COUNT)]
    with memcached() as server:
        expected = {key: key.encode() for key in keys if int(key[-4:]) % 7 == 0}
        writer = memcache.Client([server.address])
        assert writer.set_multi(expected) == []
        client = CLIENTS[kind]([server.address])
        read = client.get_many if kind == "Cache" else client.get_multi
        assert read(keys) == expected
        assert read(keys[:64]) == {key: expected[key] for key in keys[:64] if key in expected}
    with ScriptedServer() as scripted:
        client = CLIENTS[kind]([scripted.address])
        read = client.get_many if kind == "Cache" else client.get_multi
        assert read(keys) == {}
        lines = scripted.commands
        assert max(map(len, lines)) <= LINE
        assert b" ".join(line[4:-2] for line in lines).split() == [key.encode() for key in keys]
        room = min(1000, (LINE - 6) // (length + 1))
        assert len(lines) == -(-COUNT // room), "lines are as long as they may be"


UNASKED = set(b"get gets gat gats set add replace append prepend cas delete touch incr decr mg md mn version".split())


def use_client(client):
    client.set("key", "value", time=10)
    client.set_multi({"key": "value", "other": 1}, noreply=True)
    for change in client.add, client.replace, client.append, client.prepend:
        change("key", "value")
    client.get("key")
    client.gets("key")
    client.cas("key", "value")
    client.get_multi(["key", "other"])
    client.incr("key")
    client.decr("key")
    client.touch("key", 10)
    client.delete("key")
    client.delete_multi(["key", "other"])
    client.disconnect_all()
    client.get("key")


def use_cache(cache):
    cache.set("key", "value", ttl=datetime.timedelta(days=60))
    cache.set("key", "value", cas=mcext.ABSENT)
    cache.set_many({"key": "value", "other": 1})
    for change in cache.add, cache.replace, cache.append, cache.prepend:
        change("key", "value")
    cache.get_many(["key", "other"])
    cache.get_items(["key", "other"])
    cache.get_item("key")
    cache.incr("key", initial=1)
    cache.touch("key", 10)
    cache.get_and_touch("key", 10)
    cache.get_or_set("key", lambda: 1, ttl=10, refresh=1, stale=10)
    cache.update("key", lambda value: 1)
    cache.invalidate("key", stale=1)
    cache.delete_many(["key", "other"])
    cache.close()


@pytest.mark.parametrize(
    ("kind", "use"),
    [("Client", use_client), ("replaced", use_client), ("Cache", use_cache)],
    ids=["Client", "replaced", "Cache"],
)
def test_no_command_that_they_refuse_is_sent_unasked(kind, use):
    def answer(command, _):
        return None

    with ScriptedServer(answer) as scripted:
        client = CLIENTS[kind]([scripted.address])
        use(client)
        sent = [line for one in scripted.connections for line in one.commands]
    words = {line.split()[0] for line in sent if line.split()}
    assert len(words) > 8
    assert words <= UNASKED | {b"quit"}, words - UNASKED
