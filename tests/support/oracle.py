"""python-memcached 1.62, the client whose behaviour `import memcache` promises, for tests to compare with.

It is installed with pip into a folder below build/, once, and loaded under a name of its own, so that it lives in one
process with the `memcache` under test. Its source distribution, for its own tests, is fetched the same way.
"""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REQUIREMENT = "python-memcached==1.62"
MODULE_NAME = "python_memcached_1_62"
BUILD = Path(__file__).resolve().parents[2] / "build"


def _made_once(target, make):
    """`target`, a folder that `make(folder)` fills if it is not there yet. Safe against a second process doing it."""
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=target.name + ".", dir=target.parent))
        try:
            make(work)
            os.rename(work, target)
        except OSError:
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def _pip(*arguments):
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def installed():
    """The folder into which python-memcached is installed."""
    return _made_once(
        BUILD / "python-memcached-1.62",
        lambda work: _pip("install", "--no-deps", "--no-compile", "--target", str(work), REQUIREMENT),
    )


def source():
    """The folder that holds the unpacked source distribution."""

    def make(work):
        _pip("download", "--no-deps", "--no-binary", "python-memcached", "--dest", str(work), REQUIREMENT)
        (archive,) = work.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(work, filter="data")
            else:
                tar.extractall(work)

    return _made_once(BUILD / "python-memcached-1.62-source", make) / "python-memcached-1.62"


@functools.cache
def load():
    """The module `memcache` of python-memcached, known to sys.modules as MODULE_NAME."""
    spec = importlib.util.spec_from_file_location(MODULE_NAME, installed() / "memcache.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    spec.loader.exec_module(module)
    return module
