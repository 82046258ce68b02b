"""mcext.codecs: what each codec writes and reads, and that what it does not know is refused.

The formats of other clients are compared with the real clients, on a real server: they write and our codec reads the
bytes and flags that stand there, and the other way round.
"""

import datetime
import decimal
import enum
import fractions
import pickle
import random
import sys
import zlib

import oracle
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from other_clients import patient
from plain_socket import fetch, store

import mcext
from mcext import _core, codecs
from mcext.testing import memcached as start_memcached

KEY, OTHER_KEY = b"k" * 32, b"o" * 16


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    pass


class Data(bytes):
    pass


VALUES = [
    *(b"", b"bytes", b"\0\r\nEND\r\n", bytes(5000), "", "text", "Grüße \U0001f600", "x" * 5000),
    *(0, -1, 7, 2**63, 2**64, -(2**70), 10**400, True, False, None, 1.5, -0.0, 1j),
    *([], [1, "a", b"b", None], (), (1, (2,)), {}, {"a": {1: [2]}}, {1, 2}, frozenset("a"), ["x" * 50] * 200),
    *(bytearray(b"array"), Number.ONE, Text("text"), Data(b"data")),
    *(datetime.date(2024, 2, 29), decimal.Decimal("1.10"), fractions.Fraction(1, 3), datetime.timedelta(1)),
]
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ALL = [
    codecs.Default(),
    codecs.Restricted(["datetime.date"]),
    codecs.JSON(),
    codecs.Signed(KEY),
    codecs.Pymemcache(),
    codecs.Pymemcache(min_compress_len=400),
    codecs.Pylibmc(),
    codecs.Pylibmc(min_compress_len=400),
    codecs.Libmc(),
    codecs.Libmc(min_compress_len=400),
]
each_value = pytest.mark.parametrize(
    "value", VALUES, ids=[f"{number}-{type(one).__name__}" for number, one in enumerate(VALUES)]
)
each_codec = pytest.mark.parametrize("codec", ALL, ids=lambda codec: type(codec).__name__)


@pytest.fixture(scope="module")
def server():
    with start_memcached() as running:
        yield running


def same(one, other):
    """Equal, and of one type all the way down: 1 is not True, nor is 0.0 -0.0."""
    return type(one) is type(other) and one == other and repr(one) == repr(other)


# ---- all of them --------------------------------------------------------------------------------------------------


@each_codec
def test_bytes_under_flags_that_the_codec_does_not_know_are_refused(codec):
    nonsense = b"\xff\xfe"  # no text, number, pickle or JSON; nor what marshal or zlib makes
    for flags in [*range(1, 300), 1 << 12, 1 << 31, 2**32 - 1]:
        with pytest.raises(ValueError):
            codec.decode(nonsense, flags)


@pytest.mark.parametrize("codec", ALL[2:], ids=lambda codec: type(codec).__name__)
def test_an_unknown_flag_beside_a_known_one_is_refused(codec):
    """All but the default format, which passes over it, as python-memcached does."""
    data, flags = codec.encode("text")
    for bit in (7, 9, 20, 31):
        with pytest.raises(ValueError):
            codec.decode(data, flags | 1 << bit)


@each_codec
@given(data=st.binary(max_size=40), flags=st.sampled_from([2, 4, 6, 8, 10, 16, 18, 20, 24, 32, 40, 64, 72]))
def test_bytes_that_nobody_encoded_are_a_value_or_a_value_error(codec, data, flags):
    """Without the flags of pickle and marshal, which are not made for that."""
    assume(not (isinstance(codec, codecs.Libmc) and flags & 32))
    try:
        codec.decode(data, flags)
    except ValueError as error:
        assert str(error)


@each_codec
def test_a_value_longer_than_allowed_is_refused_compressed_or_not(codec):
    text = "ab" * 1000
    data, flags = codec.encode(text)
    compressed = zlib.compress(data), flags | (16 if isinstance(codec, codecs.Libmc) else 8)
    stored = [(data, flags)]
    if not isinstance(codec, codecs.Signed) and len(data) >= len(text):
        stored.append(compressed)
    assert codec.max_length == 128 * 1024 * 1024
    try:
        for one in stored:
            codec.max_length = 134217728
            assert codec.decode(*one) == text
            codec.max_length = 1999
            with pytest.raises(ValueError, match="longer than 1999 bytes"):
                codec.decode(*one)
    finally:
        codec.max_length = 134217728


