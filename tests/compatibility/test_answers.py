"""Answers as python-memcached 1.62 gives them: the rows of "Answers" in docs/contract.md. It passes this file too."""

import contextlib
import io
import pickle
import re
import socket
import sys
import time
import zlib
from datetime import timedelta

import oracle
import pytest
from scripted_server import ScriptedServer

import memcache
from mcext.testing import memcached

MIB = 1 << 20


@pytest.fixture(scope="module")
def unix_servers():
    """With one thread each does first what was sent first, on all connections."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(memcached("-t", "1", unix=True)) for _ in range(3)]


@pytest.fixture
def servers(unix_servers):
    """Three real memcacheds, empty."""
    for server in unix_servers:
        raw(server, b"flush_all\r\n", b"OK\r\n")
    return unix_servers


@pytest.fixture
def server(servers):
    return servers[0]


@pytest.fixture
def client(server):
    client = memcache.Client([server.address])
    yield client
    client.disconnect_all()


@pytest.fixture
def no_server():
    return memcache.Client([])


def raw(server, request, end):
    """Send bytes to a real server and return its reply up to `end`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(server.path)
        connection.sendall(request)
        reply = b""
        while not reply.endswith(end):
            data = connection.recv(65536)
            assert data, reply
            reply += data
        return reply


def stored(server, key):
    """(flags, bytes) as the server has them, or None."""
    reply = raw(server, b"get %s\r\n" % key, b"END\r\n")
    if reply == b"END\r\n":
        return None
    line, _, rest = reply.partition(b"\r\n")
    _, _, flags, size = line.split()
    return int(flags), rest[: int(size)]


def store(server, key, flags, value):
    raw(server, b"set %s %d 0 %d\r\n%s\r\n" % (key, flags, len(value), value), b"STORED\r\n")


# set, add, replace, append, prepend, cas


def test_a_store_is_true_or_false_by_the_servers_word(client):
    assert client.set("a", "1") is True
    assert client.add("a", "2") is False
    assert client.add("b", "2") is True
    assert client.replace("missing", "1") is False
    assert client.replace("a", "3") is True
    assert client.append("missing", "1") is False
    assert client.append("a", "4") is True
    assert client.prepend("missing", "1") is False
    assert client.prepend("a", "2") is True
    assert client.get("a") == "234"
    assert client.cas("a", "5") is True


@pytest.mark.parametrize("name", ["set", "add", "replace", "append", "prepend", "cas"])
def test_a_store_is_0_without_a_server_or_for_a_too_large_value(name, server, no_server):
    assert getattr(no_server, name)("a", "1") == 0
    assert type(getattr(no_server, name)("a", "1")) is int
    small = memcache.Client([server.address], server_max_value_length=5)
    result = getattr(small, name)("a", "x" * 6)
    assert result == 0 and type(result) is int


@pytest.mark.parametrize("name", ["set", "add", "replace", "append", "prepend", "cas"])
def test_a_store_with_noreply_is_true(name, client, server):
    client.set("a", "1")
    assert getattr(client, name)("a", "2", noreply=True) is True
    expected = {"set": "2", "add": "1", "replace": "2", "append": "12", "prepend": "21", "cas": "2"}[name]
    assert client.get("a") == expected


# delete, touch


def test_delete_and_touch_are_1_or_0(client, no_server):
    client.set("a", "1")
    assert (client.touch("a", 100), client.touch("missing", 100)) == (1, 0)
    assert (client.delete("a"), client.delete("a")) == (1, 0)
    assert (no_server.delete("a"), no_server.touch("a")) == (0, 0)
    assert (client.delete("missing", noreply=True), client.touch("missing", 1, noreply=True)) == (1, 1)
    assert (client.delete("missing", True), client.touch("missing", 1, True)) == (1, 1)


def test_touch_sets_the_expiry(client):
    client.set("a", "1", 100)
    assert client.touch("a", -1) == 1
    assert client.get("a") is None


# incr, decr


def test_incr_and_decr_give_the_new_int_or_none(client, no_server):
    client.set("a", "10")
    assert client.incr("a") == 11
    assert client.incr("a", 5) == 16
    assert client.incr("a", "4") == 20
    assert client.decr("a", 6) == 14
    assert client.decr("a", 100) == 0
    assert client.incr("missing") is None
    assert client.decr("missing") is None
    assert client.incr("a", noreply=True) is None
    assert client.get("a") == "1 " or client.get("a") == "1"
    assert no_server.incr("a") is None
    assert no_server.decr("a") is None


def test_incr_goes_to_2_to_the_64(client):
    client.set("a", 2**64 - 2)
    assert client.incr("a") == 2**64 - 1
    assert client.get("a") == 2**64 - 1
    assert client.incr("a") == 0


# get, gets


