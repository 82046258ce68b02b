"""mcext.restricted_unpickler makes objects of the named types only, and plain data."""

import collections
import copyreg
import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import os
import pathlib
import pickle
import subprocess
import sys

import pytest

from mcext.unpickler import RestrictedUnpickler, restricted_unpickler

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@dataclasses.dataclass
class Account:
    name: str
    cents: int = 0

    def is_admin(self):
        return False


class Colour(enum.Enum):
    RED = 1


class Slots:
    __slots__ = ("a", "b")

    def __eq__(self, other):
        return (self.a, self.b) == (other.a, other.b)


class State:
    def __setstate__(self, state):
        self.seen = state

    def __getstate__(self):
        return {"x": 1}


class Keywords:
    def __new__(cls, *, size):
        self = super().__new__(cls)
        self.size = size
        return self

    def __getnewargs_ex__(self):
        return (), {"size": self.size}

    def __eq__(self, other):
        return self.size == other.size


class Names(list):
    pass


class Outer:
    class Inner:
        pass


def load(data, allowed=()):
    return restricted_unpickler(allowed)(io.BytesIO(data)).load()


def refused(data, allowed=(), match="not an allowed type"):
    with pytest.raises(pickle.UnpicklingError, match=match):
        load(data, allowed)


PLAIN = [
    None,
    True,
    False,
    0,
    -1,
    2**100,
    1.5,
    "",
    "text \u20ac \x00",
    b"",
    b"\x00\xff bytes",
    [1, [2, [3]]],
    (1, (2,)),
    {"a": {"b": b"c"}, 1: None},
    {1, "a"},
    frozenset({2}),
]


def show(value):
    """A name for a test that is the same in every process: sets have their own order in each."""
    return "a set" if isinstance(value, set) else repr(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", PLAIN, ids=show)
def test_plain_data_needs_no_name(value, protocol):
    loaded = load(pickle.dumps(value, protocol))
    assert loaded == value
    assert type(loaded) is type(value)


def slots():
    value = Slots()
    value.a, value.b = 1, "b"
    return value


NAMED = [
    (
        datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc),
        ["datetime.datetime", "datetime.timezone", "datetime.timedelta"],
    ),
    (datetime.date(1, 1, 1), ["datetime.date"]),
    (decimal.Decimal("1.10"), ["decimal.Decimal"]),
    (fractions.Fraction(1, 3), [fractions.Fraction]),
    (bytearray(b"ab"), [bytearray]),
    (1 + 2j, [complex]),
    (collections.OrderedDict(a=1), [collections.OrderedDict]),
    (collections.Counter("aab"), ["collections.Counter"]),
    (Account("a", 5), [Account]),
    ([Account("a"), Account("b")], [Account]),
    (Colour.RED, [Colour]),
    (slots(), [Slots]),
    (Keywords(size=3), [Keywords]),
    (Names(["a", "b"]), [Names]),
]


# What pickle itself has no form for in a protocol, or one that calls functools.partial.
UNABLE = {(Slots, 0), (Slots, 1), (Keywords, 0), (Keywords, 1), (Keywords, 2), (Keywords, 3)}
if Colour.RED.__reduce_ex__(2)[0] is getattr:
    # The first releases of CPython 3.11 pickle enumerations as calls of getattr, which no pickle may make here.
    UNABLE |= {(Colour, n) for n in PROTOCOLS}


