"""The list of servers changes server by server: who stays keeps all it has, and of who goes nothing is left."""

import gc
import os
import signal
import threading
import time
import weakref

import plain_socket
import pytest
from scripted_server import PATIENCE, ScriptedServer

import mcext
import memcache
from mcext.testing import memcached as start_memcached

AT_ONCE = 20 * PATIENCE
THREADS = 16
TIMES = 1000


def client_of(servers):
    return mcext.Client(servers, socket_timeout=AT_ONCE)


def cache_of(servers):
    return mcext.Cache(servers, timeout=AT_ONCE)


BOTH = pytest.mark.parametrize("make", [client_of, cache_of], ids=["client", "cache"])


def one_thread():
    """A memcached that has counted all that came before it is asked: no other thread of it is still to do so."""
    return start_memcached("-t", "1")


def total_connections(server):
    """What the server itself has counted, this question's own among them."""
    return int(asked(server)["total_connections"])


def asked(server):
    with plain_socket.connect(server, AT_ONCE) as stream:
        stream.sendall(b"stats\r\nquit\r\n")
        lines = b"".join(iter(lambda: stream.recv(1 << 16), b"")).decode().splitlines()
    return dict(line.split(" ", 2)[1:] for line in lines if line.startswith("STAT "))


def wait_until(condition, what):
    end = time.monotonic() + AT_ONCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


class Load:
    """So many threads that call all the time, until the `with` body has ended; `goes_on` waits for them."""

    def __init__(self, call, threads=THREADS):
        self._call = call
        self._stop = threading.Event()
        self._problems = []
        self._counts = [0] * threads
        self._condition = threading.Condition()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def _run(self, number):
        try:
            while not self._stop.is_set():
                self._call(number)
                self._counts[number] += 1
                with self._condition:
                    self._condition.notify_all()
        except BaseException as error:
            self._problems.append(error)
            with self._condition:
                self._condition.notify_all()

    def __enter__(self):
        for each in self._threads:
            each.start()
        wait_until(lambda: all(self._counts) or self._problems, "the threads never began")
        return self

    def __exit__(self, *unused):
        self._stop.set()
        for each in self._threads:
            each.join()
        assert self._problems == []

    def goes_on(self):
        """Waits until some thread has ended a call that it began after this."""
        before = [*self._counts]
        with self._condition:
            more = self._condition.wait_for(
                lambda: self._problems or any(now > then + 1 for now, then in zip(self._counts, before, strict=True)),
                AT_ONCE,
            )
        assert more, "no call ends"


def calls_of(client):
    """One that fails where any of its calls does."""
    is_cache = isinstance(client, mcext.Cache)
    get_many, set_many = (client.get_many, client.set_many) if is_cache else (client.get_multi, client.set_multi)

    def call(number):
        values = {f"key{number}.{i}": number for i in range(4)}
        for key, value in values.items():
            assert client.set(key, value) is True
            assert client.get(key) in (None, value)  # it may live elsewhere by now
        assert set_many(values) == []
        assert set(get_many(list(values)).values()) <= {number}

    return call


# ---- under load ----------------------------------------------------------------------------------------------------


@BOTH
def test_a_server_comes_and_goes_a_thousand_times_under_load(make):
    """No call fails, nobody reconnects to those that stay, and of the other one nothing is left."""
    with one_thread() as one, one_thread() as two, one_thread() as third:
        few, all_three = [one.address, (two.address, 2)], [one.address, (two.address, 2), third.address]
        before = [total_connections(server) for server in (one, two)]
        client = make(few)
        with Load(calls_of(client)):
            pass
        gone, threads, open_before = [], threading.active_count(), descriptors()
        with Load(calls_of(client)) as load:
            for number in range(TIMES):
                client.set_servers(all_three)
                if make is client_of:
                    gone.append(weakref.ref(client.servers[-1]))
                else:
                    gone.append(weakref.ref(client._hosts[third.address][0]))
                if number % 10 == 0:
                    load.goes_on()
                client.set_servers(few)
        wait_until(lambda: int(asked(third)["curr_connections"]) <= base_connections(third), "connections are left")
        gc.collect()
        assert [reference() for reference in gone if reference() is not None] == []
        assert threading.active_count() <= threads
        assert descriptors() <= open_before + 2 * THREADS  # those that stay have at most one for each thread
        for server, count in zip((one, two), before, strict=True):
            assert total_connections(server) - count - 1 <= THREADS
        assert int(asked(third)["cmd_set"]) > 0
        all_alive = (
            [not host.deaduntil for host in client.servers]
            if make is client_of
            else [server.alive for server in client.servers]
        )
        assert all_alive == [True, True]


