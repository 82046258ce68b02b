"""The extension, compiled for a target by the compiler of the package ziglang, with the flags of setup.py.

What knows no Python (mcext/core) is compiled once for a target, the binding once for each Python. Both are compiled to
the optimiser's own form, and one step then optimises them together, as -flto does in a build with gcc.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import ziglang
from elftools.elf.elffile import ELFFile

from tools.wheels.headers import Headers, tag
from tools.wheels.source import Package
from tools.wheels.whole import OPTIMISE, write_attributes

ZLIB = Path("/usr/include")
ZIG = Path(ziglang.__file__).parent / "zig"
CORES = len(os.sched_getaffinity(0))
# What Python's own build adds for an extension, and what setup.py adds where the compiler has it.
COMPILE = ["-fPIC", "-DNDEBUG", "-fwrapv", "-fomit-frame-pointer", "-g0", "-Werror"]
WHERE_ELF = ["-flto", "-fno-plt"]
# Sums of three words by one lea, as gcc has them: only old processors are slow at that, and md5 is made of them.
TUNE = {"x86_64": ["-mcpu=x86_64-slow_3ops_lea"]}


@dataclass(frozen=True)
class Target:
    platform: str  # in the name of a wheel
    triple: str  # for the compiler

    @property
    def is_musl(self) -> bool:
        return "musl" in self.triple

    @property
    def is_macos(self) -> bool:
        return "macos" in self.triple

    def suffix(self, version: str) -> str:
        """The end of the extension's name. Pythons on musl do not agree on it; the plain one is taken by all."""
        if self.is_musl:
            return ".so"
        return f".cpython-{version.replace('.', '')}-{self.triple.split('.')[0]}.so"


TARGETS = [
    Target("manylinux_2_28_x86_64", "x86_64-linux-gnu.2.28"),
    Target("manylinux_2_28_aarch64", "aarch64-linux-gnu.2.28"),
    Target("musllinux_1_2_x86_64", "x86_64-linux-musl"),
    Target("musllinux_1_2_aarch64", "aarch64-linux-musl"),
]


class Compiler:
    """Of one package for one target."""

    def __init__(self, package: Package, target: Target, work: Path) -> None:
        self.package, self.target, self.work = package, target, (work / target.platform).absolute()
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        # One for each target, so that the C library that is made for it can be found.
        self.cache = self.work.parent / "cache" / target.platform
        folders = {"ZIG_GLOBAL_CACHE_DIR": str(self.cache), "ZIG_LOCAL_CACHE_DIR": str(self.cache)}
        self.environment = {**os.environ, **folders}
        # The C library before all else: the compiler has a memcpy of its own, which is slower than those of systems.
        self.libraries = [] if target.is_macos else [self.libc(), self.zlib()]
        sources = package.extension["sources"]
        self.whole = write_attributes(self.work / "whole.csv", [package.tree / source for source in sources])
        self.include = self.lay_headers_of_zlib()
        self.core = self.objects([each for each in sources if each.startswith("mcext/core/")], "core", [])

    def zig(self, *arguments: str, folder: Path) -> None:
        command = [str(ZIG), *arguments]
        if arguments[0] == "cc":
            command[2:2] = ["-target", self.target.triple]
        done = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"error: {self.target.platform}: {' '.join(command)}\n{done.stdout}{done.stderr}")

    def libc(self) -> str:
        """The C library to link with: made by the compiler, with the versions of names that the target has. A name of
        musl's own that Alpine's package has, and auditwheel wants, comes from a stub."""
        self.zig("cc", "-shared", "-o", "probe.so", "-xc", os.devnull, folder=self.work)
        made, *_ = self.cache.glob("o/*/libc.so" if self.target.is_musl else "o/*/libc.so.6")
        if not self.target.is_musl:
            return str(made)
        with made.open("rb") as file:
            names = {symbol.name for symbol in ELFFile(file).get_section_by_name(".dynsym").iter_symbols()}
        return self.stub(f"libc.musl-{self.target.triple.split('-')[0]}.so.1", names - {""})

    def zlib(self) -> str:
        """A stub: each system that the wheels are for has its own libz.so.1."""
        if self.package.extension["libraries"] != ["z"]:
            raise SystemExit("error: the extension needs more than zlib: a stub of it is to be made here, too")
        names = re.findall(r"ZEXPORT(?:VA)?\s+(\w+)\s*(?:OF)?\(", (ZLIB / "zlib.h").read_text())
        return self.stub("libz.so.1", set(names))

    def lay_headers_of_zlib(self) -> Path:
        """Copies them to where nothing else is: the system's other headers are not the target's."""
        include = self.work / "include"
        include.mkdir()
        for name in ("zlib.h", "zconf.h"):
            shutil.copyfile(ZLIB / name, include / name)
        return include

    def stub(self, soname: str, names: set[str]) -> str:
        """A library that has these names in it and nothing behind."""
        text = "".join(f".globl {name}\n.type {name}, %function\n{name}:\n" for name in sorted(names))
        (self.work / f"{soname}.s").write_text(f".text\n{text}")
        flags = ["-shared", "-nostdlib", f"-Wl,-soname,{soname}"]
        self.zig("cc", *flags, "-o", soname, f"{soname}.s", folder=self.work)
        return str(self.work / soname)

    def objects(self, sources: list[str], name: str, flags: list[str]) -> list[str]:
        """Compiles each, in the tree and by its name there, so that no folder of this machine gets into the objects."""
        folder = self.work / name
        folder.mkdir()
        extension = self.package.extension
        flags = [
            *(f"-D{macro}={value}" for macro, value in extension["define_macros"]),
            *(f"-I{path}" for path in [*extension["include_dirs"], self.include]),
            *flags,
            *extension["extra_compile_args"],
            *COMPILE,
            *TUNE.get(self.target.triple.split("-")[0], []),
            *([] if self.target.is_macos else [*WHERE_ELF, *self.whole]),
        ]

        def compile_one(source: str) -> str:
            made = str(folder / (source.replace("/", "_") + ".o"))
            self.zig("cc", *flags, "-c", source, "-o", made, folder=self.package.tree)
            return made

        with ThreadPoolExecutor(CORES) as pool:
            return list(pool.map(compile_one, sources))

    def compile(self, headers: Headers) -> list[str]:
        binding = [each for each in self.package.extension["sources"] if not each.startswith("mcext/core/")]
        return self.core + self.objects(binding, tag(headers.version), ["-isystem", str(headers.folder)])

    def link(self, headers: Headers) -> tuple[str, bytes]:
        """The extension for this Python: its name in a wheel, and itself."""
        objects, name = self.compile(headers), tag(headers.version)
        folder = self.work / name
        self.zig("ld.lld", "-shared", "--lto-O3", "--lto-emit-asm", *OPTIMISE, *objects, "-o", "whole", folder=folder)
        flags = ["-shared", "-s", "-Wl,--as-needed", *self.package.extension["extra_link_args"]]
        self.zig("cc", *flags, "whole.lto.s", *self.libraries, "-o", "extension.so", folder=folder)
        module = self.package.extension["name"].replace(".", "/") + self.target.suffix(headers.version)
        return module, (folder / "extension.so").read_bytes()
