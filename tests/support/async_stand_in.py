"""A cache for asyncio that stands in for mcext.AsyncCache: each call is one of mcext.Cache's, in a thread."""

import asyncio
from functools import partial

import mcext
from mcext import async_fill, fill, memo


def make(servers, **options):
    """The cache that the tests of tests/asyncio are about."""
    return StandIn(servers, **options)


def _awaited(name):
    async def method(self, *args, **kwargs):
        return await asyncio.to_thread(getattr(self._cache, name), *args, **kwargs)

    return method


class StandIn:
    def __init__(self, servers, **options):
        self._cache = mcext.Cache(servers, **options)
        self._flights = None, {}
        self._leases = {}

    for _name in (
        *("get", "get_many", "get_item", "set", "add", "delete", "touch", "flush_all"),
        *("_release", "_gets", "_add_beside", "_delete_beside", "_swap", "_invalidate"),
    ):
        locals()[_name] = _awaited(_name)

    async def _look(self, key, lease, refresh):
        """Where the caller is cancelled, a lease that came is given back by the one who reads the reply."""
        loop = asyncio.get_running_loop()
        look = loop.run_in_executor(None, self._cache._look, key, lease, refresh)
        try:
            return await asyncio.shield(look)
        except asyncio.CancelledError:
            look.add_done_callback(partial(self._give_back, key))
            raise

    def _give_back(self, key, look):
        if not look.cancelled() and look.exception() is None:
            found, _, token, has_value = look.result()
            if found == fill._WON:
                look.get_loop().run_in_executor(None, self._cache._release, key, token, has_value)

    def _flights_of_this_loop(self):
        loop = asyncio.get_running_loop()
        if self._flights[0] is not loop:
            self._flights = loop, {}
        return self._flights[1]

    # ---- composed of several calls

    def get_or_set(
        self, key, factory, ttl=None, *, refresh=None, lease=None, wait=None, stale=None, fallback=None
    ):  # fmt: skip
        return async_fill.get_or_set_async(self, key, factory, ttl, refresh, lease, wait, stale, fallback)

    def update(self, key, function, ttl=None, *, retries=16):
        return async_fill.update_async(self, key, function, ttl, retries)

    def invalidate(self, key, *, stale=None):
        return async_fill.invalidate_async(self, key, stale)

    def memoize(self, ttl=None, *, key=None, **options):
        return memo.memoize(self, ttl, key, options, is_async=True)

    # ---- what is not awaited

    def _count_fill(self, key, which):
        self._cache._count_fill(key, which)

    def server_for(self, key):
        return self._cache.server_for(key)

    def metrics(self, reset=False):
        return self._cache.metrics(reset)

    @property
    def errors(self):
        return self._cache.errors

    @property
    def on_event(self):
        return self._cache.on_event

    @on_event.setter
    def on_event(self, hook):
        self._cache.on_event = hook

    async def aclose(self):
        self._cache.close()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *unused):
        await self.aclose()
