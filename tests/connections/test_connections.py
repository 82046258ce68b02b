"""Connections follow the calls that are in flight together, not the threads that come and go."""

import concurrent.futures
import gc
import os
import queue
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
import shim
from scripted_server import PATIENCE, STALL, ScriptedServer

import mcext

AT_ONCE = 10 * PATIENCE


def key_script(command, number):
    """Every value is its key."""
    words = command.split()
    if words[0] == b"get":
        return b"".join(b"VALUE %s 0 %d\r\n%s\r\n" % (k, len(k), k) for k in words[1:]) + b"END\r\n"
    return None


class Gate:
    """A script that answers only when so many commands wait together."""

    def __init__(self, count):
        self.barrier = threading.Barrier(count)

    def __call__(self, command, number):
        if not command.startswith(b"version"):
            self.barrier.wait(AT_ONCE)
        return key_script(command, number)


class Held:
    """A script that keeps the commands that begin so until it is told to go on."""

    def __init__(self, start=b"get slow"):
        self.start = start
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, command, number):
        if command.startswith(self.start):
            self.asked.set()
            assert self.go_on.wait(AT_ONCE)
        return key_script(command, number)


def open_connections(server):
    return [one for one in server.connections if not one.closed.is_set()]


def wait_until_open(server, count):
    server.wait_for(lambda s: len(open_connections(s)) == count, AT_ONCE)


def together(mc, count):
    """Make calls from so many threads at one time; return their answers."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda i: mc.get(f"key{i}"), range(count)))


def test_two_thousand_short_threads_eight_at_a_time_open_at_most_eight_sockets():
    with ScriptedServer(key_script) as server:
        mc = mcext.Client([server.address], socket_timeout=2 * AT_ONCE)
        numbers = iter(range(2000))
        take = threading.Lock()
        wrong = []

        def one_call(number):
            if mc.get(f"key{number}") != b"key%d" % number:
                wrong.append(number)

        def worker():
            while True:
                with take:
                    number = next(numbers, None)
                if number is None:
                    return
                thread = threading.Thread(target=one_call, args=(number,))
                thread.start()
                thread.join()

        workers = [threading.Thread(target=worker) for _ in range(8)]
        for thread in workers:
            thread.start()
        for thread in workers:
            thread.join()
        assert wrong == []
        assert 1 <= len(server.connections) <= 8


def test_threads_one_after_the_other_share_one_socket():
    with ScriptedServer(key_script) as server:
        mc = mcext.Client([server.address], socket_timeout=2 * AT_ONCE)
        for i in range(50):
            thread = threading.Thread(target=mc.get, args=(f"key{i}",))
            thread.start()
            thread.join()
        assert len(server.connections) == 1


def test_a_client_with_a_replaced_method_uses_its_connection_again():
    class Client(mcext.Client):
        def _get_server(self, key):
            return super()._get_server(key)

    with ScriptedServer() as server:
        mc = Client([server.address])
        for _ in range(3):
            mc.get("key1")
            mc.gets("key1")
            mc.set("key1", b"v")
            mc.add("key1", b"v", noreply=True)
            mc.incr("key1")
            mc.delete("key1")
            mc.get_multi(["key1", "key2"])
            mc.set_multi({"key1": b"v", "key2": b"v"})
            mc.delete_multi(["key1", "key2"])
        assert len(server.connections) == 1


def test_no_call_waits_for_anothers_reply():
    """64 threads share a client, and the server answers none of them before it has heard all."""
    with ScriptedServer(Gate(64)) as server:
        mc = mcext.Client([server.address], socket_timeout=2 * AT_ONCE)
        for _ in range(3):
            assert together(mc, 64) == [b"key%d" % i for i in range(64)]
        assert len(server.connections) == 64


def test_64_threads_on_a_real_server(memcached):
    mc = mcext.Client([memcached.address], socket_timeout=2 * AT_ONCE)
    keys = [f"key{i}" for i in range(100)]
    assert mc.set_multi({key: key.encode() for key in keys}) == []

    def calls(number):
        for i in range(60):
            key = keys[(number * 7 + i) % len(keys)]
            assert mc.get(key) == key.encode()
            own = f"own{number}"
            assert mc.set(own, i)
            assert mc.get(own) == i
            some = keys[i : i + 5]
            assert mc.get_multi(some) == {k: k.encode() for k in some}
        return True

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        assert all(pool.map(calls, range(64)))
    stats = dict(mc.get_stats()[0][1])
    assert int(stats["curr_connections"]) <= 64 + 3
    assert int(stats["total_connections"]) <= 64 + 5


def test_a_pool_of_clients_handed_from_thread_to_thread_opens_one_socket_each():
    """As oslo.cache does it: a client belongs to whoever took it from the pool, in whatever thread."""
    with ScriptedServer(key_script) as server:
        pool = queue.LifoQueue()
        for _ in range(5):
            pool.put(mcext.Client([server.address], socket_timeout=2 * AT_ONCE))

        def one_call(number):
            mc = pool.get()
            try:
                return mc.get(f"key{number}") == b"key%d" % number
            finally:
                pool.put(mc)

        for start in range(0, 200, 20):
            with concurrent.futures.ThreadPoolExecutor(20) as threads:
                assert all(threads.map(one_call, range(start, start + 20)))
        assert len(server.connections) <= 5


IDLE = """
import sys, threading, mcext
from test_connections import Gate, ScriptedServer, together, open_connections, wait_until_open, key_script

