"""cachelib's own tests of its memcached cache, and Flask-Caching's, with ours in its place: a plugin for pytest in
their sources."""

import os
import sys
import types
from unittest.mock import MagicMock

import pytest

# It would start servers. There is one.
sys.modules["xprocess"] = types.ModuleType("xprocess")
sys.modules["xprocess"].ProcessStarter = object


@pytest.fixture(scope="session")
def xprocess():
    return MagicMock()


def make(servers, memcache_client_lib=None, **arguments):
    if os.environ["MCEXT_SUITE"] == "flask":
        from mcext.flask import MemcachedCache
    else:
        from mcext.cachelib import MemcachedCache
    cache = MemcachedCache([os.environ["MCEXT_ADDRESS"]], **arguments)
    cache._client = None  # which cachelib's tests close
    return cache


def is_ours(item):
    """What is not about the pool of another client's, nor once more with a second client."""
    return "python-memcached" not in item.name and "pool" not in item.name


def pytest_collection_modifyitems(config, items):
    config.hook.pytest_deselected(items=[item for item in items if not is_ours(item)])
    items[:] = filter(is_ours, items)
    for module in {item.module for item in items}:
        if os.environ["MCEXT_SUITE"] == "flask":
            module.backends.MemcachedCache = make
        else:
            module.MemcachedCache = make
