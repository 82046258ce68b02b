"""Cache.memoize: the key that a call makes, and what the decorated function has."""

import collections
import datetime
import decimal
import enum
import os
import subprocess
import sys
import threading
import types
import uuid
from pathlib import Path

import pytest

import mcext
from mcext.testing import memcached as start_memcached

FOLDER = str(Path(mcext.__file__).resolve().parents[1])


@pytest.fixture(scope="module")
def server():
    with start_memcached() as server:
        yield server


@pytest.fixture
def cache(server):
    with mcext.Cache([server.address]) as cache:
        cache.flush_all()
        yield cache


# ---- calls


def test_it_is_computed_once_for_each_call_that_is_another(cache):
    runs = []

    @cache.memoize(60)
    def double(x):
        """Twice x."""
        runs.append(x)
        return 2 * x

    assert [double(1), double(1), double(2), double(x=2)] == [2, 2, 4, 4]
    assert runs == [1, 2]
    assert (double.__name__, double.__doc__, double.__module__) == ("double", "Twice x.", __name__)
    assert 50 <= cache.get_item(double.key(1)).ttl <= 60


def test_forget_forgets_that_call_alone(cache):
    runs = []

    @cache.memoize()
    def double(x):
        runs.append(x)
        return 2 * x

    double(1), double(2)
    assert double.forget(1) is True
    assert double.forget(1) is False
    assert double.forget(x=7) is False
    double(1), double(2)
    assert runs == [1, 2, 1]


def test_key_of_ones_own(cache):
    @cache.memoize(60, key=lambda user, **more: f"user:{user.id}")
    def load(user, fast=False):
        return {"id": user.id}

    user = types.SimpleNamespace(id=7)
    assert load(user, fast=True) == {"id": 7}
    assert cache.get("user:7") == {"id": 7}
    assert load.key(user) == "user:7"
    assert load.forget(user) is True
    assert cache.get("user:7") is None


def test_the_options_are_those_of_get_or_set(cache):
    runs = []

    @cache.memoize(10, stale=60)
    def load():
        runs.append(1)
        if len(runs) > 1:
            raise LookupError
        return "old"

    assert load() == "old"
    assert 60 < cache.get_item(load.key()).ttl <= 70
    cache.touch(load.key(), 30)  # its own time is over
    assert load() == "old"
    assert len(runs) == 2


def test_none_is_a_result_as_any_other(cache):
    runs = []

    @cache.memoize()
    def nothing():
        runs.append(1)

    assert nothing() is None and nothing() is None
    assert runs == [1]


def test_what_is_done_by_decorators_is_checked_when_it_is_decorated(cache):
    with pytest.raises(TypeError, match="key"):
        cache.memoize(60, key="k")
    with pytest.raises(TypeError, match="lock"):
        cache.memoize(60, lock=1)
    with pytest.raises(TypeError, match="function"):
        cache.memoize(60)(5)
    for options, error in [
        ({"ttl": 0}, ValueError),
        ({"ttl": "60"}, TypeError),
        ({"lease": 1}, ValueError),
        ({"refresh": 60, "ttl": 60}, ValueError),
        ({"stale": -1}, ValueError),
        ({"wait": "long"}, TypeError),
        ({"fallback": "wait"}, ValueError),
    ]:
        with pytest.raises(error):
            cache.memoize(**options)


def test_a_forgotten_call_of_brackets_is_an_error(cache):
    with pytest.raises(TypeError, match="ttl"):

        @cache.memoize
        def load():
            return 1


def test_a_coroutine_function_is_refused(cache):
    async def load():
        return 1

    with pytest.raises(TypeError, match="coroutine"):
        cache.memoize(60)(load)

    async def generate():
        yield 1

    def generator():
        yield 1

    for function in (generate, generator):
        with pytest.raises(TypeError, match="generator"):
            cache.memoize(60)(function)


# ---- keys


def plain(a, b=2, *args, c=3, **kwargs):
    return None


def key_of(function, *args, **kwargs):
    return mcext.Cache(["127.0.0.1:1"]).memoize()(function).key(*args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((), {"a": 1}), ((1, 2), {}), ((1,), {"b": 2}), ((), {"b": 2, "a": 1, "c": 3}), ((1,), {"c": 3})],
)
def test_the_same_arguments_however_given_are_one_key(args, kwargs):
    assert key_of(plain, *args, **kwargs) == key_of(plain, 1)


