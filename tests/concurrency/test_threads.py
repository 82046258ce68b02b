"""One client, many threads: calls, configuration and the client's own life, all at once.

The same tests are what a thread sanitizer build runs.
"""

import concurrent.futures
import gc
import itertools
import random
import sys
import threading
import time
import weakref

import pytest
import waits

import mcext
from mcext.testing import memcached as memcached_server

ROUNDS = 150
THREADS = 8


@pytest.fixture(autouse=True)
def switch_often():
    """Let threads alternate much more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def run_threads(*functions):
    """Run the functions in threads that begin together; raise what the first of them raised."""
    barrier = threading.Barrier(len(functions))

    def begin(function):
        barrier.wait(30)
        return function()

    with concurrent.futures.ThreadPoolExecutor(len(functions)) as pool:
        return [future.result(120) for future in [pool.submit(begin, function) for function in functions]]


def check(mc, number, rounds=ROUNDS, misses=False):
    """All kinds of calls on this thread's keys; each value carries its key."""
    rng = random.Random(number)
    keys = [f"key{number}.{i}" for i in range(10)]
    for i in range(rounds):
        key = rng.choice(keys)
        value = rng.choice((f"{key} text", f"{key} bytes".encode(), [key, i], {"key": key}, key * 500))
        stored = mc.set(key, value)
        assert stored is True or misses
        answer = mc.get(key)
        assert answer == value or misses, (key, answer)
        assert answer is None or key in str(answer)
        if i % 10 == 0:
            found = mc.get_multi(keys)
            assert all(k in str(v) for k, v in found.items())
            assert misses or key in found
            failed = mc.set_multi({k: f"{k} many" for k in keys})
            assert failed == [] or misses
            assert mc.get_multi(keys) == {k: f"{k} many" for k in keys} or misses
            mc.set(f"count{number}", 10)
            count = mc.incr(f"count{number}", 5)
            assert count == 15 or misses and (count is None or count % 5 == 0)
            mc.delete(f"count{number}")
            # Nobody says when it is stored: the next call may go over another connection.
            mc.set(f"quiet{number}", b"quiet %d" % number, noreply=True)
            assert mc.get(f"quiet{number}") in (None, b"quiet %d" % number)


def test_all_kinds_of_calls(memcached):
    mc = mcext.Client([memcached.address], socket_timeout=60)
    run_threads(*[lambda i=i: check(mc, i) for i in range(THREADS)])


def test_several_servers_and_a_prefix():
    with memcached_server() as one, memcached_server(unix=True) as two, memcached_server() as three:
        mc = mcext.Client([one.address, (two.address, 2), three.address], socket_timeout=60)
        run_threads(*[lambda i=i: check(mc, i) for i in range(THREADS)])


def test_disconnecting_while_others_call(memcached):
    mc = mcext.Client([memcached.address], socket_timeout=60)
    done = threading.Event()

    def disconnect():
        for _ in itertools.takewhile(lambda _: not done.is_set(), itertools.count()):
            mc.disconnect_all()

    def calls(i):
        check(mc, i)
        done.set()

    run_threads(disconnect, *[lambda i=i: calls(i) for i in range(4)])


def test_set_servers_while_others_call():
    """A call holds the servers it began with; whichever those were, its answer is right or a miss."""
    with memcached_server() as one, memcached_server() as two:
        mc = mcext.Client([one.address], socket_timeout=60)
        lists = [[one.address], [two.address], [one.address, two.address], [(one.address, 3), (two.address, 1)]]
        left = threading.Semaphore(0)
        count = 4

        def configure():
            for servers in itertools.cycle(lists):
                mc.set_servers(servers)
                mc.servers  # noqa: B018
                mc.buckets  # noqa: B018
                mc.socket_timeout = 60
                if left.acquire(blocking=False):
                    left.release()
                    if left._value >= count:
                        return

        def calls(i):
            try:
                check(mc, i, misses=True)
            finally:
                left.release()

        run_threads(configure, *[lambda i=i: calls(i) for i in range(count)])
        mc.set_servers([one.address])
        assert [host.port for host in mc.servers] == [one.port]
        check(mc, 99, 10)


def test_servers_that_were_replaced_are_freed_while_64_threads_call(memcached):
    """There is always a call in flight, and yet nothing is kept of what no call uses."""
    servers = [memcached.address, f"localhost:{memcached.port}"]  # two that are one
    mc = mcext.Client(servers[:1], socket_timeout=60)
    done = threading.Event()
    freed = threading.Semaphore(0)
    replaced = []

    def configure():
        try:
            mc.set_servers(servers[1:])  # without a GIL the thread that made a server runs to free it
            for i in range(100):
                replaced.append(weakref.finalize(mc.servers[0], freed.release))
                mc.set_servers([servers[i % 2]])
            end = time.monotonic() + 60
            for _ in replaced:
                while not freed.acquire(timeout=0.05):
                    assert time.monotonic() < end, f"{sum(one.alive for one in replaced)} servers of 100 are kept"
        finally:
            done.set()

    def calls():
        while not done.is_set():
            assert mc.get("nobody") is None

    run_threads(configure, *[calls] * 64)