@each_codec
def test_a_cut_value_that_was_compressed_is_refused(codec):
    data, flags = codec.encode("ab" * 1000)
    if len(data) >= 2000 and not isinstance(codec, codecs.Signed):
        data, flags = zlib.compress(data), flags | (16 if isinstance(codec, codecs.Libmc) else 8)
    for length in range(len(data)):
        with pytest.raises(ValueError):
            codec.decode(data[:length], flags)


@each_codec
def test_an_error_of_encoding_is_the_callers(codec):
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError, UnicodeEncodeError)):
        codec.encode(lambda: None)
    if not isinstance(codec, codecs.Libmc):  # marshal keeps them
        with pytest.raises(UnicodeEncodeError):
            codec.encode("\ud800")


# ---- the default format -------------------------------------------------------------------------------------------


@each_value
def test_the_default_format_is_the_clients(server, value):
    client = mcext.Client([server.address])
    codec = codecs.Default()
    assert client.set("theirs", value, min_compress_len=1000)
    assert same(codec.decode(*fetch(server, "theirs")), value)
    store(server, "ours", *codec.encode(value))
    assert same(client.get("ours"), value)
    if value != b"":
        expected = type(value) in (bytes, str, int) and codec.encode(value)
        assert client.set("theirs", value) and expected in (False, fetch(server, "theirs"))


@given(value=plain_values)
def test_default_round_trips(value):
    assert same(codecs.Default().decode(*codecs.Default().encode(value)), value)


@given(value=st.integers() | st.text() | st.binary(max_size=20) | st.just(b"9 "), flags=st.integers(0, 127))
def test_default_reads_all_flags_as_the_client_does(value, flags):
    """A text of digits under the flag of an int, and so on; pickles under their own flag alone."""
    assume(flags & 0b10111 != 1)
    data = value if isinstance(value, bytes) else str(value).encode()
    if flags & 8:
        data = zlib.compress(data)
    theirs = _core._decode(mcext.Client([]), flags, data + b"\r\n")
    if theirs is None:
        with pytest.raises(ValueError):
            codecs.Default().decode(data, flags)
    else:
        assert same(codecs.Default().decode(data, flags), theirs)


@pytest.mark.parametrize("codec", [codecs.Default(), codecs.Pymemcache(), codecs.Pylibmc(), codecs.Libmc()])
def test_no_bytes_are_stored_as_what_every_client_reads_and_no_lease_looks_like(server, codec):
    data, flags = codec.encode(b"")
    assert (pickle.loads(data), flags) == (b"", 1)
    assert codec.decode(data, flags) == codec.decode(b"", 0) == b""
    store(server, "empty", data, flags)
    assert mcext.Client([server.address]).get("empty") == oracle.load().Client([server.address]).get("empty") == b""


def test_no_bytes_that_zlib_compressed_are_read():
    for codec in (codecs.Default(), codecs.Restricted([]), codecs.Pymemcache(), codecs.Pylibmc()):
        assert codec.decode(zlib.compress(b""), 8) == b""


SEEN = []


def note(what):
    SEEN.append(what)


class Recorder:
    """Unpickling one is seen."""

    def __reduce__(self):
        return note, ("unpickled",)


@pytest.fixture
def seen():
    SEEN.clear()
    return SEEN


def test_whatever_a_pickle_raises_is_a_value_error():
    huge = b"cbuiltins\nbytearray\n(L%d\nltR." % (1 << 62)
    raises = b"cbuiltins\nexec\n(Vraise KeyError\ntR."
    for data in (b"", b".", pickle.dumps([1])[:-2], b"cmissing_module\nName\n.", huge, raises):
        for codec in (codecs.Default(), codecs.Pymemcache(), codecs.Pylibmc(), codecs.Libmc(), codecs.Restricted([])):
            with pytest.raises(ValueError, match="cannot be unpickled"):
                codec.decode(data, 1)


