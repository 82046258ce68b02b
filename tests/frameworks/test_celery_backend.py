"""mcext.celery: results in memcached as `mcext://`, under Celery 5.6 and 5.7, and their own tests of a backend."""

import pickle
import signal
import sys

import fetched
import ports
import pytest
import released

import mcext

pytestmark = pytest.mark.frameworks

VERSIONS = ["5.6.3", "5.7.0"]


@pytest.fixture
def make(server):
    """A backend of an application with these settings; the URL is that of a memcached of the test's."""
    from celery import Celery

    from mcext.celery import MemcachedBackend

    def make(url="mcext://{}/", expires=None, **settings):
        app = Celery("test", broker="memory://", set_as_current=False)
        app.conf.update(settings)
        return MemcachedBackend(app=app, url=url.format(server.address), expires=expires)

    return make


@pytest.fixture
def nobody():
    """The address of a server that is not there."""
    with ports.bound() as sock:
        yield "{}:{}".format(*sock.getsockname())


# ---- Celery with it


@pytest.mark.parametrize("version", VERSIONS)
def test_celerys_own_tests_of_its_memcached_backend_pass(version, server):
    suite = "t/unit/backends/test_cache.py::test_CacheBackend"
    folder = fetched.source(f"celery=={version}")
    assert released.run_suite("celery_suite", folder, suite, MCEXT_ADDRESS=server.address) >= 12


