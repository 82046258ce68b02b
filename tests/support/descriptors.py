"""What this process has open, so that a test can say that it has left nothing.

    before = descriptors.opened()
    ...
    assert descriptors.opened() <= before       # what others had open before, and close meanwhile, says nothing

A socket or pipe is told from others by its inode, also where it has the number of one that was closed.
"""

import os


def opened():
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
        except FileNotFoundError:
            continue  # the one that this folder was read by, or another thread has closed it
    return found
