"""A server of TLS 1.3 may change its keys at any time, and ask for the client's change."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import server_contexts
from openssl_server import OpensslServer
from other_sockets import sockets, with_others  # noqa: F401  (sockets is a fixture)
from passing import Passing
from scripted_server import PATIENCE

import mcext

AT_ONCE = 20 * PATIENCE
KINDS = with_others(
    {
        "Client": lambda address, **tls: mcext.Client([address], socket_timeout=AT_ONCE, **tls),
        "Cache": lambda address, **tls: mcext.Cache([address], timeout=AT_ONCE, **tls),
        "in Python": lambda address, **tls: Passing([address], socket_timeout=AT_ONCE, **tls),
    }
)
ANSWER = b"VALUE key 0 5\r\nvalue\r\nEND\r\n"


@pytest.fixture(params=KINDS)
def client(request, server):
    client = KINDS[request.param](server.address, tls_context=server_contexts.client())
    yield client
    client.close() if isinstance(client, mcext.Cache) else client.disconnect_all()


@pytest.fixture
def server():
    with OpensslServer() as server:
        yield server


def get(server, client, *story):
    """A call, while whose answer the steps of the story are taken."""

    def tell():
        server.wait_for(rb"get key\r\n")
        for step in story:
            step() if callable(step) else server.say(step)

    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(tell)
        got = client.get("key")
        told.result()
    assert got == b"value"


TIMES = [1, pytest.param(30, marks=pytest.mark.slow)]


@pytest.mark.parametrize("ask", [False, True])
@pytest.mark.parametrize("times", TIMES)
def test_keys_that_change_between_calls(server, client, ask, times):
    get(server, client, ANSWER)
    for _ in range(3):
        for _ in range(times):
            server.update_keys(ask)
        get(server, client, ANSWER)
    assert server.connections == 1


@pytest.mark.parametrize("ask", [False, True])
def test_keys_that_change_long_before_the_next_call(server, client, ask):
    """A connection that was not used for a second is looked at: new keys are no reason to leave it."""
    get(server, client, ANSWER)
    for _ in range(2):
        server.update_keys(ask)
        time.sleep(1.1)
        get(server, client, ANSWER)
    assert server.connections == 1


def test_what_is_said_behind_new_keys_long_before_the_next_call_is_not_its_answer(server, client):
    get(server, client, ANSWER)
    server.update_keys(False)
    server.say(ANSWER.replace(b"value", b"wrong"))
    time.sleep(1.1)
    get(server, client, ANSWER)
    assert server.connections == 2


@pytest.mark.parametrize("ask", [False, True])
@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("cut", [0, 3, 18, len(ANSWER) - 2])
def test_keys_that_change_in_the_middle_of_an_answer(server, client, ask, times, cut):
    updates = [lambda: server.update_keys(ask)] * times
    before = [ANSWER[:cut]] if cut else []
    for _ in range(2):
        get(server, client, *before, *updates, ANSWER[cut:])
    get(server, client, ANSWER)
    assert server.connections == 1


def test_the_client_changes_its_own_before_it_says_more(server, client):
    """The server would end a connection whose next record had the old keys; it says what it has read."""
    get(server, client, lambda: server.update_keys(True), ANSWER)
    for _ in range(3):
        get(server, client, ANSWER)
    assert server.connections == 1
