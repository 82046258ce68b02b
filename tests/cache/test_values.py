"""What a Cache stores comes back as it was, from it and from the clients that share its servers; what cannot be
stored or read says so, and leaves nothing behind."""

import datetime
import decimal
import pickle
import sys
import threading
import zlib

import oracle
import plain_socket
import pytest
from scripted_server import PATIENCE, ScriptedServer

import mcext
import memcache
from mcext.testing import memcached as start_memcached

AT_ONCE = 20 * PATIENCE
MEGABYTE = 1 << 20

VALUES = {
    "bytes": b"\x00\xffbytes",
    "no bytes": b"",
    "text": "text",
    "no text": "",
    "other text": "t\u00e4xt \u4e2d \U0001f40d",
    "zero": 0,
    "int": 12345,
    "negative": -5,
    "64 bits": 2**63,
    "long": 2**200,
    "None": None,
    "False": False,
    "True": True,
    "float": 0.1,
    "list": [1, "two", b"three", None],
    "dict": {"a": (1, 2), 3: {4}},
    "date": datetime.date(2020, 2, 29),
    "decimal": decimal.Decimal("1.10"),
    "long text": "long " * 2000,
    "long bytes": bytes(range(256)) * 40,
}
each_value = pytest.mark.parametrize("name", VALUES)


@pytest.fixture(scope="module")
def server():
    with start_memcached("-m", "256") as running:
        yield running


@pytest.fixture
def make(server):
    caches = []

    def make(**options):
        caches.append(mcext.Cache([server.address], **{"timeout": AT_ONCE, **options}))
        return caches[-1]

    yield make
    for each in caches:
        each.close()


@pytest.fixture
def cache(make):
    cache = make()
    cache.flush_all()
    return cache


def same(one, other):
    return type(one) is type(other) and one == other


# ---- of each type, shared ------------------------------------------------------------------------------------------


@each_value
def test_each_read_gives_the_value_and_its_type(cache, name):
    value = VALUES[name]
    missed = object()
    assert cache.set("key", value) is True
    assert same(cache.get("key", missed), value)
    assert same(cache.get_many(["key"])["key"], value)
    assert same(cache.get_item("key").value, value)
    assert same(cache.get_items(["key"])["key"].value, value)
    assert same(cache.get_and_touch("key", 100, missed), value)
    assert cache.set_many({"many": value}) == []
    assert same(cache.get("many", missed), value)
    assert cache.replace("key", value) is True
    assert cache.set("key", value, cas=cache.get_item("key").cas) is True
    assert same(cache.get("key", missed), value)
    assert cache.add("added", value) is True
    assert same(cache.get("added", missed), value)


@each_value
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_client_and_cache_read_what_the_other_stores(cache, make, server, name, compression):
    value = VALUES[name]
    client = memcache.Client([server.address], socket_timeout=AT_ONCE)
    writer = make(compression=mcext.Compression(min_length=100) if compression else None)
    if name != "no bytes":  # what Client stores then is what a lease looks like
        assert client.set("key", value, min_compress_len=100 if compression else 0)
        assert same(writer.get("key", cache), value)
    assert writer.set("other", value) is True
    assert same(client.get("other", default=cache), value)
    assert writer.set_many({"third": value}) == []
    assert same(client.get_multi(["third"])["third"], value)
    ours = plain_socket.fetch(server, "other")
    if name == "no bytes":
        assert ours == (b"\x80\x03C\x00.", 1)
        return
    theirs = plain_socket.fetch(server, "key")
    assert theirs[1] & ~8 == ours[1] & ~8, "the flags differ"
    if not ours[1] & 9:  # they may be of two pickle protocols
        assert theirs == ours


@each_value
def test_python_memcached_and_cache_read_what_the_other_stores(cache, server, name):
    value = VALUES[name]
    theirs = oracle.load().Client([server.address], socket_timeout=AT_ONCE)
    assert cache.set("other", value) is True
    assert same(theirs.get("other", default=theirs), value)
    if name != "no bytes":
        assert theirs.set("key", value)
        assert same(cache.get("key", theirs), value)
        assert plain_socket.fetch(server, "key")[1] == plain_socket.fetch(server, "other")[1]