gate = Gate(6)
closed_gate = [True]
def script(command, number):
    return gate(command, number) if closed_gate[0] else key_script(command, number)

with ScriptedServer(script) as server:
    mc = mcext.Client([server.address], socket_timeout=30)
    together(mc, 6)
    closed_gate[0] = False
    assert len(open_connections(server)) == 6
    shift_clock(45)
    assert mc.get("a") == b"a"
    assert len(open_connections(server)) == 6, "not idle for a minute yet"
    shift_clock(17)
    for left in (4, 2, 1):
        assert mc.get("a") == b"a"
        # At least so many stay: a call closes two at most. What it closed, the server sees a little later.
        assert sum(not one.closed.is_set() for one in server.connections) >= left
    for _ in range(10):
        assert mc.get("a") == b"a"
        shift_clock(2)  # not every call looks
    wait_until_open(server, 1)
    assert len(server.connections) == 6, "the one in use stayed"
    print("done")
"""


def test_a_connection_idle_for_a_minute_is_closed_by_a_later_call():
    assert shim.run(IDLE) == "done\n"


IDLE_ALONE = """
import mcext
from test_connections import ScriptedServer, key_script, wait_until_open

with ScriptedServer(key_script) as server, ScriptedServer(key_script) as other:
    mc = mcext.Client([server.address, other.address], socket_timeout=30)
    keys = [f"key{i}" for i in range(50)]
    assert len(mc.get_multi(keys)) == 50
    here = server.commands[0].split()[1].decode()
    shift_clock(61)
    for _ in range(10):
        assert mc.get(here) == here.encode()
        shift_clock(2)  # not every call looks
    wait_until_open(other, 0)
    print("done")
