"""The command: python -m tests.mutants [--count N] [--seed N] [FILE...].

Changes the core at random, one small change of meaning at a time, and asks the tests whether they notice: first those
in C, then, where they do not, the fast ones in Python. FILE: of these files of the core alone.

equivalent.txt names changes that nothing can notice, with the reason: such a change is not counted, nor one of which
the compiler makes the same code. Exit status 1 where a change lives through all tests, or more than a tenth of them
through those in C.
"""

import argparse
import multiprocessing
import os
import random
import sys
from collections import Counter, defaultdict

from .build import ROOT, Broken, Tree
from .changes import apply, changes, lines_of
from .equivalent import read

tree = None


def begin(folder, numbers):
    global tree
    with numbers.get_lock():
        number = numbers.value
        numbers.value += 1
    tree = Tree(folder / str(number))
    tree.begin()


def judge(drawn):
    path, change = drawn
    return drawn, tree.judge(path, apply((ROOT / path).read_text(), change))


def draw(files, seed):
    """All changes of these files, in an order that the seed alone decides; and the text of each file."""
    texts = {path: (ROOT / path).read_text() for path in files}
    drawn = [(path, change) for path in files for change in changes(texts[path], path.endswith(".h"))]
    random.Random(seed).shuffle(drawn)
    return drawn, texts


def is_known(known, path, text, change):
    _, before, after = lines_of(text, change)
    return (path, change.function, before, after) in known


def judged(drawn, texts, count, known):
    """(path, change, what became of it), of as many changes as are asked for."""
    drawn = [(path, change) for path, change in drawn if not is_known(known, path, texts[path], change)]
    workers = len(os.sched_getaffinity(0))
    numbers = multiprocessing.Value("i", 0)
    left = count
    with multiprocessing.Pool(workers, begin, (ROOT / "build" / "mutants", numbers)) as pool:
        for (path, change), fate in pool.imap(judge, drawn):
            if fate in ("none", "same"):
                continue
            yield path, change, fate
            left -= 1
            if left == 0:
                return


def report(fates):
    print(f"{'':32} mutants  killed in C  in Python  alive")
    total = Counter()
    for path in sorted(fates):
        total += fates[path]
        row(path, fates[path])
    row("all", total)
    return total


def row(name, fate):
    print(f"{name:32} {fate.total():7} {fate['C']:12} {fate['Python']:10} {fate['alive']:6}")


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n\n")[1])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("files", nargs="*", metavar="FILE")
    options = parser.parse_args()
    core = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "mcext" / "core").glob("*/*.[ch]"))
    unknown = set(options.files) - set(core)
    if unknown:
        parser.error(f"no file of the core: {', '.join(sorted(unknown))}")
    os.nice(5)
    drawn, texts = draw(options.files or core, options.seed)
    fates = defaultdict(Counter)
    for path, change, fate in judged(drawn, texts, options.count, read(ROOT, print)):
        fates[path][fate] += 1
        if fate != "C":
            number, before, after = lines_of(texts[path], change)
            where = "lives through the tests in C" if fate == "Python" else "lives through all tests"
            print(f"{path}:{number}: {change.function}: {change.kind} {where}\n  - {before}\n  + {after}", flush=True)
    total = report(fates)
    enough = 10 * total["C"] >= 9 * total.total() and total["alive"] == 0
    print(f"{100 * total['C'] / max(total.total(), 1):.1f} % killed in C: {'enough' if enough else 'not enough'}")
    return 0 if enough else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as wrong:
        sys.exit(f"mutants: {wrong}")
