"""No circle between the C files of the extension: a file does not use one that, over any number of steps, uses it.
What a file defines and uses is read from its object file.

    tools/check_circles.py            says which files are in one; exit status 1 where any is
    tools/check_circles.py --edges    says who uses which names of whom in the circles
"""

import glob
import os
import subprocess
import sys
import sysconfig
from collections import defaultdict

FOLDER = "build/circles"


def symbols(source):
    """The names that a source defines for others, and those that it uses of others."""
    target = os.path.join(FOLDER, source.replace("/", "-") + ".o")
    # Without optimisation every use in the text is one in the object file.
    compiler = [*os.environ.get("CC", "cc").split(), "-std=c11", "-D_GNU_SOURCE=1", "-O0", "-fno-lto", "-Imcext"]
    subprocess.run([*compiler, "-isystem", sysconfig.get_path("include"), "-c", "-o", target, source], check=True)
    listing = subprocess.run(["nm", "-g", "-P", target], check=True, capture_output=True, text=True).stdout
    kinds = [line.split()[:2] for line in listing.splitlines()]
    return {name for name, kind in kinds if kind != "U"}, {name for name, kind in kinds if kind == "U"}


def uses_among(sources):
    """For each file the files that it uses, and of each the names."""
    defined, used = {}, {}
    for source in sources:
        file = source.removeprefix("mcext/")
        defined[file], used[file] = symbols(source)
    home = {name: file for file, names in defined.items() for name in names}
    uses = {file: defaultdict(set) for file in used}
    for file, names in used.items():
        for name in names & home.keys():
            uses[file][home[name]].add(name)
    return uses


def reached_from(file, uses):
    reached, ahead = set(), list(uses[file])
    while ahead:
        one = ahead.pop()
        if one not in reached:
            reached.add(one)
            ahead += uses[one]
    return reached


def main():
    os.makedirs(FOLDER, exist_ok=True)
    uses = uses_among(sorted(glob.glob("mcext/core/*/*.c") + glob.glob("mcext/binding/*.c")))
    reached = {file: reached_from(file, uses) for file in uses}
    circular = {file for file in uses if file in reached[file]}
    if "--edges" in sys.argv:
        for file in sorted(circular):
            for other in sorted(uses[file]):
                if file in reached[other]:
                    print(f"{file} -> {other}: {', '.join(sorted(uses[file][other]))}")
    for file in sorted(circular):
        print(f"{file} is in a circle: tools/check_circles.py --edges says by which names")
    return bool(circular)


if __name__ == "__main__":
    sys.exit(main())
