"""Batches far larger than any socket buffer complete, and do not hold a second copy of every value.

Run as a program it does the same with 500 MB: python tests/memory/test_large_batches.py
"""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mcext
from mcext.testing import memcached as memcached_server

KEYS = 200_000


@pytest.fixture(params=["tcp", "unix"])
def large(request):
    with memcached_server("-m", "1024", "-I", "8m", unix=request.param == "unix") as server:
        yield server


@pytest.mark.slow
def test_two_hundred_thousand_keys(large):
    mc = mcext.Client([large.address], socket_timeout=120)
    stored = {f"key{i}": b"value of %d" % i for i in range(KEYS)}
    assert mc.set_multi(stored) == []
    found = mc.get_multi(list(stored))
    assert found == stored
    assert mc.delete_multi(list(stored)) == 1
    assert mc.get_multi(list(stored)[::1000]) == {}


@pytest.mark.slow
def test_two_hundred_thousand_keys_over_three_servers():
    with memcached_server("-m", "512") as one, memcached_server("-m", "512", unix=True) as two:
        mc = mcext.Client([one.address, (two.address, 2)], socket_timeout=120)
        stored = {f"key{i}": i for i in range(KEYS)}
        assert mc.set_multi(stored) == []
        assert mc.get_multi(stored) == stored


def test_values_larger_than_the_socket_buffers_in_both_directions(large):
    """Replies fill the client's buffer while requests fill the server's: neither waits for the other."""
    mc = mcext.Client([large.address], socket_timeout=120)
    long_keys = {"k" * 240 + f"{i:07}": b"x" * 1000 for i in range(30_000)}
    assert mc.set_multi(long_keys) == []
    assert mc.get_multi(long_keys) == long_keys


MEMORY = """
import resource, sys
import mcext

address, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
mc = mcext.Client([address], socket_timeout=600, server_max_value_length=0, max_value_length=1 << 30)
mc.set("warm", b"x")
mc.get("warm")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

total = count * size
# Each value is its own object, as a caller's would be.
stored = {f"key{i}": i.to_bytes(8, "big") * (size // 8) for i in range(count)}
before = peak()
failed = mc.set_multi(stored)
assert failed == [], len(failed)
grown = peak() - before
print(f"set_multi of {total >> 20} MB: {grown >> 20} MB more memory at the most")
assert grown < total // 4 + (32 << 20), grown

keys = list(stored)
for key in keys[1:]:
    del stored[key]
# The values' own memory was counted in the peak already: it is used again for what comes in.
before = peak()
found = mc.get_multi(keys)
assert len(found) == count, len(found)
assert all(found[f"key{i}"] == i.to_bytes(8, "big") * (size // 8) for i in range(0, count, 7))
grown = peak() - before
print(f"get_multi of {total >> 20} MB: {grown >> 20} MB more memory at the most")
assert grown < total // 4 + (32 << 20), grown
"""


def measure(server, count, size):
    """Store and fetch count values of size bytes in a process of its own, and look at its memory."""
    folder = str(Path(mcext.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, server.address, str(count), str(size)],
        env={**os.environ, "PYTHONPATH": path, "MALLOC_TRIM_THRESHOLD_": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("size", [10, 1000, 10_000, 200_000])
def test_no_reference_to_a_value_or_key_is_kept(memcached, size):
    mc = mcext.Client([memcached.address], socket_timeout=60)
    stored = {f"key{i}": bytes([i % 256]) * size for i in range(300)}
    keys, values = list(stored), list(stored.values())
    before = [sys.getrefcount(each) for each in (*keys, *values)]
    assert mc.set_multi(stored) == []
    assert mc.get_multi(keys) == stored
    assert mc.delete_multi(keys) == 1
    assert [sys.getrefcount(each) for each in (*keys, *values)] == before


@pytest.mark.slow  # and checkers of memory have their own idea of it
def test_memory_does_not_hold_a_second_copy_of_every_value(large):
    measure(large, 100, 1 << 20)


def main():
    for unix in (False, True):
        with memcached_server("-m", "1500", "-I", "8m", unix=unix) as server:
            print("Unix socket" if unix else "TCP", flush=True)
            # The server's slab for 1 MB values wants a little room on top.
            print(measure(server, 512, (1 << 20) - 512), end="", flush=True)
            print(measure(server, 500_000, 1000), end="", flush=True)


if __name__ == "__main__":
    main()


class Grows:
    """Garbage: when the collector comes, the mapping grows."""

    def __init__(self, mapping):
        self.mapping = mapping
        self.itself = self

    def __del__(self):
        self.mapping.update((f"more{number}", b"more") for number in range(2000))


@pytest.mark.slow
def test_a_mapping_that_the_collector_lets_grow(large):
    mc = mcext.Client([large.address])
    threshold = gc.get_threshold()
    try:
        for allocations in range(1, 40):  # one of them has it come in the middle of the call
            mapping = {f"key{number}": b"value" for number in range(3)}
            gc.collect()
            Grows(mapping)
            gc.set_threshold(allocations)
            failed = mc.set_multi(mapping)
            gc.set_threshold(*threshold)
            assert failed == []
            assert mc.get_multi([f"key{number}" for number in range(3)]) == dict.fromkeys(
                ["key0", "key1", "key2"], b"value"
            )
    finally:
        gc.set_threshold(*threshold)