def base_connections(server):
    """memcached counts its listening sockets, and the connection that asks."""
    return 2


def test_no_count_of_a_cache_is_lost_with_a_server(memcached):
    """Also not those of calls that were under way when their server went."""
    with start_memcached() as other:
        cache = cache_of([memcached.address])
        sets = [0] * THREADS

        def call(number):
            assert cache.set(f"key{number}", number) is True
            sets[number] += 1

        seen = []
        with Load(call) as load:
            for _ in range(200):
                cache.set_servers([memcached.address, other.address])
                load.goes_on()
                cache.set_servers([other.address])
                cache.set_servers([memcached.address])
                seen.append(cache.metrics()["calls"]["set"])
        assert seen == sorted(seen)
        gc.collect()
        counted = cache.metrics(reset=True)
        assert counted["calls"] == {"set": sum(sets)}
        assert counted["stored"] == sum(sets)
        assert len(cache._retired) <= 1
        assert cache.metrics()["calls"] == {}


# ---- who stays -----------------------------------------------------------------------------------------------------


@BOTH
def test_who_stays_keeps_connection_and_dead_mark_wherever_it_stands(make):
    """The list is turned round, weights change, others come before it and go."""
    with one_thread() as one, one_thread() as two:
        client = make([one.address, two.address])
        for number in range(50):
            client.set(f"key{number}", number)
        before = [total_connections(server) for server in (one, two)]
        for servers in (
            [two.address, one.address],
            [("127.0.0.1:1", 3), (two.address, 5), (one.address, 2)],
            [(one.address, 7), two.address],
        ):
            client.set_servers(servers)
            for number in range(50):
                client.set(f"key{number}", number)
        assert [total_connections(server) - 1 for server in (one, two)] == before
        one.stop()
        for number in range(50):
            try:
                client.set(f"key{number}", number)
            except mcext.MemcacheError:
                pass  # of the server that was stopped
        for servers in ([two.address, (one.address, 3)], [one.address, "127.0.0.1:1", two.address]):
            client.set_servers(servers)
            marked = (
                {str(host).split(" ")[0].removeprefix("inet:"): bool(host.deaduntil) for host in client.servers}
                if make is client_of
                else {server.address: not server.alive for server in client.servers}
            )
            assert (marked[one.address], marked[two.address]) == (True, False)


def test_hosts_stay_by_what_they_connect_to_and_each_for_one_of_the_list():
    client = memcache.Client(["a:1", "b", "unix:/tmp/x", "[::1]:3", ("a:1", 2)])
    one, b, unix, v6, other = hosts = client.servers
    client.set_servers(["inet:b:11211", ("a:1", 4), "inet6:[::1]:3", "c:1", "/tmp/x"])
    assert [host in hosts for host in client.servers] == [True, True, True, False, True]
    assert client.servers[0] is b and client.servers[1] is one and client.servers[2] is v6 and client.servers[4] is unix
    assert [host.weight for host in client.servers] == [1, 4, 1, 1, 1]
    assert client.buckets == [b, one, one, one, one, v6, client.servers[3], unix]
    client.set_servers(["a:1", "a:1", "a:1"])
    assert client.servers[0] is one
    assert len(set(client.servers)) == 3 and other not in client.servers


def test_an_equal_list_leaves_the_list_itself_in_place():
    client = memcache.Client(["a:1", ("b:1", 2)])
    listed, (one, other) = client.servers, client.servers
    one.socket_timeout = 7
    client.set_servers(["a:1", ("b:1", 3)])
    assert client.servers is listed
    assert client.buckets == [one, other, other, other]
    assert one.socket_timeout == 7


