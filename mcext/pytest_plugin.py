"""The pytest plugin that comes with the package: the fixture ``memcached``. pytest finds it by its entry point."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mcext import testing


@pytest.fixture(name="memcached")
def memcached_fixture() -> Iterator[testing.Memcached]:
    """A running memcached for one test: ``memcached.address`` is what a client takes. See mcext.testing."""
    with testing.memcached() as server:
        yield server
