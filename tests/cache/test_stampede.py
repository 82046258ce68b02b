"""One computation among many processes, also where the one that computes is killed (tests/support/crowd.py).

tests/chaos/expiries.py has the same for a hundred thousand expiries.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import mcext
from mcext.testing import memcached as start_memcached

CROWD = Path(__file__).resolve().parents[1] / "support" / "crowd.py"
PROCESSES, THREADS = 64, 4
LEASE = 6  # a process that computes and is not run for some seconds keeps it


@pytest.fixture(scope="module")
def server():
    with start_memcached("-c", "4096") as server:
        yield server


@pytest.fixture
def cache(server):
    with mcext.Cache([server.address]) as cache:
        cache.flush_all()
        yield cache


def crowd(server, options=None, *, processes=PROCESSES, ttl=1000, seconds=0.2, **order):
    """What the crowd did: (the runs of the factory, the values that the callers got, the sums of fills)."""
    options = {"lease": LEASE, "wait": 120, "fallback": "raise", **(options or {})}
    with tempfile.TemporaryDirectory() as folder:
        order.update(
            address=server.address, key="k", processes=processes, threads=THREADS, folder=folder, ttl=ttl,
            seconds=seconds, options=options,
        )  # fmt: skip
        path = os.pathsep.join(
            filter(None, [str(Path(mcext.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")])
        )
        done = subprocess.run(
            [sys.executable, str(CROWD), json.dumps(order)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    results = [line for line in lines if "got" in line]
    fills = [sum(column) for column in zip(*[line["fills"] for line in results])]
    return [line for line in lines if "run" in line], [value for line in results for value in line["got"]], fills


def test_one_of_256_callers_computes_and_all_have_its_value(server, cache):
    runs, got, fills = crowd(server, {"lease": 30})
    assert len(runs) == 1
    assert got == ["computed"] * PROCESSES * THREADS
    assert fills[:2] == [1, 0]
    assert cache.get("k") == "computed"


def test_where_the_leader_is_killed_one_other_computes_after_the_lease(server, cache):
    runs, got, fills = crowd(server, dies=True)
    first, second = runs
    assert first["run"] != second["run"]
    # memcached's clock ticks once a second, so that a lease may be shorter by one; and who has it may be held up before
    # he begins.
    assert second["at"] - first["at"] >= LEASE - 3
    assert got == ["computed"] * (PROCESSES - 1) * THREADS
    assert fills[:2] == [1, 0]
    assert cache.get("k") == "computed"


def test_a_refresh_is_computed_once_and_the_others_are_served(server, cache):
    cache.set("k", "old", 500)
    runs, got, fills = crowd(server, {"refresh": 900, "lease": 30, "wait": 0}, seconds=1)
    assert len(runs) == 1
    assert len(got) == PROCESSES * THREADS
    assert set(got) == {"old", "computed"}
    assert fills == [1, 0, 0]


def test_where_the_leader_of_a_refresh_is_killed_one_other_computes_after_the_lease(server, cache):
    cache.set("k", "old", 800)
    runs, got, fills = crowd(server, {"refresh": 900}, dies=True, until=["computed"])
    first, second = runs
    assert first["run"] != second["run"]
    # The others may see the lease before its leader comes to its factory.
    assert second["at"] - first["at"] >= LEASE - 1
    assert got == ["computed"] * (PROCESSES - 1) * THREADS
    assert fills[:2] == [1, 0]
    assert cache.get_item("k").ttl > 500


def test_an_invalidated_value_is_computed_once_and_the_others_are_served(server, cache):
    cache.set("k", "old", 500)
    cache.invalidate("k", stale=500)
    runs, got, fills = crowd(server, {"lease": 30, "wait": 0}, processes=16, seconds=1)
    assert len(runs) == 1
    assert set(got) == {"old", "computed"}
    assert fills == [1, 0, 0]


def test_where_the_factory_raises_one_other_computes_at_once(server, cache):
    runs, got, fills = crowd(server, {"lease": 1000, "wait": 1000}, processes=16, raises=True)
    assert len(runs) == 2
    assert sorted(got) == ["computed"] * (16 * THREADS - 1) + ["raised"]
    assert fills[:2] == [1, 0]