# ---- Restricted ---------------------------------------------------------------------------------------------------


@given(value=plain_values)
def test_restricted_reads_plain_data(value):
    codec = codecs.Restricted([])
    data, flags = codec.encode(value)
    assert (data, flags) == codecs.Default().encode(value)
    assert same(codec.decode(data, flags), value)


def test_restricted_reads_the_named_types_and_no_others(seen):
    value = [datetime.date(2024, 2, 29)]
    for types in (["datetime.date"], {datetime.date}):
        assert codecs.Restricted(types).decode(*codecs.Default().encode(value)) == value
    for refused in (value, decimal.Decimal(1), Recorder()):
        with pytest.raises(ValueError, match="not an allowed type"):
            codecs.Restricted([Number]).decode(pickle.dumps(refused), 1)
    assert seen == []


def test_restricted_names_what_is_no_type():
    with pytest.raises(TypeError, match="allowed: a set of types and names"):
        codecs.Restricted("datetime.date")
    with pytest.raises(TypeError, match="is not a type"):
        codecs.Restricted(["os.system"])


# ---- JSON ---------------------------------------------------------------------------------------------------------


@given(value=json_values)
def test_json_round_trips(value):
    data, flags = codecs.JSON().encode(value)
    assert flags == 32
    assert same(codecs.JSON().decode(data, flags), value)


def test_json_refuses_what_json_has_not():
    for value in (b"bytes", {1, 2}, datetime.date(2024, 2, 29), object()):
        with pytest.raises(TypeError, match="not JSON serializable"):
            codecs.JSON().encode(value)
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            codecs.JSON().encode(value)
    for data in (b"", b"{", b"NaN", b"-Infinity", b"\xff", b'"a" b', b"[" * 100_000, b"9" * 5000):
        with pytest.raises(ValueError):
            codecs.JSON().decode(data, 32)


def test_json_does_not_take_text_or_pickles_of_others_for_json():
    for value in ("123", b"123", [1]):
        data, flags = codecs.Default().encode(value)
        with pytest.raises(ValueError, match=f"JSON does not know the flags {flags}"):
            codecs.JSON().decode(data, flags)


def test_json_ints_are_counters(server):
    client = mcext.Client([server.address])
    codec = codecs.JSON()
    store(server, "counter", *codec.encode(10))
    assert client.decr("counter") == 9
    assert codec.decode(*fetch(server, "counter")) == 9
    assert client.set("initial", 5) and client.incr("initial") == 6, "as incr(initial=5) leaves it"
    assert codec.decode(*fetch(server, "initial")) == 6


@pytest.mark.parametrize("codec", [codecs.JSON(), codecs.Signed(KEY)], ids=["JSON", "Signed"])
def test_clients_that_have_no_such_codec_meet_an_undecodable_value(server, codec):
    store(server, "key", *codec.encode("text"))
    assert mcext.Client([server.address]).get("key") is None
    for other in ALL:
        if type(other) is not type(codec):
            with pytest.raises(ValueError):
                other.decode(*fetch(server, "key"))


# ---- Signed -------------------------------------------------------------------------------------------------------


@given(value=plain_values)
def test_signed_round_trips(value):
    codec = codecs.Signed(KEY)
    assert same(codec.decode(*codec.encode(value)), value)


class Watched:
    """A codec that notes what it is given to decode."""

    def __init__(self):
        self.seen = []

    def encode(self, value):
        return value, 1 << 20

    def decode(self, data, flags):
        self.seen.append((data, flags))
        return data


