"""CherryPy's MemcachedSession in a live CherryPy server (examples/cherrypy_sessions.py) under concurrent HTTP load."""

import http.client
import json
import sys
import urllib.parse

import pytest

pytestmark = pytest.mark.frameworks


class Browser:
    """One user's browser: keeps the session cookie and the connection."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.session_id = None

    def open(self, path, **query):
        headers = {"Cookie": f"session_id={self.session_id}"} if self.session_id else {}
        if query:
            path += "?" + urllib.parse.urlencode(query)
        self.connection.request("GET", path, headers=headers)
        response = self.connection.getresponse()
        body = response.read()
        assert response.status == 200, body.decode()
        cookie = response.getheader("Set-Cookie", "")
        if cookie.startswith("session_id="):
            self.session_id = cookie.partition("=")[2].partition(";")[0]
        return json.loads(body)

    def close(self):
        self.connection.close()


@pytest.fixture
def port(start_program, server, examples):
    program = start_program(sys.executable, examples / "cherrypy_sessions.py", server.address, 0)
    return int(program.wait_for(r"listening on http://127\.0\.0\.1:(\d+)/").group(1))


def test_each_browser_sees_its_own_session_only(port, in_threads, server_view):
    def user(number):
        browser = Browser(port)
        name = f"user-{number}"
        before = None
        for _ in range(3):
            assert browser.open("/sign_in", name=name) == {"name": name}
            assert browser.session_id != before, "a new session id at each sign-in"
            before = browser.session_id
            for visits in range(1, 16):
                assert browser.open("/") == {"visits": visits, "name": name}
        assert browser.open("/sign_out") == {"bye": name}
        browser.close()
        return before

    ids = in_threads(16, user)

    assert len(set(ids)) == 16
    assert server_view.connections <= 10, "no more connections than the server has threads"


def test_requests_of_one_browser_at_a_time_lose_no_update(port, in_threads):
    first = Browser(port)
    first.open("/sign_in", name="one")
    first.close()

    def tab(number):
        browser = Browser(port)
        browser.session_id = first.session_id
        seen = [browser.open("/")["visits"] for _ in range(20)]
        browser.close()
        return seen

    seen = in_threads(6, tab)
    assert sorted(visits for tab_seen in seen for visits in tab_seen) == list(range(1, 121))


def test_a_restart_of_memcached_forgets_sessions_and_fails_no_request(port, server):
    browser = Browser(port)
    browser.open("/sign_in", name="one")
    assert browser.open("/") == {"visits": 1, "name": "one"}
    for _ in range(3):
        server.stop()
        server.start()
        for visits in range(1, 13):
            assert browser.open("/") == {"visits": visits, "name": None}
    browser.close()
