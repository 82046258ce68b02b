"""A real twemproxy (Debian: nutcracker) in front of memcached servers, for tests.

    with twemproxy([first.address, second.address]) as proxy:
        client = memcache.Client([proxy.address])

A server may be an mcext.Server, with a weight and a name; a Unix socket is its path. Other keywords are lines of the
pool's configuration.

It listens on a Unix socket in a temporary folder, answers when the `with` body begins, and is gone when that has ended.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import ports
import pytest

PROGRAM = shutil.which("nutcracker", path=os.environ.get("PATH", "") + ":/usr/sbin")
START_SECONDS = 20

CONFIGURATION = """
pool:
  listen: {socket}
{options}
  timeout: 20000
  auto_eject_hosts: false
  servers:
"""


class Twemproxy:
    """One that runs: `address`, as a client takes it."""

    def __init__(self, folder):
        self.path = folder / "socket"
        self.address = f"unix:{self.path}"

    def ask(self, command):
        """What it says to one command of one line, as bytes; the connection is a new one."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START_SECONDS)
            connection.connect(str(self.path))
            connection.sendall(command + b"\r\n")
            return connection.makefile("rb").readline()

    def answers(self):
        try:
            return self.ask(b"version").startswith(b"VERSION ")
        except OSError:
            return False


def free_port():
    with ports.listen() as listener:
        return listener.getsockname()[1]


def line_of(server):
    if isinstance(server, str):
        return f"{server}:1"
    address, weight, name = server
    return f"{address.removeprefix('unix:')}:{weight}" + (f" {name}" if name else "")


@contextlib.contextmanager
def twemproxy(servers, **options):
    if PROGRAM is None:
        pytest.skip("nutcracker is not installed (Debian: apt-get install nutcracker)")
    with tempfile.TemporaryDirectory(prefix="mcext-", dir="/tmp") as name:
        folder = Path(name)
        lines = "".join(f"   - {line_of(server)}\n" for server in servers)
        options = {"hash": "fnv1a_64", "distribution": "modula"} | options
        settings = "\n".join(f'  {name}: "{value}"' for name, value in options.items())
        head = CONFIGURATION.format(socket=folder / "socket", options=settings)
        (folder / "configuration").write_text(head + lines)
        process, proxy = start(folder)
        try:
            yield proxy
        finally:
            process.kill()
            process.wait()


def start(folder):
    """Its figures want a port, which somebody else may take first: then it ends, and is started with another."""
    deadline = time.monotonic() + START_SECONDS
    proxy = Twemproxy(folder)
    while True:
        command = [PROGRAM, "-c", folder / "configuration", "-o", folder / "log", "-p", folder / "pid"]
        command += ["-a", "127.0.0.1", "-s", str(free_port())]
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        while process.poll() is None and time.monotonic() < deadline:
            if proxy.answers():
                return process, proxy
            time.sleep(0.002)
        process.kill()
        process.wait()
        if time.monotonic() > deadline:
            raise RuntimeError(f"nutcracker did not start: {(folder / 'output').read_text()}")