def test_get_is_the_value_or_the_default(client, no_server):
    client.set("a", None)
    assert client.get("a", "default") is None
    assert client.get("missing") is None
    assert client.get("missing", "default") == "default"
    assert client.get("missing", default=5) == 5
    assert client.gets("missing") is None
    assert no_server.get("a") is None
    assert no_server.gets("a") is None


# get_multi


def test_get_multi_has_the_callers_own_keys(client):
    client.set_multi({"a": 1, "b": 2, "7": 3})
    keys = ["a", b"b", 7, (5, "a"), (0, 7), "missing"]
    found = client.get_multi(keys)
    assert list(map(repr, found.values())) == ["1", "2", "3"]
    # Two names for one stored key: the last one given stands for it.
    assert set(found) == {b"b", (5, "a"), (0, 7)}
    assert all(any(key is given for given in keys) for key in found)
    assert client.get_multi([7]) == {7: 3}
    assert client.get_multi([]) == {}


def test_get_multi_removes_the_prefix(client, server):
    assert client.set_multi({"a": 1, 7: 2, (1, "c"): 3}, key_prefix="p:") == []
    assert stored(server, b"p:a") == (2, b"1")
    assert client.get_multi(["a", 7, (1, "c"), "d"], key_prefix="p:") == {"a": 1, 7: 2, (1, "c"): 3}
    assert client.get_multi(["a"], key_prefix=b"p:") == {"a": 1}
    assert client.get_multi(["a"], "p:") == {"a": 1}
    assert client.get("p:c") == 3


def test_get_multi_takes_any_iterable(client):
    client.set_multi({"a": 1, "b": 2})
    assert client.get_multi(key for key in "ab") == {"a": 1, "b": 2}
    assert client.get_multi({"a": 0}) == {"a": 1}
    assert client.delete_multi(key for key in "ab") == 1
    assert client.get_multi("ab") == {}


# set_multi


def test_set_multi_is_the_list_of_keys_not_stored(client, no_server):
    assert client.set_multi({"a": 1, "b": 2}) == []
    assert sorted(no_server.set_multi({"a": 1, "b": 2})) == ["a", "b"]
    assert no_server.set_multi({}) == []
    assert client.set_multi({}) == []
    assert client.set_multi({"a": 1}, noreply=True) == []
    assert client.set_multi({"a": 5, "b": 6}, 100, "p:", 0, True) == []
    assert client.get_multi(["a", "b"], "p:") == {"a": 5, "b": 6}


def test_set_multi_with_noreply_names_what_was_not_sent(server):
    client = memcache.Client([server.address], server_max_value_length=5)
    assert client.set_multi({"a": 1, (1, "large"): "x" * 6, 7: 2}, noreply=True) == [(1, "large")]
    assert client.get_multi(["a", 7, "large"]) == {"a": 1, 7: 2}


# delete_multi


def test_delete_multi_is_1_missing_or_not(client):
    client.set("a", 1)
    assert client.delete_multi(["a", "missing"]) == 1
    assert client.delete_multi([]) == 1
    assert client.delete_multi(["a"], noreply=True) == 1
    assert client.delete_multi(["a"], 0) == 1
    assert client.delete_multi(["a"], key_prefix="p") == 1
    assert client.get("a") is None


# get_stats, get_slab_stats, get_slabs


def test_get_stats_names_the_server(server):
    client = memcache.Client([(server.address, 3)])
    ((name, stats),) = client.get_stats()
    assert name == f"unix:{server.path} (3)"
    assert stats["pid"] == str(server.pid)
    assert {type(text) for text in [*stats, *stats.values()]} == {str}
    ((name, settings),) = client.get_stats("settings")
    assert settings["maxbytes"].isdigit()


def test_get_stats_names_tcp_servers():
    with memcached() as four, memcached("-l", "::1") as six:
        client = memcache.Client([four.address, (f"localhost:{four.port}", 2), f"inet6:[::1]:{six.port}"])
        names = [name for name, _ in client.get_stats()]
        assert names == [f"127.0.0.1:{four.port} (1)", f"localhost:{four.port} (2)", f"[::1]:{six.port} (1)"]


def test_get_stats_leaves_out_what_cannot_be_reached(server):
    client = memcache.Client(["unix:/nowhere/at/all", server.address])
    assert [name for name, _ in client.get_stats()] == [f"unix:{server.path} (1)"]
    assert client.servers[0].deaduntil > time.time()


def test_get_stats_takes_an_argument_with_spaces():
    with ScriptedServer([b"ITEM a [5 b; 0 s]\r\nITEM b [1 b; 9 s]\r\nEND\r\n"]) as server:
        client = memcache.Client([server.address])
        dump = {"a": "[5 b; 0 s]", "b": "[1 b; 9 s]"}
        assert client.get_stats("cachedump 1 10") == [(f"{server.address} (1)", dump)]
        assert server.commands == [b"stats cachedump 1 10\r\n"]


