"""What asyncio_clients.py measured, as tables and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asyncio_contestants import CONTESTANTS, FLOOR
from environment import import_tool

PLOTTED = "get_100"
OURS = "mcext.AsyncCache"
COLOURS = {
    FLOOR: "#333333",
    OURS: "#0072b2",
    "emcache": "#e69f00",
    "emcache, autobatching": "#f0c040",
    "aiomcache": "#009e73",
    "memcachio": "#cc79a7",
    "to_thread(mcext.Cache)": "#56b4e9",
    "redis-py on redis": "#999999",
}
CLOCKS = {"cpu": "CPU time of the client's process", "wall": "Time"}

Table = tuple[str, list[str], list[list[str]]]


def cell(point: dict[str, Any] | None, clock: str) -> str:
    if point is None:
        return ""
    if "error" in point:
        return "failed"
    figure = point[clock]
    ratio = f" ({figure['ratio']:.2f})" if "ratio" in figure and point["client"] != FLOOR else ""
    return f"{figure['median']:,.1f}{ratio}"


def tables(measured: dict[str, Any]) -> list[Table]:
    """A table for each clock and loop, and one for the late server."""
    made: list[Table] = []
    if not measured:
        return made
    points = {(one["loop"], one["call"], one["tasks"], one["client"]): one for one in measured["points"]}
    for clock, what in CLOCKS.items():
        for loop in dict.fromkeys(loop for loop, *_ in points):
            clients = [name for name in CONTESTANTS if any(key[0] == loop and key[3] == name for key in points)]
            body = []
            for call, tasks in dict.fromkeys((key[1], key[2]) for key in points if key[0] == loop):
                cells = [cell(points.get((loop, call, tasks, client)), clock) for client in clients]
                body.append([measured["titles"][call], f"{tasks:,}", *cells])
            title = f"{what} a call on {loop}, µs (ratio to the floor)"
            if "redis" in measured:
                title += f"; redis-py on {measured['redis']}: another server, the outside yardstick"
            made.append((title, ["call", "tasks", *clients], body))
    late = []
    for row in measured["late"]:
        if "error" in row:
            late.append([f"{row['client']}, {row['loop']}", *["failed"] * 8])
        else:
            cells = []
            for title in ("well", "late"):
                *times, failed = row[title]
                cells += [*(f"{figure:,.2f}" for figure in times), str(failed)]
            late.append([f"{row['client']}, {row['loop']}", *cells])
    if late:
        names = ("median", "99 %", "greatest", "failed")
        columns = [f"{title}, {name}" for title in ("all well", "one late") for name in names]
        title = "A get from nine servers by 90 tasks, ms: all are well; ten tasks wait for a tenth that is stopped"
        made.append((title, ["client", *columns], late))
    return made


def failures(measured: dict[str, Any]) -> list[str]:
    """A line for each row that failed, with its reason, and for each of which some rounds did."""
    lines = []
    for one in [*measured.get("points", []), *measured.get("late", [])]:
        if "error" in one:
            what = f"{one['call']}, {one['tasks']} tasks" if "call" in one else "one late server of ten"
            lines.append(f"{one['client']}, {one['loop']}, {what}: {one['error']}")
        elif "failed_rounds" in one:
            what = f"{one['call']}, {one['tasks']} tasks"
            lines.append(f"{one['client']}, {one['loop']}, {what}: {one['failed_rounds']} rounds failed: {one['why']}")
    return lines


def plot(measured: dict[str, Any], target: Path) -> None:
    """Client CPU of a get by the number of tasks: on the left on asyncio's own loop, on the right on uvloop."""
    points = [one for one in measured["points"] if one["call"] == PLOTTED and "cpu" in one]
    loops = list(dict.fromkeys(one["loop"] for one in points))
    if not points:
        return
    matplotlib = import_tool("matplotlib", "matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "asyncio"  # the same results make the same file
    pyplot = import_tool("matplotlib", "matplotlib.pyplot")
    size = (4.8 * len(loops), 4.2)
    figure, all_axes = pyplot.subplots(1, len(loops), figsize=size, layout="constrained", sharey=True, squeeze=False)
    clients = [client for client in COLOURS if any(one["client"] == client for one in points)]
    tasks = sorted({one["tasks"] for one in points})
    for axes, loop in zip(all_axes[0], loops, strict=True):
        for client in clients:
            line = sorted(
                (one["tasks"], one["cpu"]["median"]) for one in points if (one["loop"], one["client"]) == (loop, client)
            )
            if line:
                style = {"linestyle": "--" if client == FLOOR else "-", "linewidth": 2.5 if client == OURS else 1.5}
                axes.plot(*zip(*line), marker="o", markersize=4, color=COLOURS[client], label=client, **style)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(tasks, [f"{count:,}" for count in tasks])
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.set_title(loop, fontsize=11)
        axes.set_xlabel("tasks that make calls at the same time")
        axes.set_axisbelow(True)
        axes.grid(axis="y", color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
    ticks = [1, 2, 5, 10, 20, 50, 100, 200]
    figures = [one["cpu"]["median"] for one in points]
    low, high = min(figures) / 1.2, max(figures) * 1.2
    all_axes[0][0].set_yticks([tick for tick in ticks if low <= tick <= high])
    all_axes[0][0].yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    all_axes[0][0].yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    all_axes[0][0].set_ylim(low, high)
    all_axes[0][0].set_ylabel("CPU time of the client's process\na get of 100 bytes, µs; lower is better")
    handles, labels = all_axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)
