"""Other memcached clients: which of a fleet's servers each of them chooses for a key, asked of the client itself.

    choose = pylibmc([Server("10.0.0.1:11211", weight=2), ...], {"ketama": True})
    choose("key")  # the number of the server

Nothing is connected to.
"""

import ctypes
import glob
import os

import pytest


def address_of(server):
    """(host, port) of "host:port"."""
    host, _, port = server.address.rpartition(":")
    return host, int(port)


def pylibmc(servers, behaviors):
    """What libmemcached says of pylibmc's client, which keeps its memcached_st behind its object's head."""
    module = pytest.importorskip("pylibmc")
    client = module.Client([f"{server.address}:{server.weight}" for server in servers], behaviors=behaviors)
    library = ctypes.CDLL(_library_of(module))
    generate, instance = library.memcached_generate_hash, library.memcached_server_instance_by_position
    generate.argtypes, generate.restype = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t], ctypes.c_uint32
    instance.argtypes, instance.restype = [ctypes.c_void_p, ctypes.c_uint32], ctypes.c_void_p
    name, port = library.memcached_server_name, library.memcached_server_port
    name.argtypes, name.restype = [ctypes.c_void_p], ctypes.c_char_p
    port.argtypes, port.restype = [ctypes.c_void_p], ctypes.c_uint16
    numbers = {address_of(server): number for number, server in enumerate(servers)}

    def choose(key):
        text = key.encode()
        state = ctypes.c_void_p.from_address(id(client) + object.__basicsize__).value
        chosen = instance(state, generate(state, text, len(text)))  # it may have sorted them
        return numbers[name(chosen).decode(), port(chosen)]

    return choose


def _library_of(module):
    """The libmemcached that is loaded already: one of a wheel, or the system's."""
    beside = os.path.join(os.path.dirname(os.path.dirname(module.__file__)), "pylibmc.libs", "libmemcached-*")
    return next(iter(glob.glob(beside)), "libmemcached.so.11")


def libmc(servers, hash):
    module = pytest.importorskip("libmc")
    kinds = {"md5": "MD5", "fnv1_32": "FNV1_32", "fnv1a_32": "FNV1A_32", "crc32": "CRC_32"}
    given = [server.address if server.name is None else f"{server.address} {server.name}" for server in servers]
    client = module.Client(given, hash_fn=getattr(module, f"MC_HASH_{kinds[hash]}"))
    numbers = {server.name or server.address: number for number, server in enumerate(servers)}
    return lambda key: numbers[client.get_host_by_key(key)]


def patient(client):
    """A client of libmc's that waits: without a word it has 10 ms for a connect, and 300 ms for an answer."""
    module = pytest.importorskip("libmc")
    client.config(module.MC_CONNECT_TIMEOUT, 20_000)
    client.config(module.MC_POLL_TIMEOUT, 20_000)
    return client


def pymemcache(servers):
    module = pytest.importorskip("pymemcache.client.hash")
    client = module.HashClient([address_of(server) for server in servers])
    numbers = {server.address: number for number, server in enumerate(servers)}
    return lambda key: numbers[client.hasher.get_node(key)]


def uhashring(servers, ketama):
    module = pytest.importorskip("uhashring")
    nodes = {server.name or server.address: server.weight for server in servers}
    ring = module.HashRing(nodes, hash_fn="ketama") if ketama else module.HashRing(nodes)
    numbers = {node: number for number, node in enumerate(nodes)}
    return lambda key: numbers[ring.get_node(key)]
