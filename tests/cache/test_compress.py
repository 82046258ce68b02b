"""mcext.Compression, and reading what was compressed: by zlib or zstd, whole or cut, and never longer than allowed."""

import contextlib
import dataclasses
import pickle
import random
import sys
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_socket import store

import mcext
from mcext import codecs
from mcext.compress import FLAG, Compression, ZstdMissing, compressing, decompress

LIMIT = 1 << 20
# backports.zstd is installed for one Python only.
METHODS = ["zlib", pytest.param("zstd", marks=pytest.mark.frameworks)]
each_method = pytest.mark.parametrize("method", METHODS)
plain_data = st.binary(max_size=3000) | st.builds(
    lambda piece, times: piece * times, st.binary(max_size=9), st.integers(0, 900)
)


def zstd():
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"min_length": "1"}, TypeError, "min_length: an int, not str"),
        ({"min_length": True}, TypeError, "min_length"),
        ({"min_length": -1}, ValueError, "min_length: 0 or more"),
        ({"method": "lz4"}, ValueError, "method: 'zlib' or 'zstd', not 'lz4'"),
        ({"method": None}, ValueError, "method"),
        ({"level": "9"}, TypeError, "level: an int or None, not str"),
        ({"level": True}, TypeError, "level"),
        ({"level": 0}, ValueError, "level: 1 to 9 for zlib"),
        ({"level": 10}, ValueError, "level"),
        pytest.param(
            {"method": "zstd", "level": 23}, ValueError, "level: -?[0-9]+ to 22 for zstd", marks=pytest.mark.frameworks
        ),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(keywords, error, words):
    with pytest.raises(error, match=words):
        Compression(**keywords)


def test_it_does_not_change_and_equals_its_like():
    one = Compression(min_length=10)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.min_length = 5
    assert one == Compression(10) != Compression(11)
    assert hash(one) == hash(Compression(10))
    assert pickle.loads(pickle.dumps(one)) == one
    assert mcext.Compression is Compression


@pytest.mark.parametrize(
    ("method", "level"),
    [("zlib", 1), ("zlib", 9)] + [pytest.param("zstd", n, marks=pytest.mark.frameworks) for n in (-5, 22)],
)
def test_levels_reach_the_method(method, level):
    text = b"".join(b"%d " % (number * number) for number in range(9000))
    expected = (zlib if method == "zlib" else zstd()).compress(text, level)
    assert (
        Compression(method=method, level=level).compress(text) == expected != Compression(method=method).compress(text)
    )
    assert decompress(expected, LIMIT) == text


@each_method
@given(data=plain_data)
def test_what_was_compressed_is_read_as_it_was(method, data):
    compressed = Compression(method=method).compress(data)
    assert decompress(compressed, len(data)) == data
    if data:
        with pytest.raises(ValueError, match="longer than"):
            decompress(compressed, len(data) - 1)


@each_method
def test_a_value_cut_at_any_byte_is_refused(method):
    compressed = Compression(method=method).compress(random.Random(1).randbytes(300) + bytes(300))
    for length in range(len(compressed)):
        with pytest.raises(ValueError):
            decompress(compressed[:length], LIMIT)


@pytest.mark.frameworks
def test_bytes_behind_what_zstd_made_are_refused():
    compressed = Compression(method="zstd").compress(b"value" * 99)
    for behind in (b"x", b"\0", compressed):
        with pytest.raises(ValueError, match="behind the end"):
            decompress(compressed + behind, LIMIT)


@each_method
@given(data=plain_data, where=st.integers(min_value=0), bit=st.integers(0, 7))
def test_an_altered_byte_gives_a_value_or_a_value_error_and_never_more_than_allowed(method, data, where, bit):
    altered = bytearray(Compression(method=method).compress(data))
    altered[where % len(altered)] ^= 1 << bit
    with contextlib.suppress(ValueError):
        assert len(decompress(bytes(altered), len(data))) <= len(data)


@given(st.binary(max_size=200))
def test_bytes_that_nobody_compressed_are_a_value_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        assert len(decompress(data, LIMIT)) <= LIMIT


