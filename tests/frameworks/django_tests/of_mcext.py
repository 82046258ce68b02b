"""Django's own tests of memcached backends, for ours: copied into the folder tests/cache of its source distribution.

All of them twice: with the methods, and with the awaited ones in their place.
"""

from unittest import mock

from asgiref.sync import async_to_sync
from django.core import signals
from django.core.cache import cache
from django.test import TestCase, override_settings

import mcext
from mcext.django import MemcachedCache

from .tests import BaseMemcachedTests, caches_setting_for_tests, configured_caches, memcached_excluded_caches


def awaited(name):
    def call(self, *args, **keywords):
        return async_to_sync(getattr(self.inner, f"a{name}"))(*args, **keywords)

    return call


class AwaitedCache(MemcachedCache):
    """Each method is the awaited one of another such cache, in an event loop of its own."""

    def __init__(self, server, params):
        super().__init__(server, params)
        self.inner = MemcachedCache(server, params)


for _name in """
    add clear decr decr_version delete delete_many get get_many get_or_set has_key incr incr_version set set_many touch
""".split():
    setattr(AwaitedCache, _name, awaited(_name))

CONFIGURED = configured_caches["mcext.django.MemcachedCache"]


class Promised(BaseMemcachedTests):
    should_disconnect_on_close = False
    # What fails is a miss, a counter that is no number, too.
    incr_decr_type_error = ValueError

    def test_options_are_the_clients(self):
        with self.settings(CACHES={"default": {**self.base_params, "OPTIONS": {"timeout": 0.25, "errors": "raise"}}}):
            self.assertIsInstance(cache._cache, mcext.Cache)
            self.assertEqual(cache._cache.errors, "raise")


@override_settings(CACHES=caches_setting_for_tests(base=CONFIGURED, exclude=memcached_excluded_caches))
class McextTests(Promised, TestCase):
    base_params = CONFIGURED


AWAITED = {**CONFIGURED, "BACKEND": "cache.of_mcext.AwaitedCache"}


@override_settings(CACHES=caches_setting_for_tests(base=AWAITED, exclude=memcached_excluded_caches))
class McextAwaitedTests(Promised, TestCase):
    base_params = AWAITED

    def test_set_many_returns_failing_keys(self):
        async def fails(cache, mapping, ttl):
            return list(mapping)

        with mock.patch.object(mcext.AsyncCache, "set_many", fails):
            self.assertEqual(cache.set_many({"key": "value"}), ["key"])

    def test_closing_at_the_end_of_a_request_keeps_connections(self):
        with mock.patch.object(mcext.AsyncCache, "aclose", autospec=True) as closed:
            signals.request_finished.send(self.__class__)
        self.assertFalse(closed.called)
