"""The Djangos of these tests, side by side in folders below build/: those that this Python runs."""

import sys

import fetched

_RELEASES = {  # by the Pythons that Django says it runs on, and that this suite is run on
    "4.2": ("Django==4.2.30", (3, 10), (3, 12)),
    "5.2": ("Django==5.2.19", (3, 10), (3, 14)),
    "6.0": ("Django==6.0.10", (3, 12), (3, 14)),
    "6.1": ("Django==6.1.3", (3, 12), (3, 15)),
}
_NEEDED = ("asgiref==3.13.0", "sqlparse==0.6.1", "typing_extensions==4.15.0")

VERSIONS = [name for name, (_, first, last) in _RELEASES.items() if first <= sys.version_info[:2] <= last]


def installed(version):
    """The folder to put first into PYTHONPATH."""
    return fetched.installed(_RELEASES[version][0], *_NEEDED)


def source(version):
    """The folder of its source distribution, which has its tests."""
    return fetched.source(_RELEASES[version][0])
