"""Prints the CPythons at hand that the package supports, one a line: VERSION PATH. The first one is the main one.

Looked for on the PATH, among pyenv's versions, and beside the interpreter that runs this. PYTHONS in the environment,
a list of interpreters, replaces the search.
"""

import os
import shutil
import subprocess
import sys
from glob import glob

OLDEST, NEWEST = (3, 10), (3, 15)
MINORS = range(OLDEST[1], NEWEST[1] + 1)
ASK = """
import os, sys, sysconfig
free = sysconfig.get_config_var("Py_GIL_DISABLED")
usable = os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
try:
    import ensurepip, venv
except ImportError:
    usable = False
print(sys.implementation.name, *sys.version_info[:2], "t" if free else "-", usable, sys._base_executable)
"""


def ask(path):
    """(minor version, free-threaded?, can build?, real path) of an interpreter; None for one we do not support."""
    try:
        done = subprocess.run([path, "-c", ASK], capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    words = done.stdout.split(None, 5)
    if done.returncode or len(words) != 6 or words[0] != "cpython" or words[1] != "3" or int(words[2]) not in MINORS:
        return None
    return int(words[2]), words[3] == "t", words[4] == "True", words[5].strip()


def candidates():
    names = [f"python3.{minor}{free}" for minor in MINORS for free in ("", "t")]
    yield from filter(None, map(shutil.which, ["python3", *names]))
    folders = [os.path.join(os.environ["PYENV_ROOT"], "versions")] if os.environ.get("PYENV_ROOT") else []
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()
        folders.append(os.path.join(root, "versions"))
    folders.append(os.path.dirname(os.path.realpath(sys.base_prefix)))
    for folder in folders:
        yield from sorted(glob(os.path.join(folder, "*", "bin", "python3")))


def main():
    given = os.environ.get("PYTHONS", "").split()
    found = {}
    for path in given or candidates():
        answer = ask(path)
        if answer is None:
            if given:
                sys.exit(f"error: {path} is no CPython 3.{OLDEST[1]} to 3.{NEWEST[1]}")
            continue
        minor, free, usable, real = answer
        # The first one found is kept even without headers: it is the system's, and apt can bring them.
        version = f"3.{minor}{'t' if free else ''}"
        if usable or given or not found:
            found.setdefault(version, real)
        elif version not in found:
            print(f"note: {path} has no headers or no venv, so it is left out", file=sys.stderr)
    if not found:
        sys.exit(f"error: no CPython 3.{OLDEST[1]} to 3.{NEWEST[1]} found; please install python3")
    # In one write: who wants the first line only may be gone before a second.
    sys.stdout.write("".join(f"{version} {path}\n" for version, path in found.items()))


if __name__ == "__main__":
    main()