def test_get_slab_stats(client):
    client.set("a", "1")
    ((name, slabs),) = client.get_slab_stats()
    assert slabs["active_slabs"].isdigit() and slabs["total_malloced"].isdigit()
    numbers = [number for number in slabs if number.isdigit()]
    assert numbers
    for number in numbers:
        assert slabs[number]["chunk_size"].isdigit()
    assert set(slabs) == {*numbers, "active_slabs", "total_malloced"}


# cas


def test_cas_without_cache_cas_is_set(client):
    assert client.cas_ids == {}
    client.set("a", 1)
    assert client.gets("a") == 1
    assert client.cas_ids == {}
    client.set("a", 2)
    assert client.cas("a", 3) is True
    assert client.get("a") == 3
    assert client.cas("new", 1) is True


def test_cas_with_cache_cas(server):
    client = memcache.Client([server.address], cache_cas=True)
    other = memcache.Client([server.address])
    client.set("a", 1)
    assert client.gets("a") == 1
    assert list(client.cas_ids) == [b"a"] and type(client.cas_ids[b"a"]) is int
    other.set("a", 2)
    assert client.cas("a", 3) is False
    assert list(client.cas_ids) == [b"a"]
    assert client.gets("a") == 2
    assert client.cas("a", 3) is True
    assert client.cas("a", 4) is False
    assert client.get("a") == 3
    client.reset_cas()
    assert client.cas_ids == {}
    assert client.cas("a", 5) is True
    assert client.gets((3, "a")) == 5
    assert list(client.cas_ids) == [b"a"]
    other.delete("a")
    assert client.cas("a", 6) is False


# an error line


@pytest.mark.parametrize("line", [b"ERROR\r\n", b"CLIENT_ERROR what\r\n", b"SERVER_ERROR out of memory\r\n"])
def test_an_error_line_is_an_answer_and_no_dead_mark(line):
    with ScriptedServer(lambda command, number: line) as server:
        client = memcache.Client([server.address])
        assert client.get("a") is None
        assert client.get("a", "default") == "default"
        assert client.gets("a") is None
        for name in ("set", "add", "replace", "append", "prepend", "cas"):
            assert getattr(client, name)("a", "1") is False
        assert client.delete("a") == 0
        assert client.touch("a") == 0
        assert client.set_multi({"a": 1, "b": 2}) == ["a", "b"]
        assert client.servers[0].deaduntil == 0


# dead servers


def test_a_dead_server_is_left_out_for_dead_retry_seconds(server):
    client = memcache.Client([server.address], dead_retry=1000)
    client.set("a", 1)
    before = time.time()
    client.servers[0].mark_dead("a reason")
    assert before + 990 < client.servers[0].deaduntil < time.time() + 1010
    assert client.get("a") is None
    assert client.set("a", 1) == 0
    assert str(client.servers[0]) == f"unix:{server.path} (dead until {int(client.servers[0].deaduntil)})"
    client.servers[0].deaduntil = time.time() - 1
    assert client.get("a") == 1
    assert client.servers[0].deaduntil == 0
    client.servers[0].mark_dead("a reason")
    client.forget_dead_hosts()
    assert client.get("a") == 1


def test_the_next_server_takes_a_dead_ones_keys(servers):
    client = memcache.Client([one.address for one in servers])
    client.servers[0].mark_dead("test")
    for number in range(100):
        key = b"key%d" % number
        chain = probes(memcache.cmemcache_hash(key), 3)
        assert client.set(key, 1) is True
        live = next((bucket for bucket in chain if bucket), None)
        if live is not None:
            assert stored(servers[live], key)


# which server


def probes(start, count, function=memcache.cmemcache_hash):
    """The buckets of the ten probes that begin with a hash."""
    found = []
    for i in range(10):
        found.append(start % count)
        start = function(f"{start}{i}".encode())
    return found


def test_the_default_hash(servers):
    assert memcache.serverHashFunction is memcache.cmemcache_hash
    for key in (b"", b"a", b"foo", bytes(range(256)), b"k" * 250):
        assert memcache.cmemcache_hash(key) == (zlib.crc32(key) >> 16) & 0x7FFF
    client = memcache.Client([one.address for one in servers])
    for number in range(100):
        key = b"key%d" % number
        client.set(key, number)
        assert stored(servers[memcache.cmemcache_hash(key) % 3], key)


def test_buckets_are_servers_by_weight(servers):
    client = memcache.Client([(servers[0].address, 3), servers[1].address, (servers[2].address, 0)])
    first, second, third = client.servers
    assert client.buckets == [first, first, first, second]
    assert [host.weight for host in client.servers] == [3, 1, 0]
    for number in range(8):
        assert client.set((number, f"key{number}"), 1) is True
        assert stored(servers[0 if number % 4 < 3 else 1], b"key%d" % number)


