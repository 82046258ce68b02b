"""Django 3.2's MemcachedCache (it also calls `_deletetouch`); Django 4.0 is the last that has it."""

import pytest

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def make_cache(server):
    from django.core.cache.backends.memcached import MemcachedCache

    return lambda **options: MemcachedCache(server.address, {"TIMEOUT": 60, "OPTIONS": options})


def test_the_backend_uses_this_client(make_cache):
    import memcache

    cache = make_cache(socket_timeout=2)
    assert isinstance(cache._cache, memcache.Client)
    assert cache._cache.socket_timeout == 2
    assert cache._cache.pickleProtocol > 0


def test_every_method(make_cache):
    cache = make_cache()
    assert cache.get("key", "default") == "default"
    cache.set("key", {"a": 1})
    assert cache.get("key", "default") == {"a": 1}
    assert not cache.add("key", "other")
    assert cache.add("new", "other")
    assert cache.touch("new", 100) is True
    assert cache.touch("missing", 100) is False
    assert cache.delete("new") is True
    assert cache.delete("new") is False, "through _deletetouch: NOT_FOUND is false here"
    assert "key" in cache and "new" not in cache

    cache.set("counter", 5)
    assert cache.incr("counter", 3) == 8
    assert cache.decr("counter") == 7
    assert cache.incr("counter", -2) == 5
    with pytest.raises(ValueError):
        cache.incr("missing")

    mapping = {f"key-{number}": [number] for number in range(100)}
    assert cache.set_many(mapping) == []
    assert cache.get_many([*mapping, "missing"]) == mapping
    cache.delete_many(list(mapping)[:50])
    assert cache.get_many(mapping) == dict(list(mapping.items())[50:])

    cache.set("gone", "at once", timeout=0)
    assert cache.get("gone") is None
    cache.set("stays", "for ever", timeout=None)
    assert cache.get("stays") == "for ever"
    cache.set("later", "in 60 days", timeout=60 * 86400)
    assert cache.get("later") == "in 60 days"

    cache.set("large", b"small")
    cache.set("large", b"x" * (1 << 20) + b"y")
    assert cache.get("large") is None, "refused, and the old value is gone"
    cache.clear()
    assert cache.get("stays") is None


def test_closing_at_the_end_of_each_request_disturbs_no_other_thread(make_cache, in_threads):
    cache = make_cache()

    def user(number):
        wrong = []
        for turn in range(60):
            mapping = {f"{number}-{turn}-{step}": f"value of {number}-{turn}-{step}" for step in range(3)}
            if cache.set_many(mapping) != []:
                wrong.append(("set_many", turn))
            if cache.get_many(mapping) != mapping:
                wrong.append(("get_many", turn))
            wrong += [key for key, value in mapping.items() if cache.get(key) != value]
            cache.close()
        return wrong

    assert sum(in_threads(8, user), []) == []
