"""Ports for the servers that a test writes itself: ones on which nobody but that test's clients calls.

    with ports.listen() as listener:
        client = memcache.Client(["{}:{}".format(*listener.getsockname())])

A client tries again where its server was, also when that is gone. Of a port that the system chooses (port 0) another
test may have such a client still, in another process: its connection would be the first that a script sees, or the one
that a proxy cuts. So these ports are outside the range from which the system chooses; each worker of xdist has a share
of its own, begins somewhere in it and takes one after the other, so that none is used again before thousands of others.
"""

import errno
import itertools
import os
import random
import socket
from pathlib import Path

FIRST = 12000  # memcached's own is below it
WORKERS = 4  # as many as tools/test.sh starts at most

low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
share = [port for port in range(FIRST, 65536) if not low <= port <= high][worker % WORKERS :: WORKERS] or [0]
turns = itertools.count(random.SystemRandom().randrange(len(share)))


def listen(host="127.0.0.1", port=0, backlog=128):
    """A socket that listens, on a new port or on one that a test had before. A backlog of 0 holds one connection."""
    listener = bound(host, port)
    listener.listen(backlog)
    return listener


def bound(host="127.0.0.1", port=0):
    """A socket that has its port and does not listen yet: connects are refused."""
    while True:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port or share[next(turns) % len(share)]))
            return sock
        except OSError as error:
            sock.close()
            if port or error.errno != errno.EADDRINUSE:
                raise
