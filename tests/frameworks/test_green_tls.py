"""TLS under gevent and eventlet: monkey-patched, or with the library's socket module as memcache.socket alone."""

import contextlib
import json
import time

import ports
import pytest
import server_contexts
from dripping_proxy import DrippingProxy
from patient_server import PatientServer
from scripted_server import PATIENCE, ScriptedServer

from mcext.testing import memcached

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.slow]
LIMIT = 1.0  # seconds, of the calls whose server drips


def long_value(command, number):
    """A server that has each key, whose value drips for seconds."""
    return b"VALUE %s 0 1000\r\n%s\r\nEND\r\n" % (command.split()[1], bytes(1000)) if command[:4] == b"get " else None


class SlowServer(PatientServer):
    """One whose handshakes each take a while from the client's hello on; `most` is how many there were at once."""

    inside = most = 0

    def _hold(self):
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.3)
        with self._lock:
            self.inside -= 1


@pytest.mark.parametrize("order", ["patched", "assigned"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_greenlets_share_clients_over_tls(run_app, library, order):
    def late(command, number):
        if command == b"get slow\r\n":
            later.drips.set()
        return long_value(command, number)

    tls = server_contexts.server()
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        server = enter(memcached(tls=True))
        strict = enter(memcached("-o", "ssl_verify_mode=2", tls=True))
        silent = enter(ports.listen())
        crowded = enter(SlowServer(long_value, tls=tls))
        again = enter(ScriptedServer(long_value, tls=tls))
        at_once = enter(DrippingProxy(again))
        at_once.drips.set()
        later = enter(DrippingProxy(enter(ScriptedServer(late, tls=tls))))
        addresses = {
            "server": server.address,
            "strict": strict.address,
            "silent": f"127.0.0.1:{silent.getsockname()[1]}",
            "crowded": crowded.address,
            "again": again.address,
            "drips at once": at_once.address,
            "drips later": later.address,
        }
        seen = run_app("green_tls.py", library, order, server.ca_file, LIMIT, json.dumps(addresses))
        resumed = [each.socket.session_reused for each in again.connections[:3]]
        most = crowded.most
    assert seen["wrong"] == 0
    assert seen["ticks"] > 5, "the hub stood still while a handshake stalled"
    assert "certificate verify failed" in seen["said"]
    assert "connect timed out" in seen["said after kills"], "who was killed in its handshake still has its turn"
    assert resumed == [False, True, True]
    assert seen["unavailable"] == 50
    assert most == 4 and seen["crowd"] == 12
    assert seen["ticks_of_the_crowd"] > 5, "the hub stood still while greenlets waited for their turns"
    for what in ("handshake", "reply"):
        assert LIMIT * 0.9 < seen[what] < LIMIT + 2 * PATIENCE, what
