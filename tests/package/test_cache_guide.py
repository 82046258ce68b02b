"""docs/cache.md: its tables are whole, and no method or counter is left out."""

import re
from pathlib import Path

import mcext
from mcext import codecs, errors

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "cache.md").read_text()


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
