"""Installs each wheel where there is a Python for it, without a compiler, and runs smoke.py there on real memcacheds.

    python -m tools.wheels.trial [TAG ...]     such as 'cp311-*'; without tags all wheels in dist/

Pythons: those at hand; Debian's, unpacked into a folder below build/; and, for musl and free-threaded, some that are
built from Debian's sources. All for this machine and, run by qemu-user, for aarch64. Says of each wheel if it was run.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from mcext.testing import memcached
from tools.wheels.__main__ import ROOT
from tools.wheels.compiler import TARGETS, Target
from tools.wheels.cpython import RELEASES, Builder
from tools.wheels.debian import download_packages, native
from tools.wheels.headers import interpreters, tag

WORK = ROOT / "build/wheels"
DEBIAN = [("bookworm", "3.11"), ("sid", "3.13"), ("sid", "3.14"), ("sid", "3.15")]
LOADERS = {"amd64": "lib64/ld-linux-x86-64.so.2", "arm64": "lib/ld-linux-aarch64.so.1"}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass
class Interpreter:
    tag: str  # of the wheels for it: cp311-manylinux_2_28_x86_64
    command: list[str]
    name: str


def at_hand() -> list[Interpreter]:
    """musl's own programs run on this machine, too, where somebody has put them there."""
    machine, found = MACHINES[native()], []
    for version, path in interpreters(ROOT).items():
        code = "import sysconfig; print(sysconfig.get_config_var('SOABI') or '')"
        libc = subprocess.run([path, "-c", code], capture_output=True, text=True, check=True).stdout
        platform = "musllinux_1_2" if "musl" in libc else "manylinux_2_28"
        found.append(Interpreter(f"{tag(version)}-{platform}_{machine}", [path], path))
    return found


def lay(packages: list[str], suite: str, architecture: str) -> Path:
    root = download_packages(WORK / "debian", packages, suite, architecture, whole=True).absolute()
    for name in ("lib", "lib64", "bin"):
        if (root / "usr" / name).exists() and not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    return root


def libraries(root: Path) -> list[Path]:
    """In older Debians those that a system starts with are in a folder of their own."""
    return [*root.glob("lib/*-linux-gnu"), *root.glob("usr/lib/*-linux-gnu")]


def through_loader(architecture: str, loader: Path, folders: list[Path], python: Path) -> list[str]:
    emulator = []
    if architecture != native():
        qemu = download_packages(WORK / "debian", ["qemu-user"]) / f"usr/bin/qemu-{MACHINES[architecture]}"
        emulator = [str(qemu.absolute())]
    return [*emulator, str(loader), "--library-path", ":".join(map(str, folders)), str(python)]


def of_debian(suite: str, version: str, architecture: str) -> Interpreter:
    root = lay([f"python{version}-minimal", f"libpython{version}-stdlib"], suite, architecture)
    python = root / f"usr/bin/python{version}"
    command = through_loader(architecture, root / LOADERS[architecture], libraries(root), python)
    wheel = f"{tag(version)}-manylinux_2_28_{MACHINES[architecture]}"
    return Interpreter(wheel, command, f"Debian {suite}'s {architecture}")


def built(suite: str, version: str, target: Target) -> Interpreter:
    (architecture,) = (name for name, machine in MACHINES.items() if target.platform.endswith(machine))
    root = lay(["musl" if target.is_musl else "libc6"], "sid", architecture)
    same = of_debian(suite, version.removesuffix("t"), native()).command
    builder = Builder(WORK, target)
    python = builder.build(suite, version, same)
    loader = f"lib/ld-musl-{MACHINES[architecture]}.so.1" if target.is_musl else LOADERS[architecture]
    folders = [builder.installed / "lib", *libraries(root)]
    command = through_loader(architecture, root / loader, folders, python)
    return Interpreter(f"{tag(version)}-{target.platform}", command, f"built from Debian {suite}'s source")


def install(wheel: Path, folder: Path) -> str:
    """By pip, which takes no other wheel than one for this Python and machine, and nothing from an index. Returns what
    it complains of, or nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    _, _, abi, platform = wheel.stem.rsplit("-", 3)
    names = ["--platform", platform, "--abi", abi, "--implementation", "cp"]
    python = ["--python-version", abi.removeprefix("cp").removesuffix("t")]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-index", "--no-deps"]
    command += ["--only-binary", ":all:", *names, *python, "--target", str(folder), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def run_smoke(interpreter: Interpreter, folder: Path, arguments: list[str]) -> tuple[bool, str]:
    """In an environment that has no compiler on its PATH and nothing but the package to import."""
    environment = {"PATH": "/nowhere", "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*interpreter.command, "-s", str(ROOT / "tools/wheels/smoke.py"), *arguments]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=300)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def main() -> int:
    patterns = sys.argv[1:]
    wheels = {}
    for wheel in sorted((ROOT / "dist").glob("*.whl")):
        _, _, abi, platform = wheel.stem.rsplit("-", 3)
        if not patterns or any(fnmatch(f"{abi}-{platform}", pattern) for pattern in patterns):
            wheels[f"{abi}-{platform}"] = wheel
    if not wheels:
        raise SystemExit("error: dist/ has no such wheels (tools/wheels.sh makes them)")
    known = at_hand()
    for suite, version, architecture in [(*of, architecture) for architecture in LOADERS for of in DEBIAN]:
        if f"{tag(version)}-manylinux_2_28_{MACHINES[architecture]}" in wheels:
            try:
                known.append(of_debian(suite, version, architecture))
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"Python {version} of Debian {suite}, {architecture}, cannot be had: {error}")
    for target, (suite, version) in itertools.product(TARGETS, RELEASES):
        name = f"{tag(version)}-{target.platform}"
        if name in wheels and not any(name == each.tag for each in known):
            try:
                known.append(built(suite, version, target))
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"Python {version} for {target.platform} cannot be built: {error}")
    failed, run = [], set()
    with memcached() as plain, memcached(tls=True) as secure:
        for interpreter in known:
            if interpreter.tag not in wheels:
                continue
            folder = WORK / "trial" / interpreter.tag / "site-packages"
            works, said = False, install(wheels[interpreter.tag], folder)
            if not said:
                works, said = run_smoke(interpreter, folder, [plain.address, secure.address, str(secure.ca_file)])
            run.add(interpreter.tag)
            print(f"{'ran' if works else 'FAILED'}: {interpreter.tag} ({interpreter.name}): {said}", flush=True)
            if not works:
                failed.append(interpreter.tag)
    for name in sorted(wheels.keys() - run):
        print(f"not run, no Python for it here: {name}")
    print(f"{len(run)} of {len(wheels)} wheels run, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
