"""Placement and servers change while other threads call: each call goes by the one or the other, and none fails."""

import contextlib
import itertools
import threading

import customised
import pytest

import mcext
import memcache
from mcext import placement
from mcext.testing import memcached

KEYS = [f"key{number}" for number in range(20)]
VALUES = {key: key.encode() for key in KEYS}
PLACEMENTS = [
    None,
    placement.libmc(),
    placement.rendezvous(),
    placement.pymemcache(),
    placement.libmemcached(),
]


class Customised(memcache.Client):
    """Its calls go through mcext.pure."""


customised.customise(Customised)


@pytest.fixture
def addresses():
    """Of servers that all have all keys."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(memcached(unix=True)) for _ in range(3)]
        for server in servers:
            client = mcext.Client([server.address])
            assert client.set_multi(VALUES) == []
            client.disconnect_all()
        yield [server.address for server in servers]


@pytest.mark.parametrize("kind", [mcext.Client, Customised, mcext.Cache])
def test_no_call_fails(addresses, kind):
    client = kind(addresses)
    get_many = client.get_many if kind is mcext.Cache else client.get_multi
    failed, over, calls = [], threading.Event(), itertools.count()

    def call():
        try:
            while next(calls) < len(threads) or not over.is_set():
                assert client.get(KEYS[0]) == VALUES[KEYS[0]]
                assert get_many(KEYS) == VALUES
                assert client.server_for(KEYS[1]) in addresses
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(150):
        if kind is not mcext.Cache:
            client.on_dead = None
            client.placement = PLACEMENTS[number % len(PLACEMENTS)]
            client.on_dead = ("miss", "next")[number % 2]
        weighted = [(address, 1 + number % 3) for address in addresses[: 2 + number % 2]]
        client.set_servers(weighted)
    over.set()
    for thread in threads:
        thread.join()
    assert failed == []
