"""Type checkers take a program that uses codecs, compression and errors, and refuse what is wrong in it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mcext

SAMPLE = Path(__file__).with_name("typing_of_codecs.py")
PACKAGE = Path(mcext.__file__).parent


@pytest.fixture
def project(tmp_path):
    """A folder with the sample and the package's Python files alone."""
    shutil.copy(SAMPLE, tmp_path)
    (tmp_path / "mcext").mkdir()
    for path in (PACKAGE / "py.typed", PACKAGE / "_core.pyi", *PACKAGE.glob("*.py")):
        shutil.copy(path, tmp_path / "mcext")
    return tmp_path


def check(*arguments, cwd):
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_strict_takes_the_sample(project):
    check("mypy", "--strict", "--no-incremental", SAMPLE.name, cwd=project)


def test_pyright_strict_takes_the_sample(project):
    rules = {"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": "error"}
    (project / "pyrightconfig.json").write_text(json.dumps({"include": [SAMPLE.name], **rules}))
    check("basedpyright", "--pythonpath", sys.executable, cwd=project)
