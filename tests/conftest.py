"""What all tests share: the fixture `memcached` and the profiles of hypothesis."""

import pytest
from hypothesis import settings

from mcext.pytest_plugin import memcached_fixture  # noqa: F401  (also where the plugin is not installed)

settings.register_profile("mcext", deadline=None, print_blob=True)
settings.load_profile("mcext")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The type checkers are among the packages that are installed for one Python only."""
    for item in items:
        if item.name.startswith(("test_mypy_", "test_pyright_")):
            item.add_marker(pytest.mark.frameworks)
