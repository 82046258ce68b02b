"""cachelib's MemcachedCache (the cache of Flask-Caching and Flask-Session), shared by threads."""

import pytest

pytestmark = pytest.mark.frameworks


@pytest.fixture
def make_cache(server):
    from cachelib import MemcachedCache

    import memcache

    # A client is handed over: given addresses, cachelib takes another client where one is installed.
    return lambda **options: MemcachedCache(memcache.Client([server.address]), **options)


def test_found_by_itself_where_no_other_client_is_installed(server, monkeypatch):
    import sys

    from cachelib import MemcachedCache

    import memcache

    monkeypatch.setitem(sys.modules, "pylibmc", None)
    cache = MemcachedCache([server.address])
    assert isinstance(cache._client, memcache.Client)
    assert cache.set("key", "value") and cache.get("key") == "value"


@pytest.mark.parametrize("prefix", [None, "the-prefix:"])
def test_every_method(make_cache, prefix):
    cache = make_cache(key_prefix=prefix, default_timeout=60)
    assert cache.get("key") is None
    assert cache.set("key", {"a": 1}) is True
    assert cache.get("key") == {"a": 1}
    assert cache.add("key", "other") is False
    assert cache.add("new", "other") is True
    assert cache.has("new") is True
    assert cache.has("missing") is False
    assert cache.delete("new") is True
    assert cache.has("new") is False

    mapping = {f"key-{number}": f"value-{number}" for number in range(100)}
    assert sorted(cache.set_many(mapping)) == sorted(mapping)
    assert cache.get_many("key-7", "missing", "key-8") == ["value-7", None, "value-8"]
    assert cache.get_dict("key-7", "missing") == {"key-7": "value-7", "missing": None}
    assert cache.get_dict(*mapping) == mapping
    assert sorted(cache.delete_many(*mapping)) == sorted(mapping)
    assert cache.get_many(*mapping) == [None] * 100

    assert cache.get("k" * 300) is None, "a key too long is a miss"
    cache.clear()
    assert cache.get("key") is None


def test_counters(make_cache):
    cache = make_cache()
    assert cache.set("counter", 5)
    assert cache.inc("counter", 3) == 8
    assert cache.dec("counter") == 7
    assert cache.get("counter") == 7


def test_a_timeout_reaches_the_server(make_cache):
    cache = make_cache()
    assert cache.set("key", "value", timeout=1000)
    assert cache.get("key") == "value"
    cache._client.set("gone", "value", -1)
    assert cache.get("gone") is None


def test_threads_that_share_a_cache_never_get_another_key(make_cache, in_threads):
    cache = make_cache(key_prefix="p:")

    def user(number):
        wrong = []
        for turn in range(100):
            mapping = {f"{number}-{turn}-{step}": {"key": f"{number}-{turn}-{step}"} for step in range(5)}
            if sorted(cache.set_many(mapping)) != sorted(mapping):
                wrong.append(("set_many", turn))
            if cache.get_dict(*mapping) != mapping:
                wrong.append(("get_dict", turn))
            wrong += [key for key in mapping if cache.get(key) != {"key": key}]
        return wrong

    assert sum(in_threads(8, user), []) == []