@pytest.mark.parametrize(
    "value, allowed, protocol",
    [(value, allowed, n) for value, allowed in NAMED for n in PROTOCOLS if (type(value), n) not in UNABLE],
    ids=lambda item: repr(item)[:30],
)
def test_named_types_come_back_whole_and_others_not_at_all(value, allowed, protocol):
    data = pickle.dumps(value, protocol)
    loaded = load(data, allowed)
    assert loaded == value
    assert type(loaded) is type(value)
    if not (type(value) is bytearray and protocol == 5):  # plain data there
        refused(data)
        refused(data, ["uuid.UUID"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_setstate_of_a_named_type_is_called(protocol):
    assert load(pickle.dumps(State(), protocol), [State]).seen == {"x": 1}


def test_nested_types_are_named_with_a_colon():
    data = pickle.dumps(Outer.Inner(), 4)
    assert type(load(data, [f"{__name__}:Outer.Inner"])) is Outer.Inner
    assert type(load(data, [Outer.Inner])) is Outer.Inner
    refused(data, [Outer])


CALLS = {
    "protocol 0": b"cos\nsystem\n(S'true'\ntR.",
    "protocol 0, by INST": b"(S'true'\nios\nsystem\n.",
    "protocol 1, by OBJ": b"(cos\nsystem\nU\x04trueo.",
    "protocol 4": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "a dotted name": b"\x80\x04\x8c\x08datetime\x8c\x1adatetime.__init_subclass__\x93)R.",
    "a dotted module": b"\x80\x04\x8c\x07os.path\x8c\x04join\x93\x8c\x01a\x85R.",
    "the old name of builtins": b"c__builtin__\neval\n(S'1'\ntR.",
    "getattr": b"c__builtin__\ngetattr\n.",
    "object's subclasses by a dotted name": b"\x80\x04\x8c\x08builtins\x8c\x15object.__subclasses__\x93)R.",
    "an import": b"cantigravity\nx\n.",
    "the codecs of the helper": b"c_codecs\nlookup\n(S'rot13'\ntR.",
    "copyreg": b"ccopy_reg\nadd_extension\n.",
}


@pytest.mark.parametrize("data", CALLS.values(), ids=CALLS)
def test_nothing_is_called_or_imported_that_was_not_named(data):
    before = set(sys.modules)
    refused(data)
    refused(data, ["datetime.datetime"])
    assert "antigravity" not in set(sys.modules) - before


class MyText(str):
    pass


class MyBytes(bytes):
    pass


class MyArray(bytearray):
    pass


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x03cbuiltins\nstr\nC\x01xX\x06\0\0\0cp1140\x86R.",
        b"\x80\x03cbuiltins\nstr\nC\x01xX\x06\0\0\0cp1140\x86\x81.",
        f"\x80\x03c{__name__}\nMyText\nC\x01xX\x06\0\0\0cp1140\x86\x81.".encode("latin1"),
        f"\x80\x04\x8c{chr(len(__name__))}{__name__}\x8c\x06MyText\x93C\x01x\x85}}\x8c\x08encoding\x8c\x06cp1140s\x92.".encode(
            "latin1"
        ),
        f"\x80\x03c{__name__}\nMyBytes\nX\x01\0\0\0xX\x06\0\0\0cp1140\x86\x81.".encode("latin1"),
        f"\x80\x03c{__name__}\nMyArray\nX\x01\0\0\0xX\x06\0\0\0cp1140\x86R.".encode("latin1"),
        b"\x80\x03cbuiltins\nbytearray\nX\x01\0\0\0xX\x06\0\0\0cp1140\x86R.",
    ],
)
def test_no_codec_is_imported(data):
    refused(data, [MyText, MyBytes, MyArray, "builtins.bytearray"], match="without a codec")
    assert "encodings.cp1140" not in sys.modules


@pytest.mark.parametrize("value", [MyText("x\xff"), MyBytes(b"x\xff"), MyArray(b"x\xff"), bytearray(b"x\xff")])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_text_and_bytes_of_named_types_come_back(value, protocol):
    found = load(pickle.dumps(value, protocol), [type(value)])
    assert type(found) is type(value) and found == value


def test_an_extension_code_is_refused_whoever_met_it_before():
    data = b"\x80\x02\x82\x4d)R."
    copyreg.add_extension("os", "getpid", 77)
    try:
        for _ in range(2):
            refused(data, match="extension codes")
            refused(b"\x80\x02\x83\x4d\x00)R.", match="extension codes")
            assert pickle.loads(data) == os.getpid()  # what it stands for is kept from here on
        two = restricted_unpickler(())(io.BytesIO(pickle.dumps([1, "a"]) + data))
        assert two.load() == [1, "a"]
        with pytest.raises(pickle.UnpicklingError, match="extension codes"):
            two.load()
        assert load(pickle.dumps(Account("a"), 2), [Account]) == Account("a")
    finally:
        copyreg.remove_extension("os", "getpid", 77)


def test_the_helpers_do_what_plain_data_needs_and_nothing_else():
    refused(b"c_codecs\nencode\n(Vabc\nVrot13\ntR.", match="bytes only")
    refused(b"c_codecs\nencode\n(I5\nVlatin1\ntR.", match="bytes only")
    with pytest.raises(TypeError):
        load(b"c__builtin__\nbytes\n(I1000000000000\ntR.")
    refused(b"ccopy_reg\n_reconstructor\n(I5\nc__builtin__\nobject\nNtR.", match="no allowed type")
    big = f"ccopy_reg\n_reconstructor\n(c{__name__}\nMyBytes\nc__builtin__\nbytes\nI1000000000000\ntR.".encode()
    refused(big, [MyBytes], match="from bytes only")
    refused(b"ccopy_reg\n__newobj_ex__\n(I5\n)}tR.")