@pytest.mark.slow
@pytest.mark.parametrize("version, pool", [("5.6.3", "threads"), ("5.7.0", "prefork"), ("5.7.0", "gevent")])
def test_each_caller_gets_its_own_results(version, pool, server, environment, start_program, run_app, tmp_path, apps):
    (tmp_path / "messages").mkdir()
    environment.update(
        CELERY_FOLDER=str(tmp_path / "messages"),
        CELERY_MEMCACHED=server.address,
        CELERY_RESULTS=f"mcext://{server.address}/?timeout=5",
        PYTHONPATH=released.path(fetched.source(f"celery=={version}"), released.entry_points(tmp_path)),
    )
    worker = start_program(
        *(sys.executable, "-m", "celery", "--workdir", apps, "-A", "celery_mcext", "worker"),
        *("--pool", pool, "--concurrency", 3, "--loglevel", "INFO"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    )
    worker.wait_for(r"celery@\S+ ready")
    result = run_app("celery_mcext_driver.py")
    assert result["wrong"] == []
    assert result["failed"] == "LookupError('so it is')"
    assert result["worker"] == [version, "mcext.celery", f"mcext://{server.address}/"]
    if pool == "prefork":
        assert result["pids"] > 1
    worker.stop(signal.SIGQUIT)


# ---- its configuration


def test_options_come_from_the_url_and_from_the_transport_options_and_the_urls_win(make):
    events = []
    transport = {"timeout": 7, "prefix": "jobs:", "on_event": events.append, "slow": 0, "global_keyprefix": "shop"}
    backend = make(
        "mcext://{}/?prefix=mine:&placement=mcext.placement.rendezvous", result_backend_transport_options=transport
    )
    backend.set(backend.get_key_for_task("one"), "text")
    key = "mine:shop_celery-task-meta-one"
    with mcext.Cache(backend._servers, placement=mcext.placement.rendezvous()) as cache:
        assert cache.get(key) == "text"
    assert [event.command for event in events if event.kind == "slow"] == ["set"]


@pytest.mark.parametrize(
    "url, settings, words",
    [
        ("mcext:///", {}, "servers must name one"),
        ("mcext://{}/?tiemout=1", {}, "its URL: there is no option 'tiemout'; did you mean 'timeout'"),
        ("mcext://{}/?timeout=soon", {}, "its URL: timeout must be a number"),
        ("mcext://{}/?timeout", {}, "its URL: timeout must be a number, not ''"),
        ("mcext://{}/?tls_context=no.such", {}, "its URL: tls_context cannot be had from 'no.such'"),
        (
            "mcext://{}/",
            {"result_backend_transport_options": {"behaviors": {}}},
            "result_backend_transport_options: there is no option 'behaviors'",
        ),
        ("mcext://{}/", {"result_backend_transport_options": {"timeout": "1"}}, "timeout must be a number"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_named(make, url, settings, words):
    from celery.exceptions import ImproperlyConfigured

    with pytest.raises(ImproperlyConfigured) as caught:
        make(url, **settings)
    assert words in str(caught.value) and "mcext://" in str(caught.value)


def test_several_servers_share_the_results(make, memcached, server):
    backend = make(f"mcext://{server.address};{memcached.address}/")
    keys = [backend.get_key_for_task(str(number)) for number in range(50)]
    for key in keys:
        backend.set(key, key)
    assert backend.mget(keys) == {key: key for key in keys}
    used = {backend.client.server_for(key) for key in keys}
    assert used == {server.address, memcached.address}


def test_tls_and_a_name_with_a_password_come_from_the_configuration():
    with mcext.testing.memcached(tls=True, auth=("shop", "p@ss;w/rd")) as server:
        from celery import Celery

        from mcext.celery import MemcachedBackend

        app = Celery("test", broker="memory://", set_as_current=False)
        app.conf.result_backend_transport_options = {"tls_context": server.tls_context}
        backend = MemcachedBackend(app=app, url=f"mcext://shop:p%40ss%3Bw%2Frd@{server.address}/?prefix=a:")
        backend.set(b"key", b"value")
        assert backend.get(b"key") == b"value"
        assert backend.as_uri() == f"mcext://{server.address}/"
        assert "p%40ss" in backend.as_uri(include_password=True)
        assert "shop" not in repr(vars(backend)["client"])


def test_a_result_with_its_backend_goes_through_a_pickle(make):
    backend = make("mcext://{}/?prefix=p:", expires=60)
    backend.set(b"key", "value")
    function, arguments = backend.__reduce__()[0], backend.__reduce__()[1:]
    assert function.__module__ == "celery.backends.base"
    again = pickle.loads(pickle.dumps(arguments[0]))
    copy = again[0](*again[1], app=backend.app, **again[2])
    assert copy.get(b"key") == "value" and copy.expires == 60 and copy.url == backend.url


# ---- what it stores


def test_nothing_that_is_on_the_server_is_unpickled(make, server):
    backend = make()
    with mcext.Cache([server.address]) as cache:
        cache.set("key", {"a": "pickle"})
    with pytest.raises(mcext.DecodeError):
        backend.get(b"key")


def test_results_expire_as_they_are_told_to(make, server):
    backend = make(expires=100)
    backend.set(b"key", "value")
    with mcext.Cache([server.address]) as cache:
        assert 95 <= cache.get_item("key").ttl <= 100
        backend.expire(b"key", 1000)
        assert 995 <= cache.get_item("key").ttl <= 1000
        backend.expire(b"key", None)
        assert cache.get_item("key").ttl is None
        make(result_expires=None).set(b"other", "value")
        assert cache.get_item("other").ttl is None


def test_more_than_thirty_days_hold(make, server):
    days = 60 * 60 * 24 * 31
    make(expires=days).set(b"key", "value")
    with mcext.Cache([server.address]) as cache:
        assert days - 5 <= cache.get_item("key").ttl <= days


@pytest.mark.parametrize("codec", [None, "Signed"])
def test_a_chord_expires_as_it_is_told_to(make, server, codec):
    options = {"codec": mcext.codecs.Signed(b"a key of 16 bytes or more")} if codec else {}
    backend = make(result_backend_transport_options=options, expires=100)
    for _ in range(2):  # once more: what there was counts for nothing
        backend.apply_chord(("group", []), None)
        key = backend.get_key_for_chord("group")
        with mcext.Cache([server.address]) as cache:
            assert 95 <= cache.get_item(key).ttl <= 100
        assert [backend.incr(key) for _ in range(3)] == [1, 2, 3]


def test_a_chord_without_its_counter_is_an_error_that_says_so(make):
    from celery.exceptions import ChordError

    with pytest.raises(ChordError, match="no counter 'chord-unlock-gone'"):
        backend = make()
        backend.incr(backend.get_key_for_chord("gone"))


# ---- when servers fail


def test_what_cannot_be_stored_or_read_is_raised(make, nobody):
    backend = make(f"mcext://{nobody}/")
    for call in (
        lambda: backend.store_result("id", 1, "SUCCESS"),
        lambda: backend.get_state("id"),
        lambda: list(backend.get_many(["id"], timeout=1)),
        lambda: backend.forget("id"),
    ):
        with pytest.raises(mcext.MemcacheError):
            call()


def test_celery_tries_again_where_it_is_told_to(make, server, nobody, monkeypatch):
    backend = make(f"mcext://{nobody}/?dead_retry=0", result_backend_always_retry=True)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            backend.client.set_servers([server.address])

    monkeypatch.setattr(type(backend), "_sleep", lambda self, seconds: nap(seconds))
    backend.store_result("id", 42, "SUCCESS")
    assert len(naps) == 3 and backend.get_result("id") == 42


def test_what_would_fail_again_is_not_tried_again(make):
    backend = make(result_backend_always_retry=True)
    with pytest.raises(mcext.ValueTooLarge):
        backend.store_result("id", "x" * 2_000_000, "SUCCESS")


def test_failures_can_be_misses(make, nobody):
    events = []
    backend = make(f"mcext://{nobody}/?errors=miss", result_backend_transport_options={"on_event": events.append})
    assert backend.store_result("id", 1, "SUCCESS") == 1
    assert backend.get_state("id") == "PENDING"
    assert "error" in {event.kind for event in events}