@pytest.mark.parametrize("number", [0, 1, 2, 5, -1, -2, -7, 10**30, -(10**30), 2**63, 2**64, True])
def test_a_hash_given_in_a_tuple_is_taken_modulo(servers, number):
    client = memcache.Client([one.address for one in servers])
    assert client.set((number, "a"), "1") is True
    assert stored(servers[number % 3], b"a") == (16, b"1")
    assert client.get((number, b"a")) == "1"
    assert client.get_multi([(number, "a")]) == {(number, "a"): "1"}
    assert client.append((number, "a"), "2") is True
    assert client.delete((number, "a")) == 1


@pytest.mark.parametrize("number", [0, 3, -1, -(10**30), 10**30])
def test_the_probes_are_chained(servers, number):
    live = memcache.Client([one.address for one in servers])
    for key in (b"a", b"b", b"c"):
        for dead in range(3):
            live.forget_dead_hosts()
            live.servers[dead].mark_dead("test")
            expected = next(bucket for bucket in probes(number, 3) if bucket != dead)
            assert live._get_server((number, key)) == (live.servers[expected], key)


def test_a_replaced_hash_function_is_used(servers, monkeypatch):
    client = memcache.Client([one.address for one in servers])
    seen = []

    def function(key):
        seen.append(key)
        return 1

    monkeypatch.setattr(memcache, "serverHashFunction", function)
    assert client.set("a", "1") is True
    assert client.get_multi(["a", "b"]) == {"a": "1"}
    assert stored(servers[1], b"a")
    assert seen == [b"a", b"a", b"b"]
    assert client.set((0, "c"), "1") is True
    client.servers[1].mark_dead("test")
    assert client._get_server(b"a") == (None, None) or client._get_server(b"a")[0] in client.servers
    assert b"10" in seen


def test_use_old_server_hash_function(servers, monkeypatch):
    monkeypatch.setattr(memcache, "serverHashFunction", memcache.serverHashFunction)  # to be put back
    client = memcache.Client([one.address for one in servers])
    memcache.useOldServerHashFunction()
    assert memcache.serverHashFunction(b"a") == zlib.crc32(b"a")
    for number in range(50):
        key = b"key%d" % number
        client.set(key, 1)
        assert stored(servers[zlib.crc32(key) % 3], key)


# flags


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value, flags, data",
    [
        (b"bytes", 0, b"bytes"),
        (b"", 0, b""),
        ("größe", 16, "größe".encode()),
        ("", 16, b""),
        (42, 2, b"42"),
        (-(2**70), 2, b"%d" % -(2**70)),
        (True, 1, pickle.dumps(True, 0)),
        (None, 1, pickle.dumps(None, 0)),
        (1.5, 1, pickle.dumps(1.5, 0)),
        (Text("a"), 1, pickle.dumps(Text("a"), 0)),
        (bytearray(b"a"), 1, pickle.dumps(bytearray(b"a"), 0)),
    ],
)
def test_flags_are_by_exact_type(client, server, value, flags, data):
    client.set("a", value)
    assert stored(server, b"a") == (flags, data)
    assert client.get("a") == value and type(client.get("a")) is type(value)
    client.set_multi({"b": value})
    assert stored(server, b"b") == (flags, data)
    found = client.get_multi(["b"])
    assert found == {"b": value} and type(found["b"]) is type(value)


def test_the_flags_have_names():
    client = memcache.Client
    names = [client._FLAG_PICKLE, client._FLAG_INTEGER, client._FLAG_LONG, client._FLAG_COMPRESSED, client._FLAG_TEXT]
    assert names == [1, 2, 4, 8, 16]
    assert client._SERVER_RETRIES == 10


@pytest.mark.parametrize(
    "flags, data, value",
    [
        (17, b"text", "text"),
        (48, b"text", "text"),
        (16 | 2, b"12", "12"),
        (2 | 1, b"12", 12),
        (2 | 4, b"12", 12),
        (4, b"12", 12),
        (4 | 1, b"12", 12),
        (32 | 2, b"12", 12),
        (1 | 32, pickle.dumps([1]), [1]),
        (8, zlib.compress(b"x"), b"x"),
        (8 | 16, zlib.compress("é".encode()), "é"),
        (8 | 2, zlib.compress(b"12"), 12),
        (8 | 1, zlib.compress(pickle.dumps([1])), [1]),
    ],
)
def test_flags_are_read_in_their_order(client, server, flags, data, value):
    store(server, b"a", flags, data)
    found = client.get("a")
    assert found == value and type(found) is type(value)
    assert client.get_multi(["a"]) == {"a": value}


# ints


