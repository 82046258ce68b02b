"""Beaker's `ext:memcached`: caches and web sessions, one client for all threads."""

import http.cookies

import pytest

pytestmark = pytest.mark.frameworks


@pytest.fixture
def options(server, tmp_path):
    return {"type": "ext:memcached", "url": server.address, "memcache_module": "memcache", "lock_dir": str(tmp_path)}


@pytest.fixture
def cache(options):
    from beaker.cache import CacheManager

    return CacheManager(**options).get_cache("pages")


def test_the_container_uses_this_client(cache):
    import memcache

    assert isinstance(cache._get_value("key").namespace.mc, memcache.Client)


def test_values_come_back_and_go(cache):
    for key, value in {"text": "text", "bytes": b"bytes", "int": 12, "dict": {"a": [1, 2]}, "with a space": 1}.items():
        cache.put(key, value)
        assert key in cache
        assert cache.get(key) == value
        cache.remove_value(key)
        assert key not in cache
    long_key = "k" * 400
    cache.put(long_key, "hashed by Beaker")
    assert cache.get(long_key) == "hashed by Beaker"
    cache.clear()
    assert long_key not in cache


def test_threads_create_a_value_once(cache, in_threads):
    created = []

    def user(number):
        values = []
        for page in range(10):

            def create(page=page):
                created.append(page)
                return {"page": page, "text": f"page {page} " * 200}

            values.append(cache.get(key=f"page-{page}", createfunc=create))
        return values

    expected = [{"page": page, "text": f"page {page} " * 200} for page in range(10)]
    assert in_threads(8, user) == [expected] * 8
    assert sorted(created) == list(range(10))


def test_each_browser_sees_its_own_session_only(options, in_threads):
    from beaker.middleware import SessionMiddleware

    def application(environ, start_response):
        session = environ["beaker.session"]
        session["visits"] = session.get("visits", 0) + 1
        session.setdefault("name", environ["QUERY_STRING"])
        session.save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return ["{name} {visits}".format(**session).encode()]

    wrapped = SessionMiddleware(application, {f"session.{name}": value for name, value in options.items()})

    def user(number):
        cookie, answers = "", []
        for _ in range(25):
            environ = {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": "/",
                "QUERY_STRING": f"user-{number}",
                "HTTP_COOKIE": cookie,
                "SERVER_NAME": "localhost",
                "SERVER_PORT": "80",
                "wsgi.url_scheme": "http",
            }
            sent = {}
            body = wrapped(environ, lambda status, headers, exc_info=None, sent=sent: sent.update(headers))
            answers.append(b"".join(body).decode())
            if "Set-cookie" in sent:
                morsel = http.cookies.SimpleCookie(sent["Set-cookie"])["beaker.session.id"]
                cookie = f"beaker.session.id={morsel.value}"
        return answers

    assert in_threads(12, user) == [[f"user-{n} {visits}" for visits in range(1, 26)] for n in range(12)]
