"""Headers of each CPython: of an interpreter at hand, else of Debian's package in sid.

The headers are the same for all machines but for pyconfig.h. Of what that says, headers and code that a binding meets
read the sizes of C's types, the order of bytes and whether there is a GIL. Sizes and order are one for all 64-bit
little-endian Linux, glibc or musl; what else Debian's files for x86_64 and aarch64 say differently is set right below.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.wheels.debian import download_packages

VERSIONS = ["3.10", "3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t", "3.15"]

OF_THE_TARGET = """
/* What depends on the machine is that of the target, not of the machine that this was configured on. */
#if !defined(__x86_64__)
#undef HAVE_GCC_ASM_FOR_X64
#undef HAVE_GCC_ASM_FOR_X87
#endif
#undef HAVE_USABLE_WCHAR_T
#if __WCHAR_MAX__ > 0x7fffffff
#define HAVE_USABLE_WCHAR_T 1
#endif
#if !defined(__LP64__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "this pyconfig.h is of a 64-bit little-endian machine"
#endif
"""
WITHOUT_GIL = "\n#undef Py_GIL_DISABLED\n#define Py_GIL_DISABLED 1\n"


def tag(version: str) -> str:
    return "cp" + version.replace(".", "")


class Headers:
    def __init__(self, folder: Path, version: str) -> None:
        self.folder, self.version = folder, version
        text = (folder / "patchlevel.h").read_text()
        found = re.search(r'#define\s+PY_VERSION\s+"([^"]+)"', text)
        if not found or not found[1].startswith(version.removesuffix("t") + "."):
            raise SystemExit(f"error: the headers in {folder} are not those of Python {version}")
        self.release = found[1]


def find_headers(root: Path, work: Path, versions: list[str]) -> tuple[list[Headers], dict[str, str]]:
    """Lays a folder of headers for each version; returns those, and of the others why there are none."""
    at_hand = interpreters(root)
    found, lacking = [], {}
    for version in versions:
        plain = version.removesuffix("t")
        folder = work / "headers" / tag(version)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            if version in at_hand or plain in at_hand:
                source = include_of(at_hand.get(version) or at_hand[plain])
                shutil.copytree(source, folder)
            else:
                from_debian(work, plain, folder)
        except (OSError, subprocess.CalledProcessError) as error:
            lacking[version] = f"no interpreter with headers at hand, and no package: {error}"
            continue
        with (folder / "pyconfig.h").open("a") as pyconfig:
            pyconfig.write(OF_THE_TARGET + (WITHOUT_GIL if plain != version else ""))
        found.append(Headers(folder, version))
    return found, lacking


def interpreters(root: Path) -> dict[str, str]:
    """Interpreters at hand, by version."""
    done = subprocess.run([sys.executable, root / "tools/find_pythons.py"], capture_output=True, text=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def include_of(interpreter: str) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('include'), sysconfig.get_config_h_filename(), sep='\\n')"
    done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True)
    include, pyconfig = map(Path, done.stdout.splitlines())
    if pyconfig.resolve().parent != include.resolve() or not (include / "Python.h").exists():
        raise OSError(f"{interpreter} has its headers in more than one folder")
    return include


def from_debian(work: Path, version: str, folder: Path) -> None:
    """Debian's pyconfig.h leads to one in a folder of the architecture."""
    laid = download_packages(work / "debian", [f"libpython{version}-dev"])
    shutil.copytree(laid / f"usr/include/python{version}", folder)
    (pyconfig,) = laid.glob(f"usr/include/*-linux-gnu/python{version}/pyconfig.h")
    shutil.copyfile(pyconfig, folder / "pyconfig.h")
