"""Cache.get_or_set and invalidate in one process: what is served, computed, stored, and left behind.

The tests about many processes are in test_stampede.py; those of a server that fails in test_get_or_set_failures.py.
"""

import datetime
import gc
import signal
import threading
import weakref

import plain_socket
import pytest
from scripted_server import ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached


@pytest.fixture(scope="module")
def server():
    with start_memcached("-I", "1m") as server:
        yield server


@pytest.fixture
def cache(server):
    with mcext.Cache([server.address]) as cache:
        cache.flush_all()
        yield cache


@pytest.fixture
def other(server):
    """Another client, with connections and a table of computations of its own."""
    with mcext.Cache([server.address]) as cache:
        yield cache


def never():
    raise AssertionError("the factory was called")


def fails():
    raise LookupError("no value today")


def fills(cache):
    metrics = cache.metrics()
    return metrics["fills_won"], metrics["fills_lost"], metrics["fills_waited"]


def now_or_never(cache, key="k", **options):
    """The value that is served or computed without waiting for anybody."""
    return cache.get_or_set(key, lambda: "computed at once", wait=0, fallback="raise", **options)


# ---- hit and cold key


@pytest.mark.parametrize("value", ["text", b"bytes", b"", "", 7, -1, 2**70, None, False, 1.5, ["a", {"b": 1}]])
def test_what_is_computed_is_stored_and_served_from_then_on(cache, other, value):
    assert cache.get_or_set("k", lambda: value, 60) == value
    for each in (cache, other):
        served = each.get_or_set("k", never, 60)
        assert served == value and type(served) is type(value)
        assert each.get("k", "none") == value


def test_what_others_stored_is_served(cache):
    cache.set("k", "by set")
    assert cache.get_or_set("k", never) == "by set"


def test_fills_hits_and_misses_are_counted(cache):
    cache.get_or_set("k", lambda: 1)
    metrics = cache.metrics()
    assert (metrics["hits"], metrics["misses"], metrics["stored"]) == (0, 1, 1)
    assert fills(cache) == (1, 0, 0)
    for _ in range(3):
        cache.get_or_set("k", never)
    metrics = cache.metrics()
    assert (metrics["hits"], metrics["misses"]) == (3, 1)
    assert fills(cache) == (1, 0, 0)


def test_ttl_is_the_values(cache):
    cache.get_or_set("short", lambda: 1, 100)
    cache.get_or_set("delta", lambda: 1, datetime.timedelta(seconds=100))
    cache.get_or_set("none", lambda: 1)
    assert 90 <= cache.get_item("short").ttl <= 100
    assert 90 <= cache.get_item("delta").ttl <= 100
    assert cache.get_item("none").ttl is None


def test_stale_keeps_the_value_longer(cache):
    cache.get_or_set("k", lambda: 1, 100, stale=500)
    assert 590 <= cache.get_item("k").ttl <= 600


@pytest.mark.parametrize("days", [29.99, 30, 31, 400])
def test_a_ttl_beyond_30_days_is_one_with_stale_too(cache, days):
    seconds = round(days * 86400)
    cache.get_or_set("k", lambda: 1, seconds, stale=86400)
    assert seconds + 86400 - 10 <= cache.get_item("k").ttl <= seconds + 86400 + 1
    assert cache.get_or_set("k", never, seconds, stale=86400) == 1


def test_a_foreign_empty_value_without_flags_is_none(cache, server):
    """It looks as a lease does, and nobody computes: so whoever comes does."""
    plain_socket.store(server, "k", b"", 0)
    assert now_or_never(cache) == "computed at once"
    assert cache.get_or_set("k", never) == "computed at once"


# ---- refresh and stale: "old" is stored with 50 seconds left


def old(cache):
    cache.set("k", "old", 50)


REFRESHES = [{"ttl": 100, "refresh": 60}, {"ttl": 30, "stale": 60}, {"ttl": 40, "refresh": 10, "stale": 50}]


@pytest.mark.parametrize("options", REFRESHES)
def test_one_recomputes_and_the_others_are_served_the_old_value(cache, other, options):
    old(cache)
    served = []

    def compute():
        served.extend(each.get_or_set("k", never, wait=0, **options) for each in (cache, other, other))
        return "new"

    assert cache.get_or_set("k", compute, **options) == "new"
    assert served == ["old"] * 3
    assert other.get("k") == "new"
    assert fills(cache) == (1, 0, 0)


def test_before_its_time_nothing_is_refreshed(cache):
    old(cache)
    assert cache.get_or_set("k", never, 100, refresh=40) == "old"
    assert cache.get_or_set("k", never, 100, stale=40) == "old"