@given(value=st.binary(max_size=200), where=st.integers(min_value=0), mask=st.integers(1, 255))
def test_every_altered_byte_is_refused_before_the_inner_codec_sees_it(value, where, mask):
    inner = Watched()
    codec = codecs.Signed(KEY, inner)
    data, flags = codec.encode(value)
    altered = bytearray(data)
    altered[where % len(data)] ^= mask
    for other, its_flags in [(bytes(altered), flags), (data + b"x", flags), (b"x" + data, flags), (data, flags ^ mask)]:
        with pytest.raises(ValueError, match="sign"):
            codec.decode(other, its_flags)
    for length in range(len(data)):
        with pytest.raises(ValueError, match="sign"):
            codec.decode(data[:length], flags)
    assert inner.seen == []
    assert codec.decode(data, flags) == value
    assert inner.seen == [(value, 1 << 20)]


def test_the_flags_of_the_inner_codec_are_signed(seen):
    codec = codecs.Signed(KEY)
    data, flags = codec.encode(pickle.dumps(Recorder()))  # bytes, not to be unpickled
    assert data[32:36] == bytes(4)
    with pytest.raises(ValueError, match="signature"):
        codec.decode(data[:32] + b"\0\0\0\1" + data[36:], flags)
    assert seen == []


def test_nothing_unsigned_is_unpickled_or_decompressed(seen):
    codec = codecs.Signed(KEY)
    data = pickle.dumps(Recorder())
    signed, flag = codec.encode(Recorder())
    for unsigned, flags in [
        (data, 1),
        (data, flag),
        (zlib.compress(data), 9),
        (zlib.compress(signed), flag | 8),
        (bytes(36) + data, flag),
        codecs.Signed(OTHER_KEY).encode(Recorder()),
    ]:
        with pytest.raises(ValueError, match="sign"):
            codec.decode(unsigned, flags)
    assert seen == []
    codec.decode(signed, flag)
    assert seen == ["unpickled"]


def test_a_key_is_changed_without_losing_a_value():
    old, both, other, new = (codecs.Signed(keys) for keys in (KEY, [KEY, OTHER_KEY], (OTHER_KEY, KEY), [OTHER_KEY]))
    for reader in (old, both, other):
        assert reader.decode(*both.encode("value")) == "value"
    for reader in (both, other, new):
        assert reader.decode(*other.encode("value")) == "value"
    for writer, reader in ((both, new), (other, old)):
        with pytest.raises(ValueError, match="not that of any of the keys"):
            reader.decode(*writer.encode("value"))


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        ("k" * 32, TypeError, "key: bytes, not str"),
        ([KEY, "k" * 32], TypeError, "key: bytes, not str"),
        (bytearray(32), TypeError, "key: bytes"),
        (b"k" * 15, ValueError, "key: at least 16 bytes, not 15"),
        ([KEY, b""], ValueError, "key: at least 16 bytes"),
        ([], ValueError, "key: a list of at least one"),
        (None, TypeError, "not iterable"),
    ],
)
def test_a_key_of_the_wrong_kind_is_named(key, error, words):
    with pytest.raises(error, match=words):
        codecs.Signed(key)


def test_the_key_is_in_no_repr_and_no_error():
    codec = codecs.Signed(b"secret-secret-secret")
    with pytest.raises(ValueError) as caught:
        codec.decode(bytes(50), 64)
    assert "secret" not in repr(codec) + repr(caught.value)


def test_signed_around_other_codecs():
    for inner in (codecs.JSON(), codecs.Pylibmc(min_compress_len=10), codecs.Restricted([])):
        codec = codecs.Signed(KEY, inner)
        assert codec.decode(*codec.encode({"a": ["b" * 100]})) == {"a": ["b" * 100]}
    with pytest.raises(TypeError, match="codec: str has no decode"):
        codecs.Signed(KEY, "json")


# ---- pymemcache's objects -----------------------------------------------------------------------------------------


class Serde:
    def serialize(self, key, value):
        assert key is None
        return (str(value), 7) if isinstance(value, int) else (value, 5)

    def deserialize(self, key, value, flags):
        assert key is None
        return {7: int, 5: bytes}[flags](value)


