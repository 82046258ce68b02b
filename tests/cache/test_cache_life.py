"""A cache from its making to its end: options, sharing, servers that come and go, bad arguments."""

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref

import pytest
from scripted_server import PATIENCE, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

AT_ONCE = 20 * PATIENCE


@pytest.fixture
def cache(memcached):
    with mcext.Cache([memcached.address], timeout=AT_ONCE) as cache:
        yield cache


# ---- open and close ------------------------------------------------------------------------------------------------


def test_a_cache_closes_with_its_with_statement_and_opens_again_when_it_is_used(memcached):
    with mcext.Cache([memcached.address], timeout=AT_ONCE) as cache:
        assert cache.servers == ((memcached.address, True, 0),)
        cache.set("k", 1)
        assert cache.servers[0].connections == 1
    assert cache.servers[0].connections == 0
    assert cache.get("k") == 1
    assert cache.servers[0].connections == 1
    cache.close()
    cache.close()
    assert cache.servers[0].connections == 0


def test_what_a_with_statement_raises_comes_out(memcached):
    with pytest.raises(ZeroDivisionError):
        with mcext.Cache([memcached.address]) as cache:
            cache.set("k", 1)
            raise ZeroDivisionError
    assert cache.servers[0].connections == 0


def test_repr_names_the_servers():
    assert repr(mcext.Cache(["a:1", ("b:2", 3)])) == "<mcext.Cache of a:1, b:2>"
    assert repr(mcext.Cache([])) == "<mcext.Cache of no servers>"


def test_a_prefix_stands_before_each_key_on_the_server_alone(memcached, cache):
    with mcext.Cache(memcached.address, timeout=AT_ONCE, prefix="app:") as mine:
        for key in ("k", b"bytes", "\u00e4"):
            mine.set(key, 1)
            shown = key if isinstance(key, bytes) else key.encode()
            assert cache.get(b"app:" + shown) == 1
            assert mine.get(key) == 1
            assert mine.get_many([key]) == {key: 1}
            assert list(mine.get_items([key])) == [key]
            assert mine.delete(key) is True
        mine.set("k" * 246, 1)
        with pytest.raises(ValueError, match="key"):
            mine.set("k" * 247, 1)
        with pytest.raises(ValueError, match="key"):
            mine.get_many(["k" * 247])


def test_a_subclass_may_add_and_override(memcached):
    class Mine(mcext.Cache):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, timeout=AT_ONCE, **options)
            self.own = []

        def get(self, key, default=None):
            self.own.append(key)
            return super().get(key, default)

    mine = Mine([memcached.address])
    mine.set("k", 1)
    assert mine.get("k") == 1
    assert mine.own == ["k"]
    assert mcext.Cache[int] is not None


def test_init_is_called_once(memcached, cache):
    cache.set("k", 1)
    with pytest.raises(RuntimeError):
        cache.__init__([memcached.address])
    assert cache.get("k") == 1
    bare = mcext.Cache.__new__(mcext.Cache)
    for call in (lambda: bare.get("k"), lambda: bare.set("k", 1), lambda: bare.get_many(["k"])):
        with pytest.raises(RuntimeError, match="__init__"):
            call()


def test_a_cache_in_a_cycle_goes_with_the_collector(memcached):
    def make():
        cache = mcext.Cache([memcached.address], timeout=AT_ONCE)
        cache.on_event = lambda event: cache
        cache.set("k", 1)
        return weakref.ref(cache)

    seen = make()
    gc.collect()
    assert seen() is None


# ---- shared --------------------------------------------------------------------------------------------------------


def test_threads_get_their_own_values(cache):
    errors = []

    def run(name):
        try:
            for number in range(200):
                value = f"{name} {number}"
                assert cache.set(name, value) is True
                assert cache.get(name) == value
                assert cache.get_many([name, "none"]) == {name: value}
                assert cache.get_item(name).value == value
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(f"key{number}",)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []
    assert cache.metrics()["connects"] <= 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_child_of_a_fork_has_connections_of_its_own(cache):
    cache.set("k", "parent")
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                good = all(
                    cache.set(f"child{number}", each) and cache.get(f"child{number}") == each for each in range(200)
                )
                status = 0 if good and cache.get_item("k").value == "parent" else 2
            finally:
                os._exit(status)
        children.append(pid)
    for _ in range(200):
        assert cache.get("k") == "parent"
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert cache.metrics()["connects"] == 1


