"""Kinds of clients whose connections are made by a class that stands in the place of Python's own socket.socket.

    from other_sockets import sockets, with_others  # noqa: F401  (sockets is a fixture)
    KINDS = with_others({"Client": ..., "Cache": ...})       # and those two over each of the classes

A test that has such a kind among its parameters runs with that class for memcache.socket.
"""

import socket
from types import SimpleNamespace

import pytest

import memcache


class Other(socket.socket):
    """Derived from Python's own: any thread may use it."""


class Own:
    """Not derived: it belongs to the thread that made it, as gevent's and eventlet's."""

    def __init__(self, *arguments):
        self._inner = socket.socket(*arguments)
        for name in ("connect", "sendall", "recv", "settimeout", "fileno", "close"):
            setattr(self, name, getattr(self._inner, name))


CLASSES = {", sockets of another class": Other, ", sockets of one thread": Own}
IN_C = ["Client", "Cache"]
OVER_OTHERS = [kind + over for kind in IN_C for over in CLASSES]
DERIVED = [kind for kind in OVER_OTHERS if CLASSES[kind[kind.index(",") :]] is Other]


def with_others(kinds):
    return {**kinds, **{kind: kinds[kind.partition(",")[0]] for kind in OVER_OTHERS}}


@pytest.fixture(autouse=True)
def sockets(request, monkeypatch):
    values = request.node.callspec.params.values() if hasattr(request.node, "callspec") else ()
    for kind in values:
        if kind in OVER_OTHERS:
            monkeypatch.setattr(memcache, "socket", SimpleNamespace(socket=CLASSES[kind[kind.index(",") :]]))
