"""One wheel: what setuptools packs, the extension for this Python and target, and the bill of it all."""

from __future__ import annotations

from importlib.metadata import version as version_of
from pathlib import Path

from tools.wheels.compiler import Compiler
from tools.wheels.headers import Headers, tag
from tools.wheels.pack import pack
from tools.wheels.sbom import bill
from tools.wheels.source import Package


def assemble(package: Package, compiler: Compiler, headers: Headers, out: Path, time: int) -> Path:
    """Makes the wheel in `out`; returns its path."""
    python = tag(headers.version)
    interpreter = python.removesuffix("t")
    path = out / f"{package.name}-{package.version}-{interpreter}-{python}-{compiler.target.platform}.whl"
    name, extension = compiler.link(headers)
    tools = {"setuptools": version_of("setuptools"), "ziglang": version_of("ziglang"), "cpython": headers.release}
    sbom = bill(package.name, package.version, path.name, time, tools)
    files = {**package.files, name: extension, f"{package.info}/sboms/{package.name}.cdx.json": sbom}
    pack(path, files, package.info, f"setuptools ({tools['setuptools']})", time)
    return path
