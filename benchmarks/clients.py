"""The clients side by side: how each is opened, with the settings that its own documentation gives for this use.

Most have get, set, get_multi, set_multi and incr. A client is imported only when it is opened, since two of them live
in a module of the same name: one process opens one kind of client.

The pickle protocol is for those that write protocol 0 if not told otherwise. pymemcache and pylibmc write the newest,
and libmc has marshal for what marshal can write.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

METHODS = ("get", "set", "incr", "get_multi", "set_multi")


@dataclass(frozen=True)
class Kind:
    name: str
    package: str  # its line in requirements.txt; empty for ours
    module: str
    open: Callable[[list[str], int], Any]  # servers, pickle protocol
    needs: str = ""  # what its installation needs beyond pip
    shares: bool = True  # it reads the bytes that others store
    methods: tuple[str, ...] = METHODS  # what can be measured of it
    unix: bool = True  # it connects to Unix sockets


def _ours(servers: list[str], protocol: int) -> Any:
    import mcext

    return mcext.Client(servers, pickleProtocol=protocol)


def _cache(servers: list[str], protocol: int) -> Any:
    """The client for new code; its pickles have a protocol of their own."""
    import mcext

    return mcext.Cache(servers)


def _customised(servers: list[str], protocol: int) -> Any:
    """A client whose class replaces an inside of python-memcached's, so that its calls go the way in Python."""
    import mcext

    class Customised(mcext.Client):
        def _encode_key(self, key: Any) -> Any:
            return super()._encode_key(key)

    return Customised(servers, pickleProtocol=protocol)


def _placed(function: str, *arguments: Any) -> Callable[[list[str], int], Any]:
    """This client, with a placement of another one's."""

    def open(servers: list[str], protocol: int) -> Any:
        import mcext

        return mcext.Client(servers, placement=getattr(mcext.placement, function)(*arguments))

    return open


def _python_memcached(servers: list[str], protocol: int) -> Any:
    import memcache

    if OURS in sys.modules:
        raise ImportError("the memcache module that was found is not python-memcached's")
    return memcache.Client(servers, pickleProtocol=protocol)


def _pymemcache(servers: list[str], protocol: int) -> Any:
    from pymemcache import serde
    from pymemcache.client.base import Client
    from pymemcache.client.hash import HashClient

    # Replies are waited for, as the others do it; values of all types, as the others take them.
    options = {"default_noreply": False, "no_delay": True, "serde": serde.pickle_serde}
    return Client(servers[0], **options) if len(servers) == 1 else HashClient(servers, **options)


class _MetaMemcache:
    """meta-memcache under the names of the others. It has no incr that makes values of `set`, and its multi_get gives
    keys of a class of its own."""

    def __init__(self, servers: list[str]) -> None:
        from meta_memcache import CacheClient
        from meta_memcache.configuration import LeasePolicy, ServerAddress, connection_pool_factory_builder

        addresses = [ServerAddress(host, int(port)) for host, port in (server.rsplit(":", 1) for server in servers)]
        client = CacheClient.cache_client_from_servers(addresses, connection_pool_factory_builder())
        self.get = client.get
        self._set = client.set
        self._get_or_lease = client.get_or_lease
        self._policy = LeasePolicy()

    def set(self, key: str, value: Any) -> bool:
        return bool(self._set(key, value, 0))

    def get_or_set(self, key: str, factory: Any) -> Any:
        return self._get_or_lease(key, self._policy)


def _meta_memcache(servers: list[str], protocol: int) -> Any:
    return _MetaMemcache(servers)


def _pylibmc(servers: list[str], protocol: int) -> Any:
    import pylibmc

    return pylibmc.Client([server.removeprefix("unix:") for server in servers], behaviors={"tcp_nodelay": True})


def _libmc(servers: list[str], protocol: int) -> Any:
    import libmc

    return libmc.Client([server.removeprefix("unix:") for server in servers])


OURS = "mcext"
CACHE = "mcext.Cache"
KINDS = {
    kind.name: kind
    for kind in (
        Kind(OURS, "", "mcext", _ours),
        Kind(CACHE, "", "mcext", _cache, methods=(*METHODS, "get_item", "get_or_set")),
        Kind("mcext, customised", "", "mcext", _customised),
        Kind("python-memcached", "python-memcached", "memcache", _python_memcached),
        Kind("pymemcache", "pymemcache", "pymemcache", _pymemcache),
        Kind(
            "meta-memcache",
            "meta-memcache",
            "meta_memcache",
            _meta_memcache,
            shares=False,
            methods=("get", "set", "get_or_set"),
            unix=False,
        ),
        Kind("pylibmc", "pylibmc", "pylibmc", _pylibmc, "a C compiler, libmemcached-dev, zlib1g-dev"),
        Kind("libmc", "libmc", "libmc", _libmc, "a C++ compiler"),
    )
}
# This client by what chooses its servers: what that takes.
MODULO, WEIGHTED, RENDEZVOUS = "mcext, modulo", "mcext, ketama_weighted", "mcext, rendezvous"
PLACED = {
    MODULO: Kind(MODULO, "", "mcext", _placed("python_memcached")),
    WEIGHTED: Kind(WEIGHTED, "", "mcext", _placed("libmemcached", "ketama_weighted")),
    RENDEZVOUS: Kind(RENDEZVOUS, "", "mcext", _placed("rendezvous")),
}
