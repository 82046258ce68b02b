"""Makes the sdist and some wheels twice, in two folders: are the bytes the same? And does the code compile for macOS?

python -m tools.wheels.twice [TAG ...]     default: one wheel of each C library and machine
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from tools.wheels.__main__ import ROOT
from tools.wheels.compiler import Compiler, Target
from tools.wheels.headers import find_headers
from tools.wheels.source import Package, build_sdist, epoch, run

TAGS = ["cp311-manylinux*x86_64", "cp313t-musllinux*aarch64"]
MACOS = [Target("macosx_11_0_arm64", "aarch64-macos"), Target("macosx_10_15_x86_64", "x86_64-macos")]


def copy_to(folder: Path) -> Path:
    run([str(ROOT / "tools/copy.sh"), str(folder)], ROOT)
    run(["git", "init", "-q"], folder)  # which tells what belongs to the tree
    return folder


def build_in(folder: Path, tags: list[str], stamp: int) -> dict[str, str]:
    """The hash of all that the copy of the tree in this folder makes."""
    out = folder / "dist"
    command = [sys.executable, "-m", "tools.wheels", *tags, "--out", str(out)]
    run(command, folder, SOURCE_DATE_EPOCH=str(stamp), PYTHONPATH="")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}


def compile_for_macos(work: Path, stamp: int) -> None:
    """All files, for both kinds of Macs. It is not linked: that takes libraries of the system."""
    package = Package(build_sdist(ROOT, work, work / "dist", stamp), work)
    headers, lacking = find_headers(ROOT, work, ["3.11"])
    if lacking:
        raise SystemExit(f"error: no headers of Python 3.11: {lacking['3.11']}")
    for target in MACOS:
        count = len(Compiler(package, target, work).compile(headers[0]))
        print(f"{target.triple}: {count} files compile")


def main() -> int:
    tags, stamp = sys.argv[1:] or TAGS, epoch(ROOT)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        trees = [copy_to(Path(one) / "a"), copy_to(Path(other) / "another" / "place" / "of" / "the" / "tree")]
        first, second = (build_in(tree, tags, stamp) for tree in trees)
        for name in sorted(first.keys() | second.keys()):
            verdict = "the same twice" if first.get(name) == second.get(name) else "DIFFERS"
            print(f"{verdict}: {name} {first.get(name)}")
        compile_for_macos(Path(one) / "macos", stamp)
    return 0 if first == second and first else 1


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
