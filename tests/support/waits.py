"""Waits that many cases share."""

import concurrent.futures
import time

from scripted_server import PATIENCE


def at_once(function, arguments):
    """Call it with each of the arguments, in a thread for each: what they wait for is waited for once."""
    with concurrent.futures.ThreadPoolExecutor(len(arguments)) as pool:
        list(pool.map(function, arguments))


def until(condition, what, seconds=20 * PATIENCE):
    """Until condition() is true: of what nobody tells, as another process's figures. what: said where it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)
