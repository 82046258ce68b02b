"""mcext.django.MemcachedCache: what django_tests/promises.py promises, in an interpreter of its own for each Django."""

import os
import subprocess
import sys
from pathlib import Path

import django_versions
import fetched
import pytest

pytestmark = pytest.mark.frameworks
FOLDER = Path(__file__).parent
CHECKOUT = FOLDER.parents[1]


def promised(version, name, *more):
    """Run a file of django_tests with this Django, and further packages that were fetched."""
    path = [django_versions.installed(version), *more, CHECKOUT, FOLDER / "django_tests"]
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist"]
    warnings = ["-W", "error::pytest.PytestUnraisableExceptionWarning"]  # an unclosed transport, too
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "pytest", *options, *warnings, FOLDER / "django_tests" / name],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize("version", django_versions.VERSIONS)
def test_what_the_backend_promises(version):
    promised(version, "promises.py")


def test_cachalot_keeps_what_the_database_said():
    promised("5.2", "cachalot_promises.py", fetched.installed("django-cachalot==2.9.1"))
