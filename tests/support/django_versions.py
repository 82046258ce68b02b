"""The Djangos of these tests, side by side in folders below build/."""

import sys

import fetched

_RELEASES = {"4.2": "Django==4.2.30", "5.2": "Django==5.2.19", "6.0": "Django==6.0.10", "6.1": "Django==6.1.3"}
_NEEDED = ("asgiref==3.13.0", "sqlparse==0.6.1", "typing_extensions==4.15.0")

# Each release on a Python that it supports, and the two long-term ones on the Python that all else is run on.
_BY_PYTHON = {(3, 10): ["4.2"], (3, 11): ["4.2", "5.2"], (3, 12): ["6.0"]}
VERSIONS = _BY_PYTHON.get(sys.version_info[:2], ["6.1"])


def installed(version):
    """The folder to put first into PYTHONPATH."""
    return fetched.installed(_RELEASES[version], *_NEEDED)


def source(version):
    """The folder of its source distribution, which has its tests."""
    return fetched.source(_RELEASES[version])
