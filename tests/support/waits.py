"""Waits that many cases share."""

import concurrent.futures


def at_once(function, arguments):
    """Call it with each of the arguments, in a thread for each: what they wait for is waited for once."""
    with concurrent.futures.ThreadPoolExecutor(len(arguments)) as pool:
        list(pool.map(function, arguments))