@pytest.mark.frameworks
def test_greenlets_share_a_cache(memcached):
    pytest.importorskip("gevent")
    program = f"""
from gevent import monkey; monkey.patch_all()
import gevent, mcext
cache = mcext.Cache([{memcached.address!r}], timeout={AT_ONCE})
def run(name):
    for number in range(50):
        value = f"{{name}} {{number}}"
        assert cache.set(name, value) is True
        assert cache.get(name) == value
        assert cache.get_many([name]) == {{name: value}}
        assert cache.get_item(name).value == value
        assert cache.get_or_set(name + "x", lambda: value, 60)
gevent.joinall([gevent.spawn(run, f"key{{number}}") for number in range(20)], raise_error=True)
print("done")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=AT_ONCE * 3)
    assert done.stdout == "done\n", done.stderr


# ---- servers -------------------------------------------------------------------------------------------------------


def test_servers_that_stay_keep_their_connections_while_others_come_and_go(memcached):
    with start_memcached() as second, mcext.Cache([memcached.address], timeout=AT_ONCE) as cache:
        cache.get("warm")
        stop, errors = threading.Event(), []

        def run():
            try:
                while not stop.is_set():
                    cache.set("k", 1)
                    cache.get_many(["k", "l", "m"])
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for each in threads:
            each.start()
        for _ in range(100):
            cache.set_servers([memcached.address, second.address])
            cache.set_servers([(memcached.address, 2)])
        stop.set()
        for each in threads:
            each.join()
        assert errors == []
        assert cache.metrics()["servers"][memcached.address]["connects"] <= 5
        (found,) = cache.stats().values()
        assert int(found["total_connections"]) <= 5 + 3  # the fixture's own look, and what memcached counts itself


def test_wrong_servers_change_nothing(memcached, cache):
    cache.set("k", 1)
    for servers in (5, None, [5], [("a:1", 0)], [("a:1", "1")], ["a:1", "a:1"], [("a:1", 1, 1)], ["a:x"], [""]):
        with pytest.raises((TypeError, ValueError)):
            cache.set_servers(servers)
        assert cache.servers[0].address == memcached.address
        assert cache.get("k") == 1


# ---- bad arguments -------------------------------------------------------------------------------------------------

OPTIONS = [
    ("timeout", 0, ValueError),
    ("timeout", -1, ValueError),
    ("timeout", float("nan"), ValueError),
    ("timeout", "1", TypeError),
    ("timeout", None, TypeError),
    ("timeout", True, TypeError),
    ("connect_timeout", 0, ValueError),
    ("connect_timeout", "1", TypeError),
    ("dead_retry", -1, ValueError),
    ("dead_retry", "1", TypeError),
    ("errors", "ignore", ValueError),
    ("errors", None, ValueError),
    ("prefix", 5, TypeError),
    ("prefix", None, TypeError),
    ("prefix", "a b", ValueError),
    ("prefix", "\n", ValueError),
    ("prefix", "x" * 250, ValueError),
    ("codec", 5, TypeError),
    ("compression", True, TypeError),
    ("max_value_length", 0, ValueError),
    ("max_value_length", 1.5, TypeError),
    ("max_value_length", 2**31, ValueError),
    ("on_event", 5, TypeError),
    ("slow", "1", TypeError),
    ("slow", -1, ValueError),
    ("servers", 5, TypeError),
    ("no_such_option", 5, TypeError),
]


@pytest.mark.parametrize("name, value, error", OPTIONS, ids=[f"{name}-{value!r:.10}" for name, value, _ in OPTIONS])
def test_a_wrong_option_is_refused_by_its_name(name, value, error):
    with pytest.raises(error, match=name):
        mcext.Cache(**{"servers": [], name: value})


KEYED = {
    "get": lambda cache, key: cache.get(key),
    "set": lambda cache, key: cache.set(key, 1),
    "set by token": lambda cache, key: cache.set(key, 1, cas=1),
    "add": lambda cache, key: cache.add(key, 1),
    "replace": lambda cache, key: cache.replace(key, 1),
    "append": lambda cache, key: cache.append(key, 1),
    "prepend": lambda cache, key: cache.prepend(key, 1),
    "delete": lambda cache, key: cache.delete(key),
    "delete by token": lambda cache, key: cache.delete(key, cas=1),
    "incr": lambda cache, key: cache.incr(key),
    "decr": lambda cache, key: cache.decr(key, initial=1),
    "touch": lambda cache, key: cache.touch(key, 1),
    "get_and_touch": lambda cache, key: cache.get_and_touch(key, 1),
    "get_item": lambda cache, key: cache.get_item(key),
    "get_many": lambda cache, key: cache.get_many(["good", key]),
    "get_items": lambda cache, key: cache.get_items(["good", key]),
    "set_many": lambda cache, key: cache.set_many({"good": 1, key: 1}),
    "delete_many": lambda cache, key: cache.delete_many(["good", key]),
    "update": lambda cache, key: cache.update(key, lambda old: 1),
    "server_for": lambda cache, key: cache.server_for(key),
}
BAD_KEYS = [
    (None, TypeError), (5, TypeError), (1.5, TypeError), (("a", "b"), TypeError), ("", ValueError), (b"", ValueError),
    ("a b", ValueError), ("a\n", ValueError), (b"a\r\nflush_all", ValueError), ("\x00", ValueError),
    ("\x7f", ValueError),
    ("x" * 251, ValueError), ("\u00e4" * 126, ValueError), ("\ud800", ValueError),
]  # fmt: skip


@pytest.mark.parametrize("name", KEYED)
def test_a_wrong_key_is_refused_and_the_server_sees_not_a_byte(name):
    with ScriptedServer() as server:
        for errors in ("raise", "miss"):
            cache = mcext.Cache([server.address], timeout=AT_ONCE, errors=errors)
            for key, error in BAD_KEYS:
                with pytest.raises(error) as raised:
                    KEYED[name](cache, key)
                assert not isinstance(raised.value, mcext.MemcacheError)
                assert "key" in str(raised.value) or key == "\ud800"
        assert server.connections == []


WRONG = {
    "no arguments": lambda cache: cache.get(),
    "three for get": lambda cache: cache.get("a", 1, 2),
    "cas by position": lambda cache: cache.set("a", 1, None, 5),
    "an unknown name": lambda cache: cache.set("a", 1, time=5),
    "a name twice": lambda cache: cache.set("a", 1, key="b"),
    "keys that are none": lambda cache: cache.get_many(5),
    "no mapping": lambda cache: cache.set_many(5),
    "a list for a mapping": lambda cache: cache.set_many(["a"]),
    "keys of delete_many": lambda cache: cache.delete_many(None),
    "a text as delay": lambda cache: cache.flush_all("1"),
    "a number for stats": lambda cache: cache.stats(5),
    "an unhashable key": lambda cache: cache.get_many([["a"]]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_a_type_error_and_the_server_sees_not_a_byte(name):
    with ScriptedServer() as server:
        with pytest.raises(TypeError):
            WRONG[name](mcext.Cache([server.address], timeout=AT_ONCE))
        assert server.connections == []


@pytest.mark.parametrize("argument", ["a\r\nflush_all", "a\nb", "\x00"])
def test_stats_takes_no_line_ends(argument):
    with ScriptedServer() as server:
        with pytest.raises(ValueError):
            mcext.Cache([server.address], timeout=AT_ONCE).stats(argument)
        assert server.connections == []


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="without the GIL a count is spread over threads"
)
@pytest.mark.parametrize("name", KEYED)
def test_references_to_what_a_caller_hands_in_are_level(cache, name):
    key, bad = "key" * 5, "bad key"

    def count():
        for _ in range(50):
            KEYED[name](cache, key)
            with pytest.raises(ValueError):
                KEYED[name](cache, bad)
        gc.collect()
        return sys.getrefcount(key), sys.getrefcount(bad), sys.getrefcount(cache), sys.getrefcount(None) // 100

    count()
    first = count()
    assert count()[:3] == first[:3]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_another_thread_counts_leaves_the_child_its_metrics_and_servers(memcached, cache):
    cache.set("k", "parent")
    with cache._lock_of_this_process():  # as in a thread that is within metrics() or set_servers()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(10 * PATIENCE)  # it may hang
                cache.set_servers([memcached.address])
                status = 0 if cache.metrics()["calls"] == {"set": 1} else 2
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
