"""The command: python -m tests.chaos --help."""

import argparse
import functools
import importlib.util
import json
import os
import pathlib
import platform
import random
import subprocess
import sys
import sysconfig
import time

from . import expiries
from .run import FAULTS, PATIENT, SLACK, TIMEOUT, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
PEERS = {
    "python-memcached": "python-memcached==1.62",
    "pymemcache": "pymemcache==4.0.0",
    "pylibmc": "pylibmc==1.6.3",
    "libmc": "libmc==1.4.17",
}
OURS = ("mcext", "mcext.Cache")
WITH_TLS = (*OURS, "pymemcache")
NAMES = (*OURS, *PEERS)
# calls under a fault that does not wait, and under one that does
SHORT = (2000, 600)
TABLE = (10000, 1000)
LONG = (1000000, 20000)
# forced expiries, in the short run and in the long one
EXPIRIES = (2000, 100000)


def peers_folder():
    """Return the folder into which this Python's copies of the other clients are installed."""
    return ROOT / "build" / f"peers-{sysconfig.get_config_var('SOABI')}"


def install_peer(name):
    """Install a client from the package index, once; return its folder, or None (with a line) where it does not."""
    folder = peers_folder() / name
    if not (folder / "installed").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--upgrade", "--target", str(folder), PEERS[name]]
        done = subprocess.run(command, text=True, capture_output=True)
        if done.returncode:
            print(f"{name} does not install here: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            return None
        (folder / "installed").touch()
    return folder


def environment(name):
    """Return the environment in which a caller imports the client of that name and no other."""
    if name in OURS:
        folder = pathlib.Path(importlib.util.find_spec("mcext").submodule_search_locations[0]).parent
    else:
        folder = install_peer(name)
        if folder is None:
            return None
    path = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def server(direct, tls=False):
    """Return a real memcached with room for every connection a client may open.

    It is on a free TCP port where clients come to it, or where it speaks TLS, else on a Unix socket, which costs the
    proxy less.
    """
    from mcext.testing import memcached

    return memcached("-m", "256", "-c", "4096", "-t", "2", unix=not (direct or tls), tls=tls)


def line(result):
    """Return one run's line of the plain report."""
    c = result.counts
    verdicts = result.verdicts()
    return (
        f"{result.client:17}{result.fault:14}{c['calls']:>8}{result.injected:>8}{c['wrong']:>7}{result.twice:>6}"
        f"{result.deaths:>7}{result.hangs:>6}{result.slowest:>9.3f}{result.sockets:>8}{result.most_sockets:>5}"
        f"{c['late']:>7}{c['broken']:>7}{c['raised']:>7}{c['interrupted']:>7}{c['forks']:>6}"
        f"{result.seconds:>7.1f}  {'; '.join(verdicts) or 'ok'}"
    )


HEAD = (
    f"{'client':17}{'fault':14}{'calls':>8}{'faults':>8}{'wrong':>7}{'twice':>6}{'deaths':>7}{'hangs':>6}{'slowest':>9}"
    f"{'sockets':>8}{'most':>5}{'late':>7}{'broken':>7}{'raised':>7}{'interr':>7}{'forks':>6}{'s':>7}"
)


def cell(result):
    """Return what the side-by-side table says of one run."""
    return "ok" if not result.verdicts() else "; ".join(result.verdicts())


def tables(results, calls, waiting_calls, seed):
    """Return the Markdown of the side-by-side table and of the figures behind it."""
    names = list(dict.fromkeys(r.client for r in results))
    faults = list(dict.fromkeys(r.fault for r in results))
    by = {(r.client, r.fault): r for r in results}
    versions = {r.client: r.version for r in results if r.version}
    lines = [
        f"Made by `python -m tests.chaos --table`: {calls:,} calls under each fault that does not wait,"
        f" {waiting_calls:,} under each that does, seed {seed},"
        f" {platform.python_implementation()} {platform.python_version()}, {memcached_version()}.",
        "",
        "| what happens | " + " | ".join(f"{name} {versions.get(name, '')}".strip() for name in names) + " |",
        "| --- |" + " --- |" * len(names),
    ]
    for fault in faults:
        cells = [cell(by[name, fault]) if (name, fault) in by else "" for name in names]
        lines.append(f"| {FAULTS[fault].words} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "The figures behind it. Sockets: opened in all, and the most open at once. Misses and failures by cause: late,"
        " the call waited out its deadline; broken, it came back sooner, the connection damaged or the server gone."
        " Raised: those of them that raised an exception.",
        "",
        "| client | fault | calls | faults met | wrong | twice | deaths | hangs | slowest, s | sockets | at once |"
        " late | broken | raised | interrupted | forks |",
        "| --- | --- |" + " ---: |" * 14,
    ]
    for r in results:
        c = r.counts
        row = [c["calls"], r.injected, c["wrong"], r.twice, r.deaths, r.hangs, f"{r.slowest:.2f}", r.sockets]
        row += [r.most_sockets, c["late"], c["broken"], c["raised"], c["interrupted"], c["forks"]]
        lines.append(f"| {r.client} | {r.fault} | " + " | ".join(str(x) for x in row) + " |")
    return "\n".join(lines) + "\n"


def memcached_version():
    return subprocess.run(["memcached", "-V"], text=True, capture_output=True, check=True).stdout.strip()


def write_page(text):
    begin, end = "<!-- table: begin -->\n", "<!-- table: end -->\n"
    page = PAGE.read_text()
    head, rest = page.split(begin)
    _, tail = rest.split(end)
    PAGE.write_text(head + begin + "\n" + text + "\n" + end + tail)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="A client between damaged streams, dying servers, forks, signals and threads.",
    )
    parser.add_argument("--client", choices=NAMES, action="append", help="client to try, default mcext (repeatable)")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="only this fault (repeatable)")
    parser.add_argument("--tls", action="store_true", help="over TLS; damaged are its records, of the handshake too")
    parser.add_argument("--seed", type=int, help="replay this seed (default: a new one, printed)")
    parser.add_argument("--long", action="store_true", help="{:,} calls a fault, {:,} where it waits".format(*LONG))
    parser.add_argument("--calls", type=int, help="calls under a fault that does not wait")
    parser.add_argument("--waiting-calls", type=int, help="calls under a fault that waits")
    parser.add_argument("--seconds", type=float, help="most seconds for one fault (default 3600; 40 for --table)")
    parser.add_argument("--expiries", type=int, help="only so many forced expiries under get_or_set")
    parser.add_argument("--table", action="store_true", help=f"all clients side by side, into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--verbose", action="store_true", help="print the wrong answers and exceptions that were seen")
    parser.add_argument("--json", action="store_true", help="print each result as a JSON line too")
    options = parser.parse_args()
    if options.tls and (options.table or not set(options.client or OURS) <= set(WITH_TLS)):
        parser.error(f"--tls is for {', '.join(WITH_TLS)}")

    if options.expiries:
        return force_expiries(options.expiries, options)
    calls, waiting = LONG if options.long else TABLE if options.table else SHORT
    calls = options.calls or calls
    waiting = options.waiting_calls or waiting
    seconds = options.seconds or (40.0 if options.table else 3600.0)
    seed = random.randrange(1 << 31) if options.seed is None else options.seed
    names = options.client or (NAMES if options.table else ["mcext"])
    print(
        f"seed {seed}; deadline {TIMEOUT} s ({PATIENT} s where nothing makes a call wait), scheduling {SLACK} s on top"
    )
    print(HEAD, flush=True)
    results = []
    began = time.monotonic()
    for name in names:
        surroundings = environment(name)
        if surroundings is None:
            continue
        for fault in options.fault or FAULTS:
            wanted = waiting if FAULTS[fault].waits else calls
            factory = functools.partial(server, tls=options.tls)
            result = run(name, fault, seed, wanted, factory, surroundings, seconds)
            results.append(result)
            print(line(result), flush=True)
            for words in result.words if options.verbose else result.words[:3] if result.verdicts() else ():
                print("    " + words, flush=True)
            if options.json:
                print(json.dumps({**vars(result), "verdicts": result.verdicts()}), flush=True)
    if options.table:
        write_page(tables(results, calls, waiting, seed))
    failed = [r for r in results if r.client == names[0] and r.verdicts()] if options.table else results
    bad = [r for r in failed if r.verdicts()]
    print(f"{len(results)} runs, {len(bad)} not as they should be, {time.monotonic() - began:.0f} s, seed {seed}")
    if not (options.table or options.client or options.fault):
        bad += [force_expiries(EXPIRIES[options.long], options)]
    return 1 if any(bad) else 0


def force_expiries(count, options):
    """Run tests/chaos/expiries.py; return 1 where it went wrong."""
    seed = random.randrange(1 << 31) if options.seed is None else options.seed
    with server(direct=True, tls=options.tls) as running:
        result = expiries.run(running, count, seed)
    print(f"seed {seed}; {expiries.line(result)}", flush=True)
    if options.json:
        print(json.dumps({**vars(result), "verdicts": result.verdicts()}), flush=True)
    return 1 if result.verdicts() else 0


if __name__ == "__main__":
    sys.exit(main())