"""


def test_idle_connections_to_other_servers_are_closed_too():
    assert shim.run(IDLE_ALONE) == "done\n"


@pytest.mark.parametrize("method", ["disconnect_all", "quit_all"])
def test_disconnecting_closes_all_from_any_thread(method):
    with ScriptedServer(Gate(6)) as server:
        mc = mcext.Client([server.address], socket_timeout=2 * AT_ONCE)
        together(mc, 6)
        assert len(open_connections(server)) == 6
        thread = threading.Thread(target=getattr(mc, method))
        thread.start()
        thread.join()
        wait_until_open(server, 0)
        assert together(mc, 6) == [b"key%d" % i for i in range(6)]
        assert len(server.connections) == 12


def test_disconnecting_during_a_call_of_another_thread_closes_its_connection_when_it_ends():
    script = Held()
    with ScriptedServer(script) as server:
        mc = mcext.Client([server.address], socket_timeout=2 * AT_ONCE)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(mc.get, "slow")
            assert script.asked.wait(AT_ONCE)
            mc.disconnect_all()
            assert len(open_connections(server)) == 1, "a call in flight keeps its connection"
            script.go_on.set()
            assert answer.result(AT_ONCE) == b"slow"
        wait_until_open(server, 0)
        assert mc.get("next") == b"next"
        assert len(server.connections) == 2


def test_disconnecting_while_all_call_leaves_no_connection_behind():
    """Many rounds, so that the disconnect meets every moment of a call."""
    with ScriptedServer(key_script) as server:
        mc = mcext.Client([server.address], socket_timeout=2 * AT_ONCE)
        stop = threading.Event()
        wrong = []

        def calls(number):
            key = f"key{number}"
            while not stop.is_set():
                if mc.get(key) != key.encode():
                    wrong.append(key)

        for _ in range(15):
            stop.clear()
            threads = [threading.Thread(target=calls, args=(i,)) for i in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(20):
                mc.disconnect_all()
            stop.set()
            for thread in threads:
                thread.join()
            mc.disconnect_all()
            wait_until_open(server, 0)
        assert wrong == []


def test_dropping_the_client_closes_all_from_any_thread():
    with ScriptedServer(Gate(6)) as server:
        clients = [mcext.Client([server.address], socket_timeout=2 * AT_ONCE)]
        gone = weakref.ref(clients[0])
        together(clients[0], 6)
        assert len(open_connections(server)) == 6
        thread = threading.Thread(target=clients.clear)
        thread.start()
        thread.join()
        gc.collect()
        assert gone() is None
        wait_until_open(server, 0)


def test_a_client_in_a_reference_cycle_is_collected_and_closed():
    with ScriptedServer(key_script) as server:
        mc = mcext.Client([server.address])
        mc.myself = mc
        mc.get("key1")
        gone = weakref.ref(mc)
        del mc
        gc.collect()
        assert gone() is None
        wait_until_open(server, 0)


def test_dropping_the_client_during_a_call_ends_after_the_call():
    script = Held()
    with ScriptedServer(script) as server:
        clients = [mcext.Client([server.address], socket_timeout=2 * AT_ONCE)]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(clients[0].get, "slow")
            assert script.asked.wait(AT_ONCE)
            clients.clear()
            gc.collect()
            script.go_on.set()
            assert answer.result(AT_ONCE) == b"slow"
        del answer
        gc.collect()
        wait_until_open(server, 0)


def test_set_servers_during_a_call_ends_neither_it_nor_its_answer():
    script = Held()
    with ScriptedServer(script) as server, ScriptedServer(key_script) as other:
        mc = mcext.Client([server.address], socket_timeout=2 * AT_ONCE)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(mc.get, "slow")
            assert script.asked.wait(AT_ONCE)
            mc.set_servers([other.address])
            assert mc.get("there") == b"there"
            script.go_on.set()
            assert answer.result(AT_ONCE) == b"slow"
        gc.collect()
        wait_until_open(server, 0)
        assert len(open_connections(other)) == 1


def test_a_call_that_timed_out_keeps_no_socket():
    with ScriptedServer(lambda command, number: STALL) as server:
        mc = mcext.Client([server.address], socket_timeout=0.05, connect_timeout=AT_ONCE, dead_retry=0)
        for _ in range(5):
            assert mc.get("key1") is None
        server.wait_for(lambda s: len(s.connections) == 5 and not open_connections(s), AT_ONCE)


CLOSE_THAT_CALLS = """
import socket, sys, threading
import memcache

class Socket(socket.socket):
    def close(self):
        super().close()
        if threading.current_thread() is threading.main_thread():
            client.get("key")

socket.socket = Socket
client = memcache.Client([sys.argv[1]], socket_timeout=30)
both = threading.Barrier(2)

def call():
    both.wait()
    client.get("slow")

# Two connections, each for one thread alone, both idle when the third thread disconnects.
threads = [threading.Thread(target=call) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
client.disconnect_all()
print(client.get("key"))
"""


def test_a_socket_that_calls_the_client_as_it_is_closed():
    """It is closed while no lock of the pool is held: else the call waits for its own thread."""
    gate = threading.Barrier(2)

    def script(command, number):
        if command.startswith(b"get slow"):
            gate.wait(AT_ONCE)
        return key_script(command, number)

    folder = str(Path(mcext.__file__).resolve().parents[1])
    with ScriptedServer(script) as server:
        done = subprocess.run(
            [sys.executable, "-c", CLOSE_THAT_CALLS, server.address],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([folder, *filter(None, sys.path)])},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.stdout, done.returncode) == ("b'key'\n", 0), done.stderr
