"""How far apart the runs of one call lie: a median over rounds hides a slow mode that a whole process is in.

Each run has a memcached, a raw loop and a client of its own, freshly started. What such a mode of a large value over
TCP is mostly made of is the system's congestion control: one that paces what it sends (bbr) does so on the loopback
too, and what it takes for the speed of the way depends on who was given the processor when.
"""

from __future__ import annotations

import statistics
from typing import Any

import ratios
from clients import Kind
from workload import Call

ROUNDS = 6
COLUMNS = ["call", "client", "least", "quartile", "median", "quartile", "greatest", "runs above 1.5 medians"]


def measure(kinds: list[Kind], calls: list[Call], runs: int, core: int, clock: str, progress: Any) -> dict[str, Any]:
    """A table with a row for each call and client."""
    rows = []
    for call in calls:
        taken: dict[str, list[float]] = {"raw loop, µs": [], **{kind.name: [] for kind in kinds}}
        for number in range(runs):
            progress(f"spread of {call.title}: run {number + 1} of {runs}")
            measured = ratios.measure(kinds, [call], ["tcp"], [1], ROUNDS, 8, core, lambda text: None)
            for row in measured:
                taken[row["client"]].append(row[clock]["median"])
            taken["raw loop, µs"].append(measured[0][clock]["raw_ns"] / 1000)
        for name, figures in taken.items():
            low, median, high = statistics.quantiles(figures, n=4)
            slow = sum(figure > 1.5 * median for figure in figures)
            texts = [f"{figure:,.2f}" for figure in (min(figures), low, median, high, max(figures))]
            rows.append([call.title, name, *texts, str(slow)])
    title = f"The spread of {runs} runs over TCP, one server: ratio to the raw loop, and the raw loop itself"
    return {"title": title, "columns": COLUMNS, "rows": rows}
