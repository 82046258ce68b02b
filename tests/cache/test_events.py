"""What a cache counts is what its servers count, and what on_event does changes nothing for the caller."""

import os
import sys
import threading

import pytest
from scripted_server import CLOSE, PATIENCE, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

AT_ONCE = 20 * PATIENCE


@pytest.fixture
def memcached():
    """It has one thread: with more a reply may be here before the bytes of the one before it are counted."""
    with start_memcached("-t", "1") as server:
        yield server


@pytest.fixture
def cache(memcached):
    with mcext.Cache([memcached.address], timeout=AT_ONCE, dead_retry=0) as cache:
        yield cache


def mixed_run(cache):
    """A little of everything: nothing fails."""
    for number in range(20):
        cache.set(f"key{number}", f"value{number}" * number, 100)
    for number in range(30):
        cache.get(f"key{number}")
    cache.get_many([f"key{number}" for number in range(10, 30)])
    cache.set_many({f"many{number}": number for number in range(10)})
    cache.add("key1", 1)
    cache.add("new", 1)
    cache.replace("none", 1)
    cache.append("key2", "x")
    cache.touch("key3", 50)
    cache.touch("none", 50)
    cache.incr("many5")
    cache.decr("none")
    cache.delete("key4")
    cache.delete_many(["key5", "none"])
    cache.update("key6", lambda old: "new")


def statistics(server):
    with mcext.Cache([server.address], timeout=AT_ONCE) as other:
        (found,) = other.stats().values()
        return {name: int(value) for name, value in found.items() if value.isdigit()}


# ---- counters ------------------------------------------------------------------------------------------------------


def test_the_counters_agree_with_the_servers_own(memcached, cache):
    before = statistics(memcached)
    mixed_run(cache)
    after = statistics(memcached)
    grown = {name: after[name] - before[name] for name in before}
    counted = cache.metrics()
    assert counted["hits"] == grown["get_hits"]
    assert counted["misses"] == grown["get_misses"]
    assert counted["hits"] + counted["misses"] == grown["cmd_get"]
    # It counts a touch that is sent, and each storage command, those that store nothing, too.
    assert counted["calls"]["touch"] == grown["cmd_touch"] == 2
    assert grown["cmd_set"] == 20 + 10 + 2 + 1 + 1 + 1
    assert counted["stored"] == 20 + 10 + 1 + 1 + 1
    assert counted["calls"]["incr"] == grown["incr_hits"] == 1
    assert counted["calls"]["decr"] == grown["decr_misses"] == 1
    assert counted["connects"] == 1
    assert counted["retries"] == counted["timeouts"] == counted["lost"] == counted["dead_marks"] == 0


def test_the_bytes_counted_are_those_of_the_server(memcached):
    """The connection that asks counts its own bytes: twice the same, and what lies between is the run's."""
    with mcext.Cache([memcached.address], timeout=AT_ONCE) as cache:
        cache.get("warm")
        cache.metrics(reset=True)
        statistics(memcached)
        first = statistics(memcached)
        second = statistics(memcached)
        mixed_run(cache)
        third = statistics(memcached)
        counted = cache.metrics()
    idle = {name: second[name] - first[name] for name in ("bytes_read", "bytes_written")}
    assert third["bytes_read"] - second["bytes_read"] - idle["bytes_read"] == counted["bytes_out"]
    # Its answers have digits that grow.
    assert abs(third["bytes_written"] - second["bytes_written"] - idle["bytes_written"] - counted["bytes_in"]) < 40


def test_reset_begins_anew(cache):
    mixed_run(cache)
    whole = cache.metrics(reset=True)
    assert whole["hits"] > 0
    empty = cache.metrics()
    assert empty["calls"] == {}
    assert all(empty[name] == 0 for name in empty if isinstance(empty[name], int))
    assert empty["durations"] == [0] * 24
    cache.get("key1")
    assert cache.metrics()["calls"] == {"get": 1}


def test_durations_are_as_many_as_calls(cache):
    mixed_run(cache)
    counted = cache.metrics()
    assert sum(counted["durations"]) == sum(counted["calls"].values())
    assert len(counted["durations"]) == 24


def test_the_total_is_the_sum_of_the_servers_and_keeps_those_that_left(memcached):
    with start_memcached() as second, mcext.Cache([memcached.address, second.address], timeout=AT_ONCE) as cache:
        mixed_run(cache)
        counted = cache.metrics()
        assert set(counted["servers"]) == {memcached.address, second.address}
        for name in ("keys", "hits", "misses", "stored", "bytes_in", "bytes_out", "connects"):
            assert counted[name] == sum(each[name] for each in counted["servers"].values()) > 0
        cache.set_servers([second.address])
        later = cache.metrics()
        assert set(later["servers"]) == {second.address}
        assert {**later, "servers": None} == {**counted, "servers": None}
        cache.set_servers([memcached.address, second.address])
        assert {**cache.metrics(), "servers": None} == {**counted, "servers": None}
        assert cache.metrics()["servers"][memcached.address]["keys"] == 0
        cache.metrics(reset=True)
        assert cache.metrics()["keys"] == 0


def test_failures_are_counted():
    with ScriptedServer(lambda command, number: CLOSE) as server:
        with mcext.Cache([server.address], timeout=AT_ONCE, errors="miss") as cache:
            cache.get("k")
            counted = cache.metrics()
            assert counted["lost"] >= 1
            assert counted["misses"] == 0, "what failed is no miss"