@pytest.mark.parametrize("flags", [2, 4])
@pytest.mark.parametrize("data", [b"99 ", b" 5", b"+7", b"-7", b"1_000", b"007", b"-0", b"9" * 4300, b"\t12\n"])
def test_ints_are_read_as_python_reads_them(client, server, flags, data):
    store(server, b"a", flags, data)
    assert client.get("a") == int(data)


def test_an_int_after_a_decr(client):
    client.set("a", 100)
    assert client.decr("a") == 99
    assert client.get("a") == 99
    assert client.get_multi(["a"]) == {"a": 99}


def test_ints_are_never_compressed(client, server):
    client.set("a", 10**1000, min_compress_len=10)
    assert stored(server, b"a") == (2, b"1" + b"0" * 1000)
    assert client.get("a") == 10**1000


@pytest.mark.parametrize("value", [10**4299, -(10**4299), 2**1000])
def test_long_ints(client, value):
    assert client.set("a", value) is True
    assert client.get("a") == value


def test_an_int_of_too_many_digits_raises_as_python_does(client):
    with pytest.raises(ValueError):
        client.set("a", 10**4300)


# sizes


@pytest.mark.parametrize("value", [b"x" * 100, "x" * 100, ["x" * 100]])
def test_min_compress_len(client, server, value):
    plain = {bytes: b"x" * 100, str: b"x" * 100, list: pickle.dumps(value, 0)}[type(value)]
    flag = {bytes: 0, str: 16, list: 1}[type(value)]
    client.set("a", value, min_compress_len=len(plain))
    assert stored(server, b"a") == (flag, plain)
    client.set("a", value, min_compress_len=len(plain) - 1)
    assert stored(server, b"a") == (flag | 8, zlib.compress(plain))
    assert client.get("a") == value
    client.set_multi({"b": value}, min_compress_len=1)
    assert stored(server, b"b") == (flag | 8, zlib.compress(plain))
    assert client.get_multi(["b"]) == {"b": value}


def test_what_does_not_get_smaller_is_not_compressed(client, server):
    noise = zlib.compress(bytes(range(256)))
    client.set("a", noise, min_compress_len=1)
    assert stored(server, b"a") == (0, noise)


