"""A copy of the package in a folder of its own, where one file at a time is changed, built and tested."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
C_FLAGS = "-std=c11 -D_GNU_SOURCE= -Imcext -Werror=return-type"
# As `make asan` and `make ubsan` run the C tests: what is read or written beside its place, or lost, is noticed too.
CHECKED = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined"
EXTENSION = "-O2 -fPIC -fvisibility=hidden"
CHECKER = {"ASAN_OPTIONS": "allocator_may_return_null=1:exitcode=99", "UBSAN_OPTIONS": "exitcode=99"}
# Of the Python tests those that say most in less than 30 seconds.
FAST = [
    "compatibility/test_answers.py",
    "compatibility/test_surface.py",
    "compatibility/test_upstream.py",
    "connections/test_connections.py",
    "connections/test_streams.py",
    "security/test_injection.py",
    "security/test_unpickler.py",
    "servers/test_dead_marks.py",
]
PATIENCE = 60  # seconds that a C test may take without any change
SLACK = 10  # and with one, times what it took without; and seconds, at least
PYTHON_PATIENCE = 120


class Broken(Exception):
    """The unchanged tree does not build, or its tests fail."""


def run(command, folder, seconds=300, **environment):
    """The exit status (None: not in time) and what was written. What the command has started ends with it."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


class Objects:
    """The object files of the unchanged tree; and beside them, of what a change reaches, those of the changed one."""

    def __init__(self, tree, name, flags, sources):
        self.tree = tree
        self.flags = shlex.split(flags)
        self.folder = tree / "build" / name
        self.folder.mkdir(parents=True)
        self.sources = sources
        self.made_of = {}
        self.changed = {}

    def compile(self, source, kind):
        """The object file, or None."""
        made = self.folder / f"{source.replace('/', '-')}{kind}.o"
        needs = made.with_suffix(".d")
        status, _ = run(["gcc", *self.flags, "-MMD", "-MF", needs, "-c", "-o", made, source], self.tree)
        if status != 0:
            return None
        self.made_of.setdefault(source, set(needs.read_text().replace("\\\n", " ").split()[1:]))
        return made

    def begin(self):
        self.unchanged = {source: self.compile(source, "") for source in self.sources}
        if None in self.unchanged.values():
            raise Broken("it does not compile without any change")

    def change(self, path):
        """Whether it compiles with a change of this file."""
        reached = [source for source in self.sources if path in self.made_of[source]]
        self.changed = {source: self.compile(source, ".changed") for source in reached}
        return None not in self.changed.values()

    def path(self, source):
        return self.changed.get(source, self.unchanged[source])

    def is_same(self):
        return all(made.read_bytes() == self.unchanged[source].read_bytes() for source, made in self.changed.items())


class Tree:
    def __init__(self, folder):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("mcext", "tests"):
            ignored = shutil.ignore_patterns("*.so", "__pycache__", "fuzz")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for name in ("memcache.py", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)
        self.core = self.named("mcext/core/*/*.c")
        self.binding = self.named("mcext/binding/*.c")
        self.tests = self.named("tests/core/test_*.c")
        self.checked = Objects(folder, "checked", f"{C_FLAGS} {CHECKED}", self.core + self.tests)
        include = shlex.quote(sysconfig.get_path("include"))
        self.plain = Objects(folder, "plain", f"{C_FLAGS} {EXTENSION} -I{include}", self.core + self.binding)
        self.took = {}

    def named(self, pattern):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(pattern))

    def begin(self):
        """Builds all unchanged; its tests must pass."""
        self.checked.begin()
        self.plain.begin()
        for test in self.tests:
            began = time.monotonic()
            wrong = self.fails(test)
            self.took[test] = time.monotonic() - began
            if wrong:
                raise Broken(f"{test} {wrong} without any change")
        wrong = self.fails_in_python()
        if wrong:
            raise Broken(f"the Python tests {wrong} without any change")

    def in_order(self, path):
        """The C tests: of this file first, then those that take least."""
        own = f"tests/core/test_{Path(path).stem}.c"
        return sorted(self.tests, key=lambda test: (test != own, self.took[test]))

    def link(self, made, sources, objects, *flags):
        paths = [objects.path(source) for source in sources]
        status, output = run(["gcc", *flags, "-o", made, *paths, "-lz", "-lpthread"], self.folder)
        if status != 0:
            raise Broken(output)

    def fails(self, test):
        """What the program does in place of passing, or None."""
        program = self.checked.folder / Path(test).stem
        self.link(program, [test, *self.core], self.checked, *shlex.split(CHECKED))
        patience = max(SLACK, SLACK * self.took[test]) if test in self.took else PATIENCE
        status, _ = run([program], self.folder, patience, **CHECKER)
        if status == 1:  # a check that was not true: on a busy machine it may have been about time
            status, _ = run([program], self.folder, patience, **CHECKER)
        return None if status == 0 else "hangs" if status is None else f"ends with {status}"

    def fails_in_python(self):
        made = self.folder / "mcext" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
        self.link(made, self.plain.sources, self.plain, "-shared")
        files = [f"tests/{name}" for name in FAST]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=60", *files]
        status, _ = run(command, self.folder, PYTHON_PATIENCE, PYTHONPATH=str(self.folder))
        return None if status == 0 else "hang" if status is None else f"end with {status}"

    def judge(self, path, text):
        """What becomes of the tree with this text in this file: "none" (it does not compile), "C", "Python", "same"
        (the compiler makes the same of it, so that nothing can tell) or "alive"."""
        file = self.folder / path
        kept = file.read_text()
        file.write_text(text)
        try:
            if not self.checked.change(path):
                return "none"
            if any(self.fails(test) for test in self.in_order(path)):
                return "C"
            if not self.plain.change(path):
                return "none"
            if self.plain.is_same():
                return "same"
            return "Python" if self.fails_in_python() else "alive"
        finally:
            file.write_text(kept)
            self.checked.changed = {}
            self.plain.changed = {}
