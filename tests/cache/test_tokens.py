"""Tokens, counters and times to live: what happens at once happens once, and a time is what was asked for."""

import datetime
import decimal
import fractions
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time

import plain_socket
import pytest
from scripted_server import CLOSE, EMPTY, PATIENCE, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

AT_ONCE = 20 * PATIENCE
MONTH = 60 * 60 * 24 * 30


@pytest.fixture(scope="module")
def server():
    with start_memcached("-c", "2000") as running:
        yield running


@pytest.fixture
def cache(server):
    with mcext.Cache([server.address], timeout=AT_ONCE) as cache:
        cache.flush_all()
        yield cache


def processes(count, server, program):
    """Run the program in so many processes, which begin at once: what each printed."""
    head = f"""
        import sys, os, threading
        import mcext
        cache = mcext.Cache([{server.address!r}], timeout={AT_ONCE * 3})
        cache.version()
        print("ready", flush=True)
        sys.stdin.readline()
    """
    text = textwrap.dedent(head) + textwrap.dedent(program)
    folder = os.path.dirname(os.path.dirname(os.path.abspath(mcext.__file__)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", text], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    try:
        for each in started:
            assert each.stdout.readline() == "ready\n"
        for each in started:
            each.stdin.write("\n")
            each.stdin.flush()
        said = [each.communicate()[0] for each in started]
        assert [each.returncode for each in started] == [0] * count
        return said
    finally:
        for each in started:
            each.kill()
            each.wait()


# ---- tokens --------------------------------------------------------------------------------------------------------


def test_a_set_by_token_stores_only_where_nobody_has_written_since(cache):
    cache.set("key", 1)
    token = cache.get_item("key").cas
    assert cache.get_items(["key"])["key"].cas == token
    assert cache.set("key", 2, cas=token) is True
    assert cache.get("key") == 2
    assert cache.set("key", 3, cas=token) is False
    assert cache.get("key") == 2
    assert cache.set("none", 3, cas=token) is False
    assert cache.get("none") is None
    token = cache.get_item("key").cas
    cache.delete("key")
    assert cache.set("key", 4, cas=token) is False
    assert cache.get("key") is None


def test_a_touch_and_a_read_leave_a_token_as_it_is(cache):
    cache.set("key", 1)
    token = cache.get_item("key").cas
    cache.get("key")
    cache.touch("key", 100)
    cache.get_and_touch("key", 100)
    assert cache.set("key", 2, cas=token) is True


def test_absent_stores_only_where_there_is_no_value(cache):
    assert cache.set("key", 1, cas=mcext.ABSENT) is True
    assert cache.set("key", 2, cas=mcext.ABSENT) is False
    assert cache.get("key") == 1
    assert repr(mcext.ABSENT) == "mcext.ABSENT"
    assert not mcext.ABSENT
    assert pickle.loads(pickle.dumps(mcext.ABSENT)) is mcext.ABSENT


def test_a_delete_by_token_deletes_only_what_the_token_is_of(cache):
    cache.set("key", 1)
    token = cache.get_item("key").cas
    assert cache.delete("key", cas=token + 1000) is False
    assert cache.get("key") == 1
    cache.set("key", 2)
    assert cache.delete("key", cas=token) is False
    assert cache.get("key") == 2
    assert cache.delete("key", cas=cache.get_item("key").cas) is True
    assert cache.get("key") is None
    assert cache.delete("key", cas=token) is False


def test_a_token_goes_through_update_and_delete_of_a_stale_item(cache):
    cache.set("key", "old", 1000)
    before = cache.get_item("key").cas
    assert cache.invalidate("key", stale=100) is True
    assert cache.delete("key", cas=before) is False, "an invalidation is a write"
    assert cache.get_item("key").stale is True
    assert cache.delete("key", cas=cache.get_item("key").cas) is True
    assert cache.get_item("key") is None
    cache.set("key", "old", 1000)
    cache.invalidate("key", stale=100)
    assert cache.update("key", lambda old: "new") == "new"
    assert cache.get_item("key").stale is False


@pytest.mark.parametrize("cas", ["1", 1.0, b"1", [], object], ids=repr)
def test_a_token_that_is_none_is_a_type_error(cache, cas):
    with pytest.raises(TypeError, match="cas"):
        cache.set("key", 1, cas=cas)
    with pytest.raises(TypeError, match="cas"):
        cache.delete("key", cas=cas)


@pytest.mark.parametrize("cas", [-1, 2**64])
def test_a_token_that_is_out_of_range_is_a_value_error(cache, cas):
    with pytest.raises(ValueError, match="cas"):
        cache.set("key", 1, cas=cas)
    with pytest.raises(ValueError, match="cas"):
        cache.delete("key", cas=cas)


# ---- update --------------------------------------------------------------------------------------------------------


def test_update_gives_the_function_the_value_or_absent_and_returns_the_new_one(cache):
    seen = []
    assert cache.update("key", lambda old: seen.append(old) or {"n": 1}, 100) == {"n": 1}
    assert cache.update("key", lambda old: seen.append(old) or None) is None
    assert cache.update("key", lambda old: seen.append(old) or b"") == b""
    assert cache.update("key", lambda old: seen.append(old) or 1) == 1
    assert seen == [mcext.ABSENT, {"n": 1}, None, b""]


def test_update_by_threads_loses_none(cache):
    threads, rounds = 64, 10
    barrier = threading.Barrier(threads)
    errors = []

    def run():
        barrier.wait()
        try:
            for _ in range(rounds):
                cache.update("count", lambda old: (old or 0) + 1, retries=10_000)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    assert errors == []
    assert cache.get("count") == threads * rounds


def test_update_by_processes_loses_none(cache, server):
    processes(
        8,
        server,
        """
        for number in range(40):
            cache.update("list", lambda old: (old or []) + [(os.getpid(), number)], retries=10_000)
        """,
    )
    made = cache.get("list")
    assert len(made) == len(set(made)) == 320
    for process in {process for process, _ in made}:
        assert [number for one, number in made if one == process] == list(range(40))


def test_update_gives_up_where_others_are_faster_each_time(cache, server):
    other = mcext.Cache([server.address], timeout=AT_ONCE)
    calls = []

    def beaten(old):
        calls.append(old)
        other.set("key", len(calls))
        return "mine"

    for retries in (0, 3):
        calls.clear()
        with pytest.raises(mcext.ConflictError) as raised:
            cache.update("key", beaten, retries=retries)
        assert len(calls) == retries + 1
        assert raised.value.server == server.address
        assert raised.value.may_have_run is False
    assert cache.get("key") == 4
    with mcext.Cache([server.address], timeout=AT_ONCE, errors="miss") as forgiving:
        assert forgiving.update("key", beaten, retries=1) is None


def test_what_the_function_of_update_raises_comes_and_nothing_is_stored(cache):
    class Mine(Exception):
        pass

    def fail(old):
        raise Mine

    cache.set("key", 1)
    for key, value in (("key", 1), ("none", None)):
        with pytest.raises(Mine):
            cache.update(key, fail)
        assert cache.get(key) == value
    assert cache.metrics()["connects"] == 1


def test_the_function_of_update_may_use_the_cache_and_update(cache):
    def inner(old):
        cache.update("inner", lambda value: (value or 0) + 1)
        return cache.get("inner")

    assert cache.update("key", inner) == 1
    assert cache.update("key", inner) == 2


@pytest.mark.parametrize("retries, error", [(-1, ValueError), (1.5, TypeError), (True, TypeError), (None, TypeError)])
def test_a_wrong_count_of_retries_is_refused(cache, retries, error):
    with pytest.raises(error, match="retries"):
        cache.update("key", lambda old: 1, retries=retries)
    with pytest.raises(TypeError, match="function"):
        cache.update("key", "no function")


# ---- counters ------------------------------------------------------------------------------------------------------


def test_incr_and_decr_count(cache):
    assert cache.incr("n") is None and cache.decr("n") is None
    assert cache.get("n") is None
    assert cache.incr("n", initial=10) == 10
    assert cache.incr("n", initial=10) == 11
    assert cache.incr("n", 5) == 16
    assert cache.decr("n", 6) == 10
    assert cache.decr("n", delta=100) == 0
    assert cache.decr("m", initial=7) == 7
    assert cache.decr("m", initial=7) == 6
    assert cache.incr("zero", initial=0) == 0
    assert cache.get("n") == 0 and type(cache.get("n")) is int
    assert cache.incr("n", 0) == 0
    assert cache.incr("n", 2**64 - 1) == 2**64 - 1
    assert cache.incr("n") == 0, "it wraps"
    assert cache.incr("most", initial=2**64 - 1) == 2**64 - 1
    assert cache.get("most") == 2**64 - 1
    cache.set("set", 5)
    assert cache.incr("set") == 6


def test_incr_of_what_is_no_number_is_a_server_error_and_leaves_it(cache, server):
    cache.set("key", "text")
    for call in (cache.incr, cache.decr):
        with pytest.raises(mcext.ServerError) as raised:
            call("key", initial=1)
        assert raised.value.server == server.address
        assert raised.value.command == call.__name__
        assert raised.value.may_have_run is False
        assert "non-numeric" in raised.value.message
    assert cache.get("key") == "text"


def test_the_time_of_incr_is_that_of_a_number_that_it_makes(cache):
    cache.incr("made", initial=1, ttl=1000)
    assert 900 < cache.get_item("made").ttl <= 1000
    cache.incr("made", initial=1, ttl=100)
    assert cache.get_item("made").ttl > 900
    cache.incr("forever", initial=1)
    assert cache.get_item("forever").ttl is None


@pytest.mark.parametrize("name", ["incr", "decr"])
@pytest.mark.parametrize(
    "arguments, error, argument",
    [
        ({"delta": -1}, ValueError, "delta"),
        ({"delta": 2**64}, ValueError, "delta"),
        ({"delta": "1"}, TypeError, "delta"),
        ({"delta": 1.5}, TypeError, "delta"),
        ({"initial": -1}, ValueError, "initial"),
        ({"initial": 2**64}, ValueError, "initial"),
        ({"initial": "1"}, TypeError, "initial"),
        ({"initial": 1.0}, TypeError, "initial"),
        ({"initial": 1, "ttl": 0}, ValueError, "ttl"),
        ({"ttl": "1"}, TypeError, "ttl"),
    ],
    ids=repr,
)
def test_wrong_arguments_of_counters_are_refused(cache, name, arguments, error, argument):
    cache.set("n", 1)
    with pytest.raises(error, match=argument):
        getattr(cache, name)("n", **arguments)
    assert cache.get("n") == 1


def test_a_counter_raced_by_processes_yields_each_number_once(cache, server):
    """64 processes meet on each of the counters, that none of them has made before."""
    said = processes(
        64,
        server,
        """
        print(*(cache.incr(f"counter{number % 20}", initial=1000) for number in range(100)))
        """,
    )
    for counter in range(20):
        numbers = sorted(int(number) for each in said for number in each.split()[counter::20])
        assert numbers == list(range(1000, 1000 + 64 * 5))
        assert cache.get(f"counter{counter}") == 1000 + 64 * 5 - 1


def test_a_counter_that_is_deleted_all_the_time_is_made_anew_or_a_conflict():
    """The server always says that there is none, and that there is one."""
    with ScriptedServer(lambda command, number: {b"incr": b"NOT_FOUND\r\n", b"add ": b"NOT_STORED\r\n"}.get(
        command[:4]
    )) as server:  # fmt: skip
        cache = mcext.Cache([server.address], timeout=AT_ONCE)
        with pytest.raises(mcext.ConflictError) as raised:
            cache.incr("n", initial=1)
        assert raised.value.may_have_run is False
        assert 2 <= len(server.commands) <= 64


# ---- times ---------------------------------------------------------------------------------------------------------

TTLS = {
    "seconds": (100, 100),
    "float": (100.0, 100),
    "fraction rounded up": (99.001, 100),
    "timedelta": (datetime.timedelta(minutes=5), 300),
    "Fraction": (fractions.Fraction(301, 3), 101),
    "Decimal": (decimal.Decimal("99.5"), 100),
    "30 days": (MONTH, MONTH),
    "30 days and a second": (MONTH + 1, MONTH + 1),
    "31 days": (datetime.timedelta(days=31), 31 * 86400),
    "a year": (365 * 86400, 365 * 86400),
}


def stores(cache):
    """Each call that takes a ttl, for a key that has none."""
    cache.set("there", 1)
    cache.set("touched", 1)
    cache.set("got", 1)
    token = cache.get_item("there").cas
    return {
        "set": lambda ttl: cache.set("set", 1, ttl),
        "set by name": lambda ttl: cache.set("set", 1, ttl=ttl),
        "add": lambda ttl: cache.add("add", 1, ttl),
        "replace": lambda ttl: cache.replace("touched", 1, ttl),
        "cas": lambda ttl: cache.set("there", 1, ttl, cas=token),
        "set_many": lambda ttl: cache.set_many({"many": 1}, ttl),
        "incr": lambda ttl: cache.incr("incr", initial=1, ttl=ttl),
        "update": lambda ttl: cache.update("update", lambda old: 1, ttl),
        "touch": lambda ttl: cache.touch("touched", ttl),
        "get_and_touch": lambda ttl: cache.get_and_touch("got", ttl),
    }


KEYS = {"set": "set", "set by name": "set", "add": "add", "replace": "touched", "cas": "there", "set_many": "many",
        "incr": "incr", "update": "update", "touch": "touched", "get_and_touch": "got"}  # fmt: skip


@pytest.mark.parametrize("name", TTLS)
def test_a_time_to_live_is_what_was_asked_for(cache, name):
    ttl, seconds = TTLS[name]
    for call, store in stores(cache).items():
        before = time.time()
        assert store(ttl) not in (False, None), call
        left = cache.get_item(KEYS[call]).ttl
        passed = math.ceil(time.time() - before) + 1  # the server's clock ticks each second, and that of the day is cut
        assert seconds - passed <= left <= seconds + 1, call


@pytest.mark.parametrize("ttl", [0.001, datetime.timedelta(microseconds=1)], ids=["float", "timedelta"])
def test_less_than_a_second_is_one(ttl):
    """By what the server is told: the next tick of its clock may end such an item."""
    places = {"touch": 3, "mg": -1}  # of the time in the line, behind the connection's number; else behind the flags
    with start_memcached("-vv") as server, mcext.Cache([server.address], timeout=AT_ONCE) as cache:
        for call, store in stores(cache).items():
            store(ttl)
            said = [line.split() for line in server.output.splitlines() if line.startswith("<")]
            words = [words for words in said if len(words) > 2 and words[2] == KEYS[call]][-1]
            assert words[places.get(words[1], 4)].lstrip("T") == "1", (call, words)


def test_without_a_time_to_live_an_item_has_none_and_touch_takes_it_off(cache):
    for call, store in stores(cache).items():
        store(None)
        assert cache.get_item(KEYS[call]).ttl is None, call
    cache.set("key", 1, 50)
    assert cache.touch("key", None) is True
    assert cache.get_item("key").ttl is None
    cache.set("key", 1, 50)
    assert cache.get_and_touch("key", None) == 1
    assert cache.get_item("key").ttl is None


class Odd:
    def __float__(self):
        raise ZeroDivisionError


REFUSED = {
    "zero": (0, ValueError),
    "zero float": (0.0, ValueError),
    "minus zero": (-0.0, ValueError),
    "negative": (-1, ValueError),
    "small negative": (-0.5, ValueError),
    "nan": (math.nan, ValueError),
    "infinite": (math.inf, ValueError),
    "minus infinite": (-math.inf, ValueError),
    "no timedelta": (datetime.timedelta(0), ValueError),
    "negative timedelta": (datetime.timedelta(days=-1), ValueError),
    "long timedelta": (datetime.timedelta.max, ValueError),
    "beyond int32": (2**31, ValueError),
    "beyond int32 with the time of day": (2**31 - 1, ValueError),
    "huge": (10**400, ValueError),
    "True": (True, TypeError),
    "False": (False, TypeError),
    "text": ("60", TypeError),
    "bytes": (b"60", TypeError),
    "list": ([], TypeError),
    "complex": (1j, TypeError),
    "object": (object, TypeError),
    "date": (datetime.datetime(2030, 1, 1), TypeError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_time_to_live_that_is_none_is_refused_before_anything_is_sent(cache, name):
    ttl, error = REFUSED[name]
    calls = stores(cache)
    before = cache.metrics()["bytes_out"]
    for call, store in calls.items():
        if call == "update":
            continue  # it has read by then
        with pytest.raises(error, match="ttl"):
            store(ttl)
    assert cache.metrics()["bytes_out"] == before
    with pytest.raises(error, match="ttl"):
        calls["update"](ttl)
    assert cache.get("update") is None


# ---- touch, get_and_touch ------------------------------------------------------------------------------------------


def test_touch_and_get_and_touch_tell_whether_there_is_one(cache):
    assert cache.touch("key", 10) is False
    assert cache.get_and_touch("key", 10) is None
    assert cache.get_and_touch("key", 10, "missed") == "missed"
    assert cache.get_and_touch("key", ttl=10, default="missed") == "missed"
    cache.set("key", [1])
    assert cache.touch("key", ttl=10) is True
    assert cache.get_and_touch("key", 10) == [1]


@pytest.fixture
def old():
    """An old memcached: it has no meta protocol."""
    items = {}

    def script(command, number):
        words = command.split()
        if words[0] in (b"mg", b"mn", b"md", b"ms"):
            return b"ERROR\r\n"
        if words[0] == b"set":
            items[words[1]] = words[2], command.split(b"\r\n", 1)[1][:-2]
            return b"STORED\r\n"
        if words[0] in (b"get", b"gets"):
            found = [(key, *items[key]) for key in words[1:] if key in items]
            token = b" 77" if words[0] == b"gets" else b""
            return b"".join(b"VALUE %s %s %d%s\r\n%s\r\n" % (k, f, len(v), token, v) for k, f, v in found) + b"END\r\n"
        if words[0] == b"touch":
            return b"TOUCHED\r\n" if words[1] in items else b"NOT_FOUND\r\n"
        return EMPTY.get(words[0])

    with ScriptedServer(script) as server:
        with mcext.Cache([server.address], timeout=AT_ONCE) as cache:
            yield server, cache


def test_without_the_meta_protocol_an_item_has_value_flags_and_token(old):
    server, cache = old
    cache.set("key", "v")
    item = cache.get_item("key")
    assert tuple(item) == ("v", 16, 77, None, None, None, None, None)
    assert cache.get_item("none") is None
    cache.set("other", b"")
    items = cache.get_items(["key", "none", "other"])
    assert list(items) == ["key", "other"]
    assert tuple(items["key"]) == tuple(item)
    assert tuple(items["other"]) == (b"", 1, 77, None, None, None, None, None)
    assert cache.get_and_touch("key", 50) == "v"
    assert cache.get_and_touch("none", 50, "missed") == "missed"
    assert b"touch key 50\r\n" in server.commands
    with pytest.raises(mcext.ServerError) as raised:
        cache.delete("key", cas=77)
    assert raised.value.may_have_run is False
    assert raised.value.server == server.address
    assert not any(command.startswith((b"delete", b"md")) for command in server.commands)


# ---- items ---------------------------------------------------------------------------------------------------------


def test_an_item_tells_what_the_server_knows_of_it(cache):
    cache.set("key", "text", 100)
    item = cache.get_item("key")
    assert isinstance(item, mcext.Item)
    assert (item.value, item.flags, item.size, item.stale) == ("text", 16, 4, False)
    assert 90 < item.ttl <= 100
    assert item.age in range(10)
    assert type(item.cas) is int and item.cas > 0
    assert item.hit is False
    assert cache.get_item("key").hit is True, "this was the second read"
    cache.set("forever", b"12345")
    item = cache.get_items(["forever"])["forever"]
    assert (item.value, item.flags, item.size, item.ttl, item.stale, item.hit) == (b"12345", 0, 5, None, False, False)
    assert cache.get_item("none") is None
    assert cache.get_items(["none"]) == {}
    assert cache.get_items([]) == {}


@pytest.mark.parametrize(
    "read",
    [
        lambda cache: cache.get_item("key").value,
        lambda cache: cache.get_items(["key"])["key"].value,
        lambda cache: cache.get_and_touch("key", 1000),
    ],
    ids=["get_item", "get_items", "get_and_touch"],
)
def test_reading_a_stale_item_leaves_the_lease_to_get_or_set(cache, read):
    cache.set("key", "old", 1000)
    cache.invalidate("key", stale=500)
    for _ in range(3):
        assert read(cache) == "old"
    assert cache.get_item("key").stale is True
    assert cache.get_or_set("key", lambda: "new", 1000, stale=500) == "new"
    assert cache.get("key") == "new"
    assert cache.get_item("key").stale is False


def test_many_stale_items_are_all_left_to_get_or_set(cache):
    keys = [f"key{number}" for number in range(50)]
    for key in keys:
        cache.set(key, "old", 1000)
        cache.invalidate(key, stale=500)
    assert len(cache.get_items([*keys, "none"])) == 50
    assert [cache.get_or_set(key, lambda: "new", 1000, stale=500) for key in keys] == ["new"] * 50


def test_a_stale_item_that_another_recomputes_stays_the_others(cache):
    """Its lease is held: to look at it does not give it to a third."""
    cache.set("key", "old", 1000)
    cache.invalidate("key", stale=500)
    seen = []

    def factory():
        seen.append(cache.get_item("key").value)
        seen.append(cache.get_and_touch("key", 1000))
        seen.append(cache.get_items(["key"])["key"].stale)
        other = threading.Thread(target=lambda: seen.append(cache.get_or_set("key", lambda: "third", 1000, stale=500)))
        other.start()
        other.join()
        return "new"

    assert cache.get_or_set("key", factory, 1000, stale=500) == "new"
    assert seen == ["old", "old", True, "old"]
    assert cache.get("key") == "new"


def test_the_place_of_a_lease_is_nobodys_item(cache):
    def factory():
        assert cache.get("key") is None
        assert cache.get_item("key") is None
        assert cache.get_items(["key"]) == {}
        assert cache.get_many(["key"]) == {}
        assert cache.get_and_touch("key", 5000) is None
        return "value"

    assert cache.get_or_set("key", factory, 1000) == "value"
    assert cache.get("key") == "value"


def test_a_signal_handlers_exception_ends_an_update(cache):
    class Stop(Exception):
        pass

    def handler(number, frame):
        raise Stop

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(Stop):
            cache.update("key", lambda old: os.kill(os.getpid(), signal.SIGALRM) or 1)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert cache.get("key") is None


def test_what_plain_sockets_store_has_a_token_too(cache, server):
    plain_socket.store(server, "key", b"v", 0)
    assert cache.set("key", b"w", cas=cache.get_item("key").cas) is True


@pytest.mark.parametrize(
    "read",
    [
        lambda cache: cache.get_item("key"),
        lambda cache: cache.get_items(["key"]).get("key"),
        lambda cache: cache.get_and_touch("key", 1000),
    ],
    ids=["get_item", "get_items", "get_and_touch"],
)
def test_reading_the_stale_place_of_a_lease_leaves_it_to_get_or_set(cache, read):
    """The key was invalidated while its value was computed for the first time."""

    def factory():
        assert cache.invalidate("key") is True
        assert read(cache) is None
        return "outdated"

    assert cache.get_or_set("key", factory, 1000) == "outdated"
    assert cache.get_or_set("key", lambda: "new", 1000, wait=0, fallback="raise") == "new"


def test_update_never_repeats_what_may_have_run_where_failures_are_misses():
    """The set by token is carried out, and its answer never comes."""
    seen = []

    def script(command, number):
        if command.startswith(b"gets"):
            return b"VALUE k 2 1 77\r\n1\r\nEND\r\n"
        return CLOSE if command.startswith(b"cas") else None

    def add_one(value):
        seen.append(value)
        return value + 1

    with ScriptedServer(script) as server:
        with mcext.Cache([server.address], timeout=AT_ONCE, errors="miss") as cache:
            assert cache.update("k", add_one) is None
            assert sum(command.startswith(b"cas") for command in server.commands) == 1
    assert seen == [1]


def test_a_memcache_error_of_updates_own_function_comes_out(server):
    """It may be of another cache, whose errors are raised."""

    def function(value):
        raise mcext.ServerTimeout("of another cache")

    with mcext.Cache([server.address], errors="miss") as cache:
        with pytest.raises(mcext.ServerTimeout, match="of another cache"):
            cache.update("key", function)


@pytest.mark.parametrize("errors", ["raise", "miss"])
def test_a_stale_item_that_becomes_undecodable_meanwhile_is_the_one_that_was_read(errors):
    """Its token is asked for again when its lease has gone back, and the value comes with it."""
    answers = {
        b"mn\r\n": b"MN\r\n",
        b"mg AA==": b"EN kAA== b O1\r\n",
        b"mg k": b"VA 3 kk f16 c7 t50 l0 s3 h1 W X\r\nold\r\n",
        b"md k": b"HD\r\n",
        b"gets k": b"VALUE k 1 9 8\r\nno pickle\r\nEND\r\n",
    }

    def script(command, number):
        return next((answer for word, answer in answers.items() if command.startswith(word)), None)

    with ScriptedServer(script) as server:
        with mcext.Cache([server.address], timeout=AT_ONCE, errors=errors) as cache:
            items = cache.get_items(["k"])
            assert items["k"].value == "old"
            assert b"gets k\r\n" in server.commands
