"""docs/cache.md: its examples run, in order, and return what the comment behind them says; its tables are whole."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

import mcext
from mcext import codecs, errors

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "cache.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
FIRST = BLOCKS[0]
PACKAGES = {"prometheus_client": "prometheus_client", "opentelemetry": "from mcext import otel"}


def promised(line):
    """The value that the comment of a line begins with, in a tuple; None where it does not begin with one."""
    _, there, comment = line.partition("  # ")
    while there:
        try:
            return (ast.literal_eval(comment.strip()),)
        except (SyntaxError, ValueError):
            comment, there, _ = comment.rpartition(":")
    return None


def expressions(tree):
    """The expressions of a block that stand alone, also in the body of a try, with the list that each is in."""
    for node in ast.walk(tree):
        for body in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(body, list):
                yield from ((body, at, each) for at, each in enumerate(body) if isinstance(each, ast.Expr))


def run(block, names):
    """Run the block; how many values in it were compared with what is promised."""
    lines = block.splitlines()
    tree = ast.parse(block)
    promises = {}
    for body, at, node in list(expressions(tree)):
        value = promised(lines[node.end_lineno - 1])
        if value is not None:
            number = len(promises)
            promises[number] = (lines[node.lineno - 1], value[0])
            kept = ast.parse(f"_results[{number}] = None").body[0]
            kept.value = node.value
            body[at] = ast.copy_location(kept, node)
    names["_results"] = results = {}
    exec(compile(ast.fix_missing_locations(tree), "docs/cache.md", "exec"), names)
    for number, (line, value) in promises.items():
        assert number in results, f"not reached: {line}"
        assert results[number] == value, line
    return len(promises)


def lacking(block):
    return [name for name, word in PACKAGES.items() if word in block and not importlib.util.find_spec(name)]


def test_the_examples_return_what_they_say(memcached):
    names = {"__name__": "guide"}
    compared = 0
    for block in BLOCKS:
        if lacking(block):
            continue
        block = block.replace("prometheus_client.REGISTRY", "prometheus_client.CollectorRegistry()")
        compared += run(block.replace("127.0.0.1:11211", memcached.address), names)
    assert compared >= 45
    for value in names.values():
        if isinstance(value, mcext.Cache):
            value.close()


@pytest.mark.frameworks
def test_no_example_is_left_out_where_all_packages_are():
    assert [block for block in BLOCKS if lacking(block)] == []


def test_an_example_that_lies_is_seen():
    with pytest.raises(AssertionError, match="1 \\+ 1"):
        run("1 + 1  # 3\n", {})
    with pytest.raises(AssertionError, match="not reached"):
        run("try:\n    pass\nexcept ValueError:\n    1 + 1  # 2\n", {})
    assert run("1 + 1  # 2: two\n{'a': 1}  # {'a': 1}\nlen('')  # nothing is promised\n", {}) == 2


def table(heading):
    """The first cells of the tables of a section."""
    section = GUIDE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return " ".join(re.findall(r"^\| (.*?) \|", section, re.MULTILINE))


def test_every_exception_has_a_row_or_a_word():
    rows = table("When something fails")
    section = GUIDE.partition("\n## When something fails\n")[2].partition("\n## ")[0]
    missing = [name for name in errors.__all__ if f"`{name}`" not in rows]
    assert missing == ["MemcacheError", "Overloaded"]
    assert [name for name in missing if name not in section] == []


def test_every_codec_and_every_option_is_named():
    listed = table("How values are stored")
    classes = [name for name in codecs.__all__ if name not in ("Codec", "Default", "as_codec")]
    assert [name for name in classes if f"`{name}(" not in listed] == []
    options = ["refresh", "stale", "lease", "wait", "fallback"]
    assert [name for name in options if f"`{name}=" not in table("One computation for a thousand callers")] == []


def test_every_public_method_is_named():
    methods = [name for name in dir(mcext.Cache) if not name.startswith("_")]
    assert len(methods) > 30
    assert [name for name in methods if not re.search(rf"\b{name}\b", GUIDE)] == []


def test_every_counter_is_named():
    section = GUIDE.partition("\n## What it counts and tells\n")[2].partition("\n## ")[0]
    counters = [name for name in mcext.Cache([]).metrics() if name != "servers"]
    assert [name for name in counters if f"`{name}`" not in section] == []