@pytest.mark.frameworks
@each_value
def test_pylibmc_and_cache_read_what_the_other_stores(make, server, name):
    pylibmc = pytest.importorskip("pylibmc")
    value = VALUES[name]
    cache = make(codec=mcext.codecs.Pylibmc())
    theirs = pylibmc.Client([server.address])
    expected = int(value) if isinstance(value, bool) else value  # what it makes of its own, too
    assert cache.set("other", value) is True
    assert same(theirs.get("other", cache), expected)
    if name != "no bytes":
        assert theirs.set("key", value)
        assert same(theirs.get("key"), expected)
        assert same(cache.get("key", theirs), expected)
        assert plain_socket.fetch(server, "key")[1] == plain_socket.fetch(server, "other")[1]


@pytest.mark.parametrize("value", [b"", None, False, "", 0, [], {}], ids=repr)
def test_a_value_that_is_false_is_no_miss(cache, value):
    calls = []
    cache.set("key", value)
    assert same(cache.get("key", "missed"), value)
    assert same(cache.get_and_touch("key", 50, "missed"), value)
    assert list(cache.get_many(["key", "other"])) == ["key"]
    assert cache.get_item("key") is not None
    assert list(cache.get_items(["key", "other"])) == ["key"]
    assert same(cache.get_or_set("key", lambda: calls.append(1), 60), value)
    assert calls == []
    seen = []
    cache.update("key", lambda old: seen.append(old) or "new")
    assert same(seen[0], value)


def test_an_item_of_no_bytes_and_no_flags_is_a_miss(cache, server):
    """A stub that get_or_set has left as its lease, or would."""
    plain_socket.store(server, "stub", b"", 0)
    assert cache.get("stub", "missed") == "missed"
    assert cache.get_many(["stub"]) == {}
    assert cache.get_item("stub") is None
    assert cache.get_items(["stub"]) == {}
    assert cache.get_and_touch("stub", 50, "missed") == "missed"
    seen = []
    assert cache.update("stub", lambda old: seen.append(old) or "new") == "new"
    assert seen == [mcext.ABSENT]
    assert cache.get("stub") == "new"
    counted = cache.metrics()
    assert counted["hits"] == 1, "a stub is no hit"


def test_with_a_codec_of_its_own_a_stub_is_a_miss_too_and_no_bytes_are_a_value(make, server):
    class Bytes:
        def encode(self, value):
            return value, 0

        def decode(self, data, flags):
            assert flags == 0
            return data

    cache = make(codec=Bytes())
    plain_socket.store(server, "stub", b"", 0)
    assert cache.get("stub", "missed") == "missed"
    assert cache.get_many(["stub"]) == {}
    assert cache.get_item("stub") is None
    cache.set("empty", b"")
    assert cache.get("empty", "missed") == b""
    assert cache.get_many(["empty"]) == {"empty": b""}
    assert cache.get_item("empty").value == b""


# ---- too large -----------------------------------------------------------------------------------------------------


def too_large(cache, way, value):
    if way == "set_many":
        with pytest.raises(mcext.PartialFailure) as raised:
            cache.set_many({"key": value, "small": "small"})
        assert raised.value.keys == ["key"]
        (error,) = raised.value.errors.values()
        assert cache.get("small") == "small"
    else:
        store = {
            "set": lambda: cache.set("key", value),
            "replace": lambda: cache.replace("key", value),
            "cas": lambda: cache.set("key", value, cas=cache.get_item("key").cas),
        }[way]
        with pytest.raises(mcext.ValueTooLarge) as raised:
            store()
        error = raised.value
    assert isinstance(error, mcext.ValueTooLarge), error
    assert error.may_have_run is False
    return error


