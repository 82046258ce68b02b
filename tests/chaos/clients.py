"""Each client library in its own words, behind the few calls that the chaos suite makes.

Only the library that is asked for is imported, since the caller runs each in a process of its own. Every client gets
the same deadline and, where it can, no pause after a failure, so that every call tries. Those that speak TLS take it
as the option tls_context.
"""

import importlib.metadata
import os


class MemcacheLike:
    """mcext and python-memcached: the interface that the suite is written in."""

    # A client may be shared by threads (python-memcached's is a threading.local).
    thread_safe = True
    # It is made to be used on after a fork without being told.
    survives_fork = True

    def __init__(self, addresses, timeout, **options):
        self.client = self.make(addresses, timeout, **options)
        for name in ("get", "set", "add", "append", "delete", "touch", "incr", "get_multi", "disconnect_all"):
            setattr(self, name, getattr(self.client, name))

    def set_multi(self, mapping):
        return not self.client.set_multi(mapping)


class Mcext(MemcacheLike):
    distribution = "mcext"

    @staticmethod
    def make(addresses, timeout, **options):
        import mcext

        if os.environ.get("MCEXT_WAY") == "customised":  # see tests/support/customised.py
            original = mcext.Client._encode_key
            mcext.Client._encode_key = lambda self, key: original(self, key)
        return mcext.Client(addresses, socket_timeout=timeout, connect_timeout=timeout, dead_retry=0, **options)


class McextCache:
    """mcext.Cache, whose failures are misses: so that each call has an answer to check."""

    distribution = "mcext"
    thread_safe = True
    survives_fork = True

    def __init__(self, addresses, timeout, **options):
        import mcext

        self.client = mcext.Cache(
            addresses, timeout=timeout, connect_timeout=timeout, dead_retry=0, errors="miss", **options
        )
        for name in ("get", "set", "add", "append", "delete", "incr"):
            setattr(self, name, getattr(self.client, name))
        self.get_multi = self.client.get_many
        self.disconnect_all = self.client.close

    def touch(self, key):
        return self.client.touch(key, None)

    def set_multi(self, mapping):
        return not self.client.set_many(mapping)


class PythonMemcached(MemcacheLike):
    distribution = "python-memcached"

    @staticmethod
    def make(addresses, timeout):
        import memcache

        if not hasattr(memcache.Client, "_get_server") or type(memcache.Client.get).__name__ != "function":
            raise RuntimeError(f"{memcache.__file__} is not python-memcached")
        return memcache.Client(addresses, socket_timeout=timeout, dead_retry=0)


class Pymemcache:
    distribution = "pymemcache"
    thread_safe = False
    survives_fork = False

    def __init__(self, addresses, timeout, **options):
        from pymemcache.client.base import Client

        # The plain client has one server.
        host, port = addresses[0].rsplit(":", 1)
        self.client = Client((host, int(port)), connect_timeout=timeout, timeout=timeout, no_delay=True, **options)
        for name in ("get", "append", "get_multi"):
            setattr(self, name, getattr(self.client, name))
        self.disconnect_all = self.client.close

    def set(self, key, value, noreply=False):
        return self.client.set(key, value, noreply=noreply)

    def add(self, key, value):
        return self.client.add(key, value, noreply=False)

    def append(self, key, value):
        return self.client.append(key, value, noreply=False)

    def delete(self, key):
        return self.client.delete(key, noreply=False)

    def touch(self, key):
        return self.client.touch(key, noreply=False)

    def incr(self, key):
        return self.client.incr(key, 1)

    def set_multi(self, mapping):
        return not self.client.set_multi(mapping, noreply=False)


class Pylibmc:
    distribution = "pylibmc"
    thread_safe = False
    survives_fork = False

    def __init__(self, addresses, timeout):
        import pylibmc

        self.client = pylibmc.Client(
            addresses,
            behaviors={
                "connect_timeout": int(timeout * 1000),
                "send_timeout": int(timeout * 1e6),
                "receive_timeout": int(timeout * 1e6),
                "_poll_timeout": int(timeout * 1000),
                "tcp_nodelay": True,
                "retry_timeout": 1,  # seconds; the least that it takes
            },
        )
        for name in ("get", "add", "append", "delete", "incr", "get_multi", "disconnect_all"):
            setattr(self, name, getattr(self.client, name))

    def set(self, key, value, noreply=False):
        return self.client.set(key, value)

    def touch(self, key):
        return self.client.touch(key, 0)

    def set_multi(self, mapping):
        return not self.client.set_multi(mapping)


class Libmc:
    distribution = "libmc"
    thread_safe = False
    survives_fork = False

    def __init__(self, addresses, timeout):
        import libmc

        self.client = libmc.Client(addresses, do_split=False, noreply=False)
        self.client.config(libmc.MC_POLL_TIMEOUT, int(timeout * 1000))
        self.client.config(libmc.MC_CONNECT_TIMEOUT, int(timeout * 1000))
        self.client.config(libmc.MC_RETRY_TIMEOUT, 0)
        for name in ("get", "add", "append", "delete", "incr", "get_multi", "set_multi"):
            setattr(self, name, getattr(self.client, name))
        self.disconnect_all = self.client.quit

    def set(self, key, value, noreply=False):
        return self.client.set(key, value)

    def touch(self, key):
        return self.client.touch(key, 0)


CLIENTS = {
    "mcext": Mcext,
    "mcext.Cache": McextCache,
    "python-memcached": PythonMemcached,
    "pymemcache": Pymemcache,
    "pylibmc": Pylibmc,
    "libmc": Libmc,
}


def version(name):
    """Return the version of the library that was loaded, or "" where it carries none."""
    try:
        return importlib.metadata.version(CLIENTS[name].distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
