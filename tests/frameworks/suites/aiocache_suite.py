"""aiocache's own tests of its memcached cache, with ours in its place: a plugin for pytest in aiocache's sources."""

import contextlib
import os
import types
from unittest import mock

import aiocache
import over_tls
import pytest

from mcext.aiocache import MemcachedCache

# What cannot be asked of ours, and why.
OTHERWISE = {
    "TestMemcachedCache::test_accept_explicit_args": "it makes aiocache's own class",
    "TestMemcachedCache::test_set_too_long_key": "the error is aiomcache's",
    "TestMemcachedCache::test_set_float_ttl_fails": "it is rounded up",
    "TestMemcachedCache::test_multi_set_float_ttl": "it is rounded up",
    "TestMemcachedCache::test_close": "it looks into aiomcache",
    "TestMemcachedRedLock::test_float_lease": "it is rounded up",
}


class Ours(MemcachedCache):
    def __init__(self, **arguments):
        super().__init__(os.environ["MCEXT_ADDRESS"], tls_context=over_tls.context(), **arguments)


aiocache.Cache.MEMCACHED = Ours


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def mocker():
    """As much of pytest-mock as the tests take."""
    with contextlib.ExitStack() as patches:

        def patch(*arguments, **named):
            return patches.enter_context(mock.patch(*arguments, **named))

        def patch_object(*arguments, **named):
            return patches.enter_context(mock.patch.object(*arguments, **named))

        patch.object = patch_object
        spy = lambda target, name: patch_object(target, name, wraps=getattr(target, name))  # noqa: E731
        yield types.SimpleNamespace(patch=patch, spy=spy)


def pytest_addoption(parser):
    parser.addini("asyncio_mode", "of pytest-asyncio, in aiocache's configuration; anyio does its work here")


def pytest_collection_modifyitems(config, items):
    def is_ours(item):
        named = f"{item.cls.__name__ if item.cls else ''}::{item.originalname}"
        return "memcached" in item.nodeid.lower() and named not in OTHERWISE

    config.hook.pytest_deselected(items=[item for item in items if not is_ours(item)])
    items[:] = filter(is_ours, items)