def test_other_arguments_are_another_key():
    calls = [
        ((1,), {}),
        ((2,), {}),
        (("1",), {}),
        ((b"1",), {}),
        ((1.0,), {}),
        ((True,), {}),
        ((None,), {}),
        ((decimal.Decimal(1),), {}),
        ((1, 3), {}),
        ((1, 2, 3), {}),
        ((1, 2, 3, 3), {}),
        ((1, 2, (3, 3)), {}),
        ((1, 2, ()), {}),
        ((1,), {"c": 4}),
        ((1,), {"d": 1}),
        ((1,), {"d": 1, "e": 2}),
        ((1, 2, "d=1"), {}),
        ((1,), {"d": "1\ne=2"}),
        (((),), {}),
        ((((),),), {}),
        ((("a", "b"),), {}),
        ((("a,b",),), {}),
        ((("a','b",),), {}),
        ((frozenset(),), {}),
        ((frozenset({1, 2}),), {}),
        ((frozenset({"1", "2"}),), {}),
    ]
    keys = [key_of(plain, *args, **kwargs) for args, kwargs in calls]
    assert len(set(keys)) == len(calls)


def test_the_order_of_keyword_arguments_makes_no_difference():
    assert key_of(plain, 1, d=1, e=2) == key_of(plain, 1, e=2, d=1)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Shade(enum.IntEnum):
    RED = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


def test_enums_are_told_apart_by_their_class():
    assert len({key_of(plain, each) for each in (Colour.RED, Colour.BLUE, Shade.RED, 1, "RED")}) == 5


def test_flags_are_told_apart_by_all_that_they_have():
    members = (Access.READ, Access.WRITE, Access.READ | Access.WRITE, Access(0))
    assert len({key_of(plain, each) for each in members}) == 4


UTC = datetime.timezone.utc
OF_EACH_KIND = [
    "text", "Ünïcödé\n", "\ud800", b"\x00bytes", 1, -(10**30), True, None, 1.5, float("inf"), 1j, (1, ("a", b"b")),
    frozenset({"a", "b", "c", "d", "e"}), frozenset({(1, "x"), (2, "y")}), Colour.RED, Shade.RED,
    datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3, 4, 5, 6), datetime.datetime(2026, 1, 2, tzinfo=UTC),
    datetime.time(1, 2), datetime.timedelta(days=1, microseconds=5), decimal.Decimal("1.10"), uuid.UUID(int=5),
]  # fmt: skip

PROGRAM = """
import sys
sys.path[:0] = [{tests!r}, {support!r}]
import test_memoize
for value in test_memoize.OF_EACH_KIND:
    print(test_memoize.key_of(test_memoize.plain, value, d=value))
"""


