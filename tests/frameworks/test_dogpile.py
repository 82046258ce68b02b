"""dogpile.cache's `dogpile.cache.memcached` backend: a client for each thread, locks in memcached, the multi calls."""

import threading

import pytest

pytestmark = pytest.mark.frameworks


@pytest.fixture
def make_region(server):
    from dogpile.cache import make_region

    def make(**arguments):
        return make_region().configure(
            "dogpile.cache.memcached",
            expiration_time=3600,
            arguments={"url": [server.address], "socket_timeout": 3, "dead_retry": 1, **arguments},
        )

    return make


def test_the_backend_uses_this_client(make_region):
    import memcache

    assert isinstance(make_region().backend.client, memcache.Client)


def test_values_come_back_and_go(make_region):
    from dogpile.cache.api import NO_VALUE

    region = make_region()
    for number, value in enumerate(["text", b"bytes", 12, {"a": [1, 2]}, ("x", None), "x" * 100_000]):
        region.set(f"key-{number}", value)
        assert region.get(f"key-{number}") == value
        region.delete(f"key-{number}")
        assert region.get(f"key-{number}") is NO_VALUE


def test_the_multi_calls(make_region):
    from dogpile.cache.api import NO_VALUE

    region = make_region(min_compress_len=200, memcached_expire_time=60)
    mapping = {f"key-{number}": f"value-{number} " * number for number in range(200)}
    keys = list(mapping)
    region.set_multi(mapping)
    assert region.get_multi(keys) == list(mapping.values())
    assert region.get_multi(["key-1", "missing", "key-2"]) == [mapping["key-1"], NO_VALUE, mapping["key-2"]]
    region.delete_multi(keys[:100])
    assert region.get_multi(keys) == [NO_VALUE] * 100 + list(mapping.values())[100:]

    created = []

    def create(*missing):
        created.extend(missing)
        return [mapping[key] for key in missing]

    assert region.get_or_create_multi(keys, create) == list(mapping.values())
    assert sorted(created) == sorted(keys[:100])
    assert region.get_or_create_multi(keys, create) == list(mapping.values())
    assert len(created) == 100


def test_memcached_expire_time_reaches_the_server(make_region):
    from dogpile.cache.api import NO_VALUE

    region = make_region(memcached_expire_time=-1)
    region.set("key", "gone at once")
    assert region.get("key") is NO_VALUE


def test_a_distributed_lock_lets_one_creator_in(make_region, in_threads):
    regions = [make_region(distributed_lock=True, lock_timeout=30) for _ in range(4)]
    created = []

    def user(number):
        def create():
            created.append(number)
            return {"made by": number}

        return regions[number % 4].get_or_create("the-key", create)

    values = in_threads(12, user)

    assert len(created) == 1, "the lock in memcached let a second creator in"
    assert values == [{"made by": created[0]}] * 12


def test_the_lock_itself(make_region):
    one, two = (make_region(distributed_lock=True).backend.get_mutex("key") for _ in range(2))
    assert one.acquire(wait=False) and one.locked() and two.locked()
    assert not two.acquire(wait=False)
    one.release()
    assert not two.locked()
    assert two.acquire(wait=False)
    two.release()


def test_clients_of_threads_that_ended_close_their_connections(make_region, in_threads, server_view):
    region = make_region()
    clients = []
    mutex = threading.Lock()

    def user(number):
        for turn in range(10):
            key = f"key-{number}-{turn}"
            region.set(key, {"key": key})
            assert region.get(key) == {"key": key}
        with mutex:
            clients.append(id(region.backend.client))

    for _ in range(10):
        in_threads(10, user)

    assert len(clients) == 100
    server_view.wait_until_open(1)


def test_threads_that_share_a_region_never_get_another_key(make_region, in_threads):
    region = make_region()

    def user(number):
        wrong = []
        for turn in range(60):
            keys = [f"key-{(number + step) % 8}-{turn % 5}" for step in range(4)]
            found = region.get_or_create_multi(keys, lambda *missing: [{"key": key} for key in missing])
            wrong += [(key, value) for key, value in zip(keys, found, strict=True) if value != {"key": key}]
            region.delete(keys[0])
        return wrong

    assert sum(in_threads(8, user), []) == []
