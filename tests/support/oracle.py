"""python-memcached 1.62, the client whose behaviour `import memcache` promises, for tests to compare with.

It is installed with pip into a folder below build/, once, and loaded under a name of its own, so that it lives in one
process with the `memcache` under test. Its source distribution, for its own tests, is fetched the same way.
"""

import functools
import importlib.util
import sys

import fetched

REQUIREMENT = "python-memcached==1.62"
MODULE_NAME = "python_memcached_1_62"


def installed():
    """The folder into which python-memcached is installed."""
    return fetched.installed(REQUIREMENT)


def source():
    """The folder that holds the unpacked source distribution."""
    return fetched.source(REQUIREMENT)


@functools.cache
def load():
    """The module `memcache` of python-memcached, known to sys.modules as MODULE_NAME."""
    spec = importlib.util.spec_from_file_location(MODULE_NAME, installed() / "memcache.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    spec.loader.exec_module(module)
    return module