def test_an_own_compressor(server):
    def compressor(data):
        return data[: len(data) // 2]

    def decompressor(data):
        return data * 2

    client = memcache.Client([server.address], compressor=compressor, decompressor=decompressor)
    client.set("a", b"abab", min_compress_len=1)
    assert stored(server, b"a") == (8, b"ab")
    assert client.get("a") == b"abab"
    assert client.get_multi(["a"]) == {"a": b"abab"}


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_an_own_compressor_and_decompressor_may_return_any_bytes(server, kind):
    client = memcache.Client(
        [server.address],
        compressor=lambda data: kind(zlib.compress(data)),
        decompressor=lambda data: bytearray(zlib.decompress(data)),
    )
    values = {"text": "x" * 100, "bytes": b"x" * 100, "pickle": ["x" * 100]}
    flags = {"text": 8 | 16, "bytes": 8, "pickle": 8 | 1}
    for key, value in values.items():
        assert client.set(key, value, min_compress_len=1) is True
        assert stored(server, key.encode())[0] == flags[key]
        assert client.get(key) == client.gets(key) == value
    assert client.get_multi(list(values)) == values


def test_server_max_value_length_limits_sending_only(server):
    client = memcache.Client([server.address], server_max_value_length=100)
    assert client.set("a", b"x" * 100) is True
    assert client.set("a", b"x" * 101) == 0
    assert client.set("a", b"x" * 101, min_compress_len=1) is True
    assert client.get("a") == b"x" * 101
    store(server, b"b", 0, b"y" * 1000)
    assert client.get("b") == b"y" * 1000
    unlimited = memcache.Client([server.address], server_max_value_length=0)
    assert unlimited.set("a", b"x" * (MIB - 1000)) is True
    assert unlimited.set("a", b"x" * (MIB + 1000)) is False


def test_the_limits_of_the_module_are_read_when_a_client_is_made(server, monkeypatch):
    assert (memcache.SERVER_MAX_KEY_LENGTH, memcache.SERVER_MAX_VALUE_LENGTH) == (250, MIB)
    before = memcache.Client([server.address])
    monkeypatch.setattr(memcache, "SERVER_MAX_KEY_LENGTH", 5)
    monkeypatch.setattr(memcache, "SERVER_MAX_VALUE_LENGTH", 10)
    client = memcache.Client([server.address])
    assert (client.server_max_key_length, client.server_max_value_length) == (5, 10)
    assert (before.server_max_key_length, before.server_max_value_length) == (250, MIB)
    assert client.set("k" * 5, "x" * 10) is True
    assert client.set("k" * 5, "x" * 11) == 0
    with pytest.raises(client.MemcachedKeyLengthError, match="Key length is > 5"):
        client.get("k" * 6)
    assert before.set("k" * 6, "x" * 11) is True


# keys


@pytest.mark.parametrize("key", ["schlüssel", "鍵", "\U0001f511", b"\x80\xff", "k" * 250, "é" * 125, "a\x80b"])
def test_good_keys(client, server, key):
    data = key.encode() if isinstance(key, str) else key
    assert client.set(key, "1") is True
    assert stored(server, data) == (16, b"1")
    assert client.get(data) == "1"
    assert client.get_multi([key]) == {key: "1"}


BAD = [bytes([number]) for number in range(0x21)] + [b"\x7f"]


@pytest.mark.parametrize("byte", BAD)
def test_bytes_that_no_key_may_have(client, byte):
    for key in (b"a" + byte + b"b", byte + b"b"):
        with pytest.raises(client.MemcachedKeyCharacterError) as caught:
            client.get(key)
        assert str(caught.value) == f"Control/space characters not allowed (key={key!r})"
        with pytest.raises(client.MemcachedKeyCharacterError):
            client.get_multi(["a", key])
        with pytest.raises(client.MemcachedKeyCharacterError):
            client.set_multi({"a": 1}, key_prefix=key)


@pytest.mark.parametrize("key", ["k" * 251, "é" * 126, b"k" * 1000, (1, "k" * 251)])
def test_a_key_that_is_too_long(client, key):
    with pytest.raises(client.MemcachedKeyLengthError) as caught:
        client.set(key, 1)
    assert str(caught.value) == "Key length is > 250"
    with pytest.raises(client.MemcachedKeyLengthError):
        client.get_multi([key])


def test_the_prefix_counts_for_the_length(client):
    assert client.set_multi({"k" * 249: 1}, key_prefix="p") == []
    for call in (client.get_multi, client.delete_multi):
        with pytest.raises(client.MemcachedKeyLengthError):
            call(["k" * 249], key_prefix="pp")
    with pytest.raises(client.MemcachedKeyLengthError):
        client.get_multi(["a"], key_prefix="p" * 251)


def test_server_max_key_length_0_is_no_limit(server):
    client = memcache.Client([server.address], server_max_key_length=0)
    client.check_key(b"k" * 10000)
    assert client.get("k" * 251) is None


@pytest.mark.parametrize("key", [5, 1.5, ["a"], bytearray(b"a"), object(), (1, 5)])
def test_a_key_of_another_type(client, key):
    with pytest.raises(client.MemcachedKeyTypeError) as caught:
        client.get(key)
    assert str(caught.value) == "Key must be a binary string"


@pytest.mark.parametrize("key", [None, (1, None)])
def test_none_is_refused_as_a_key(client, key):
    with pytest.raises(client.MemcachedKeyNoneError) as caught:
        client.set(key, 1)
    assert str(caught.value) == "Key is None"


def test_check_keys_false_skips_the_checks(server):
    client = memcache.Client([server.address], check_keys=False)
    assert client.do_check_key is False
    assert client.set("a\x01b", "1") is True
    assert client.get("a\x01b") == "1"
    assert client.get("k" * 300) is None
    client.do_check_key = True
    with pytest.raises(client.MemcachedKeyCharacterError):
        client.get("a\x01b")


def test_a_str_that_is_not_utf8(client):
    with pytest.raises(UnicodeEncodeError):
        client.get("\ud800")
    with pytest.raises(UnicodeEncodeError):
        client.set("a", "\ud800")


# ints as keys


def test_ints_are_keys_in_the_multi_calls(client, server):
    assert client.set_multi({42: "a", -7: "b", 10**30: "c", 1.5: "d"}) == []
    assert stored(server, b"42") == (16, b"a")
    assert stored(server, b"1.5") == (16, b"d")
    found = client.get_multi([42, -7, 10**30, 1.5])
    assert found == {42: "a", -7: "b", 10**30: "c", 1.5: "d"}
    assert [type(key) for key in found] == [int, int, int, float]
    assert client.delete_multi([42, -7]) == 1
    assert client.get_multi([42, -7]) == {}


@pytest.mark.parametrize("check_keys", [True, False])
def test_none_is_no_key_in_the_multi_calls(server, check_keys):
    client = memcache.Client([server.address], check_keys=check_keys)
    for call in (
        lambda: client.get_multi([None]),
        lambda: client.set_multi({None: 1}),
        lambda: client.delete_multi(["a", None]),
        lambda: client.get_multi([None], key_prefix="p"),
    ):
        with pytest.raises(client.MemcachedKeyNoneError):
            call()


# pickling


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5, -1])
def test_the_pickle_protocol(server, protocol):
    client = memcache.Client([server.address], pickleProtocol=protocol)
    value = {"a": [1, None, 2.5], "b": (True, b"x" * 300)}
    client.set("a", value)
    assert stored(server, b"a") == (1, pickle.dumps(value, protocol))
    assert client.get("a") == value