def test_options_reach_hosts_that_stay_as_they_reach_new_ones():
    client = memcache.Client(["a:1", "b:1"], socket_timeout=3)
    client.servers[0].socket_timeout = 9  # its own, until the list is another one
    client.set_servers(["c:1", "a:1"])
    assert [(host.socket_timeout, host.dead_retry) for host in client.servers] == [(3, 30)] * 2
    client.socket_timeout, client.dead_retry, client.debug, client.connect_timeout = 5, 1, 1, 2
    client.set_servers(["a:1", "d:1"])
    assert [(host.socket_timeout, host.dead_retry, host.debug, host.connect_timeout) for host in client.servers] == [
        (5, 1, 1, 2)
    ] * 2


def test_wrong_servers_change_nothing_of_a_client():
    client = memcache.Client([("a:1", 2), "b:1"])
    hosts, buckets = [*client.servers], [*client.buckets]
    for wrong in (["a:1", ("b:1", 5), "c:x"], ["a:1", 5], [("a:1", "2")], [("a:1", 5), ""]):
        with pytest.raises((TypeError, ValueError)):
            client.set_servers(wrong)
        assert (client.servers, client.buckets) == (hosts, buckets)
        assert [host.weight for host in hosts] == [2, 1]


def test_hosts_that_are_not_of_the_class_that_an_application_put_in_place_do_not_stay(monkeypatch):
    class Mine(memcache._Host):
        pass

    client = memcache.Client(["a:1", "b:1"])
    before = client.servers
    monkeypatch.setattr(memcache, "_Host", Mine)
    client.set_servers(["a:1", "b:1"])
    assert [type(host) for host in client.servers] == [Mine, Mine]
    assert not {*before} & {*client.servers}
    hosts = [*client.servers]
    client.set_servers(["b:1", "a:1"])
    assert client.servers == hosts[::-1]
    monkeypatch.setattr(memcache, "_Host", lambda *arguments, **options: Mine(*arguments, **options))
    client.set_servers(["b:1", "c:1"])
    assert client.servers[0] is hosts[1]


def test_an_init_buckets_of_ones_own_finds_the_new_weights():
    seen = []

    class Mine(memcache.Client):
        def _init_buckets(self):
            seen.append([(host.address[0], host.weight) for host in self.servers])
            super()._init_buckets()

    client = Mine(["a:1", ("b:1", 2)])
    client.set_servers([("b:1", 5), "c:1"])
    assert seen == [[("a", 1), ("b", 2)], [("b", 5), ("c", 1)]]


@pytest.mark.parametrize("kind", ["plain", "customised"])
def test_a_call_under_way_ends_where_it_began_and_its_connection_is_closed_then(kind):
    class Customised(mcext.Client):
        def _get_server(self, key):
            return super()._get_server(key)

    asked_for, go_on = threading.Event(), threading.Event()

    def script(command, number):
        if command == b"get slow\r\n":
            asked_for.set()
            assert go_on.wait(AT_ONCE)
            return b"VALUE slow 0 4\r\nslow\r\nEND\r\n"
        return None

    with ScriptedServer(script) as server, ScriptedServer() as other:
        client = (mcext.Client if kind == "plain" else Customised)([server.address], socket_timeout=2 * AT_ONCE)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(client.get("slow")))
        thread.start()
        assert asked_for.wait(AT_ONCE)
        client.set_servers([other.address])
        assert client.set("k", b"v") is True
        go_on.set()
        thread.join(AT_ONCE)
        assert answers == [b"slow"]
        del thread
        gc.collect()
        assert server.connections[0].closed.wait(AT_ONCE)


@BOTH
def test_a_signal_handler_may_do_what_it_interrupts(make):
    """set_servers, and of a Cache metrics, which hold a lock of its own: each in the middle of each."""
    client = make(["127.0.0.1:1"])
    steps = [lambda: client.set_servers(["127.0.0.1:1", "127.0.0.1:2"]), lambda: client.set_servers(["127.0.0.1:1"])]
    if make is cache_of:
        steps += [client.metrics, lambda: client.metrics(reset=True)]
    handled = []

    def handler(number, frame):
        if not handled or handled[-1] is not None:
            handled.append(None)  # it is not interrupted itself
            steps[len(handled) % len(steps)]()
            handled[-1] = True

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
    try:
        turn = 0
        until = time.monotonic() + 2 * AT_ONCE
        while len(handled) < 300 and time.monotonic() < until:
            turn += 1
            steps[turn % len(steps)]()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(handled) >= 300 and all(handled)
    client.set_servers(["127.0.0.1:1"])
    assert len(client.servers) == 1
