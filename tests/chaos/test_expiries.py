"""A short run of forced expiries (expiries.py), and proof that it can fail. `make chaos` has the long one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mcext

TESTS = Path(__file__).resolve().parents[1]
FOLDER = str(Path(mcext.__file__).resolve().parents[1])
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [FOLDER, os.environ.get("PYTHONPATH")]))}

PLAIN_FILLS = """
from chaos import expiries
from chaos.__main__ import server

with server(direct=True) as running:
    print(expiries.run(running, 5000, 1, stops=0, fill="set").counts["resurrected"])
"""


def python(*arguments):
    """What another process printed; it forks, and so it has no threads."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=TESTS, env=ENVIRONMENT, capture_output=True, text=True, timeout=280
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_one_computation_for_each_expiry_and_nothing_comes_back():
    text = python("-m", "chaos", "--expiries", "2000", "--json")
    result = json.loads(next((line for line in text.splitlines() if line.startswith("{")), "null"))
    assert result and result["verdicts"] == [], text
    assert result["expiries"] >= 2000
    assert result["checked"] > 300, text
    assert result["counts"]["faults"] > 0, "the server was not stopped"
    assert result["counts"]["runs"] > 500


@pytest.mark.slow
def test_the_suite_catches_a_client_whose_fills_ask_for_no_token():
    text = python("-c", PLAIN_FILLS)
    assert text.strip().isdigit() and int(text) > 0, text