def test_a_value_without_ttl_is_never_refreshed(cache):
    cache.set("k", "old")
    assert cache.get_or_set("k", never, 100, refresh=90) == "old"


def test_the_old_value_is_served_where_the_factory_raises(cache):
    events = []
    cache.on_event = events.append
    old(cache)
    assert cache.get_or_set("k", fails, 10, stale=60) == "old"
    (event,) = events
    assert (event.kind, event.command, event.keys) == ("error", "get_or_set", 1)
    assert isinstance(event.error, LookupError)
    assert now_or_never(cache, ttl=10, stale=60) == "computed at once"


def test_without_stale_what_the_factory_raises_is_raised(cache, other):
    old(cache)
    with pytest.raises(LookupError):
        cache.get_or_set("k", fails, 100, refresh=60)
    assert other.get("k") == "old"
    assert now_or_never(other, ttl=100, refresh=60) == "computed at once"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_stale_swallows_no_interruption(cache, interruption):
    def interrupted():
        raise interruption

    old(cache)
    with pytest.raises(interruption):
        cache.get_or_set("k", interrupted, 10, stale=60)
    assert now_or_never(cache, ttl=10, stale=60) == "computed at once"


# ---- invalidate


def test_after_invalidate_one_recomputes_and_the_others_are_served_the_old_value(cache, other):
    cache.set("k", "old", 500)
    assert cache.invalidate("k", stale=60) is True
    assert 50 <= cache.get_item("k").ttl <= 60
    served = []

    def compute():
        served.append(other.get_or_set("k", never, wait=0))
        return "new"

    assert cache.get_or_set("k", compute) == "new"
    assert served == ["old"]
    assert other.get_or_set("k", never) == "new"
    assert cache.get_item("k").stale is False


def test_invalidate_without_stale_leaves_the_time_that_it_has(cache):
    cache.set("k", "old", 500)
    assert cache.invalidate("k") is True
    item = cache.get_item("k")
    assert item.stale is True and 490 <= item.ttl <= 500


def test_invalidate_with_stale_0_is_a_delete(cache):
    cache.set("k", "old")
    assert cache.invalidate("k", stale=0) is True
    assert cache.get("k") is None
    assert cache.invalidate("k", stale=0) is False


def test_invalidate_of_a_key_that_is_not_there_is_false(cache):
    assert cache.invalidate("k") is False
    assert cache.invalidate("k", stale=5) is False


def test_invalidate_takes_a_timedelta_and_fractions_upward(cache):
    cache.set("k", "old")
    cache.invalidate("k", stale=datetime.timedelta(milliseconds=99200))
    assert 90 <= cache.get_item("k").ttl <= 100


def test_after_an_invalidation_a_factory_that_raises_leaves_it_invalid(cache, other):
    cache.set("k", "old", 500)
    cache.invalidate("k", stale=60)
    with pytest.raises(LookupError):
        cache.get_or_set("k", fails)
    assert now_or_never(other) == "computed at once"


# ---- somebody is faster than the factory


def written(cache):
    cache.set("k", "written")


def deleted(cache):
    cache.delete("k")


def invalidated(cache):
    cache.invalidate("k", stale=60)


def invalidated_for_long(cache):
    cache.invalidate("k")


def deleted_and_added(cache):
    cache.delete("k")
    assert cache.add("k", "written") is True


def deleted_and_counted(cache):
    cache.delete("k")
    assert cache.incr("k", initial=5) == 5


def flushed(cache):
    cache.flush_all()


CHANGES = [written, deleted, invalidated, invalidated_for_long, deleted_and_added, deleted_and_counted, flushed]
WRITTEN = {written: "written", deleted_and_added: "written", deleted_and_counted: 5}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("options", [{}, *REFRESHES])
def test_who_changes_the_key_while_the_factory_runs_wins(cache, other, change, options):
    if options:
        old(cache)

    def compute():
        change(other)
        return "outdated"

    assert cache.get_or_set("k", compute, **options) == "outdated"
    assert fills(cache) == (0, 1, 0)
    assert cache.get("k") != "outdated" and other.get("k") != "outdated"
    if change in WRITTEN:
        assert other.get_or_set("k", never) == WRITTEN[change]
    else:
        assert now_or_never(other, **options) == "computed at once"
        assert cache.get("k") == "computed at once"


def test_a_counter_that_is_counted_while_the_factory_runs_keeps_the_count(cache, other):
    cache.set("k", 10, 50)

    def compute():
        assert other.incr("k") == 11
        return 0

    assert cache.get_or_set("k", compute, 100, refresh=60) == 0
    assert fills(cache) == (0, 1, 0)
    assert other.get("k") == 11


