"""Packages' own tests, run on our classes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


# Of this run's environment, what changes the packages' own: some want a server of theirs in CI, and pytest's last line
# is read, without colours.
NOT_INHERITED = ("CI", "BUILD_NUMBER", "FORCE_COLOR", "PY_COLORS", "PYTEST_ADDOPTS")


def path(*folders):
    """A PYTHONPATH with these folders before all else, and this checkout."""
    known = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return os.pathsep.join([*map(str, folders), str(ROOT), str(ROOT / "tests" / "support"), *known])


def entry_points(folder):
    """Write our entry points as pyproject.toml has them into folder, for importlib.metadata to find: an installed mcext
    has those of the day on which it was installed."""
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def run_suite(plugin, folder, *arguments, path_to=(), **environment):
    """Run a package's own tests in its folder with the plugin of tests/frameworks/suites that puts our class in the
    place of theirs. Returns how many have passed; AssertionError where any has not."""
    suites = ROOT / "tests" / "frameworks" / "suites"
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    child = {**inherited, "PYTHONPATH": path(*path_to, suites), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", plugin, "-rfE", *arguments]
    done = subprocess.run(command, cwd=folder, env=child, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert "skipped" not in last, done.stdout
    return int(last.split(" passed")[0].split()[-1])
