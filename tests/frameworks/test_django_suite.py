"""Django's own tests of caches, from its source distribution, with mcext.django.MemcachedCache: all releases that this
Python runs."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import django_versions
import pytest

from mcext.testing import memcached as start_memcached

OURS = Path(__file__).parent / "django_tests"
CHECKOUT = Path(__file__).parents[2]
SUITES = {
    "called": ["cache.of_mcext.McextTests"],
    "awaited": ["cache.of_mcext.McextAwaitedTests"],
    "sessions": ["sessions_tests.tests.CacheSessionTests", "sessions_tests.tests.CacheDBSessionTests"],
}


@pytest.fixture(scope="module", params=django_versions.VERSIONS)
def ended(request, tmp_path_factory):
    """How the suites ended with this Django. They run side by side: mostly they wait for what is to expire."""
    tests = tmp_path_factory.mktemp("django") / "tests"
    shutil.copytree(django_versions.source(request.param) / "tests", tests)
    shutil.copy(OURS / "of_mcext.py", tests / "cache")
    path = [django_versions.installed(request.param), CHECKOUT, OURS]

    def run(labels):
        with start_memcached() as server:
            return subprocess.run(
                [sys.executable, "runtests.py", "--settings=mcext_settings", "--parallel=1", *labels],
                cwd=tests,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "MCEXT_TEST_SERVER": server.address},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=240,
            )

    with ThreadPoolExecutor() as pool:
        return dict(zip(SUITES, pool.map(run, SUITES.values())))


def count(ended):
    """How many tests there were, and how many of them were skipped."""
    assert ended.returncode == 0, ended.stdout + ended.stderr
    ran = re.search(r"^Ran (\d+) tests", ended.stderr, re.M)
    skipped = re.search(r"skipped=(\d+)", ended.stderr)
    return int(ran[1]), int(skipped[1]) if skipped else 0


@pytest.mark.parametrize("methods", ["called", "awaited"])
def test_djangos_tests_of_memcached_backends(ended, methods):
    ran, skipped = count(ended[methods])
    assert ran > 55
    assert skipped <= 3, "those of culling, which memcached does itself"


def test_djangos_tests_of_sessions_in_caches(ended):
    ran, _ = count(ended["sessions"])
    assert ran > 60