def test_the_second_of_two_computations_is_the_one_that_stays(cache, other):
    """The lease was invalidated, so that there are two leaders: the first one's value is from before."""

    def compute():
        other.invalidate("k")
        assert other.get_or_set("k", lambda: "newer", wait=0, fallback="raise") == "newer"
        return "older"

    assert cache.get_or_set("k", compute) == "older"
    assert cache.get("k") == "newer"


# ---- the factory


@pytest.mark.parametrize("error", [LookupError, mcext.ServerTimeout, KeyboardInterrupt, SystemExit])
def test_the_next_computes_at_once_where_the_factory_raised(cache, other, error):
    def raises():
        raise error("boom")

    for each in (cache, other):
        with pytest.raises(error, match="boom"):
            each.get_or_set("k", raises, wait=0, fallback="raise")
    assert other.get("k", "none") == "none"
    assert now_or_never(other) == "computed at once"
    assert fills(cache) == (0, 0, 0)


@pytest.mark.parametrize("error", [LookupError, StopIteration, GeneratorExit, KeyboardInterrupt])
def test_what_the_factory_raised_comes_as_it_is_and_holds_nothing_in_a_cycle(cache, error):
    class Kept:
        pass

    kept = []

    def raises():
        local = Kept()
        kept.append(weakref.ref(local))
        raise error("boom")

    gc.disable()
    try:
        for call in (lambda: cache.get_or_set("k", raises), lambda: cache.update("k", lambda old: raises())):
            with pytest.raises(error, match="boom") as caught:
                call()
            assert caught.value.__context__ is None and caught.value.__cause__ is None
            del caught
            assert kept.pop()() is None
    finally:
        gc.enable()
    assert now_or_never(cache) == "computed at once"


def test_the_old_value_is_served_where_the_factory_raises_stop_iteration(cache):
    events = []
    cache.on_event = events.append
    old(cache)
    assert cache.get_or_set("k", lambda: next(iter([])), 10, stale=60) == "old"
    assert [type(event.error) for event in events] == [StopIteration]


def test_the_factory_may_use_the_cache(cache):
    def outer():
        cache.set("a", 1)
        return cache.get_or_set("inner", lambda: cache.get("a") + 1) + 1

    assert cache.get_or_set("k", outer) == 3
    assert cache.get("inner") == 2


@pytest.mark.parametrize("options", [{}, {"wait": 0}, {"wait": 0, "fallback": "raise"}])
def test_a_factory_that_asks_for_its_own_key_is_told(cache, options):
    def own():
        return cache.get_or_set("k", never, **options)

    with pytest.raises(RuntimeError, match="get_or_set of 'k' is called by its own factory"):
        cache.get_or_set("k", own, **options)
    assert now_or_never(cache) == "computed at once"


def test_a_key_as_bytes_is_the_same_key(cache):
    with pytest.raises(RuntimeError, match="its own factory"):
        cache.get_or_set("ké", lambda: cache.get_or_set("ké".encode(), never))


class Interrupted(Exception):
    pass


