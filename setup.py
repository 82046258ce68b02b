"""Builds the extension mcext._core; everything else about the package stands in pyproject.toml.

MCEXT_CFLAGS and MCEXT_LDFLAGS are added after the flags below: sanitizers, coverage, debugging.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NEEDED = {
    "Python.h": "Python's headers (Debian: apt-get install python3-dev)",
    "zlib.h": "zlib's headers (Debian: apt-get install zlib1g-dev)",
}

# The way of a call goes through several files: it is shorter where the linker sees them all. All names are bound when
# the extension is loaded, so calls need not go through the table that could bind them later.
WHERE_KNOWN = ["-flto=auto", "-fno-plt"]


def missing(compiler, include_dirs):
    """What is not there to compile with, in words, or None."""
    command = [*compiler, *(f"-I{folder}" for folder in include_dirs), "-fsyntax-only", "-x", "c", "-"]
    for header, what in NEEDED.items():
        try:
            found = subprocess.run(command, input=f"#include <{header}>\n", capture_output=True, text=True)
        except FileNotFoundError:
            return f"the C compiler {compiler[0]!r} (Debian: apt-get install gcc libc6-dev)"
        if found.returncode:
            return what
    return None


def links(compiler, flags):
    """Whether a shared object comes of it: clang, for one, needs a linker that knows its own kind of -flto."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*compiler, *flags, "-shared", "-x", "c", "-", "-o", os.path.join(folder, "probe.so")]
        return subprocess.run(command, input="int probe;", capture_output=True, text=True).returncode == 0


class BuildExtension(build_ext):
    def build_extensions(self):
        lack = missing(self.compiler.compiler_so, self.compiler.include_dirs)
        if lack:
            raise SystemExit(f"error: mcext cannot be built without {lack}")
        known = [flag for flag in WHERE_KNOWN if links(self.compiler.compiler_so, [flag])]
        for extension in self.extensions:
            # Before the flags of whoever builds, which may say otherwise.
            extension.extra_compile_args[:0] = extension.extra_link_args[:0] = known
        super().build_extensions()


core = Extension(
    "mcext._core",
    sources=sorted(glob("mcext/core/*/*.c") + glob("mcext/binding/*.c")),
    depends=sorted(glob("mcext/core/*/*.h") + glob("mcext/binding/*.h")),
    include_dirs=["mcext"],
    libraries=["z"],
    define_macros=[("_GNU_SOURCE", "1")],
    extra_compile_args=[
        "-std=c11",
        "-O3",
        "-Wall",
        "-Wextra",
        "-fvisibility=hidden",
        "-fstack-protector-strong",
        "-U_FORTIFY_SOURCE",
        "-D_FORTIFY_SOURCE=2",
        *shlex.split(os.environ.get("MCEXT_CFLAGS", "")),
    ],
    extra_link_args=[
        *([] if sys.platform == "darwin" else ["-Wl,-z,relro", "-Wl,-z,now"]),
        *shlex.split(os.environ.get("MCEXT_LDFLAGS", "")),
    ],
)

setup(ext_modules=[core], cmdclass={"build_ext": BuildExtension})
