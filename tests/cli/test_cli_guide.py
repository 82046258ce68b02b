"""docs/command-line.md: its examples run, in order, and print what stands there; all verbs and options are named."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT, environment, mcext

from mcext import placement
from mcext.cli.verbs import VERBS
from mcext.testing import memcached as start

GUIDE = (Path(ROOT) / "docs" / "command-line.md").read_text()
BLOCKS = re.findall(r"```console( figures)?\n(.*?)```", GUIDE, re.DOTALL)
MARK = "@@@"


def in_a_terminal(script, folder):
    """Run a script of the shell in a terminal that cannot move its cursor; what it shows."""
    (folder / "mcext").write_text(f'#!/bin/sh\nexec {sys.executable} -m mcext "$@"\n')
    (folder / "mcext").chmod(0o755)
    more = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb", "COLUMNS": "80", "LC_ALL": "C.UTF-8"}
    master, terminal = os.openpty()
    shown = b""
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=environment(**more)
    ) as shell:
        os.close(terminal)
        try:
            while data := os.read(master, 65536):
                shown += data
        except OSError:  # the end of a terminal
            shell.wait(60)
    os.close(master)
    return shown.decode().replace("\r\n", "\n")


def with_outputs(block):
    """The commands of a block, each with the lines that stand below it."""
    found = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def in_shape(lines):
    """The lines with each number as 0 and without what numbers of another length move."""
    return [" ".join(re.sub(r"\d[\d,.]*( (bytes|[KMG]iB)\b|[KMG]\b)?", "0", line).split()) for line in lines]


def without_times(lines):
    """The lines without what a slow machine makes another."""
    return [re.sub(r"\b(ttl|age)=\d+", r"\1=0", line) for line in lines]


@pytest.mark.frameworks
def test_the_examples_print_what_they_say(tmp_path):
    with start() as one, start() as other:
        mark = f"mark() {{ status=$?; echo {MARK}; return $status; }}\n"
        servers = {"127.0.0.1:11211": one.address, "127.0.0.1:11212": other.address}
        compared = 0
        for figures, block in BLOCKS:
            commands = with_outputs(block)
            script = f"export MCEXT_SERVERS={one.address}\n{mark}"
            script += "".join(f"mark; {command}\n" for command, _ in commands)
            for written, real in servers.items():
                script = script.replace(written, real)
            shown = in_a_terminal(script, tmp_path)
            for written, real in servers.items():
                shown = shown.replace(real, written)
            outputs = shown.split(MARK + "\n")[1:]
            assert len(outputs) == len(commands), shown
            for (command, wanted), output in zip(commands, outputs, strict=True):
                got = output.splitlines()
                in_common = in_shape if figures else without_times
                wanted, got = in_common(wanted), in_common(got)
                assert got == wanted, command
                compared += 1
    assert compared >= 20


def test_every_verb_and_every_option_is_named():
    table = GUIDE.partition("\n## Items\n")[0]
    assert [verb.name for verb in VERBS if f"`{verb.name} " not in table and f" `{verb.name} " not in table] == []
    options = set()
    for verb in VERBS:
        options |= {*re.findall(r"(?<![\w-])--[a-z-]+", mcext(verb.name, "--help").out)}
    missing = [one for one in sorted(options - {"--help"}) if not re.search(rf"{one}(?![\w-])", GUIDE)]
    assert missing == []
    assert "MCEXT_SERVERS" in GUIDE and "MCEXT_PASSWORD" in GUIDE and "MCEXT_NEW_PASSWORD" in GUIDE


def test_every_placement_can_be_named():
    for name in placement.__all__:
        if name not in ("Placement", "pylibmc"):
            assert mcext("which", "a", "--servers", "a:1,b:2", "--placement", name).status == 0
    assert mcext("which", "a", "--servers", "a:1,b:2", "--placement", "pylibmc:ketama=true").status == 0
