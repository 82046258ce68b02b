"""Makes the source distribution and from it the wheels, all of them or those that are named; checks and lists them.

python -m tools.wheels                           all
python -m tools.wheels 'cp311-*' '*musllinux*'   those whose tags match one of these
python -m tools.wheels --sdist                   the source distribution alone
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from tools.wheels.source import Package, build_sdist, epoch

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.wheels", description="makes sdist and wheels")
    parser.add_argument("tags", nargs="*", metavar="TAG", help="such as 'cp311-*' or '*-musllinux_*' (default: all)")
    parser.add_argument("--sdist", action="store_true", help="make the source distribution alone")
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="FOLDER", help="where to (default: dist)")
    options = parser.parse_args()
    work = ROOT / "build/wheels"
    stamp = epoch(ROOT)
    sdist = build_sdist(ROOT, work, options.out.absolute(), stamp)
    if options.sdist:
        show([sdist], {})
        return 0
    return build_wheels(sdist, work, options.out.absolute(), options.tags, stamp)


def build_wheels(sdist: Path, work: Path, out: Path, tags: list[str], stamp: int) -> int:
    from tools.wheels.check import check_all  # the compiler and the checks are packages that an sdist does without
    from tools.wheels.compiler import CORES, TARGETS, ZLIB, Compiler
    from tools.wheels.headers import VERSIONS, find_headers, tag
    from tools.wheels.wheel import assemble

    if not (ZLIB / "zlib.h").exists():
        raise SystemExit("error: zlib's headers are missing (Debian: apt-get install zlib1g-dev)")
    package = Package(sdist, work)
    wanted = {
        (version, target)
        for version in VERSIONS
        for target in TARGETS
        if not tags or any(fnmatch(f"{tag(version)}-{target.platform}", pattern) for pattern in tags)
    }
    if not wanted:
        raise SystemExit("error: there is no wheel of these tags")
    versions = [version for version in VERSIONS if any(version == each for each, _ in wanted)]
    headers, lacking = find_headers(ROOT, work, versions)
    made = []
    for target in TARGETS:
        if not any(target == each for _, each in wanted):
            continue
        begun = time.monotonic()
        compiler = Compiler(package, target, work)
        mine = [each for each in headers if (each.version, target) in wanted]
        with ThreadPoolExecutor(CORES) as pool:  # the last step of each is one long thread
            made += pool.map(lambda each, compiler=compiler: assemble(package, compiler, each, out, stamp), mine)
        print(f"{target.platform}: {len(mine)} in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    verdicts, wrong = check_all(made, sdist)
    show([sdist, *made], verdicts)
    for version, why in lacking.items():
        print(f"error: no wheel for Python {version}: {why}")
    for line in wrong:
        print(f"error: {line}")
    return 1 if lacking or wrong else 0


def show(paths: list[Path], verdicts: dict[Path, str]) -> None:
    width = max(len(path.name) for path in paths)
    for path in paths:
        data = path.read_bytes()
        verdict = verdicts.get(path, "")
        print(f"{path.name:<{width}} {len(data):>9,} {hashlib.sha256(data).hexdigest()} {verdict}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