def test_the_pickler_is_probed_once_and_called_as_it_takes_it(server):
    calls = []

    def by_position(file, protocol):
        calls.append(("position", protocol))
        return pickle.Pickler(file, protocol)

    def positional_only(file, protocol, /):
        calls.append(("only", protocol))
        return pickle.Pickler(file, protocol)

    client = memcache.Client([server.address], pickler=by_position, pickleProtocol=2)
    assert client.picklerIsKeyword is True
    assert calls == [("position", 2)]
    client.set("a", [1])
    assert calls == [("position", 2)] * 2
    client = memcache.Client([server.address], pickler=positional_only, pickleProtocol=3)
    assert client.picklerIsKeyword is False
    client.set("a", [1])
    assert calls[2:] == [("only", 3)]
    assert client.get("a") == [1]


def test_pickler_is_keyword_holds_as_it_is_assigned(server):
    calls = []

    def pickler(file, *arguments, **options):
        calls.append((arguments, options))
        return pickle.Pickler(file, *arguments, **options)

    client = memcache.Client([server.address], pickleProtocol=2)
    client.picklerIsKeyword = False
    client.pickler = pickler
    assert client.picklerIsKeyword is False
    client.set("a", [1])
    assert calls == [((2,), {})]
    client.picklerIsKeyword = True
    client.set("a", [1])
    assert calls == [((2,), {}), ((), {"protocol": 2})]


@pytest.mark.parametrize("protocol", [99, -7, "own", None, object()])
def test_an_own_pickler_may_have_protocols_of_its_own(server, protocol):
    seen = []

    class Own:
        def __init__(self, file, protocol):
            seen.append(protocol)
            self.file = file

        def dump(self, value):
            self.file.write(pickle.dumps(value))

    for module in (memcache, oracle.load()):
        client = module.Client([server.address], pickleProtocol=protocol, pickler=Own)
        assert client.pickleProtocol is protocol
        assert seen == [protocol]
        assert client.set("a", [1]) and client.get("a") == [1]
        assert seen == [protocol] * 2
        seen.clear()


class Reference:
    def __init__(self, name):
        self.name = name


def test_persistent_ids(server):
    client = memcache.Client(
        [server.address],
        pid=lambda value: value.name if isinstance(value, Reference) else None,
        pload=lambda name: ("loaded", name),
        pickler=pickle._Pickler,
        unpickler=pickle._Unpickler,
        pickleProtocol=2,
    )
    assert client.set("a", [Reference("x"), 1]) is True
    assert client.get("a") == [("loaded", "x"), 1]
    assert client.get_multi(["a"]) == {"a": [("loaded", "x"), 1]}
    client.persistent_load = lambda name: ("later", name)
    assert client.get("a") == [("later", "x"), 1]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the attributes of Python's pickler in C are read-only there")
def test_persistent_ids_with_the_c_pickler(server):
    client = memcache.Client(
        [server.address], pid=lambda value: "id" if isinstance(value, Reference) else None, pload=lambda name: name
    )
    client.set("a", [Reference("x")])
    assert client.get("a") == ["id"]


def test_an_own_pickler_and_unpickler(server):
    class Pickler:
        def __init__(self, file, protocol=0):
            self.file = file

        def dump(self, value):
            self.file.write(b"<" + repr(value).encode() + b">")

    class Unpickler:
        def __init__(self, file):
            assert isinstance(file, io.BytesIO) or hasattr(file, "read")
            self.file = file

        def load(self):
            return "read " + self.file.read().decode()

    client = memcache.Client([server.address], pickler=Pickler, unpickler=Unpickler)
    client.set("a", [1, 2])
    assert stored(server, b"a") == (1, b"<[1, 2]>")
    assert client.get("a") == "read <[1, 2]>"
    assert client.get_multi(["a"]) == {"a": "read <[1, 2]>"}


def test_a_value_that_cannot_be_pickled_raises(client):
    for value in ((one for one in ()), io.TextIOWrapper(io.BytesIO())):
        with pytest.raises(TypeError):
            client.set("a", value)
    assert client.set("a", 1) is True


# a value that cannot be unpickled


def test_a_value_that_cannot_be_unpickled_is_none(server, capsys):
    client = memcache.Client([server.address], debug=1)
    store(server, b"a", 1, b"cno.such.module\nthing\n.")
    assert client.get("a") is None
    assert client.get("a", "default") is None
    assert client.gets("a") is None
    assert client.get_multi(["a"]) == {"a": None}
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line] == ["MemCached: Pickle error: No module named 'no'"] * 4


# stats


