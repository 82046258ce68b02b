"""docs/frameworks.md: its examples run, and return what the comment behind them says; it names what was tested."""

import re

import pytest
from guides import ROOT, blocks, run

import mcext

pytestmark = pytest.mark.frameworks

DOCUMENT = "docs/frameworks.md"
GUIDE = (ROOT / DOCUMENT).read_text()
BLOCKS = blocks(DOCUMENT)
# A word that one block alone has, for each.
WORDS = [
    "from celery import",
    "result_backend_transport_options",
    "make_region",
    "CACHE_TYPE",
    "mcext.cachelib",
    "Depends",
    "from aiocache",
]


@pytest.fixture(autouse=True)
def found_by_name(monkeypatch):
    """As the entry points have it: those of an installed mcext may be older."""
    from celery.app import backends
    from dogpile.cache import register_backend

    register_backend("mcext.memcached", "mcext.dogpile", "MemcachedBackend")
    monkeypatch.setitem(backends.BACKEND_ALIASES, "mcext", "mcext.celery:MemcachedBackend")


@pytest.fixture
def example(server):
    """Run the blocks with these words: how many promises were kept, and what they define."""

    def example(*words):
        names = {"__name__": "guide"}
        chosen = [BLOCKS[WORDS.index(word)] for word in words]
        kept = sum(run(block.replace("127.0.0.1:11211", server.address), names, DOCUMENT) for block in chosen)
        return kept, names

    return example


def test_celery(example, server):
    kept, names = example("from celery import")
    app = names["app"]
    app.backend.store_result("id", 42, "SUCCESS")
    assert app.AsyncResult("id").result == 42 and names["add"](1, 2) == 3
    assert app.backend.client.metrics()["stored"] == 1
    _, names = example("from celery import", "result_backend_transport_options")
    assert names["app"].backend.as_uri() == f"mcext://{server.address}/"
    assert names["app"].backend.get_key_for_task("id").startswith(b"shop_")


def test_dogpile(example):
    kept, names = example("make_region")
    assert kept == 1 and names["region"].backend.cache.metrics()["stored"] == 2  # a lock and a value


def test_flask_caching_and_cachelib(example):
    kept, names = example("CACHE_TYPE", "mcext.cachelib")
    assert kept == 4 and names["store"].cache.metrics()["hits"] == 1


def test_fastapi(example):
    from starlette.testclient import TestClient

    _, names = example("Depends")
    with TestClient(names["api"]) as client:
        assert [client.get("/squares/7").json() for _ in range(2)] == [49, 49]
        assert names["api"].state.cache.metrics()["fills_won"] == 1


def test_aiocache(example, server):
    kept, _ = example("from aiocache")
    assert kept == 1
    with mcext.Cache([server.address]) as cache:
        assert cache.stats()[server.address]["curr_items"] == "1"


def test_no_example_is_left_out():
    assert [[word for word in WORDS if word in block] for block in BLOCKS] == [[word] for word in WORDS]


def test_the_versions_that_it_names_are_those_of_the_tests():
    pins = (ROOT / "tests" / "requirements-frameworks.txt").read_text()
    tests = "".join(path.read_text() for path in ROOT.glob("tests/frameworks/test_*_backend.py"))
    for row in re.findall(r"^\| (\w[^|]*?) \|[^|]*\| ([\d., ]+) \|", GUIDE, re.MULTILINE):
        packages, versions = row[0].lower().split(", "), row[1].split(", ")
        for version in versions:
            pinned = any(f"{package}=={version}\n" in pins.lower() for package in packages)
            assert pinned or version in tests, row
        assert any(f"{package}=={versions[0]}\n" in pins.lower() for package in packages), row