def build(target, attribute, value):
    """A pickle that sets an attribute of what `target` leaves on the stack, as state of its slots."""
    return b"\x80\x02" + target + b"N}" + b"X" + len(attribute).to_bytes(4, "little") + attribute + value + b"s\x86b."


def test_a_named_type_itself_cannot_be_changed():
    data = build(f"c{__name__}\nAccount\n".encode(), b"is_admin", b"K\x01")
    pickle.loads(data)  # the plain unpickler changes the class
    assert Account.is_admin == 1
    Account.is_admin = lambda self: False
    refused(data, [Account], match="may not change")
    assert not Account("a").is_admin()
    with pytest.raises((pickle.UnpicklingError, TypeError)):  # state as a dict
        load(f"\x80\x02c{__name__}\nAccount\n".encode("latin1") + b"}X\x08\0\0\0is_adminK\x01sb.", [Account])
    assert not Account("a").is_admin()


@pytest.mark.parametrize("helper", [b"c_codecs\nencode\n", b"ccopy_reg\n_reconstructor\n", b"c__builtin__\nlist\n"])
def test_a_helper_cannot_be_changed(helper):
    with pytest.raises((AttributeError, pickle.UnpicklingError)):
        load(build(helper, b"__call__", b"K\x01"))
    assert load(pickle.dumps(b"\xff", 0)) == b"\xff"


def test_a_type_is_no_value():
    refused(pickle.dumps(Account), [Account], match="itself")
    refused(b"c_codecs\nencode\n.", match="itself")


def test_persistent_load_works_as_with_pickle():
    unpickler = restricted_unpickler([])(io.BytesIO(b"Pname\n."))
    unpickler.persistent_load = {"name": 5}.get
    assert unpickler.load() == 5


def test_broken_pickles_raise_as_with_pickle():
    for data in (b"", b"x", b"\x80\x04", b"(", b".", b"\x80\xff."):
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, IndexError)):
            load(data)


def test_a_subclass_may_say_what_is_allowed():
    class Mine(RestrictedUnpickler):
        allowed = {Account}

    class More(Mine):
        allowed = Mine.allowed | {"datetime.date"}

    data = pickle.dumps([Account("a"), datetime.date(2000, 1, 1)])
    assert More(io.BytesIO(data)).load() == [Account("a"), datetime.date(2000, 1, 1)]
    with pytest.raises(pickle.UnpicklingError):
        Mine(io.BytesIO(data)).load()
    with pytest.raises(pickle.UnpicklingError):
        RestrictedUnpickler(io.BytesIO(data)).load()


@pytest.mark.parametrize(
    "allowed, error",
    [
        ("datetime.date", TypeError),
        (["os.system"], TypeError),
        (["os"], ValueError),
        ([""], ValueError),
        ([5], TypeError),
        (["no_such_module_anywhere.x"], ImportError),
        (["datetime.nothing"], AttributeError),
        ([print], TypeError),
    ],
)
def test_what_is_no_type_is_said_at_once(allowed, error):
    with pytest.raises(error):
        restricted_unpickler(allowed)


def test_pickle_is_not_imported_with_mcext():
    code = "import sys, mcext; assert not {'pickle', 'mcext.unpickler'} & set(sys.modules), 'imported'"
    folder = pathlib.Path(sys.modules["mcext"].__file__).parent.parent
    subprocess.run([sys.executable, "-S", "-c", code], check=True, cwd=folder)


def test_a_client_takes_named_types_only(memcached):
    import mcext

    anyone = mcext.Client([memcached.address])
    careful = mcext.Client([memcached.address], unpickler=mcext.restricted_unpickler({Account}))
    for protocol in PROTOCOLS:
        anyone.pickleProtocol = protocol
        assert anyone.set_multi({"good": [Account("a", 5)], "bad": datetime.date(2000, 1, 1)}) == []
        assert careful.get("good") == [Account("a", 5)]
        assert careful.get("bad", "default") is None
        assert careful.get_multi(["good", "bad"]) == {"good": [Account("a", 5)], "bad": None}
    for call in CALLS.values():
        hostile = mcext.Client([memcached.address], pickler=lambda file, protocol=0, call=call: Writer(file, call))
        assert hostile.set("bad", [1])
        assert careful.get("bad") is None
        hostile.disconnect_all()
    anyone.disconnect_all()
    careful.disconnect_all()


class Writer:
    """A pickler that writes what it is told to."""

    def __init__(self, file, data):
        self.file, self.data = file, data

    def dump(self, value):
        self.file.write(self.data)
