"""Where the instructions of a call go: callgrind's counts by line of source, put together by what the lines are for.

    python benchmarks/parts.py             a table of all calls
    python benchmarks/parts.py --list get  the functions in each part of a get

The compiler draws a call into one function, so the names in the object code say little. The lines of the source, which
the extension's debug information keeps (-g), say all. What stands inline in a header of Python's or of the C library
counts as the line of ours before it.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from callgrind import lack, lengths, one_core, run_sections, total
from clients import KINDS, OURS
from environment import servers
from workload import BY_NAME

CALLS = ["get", "set", "incr", "get_multi_100", "set_multi_100"]
OWN = re.compile(r".*/mcext/((?:core|binding)/.*)")


@dataclass(frozen=True)
class Part:
    """Patterns of names. What is ours belongs to the first part that has its function, else to the first that has its
    file; what is not, to the first that has its function."""

    title: str
    files: str = ""
    functions: str = ""
    others: str = ""


PARTS = [
    Part("Python: releasing and taking the GIL", others="PyEval_*Thread *_gil _PyThreadState_* *pthread_*"),
    Part(
        "Python: objects made, walked and freed",
        others="PyBytes_* *PyObject_* *PyMem_* *Dict* *dict* *ealloc insert* PyList_* PyLong_* unicode* *Trash* "
        "_Py_NewReference *keys_object find_empty_slot allocate_from_new_pool",
    ),
    Part("the C library: memory", others="*memcpy* *memset* *memcmp* *memmove* *alloc* *free unlink_chunk*"),
    Part("the C library: system calls, the clock", others="send* recv* *poll clock_gettime* *errno*"),
    Part(
        "the method: arguments and result",
        files="binding/get.c binding/store.c binding/change.c binding/arg* binding/ask* binding/multi*",
    ),
    Part(
        "the call begun and ended, the thread's record",
        files="binding/call* binding/record* core/net/process*",
        others="*tls_get_addr* Py_*RecursiveCall PyModule_GetState",
    ),
    Part(
        "the snapshot, and that nothing is replaced",
        files="binding/shared* binding/replaced* binding/state*",
        functions="mcx_type_version",
    ),
    Part(
        "the key",
        files="binding/keys* binding/items* core/wire/key*",
    ),
    Part(
        "the server chosen, its connection taken",
        files="binding/choose* binding/target* binding/server* core/fleet/* core/net/connection.h",
    ),
    Part(
        "the request laid out",
        files="binding/batches* core/wire/request* core/wire/number.h core/wire/buffer*",
        functions="mc_bytes_put mc_number_format mc_leg_store mc_leg_begin mc_leg_init mc_leg_has_room lay_out* "
        "note_command *_batch output_of produce mc_exchange_init mc_exchange_expect",
    ),
    Part(
        "bytes moved",
        files="binding/move* binding/legs* binding/python_socket* core/flow/* core/net/*",
    ),
    Part(
        "the reply taken apart",
        files="core/wire/reply* core/wire/exchange* core/wire/command* core/wire/number.c",
        functions="mc_bytes_equal mc_leg_take_* is_at_reply mc_number_take mc_number_parse",
    ),
    Part(
        "the value",
        files="binding/values* binding/pickles* binding/zlibs* binding/compat.h",
        functions="retrieve mcx_retrieve* *value_of take_plain take_values keep_value take_on serialise",
    ),
    Part(
        "the verdict, the connection given back",
        files="binding/drive*",
        functions="mcx_target_end mc_pool_give end mc_leg_fail end_leg mc_exchange_fini mc_exchange_is_clean",
    ),
]
OTHERS = "Python: its loop around the call, and the rest"
REST = "the rest of mcext"


def has(patterns: str, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns.split())


@functools.cache
def spans(path: str) -> list[tuple[int, int, str]]:
    """The functions of a file of ours, as clang-format lays them out: first and last line, and name."""
    found, head, name = [], 0, ""
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        if re.match(r"\w", line) and (match := re.search(r"(\w+)\(", line)):
            head, name = number, match.group(1)
        elif line == "}" and name:
            found.append((head, number, name))
            name = ""
    return found


def part_of(name: str, own: str) -> str:
    """Of a function: of this file of ours, or nobody's."""
    if not own:
        return next((part.title for part in PARTS if has(part.others, name)), OTHERS)
    by_function = (part.title for part in PARTS if has(part.functions, name))
    by_file = (part.title for part in PARTS if has(part.files, own))
    return next(by_function, next(by_file, REST))


