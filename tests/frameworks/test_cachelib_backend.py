"""mcext.cachelib and mcext.flask: cachelib's cache and Flask-Caching's, with these packages' own tests."""

import datetime

import fetched
import ports
import pytest
import released

import mcext

pytestmark = pytest.mark.frameworks

CACHELIB, FLASK_CACHING = "cachelib==0.17.0", "flask-caching==2.5.1"


@pytest.fixture
def make_cache(server):
    from mcext.cachelib import MemcachedCache

    return lambda servers=server.address, **options: MemcachedCache(servers, **options)


@pytest.fixture
def make_app(server):
    """A Flask application, and Flask-Caching's cache of it."""
    from flask import Flask
    from flask_caching import Cache

    def make(**configured):
        app = Flask("test")
        app.config.update(
            CACHE_TYPE="mcext.flask.MemcachedCache", CACHE_MEMCACHED_SERVERS=[server.address], **configured
        )
        cache = Cache(app)
        return app, cache

    return make


@pytest.fixture
def nobody():
    """The address of a server that is not there."""
    with ports.bound() as sock:
        yield "{}:{}".format(*sock.getsockname())


# ---- the packages' own tests


@pytest.mark.slow
def test_cachelibs_own_tests_of_its_memcached_cache_pass(server):
    folder = fetched.source(CACHELIB)
    suite = "tests/test_memcached_cache.py::TestMemcachedCache"
    environment = {"MCEXT_ADDRESS": server.address, "MCEXT_SUITE": "cachelib", "CI": "true"}
    assert released.run_suite("cachelib_suite", folder, suite, path_to=[folder / "src"], **environment) >= 30


@pytest.mark.slow
def test_flask_cachings_own_tests_of_its_memcached_cache_pass(server):
    folder = fetched.source(FLASK_CACHING)
    suite = "tests/test_backend_cache.py::TestMemcachedCache"
    environment = {"MCEXT_ADDRESS": server.address, "MCEXT_SUITE": "flask"}
    path = [folder / "src", fetched.source(CACHELIB) / "src"]
    assert released.run_suite("cachelib_suite", folder, suite, path_to=path, **environment) >= 16


# ---- cachelib


@pytest.mark.parametrize("prefix", [None, "the-prefix:"])
def test_every_method(make_cache, prefix):
    cache = make_cache(key_prefix=prefix, default_timeout=60)
    assert cache.get("key") is None
    assert cache.set("key", {"a": 1}) is True
    assert cache.get("key") == {"a": 1}
    assert cache.add("key", "other") is False and cache.add("new", "other") is True
    assert cache.has("new") is True and cache.has("missing") is False
    assert cache.delete("new") is True and cache.delete("new") is False
    assert cache.set("none", None) and cache.has("none") is True and cache.get("none") is None

    mapping = {f"key-{number}": f"value-{number}" for number in range(100)}
    assert cache.set_many(mapping) == list(mapping)
    assert cache.get_many("key-7", "missing", "key-8", "key-7") == ["value-7", None, "value-8", "value-7"]
    assert cache.get_dict("key-7", "missing") == {"key-7": "value-7", "missing": None}
    assert cache.delete_many("missing", *mapping) == ["missing", *mapping]
    assert cache.get_many(*mapping) == [None] * 100
    assert cache.clear() is True and cache.get("key") is None


def test_the_prefix_stands_on_the_server(make_cache, server):
    make_cache(key_prefix="shop:").set("key", "value")
    with mcext.Cache([server.address]) as cache:
        assert cache.get("shop:key") == "value"


def test_what_can_be_no_key_is_not_there(make_cache):
    cache = make_cache(key_prefix="shop:")
    longest = "k" * 245
    assert cache.set(longest, 1) and cache.get(longest) == 1
    for key in ("k" * 246, "é" * 123, "a key", "line\nend", "\x1b[2J", "", "\x7f"):
        assert cache.get(key) is None and cache.has(key) is False and cache.delete(key) is False
        assert cache.get_dict(key, longest) == {key: None, longest: 1}
        assert cache.delete_many(key) == []
        with pytest.raises(ValueError, match="key"):
            cache.set(key, 1)


def test_a_timeout_is_a_time_nought_is_for_ever_and_less_is_over(make_cache, server):
    cache = make_cache(default_timeout=100)
    with mcext.Cache([server.address]) as there:
        assert cache.set("a", 1) and 95 <= there.get_item("a").ttl <= 100
        assert cache.set("a", 1, timeout=60 * 60 * 24 * 40) and there.get_item("a").ttl > 60 * 60 * 24 * 39
        assert cache.set_many({"a": 1}, timeout=0) == ["a"] and there.get_item("a").ttl is None
        assert make_cache(default_timeout=0).add("b", 1) and there.get_item("b").ttl is None
        assert cache.inc("c") == 1 and 95 <= there.get_item("c").ttl <= 100
    assert cache.add("a", 1, timeout=-1) is False and cache.add("d", 1, timeout=-1) is True
    assert cache.set("a", 1, timeout=-1) is True
    assert cache.set_many({"b": 1}, timeout=-1) == ["b"]
    assert cache.get_many("a", "b", "d") == [None] * 3


