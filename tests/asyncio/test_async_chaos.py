"""Everything at once: tests/support/async_chaos.py. MCEXT_ASYNC_CHAOS_CALLS: how many calls."""

import os
import random

import pytest
from async_chaos import chaos
from loops import LOOPS, run

CALLS = int(os.environ.get("MCEXT_ASYNC_CHAOS_CALLS", "30000"))


@pytest.mark.filterwarnings("error", "ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("loop", LOOPS)
def test_no_answer_is_wrong_and_nothing_hangs_or_is_left(loop):
    seed = int(os.environ.get("MCEXT_ASYNC_CHAOS_SEED", random.randrange(1 << 31)))
    result = run(loop, chaos(CALLS, seed), patience=100 + CALLS / 50)
    print(f"seed {seed}: {result}")
    assert result.verdicts() == [], f"seed {seed}: {result}"
    counts = result.counts
    assert counts["calls"] == CALLS
    assert counts["answered"] > CALLS / 50 and counts["cancelled"] > CALLS / 50, result
    # On a machine that is busy most calls meet a server that is marked dead, and few a fault.
    assert counts["forks"] and counts["kills"] and sum(result.injected.values()), result
