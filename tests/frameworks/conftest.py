"""What the framework tests share: real servers, programs run as a user would run them, load from many threads.

The frameworks are the released packages. A program that needs an interpreter of its own (monkey-patching, a server
that forks, a worker) stands in apps/ or in examples/ and runs in a subprocess with a time limit.
"""

import contextlib
import json
import os
import pathlib
import queue
import re
import signal
import site
import socket
import subprocess
import sys
import threading
import time

import ports
import pytest

from mcext.testing import memcached as start_memcached

APPS = pathlib.Path(__file__).parent / "apps"
EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
TIME_LIMIT = 60  # seconds, for one program


@pytest.fixture
def server():
    """A memcached of the test's own, on a free TCP port. With one thread it counts nothing late."""
    with start_memcached("-t", "1") as running:
        yield running


@pytest.fixture
def examples():
    """The folder of the examples."""
    return EXAMPLES


@pytest.fixture
def apps():
    """The folder of the programs that only tests run."""
    return APPS


@pytest.fixture(scope="module")
def environment():
    """The environment of a child in which `import memcache` finds the module that the test process uses."""
    import memcache

    root = os.path.dirname(os.path.abspath(memcache.__file__))
    child = dict(os.environ)
    if root not in site.getsitepackages():
        child["PYTHONPATH"] = os.pathsep.join(filter(None, [root, child.get("PYTHONPATH")]))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        child.pop(name, None)
    child["PYTHONUNBUFFERED"] = "1"
    return child


@pytest.fixture
def run_app(environment, tmp_path):
    """Run a program of apps/ to its end; its last line is JSON, which is returned."""

    def run(name, *arguments, limit=TIME_LIMIT):
        done = subprocess.run(
            [sys.executable, str(APPS / name), *map(str, arguments)],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
        )
        assert done.returncode == 0, f"{name} {arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])

    return run


class Program:
    """A server program of the test's own; its output is read by a thread, so that it never blocks on a full pipe."""

    def __init__(self, command, environment, folder):
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._lines = queue.Queue()
        self._seen = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern, limit=30):
        """Wait for a line that matches the regular expression; return the match."""
        while True:
            try:
                line = self._lines.get(timeout=limit)
            except queue.Empty:
                raise AssertionError(f"no {pattern!r} within {limit} s in:\n{self.output}") from None
            if line is None:
                raise AssertionError(f"ended without {pattern!r}:\n{self.output}")
            self._seen.append(line)
            match = re.search(pattern, line)
            if match:
                return match

    @property
    def output(self):
        return "".join(self._seen)

    def stop(self, how=signal.SIGTERM, limit=20):
        """End it with a signal (SIGKILL where that is ignored) and return the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(limit)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with contextlib.suppress(ProcessLookupError):  # what it forked and left behind
            os.killpg(self.pid, signal.SIGKILL)
        self._reader.join(limit)
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self._seen.append(line)
        self._process.stdout.close()
        return self._process.returncode


@pytest.fixture
def start_program(environment, tmp_path):
    """Start a long-running program; it is stopped when the test ends."""
    started = []

    def start(*command):
        started.append(Program([str(part) for part in command], environment, tmp_path))
        return started[-1]

    yield start
    for program in started:
        program.stop()


@pytest.fixture
def in_threads():
    """Call a function with 0 to count-1, each in a thread of its own, all let go at once; return the results."""

    def run(count, function, limit=TIME_LIMIT):
        results = [None] * count
        failures = []
        start = threading.Barrier(count)

        def body(number):
            try:
                start.wait(limit)
                results[number] = function(number)
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=body, args=(number,), daemon=True) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(limit)
            assert not thread.is_alive(), f"a thread still runs after {limit} s"
        if failures:
            raise failures[0]
        return results

    return run


@pytest.fixture(scope="module")
def greenlets(request, tmp_path_factory, environment):
    """What a scenario saw in an order: greenlets(order, scenario).

    apps/greenlets.py runs with the module's LIBRARY in all its ORDERS side by side: mostly they wait for servers.
    """
    library, seen = request.module.LIBRARY, {}
    with stalling_addresses() as (silent, full), contextlib.ExitStack() as stack:
        running = {}
        for order in request.module.ORDERS:
            server = stack.enter_context(start_memcached())
            known = stack.enter_context(start_memcached("-t", "1", auth=("alice", "word")))
            folder = tmp_path_factory.mktemp(f"{library}-{order}")
            arguments = [library, order, server.address, server.pid, silent, full, known.address]
            with open(folder / "stdout", "w") as out, open(folder / "stderr", "w") as err:
                process = subprocess.Popen(
                    [sys.executable, str(APPS / "greenlets.py"), *map(str, arguments)],
                    env=environment,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                )
            running[order] = process, server, folder
        end = time.monotonic() + 2 * TIME_LIMIT
        for order, (process, server, folder) in running.items():
            try:
                process.wait(max(0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.kill(server.pid, signal.SIGCONT)
            lines = [json.loads(line) for line in (folder / "stdout").read_text().splitlines()]
            seen[order] = {line.pop("scenario"): line for line in lines}, (folder / "stderr").read_text()

    def scenario(order, name):
        scenarios, errors = seen[order]
        assert name in scenarios, f"never came to the end of {name}:\n{errors}"
        assert "error" not in scenarios[name], scenarios[name]["error"]
        return scenarios[name]

    return scenario


@contextlib.contextmanager
def stalling_addresses():
    """One address that takes connections and never answers, one that does not even take them."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(ports.listen())
        full = stack.enter_context(ports.listen(backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield tuple(f"127.0.0.1:{listener.getsockname()[1]}" for listener in (silent, full))


class ServerView:
    """What the server itself says, by a plain socket: not through the client under test."""

    def __init__(self, server):
        self._socket = socket.create_connection((server.host, server.port), timeout=10)
        self._file = self._socket.makefile("rb")
        self._base = self._peers()
        self._base_ever = int(self._stats("stats")["total_connections"])

    def _stats(self, command):
        self._socket.sendall(command.encode() + b"\r\n")
        found = {}
        for line in self._file:
            if line == b"END\r\n":
                return found
            _, name, value = line.decode().split(None, 2)
            found[name] = value.strip()
        raise AssertionError("the server closed the connection")

    def _peers(self):
        return {value for name, value in self._stats("stats conns").items() if name.endswith(":addr")}

    @property
    def connections(self):
        """Connections open now, beside those when the view was made."""
        return len(self._peers() - self._base)

    def wait_until_open(self, count):
        """Wait until no more than so many are open: the server notices that one was closed a moment later."""
        end = time.monotonic() + 20
        while self.connections > count:
            assert time.monotonic() < end, f"{self.connections} connections are still open"
            time.sleep(0.01)

    @property
    def connections_ever(self):
        """Connections opened since the view was made."""
        return int(self._stats("stats")["total_connections"]) - self._base_ever

    def close(self):
        self._file.close()
        self._socket.close()


@pytest.fixture
def server_view(server):
    view = ServerView(server)
    yield view
    view.close()