class Reader:
    """A file of counts. Names are written once, with a number that stands for them from then on."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, str], str] = {}
        self.counts: Counter[tuple[str, str]] = Counter()  # by file of ours, or "", and function
        self.object = self.file = self.function = ""
        self.ours = ("", 0)
        self.line = 0

    def name(self, kind: str, text: str) -> str:
        number, _, name = text.partition(" ")
        if name:
            self.names[kind, number] = name
        return self.names[kind, number]

    def header(self, key: str, text: str) -> None:
        if key in ("ob", "cob"):
            name = self.name("object", text)
            self.object = name if key == "ob" else self.object
        elif key in ("fl", "fi", "fe", "cfi", "cfl"):
            name = self.name("file", text)
            self.file = self.file if key in ("cfi", "cfl") else name
        elif key in ("fn", "cfn"):
            name = self.name("function", text)
            if key == "fn":
                self.function, self.ours = name, ("", 0)

    def count(self, cost: int) -> None:
        """An instruction of the line at hand, cost times."""
        if "_core." not in self.object:
            self.counts["", self.function] += cost
            return
        if OWN.match(self.file):
            self.ours = self.file, self.line
        path, line = self.ours
        inner = next((name for first, last, name in spans(path) if first <= line <= last), "") if path else ""
        match = OWN.match(path)
        self.counts[match.group(1) if match else "binding/", inner or self.function] += cost

    def read(self, counts: Path) -> Counter[tuple[str, str]]:
        in_call = False
        for text in counts.read_text().splitlines():
            key, equals, rest = text.partition("=")
            if equals and key == "calls":
                in_call = True
            elif equals:
                self.header(key, rest)
            elif re.match(r"[0-9+*-]", text):
                position, cost = text.split()[:2]
                if position != "*":
                    self.line = int(position) + (self.line if position[0] in "+-" else 0)
                if not in_call:
                    self.count(int(cost))
                in_call = False
        return self.counts


def count(call: str) -> dict[tuple[str, str], float]:
    """Instructions of each function in one call: the difference of a long and a short run, of several pairs the one
    with the fewest."""
    short, long = lengths(KINDS[OURS], call)
    pairs = 8 if BY_NAME[call].keys > 1 else 1
    sections = [(call, "bound", length) for _ in range(pairs) for length in (short, long)]
    with tempfile.TemporaryDirectory() as folder, one_core(), servers(1, unix=True) as addresses:
        files = run_sections(KINDS[OURS], sections, addresses, Path(folder))
        best = min(range(pairs), key=lambda pair: total(files[2 * pair + 1]) - total(files[2 * pair]))
        less, more = (Reader().read(files[2 * best + place]) for place in (0, 1))
    if not any(own for own, _ in more if own != "binding/"):
        raise RuntimeError("the extension has no debug information: build it with MCEXT_CFLAGS=-g")
    return {name: (more[name] - less[name]) / (long - short) for name in more}


def measure(progress: Any) -> dict[str, Any]:
    """The table: a row for each part, a column for each call."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for call in CALLS:
        progress(f"parts: {BY_NAME[call].title}")
        for (own, name), figure in count(call).items():
            sums[part_of(name, own)][call] += figure  # type: ignore[assignment]
            sums["all"][call] += figure  # type: ignore[assignment]
    titles = [OTHERS, *(part.title for part in PARTS), REST, "all"]
    rows = [[title, *(f"{round(sums[title][call]):,}" for call in CALLS)] for title in titles]
    columns = ["part", *(BY_NAME[call].title for call in CALLS)]
    return {"title": "User-space instructions of a call, by what they are for", "columns": columns, "rows": rows}


def show_functions(call: str) -> None:
    """Prints what stands in each part."""
    figures = count(call)
    for title in [OTHERS, *(part.title for part in PARTS), REST]:
        names = {key: figure for key, figure in figures.items() if part_of(key[1], key[0]) == title and figure >= 0.5}
        print(f"{sum(names.values()):>12,.0f}  {title}")
        for own, name in sorted(names, key=lambda key: -names[key]):
            print(f"{names[own, name]:>24,.1f}  {name}  {own}")


def main() -> None:
    parser = argparse.ArgumentParser(description="where the instructions of a call go")
    parser.add_argument("--list", choices=CALLS, metavar="CALL", help="the functions in each part of this call")
    options = parser.parse_args()
    if lack():
        sys.exit(lack())
    if options.list:
        show_functions(options.list)
        return
    import report

    report.show({"clients": [], "left_out": {}, "parts": [measure(lambda text: print(f"... {text}", file=sys.stderr))]})


if __name__ == "__main__":
    main()
