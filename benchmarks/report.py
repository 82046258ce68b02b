"""The results as tables for the terminal, as Markdown for docs/performance.md, and as a plot for the README."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncio_report
import callgrind
from clients import OURS
from environment import BUILD, ROOT, import_tool
from workload import BY_NAME

DOCS = ROOT / "docs"
PAGES = {"asyncio": "asyncio.md", "django": "django.md"}  # the others are in performance.md
COLOURS = {
    OURS: "#0072b2",
    "libmc": "#e69f00",
    "pylibmc": "#56b4e9",
    "pymemcache": "#cc79a7",
    "python-memcached": "#999999",
}
CLOCK_TITLES = {"wall": "Time", "cpu": "CPU time of client and server"}
TRANSPORT_TITLES = {"tcp": "TCP", "unix": "Unix socket"}

Table = tuple[str, list[str], list[list[str]]]


def spread(row: dict[str, Any], clock: str) -> str:
    if "error" in row:
        return "failed"
    figure = row[clock]
    return f"{figure['median']:.2f} ({figure['low']:.2f}–{figure['high']:.2f})"


def setting_of(row: dict[str, Any]) -> tuple[str, int]:
    return row["transport"], row["servers"]


def setting_title(transport: str, server_count: int) -> str:
    return f"{TRANSPORT_TITLES[transport]}, {server_count} server{'s' if server_count > 1 else ''}"


def ratio_tables(results: dict[str, Any]) -> list[Table]:
    tables = []
    rows = results.get("ratios", [])
    clients = results.get("clients", [])
    clock = results.get("clock", "wall")
    for transport, server_count in dict.fromkeys(setting_of(row) for row in rows):
        cells = {(row["call"], row["client"]): row for row in rows if setting_of(row) == (transport, server_count)}
        body = []
        for call in dict.fromkeys(name for name, _ in cells):
            found = [cells.get((call, client)) for client in clients]
            raw = next((row[clock]["raw_ns"] for row in found if row and clock in row), 0)
            texts = [spread(row, clock) if row else "" for row in found]
            body.append([BY_NAME[call].title, f"{raw / 1000:,.1f}", *texts, f"{BY_NAME[call].reach:.2f}"])
        title = f"{CLOCK_TITLES[clock]} of a call as a ratio to the raw loop: {setting_title(transport, server_count)}"
        tables.append((title, ["call", "raw loop, µs", *clients, "reach"], body))
    return tables


def instruction_tables(results: dict[str, Any]) -> list[Table]:
    rows = {(row["call"], row["client"]): row for row in results.get("instructions", [])}
    clients = list(dict.fromkeys(client for _, client in rows))
    if not rows:
        return []
    body = []
    for call in callgrind.CALLS:
        found = [rows.get((call, client)) for client in clients]
        texts = [f"{row['bound']:,.0f} / {row['attribute']:,.0f}" if row else "" for row in found]
        reach = callgrind.REACH.get(call)
        body.append([BY_NAME[call].title, *texts, f"{reach:,}" if reach else ""])
    look_ups = [f"{rows[callgrind.CALLS[0], client]['look_up']:,.0f}" for client in clients]
    body.append(["the look-up alone, on an empty method", *look_ups, ""])
    title = "User-space instructions a call: through a method bound once / through the client each time"
    return [(title, ["call", *clients, "reach (bound)"], body)]


def finished_tables(results: dict[str, Any], part: str) -> list[Table]:
    return [(table["title"], table["columns"], table["rows"]) for table in results.get(part, [])]


def all_tables(results: dict[str, Any]) -> dict[str, list[Table]]:
    return {
        "ratios": ratio_tables(results),
        "instructions": instruction_tables(results),
        "parts": finished_tables(results, "parts"),
        "scale": finished_tables(results, "scale"),
        "spread": finished_tables(results, "spread"),
        "django": finished_tables(results, "django"),
        "asyncio": asyncio_report.tables(results.get("asyncio", {})),
    }


def show(results: dict[str, Any]) -> None:
    rich_table = import_tool("rich", "rich.table")
    console = import_tool("rich", "rich.console").Console(width=150)
    for tables in all_tables(results).values():
        for title, columns, body in tables:
            table = rich_table.Table(title=title)
            for number, column in enumerate(columns):
                style = "bold" if column in (OURS, asyncio_report.OURS) else None
                table.add_column(column, justify="right" if number else "left", style=style)
            for row in body:
                table.add_row(*row)
            console.print(table)
    for name, reason in results["left_out"].items():
        console.print(f"{name} is left out: {reason}", markup=False)
    for row in results.get("ratios", []):
        if "error" in row:
            title = setting_title(*setting_of(row))
            console.print(f"{row['client']}, {row['call']}, {title}: {row['error']}", markup=False)
    for line in asyncio_report.failures(results.get("asyncio", {})):
        console.print(line, markup=False)


def markdown(tables: list[Table]) -> str:
    lines = []
    for title, columns, body in tables:
        lines += [f"**{title}**", "", "| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
        lines += ["| " + " | ".join(row) + " |" for row in body]
        lines.append("")
    return "\n".join(lines)


def about(results: dict[str, Any]) -> str:
    machine = results["machine"]
    system = f"{machine['kernel']} with TCP {machine['congestion']}"
    text = f"{results['date']}: {machine['python']}, {machine['server']}, {system}, {machine['cpu']}."
    return text + "".join(f" Left out: {name} ({reason})." for name, reason in results["left_out"].items()) + "\n"


def plot(results: dict[str, Any], target: Path) -> None:
    """Bars of all calls over TCP with one server; the whiskers are the quartiles."""
    first = setting_of(results["ratios"][0])
    clock = results["clock"]
    rows = {
        (row["call"], row["client"]): row[clock]
        for row in results["ratios"]
        if setting_of(row) == first and clock in row
    }
    calls = list(dict.fromkeys(call for call, _ in rows))
    clients = [client for client in COLOURS if any(name == client for _, name in rows)]
    matplotlib = import_tool("matplotlib", "matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "benchmark"  # the same results make the same file
    pyplot = import_tool("matplotlib", "matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.55 * len(calls)), layout="constrained")
    height = 0.84 / len(clients)
    for number, client in enumerate(clients):
        points = [(place, rows[call, client]) for place, call in enumerate(calls) if (call, client) in rows]
        places = [place - 0.42 + height * (number + 0.5) for place, _ in points]
        medians = [row["median"] for _, row in points]
        whiskers = [
            [row["median"] - row["low"] for _, row in points],
            [row["high"] - row["median"] for _, row in points],
        ]
        style = {"elinewidth": 0.8, "ecolor": "#333333"}
        bars = [median - 1 for median in medians]
        axes.barh(places, bars, height, 1, xerr=whiskers, color=COLOURS[client], label=client, error_kw=style)
    axes.set_xscale("log")
    ticks = [0.9, 1, 1.25, 1.5, 2, 3, 5, 10, 20]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_yticks(range(len(calls)), [BY_NAME[call].title for call in calls])
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#dddddd")
    title = setting_title(*first)
    what = {"wall": "time of a call", "cpu": "CPU time of a call, client and server"}[clock]
    axes.set_xlabel(f"{what} ({title})\n1 is a C loop that does nothing but send and receive; lower is better")
    axes.set_ylim(len(calls) - 0.4, -0.6)
    figure.legend(loc="outside upper center", ncols=len(clients), frameon=False)
    figure.savefig(target, metadata={"Date": None})
    pyplot.close(figure)


def write(results: dict[str, Any], folder: Path, name: str = "tables.md") -> None:
    tables = all_tables(results)
    (folder / name).write_text(about(results) + "\n" + "\n".join(map(markdown, tables.values())))
    if results.get("ratios"):
        plot(results, folder / "benchmark.svg")
    if results.get("asyncio"):
        asyncio_report.plot(results["asyncio"], folder / "asyncio.svg")


def write_docs(results: dict[str, Any]) -> None:
    """Renews the plots, the results and the tables between the markers in docs/performance.md and docs/asyncio.md."""
    for part, tables in all_tables(results).items():
        if not results.get(part):
            continue
        page = DOCS / PAGES.get(part, "performance.md")
        text = page.read_text() if page.exists() else ""
        begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise RuntimeError(f"{page} has no markers for {part}")
        before, _, rest = text.partition(begin)
        page.write_text(f"{before}{begin}\n{about(results)}\n{markdown(tables)}{end}{rest.partition(end)[2]}")
    stored = DOCS / "benchmark.json"
    merged = json.loads(stored.read_text()) if stored.exists() else {}
    stored.write_text(json.dumps(merged | results, indent=1) + "\n")
    for part, name in (("ratios", "benchmark.svg"), ("asyncio", "asyncio.svg")):
        if results.get(part):
            (DOCS / name).write_bytes((BUILD / name).read_bytes())
