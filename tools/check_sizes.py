"""No file of C over 620 lines, no function over 80. Says what is; exit status 1 where that is anything.

A function is what clang-format lays out as one: from the first line of its head to the brace that closes it.
"""

import os
import subprocess
import sys

LINES_OF_A_FILE = 620
LINES_OF_A_FUNCTION = 80
# The files that are over the limit today, and how many lines each may have. A figure here only ever falls, and a file
# that has come under the limit leaves the list.
KNOWN = {
    "tests/fuzz/fuzz_exchange.c": 691,
}


def functions(lines):
    """The functions of a file: the first line of each, how many lines it has, and where it begins."""
    opened = None
    for number, line in enumerate(lines):
        if line == "{":
            opened = number
        elif line == "}" and opened is not None:
            first = opened
            while first > 0 and is_of_the_head(lines[first - 1]):
                first -= 1
            yield lines[first], number - first + 1, first + 1
            opened = None


def is_of_the_head(line):
    return line != "" and not line.endswith((";", "}", "*/")) and not line.startswith("#")


def main():
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "*.c", "*.h"]
    files = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.splitlines()
    found = []
    sizes = {}
    for file in filter(os.path.exists, files):
        with open(file) as text:
            lines = text.read().splitlines()
        sizes[file] = len(lines)
        limit = KNOWN.get(file, LINES_OF_A_FILE)
        if len(lines) > limit:
            found.append(f"{file}: {len(lines)} lines, at most {limit}")
        for head, length, where in functions(lines):
            if length > LINES_OF_A_FUNCTION:
                found.append(f"{file}:{where}: {length} lines, at most {LINES_OF_A_FUNCTION}: {head}")
    for file in KNOWN:
        if sizes.get(file, 0) <= LINES_OF_A_FILE:
            found.append(f"{file} is not over {LINES_OF_A_FILE} lines: take it off the list in tools/check_sizes.py")
    for line in found:
        print(line)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