def test_stats_count_the_commands(client, no_server):
    assert client.stats == {}
    client.set("a", "1")
    client.get("a")
    client.get("missing")
    client.gets("a")
    client.delete("a")
    client.touch("a")
    client.incr("a")
    client.decr("a")
    client.append("a", "1")
    client.cas("a", "1")
    client.set_multi({"b": 1})
    client.get_multi(["b"])
    client.delete_multi(["b"])
    assert client.stats == {
        "set": 2,
        "get": 2,
        "gets": 1,
        "delete": 1,
        "touch": 1,
        "incr": 1,
        "decr": 1,
        "append": 1,
        "cas": 1,
        "set_multi": 1,
        "get_multi": 1,
        "delete_multi": 1,
    }
    no_server.get("a")
    no_server.set("a", 1)
    assert no_server.stats == {}


# time


@pytest.mark.parametrize(
    "time, sent",
    [(0, 0), (100, 100), (-1, -1), (1.9, 1), (-1.9, -1), (True, 1), (10**12, 10**12), (timedelta(seconds=90.5), 90)],
)
def test_what_a_time_is_sent_as(time, sent):
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        client.set("a", b"1", time)
        words = [b"a", b"0", b"%d" % sent, b"1", b"1"]
        assert [one.split() for one in server.commands] == [[b"set", *words]]
        if not isinstance(time, timedelta):
            client.add("a", b"1", time=time)
            client.set_multi({"a": b"1"}, time)
            assert [one.split() for one in server.commands[1:]] == [[b"add", *words], [b"set", *words]]


def test_a_negative_time_expires_at_once(client):
    assert client.set("a", 1, -1) is True
    assert client.get("a") is None


@pytest.mark.parametrize("time", ["5", b"5", None, [], object()])
def test_a_time_that_is_no_number(client, time):
    for name in ("set", "add", "replace", "append", "prepend", "cas"):
        with pytest.raises(TypeError):
            getattr(client, name)("a", 1, time)


# key_encoder


def test_the_key_encoder_of_single_calls_gets_the_callers_object(server):
    seen = []

    def encoder(key):
        seen.append(key)
        return (key[0], "t:" + key[1]) if isinstance(key, tuple) else "k:" + str(key)

    client = memcache.Client([server.address], key_encoder=encoder)
    assert client.set("a", 1) is True
    assert client.set((7, "a"), 2) is True
    assert client.set(5, 3) is True
    assert stored(server, b"k:a") == (2, b"1")
    assert stored(server, b"t:a") == (2, b"2")
    assert stored(server, b"k:5") == (2, b"3")
    assert client.get(5) == 3
    assert client.delete((7, "a")) == 1
    assert seen == ["a", (7, "a"), 5, 5, (7, "a")]
    assert client.key_encoder is encoder


def test_the_key_encoder_comes_before_the_checks(server):
    client = memcache.Client([server.address], key_encoder=lambda key: key.replace(" ", "_"))
    assert client.set("a b", 1) is True
    assert stored(server, b"a_b")
    assert memcache.Client([]).key_encoder("same") == "same"


# The 1.x API that older texts show


def test_set_by_position(client):
    assert client.set("a", "x" * 100, 0, 10) is True
    assert client.get("a") == "x" * 100


# Debug lines


def test_debug_lines_are_python_memcacheds(server, capsys):
    client = memcache.Client([server.address], debug=1)
    client.set("a", "text")
    client.add("a", 1)
    client.delete("missing")
    client.touch("missing")
    client.delete_multi(["missing"])
    client.servers[0].mark_dead("a reason")
    client.debuglog("a line")
    assert re.sub(r"unix:\S+(?=:)", "SERVER", capsys.readouterr().err).splitlines() == [
        "MemCached: while expecting 'STORED', got unexpected response 'NOT_STORED'",
        "MemCached: delete expected DELETED, got: b'NOT_FOUND'",
        "MemCached: touch expected TOUCHED, got: b'NOT_FOUND'",
        "MemCached: while expecting 'DELETED', got unexpected response 'NOT_FOUND'",
        "MemCached: MemCache: SERVER: a reason.  Marking dead.",
        "MemCached: a line",
    ]
    quiet = memcache.Client([server.address])
    quiet.delete("missing")
    quiet.servers[0].mark_dead("a reason")
    quiet.debuglog("a line")
    assert capsys.readouterr().err == ""


def test_a_failed_connect_has_its_debug_line(capsys):
    client = memcache.Client(["unix:/nowhere/at/all"], debug=1)
    assert client.get("a") is None
    line = "MemCached: MemCache: unix:/nowhere/at/all: connect: [Errno 2] No such file or directory.  Marking dead.\n"
    assert capsys.readouterr().err == line


def test_flush_on_reconnect_flushes_what_comes_back(server):
    client = memcache.Client([server.address], flush_on_reconnect=1)
    client.set("a", 1)
    client.servers[0].mark_dead("test")
    assert client.servers[0].flush_on_next_connect == 1
    client.forget_dead_hosts()
    assert client.get("a") is None
    assert client.servers[0].flush_on_next_connect == 0
