"""A Twisted application that calls the client by deferToThread: the example web server, and a reactor under load."""

import http.client
import sys

import ports
import pytest

pytestmark = pytest.mark.frameworks


def test_the_example_web_server_gives_each_path_its_own_value(start_program, server, examples, in_threads, server_view):
    program = start_program(sys.executable, examples / "twisted_threads.py", server.address, 0)
    port = int(program.wait_for(r"listening on http://127\.0\.0\.1:(\d+)/").group(1))

    def user(number):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

        def ask(method, path, body=None):
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()

        for turn in range(30):
            path = f"/user-{number}/{turn}"
            body = f"the value of {path} ".encode() * (1 + turn * 20)
            assert ask("GET", path) == (404, b"")
            assert ask("PUT", path, body) == (204, b"")
            assert ask("GET", path) == (200, body)
        assert ask("PUT", "/" + "k" * 300, b"x") == (400, b""), "a key too long"
        connection.close()

    in_threads(24, user)
    assert server_view.connections <= 20, "no more connections than the reactor has threads"


def test_the_reactor_keeps_ticking_and_no_value_is_wrong(run_app, server, server_view):
    with ports.listen() as silent:
        result = run_app("twisted_app.py", server.address, 40, f"127.0.0.1:{silent.getsockname()[1]}")
    assert result["failures"] == []
    assert result["wrong"] == []
    assert server_view.connections_ever <= 20, "no more connections than the reactor has threads"
    assert result["stalled get"] == "the default"
    assert result["stalled for"] >= 1.9
    assert result["ticks"] > 10, "the reactor waited for memcached"  # of two hundred: a busy machine has few
