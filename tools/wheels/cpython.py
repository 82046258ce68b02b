"""CPythons that Debian has as a source only: for musl, and free-threaded ones. The compiler of the wheels builds them
for each machine, with zlib and OpenSSL, once, in a folder below build/; they run from there, and nothing is installed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tools.wheels.compiler import CORES, ZIG, Target
from tools.wheels.debian import download_source

RELEASES = [
    ("bookworm", "3.11"),
    ("trixie", "3.13"),
    ("trixie", "3.13t"),
    ("sid", "3.14"),
    ("sid", "3.14t"),
    ("sid", "3.15"),
]
LIBRARIES = "bookworm"  # whose zlib and OpenSSL these have
# The C library that the compiler links with has all its data at one address, for which a program that copies some of
# it (as one without -fPIC does) takes one variable for another.
COMPILE = ["-dynamic", "-fPIC", "-Wl,-z,nocopyreloc", "-O1", "-fwrapv", "-g0", "-w"]
# What configure cannot find out where it cannot run what it compiles.
FOUND_OUT = {"ac_cv_buggy_getaddrinfo": "no", "ac_cv_file__dev_ptmx": "yes", "ac_cv_file__dev_ptc": "no"}
DISABLED = """*disabled*
_codecs_cn _codecs_hk _codecs_iso2022 _codecs_jp _codecs_kr _codecs_tw _multibytecodec _decimal _elementtree pyexpat
_bz2 _ctypes _curses _curses_panel _dbm _gdbm _lsprof _lzma _sqlite3 _tkinter _uuid readline
"""


class Builder:
    """For one target."""

    def __init__(self, work: Path, target: Target) -> None:
        self.work, self.target = work, target
        self.machine = target.triple.split("-")[0]
        self.folder = (work / "cpython" / target.platform).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.installed = self.folder / "installed"
        cache = str(self.folder / "cache")
        zig = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
        # None of this machine's libraries, which pkg-config would name.
        self.environment = {**os.environ, **zig, **FOUND_OUT, "PKG_CONFIG_LIBDIR": "/nowhere"}
        self.tools = [
            f"CC={self.script('cc', [str(ZIG), 'cc', '-target', target.triple, *COMPILE])}",
            f"AR={self.script('ar', [str(ZIG), 'ar'])}",
            f"RANLIB={self.script('ranlib', [str(ZIG), 'ranlib'])}",
            f"READELF={shutil.which('readelf')}",  # any machine's will do, which 3.11 does not take for granted
        ]

    def script(self, name: str, command: list[str]) -> Path:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        path.chmod(0o755)
        return path

    def unpack(self, package: str, suite: str, name: str) -> Path:
        archive = download_source(self.work / "debian", package, suite)
        folder = self.folder / name
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        folder.mkdir()
        subprocess.run(["tar", "xf", str(archive), "--strip-components=1", "-C", str(folder)], check=True)
        return folder

    def run(self, folder: Path, *commands: list[str]) -> None:
        """What they say is in a file beside the folder."""
        log = folder.parent / f"{folder.name}.log"
        with log.open("wb") as output:
            for command in commands:
                done = subprocess.run(command, cwd=folder, env=self.environment, stdout=output, stderr=output)
                if done.returncode:
                    raise OSError(f"{command[0]} failed: see {log}")

    def build_zlib(self) -> None:
        if (self.installed / "include/zlib.h").exists():
            return
        folder = self.unpack("zlib", LIBRARIES, "zlib")
        for name in ("lib", "include"):
            (self.installed / name).mkdir(parents=True, exist_ok=True)
        library = self.installed / "lib/libz.so.1"
        sources = sorted(path.name for path in folder.glob("*.c"))
        flags = ["-shared", "-DHAVE_UNISTD_H", "-D_LARGEFILE64_SOURCE", "-Wl,-soname,libz.so.1"]
        self.run(folder, [str(self.folder / "cc"), *flags, "-o", str(library), *sources])
        (self.installed / "lib/libz.so").unlink(missing_ok=True)
        (self.installed / "lib/libz.so").symlink_to(library.name)
        for name in ("zconf.h", "zlib.h"):
            (folder / name).rename(self.installed / "include" / name)

    def build_openssl(self) -> None:
        if (self.installed / "include/openssl/ssl.h").exists():
            return
        folder = self.unpack("openssl", LIBRARIES, "openssl")
        without = [f"no-{what}" for what in ("asm", "shared", "tests", "dso", "engine", "module", "legacy")]
        places = [f"--prefix={self.installed}", "--libdir=lib"]
        self.run(
            folder,
            ["./Configure", f"linux-{self.machine}", *without, *places, *self.tools],
            ["make", "-s", f"-j{CORES}", "build_libs"],
            ["make", "-s", "install_dev"],
        )

    def build(self, suite: str, version: str, same: list[str]) -> Path:
        """`same` runs the very release on this machine: it does what a build has Python do. Returns the interpreter."""
        folder = self.folder / f"python{version}"
        if (folder / "made").exists():
            return folder / "python"
        plain = version.removesuffix("t")
        self.unpack(f"python{plain}", suite, folder.name)
        print(f"building Python {version} for {self.target.platform}", flush=True)
        self.build_zlib()
        self.build_openssl()
        (folder / "Modules/Setup.local").write_text(DISABLED)
        if (folder / "setup.py").exists():  # of 3.11: it takes the headers of this machine for those of the target
            text = (folder / "setup.py").read_text()
            (folder / "setup.py").write_text(text.replace("self.add_cross_compiling_paths()", "pass"))
        # For another machine, as configure sees it: what is made for musl does not run where there is no musl.
        machines = [f"--host={self.target.triple.split('.')[0]}", f"--build={os.uname().machine}-debian-linux-gnu"]
        options = ["--without-ensurepip", "--disable-test-modules", *(["--disable-gil"] if plain != version else [])]
        options.append(f"--with-build-python={self.script(f'build-python{plain}', same)}")
        # What is found out of the target is the same for all Pythons, and takes half the time.
        options.append(f"--cache-file={self.folder / 'configured'}")
        flags = [f"CPPFLAGS=-I{self.installed}/include", f"LDFLAGS=-L{self.installed}/lib", "OPT=-DNDEBUG"]
        places = [f"--with-openssl={self.installed}", *flags]
        command = ["./configure", "-q", *machines, *options, *places, *self.tools]
        self.run(folder, command, ["make", "-s", f"-j{CORES}"])
        (folder / "made").touch()
        return folder / "python"
