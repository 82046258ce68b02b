"""Packages of the index, in folders below build/ that are made once: what stands beside the environment's own."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / "build"


def installed(requirement, *more):
    """The folder into which "name==version" is installed, without what it needs; more: that, by the same form."""
    return _made_once(
        BUILD / _name(requirement),
        lambda work: _pip("install", "--no-deps", "--no-compile", "--target", str(work), requirement, *more),
    )


def source(requirement):
    """The folder that holds the unpacked source distribution of "name==version"."""

    def make(work):
        name = requirement.partition("==")[0]
        _pip("download", "--no-deps", "--no-binary", name, "--dest", str(work), requirement)
        (archive,) = work.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(work, filter="data")
            else:
                tar.extractall(work)
        archive.unlink()

    (unpacked,) = _made_once(BUILD / f"{_name(requirement)}-source", make).iterdir()
    return unpacked


def _name(requirement):
    return requirement.replace("==", "-")


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