def test_objects_of_pymemcaches_kind_are_codecs():
    codec = codecs.as_codec(Serde())
    assert codec.encode(12) == (b"12", 7) and codec.decode(b"12", 7) == 12
    assert codec.encode(b"12") == (b"12", 5) and codec.decode(b"12", 5) == b"12"
    with pytest.raises(TypeError, match=r"serialize\(\) must give bytes or str, not list"):
        codec.encode([])
    for data, flags in ((b"x", 7), (b"x", 6)):
        with pytest.raises(ValueError, match=r"Serde.deserialize\(\) failed"):
            codec.decode(data, flags)


def test_a_codec_is_taken_as_it_is():
    for codec in ALL:
        assert codecs.as_codec(codec) is codec


class Half:
    def encode(self, value):
        return value, 0


class HalfSerde:
    def deserialize(self, key, value, flags):
        return value


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (Half(), "codec: Half has no decode$"),
        (HalfSerde(), "codec: HalfSerde has no serialize$"),
        (object(), "codec: object has no encode and no decode$"),
        ("json", "codec: str has no decode$"),
        (codecs.JSON, "codec: an object, not the class JSON$"),
    ],
)
def test_what_an_object_lacks_to_be_a_codec_is_named(thing, words):
    with pytest.raises(TypeError, match=words):
        codecs.as_codec(thing)


# ---- other clients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [codecs.Pymemcache, codecs.Pylibmc, codecs.Libmc])
def test_min_compress_len_is_checked(kind):
    with pytest.raises(TypeError, match="min_compress_len: an int, not str"):
        kind(min_compress_len="1")
    with pytest.raises(ValueError, match="min_compress_len: 0 or more, not -1"):
        kind(min_compress_len=-1)


@pytest.mark.parametrize("kind", [codecs.Pymemcache, codecs.Pylibmc, codecs.Libmc])
def test_values_longer_than_min_compress_len_are_compressed_where_it_helps(kind):
    codec = kind(min_compress_len=100)
    plain = codec.encode(b"a" * 100)
    assert plain == (b"a" * 100, 0)
    data, flags = codec.encode(b"a" * 101)
    assert len(data) < 101 and flags and codec.decode(data, flags) == b"a" * 101
    assert kind().encode(b"a" * 5000) == (b"a" * 5000, 0)


def test_arrays_of_numpy_are_pickled_for_libmc_and_not_marshalled_as_bytes():
    class Array(bytearray):
        __module__ = "numpy"

        def __reduce_ex__(self, protocol):
            return list, (bytes(self),)

    data, flags = codecs.Libmc().encode(Array(b"ab"))
    assert (flags, codecs.Libmc().decode(data, flags)) == (1, [97, 98])


class Pymemcache:
    """pymemcache itself; its default serde object of pickles, or with least the one that compresses."""

    def __init__(self, server, least):
        from pymemcache import serde
        from pymemcache.client.base import Client

        kind = serde.CompressedSerde(min_compress_len=least) if least else serde.pickle_serde
        self.client = Client((server.host, server.port), serde=kind)
        self.codec = codecs.Pymemcache(min_compress_len=least)
        self.get = self.client.get

    def set(self, key, value):
        assert self.client.set(key, value, noreply=False)


class Pylibmc:
    def __init__(self, server, least):
        import pylibmc

        self.client = pylibmc.Client([f"{server.host}:{server.port}"])
        self.codec = codecs.Pylibmc(min_compress_len=least)
        self.get = self.client.get
        self.least = least

    def set(self, key, value):
        assert self.client.set(key, value, min_compress_len=self.least)


class Libmc:
    def __init__(self, server, least):
        import libmc

        self.client = patient(libmc.Client([f"{server.host}:{server.port}"], comp_threshold=least))
        self.codec = codecs.Libmc(min_compress_len=least)
        self.get = self.client.get

    def set(self, key, value):
        assert self.client.set(key, value)


@pytest.fixture(params=[Pymemcache, Pylibmc, Libmc])
def kind(request):
    return request.param


@pytest.fixture(params=[0, 300])
def other(server, kind, request):
    return kind(server, request.param)


def came_back(kind, value):
    """The value as it comes back from that client: some keep less than the type."""
    if kind is Pylibmc:
        for base in (bytes, str, int):
            if isinstance(value, base):
                return base(value)
    if kind is Libmc and isinstance(value, (bytearray, Data)):
        return bytes(value)
    return value


