"""Where a test says nothing of it, calls of a Cache and of an AsyncCache have more time than the second of the default:
a server that is not run for a second, on a machine that is busy, is not what the test is about."""

import inspect

from scripted_server import PATIENCE

import mcext

ENOUGH = 20.0 * PATIENCE  # seconds


def begin():
    for kind in (mcext.Cache, mcext.AsyncCache):
        inspect.unwrap(kind.__init__).__kwdefaults__["timeout"] = ENOUGH
