"""TLS under gevent and eventlet: by the wrap_socket of the library's own contexts."""

import socket

import pytest

from mcext.testing import memcached

pytestmark = pytest.mark.frameworks


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_greenlets_share_clients_over_tls(run_app, library):
    with memcached(tls=True) as server, socket.create_server(("127.0.0.1", 0)) as silent:
        seen = run_app("green_tls.py", library, server.address, server.ca_file, f"127.0.0.1:{silent.getsockname()[1]}")
    assert seen["wrong"] == 0
    assert seen["ticks"] > 5, "the hub stood still while a handshake stalled"
    assert "certificate verify failed" in seen["said"]
