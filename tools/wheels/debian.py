"""Debian's packages, unpacked into a folder by any user: for headers, and for interpreters of other machines.

apt works on a state of its own here. Nothing is installed, and the machine's own packages stay as they are.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

CONFIGURATION = """
Dir "{folder}";
Dir::State::status "{folder}/status";
Dir::Etc::sourceparts "-";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
Acquire::Check-Valid-Until "false";
APT::Sandbox::User "root";
"""


def mirror() -> str:
    """Where this machine's apt has Debian from."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Label: Debian"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if not done.stdout:
        raise OSError("apt of this machine knows no Debian (apt-get update?)")
    return os.environ.get("MIRROR") or done.stdout.split()[0]


def apt(folder: Path, suite: str, architecture: str, kind: str = "deb") -> dict[str, str]:
    """The environment in which apt-get knows the packages of `suite` (or its sources) and none that is installed."""
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
    if not (folder / "updated").exists():
        for name in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "etc/apt/preferences.d"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "etc/apt/apt.conf.d").mkdir(exist_ok=True)
        (folder / "status").touch()
        keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (folder / "etc/apt/sources.list").write_text(f"{kind} [signed-by={keys}] {mirror()} {suite} main\n")
        text = CONFIGURATION.format(folder=folder.absolute(), architecture=architecture)
        (folder / "apt.conf").write_text(text)
        call(["apt-get", "-q", "update"], folder, environment)
        (folder / "updated").touch()
    return environment


def call(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise OSError((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])


def native() -> str:
    command = ["dpkg", "--print-architecture"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def download_packages(
    folder: Path, packages: list[str], suite: str = "sid", architecture: str = "", whole: bool = False
) -> Path:
    """Unpacks the packages, where `whole` with all that they depend on; returns the folder that has usr/ in it.

    Raises OSError in apt's own words.
    """
    architecture = architecture or native()
    state = folder / f"{suite}-{architecture}"
    environment = apt(state, suite, architecture)
    laid = state / "-".join(["root" if whole else "only", *packages])
    if (laid / "laid").exists():
        return laid
    fetched = state / "fetched"
    fetched.mkdir(exist_ok=True)
    for old in [*fetched.glob("*.deb"), *(state / "var/cache/apt/archives").glob("*.deb")]:
        old.unlink()
    if whole:
        call(["apt-get", "-q", "-y", "--download-only", "install", *packages], fetched, environment)
        fetched = state / "var/cache/apt/archives"
    else:
        call(["apt-get", "-q", "download", *packages], fetched, environment)
    laid.mkdir(exist_ok=True)
    for package in sorted(fetched.glob("*.deb")):
        call(["dpkg-deb", "-x", str(package.absolute()), str(laid.absolute())], fetched, environment)
    (laid / "laid").touch()
    return laid


def download_source(folder: Path, package: str, suite: str) -> Path:
    """The archive of a source package, as Debian has it from where it comes. Raises OSError in apt's own words."""
    state = folder / f"{suite}-source"
    environment = apt(state, suite, native(), "deb-src")
    fetched = state / package
    fetched.mkdir(exist_ok=True)
    call(["apt-get", "-q", "source", "--download-only", package], fetched, environment)
    (archive,) = (path for path in fetched.glob("*.orig.tar.*") if path.suffix != ".asc")
    return archive
