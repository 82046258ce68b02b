"""A cache for Flask-Caching, over mcext.Cache: CACHE_TYPE = "mcext.flask.MemcachedCache".

docs/frameworks.md has more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask_caching.backends.base import BaseCache

from mcext import cachelib

__all__ = ["MemcachedCache"]


class MemcachedCache(cachelib.MemcachedCache, BaseCache):
    """Flask-Caching's cache in memcached. It is configured by CACHE_MEMCACHED_SERVERS, CACHE_MEMCACHED_USERNAME,
    CACHE_MEMCACHED_PASSWORD, CACHE_KEY_PREFIX and CACHE_DEFAULT_TIMEOUT; CACHE_OPTIONS are those of mcext.Cache. The
    rest is as in mcext.cachelib.MemcachedCache.
    """

    _source = "CACHE_OPTIONS"

    @classmethod
    def factory(cls, app: Flask, config: Mapping[str, Any], args: list[Any], kwargs: dict[str, Any]) -> MemcachedCache:
        """What Flask-Caching calls. Raises ValueError for CACHE_ARGS: all there is has a name."""
        if args:
            raise ValueError(
                "CACHE_ARGS must be empty: servers stand in CACHE_MEMCACHED_SERVERS, the rest in CACHE_OPTIONS"
            )
        named = {"username": "CACHE_MEMCACHED_USERNAME", "password": "CACHE_MEMCACHED_PASSWORD"}
        options = {option: config[name] for option, name in named.items() if config.get(name) is not None} | kwargs
        return cls(config["CACHE_MEMCACHED_SERVERS"], key_prefix=config["CACHE_KEY_PREFIX"], **options)