def test_attributes_assigned_while_others_call(memcached):
    mc = mcext.Client([memcached.address], socket_timeout=60)
    done = threading.Event()

    def assign():
        for i in itertools.count():
            if done.is_set():
                return
            mc.socket_timeout = 30 + i % 30
            mc.dead_retry = i % 3
            mc.debug = 0
            mc.cache_cas = bool(i % 2)
            mc.server_max_value_length = 1 << 20
            mc.mine = i
            assert mc.mine == i
            mc.reset_cas()
            mc.forget_dead_hosts()

    def calls(i):
        try:
            check(mc, i)
            for _ in range(20):
                mc.gets(f"key{i}.0")
                mc.cas(f"key{i}.0", f"key{i}.0")
        finally:
            done.set()

    run_threads(assign, *[lambda i=i: calls(i) for i in range(4)])


def wait_until_closed(memcached):
    """All connections but this question's own: each thread of memcached sees to its own, some time after the close."""
    mc = mcext.Client([memcached.address], socket_timeout=60)
    waits.until(lambda: int(mc.get_stats()[0][1]["curr_connections"]) <= 4, "connections are left open")


def test_clients_made_and_dropped(memcached):
    def live(number):
        for i in range(40):
            mc = mcext.Client([memcached.address], socket_timeout=60)
            key = f"key{number}"
            assert mc.set(key, i)
            assert mc.get(key) == i
            gone = weakref.ref(mc)
            del mc
            assert gone() is None or not sys._is_gil_enabled()

    if not hasattr(sys, "_is_gil_enabled"):
        sys._is_gil_enabled = lambda: True
        try:
            run_threads(*[lambda i=i: live(i) for i in range(THREADS)])
        finally:
            del sys._is_gil_enabled
    else:
        run_threads(*[lambda i=i: live(i) for i in range(THREADS)])
    gc.collect()
    wait_until_closed(memcached)


def test_a_client_dropped_by_many_threads_at_once(memcached):
    """Each thread holds a reference, and all let go together."""
    for _ in range(30):
        clients = [mcext.Client([memcached.address], socket_timeout=60)] * THREADS
        taken = [[mc] for mc in clients]
        del clients

        def use(cell):
            assert cell[0].set("key", b"v")
            cell[0].disconnect_all()
            cell.clear()

        run_threads(*[lambda cell=cell: use(cell) for cell in taken])
    gc.collect()
    wait_until_closed(memcached)


def test_a_subclass_and_a_patched_method_while_others_call(memcached):
    class Mine(mcext.Client):
        def get(self, key, default=None):
            return super().get(key, default)

    mc = Mine([memcached.address], socket_timeout=60)
    done = threading.Event()

    def patch():
        original = mcext.Client.delete
        try:
            while not done.is_set():
                mcext.Client.delete = lambda self, key, *rest, **more: original(self, key, *rest, **more)
                mc.touch = lambda key, time=0: 1
                del mc.touch
                mcext.Client.delete = original
        finally:
            mcext.Client.delete = original

    def calls(i):
        try:
            check(mc, i, ROUNDS // 3)
        finally:
            done.set()

    run_threads(patch, *[lambda i=i: calls(i) for i in range(3)])


def test_hosts_used_directly_while_others_call(memcached):
    """Tools speak to a server through its _Host; that connection is the thread's own."""
    mc = mcext.Client([memcached.address], socket_timeout=60)

    def tool():
        host = mc.servers[0]
        for _ in range(50):
            assert host.connect()
            host.send_cmd("version")
            assert host.readline().startswith(b"VERSION ")
            host.close_socket()
            str(host)

    run_threads(tool, tool, *[lambda i=i: check(mc, i) for i in range(3)])


def test_attributes_of_a_thread_that_another_one_empties(memcached):
    client = mcext.Client([memcached.address])
    for _ in range(20):
        assert client.set("k", b"v") and client.get("k") == b"v"
        run_threads(vars(client).clear)
        fill = [bytes(size) for size in range(100, 200) for _ in range(20)]  # what was freed is taken by others
        assert client.stats == {}
        assert client.get("k") == client.get("k") == b"v"
        assert client.stats == {"get": 2}
        del fill


def test_attributes_of_a_thread_that_move_to_another_one(memcached):
    client = mcext.Client([memcached.address])
    both = threading.Barrier(2)

    def other(attributes):
        assert client.get("k") == b"v"
        vars(client).update(attributes)
        assert client.get("k") == b"v"
        attributes.clear()
        both.wait(30)
        both.wait(30)
        vars(client).clear()

    for _ in range(20):
        assert client.set("k", b"v") and client.get("k") == b"v"
        thread = threading.Thread(target=other, args=[dict(vars(client))])
        thread.start()
        both.wait(30)
        vars(client).clear()
        both.wait(30)
        thread.join(30)
        assert client.stats == {}
        assert client.get("k") == b"v"
        assert client.stats == {"get": 1}


def test_attributes_that_another_thread_empties_during_a_call(memcached):
    client = mcext.Client([memcached.address])
    values = [b"v"] * 200
    attributes = vars(client)
    stop = threading.Event()

    def empty():
        while not stop.is_set():
            attributes.clear()

    thread = threading.Thread(target=empty)
    assert client.set("k", b"v")
    thread.start()
    try:
        assert [client.get("k") for _ in values] == values
        assert all(client.set("k", b"v") for _ in values)
        assert client.set("n", 0) and [client.incr("n") for _ in values] == list(range(1, len(values) + 1))
    finally:
        stop.set()
        thread.join(30)