WAYS = ["set", "replace", "cas", "set_many"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("codec", [None, "JSON"])
def test_a_value_that_the_cache_refuses_as_too_large_leaves_no_old_one(make, way, codec):
    cache = make(max_value_length=1000, codec=mcext.codecs.JSON() if codec else None)
    for value in ("x" * 1001, ["x" * 2000]):
        cache.set("key", "old")
        too_large(cache, way, value)
        assert cache.get("key") is None
    assert cache.set("key", "x" * (998 if codec else 1000)) is True


@pytest.mark.parametrize("way", WAYS)
def test_a_value_that_the_server_refuses_as_too_large_leaves_no_old_one(cache, server, way):
    cache.set("key", b"old")
    error = too_large(cache, way, b"x" * (2 * MEGABYTE))
    assert error.server == server.address
    assert "too large" in error.message
    assert cache.get("key") is None
    assert cache.get_item("key") is None
    cache.set("key", b"new")
    assert cache.get("key") == b"new"


def test_the_servers_own_limit_is_what_counts():
    with start_memcached("-m", "64", "-I", "4m") as server:
        cache = mcext.Cache([server.address], timeout=AT_ONCE)
        assert cache.set("key", b"x" * (3 * MEGABYTE)) is True
        for way in WAYS:
            cache.set("key", "old")
            too_large(cache, way, b"x" * (4 * MEGABYTE + 1))
            assert cache.get("key") is None


@pytest.mark.parametrize("add", ["add", "append", "prepend"])
def test_what_only_adds_leaves_the_old_value_where_it_is_too_large(make, add):
    cache = make(max_value_length=1000)
    cache.set("key", b"old")
    with pytest.raises(mcext.ValueTooLarge):
        getattr(cache, add)("key", b"x" * 1001)
    assert cache.get("key") == b"old"


def test_a_too_large_value_is_false_where_failures_are_misses_and_the_old_one_is_gone(make):
    cache = make(max_value_length=1000, errors="miss")
    cache.set("key", b"old")
    assert cache.set("key", b"x" * 1001) is False
    assert cache.get("key") is None
    cache.set("key", b"old")
    assert cache.set_many({"key": b"x" * 1001, "other": b"o"}) == ["key"]
    assert cache.get_many(["key", "other"]) == {"other": b"o"}
    cache.set("key", b"old")
    assert cache.set("key", b"x" * 900_000_0) is False


def test_a_value_longer_than_the_cache_takes_is_no_value(make, server):
    """Another cache stored it: it is not read into memory, and the connection goes on."""
    plain_socket.store(server, "long", b"x" * 2000, 0)
    plain_socket.store(server, "short", b"s", 0)
    cache = make(max_value_length=1000)
    for call in (lambda: cache.get("long"), lambda: cache.get_item("long"), lambda: cache.get_and_touch("long", 50)):
        with pytest.raises(mcext.MemcacheError):
            call()
        assert cache.get("short") == b"s"
    with pytest.raises(mcext.PartialFailure) as raised:
        cache.get_many(["long", "short"])
    assert "long" in raised.value.keys
    forgiving = make(max_value_length=1000, errors="miss")
    assert forgiving.get("long", "missed") == "missed"
    assert forgiving.get("short") == b"s"


# ---- undecodable ---------------------------------------------------------------------------------------------------

BOMB = zlib.compress(bytes(MEGABYTE * 4))
UNDECODABLE = {
    "a broken pickle": (b"\x80\x04nonsense", 1),
    "a pickle of what is not there": (b"\x80\x04cno_such_module\nname\n.", 1),
    "no number": (b"12x", 2),
    "no text": (b"\xff\xfe", 16),
    "flags that nobody has": (b"bytes", 1 << 20),
    "no zlib": (b"nonsense", 8),
    "a cut zlib": (zlib.compress(b"x" * 5000)[:-3], 8),
    "a zlib bomb": (BOMB, 8),
    "a cut zstd": (b"\x28\xb5\x2f\xfd\x04", 8),
}


@pytest.mark.parametrize("name", UNDECODABLE)
def test_an_undecodable_value_is_a_decode_error_with_its_flags_or_a_miss(make, server, name):
    data, flags = UNDECODABLE[name]
    plain_socket.store(server, "bad", data, flags)
    plain_socket.store(server, "good", b"g", 0)
    told = []
    cache = make(max_value_length=MEGABYTE, on_event=told.append)
    for call in (
        lambda: cache.get("bad"),
        lambda: cache.get_item("bad"),
        lambda: cache.get_and_touch("bad", 50),
        lambda: cache.update("bad", lambda old: "new"),
    ):
        told.clear()
        with pytest.raises(mcext.DecodeError) as raised:
            call()
        assert isinstance(raised.value, ValueError)
        assert raised.value.flags == flags
        assert raised.value.server == server.address
        assert raised.value.command in ("get", "gets", "mg")
        assert [event.error for event in told if event.kind == "error"] == [raised.value]
        assert cache.get("good") == b"g"
    for call in (cache.get_many, cache.get_items):
        with pytest.raises(mcext.PartialFailure) as raised:
            call(["good", "bad"])
        assert list(raised.value.result) == ["good"]
        assert raised.value.keys == ["bad"]
        (error,) = raised.value.errors.values()
        assert isinstance(error, mcext.DecodeError) and error.flags == flags
    forgiving = make(max_value_length=MEGABYTE, errors="miss")
    assert forgiving.get("bad", "missed") == "missed"
    assert forgiving.get_and_touch("bad", 50, "missed") == "missed"
    assert forgiving.get_item("bad") is None
    assert forgiving.get_many(["good", "bad"]) == {"good": b"g"}
    assert list(forgiving.get_items(["good", "bad"])) == ["good"]
    assert cache.metrics()["connects"] == forgiving.metrics()["connects"] == 1, "a connection was lost for it"


def test_two_undecodable_values_of_one_server_are_both_named(make, server):
    for key in ("bad1", "bad2"):
        plain_socket.store(server, key, b"\xff", 16)
    with pytest.raises(mcext.PartialFailure) as raised:
        make().get_many(["bad1", "none", "bad2"])
    assert sorted(raised.value.keys) == ["bad1", "bad2"]
    assert raised.value.result == {}


def test_a_bomb_does_not_become_memory(make, server):
    import tracemalloc

    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    size = 64 * MEGABYTE
    bombs = {"zlib": zlib.compress(bytes(size)), "zstd": zstd.compress(bytes(size))}
    for name, bomb in bombs.items():
        plain_socket.store(server, name, bomb, 8)
    for cache in (make(max_value_length=MEGABYTE), make(max_value_length=MEGABYTE, codec=mcext.codecs.Default())):
        for name in bombs:
            tracemalloc.start()
            with pytest.raises(mcext.DecodeError):
                cache.get(name)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 8 * MEGABYTE, (name, peak)
    for name in bombs:
        assert len(make().get(name)) == size


def test_zstd_is_read_whatever_the_cache_stores_itself(make, server):
    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    text = "text " * 1000
    writer = make(compression=mcext.Compression(method="zstd"))
    assert writer.set("key", text) is True
    assert zstd.decompress(plain_socket.fetch(server, "key")[0]) == text.encode()
    assert make().get("key") == text
    assert make(compression=mcext.Compression()).get("key") == text
    data, flags = plain_socket.fetch(server, "key")
    for end in (4, 5, len(data) // 2, len(data) - 1):
        plain_socket.store(server, "cut", data[:end], flags)
        with pytest.raises(mcext.DecodeError):
            make().get("cut")


def test_without_pickles_none_is_made_or_read(make, server):
    cache = make(allow_pickle=False)
    plain_socket.store(server, "pickle", pickle.dumps([1]), 1)
    plain_socket.store(server, "compressed", zlib.compress(pickle.dumps([1])), 9)
    for key in ("pickle", "compressed"):
        with pytest.raises(mcext.DecodeError):
            cache.get(key)
    cache.set("key", b"old")
    before = cache.metrics()["bytes_out"]
    for value in ([1], None, 1.5, True, {}):
        with pytest.raises((TypeError, ValueError)) as raised:
            cache.set("key", value)
        assert not isinstance(raised.value, mcext.MemcacheError)
    assert cache.metrics()["bytes_out"] == before
    assert cache.get("key") == b"old"
    for value in (b"b", "t", 5):
        assert cache.set("key", value) and cache.get("key") == value


# ---- append and prepend --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, mcext.Compression(min_length=10)])
def test_append_and_prepend_add_to_the_value(make, compression):
    cache = make(compression=compression)
    cache.delete("none")
    cache.set("key", b"m")
    assert cache.append("key", b"") is True
    assert cache.prepend("key", b"") is True
    assert cache.get("key") == b"m"
    assert cache.append("key", b"z" * 2000) is True, "what is added is never compressed"
    assert cache.prepend("key", b"a" * 2000) is True
    assert cache.get("key") == b"a" * 2000 + b"m" + b"z" * 2000
    assert cache.append("none", b"x") is False
    assert cache.prepend("none", b"x") is False
    cache.set("text", "b")
    assert cache.append("text", "c") and cache.prepend("text", "a")
    assert cache.get("text") == "abc"


@pytest.mark.parametrize("codec", [None, "JSON"])
def test_what_is_added_to_no_bytes_is_the_value(make, codec):
    """No bytes are stored as a pickle, which stays where something is added behind it."""

    class Bytes:
        def encode(self, value):
            return value, 0

        def decode(self, data, flags):
            assert flags == 0
            return data

    cache = make(codec=Bytes() if codec else None)
    reads = (
        lambda key: cache.get(key),
        lambda key: cache.get_many([key])[key],
        lambda key: cache.get_item(key).value,
        lambda key: cache.get_items([key])[key].value,
    )
    cache.set("key", b"")
    expected = b""
    for number in range(3):
        expected += b"%d: \xff\x00x\n" % number
        assert cache.append("key", b"%d: \xff\x00x\n" % number) is True
        assert [read("key") for read in reads] == [expected] * 4


# ---- codecs that misbehave -----------------------------------------------------------------------------------------


def codec(encode=None, decode=None):
    class Codec:
        def encode(self, value):
            return encode(value) if encode else (value, 0)

        def decode(self, data, flags):
            return decode(data, flags) if decode else data

    return Codec()


@pytest.mark.parametrize(
    "made",
    [None, b"bytes", (), (b"bytes",), (b"bytes", 0, 0), ["b", 0], ("text", 0), (bytearray(b"b"), 0), (b"b", "0"),
     (b"b", 1.0), (b"b", -1), (b"b", 2**32), (b"b", 2**64), (b"b", None)],
    ids=repr,
)  # fmt: skip
def test_what_a_codec_returns_that_is_no_bytes_and_flags_is_refused_before_anything_is_sent(make, made):
    cache = make(codec=codec(encode=lambda value: made))
    for call in (lambda: cache.set("key", 1), lambda: cache.append("key", 1)):
        with pytest.raises((TypeError, ValueError), match="codec"):
            call()
    assert cache.metrics()["bytes_out"] == 0
    with pytest.raises((TypeError, ValueError), match="codec"):
        cache.set_many({"key": 1})
    assert cache.version()


@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyError, MemoryError, KeyboardInterrupt, RecursionError])
def test_what_a_codec_raises_comes_from_encode_as_it_is_and_from_decode_as_a_decode_error(make, error):
    raised_error = error("of the codec")

    def fail(*arguments):
        raise raised_error

    plain = make()
    plain.set("key", b"old")
    plain.set("other", b"other")
    cache = make(codec=codec(encode=fail))
    with pytest.raises(error) as raised:
        cache.set("key", b"new")
    assert raised.value is raised_error
    assert plain.get("key") == b"old"
    cache = make(codec=codec(decode=fail))
    for call in (lambda: cache.get("key"), lambda: cache.get_item("key"), lambda: cache.get_and_touch("key", 9)):
        if issubclass(error, Exception) and error is not MemoryError:
            with pytest.raises(mcext.DecodeError) as raised:
                call()
            assert raised.value.__cause__ is raised_error
        else:
            with pytest.raises(error) as raised:
                call()
            assert raised.value is raised_error
    assert cache.metrics()["connects"] == 1
    assert plain.get("other") == b"other"


