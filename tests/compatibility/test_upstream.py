"""python-memcached's own tests, from its source distribution, with `import memcache` being ours; its doctests too."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import oracle
import pytest

import memcache
from mcext.testing import memcached

# Their tests import this module, which their source distribution does not hold.
UTILS = """
import contextlib
import io
import sys


@contextlib.contextmanager
def captured_stderr():
    before = sys.stderr
    sys.stderr = io.StringIO()
    try:
        yield sys.stderr
    finally:
        sys.stderr = before
"""
ADDRESS = "127.0.0.1:11211"
FILES = ["test_memcache.py", "test_setmulti.py"]


@pytest.fixture(scope="module")
def server():
    with memcached() as server:
        yield server


def test_their_test_suite_passes(server, tmp_path):
    package = tmp_path / "upstream"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "utils.py").write_text(UTILS)
    count = 0
    for name in FILES:
        text = (oracle.source() / "tests" / name).read_text(encoding="utf-8")
        count += len(re.findall(r"^    def test_", text, re.MULTILINE))
        (package / name).write_text(text.replace(ADDRESS, server.address), encoding="utf-8")
    assert count > 20
    run = "import memcache, unittest; print(memcache.__file__); unittest.main(module=None)"
    done = subprocess.run(
        [sys.executable, "-c", run, "--verbose", *(f"upstream.{Path(name).stem}" for name in FILES)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(memcache.__file__).parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path(done.stdout.strip()) == Path(memcache.__file__)
    assert re.search(rf"^Ran {count} tests ", done.stderr, re.MULTILINE), done.stderr
    assert done.stderr.rstrip().endswith("OK")


def test_their_doctests_pass(server):
    client = memcache.Client([server.address])
    client.flush_all()
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder().find(oracle.load(), globs={"mc": client}):
        runner.run(example)
    assert runner.tries > 10
    assert runner.failures == 0