def test_no_increment_is_lost_and_numbers_may_be_below_nought(make_cache, in_threads):
    cache = make_cache()
    in_threads(8, lambda number: [cache.inc("counter") for _ in range(25)])
    assert cache.get("counter") == 200
    assert cache.dec("counter", 300) == -100 and cache.get("counter") == -100
    assert cache.dec("other") == -1 and cache.inc("other", 3) == 2


def test_without_a_server_nothing_is_there_and_nothing_is_raised(make_cache, nobody):
    events = []
    cache = make_cache([nobody], on_event=events.append, ignore_delete_many_errors=False)
    assert cache.get("key") is None and cache.get_many("a", "b") == [None, None] and cache.get_dict("a") == {"a": None}
    assert cache.set("key", 1) is False and cache.add("key", 1) is False and cache.set_many({"a": 1}) == []
    assert cache.has("key") is False and cache.delete("key") is False and cache.delete_many("a") == ["a"]
    assert cache.inc("key") is None and cache.dec("key") is None and cache.clear() is True
    assert "error" in {event.kind for event in events}
    assert cache.cache.metrics()["dead_marks"] >= 1
    with pytest.raises(mcext.ServerUnavailable):
        make_cache([nobody], errors="raise").get("key")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"tiemout": 1}, "options of mcext.cachelib.MemcachedCache: there is no option 'tiemout'"),
        ({"codec": "nowhere"}, "codec must be an object or its dotted path"),
        ({"servers": ""}, "servers must name one"),
    ],
)
def test_wrong_options_are_named(make_cache, options, words):
    with pytest.raises(ValueError, match=words):
        make_cache(**options)


# ---- Flask-Caching


def test_flask_caching_keeps_views_and_functions(make_app):
    app, cache = make_app()
    calls = []

    @app.route("/")
    @cache.cached(timeout=60)
    def front():
        calls.append("front")
        return f"<h1>{len(calls)}</h1>"

    @cache.memoize(timeout=60)
    def square(number):
        calls.append(number)
        return number * number

    with app.test_client() as client:
        assert [client.get("/").text for _ in range(3)] == ["<h1>1</h1>"] * 3
    with app.app_context():
        assert [square(7), square(7), square(8)] == [49, 49, 64]
        cache.delete_memoized(square, 7)
        assert [square(7), square(8)] == [49, 64]
        assert calls == ["front", 7, 8, 7]
        assert cache.set_many({"a": 1, "b": 2}) and cache.get_dict("a", "b", "c") == {"a": 1, "b": 2, "c": None}
        assert cache.delete_many("c", "a", "b") and cache.get_many("a", "b") == [None, None]
        assert cache.set("d", 1, timeout=datetime.timedelta(hours=1).seconds) and cache.has("d")


def test_flasks_configuration_is_whole(make_app, server):
    app, _ = make_app(
        CACHE_DEFAULT_TIMEOUT=100,
        CACHE_KEY_PREFIX="shop:",
        CACHE_OPTIONS={"timeout": 5, "placement": "mcext.placement.rendezvous", "codec": "mcext.codecs.JSON"},
    )
    (backend,) = app.extensions["cache"].values()
    assert backend.set("key", {"a": 1})
    with mcext.Cache([server.address], codec=mcext.codecs.JSON()) as cache:
        item = cache.get_item("shop:key")
        assert item.value == {"a": 1} and 95 <= item.ttl <= 100


def test_flasks_name_and_password_are_said_to_the_server(make_app):
    with mcext.testing.memcached(tls=True, auth=("shop", "word")) as guarded:
        configured = {
            "CACHE_MEMCACHED_USERNAME": "shop",
            "CACHE_MEMCACHED_PASSWORD": "word",
            "CACHE_OPTIONS": {"tls_context": guarded.tls_context, "errors": "raise"},
        }
        app, cache = make_app(**configured)
        app.config["CACHE_MEMCACHED_SERVERS"] = [guarded.address]
        cache.init_app(app)
        with app.app_context():
            assert cache.set("key", "value") and cache.get("key") == "value"


@pytest.mark.parametrize(
    "configured, words",
    [
        ({"CACHE_OPTIONS": {"behaviors": {}}}, "CACHE_OPTIONS: there is no option 'behaviors'"),
        ({"CACHE_ARGS": ["127.0.0.1:1"]}, "CACHE_ARGS must be empty"),
    ],
)
def test_flasks_wrong_configuration_is_named(make_app, configured, words):
    with pytest.raises(ValueError, match=words):
        make_app(**configured)