def peak(function):
    """How much memory the function took at most at a time."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(data):
    with pytest.raises(ValueError, match=f"longer than {LIMIT} bytes"):
        decompress(data, LIMIT)


def test_a_zlib_bomb_is_stopped_at_the_limit():
    bomb = zlib.compress(bytes(100 * LIMIT))
    assert peak(lambda: refused(bomb)) < 4 * LIMIT


@pytest.mark.frameworks
def test_a_zstd_bomb_that_says_its_length_is_refused_before_it_is_read():
    bomb = zstd().compress(bytes(100 * LIMIT))
    assert zstd().get_frame_info(bomb).decompressed_size == 100 * LIMIT
    decompress(zstd().compress(b"loaded"), LIMIT)
    assert peak(lambda: refused(bomb)) < LIMIT / 2


def in_steps(data):
    """A zstd frame that does not say how long it will be."""
    machine = zstd().ZstdCompressor()
    frame = machine.compress(data) + machine.flush()
    assert zstd().get_frame_info(frame).decompressed_size is None
    return frame


@pytest.mark.frameworks
def test_a_zstd_bomb_that_says_no_length_is_stopped_at_the_limit():
    bomb = in_steps(bytes(100 * LIMIT))
    assert peak(lambda: refused(bomb)) < 4 * LIMIT
    assert decompress(in_steps(bytes(LIMIT)), LIMIT) == bytes(LIMIT)
    assert decompress(in_steps(b""), 0) == b""


@pytest.mark.frameworks
def test_a_zstd_frame_that_lies_about_its_length_is_refused():
    frame = bytearray(zstd().compress(random.Random(1).randbytes(LIMIT)))
    assert frame[4] >> 6 == 2, "four bytes of length follow"
    frame[5:9] = (10).to_bytes(4, "little")
    with pytest.raises(ValueError, match="zstd cannot decompress"):
        decompress(bytes(frame), LIMIT)


@pytest.mark.frameworks
def test_a_zstd_frame_with_a_dictionary_is_refused():
    samples = [
        b"a sample %d of many that are alike, and more of it: %d" % (number, number % 7) for number in range(999)
    ]
    frame = zstd().compress(samples[5], zstd_dict=zstd().train_dict(samples, 1000))
    with pytest.raises(ValueError, match="zstd cannot decompress"):
        decompress(frame, LIMIT)


@pytest.mark.frameworks
def test_other_clients_take_what_zstd_made_for_no_value(memcached):
    import pylibmc
    from pymemcache.client.base import Client
    from pymemcache.serde import compressed_serde

    codec = compressing(codecs.Default(), Compression(method="zstd"))
    data, flags = codec.encode("text" * 1000)
    assert flags == 24
    store(memcached, "key", data, flags)
    assert mcext.Client([memcached.address]).get("key") is None
    with pytest.raises(pylibmc.Error):
        pylibmc.Client([memcached.address]).get("key")
    with pytest.raises(zlib.error):
        Client((memcached.host, memcached.port), serde=compressed_serde).get("key")


def test_without_zstd_the_error_says_what_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "compression" if sys.version_info >= (3, 14) else "backports", None)
    need = "built with zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    with pytest.raises(ImportError, match=f"zstd needs .*{need}"):
        Compression(method="zstd")
    with pytest.raises(ZstdMissing, match=need) as caught:
        decompress(b"\x28\xb5\x2f\xfd whatever", LIMIT)
    assert isinstance(caught.value, ValueError), "a value that this process cannot decode"
    assert decompress(zlib.compress(b"value"), LIMIT) == b"value"


# ---- compressing() ------------------------------------------------------------------------------------------------


class Reversed:
    """A user's own codec: bytes backwards, under a flag of its own."""

    def __init__(self, flags=1 << 20):
        self.flags = flags

    def encode(self, value):
        return value[::-1], self.flags

    def decode(self, data, flags):
        assert flags == self.flags
        return data[::-1]


@each_method
def test_a_codecs_bytes_are_compressed_where_that_makes_them_smaller(method):
    codec = compressing(Reversed(), Compression(min_length=100, method=method))
    long, short, noise = b"ab" * 500, b"ab" * 49, random.Random(1).randbytes(1000)
    data, flags = codec.encode(long)
    assert flags == 1 << 20 | FLAG and len(data) < len(long)
    assert codec.decode(data, flags) == long
    for value in (short, noise):
        assert codec.encode(value) == (value[::-1], 1 << 20)
        assert codec.decode(value[::-1], 1 << 20) == value
    assert codec.encode(b"ab" * 50)[1] & FLAG, "of min_length bytes"


@pytest.mark.parametrize("codec", [codecs.Default(), codecs.JSON(), codecs.Restricted([]), codecs.Signed(b"k" * 16)])
@each_method
@given(value=st.text() | st.integers() | st.lists(st.integers(0, 9), max_size=300))
def test_our_own_codecs_read_what_is_compressed_also_where_they_do_not_compress(codec, method, value):
    data, flags = compressing(codec, Compression(min_length=0, method=method)).encode(value)
    assert codec.decode(data, flags) == value
    assert compressing(codec, Compression()).decode(data, flags) == value


@pytest.mark.parametrize("codec", [codecs.Default(), codecs.JSON()])
def test_counters_stay_digits(codec):
    for value in (11111111111111111111, 2**64 - 1, 10**19, 0):
        assert compressing(codec, Compression(min_length=0)).encode(value)[0] == b"%d" % value


@pytest.mark.parametrize("codec", [codecs.Pylibmc(), codecs.Libmc(), codecs.Pymemcache()])
def test_formats_of_other_clients_are_refused(codec):
    for inner in (codec, codecs.Signed(b"k" * 16, codec)):
        with pytest.raises(
            ValueError, match=f"compression: {type(codec).__name__} has flags and compression of its own"
        ):
            compressing(inner, Compression())


def test_a_codec_that_has_another_use_for_the_flag_is_refused():
    with pytest.raises(ValueError, match="compression: the codec Reversed uses flag 8 itself"):
        compressing(Reversed(flags=12), Compression()).encode(b"value")


def test_something_else_is_no_compression():
    with pytest.raises(TypeError, match="compression: an mcext.Compression, not str"):
        compressing(codecs.JSON(), "zlib")


def test_the_limit_holds_through_all_layers():
    inner = Reversed()
    codec = compressing(inner, Compression(min_length=0))
    data, flags = codec.encode(bytes(1000))
    codec.max_length = 999
    with pytest.raises(ValueError, match="longer than 999 bytes"):
        codec.decode(data, flags)
    assert not hasattr(inner, "max_length")

    signed = codecs.Signed(b"k" * 16, codecs.JSON())
    codec = compressing(signed, Compression(min_length=0))
    data, flags = codec.encode("x" * 1000)
    for outer in (codec, signed):
        assert outer.decode(data, flags) == "x" * 1000
        outer.max_length = 999
        with pytest.raises(ValueError, match="longer than 999 bytes"):
            outer.decode(data, flags)
        outer.max_length = 134217728
