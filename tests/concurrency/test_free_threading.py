"""Free-threaded CPython: importing the module leaves the GIL off, and nothing depends on it being on."""

import asyncio
import concurrent.futures
import subprocess
import sys
import sysconfig
import threading
import weakref
from functools import partial

import pytest

import mcext

FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
pytestmark = pytest.mark.skipif(not FREE, reason="this Python is not free-threaded")


@pytest.mark.parametrize("module", ["mcext", "memcache", "mcext._core"])
def test_importing_leaves_the_gil_off(module):
    script = f"import sys; before = sys._is_gil_enabled(); import {module}; print(before, sys._is_gil_enabled())"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False False\n"), done.stderr


def test_one_object_in_all_threads(memcached):
    """Client, host, list of servers and results, read and written by all threads without any lock of ours."""
    mc = mcext.Client([memcached.address], socket_timeout=60)
    barrier = threading.Barrier(6)
    problems = []

    def work(number):
        try:
            barrier.wait(30)
            for i in range(300):
                key = f"key{number % 2}"
                mc.set(key, key)
                assert mc.get(key) in (None, key)
                mc.servers = list(mc.servers)
                mc.stats  # noqa: B018
                mc.cas_ids[b"x"] = i
                str(mc.servers[0])
                if i % 20 == number:
                    mc.disconnect_all()
                if i % 25 == number:
                    mc.set_servers([memcached.address])
                if i % 30 == number:
                    mc.quit_all()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def in_threads(*functions):
    """Run the functions in threads that begin together."""
    barrier = threading.Barrier(len(functions))

    def begin(function):
        barrier.wait(30)
        return function()

    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        return [future.result(60) for future in [pool.submit(begin, function) for function in functions]]


def use_if_there(reference):
    mc = reference()
    assert mc is None or mc.set("key", b"v") is True


def test_a_client_dropped_while_another_thread_comes_to_it(memcached):
    for _ in range(50):
        cell = [mcext.Client([memcached.address], socket_timeout=60)]
        in_threads(partial(use_if_there, weakref.ref(cell[0])), cell.clear)


def test_a_client_initialised_by_two_threads_at_once(memcached):
    """The first use in a thread runs __init__ again: many threads meet a client at the same moment."""
    for _ in range(20):
        mc = mcext.Client([memcached.address], socket_timeout=60)
        assert in_threads(*[partial(mc.set, f"key{i}", b"v") for i in range(6)]) == [True] * 6


def test_servers_of_an_async_cache_are_read_while_its_streams_come_and_go(memcached):
    cache = mcext.AsyncCache([memcached.address], timeout=60, connections=2)
    is_over = threading.Event()

    def read():
        seen = set()
        while not is_over.is_set():
            seen.update(each.connections for each in cache.servers)
        return seen

    async def use():
        for _ in range(100):
            await asyncio.gather(cache.get("key"), cache.set("key", b"x" * 100_000))
            await cache.aclose()

    def run():
        try:
            asyncio.run(use())
        finally:
            is_over.set()
        return {0}

    for seen in in_threads(run, read, read, read):
        assert seen <= {0, 1, 2}
