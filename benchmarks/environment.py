"""What the benchmarks need around them: the other clients, the raw loop, the servers, the processes.

All of it is put under build/bench. Nothing is installed into the environment that runs this.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clients import KINDS, Kind

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "bench"
TAG = sys.implementation.cache_tag + getattr(sys, "abiflags", "")
BUILD_ENVIRONMENT = "MCEXT_PATH"  # a folder that holds another build of mcext, to compare two builds


def requirement(package: str) -> str:
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if line.startswith(package):
            return line
    raise LookupError(f"{package} is not in requirements.txt")


def install(package: str, needs: str = "") -> Path:
    """Installs one line of requirements.txt into a folder of its own, once; raises RuntimeError with pip's reason."""
    line = requirement(package)
    folder = BUILD / TAG / line
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run([*command, "--target", str(unfinished), line], capture_output=True, text=True)
    if result.returncode != 0:
        errors = [text for text in result.stderr.splitlines() if "error" in text.lower()] or result.stderr.splitlines()
        hint = f" (it needs {needs})" if needs else ""
        raise RuntimeError(f"{line} could not be installed{hint}: {(errors or ['pip failed'])[-1].strip()[:200]}")
    unfinished.rename(folder)
    return folder


def import_tool(package: str, module: str) -> Any:
    """Imports a module that only the report needs."""
    folder = str(install(package))
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(module)


def python_path(kind: Kind) -> str:
    """PYTHONPATH of a process that opens this kind of client."""
    if not kind.package:
        return os.environ.get(BUILD_ENVIRONMENT, "")
    return str(install(kind.package, kind.needs))


def child_environment(kind: Kind, **more: str) -> dict[str, str]:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    path = python_path(kind)
    return environment | ({"PYTHONPATH": path} if path else {}) | more


def available_kinds(names: list[str] | None = None) -> tuple[list[Kind], dict[str, str]]:
    """The kinds that can be imported here, and for each of the others the reason why not."""
    kinds, missing = [], {}
    for kind in KINDS.values():
        if names and kind.name not in names:
            continue
        try:
            environment = child_environment(kind)
        except RuntimeError as error:
            missing[kind.name] = str(error)
            continue
        command = [sys.executable, "-c", f"import {kind.module}"]
        result = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True)
        if result.returncode == 0:
            kinds.append(kind)
        else:
            missing[kind.name] = (result.stderr.strip().splitlines() or ["the import failed"])[-1]
    return kinds, missing


def build_raw(name: str = "raw", *libraries: str) -> Path:
    """Compiles NAME.c; raises subprocess.CalledProcessError where that cannot be done."""
    source, program = HERE / f"{name}.c", BUILD / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        command = [os.environ.get("CC", "cc"), "-std=c11", "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)]
        subprocess.run([*command, *libraries], check=True)
    return program


def pin(core: int) -> None:
    """Puts this process, and all that it starts from now on, on one core."""
    os.sched_setaffinity(0, {core})


def default_core() -> int:
    return max(os.sched_getaffinity(0))


@contextlib.contextmanager
def running_servers(count: int, unix: bool) -> Iterator[list[Any]]:
    """Starts memcached that often."""
    from mcext.testing import memcached

    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(memcached("-t", "1", "-m", "1024", unix=unix)) for _ in range(count)]


@contextlib.contextmanager
def servers(count: int, unix: bool) -> Iterator[list[str]]:
    """Starts memcached that often; yields the addresses as Client takes them."""
    with running_servers(count, unix) as running:
        yield [server.address for server in running]


def cpu_time(pids: list[int]) -> int:
    """Nanoseconds of CPU time that these processes have used, all threads of theirs."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


class Worker:
    """A process that runs calls when told to: worker.py with one client, or the raw loop."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.command = command
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, line: str) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{' '.join(self.command)} ended with {self.process.wait()} at {line:.100}")
        return answer

    def order(self, **order: Any) -> Any:
        answer = json.loads(self.ask(json.dumps(order)))
        if isinstance(answer, dict):
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        self.process.communicate()


def client_worker(kind: Kind) -> Worker:
    return Worker([sys.executable, str(HERE / "worker.py"), kind.name], child_environment(kind))


def machine() -> dict[str, str]:
    """What a reader needs to know to compare figures."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    server = subprocess.run(["memcached", "-V"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}{getattr(sys, 'abiflags', '')}",
        "server": server,
        "kernel": f"{platform.system()} {platform.release()}",
        "congestion": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "cpu": cpu,
    }