@pytest.mark.parametrize("seed", ["0", "1", "4242", "random"])
def test_keys_are_the_same_in_every_process(seed):
    here = Path(__file__).parent
    program = PROGRAM.format(tests=str(here), support=str(here.parent / "support"))
    path = os.pathsep.join(filter(None, [FOLDER, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    here = [key_of(plain, value, d=value).replace(__name__, "test_memoize") for value in OF_EACH_KIND]
    if __name__ != "test_memoize":
        pytest.fail("the module's name is a part of the key")
    assert done.stdout.split() == here
    assert len(set(here)) == len(here)


def test_a_key_does_not_change_with_the_release():
    """What an older release of this package stored is found by a newer one."""

    def function(a):
        return None

    function.__module__, function.__qualname__ = "shop.pages", "front"
    assert key_of(function, 1) == "shop.pages.front:c22fea5d7428e5cf47ef6354c97c9223c95d6dcd"


class Name(str):
    __slots__ = ()


Pair = collections.namedtuple("Pair", "a b")


class Zone(datetime.tzinfo):
    def utcoffset(self, moment):
        return datetime.timedelta(0)


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {"a": 1},
        {1, 2},
        bytearray(b"x"),
        object(),
        object,
        len,
        Name("x"),
        Pair(1, 2),
        types.SimpleNamespace(),
        threading.Lock(),
        datetime.datetime(2026, 1, 2, tzinfo=Zone()),
        datetime.time(1, tzinfo=Zone()),
        (1, [2]),
        frozenset({object()}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_argument_that_is_not_the_same_in_every_process_is_named(value):
    for args, kwargs, name in [
        ((value,), {}, "a"),
        ((1, 2, 3, value), {}, r"args\[1\]"),
        ((1,), {"c": value}, "c"),
        ((1,), {"some": value}, "some"),
    ]:
        with pytest.raises(TypeError, match=f"argument {name} has no text .* a {type(value).__qualname__}|"
                           f"argument {name} has no text .* a "):  # fmt: skip
            key_of(plain, *args, **kwargs)


def test_the_instance_of_a_method_is_such_an_argument(cache):
    class Page:
        @cache.memoize(60)
        def body(self, number):
            return number

        @staticmethod
        @cache.memoize(60)
        def of(number):
            return number

    with pytest.raises(TypeError, match="argument self"):
        Page().body(1)
    assert Page().of(1) == Page.of(1) == 1


def test_a_decorated_method_is_a_method(cache):
    class Page:
        number = 7

        @cache.memoize(60, key=lambda self, part: f"page:{self.number}:{part}")
        def body(self, part):
            return self.number, part

    assert Page().body("head") == (7, "head")
    assert cache.get("page:7:head") == (7, "head")


def test_wrong_arguments_are_the_functions_own_error(cache):
    with pytest.raises(TypeError, match="missing"):
        key_of(plain)
    with pytest.raises(TypeError, match="argument"):
        key_of(lambda: 1, 5)


# ---- names


@pytest.mark.parametrize(
    "name",
    ["f" * 100, "f" * 1000, "größe", "関数", "a b", "<locals>.f", "f\n", "\ud800"],
    ids=["long", "very long", "umlaut", "kanji", "space", "local", "newline", "surrogate"],
)
@pytest.mark.parametrize("prefix", ["", "p" * 9, "é"])
def test_any_name_makes_a_key_that_the_server_takes(server, name, prefix):
    def function(x):
        return x

    function.__qualname__ = name
    with mcext.Cache([server.address], prefix=prefix) as cache:
        memoized = cache.memoize(60)(function)
        assert memoized(5) == 5
        assert cache.get(memoized.key(5)) == 5
        assert memoized.forget(5) is True


@pytest.mark.parametrize("length", [58, 59, 60, 150, 200])
def test_a_name_of_any_length_leaves_room_for_a_prefix(server, length):
    def function():
        return 1

    function.__module__, function.__qualname__ = "m", "f" * (length - 2)
    with mcext.Cache([server.address], prefix="p" * 59) as cache:
        assert cache.memoize(60)(function)() == 1


def test_a_prefix_that_leaves_no_room_is_an_error_that_names_the_key(server):
    with mcext.Cache([server.address], prefix="p" * 249) as cache:
        with pytest.raises(ValueError, match="key"):
            cache.memoize(60)(plain)(1)


@pytest.mark.parametrize("name", ["größe", "f" * 1000, "f"])
def test_functions_of_other_names_have_other_keys(name):
    def function():
        return None

    function.__qualname__ = name
    one = key_of(function)
    function.__qualname__ = name + "2"
    assert key_of(function) != one
    function.__qualname__, function.__module__ = name, "another"
    assert key_of(function) != one


def test_the_names_of_keyword_arguments_cannot_look_like_values():
    assert key_of(plain, 1, **{"d=1\ne": 2}) != key_of(plain, 1, d=1, e=2)


@pytest.mark.parametrize("value", [datetime.datetime(2026, 1, 2), datetime.time(1, 2)])
def test_time_zones_are_a_part_of_the_key(value):
    zoneinfo = pytest.importorskip("zoneinfo")
    try:
        zones = [None, UTC, datetime.timezone(datetime.timedelta(hours=1)), zoneinfo.ZoneInfo("Europe/Berlin")]
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip("no time zones here")
    assert len({key_of(plain, value.replace(tzinfo=zone)) for zone in zones}) == 4
