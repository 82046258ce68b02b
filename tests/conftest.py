"""What all tests share: the fixture `memcached`, the profiles of hypothesis, and that they can be run over TLS."""

from pathlib import Path

import customised
import never_over_tls
import over_tls
import patience
import pytest
from hypothesis import settings

import memcache
from mcext.pytest_plugin import memcached_fixture  # noqa: F401  (also where the plugin is not installed)

# The examples are the same in each run: what fails was made to fail by a change. `make nightly` has others each time.
settings.register_profile("mcext", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile("mcext")


if over_tls.is_wanted():
    over_tls.begin()
    over_tls.be_the_first()
patience.begin()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The type checkers are among the packages that are installed for one Python only."""
    for item in items:
        if item.name.startswith(("test_mypy_", "test_pyright_")):
            item.add_marker(pytest.mark.frameworks)
        reason = over_tls.is_wanted() and never_over_tls.reason_for(item)
        if reason:
            item.add_marker(pytest.mark.skip(reason=f"not over TLS: {reason}"))


# What these files promise holds on both ways of a call: of a client that replaces nothing, and of one that replaces an
# inside by its equal, so that every call goes through mcext.pure.
BOTH_WAYS = {
    "test_chaos.py",
    "test_authentication.py",
    "test_deadlines.py",
    "test_differential.py",
    "test_fork.py",
    "test_ownership.py",
    "test_upstream.py",
}


def pytest_generate_tests(metafunc):
    if Path(metafunc.module.__file__).name in BOTH_WAYS and not metafunc.definition.get_closest_marker("plain"):
        slow = pytest.param("customised", marks=pytest.mark.slow)
        metafunc.parametrize("way_of_calls", ["", slow], indirect=True)


@pytest.fixture(autouse=True)  # a fixture that is named where tests are generated alone is left out again
def way_of_calls(request):
    way = getattr(request, "param", "")
    if way == "customised":
        monkeypatch = request.getfixturevalue("monkeypatch")
        customised.customise(memcache.Client, monkeypatch.setattr)
        monkeypatch.setenv(customised.NAME, "customised")
    return way
