"""oslo.cache's memcache_pool: client objects handed from thread to thread (they are no longer thread-local there)."""

import contextlib
import queue
import socket

import pytest

pytestmark = pytest.mark.frameworks
SIZE = 10


@pytest.fixture
def make_pool():
    from oslo_cache._memcache_pool import MemcacheClientPool

    def make(urls, **arguments):
        return MemcacheClientPool(urls, arguments, maxsize=SIZE, unused_timeout=60, conn_get_timeout=30)

    return make


@pytest.fixture
def region(server):
    from dogpile.cache import make_region
    from oslo_cache import core  # noqa: F401  (registers the backends)

    return make_region().configure(
        "oslo_cache.memcache_pool",
        arguments={"url": [server.address], "pool_maxsize": SIZE, "socket_timeout": 3, "dead_retry": 1},
    )


def test_threads_through_a_pool_get_their_own_values(region, in_threads, server_view):
    from dogpile.cache.api import NO_VALUE

    def user(number):
        wrong = []
        for turn in range(40):
            mapping = {f"{number}-{turn}-{step}": {"key": f"{number}-{turn}-{step}"} for step in range(4)}
            region.set_multi(mapping)
            if region.get_multi(list(mapping)) != list(mapping.values()):
                wrong.append(("get_multi", number, turn))
            wrong += [key for key in mapping if region.get(key) != {"key": key}]
            region.delete_multi(list(mapping))
            if region.get(f"{number}-{turn}-0") is not NO_VALUE:
                wrong.append(("delete_multi", number, turn))
        return wrong

    assert sum(in_threads(32, user), []) == []
    assert server_view.connections_ever <= SIZE, "more connections than clients in the pool"


def test_a_client_is_shared_by_all_threads(server, make_pool, in_threads):
    import memcache

    pool = make_pool([server.address])
    with pool.acquire() as client:
        assert isinstance(client, memcache.Client)
        client.set("key", "value")
        client.note = "seen by all"
        assert in_threads(1, lambda _: (client.get("key"), client.note)) == [("value", "seen by all")]
        stats = dict(client.stats)
    with pool.acquire() as same:
        assert same is client
        assert in_threads(1, lambda _: dict(same.stats)) == [stats]


def test_a_dead_mark_is_passed_on_to_the_other_clients(server, make_pool):
    with contextlib.closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: every connect is refused
        dead_address = f"127.0.0.1:{closed.getsockname()[1]}"
        pool = make_pool([server.address, dead_address], dead_retry=300)
        with pool.acquire() as one, pool.acquire() as two:
            assert one is not two
            for number in range(20):
                assert one.set(f"key-{number}", number), "the live server takes all keys"
            assert [host.deaduntil > 0 for host in one.servers] == [False, True]
            assert [host.deaduntil > 0 for host in two.servers] == [False, False]
        with pool.acquire() as three, pool.acquire() as four:
            for client in (three, four):
                assert [host.deaduntil > 0 for host in client.servers] == [False, True]
            assert [four.get(f"key-{number}") for number in range(20)] == list(range(20))


def test_reaped_clients_close_their_connections(server, make_pool, server_view):
    pool = make_pool([server.address])
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(pool.acquire()) for _ in range(SIZE)]
        for client in clients:
            assert client.set("key", "value")
        assert server_view.connections == SIZE
        pool._connection_get_timeout = 0.01
        from oslo_cache.exception import QueueEmpty

        with pytest.raises((QueueEmpty, queue.Empty)), pool.acquire():
            pass
    for client in clients:
        pool._destroy_connection(client)
    server_view.wait_until_open(0)


def test_the_pool_in_a_program_of_greenlets(server, run_app, server_view):
    assert run_app("oslo_eventlet.py", server.address) == {"wrong": [], "clients": SIZE // 2}
    assert server_view.connections_ever <= SIZE // 2
