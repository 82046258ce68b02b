"""Each block of Python in README.md and docs/*.md runs, in the order of its page, against a real memcached, and returns
what the comment behind a line says."""

import contextlib
import fractions
import importlib.util
import ssl
import types
from pathlib import Path

import guides
import pytest

import mcext
import memcache
from mcext import placement, settings
from mcext.testing import memcached as server_for_tests

ROOT = Path(__file__).resolve().parents[2]
# Pages with a test of their own, which runs each block of theirs.
RUN_ELSEWHERE = {"frameworks.md": "test_frameworks_guide.py"}
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
    if "```python\n" in path.read_text() and path.name not in RUN_ELSEWHERE
]

# The blocks that are not run: the page, some of the block's text, and the reason.
NOT_RUN: dict[tuple[str, str], str] = {}
# What a block needs that is not installed on every Python, by what it says.
PACKAGES = {
    "prometheus_client": "prometheus_client",
    "from mcext import otel": "opentelemetry",
    "import pylibmc": "pylibmc",
    "import libmc": "libmc",
    "import pymemcache": "pymemcache",
}
# How many comments promise a value, on pages that are mostly that: that they are seen as such.
PROMISES = {"README.md": 6, "asyncio.md": 3, "cache.md": 45, "quickstart.md": 6}


# What a page needs around it: what its blocks take for given before, and what is to be seen behind them.


@contextlib.contextmanager
def nothing(server, names):
    yield {"127.0.0.1:11211": server.address, "prometheus_client.REGISTRY": "prometheus_client.CollectorRegistry()"}


@contextlib.contextmanager
def architecture(server, names):
    names.update(vars(placement))
    names.update({name: getattr(settings, name) for name in ("cache_options", "server_list")}, Cache=mcext.Cache)
    names.update(self=types.SimpleNamespace(), location=server.address, options={"timeout": 20})
    yield {}
    with names["self"].cache as cache:
        assert cache.set("a", 1) is True
    client = memcache.Client(["10.0.0.1", "10.0.0.2"], placement=names["twice"]())
    assert {client.server_for(f"key:{number}") for number in range(50)} == {"10.0.0.1", "10.0.0.2"}


@contextlib.contextmanager
def asyncio(server, names):
    yield {"127.0.0.1:11211": server.address}
    run = names["asyncio"].run

    async def main():
        async with mcext.AsyncCache([server.address]) as cache:
            await names["pages"](cache)
            assert await cache.get_many(["page:front", "visits"]) == {"page:front": "<h1>front page</h1>", "visits": 1}
            user = names["decorated"](cache)
            assert await user(7) == {"number": 7}
            assert await cache.get(user.key(7)) == {"number": 7}
            assert await user.forget(7) is True

    run(main())


@contextlib.contextmanager
def fleets(server, names):
    """Its servers are one that speaks TLS and asks for a name and a password."""
    options = {"tls": True, "auth": ("shop", "correct-horse")}
    with server_for_tests(**options) as one, server_for_tests(**options) as other:
        names.update(ssl=ssl, read_password=lambda: "correct-horse", endpoint="elasticache://127.0.0.1:1")
        hosts = dict.fromkeys(["10.0.0.1:11211", "cache1.example:11211"], one.address)
        hosts |= dict.fromkeys(["10.0.0.2:11211", "cache2.example:11211"], other.address)
        yield {"/etc/ssl/our-authority.pem": str(one.ca_file)} | hosts
        assert names["client"].set("cart", 1) is True
        assert names["cache"].get("cart") == 1


class Account:
    """What docs/security.md allows by name."""


@contextlib.contextmanager
def security(server, names):
    memcache.Client([server.address]).set("poisoned", {"a": "pickle"})
    names.update(mcext=mcext, servers=[server.address], Account=Account)
    yield {}
    client = names["client"]
    for value in (Account(), fractions.Fraction(1, 3)):
        assert client.set("value", value) is True
        assert isinstance(client.get("value"), Account) is isinstance(value, Account)


AROUND = {"architecture.md": architecture, "asyncio.md": asyncio, "fleets.md": fleets, "security.md": security}


def reason_not_to_run(page, block):
    return next((reason for (name, text), reason in NOT_RUN.items() if name == page.name and text in block), None)


def lacking(block):
    return [name for word, name in PACKAGES.items() if word in block and not importlib.util.find_spec(name)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_run_and_return_what_they_say(page, memcached):
    names = {"__name__": page.stem}
    kept = 0
    with AROUND.get(page.name, nothing)(memcached, names) as replaced:
        for line, block in guides.numbered(page.read_text()):
            if reason_not_to_run(page, block) or lacking(block):
                continue
            for old, new in replaced.items():
                block = block.replace(old, new)
            kept += guides.run(block, names, f"{page.name}, line {line}")
    assert kept >= PROMISES.get(page.name, 0)
    for value in names.values():
        if isinstance(value, mcext.Cache):
            value.close()


@pytest.mark.frameworks
def test_no_example_is_left_out_where_all_packages_are():
    assert [block for page in PAGES for _, block in guides.numbered(page.read_text()) if lacking(block)] == []


def test_what_is_not_run_is_there():
    found = {page.name: page.read_text() for page in PAGES}
    assert [entry for entry in NOT_RUN if entry[1] not in found.get(entry[0], "")] == []


def test_a_page_that_is_run_elsewhere_is():
    for page, test in RUN_ELSEWHERE.items():
        if (ROOT / "docs" / page).exists():
            (path,) = (ROOT / "tests").rglob(test)
            assert f"docs/{page}" in path.read_text()


def test_an_example_that_lies_is_seen():
    for block, seen in [
        ("1 + 1  # 3\n", "1 \\+ 1"),
        ("try:\n    pass\nexcept ValueError:\n    1 + 1  # 2\n", "not reached"),
        ("int('7')  # ValueError: no number\n", "int"),
    ]:
        with pytest.raises(AssertionError, match=seen):
            guides.run(block, {}, "a page")
    good = "1 + 1  # 2: two\n{'a': 1}  # {'a': 1}\nint('x')  # ValueError, as it is no number\nlen('')  # nothing\n"
    assert guides.run(good, {}, "a page") == 3
    assert list(guides.numbered("a\n\n```python\n1\n```\n\n   ```python\n   2\n   ```\n")) == [
        (4, "1\n"),
        (8, "2\n"),
    ]