def test_threads_count_together(memcached, cache):
    def run():
        for _ in range(200):
            cache.get("none")

    threads = [threading.Thread(target=run) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert cache.metrics()["calls"]["get"] == 1600
    assert cache.metrics()["misses"] == 1600


# ---- events --------------------------------------------------------------------------------------------------------


def test_a_connect_a_failure_and_a_dead_mark_are_told(memcached):
    events = []
    cache = mcext.Cache([memcached.address], timeout=AT_ONCE, dead_retry=1000, on_event=events.append)
    cache.set("k", 1)
    cache.get("k")
    assert [event.kind for event in events] == ["connect"]
    memcached.stop()
    events.clear()
    with pytest.raises(mcext.MemcacheError) as raised:
        cache.get("k")
    assert sorted(event.kind for event in events) == ["dead", "error"]
    (error,) = (event for event in events if event.kind == "error")
    assert error.error is raised.value
    assert (error.command, error.server, error.keys) == ("get", memcached.address, 1)
    assert error.may_have_run is raised.value.may_have_run
    assert 0 <= error.seconds < AT_ONCE
    events.clear()
    cache.on_event = None
    with pytest.raises(mcext.MemcacheError):
        cache.get("k")
    assert events == []


def test_with_errors_as_misses_the_error_is_still_told(memcached):
    events = []
    cache = mcext.Cache([memcached.address], timeout=AT_ONCE, errors="miss", on_event=events.append)
    memcached.stop()
    assert cache.get("k") is None
    (error,) = (event for event in events if event.kind == "error")
    assert isinstance(error.error, mcext.ServerUnavailable)
    assert error.may_have_run is False


def test_a_slow_call_is_told(memcached):
    events = []
    cache = mcext.Cache([memcached.address], timeout=AT_ONCE, on_event=events.append, slow=1e-9)
    cache.get("k")
    cache.get_many(["a", "b"])
    slow = [event for event in events if event.kind == "slow"]
    assert [(event.command, event.server, event.error) for event in slow] == [("get", memcached.address, None)] * 2
    assert [event.keys for event in slow] == [1, 2]
    assert all(event.seconds > 0 for event in slow)
    events.clear()
    cache.slow = AT_ONCE
    cache.get("k")
    cache.slow = None
    cache.get("k")
    assert events == []


class Hook:
    """Does `what`, and counts."""

    def __init__(self, what):
        self.what, self.calls = what, 0

    def __call__(self, event):
        self.calls += 1
        self.what(event)


def behaves(cache, hook):
    """Answers and errors are what they are without the hook."""
    cache.on_event, cache.slow = hook, 1e-9
    assert cache.set("k", [1]) is True
    assert cache.get("k") == [1]
    assert cache.get_many(["k", "none"]) == {"k": [1]}
    assert cache.get_item("k").value == [1]
    assert cache.incr("n", initial=5) >= 5
    with pytest.raises(mcext.ServerError):
        cache.incr("k")
    assert cache.delete("n") is True
    assert hook.calls >= 6
    assert cache.metrics()["connects"] <= 2


@pytest.mark.parametrize("error", [ValueError, mcext.MemcacheError, MemoryError, RecursionError])
def test_what_a_hook_raises_goes_to_the_unraisable_hook(cache, monkeypatch, error):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))

    def fail(event):
        raise error("of the hook")

    hook = Hook(fail)
    behaves(cache, hook)
    assert seen == [error] * hook.calls


def test_a_hook_may_use_the_cache_of_which_nothing_is_told(cache):
    def use(event):
        cache.set("inner", b"inner")
        assert cache.get("inner") == b"inner"
        assert cache.get_many(["inner"]) == {"inner": b"inner"}

    behaves(cache, Hook(use))


def test_a_hook_may_close_the_cache_change_its_servers_and_take_itself_off(memcached, cache):
    def upset(event):
        cache.close()
        cache.set_servers([memcached.address])
        cache.on_event = None
        cache.on_event = hook

    hook = Hook(upset)
    cache.on_event, cache.slow = hook, 1e-9
    for _ in range(5):
        assert cache.set("k", [1]) is True
        assert cache.get_many(["k"]) == {"k": [1]}
    assert hook.calls >= 10


def test_a_hook_that_blocks_holds_up_its_own_thread_alone(cache):
    entered, go_on = threading.Event(), threading.Event()

    def block(event):
        if threading.current_thread() is thread:
            entered.set()
            assert go_on.wait(AT_ONCE)

    cache.on_event, cache.slow = block, 1e-9
    thread = threading.Thread(target=cache.get, args=("k",))
    thread.start()
    assert entered.wait(AT_ONCE)
    for _ in range(20):
        assert cache.set("k", 1) is True
        assert cache.get("k") == 1
    go_on.set()
    thread.join()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_hook_may_fork_and_the_child_may_use_the_cache(cache):
    children = []

    def fork(event):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                cache.set("child", b"c")
                status = 0 if cache.get("child") == b"c" else 2
            finally:
                os._exit(status)
        children.append(os.waitpid(pid, 0)[1])

    behaves(cache, Hook(fork))
    assert set(children) == {0}


@pytest.mark.parametrize("hook", [5, "text", [], object()], ids=["int", "str", "list", "object"])
def test_a_hook_that_cannot_be_called_is_refused(memcached, hook):
    with pytest.raises(TypeError, match="on_event"):
        mcext.Cache([memcached.address], on_event=hook)


def test_what_a_hook_raises_leaves_the_old_value_served(cache, monkeypatch):
    """Of a factory that failed the hook is told, too; and an exit that it asks for is nobody's."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))

    def leave(event):
        raise SystemExit

    def fail():
        raise LookupError

    cache.set("k", "old", 50)
    cache.on_event = leave
    assert cache.get_or_set("k", fail, 10, stale=60) == "old"
    assert SystemExit in seen
