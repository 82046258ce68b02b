"""mcext.django.MemcachedCache: what django_tests/promises.py promises, in an interpreter of its own for each Django."""

import os
import subprocess
import sys
from pathlib import Path

import django_versions
import pytest

pytestmark = pytest.mark.frameworks
FOLDER = Path(__file__).parent
CHECKOUT = FOLDER.parents[1]


@pytest.mark.parametrize("version", django_versions.VERSIONS)
def test_what_the_backend_promises(version):
    path = [django_versions.installed(version), CHECKOUT, FOLDER / "django_tests"]
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::ResourceWarning",
            "-W",
            "error::pytest.PytestUnraisableExceptionWarning",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--tb=short",
        ]
        + ["-p", "no:xdist", FOLDER / "django_tests" / "promises.py"],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