def fits(kind, value, least=0):
    """Whether that client can keep the value. pymemcache's compressing object cannot take long ints: it gives zlib a
    str. pylibmc stores str() of an int, which is the name of an enum's member before Python 3.11.
    """
    if kind is Pylibmc and isinstance(value, Number):
        return sys.version_info >= (3, 11)
    return not (kind is Pymemcache and type(value) is int and least and len(str(value)) > least)


@pytest.mark.frameworks
@each_value
def test_what_another_client_wrote_is_read_as_it_reads_it(server, kind, other, value):
    if not fits(kind, value, other.codec._min_compress_len):
        with pytest.raises((TypeError, ValueError)):
            other.set("key", value)
            other.get("key")
        return
    other.set("key", value)
    data, flags = fetch(server, "key")
    assert same(other.codec.decode(data, flags), other.get("key"))
    assert same(other.codec.decode(data, flags), came_back(kind, value))


@pytest.mark.frameworks
@each_value
def test_another_client_reads_what_the_codec_wrote(server, kind, other, value):
    store(server, "key", *other.codec.encode(value))
    assert same(other.get("key"), came_back(kind, value))


@pytest.mark.frameworks
@each_value
def test_the_codec_writes_what_the_client_writes(server, kind, value):
    other = kind(server, 0)
    other.set("key", value)
    if not fits(kind, value):
        return
    if same(value, b""):
        assert other.get("key") == b"" and fetch(server, "key") == (b"", 0), "which a cache takes for a lease"
    else:
        assert other.codec.encode(value) == fetch(server, "key")


@pytest.mark.frameworks
@pytest.mark.parametrize("kind", [Pymemcache, Pylibmc, Libmc])
@settings(max_examples=50)
@given(value=plain_values)
def test_any_plain_value_goes_both_ways(server, kind, value):
    other = kind(server, 20)
    if fits(kind, value, 20):
        other.set("key", value)
        assert same(other.codec.decode(*fetch(server, "key")), other.get("key"))
    store(server, "key", *other.codec.encode(value))
    assert same(other.get("key"), came_back(kind, value))


@pytest.mark.frameworks
def test_long_values_are_compressed_on_both_sides(server, other):
    least = other.codec._min_compress_len
    for value in ("ab" * 5000, ["ab" * 5000]):
        other.set("key", value)
        for data, _ in (fetch(server, "key"), other.codec.encode(value)):
            assert (len(data) < 1000) is (least > 0)
    noise = random.Random(1).randbytes(1000)
    assert other.codec.encode(noise) == (noise, 0), "it would not become smaller"


@pytest.mark.frameworks
def test_pymemcaches_own_objects_are_codecs(server):
    from pymemcache import serde

    for theirs, ours in ((serde.pickle_serde, codecs.Pymemcache()), (serde.compressed_serde, codecs.Pymemcache())):
        codec = codecs.as_codec(theirs)
        for value in VALUES:
            if fits(Pymemcache, value, 399):
                assert same(codec.decode(*codec.encode(value)), value)
                assert same(ours.decode(*codec.encode(value)), value)
        with pytest.raises(ValueError):
            codec.decode(b"\xff", 16)


@pytest.mark.frameworks
def test_a_value_that_libmc_split_is_refused(server):
    client = Libmc(server, 0)
    client.set("key", random.Random(1).randbytes(2_500_000))
    with pytest.raises(ValueError, match="split over several keys"):
        client.codec.decode(*fetch(server, "key"))


def test_what_libmc_wrote_on_python_2_is_read_and_what_marshal_cannot_is_refused():
    codec = codecs.Libmc()
    assert same(codec.decode(b"12", 2), 12)
    for cut in (b"", b"[\1", b"(\xff\xff\xff\xff", b"\x80"):
        with pytest.raises(ValueError, match="marshal cannot read"):
            codec.decode(cut, 32)


def test_codecs_are_found_in_mcext():
    assert mcext.codecs is sys.modules["mcext.codecs"]
