"""Celery's own tests of its memcached backend, with ours in its place: a plugin for pytest in Celery's sources."""

import os

from mcext.celery import MemcachedBackend

# What cannot be asked of ours, and why; or the test in test_celery_backend.py that promises it instead.
OTHERWISE = {
    "test_regression_worker_startup_info": "it is about cache+memcached://",
    "test_unknown_backend_raises_ImproperlyConfigured": "backends go by their entry points",
    "test_as_uri_no_servers": "memory://, which ours has not",
    "test_chord_uses_chord_expires": "it mocks the client; test_a_chord_expires_as_it_is_told_to",
    "test_warns_on_chord_expires_over_30_days": "they hold; test_more_than_thirty_days_hold",
}


def make(app, backend=None, expires=None):
    url = f"mcext://{os.environ['MCEXT_ADDRESS']}/" if backend == "memory://" else backend
    return MemcachedBackend(app=app, url=url, expires=expires)


def pytest_collection_modifyitems(config, items):
    ours = [item for item in items if item.originalname not in OTHERWISE]
    config.hook.pytest_deselected(items=[item for item in items if item not in ours])
    items[:] = ours
    for module in {item.module for item in items}:
        module.CacheBackend = make
