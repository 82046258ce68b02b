"""The source distribution, and what setuptools knows of the package: nothing about its files stands a second time here.

An sdist as setuptools makes it has the time of the build in it. Here it is packed anew: the same tree gives the same
bytes in every folder.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

# Runs in the tree of a source distribution: its Python files, its metadata, and what its extension is made of.
DESCRIBE = """
import contextlib, json, sys
from distutils.core import run_setup
from pathlib import Path
from setuptools import build_meta
library, metadata = sys.argv[1:]
Path(metadata).mkdir(parents=True)
with contextlib.redirect_stdout(sys.stderr):
    info = build_meta.prepare_metadata_for_build_wheel(metadata)
    package = run_setup("setup.py", ["-q", "build_py", "--build-lib", library])
    (extension,) = package.ext_modules
told = {name: getattr(extension, name) for name in (
    "name", "sources", "include_dirs", "libraries", "define_macros", "extra_compile_args", "extra_link_args")}
print(json.dumps({"name": package.get_name(), "version": package.get_version(), "info": info, "extension": told}))
"""


def run(command: list[str], folder: Path, **environment: str) -> str:
    """What the command prints; where it fails, SystemExit with that and with what it complained of."""
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(
            f"error: {' '.join(command[:4])} ... ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def epoch(root: Path) -> int:
    """The time that stands in all that is packed: SOURCE_DATE_EPOCH, else that of the last commit."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit("error: this is no git clone: set SOURCE_DATE_EPOCH to the time of the release, in seconds")
    return int(done.stdout)


def build_sdist(root: Path, work: Path, out: Path, time: int) -> Path:
    """Makes the source distribution of the working tree in `out`; returns its path."""
    tree, raw = work / "source", work / "raw-sdist"
    for folder in (tree, raw):
        shutil.rmtree(folder, ignore_errors=True)
    raw.mkdir(parents=True)
    run([str(root / "tools/copy.sh"), str(tree)], root)
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run([sys.executable, "-c", code, str(raw)], tree, MCEXT_CFLAGS="", MCEXT_LDFLAGS="")
    (made,) = raw.iterdir()
    out.mkdir(parents=True, exist_ok=True)
    return repack(made, out / made.name, time)


def repack(made: Path, path: Path, time: int) -> Path:
    """The same members by name, with one time, one owner and only two modes."""
    packed = io.BytesIO()
    with tarfile.open(made) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, member.size, time
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(plain, old.extractfile(member) if member.isfile() else None)
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, time) as zipped:
        zipped.write(packed.getvalue())
    return path


class Package:
    """What an sdist holds: the `tree`; `files` of a wheel by their names in it; `extension`, as setup.py has it."""

    def __init__(self, sdist: Path, work: Path) -> None:
        folder = work / "tree"
        shutil.rmtree(folder, ignore_errors=True)
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        (self.tree,) = folder.iterdir()
        library, metadata = work / "library", work / "metadata"
        for made in (library, metadata):
            shutil.rmtree(made, ignore_errors=True)
        command = [sys.executable, "-c", DESCRIBE, str(library), str(metadata)]
        told = json.loads(run(command, self.tree, MCEXT_CFLAGS="", MCEXT_LDFLAGS=""))
        self.name: str = told["name"]
        self.version: str = told["version"]
        self.info: str = told["info"]
        self.extension: dict[str, Any] = told["extension"]
        self.files = {**files_below(library), **files_below(metadata / self.info, metadata)}


def files_below(folder: Path, root: Path | None = None) -> dict[str, bytes]:
    return {str(path.relative_to(root or folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