def test_a_codec_may_use_the_cache(make):
    plain = make()
    caches = []

    def encode(value):
        caches[0].delete("encoded") if value != b"inner" else None
        return value, 0

    def decode(data, flags):
        if data != b"inner":
            caches[0].set("decoded", b"inner")
            assert caches[0].get("decoded") == b"inner"
        return data

    caches.append(make(codec=codec(encode, decode)))
    plain.set("encoded", b"x")
    assert caches[0].set("key", b"value") is True
    assert plain.get("encoded") is None
    assert caches[0].get("key") == b"value"
    assert caches[0].get_many(["key", "none"]) == {"key": b"value"}
    assert caches[0].get_item("key").value == b"value"
    assert caches[0].set_many({"a": b"1", "b": b"2"}) == []
    assert plain.get_many(["a", "b"]) == {"a": b"1", "b": b"2"}


def test_a_codec_may_close_the_cache_and_change_its_servers(make, server):
    caches = []

    def upset(*arguments):
        caches[0].close()
        caches[0].set_servers([server.address])

    caches.append(
        make(
            codec=codec(
                lambda value: upset() or (value, 0),
                lambda data, flags: upset() or data,
            )
        )
    )
    for _ in range(3):
        assert caches[0].set("key", b"value") is True
        assert caches[0].get("key") == b"value"
        assert caches[0].set_many({"a": b"1", "b": b"2"}) == []
        assert caches[0].get_many(["a", "b"]) == {"a": b"1", "b": b"2"}
        assert caches[0].get_items(["a"])["a"].value == b"1"