@pytest.fixture
def interruptions():
    def interrupt(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_factory_that_a_signal_ends_gives_the_lease_back(cache, other, interruptions):
    with pytest.raises(Interrupted):
        cache.get_or_set("k", lambda: signal.raise_signal(signal.SIGALRM))
    assert now_or_never(other) == "computed at once"


def test_a_signal_ends_the_wait_for_anothers_value(cache, other, interruptions):
    def compute():
        with pytest.raises(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            other.get_or_set("k", never)
        return "value"

    assert cache.get_or_set("k", compute) == "value"
    assert other.get_or_set("k", never) == "value"
    assert other._flights_of_this_process() == {}


def test_a_value_that_cannot_be_pickled_is_an_error_and_the_lease_is_given_back(cache, other):
    with pytest.raises(Exception, match="pickle"):
        cache.get_or_set("k", lambda: lambda: 1)
    assert now_or_never(other) == "computed at once"


def test_a_value_that_is_too_large_is_returned_and_nothing_is_left(server, cache):
    large = b"x" * (2 << 20)  # for the server
    events = []
    cache.on_event = events.append
    assert cache.get_or_set("k", lambda: large) == large
    assert [type(event.error) for event in events] == [mcext.ValueTooLarge]
    assert fills(cache) == (0, 1, 0)
    assert now_or_never(cache) == "computed at once"


def test_a_value_that_is_too_large_for_us_is_returned_and_nothing_is_left(server, cache):
    with mcext.Cache([server.address], max_value_length=100) as small:
        old(cache)
        assert small.get_or_set("k", lambda: b"x" * 101, 100, refresh=60) == b"x" * 101
        assert fills(small) == (0, 1, 0)
        assert cache.get("k", "none") == "none"
        assert now_or_never(small) == "computed at once"


# ---- waiting


def leading(cache, key="k", **options):
    """A thread of that client that computes; release() lets it end."""
    started, go_on = threading.Event(), threading.Event()

    def compute():
        started.set()
        assert go_on.wait(60)
        return "the leader's"

    thread = threading.Thread(target=cache.get_or_set, args=(key, compute), kwargs=options)
    thread.start()
    assert started.wait(60)

    def release():
        go_on.set()
        thread.join()

    return release


@pytest.mark.parametrize("whose", ["its own client", "another client"])
def test_the_others_wait_for_the_value(cache, other, whose):
    asked = cache if whose == "its own client" else other
    release = leading(cache)
    results = []
    threads = [threading.Thread(target=lambda: results.append(asked.get_or_set("k", never))) for _ in range(5)]
    for thread in threads:
        thread.start()
    while asked.metrics()["fills_waited"] < 5:
        pass
    release()
    for thread in threads:
        thread.join()
    assert results == ["the leader's"] * 5
    assert cache.metrics()["fills_won"] == 1
    assert cache._flights_of_this_process() == other._flights_of_this_process() == {}


def test_where_the_leader_fails_one_of_the_others_takes_over(cache):
    started, go_on = threading.Event(), threading.Event()
    runs = []

    def fails_late():
        started.set()
        assert go_on.wait(60)
        raise LookupError

    def lead():
        with pytest.raises(LookupError):
            cache.get_or_set("k", fails_late)

    def compute():
        runs.append(1)
        return "second"

    results = []
    leader = threading.Thread(target=lead)
    threads = [threading.Thread(target=lambda: results.append(cache.get_or_set("k", compute))) for _ in range(5)]
    leader.start()
    assert started.wait(60)
    for thread in threads:
        thread.start()
    while cache.metrics()["fills_waited"] < 5:
        pass
    go_on.set()
    for thread in [leader, *threads]:
        thread.join()
    assert results == ["second"] * 5
    assert len(runs) == 1


@pytest.mark.parametrize("whose", ["its own client", "another client"])
def test_when_the_wait_is_over_it_is_computed_and_not_stored(cache, other, whose):
    asked = cache if whose == "its own client" else other
    release = leading(cache)
    try:
        assert asked.get_or_set("k", lambda: "own", wait=1) == "own"
        assert asked.get_or_set("k", lambda: "own", wait=0) == "own"
        assert cache.get("k", "none") == "none"
        assert asked.metrics()["fills_waited"] == 1
    finally:
        release()
    assert cache.get("k") == "the leader's"


def test_when_the_wait_is_over_it_is_an_error_by_fallback(cache, other, server):
    release = leading(cache)
    try:
        with pytest.raises(mcext.LeaseTimeout) as caught:
            other.get_or_set("k", never, wait=0.02, fallback="raise")
    finally:
        release()
    assert (caught.value.server, caught.value.command) == (server.address, "get_or_set")
    assert caught.value.may_have_run is False


# ---- what cannot be decoded


class Picky:
    """Of text alone, and of flags 0."""

    def encode(self, value):
        return value.encode(), 0

    def decode(self, data, flags):
        if flags:
            raise ValueError("not mine")
        return data.decode()


def test_an_undecodable_value_is_an_error(cache, server):
    cache.set("k", "with flags")
    with mcext.Cache([server.address], codec=Picky()) as picky:
        with pytest.raises(mcext.DecodeError):
            picky.get_or_set("k", never)


@pytest.mark.parametrize("ttl", [None, 50])
def test_with_misses_for_errors_an_undecodable_value_is_computed_once_and_replaced(cache, server, ttl):
    cache.set("k", "with flags", ttl)
    with mcext.Cache([server.address], codec=Picky(), errors="miss") as picky:
        served = []

        def compute():
            served.append(now_or_never_of_two(picky))
            return "new"

        def now_or_never_of_two(picky):
            with pytest.raises(mcext.LeaseTimeout):
                mcext.Cache([server.address]).get_or_set("k", never, wait=0, fallback="raise")

        assert picky.get_or_set("k", compute, 100, refresh=60) == "new"
        assert served == [None]
        assert picky.get_or_set("k", never) == "new"
        assert fills(picky) == (1, 0, 0)


def test_what_was_written_while_an_undecodable_value_was_computed_anew_stays(cache, server):
    cache.set("k", "with flags")
    with mcext.Cache([server.address], codec=Picky(), errors="miss") as picky:

        def compute():
            picky.set("k", "written")
            return "outdated"

        assert picky.get_or_set("k", compute) == "outdated"
        assert picky.get("k") == "written"


# ---- wrong arguments

WRONG = [
    ({"key": 5}, TypeError, "key"),
    ({"key": None}, TypeError, "key"),
    ({"key": 10**30}, TypeError, "key"),
    ({"key": ""}, ValueError, "key"),
    ({"key": "a b"}, ValueError, "key"),
    ({"key": "a\n"}, ValueError, "key"),
    ({"key": "k" * 251}, ValueError, "key"),
    ({"factory": None}, TypeError, "factory"),
    ({"factory": "value"}, TypeError, "factory"),
    ({"ttl": "60"}, TypeError, "ttl"),
    ({"ttl": True}, TypeError, "ttl"),
    ({"ttl": 0}, ValueError, "ttl"),
    ({"ttl": -1}, ValueError, "ttl"),
    ({"ttl": float("inf")}, ValueError, "ttl"),
    ({"ttl": float("nan")}, ValueError, "ttl"),
    ({"ttl": 2**63}, ValueError, "ttl"),
    ({"ttl": 10**400}, ValueError, "ttl"),
    ({"ttl": datetime.timedelta(0)}, ValueError, "ttl"),
    ({"refresh": -1}, ValueError, "refresh"),
    ({"refresh": "1"}, TypeError, "refresh"),
    ({"refresh": True}, TypeError, "refresh"),
    ({"refresh": 60}, ValueError, "refresh"),
    ({"refresh": 59.5}, ValueError, "refresh"),
    ({"refresh": float("nan")}, ValueError, "refresh"),
    ({"refresh": 2592001, "ttl": 9999999}, ValueError, "refresh"),
    ({"refresh": 2000000, "stale": 2000000, "ttl": 9999999}, ValueError, "refresh and stale"),
    ({"lease": 1}, ValueError, "lease"),
    ({"lease": 2592001}, ValueError, "lease"),
    ({"lease": 10**30}, ValueError, "lease"),
    ({"lease": "30"}, TypeError, "lease"),
    ({"wait": -1}, ValueError, "wait"),
    ({"wait": "1"}, TypeError, "wait"),
    ({"wait": float("inf")}, ValueError, "wait"),
    ({"stale": -1}, ValueError, "stale"),
    ({"stale": "1"}, TypeError, "stale"),
    ({"stale": 2592001}, ValueError, "stale"),
    ({"fallback": "wait"}, ValueError, "fallback"),
    ({"fallback": 1}, ValueError, "fallback"),
    ({"lock": 1}, TypeError, "lock"),
]


@pytest.mark.parametrize(("wrong", "error", "name"), WRONG)
@pytest.mark.parametrize("more", [{}, {"wait": 1, "fallback": "raise"}])
def test_a_wrong_argument_is_named_before_a_byte_is_sent(wrong, error, name, more):
    arguments = {"key": "k", "factory": never, "ttl": 60, **more, **wrong}
    with ScriptedServer() as server, mcext.Cache([server.address]) as cache:
        with pytest.raises(error, match=name):
            cache.get_or_set(arguments.pop("key"), arguments.pop("factory"), **arguments)
        assert server.connections == []


@pytest.mark.parametrize(
    ("wrong", "error", "name"),
    [
        ({"key": 5}, TypeError, "key"),
        ({"key": ""}, ValueError, "key"),
        ({"stale": -1}, ValueError, "stale"),
        ({"stale": "1"}, TypeError, "stale"),
        ({"stale": False}, TypeError, "stale"),
        ({"stale": float("nan")}, ValueError, "stale"),
        ({"stale": 2592001}, ValueError, "stale"),
    ],
)
def test_a_wrong_argument_of_invalidate_is_named_before_a_byte_is_sent(wrong, error, name):
    arguments = {"key": "k", **wrong}
    with ScriptedServer() as server, mcext.Cache([server.address]) as cache:
        with pytest.raises(error, match=name):
            cache.invalidate(arguments.pop("key"), **arguments)
        assert server.connections == []


def test_more_than_ttl_is_given_by_keyword_alone(cache):
    with pytest.raises(TypeError):
        cache.get_or_set("k", never, 60, 10)
    with pytest.raises(TypeError):
        cache.invalidate("k", 10)
