"""Run by the Python that a wheel was installed for: python smoke.py PLAIN-ADDRESS [TLS-ADDRESS CA-FILE].

Needs nothing but the installed package. What is wrong is an exception.
"""

import asyncio
import os
import platform
import sys

import mcext
import memcache
from mcext import _core

plain, *secure = sys.argv[1:]
if "site-packages" not in _core.__file__:
    raise SystemExit(f"error: this is not the installed package: {_core.__file__}")


def same(found, wanted):
    if found != wanted:
        raise SystemExit(f"error: {found!r}, not {wanted!r}")


def use_client(client):
    same(client.set("client", {"a": [1, 2.5, None]}), True)
    same(client.get("client"), {"a": [1, 2.5, None]})
    same(client.set_multi({f"k{number}": number for number in range(300)}), [])
    same(client.get_multi([f"k{number}" for number in range(300)]), {f"k{number}": number for number in range(300)})
    same(client.incr("k7"), 8)
    same(client.set("long", "x" * 100_000, min_compress_len=100), True)  # through the system's libz
    same(client.get("long"), "x" * 100_000)


def use_cache(cache):
    same(cache.set("cache", b"\0\xff", ttl=60), True)
    same(cache.get("cache"), b"\0\xff")
    same(cache.get_or_set("computed", lambda: "once", ttl=60), "once")
    same(cache.get_or_set("computed", lambda: "twice", ttl=60), "once")
    same(cache.get_item("cache").value, b"\0\xff")
    same(cache.set("packed", "y" * 50_000), True)
    same(cache.get("packed"), "y" * 50_000)
    same(cache.get_item("packed").size < 1000, True)


async def use_async_cache(cache):
    async with cache:
        same(await cache.set("async", 42), True)
        same(await asyncio.gather(*(cache.get("async") for _ in range(100))), [42] * 100)
        same(await cache.get_or_set("async computed".replace(" ", "-"), lambda: "once", ttl=60), "once")


def use_all(address, **options):
    same(mcext.Client is memcache.Client, True)
    use_client(memcache.Client([address], **options))
    use_cache(mcext.Cache([address], compression=mcext.Compression(), **options))
    asyncio.run(use_async_cache(mcext.AsyncCache([address], **options)))


use_all(plain)
if secure:
    import ssl

    address, authority = secure
    use_all(address, tls_context=ssl.create_default_context(cafile=authority))
free = "t" if hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled() else ""
library = os.path.basename(_core.__file__)
tls = "with TLS" if secure else "without TLS"
print(f"Python {platform.python_version()}{free} on {platform.machine()}: {library} works, {tls}")
