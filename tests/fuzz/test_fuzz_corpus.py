"""The fuzz targets keep their promises on the seed corpus, under AddressSanitizer and UndefinedBehaviorSanitizer.

`make fuzz` looks for new inputs; this needs no clang.
"""

import os
import pathlib
import re
import runpy
import subprocess

import pytest

FUZZ = pathlib.Path(__file__).parent
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.c"))


def replay(target, folder):
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "ASAN_OPTIONS")}
    return subprocess.run(
        [FUZZ / "run.sh", "--replay", target],
        env=environment | {"FUZZ_BUILD": str(folder)},
        capture_output=True,
        text=True,
    )


def test_each_target_has_a_corpus():
    assert len(TARGETS) >= 5
    assert sorted([*TARGETS, "value"]) == sorted(folder.name for folder in (FUZZ / "corpus").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_breaks_no_promise(target, tmp_path):
    seeds = len(list((FUZZ / "corpus" / target).iterdir()))
    done = replay(target, tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(re.search(r": (\d+) inputs", done.stdout)[1]) == seeds > 10


def test_the_corpus_of_values_breaks_no_promise():
    target = runpy.run_path(str(FUZZ / "fuzz_value.py"))
    assert target["replay"]([FUZZ / "corpus" / "value"]) > 40
    for seed in target["seeds"]():
        target["test_one_input"](seed)
