"""What must hold of each wheel before it may leave; nothing here runs it (tools/wheels/trial.py does that)."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

LARGEST = 700_000  # bytes, of which the Python files are 100 kB: the way of a call is in it several times (whole.py)
SYSTEM = {"libz.so.1", "libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
SYSTEM |= {"libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"}


def check_all(wheels: list[Path], sdist: Path) -> tuple[dict[Path, str], list[str]]:
    """auditwheel's verdict on each wheel, and lines about all that is wrong."""
    verdicts, wrong = {}, []
    for wheel in wheels:
        with tempfile.TemporaryDirectory() as empty:
            verdicts[wheel], lines = audit(wheel, empty)
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            (extension,) = [name for name in names if name.endswith(".so")]
            (sbom,) = [name for name in names if name.endswith(".cdx.json")]
            lines += check_extension(archive.read(extension))
            lines += check_sbom(archive.read(sbom).decode())
        if (size := wheel.stat().st_size) > LARGEST:
            lines.append(f"{size:,} bytes, at most {LARGEST:,}")
        wrong += [f"{wheel.name}: {line}" for line in lines]
    # W009: more than one name at the top is what this package is.
    for tool, files in (
        (["twine", "check", "--strict"], [sdist, *wheels]),
        (["check_wheel_contents", "--ignore", "W009"], wheels),
    ):
        command = [sys.executable, "-m", *tool, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            wrong.append(f"{tool[0]} says:\n{done.stdout}{done.stderr}")
    return verdicts, wrong


def audit(wheel: Path, empty: str) -> tuple[str, list[str]]:
    """The widest tag that auditwheel would give it, and a line where its own tag promises more than that."""
    platform = wheel.stem.rsplit("-", 1)[1]
    # The libraries of this machine are not those that it will meet: they are looked for in an empty folder.
    command = [sys.executable, "-m", "auditwheel", "show", "--json", "--ldpaths", empty, str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return "refused", [f"auditwheel: {done.stdout}{done.stderr}"]
    told = json.loads(done.stdout)
    kind, major, minor, machine = parts(told["overall_tag"])
    wanted = parts(platform)
    if (kind, machine) != (wanted[0], wanted[3]) or (major, minor) > wanted[1:3] or told["external_libs"]:
        return told["overall_tag"], [f"auditwheel: {done.stdout}"]
    return told["overall_tag"], []


def parts(platform: str) -> tuple[str, int, int, str]:
    found = re.fullmatch(r"(\w+linux)_(\d+)_(\d+)_(\w+)", platform)
    return (found[1], int(found[2]), int(found[3]), found[4]) if found else (platform, 0, 0, "")


def check_extension(data: bytes) -> list[str]:
    """It gives one name, needs what every system has, is hardened, and holds nothing of this machine."""
    elf, wrong = ELFFile(io.BytesIO(data)), []
    symbols = list(elf.get_section_by_name(".dynsym").iter_symbols())
    given = [s.name for s in symbols if s.entry.st_shndx != "SHN_UNDEF" and s.entry.st_info.bind != "STB_LOCAL"]
    if given != ["PyInit__core"]:
        wrong.append(f"the extension gives {given}")
    tags = {}
    for section in elf.iter_sections():
        if section.name.startswith(".debug") or section.name == ".symtab":
            wrong.append(f"it is not stripped: {section.name}")
        if isinstance(section, DynamicSection):
            tags = {(tag.entry.d_tag, getattr(tag, "needed", tag.entry.d_val)) for tag in section.iter_tags()}
    needed = {name for tag, name in tags if tag == "DT_NEEDED"}
    if not {"libz.so.1"} <= needed <= SYSTEM:
        wrong.append(f"it needs {sorted(needed)}")
    if any(tag in ("DT_RPATH", "DT_RUNPATH", "DT_TEXTREL") for tag, _ in tags):
        wrong.append("it has a path of libraries, or relocations of code")
    if not any(tag == "DT_FLAGS" and value & 8 for tag, value in tags):
        wrong.append("not all names are bound when it is loaded")
    kinds = {segment.header.p_type for segment in elf.iter_segments()}
    if "PT_GNU_RELRO" not in kinds:
        wrong.append("its tables stay writable")
    return wrong


def check_sbom(text: str) -> list[str]:
    error = JsonStrictValidator(SchemaVersion.V1_7).validate_str(text)
    return [f"the SBOM is none: {error}"] if error else []
