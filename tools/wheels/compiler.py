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

ZIG = Path(ziglang.__file__).parent / "zig"
CORES = len(os.sched_getaffinity(0))
# What Python's own build adds for an extension, and what setup.py adds where the compiler has it.
COMPILE = ["-fPIC", "-DNDEBUG", "-fwrapv", "-fno-plt", "-flto", "-fomit-frame-pointer", "-g0", "-Werror"]


@dataclass(frozen=True)
class Target:
    platform: str  # in the name of a wheel
    triple: str  # for the compiler

    @property
    def is_musl(self) -> bool:
        return "musl" in self.triple

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
        cache = str(self.work.parent / "cache" / target.platform)
        self.environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
        self.zig("cc", "-shared", "-o", "probe.so", "-xc", os.devnull, folder=self.work)
        libc, *_ = Path(cache).glob(
            "o/*/libc.so" if target.is_musl else "o/*/libc.so.6"
        )  # where there are more they differ in what is no name
        if target.is_musl:
            with libc.open("rb") as file:
                names = {symbol.name for symbol in ELFFile(file).get_section_by_name(".dynsym").iter_symbols()}
            libc = self.stub(f"libc.musl-{target.triple.split('-')[0]}.so.1", names - {""})
        # The C library before all else: the compiler has a memcpy of its own, which is slower than those of systems.
        self.libraries = [str(libc), str(self.zlib())]
        core = [source for source in package.extension["sources"] if source.startswith("mcext/core/")]
        self.binding = [source for source in package.extension["sources"] if source not in core]
        self.core = self.objects(core, "core", [])

    def zig(self, *arguments: str, folder: Path) -> None:
        command = [str(ZIG), *arguments]
        if arguments[0] == "cc":
            command[2:2] = ["-target", self.target.triple]
        done = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"error: {self.target.platform}: {' '.join(command)}\n{done.stdout}{done.stderr}")

    def zlib(self) -> Path:
        """zlib's headers, and in place of the library a stub: each system that the wheels are for has its own."""
        if self.package.extension["libraries"] != ["z"]:
            raise SystemExit("error: the extension needs more than zlib: a stub of it is to be made here, too")
        include = self.work / "include"
        include.mkdir()
        for name in ("zlib.h", "zconf.h"):
            shutil.copyfile(Path("/usr/include") / name, include / name)
        found = re.findall(r"ZEXPORT(?:VA)?\s+(\w+)\s*(?:OF)?\(", (include / "zlib.h").read_text())
        return self.stub("libz.so.1", set(found))

    def stub(self, soname: str, names: set[str]) -> Path:
        """A library that has these names in it and nothing behind."""
        text = "".join(f".globl {name}\n.type {name}, %function\n{name}:\n" for name in sorted(names))
        (self.work / f"{soname}.s").write_text(f".text\n{text}")
        flags = ["-shared", "-nostdlib", f"-Wl,-soname,{soname}"]
        self.zig("cc", *flags, "-o", soname, f"{soname}.s", folder=self.work)
        return self.work / soname

    def objects(self, sources: list[str], name: str, flags: list[str]) -> list[str]:
        """Compiles each, in the tree and by its name there, so that no folder of this machine gets into the objects."""
        folder = self.work / name
        folder.mkdir()
        extension = self.package.extension
        flags = [
            *(f"-D{macro}={value}" for macro, value in extension["define_macros"]),
            *(f"-I{path}" for path in [*extension["include_dirs"], self.work / "include"]),
            *flags,
            *extension["extra_compile_args"],
            *COMPILE,
        ]

        def compile_one(source: str) -> str:
            made = str(folder / (source.replace("/", "_") + ".o"))
            self.zig("cc", *flags, "-c", source, "-o", made, folder=self.package.tree)
            return made

        with ThreadPoolExecutor(CORES) as pool:
            return list(pool.map(compile_one, sources))

    def link(self, headers: Headers) -> tuple[str, bytes]:
        """The extension for this Python: its name in a wheel, and itself."""
        name = tag(headers.version)
        objects = self.core + self.objects(self.binding, name, ["-isystem", str(headers.folder)])
        folder = self.work / name
        self.zig("ld.lld", "-shared", "--lto-O3", "--lto-emit-asm", *objects, "-o", "whole", folder=folder)
        flags = ["-shared", "-s", "-Wl,--as-needed", *self.package.extension["extra_link_args"]]
        self.zig("cc", *flags, "whole.lto.s", *self.libraries, "-o", "extension.so", folder=folder)
        module = self.package.extension["name"].replace(".", "/") + self.target.suffix(headers.version)
        return module, (folder / "extension.so").read_bytes()
