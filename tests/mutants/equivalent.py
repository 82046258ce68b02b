"""equivalent.txt: changes that no test can notice, each with the reason.

    mcext/core/wire/number.c mc_number_format
    - while (value >= 100) {
    + while (value > 100) {
    The reason, in one line or more.

An empty line ends each. The lines of C are told by what they say, not by their number.
"""

from pathlib import Path

LIST = Path(__file__).with_name("equivalent.txt")


def read(root, complain):
    """All of them, as (path, function, before, after). Those whose line is not there any more are complained about."""
    known = set()
    for block in LIST.read_text().split("\n\n"):
        lines = block.strip().split("\n")
        if lines == [""]:
            continue
        if len(lines) < 4 or lines[1][:2] != "- " or lines[2][:1] != "+":
            raise ValueError(f"{LIST.name}: this is no change with its reason:\n{block}")
        path, function = lines[0].split()
        before, after = lines[1][2:], lines[2][2:]
        if not (root / path).exists() or before not in " ".join((root / path).read_text().split()):
            complain(f"{LIST.name}: no longer in {path}: {before}")
        known.add((path, function, before, after))
    return known