def test_a_value_whose_pickling_uses_the_cache_is_stored(cache):
    used = []

    class Value:
        def __reduce__(self):
            cache.set("inner", b"inner")
            used.append(cache.get("inner"))
            return (list, ())

    assert cache.set("key", Value()) is True
    assert cache.set_many({"many": Value()}) == []
    assert used == [b"inner", b"inner"]
    assert cache.get("key") == cache.get("many") == []


class InParts(tuple):
    """An answer of which the rest follows when the codec has decoded a value of the first part."""

    def __new__(cls, parts, decoded):
        made = super().__new__(cls, parts)
        made.decoded = decoded
        return made

    def __iter__(self):
        first, rest = super().__iter__()
        yield first
        assert self.decoded.wait(AT_ONCE)
        yield rest


@pytest.mark.parametrize("name", ["get_many", "get_items"])
def test_a_stub_that_comes_in_parts_is_a_miss(name):
    decoded = threading.Event()

    def decode(data, flags):
        decoded.set()
        return data

    answers = {
        b"get": (b"VALUE a 0 1\r\na\r\nVALUE stub 0 0\r\n", b"\r\nEND\r\n"),
        b"mg a": (b"VA 1 ka f0 c1 t-1 l0 s1 h0\r\na\r\nVA 0 kstub f0 c2 t9 l0 s0 h0\r\n", b"\r\n"),
        b"mn": (b"MN\r\n", b""),
        b"mg AA==": (b"EN kAA== b O1\r\n", b""),
    }

    def script(command, number):
        if command.startswith(b"mg stub"):
            return b""
        for word in (b"get", b"mg a"):
            if command.startswith(word + b" "):
                return InParts(answers[word], decoded)
        return next(parts[0] for word, parts in answers.items() if command.startswith(word))

    with ScriptedServer(script) as server:
        with mcext.Cache([server.address], timeout=AT_ONCE, codec=codec(decode=decode)) as cache:
            assert list(getattr(cache, name)(["a", "stub"])) == ["a"]
