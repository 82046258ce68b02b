"""Runs one client under one fault: server, proxy and caller, watched until the calls are made.

Nothing here imports a client. Deaths and hangs of the caller are counted and the caller is started again, a few times,
for the calls that are left.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from . import caller, scoreboard

HERE = pathlib.Path(__file__).resolve().parent
TIMEOUT = 0.25  # seconds: each client's deadline, where the fault can make it wait
PATIENT = 5.0  # seconds: the deadline where nothing has to be late, however busy the machine
SLACK = 1.0  # seconds: what a busy machine may add to a call that waits out its deadline
HANG = 10.0  # seconds past the deadline: a call that has not come back by then never will
RESTARTS = 3
MEMORY = 3 << 30  # bytes of address space for a caller that is not ours: absurd lengths must not take the machine
PEER_MEMORY_FAULTS = ("absurd-length", "garbage")


@dataclasses.dataclass(frozen=True)
class Fault:
    name: str
    words: str
    rate: float = 0.1  # share of the replies that are damaged
    threads: int = 1
    waits: bool = False  # the client has to wait for its deadline
    plan: str = ""  # the proxy's plan, where its name differs
    direct: bool = False  # no proxy: the server itself is the fault
    timeout: float = TIMEOUT


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("none", "nothing: the control run", timeout=PATIENT),
        Fault("fragments", "replies in pieces of one byte", rate=0.3, timeout=PATIENT),
        Fault("cut-fin", "the connection closed at any byte of a reply"),
        Fault("cut-rst", "the connection reset at any byte of a reply"),
        Fault("error-line", "ERROR, CLIENT_ERROR, SERVER_ERROR before, after, within or instead of a reply"),
        Fault("garbage", "random bytes within a reply, or instead of it"),
        Fault("doubled", "replies sent twice"),
        Fault("other-key", "replies with another key's value"),
        Fault("absurd-length", "lengths, numbers, keys and lines out of all bounds"),
        Fault("signals", "a storm of signals whose handler raises", 0.2, plan="jitter", timeout=PATIENT),
        Fault("fork", "forks between and during calls, parent and child go on", 0.02, 4, plan="jitter"),
        Fault("threads", "one client shared by 16 threads", 0.02, 16, plan="jitter", timeout=PATIENT),
        Fault(
            "churn", "short-lived threads, eight at a time, share one client", 0.02, 8, plan="jitter", timeout=PATIENT
        ),
        Fault("dropped", "replies that never come", rate=0.2, threads=32, waits=True),
        Fault("delay", "replies late, in part or whole", rate=0.2, threads=32, waits=True),
        Fault("stall", "replies that stop at any byte and go on after the deadline", rate=0.2, threads=32, waits=True),
        Fault("trickle", "replies a byte at a time, far past the deadline", rate=0.1, threads=32, waits=True),
        Fault("stop", "the server stopped (SIGSTOP) and continued", threads=16, waits=True, direct=True),
        Fault("kill", "the server killed and started again", threads=16, waits=True, direct=True),
    )
}


@dataclasses.dataclass
class Result:
    client: str
    fault: str
    seed: int
    version: str = ""
    wanted: int = 0
    injected: int = 0
    sockets: int = 0
    most_sockets: int = 0
    deaths: int = 0
    hangs: int = 0
    twice: int = 0
    slowest: float = 0.0
    stalled: float = 0.0  # the longest that the watcher itself was kept from running: what scheduling costs here
    seconds: float = 0.0
    counts: dict = dataclasses.field(default_factory=dict)
    words: list = dataclasses.field(default_factory=list)

    def verdicts(self):
        """Return what is wrong with this run, in words; nothing for a run as it should be."""
        counts = self.counts
        found = []
        if counts["wrong"]:
            found.append(f"{counts['wrong']} wrong values")
        if self.deaths:
            found.append(f"{self.deaths} deaths")
        if self.hangs:
            found.append(f"{self.hangs} hangs")
        if self.twice:
            found.append(f"{self.twice} calls executed twice")
        if self.slowest > FAULTS[self.fault].timeout + SLACK + 2 * self.stalled:
            found.append(f"slowest call {self.slowest:.2f} s")
        if counts["calls"] < self.wanted and not self.deaths and not self.hangs:
            found.append(f"only {counts['calls']} of {self.wanted} calls")
        return found


class Control:
    """A plain connection to the server itself: fills it before, looks at it after."""

    def __init__(self, server):
        if getattr(server, "path", None):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(10)
            self.socket.connect(server.path)
        else:
            self.socket = socket.create_connection((server.host, server.port), 10)
            if server.tls_context:
                self.socket = server.tls_context.wrap_socket(self.socket, server_hostname=server.host)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()
        self.socket.close()

    def store(self, key, value):
        self.socket.sendall(b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), len(value), value))
        if self.file.readline() != b"STORED\r\n":
            raise RuntimeError(f"could not store {key}")

    def get(self, key):
        self.socket.sendall(b"get %s\r\n" % key.encode())
        line = self.file.readline()
        if line == b"END\r\n":
            return None
        value = self.file.read(int(line.split()[3]))
        self.file.readline()
        self.file.readline()
        return value

    def connections(self):
        """Return how many connections the server has accepted, this one not counted."""
        self.socket.sendall(b"stats\r\n")
        total = 0
        for line in self.file:
            if line == b"END\r\n":
                return total - 1
            if line.startswith(b"STAT total_connections "):
                total = int(line.split()[2])
        raise RuntimeError("the server closed the connection")


def fill(server, slots=scoreboard.SLOTS):
    with Control(server) as control:
        for key in caller.KEY_NAMES:
            control.store(key, caller.value_for(key, 0, 100))
        for i, key in enumerate(caller.COUNTER_NAMES):
            control.store(key, b"%d" % ((i + 1) * caller.COUNTER_BASE))
        for slot in range(slots):
            control.store(f"log{slot}", b",")


def executed_twice(server, slots=scoreboard.SLOTS):
    """Count the appends that are in a log more than once."""
    twice = 0
    with Control(server) as control:
        for slot in range(slots):
            entries = (control.get(f"log{slot}") or b"").strip(b",").split(b",")
            twice += len(entries) - len(set(entries))
    return twice


class Trouble(threading.Thread):
    """Stops or kills the server again and again until told to end."""

    def __init__(self, server, fault, seed):
        super().__init__(daemon=True)
        self.server, self.fault = server, fault
        self.random = random.Random(f"{seed}:trouble")
        self.ended = threading.Event()
        self.count = 0
        self.connections = 0  # that the client opened, in all lives of the server
        self.error = None

    def count_connections(self):
        """Add what the client has opened in this life: not what asked it to be there, filled it and asks it now."""
        with Control(self.server) as control:
            self.connections += control.connections() - 2

    def run(self):
        try:
            # The wait is the plan itself, not a stand-in for a condition.
            while not self.ended.wait(self.random.uniform(0.02, 0.15)):
                self.count += 1
                if self.fault == "stop":
                    os.kill(self.server.pid, signal.SIGSTOP)
                    try:
                        self.ended.wait(self.random.uniform(0.02, 2 * TIMEOUT))
                    finally:
                        os.kill(self.server.pid, signal.SIGCONT)
                else:
                    self.count_connections()
                    self.server.kill()
                    self.ended.wait(self.random.uniform(0.0, 0.1))
                    self.server.start()
                    fill(self.server, 0)
        except BaseException as error:
            self.error = error

    def end(self):
        self.ended.set()
        self.join()
        if self.error:
            raise self.error
        self.count_connections()


@contextlib.contextmanager
def proxy(server, fault, seed, ports):
    settings = {
        "upstream": server.path if getattr(server, "path", None) else [server.host, server.port],
        "fault": fault.plan or fault.name,
        "seed": seed,
        "rate": fault.rate,
        "timeout": fault.timeout,
        "listeners": ports,
        "tls": server.tls_context is not None,
    }
    process = subprocess.Popen(
        [sys.executable, str(HERE / "proxy.py"), json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    report = {}
    try:
        yield json.loads(process.stdout.readline()), report
    finally:
        process.stdin.close()
        line = process.stdout.readline()
        process.stdout.close()
        process.wait()
    report.update(json.loads(line))


def open_sockets(pid):
    """Count a process's sockets; 0 when it is gone."""
    count = 0
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                count += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
    except (FileNotFoundError, PermissionError):
        return 0
    return count


class Watch:
    """One caller process: started, watched, and killed with all its forks when a call hangs."""

    def __init__(self, settings, environment, limit_memory):
        self.errors = tempfile.TemporaryFile()

        def limit():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if limit_memory:
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "caller.py"), json.dumps(settings)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            start_new_session=True,
            preexec_fn=limit,
        )
        self.output = b""

    def watch(self, board, result, timeout, until):
        """Wait for the end; return "done", "death", "hang" or "time"."""
        process = self.process
        verdict = None
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        end = None
        while verdict is None:
            result.most_sockets = max(result.most_sockets, open_sockets(process.pid))
            asked = time.monotonic()
            ready = poll.poll(50)
            result.stalled = max(result.stalled, time.monotonic() - asked - 0.05)
            if ready:
                data = os.read(process.stdout.fileno(), 65536)
                self.output += data
                if not data:
                    code = self.wait(HANG)
                    verdict = "hang" if code is None else "done" if code == 0 and self.done() else "death"
                    break
            now = time.monotonic()
            oldest = board.oldest_call()
            if oldest is not None and now - oldest > timeout + HANG:
                verdict = "hang"
            elif self.done():
                # All calls are made; the process has to come to its end by itself.
                end = end or now + HANG
                if now > end:
                    verdict = "hang"
            elif now > until:
                verdict = "time"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        board.forget_calls()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").splitlines()
        self.errors.close()
        if verdict == "death":
            code = process.returncode
            if code > 0 and any(line.startswith("Traceback") for line in lines):
                raise RuntimeError("the caller failed:\n" + "\n".join(lines))
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            lines.append(f"death: {name}")
        result.words.extend(lines[:60] + lines[60:][-10:])
        return verdict

    def wait(self, seconds):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def lines(self):
        return [json.loads(line) for line in self.output.splitlines() if line.startswith(b"{")]

    def done(self):
        return b'"done"' in self.output


def run(client, fault, seed, calls, server_factory, environment, seconds=3600.0, ports=2):
    """Make calls of a client under a fault and return the Result.

    The server factory, told whether clients come to it directly, returns a context manager with a running memcached;
    the environment decides which module the caller imports; seconds bounds the whole run (what was not called by then
    is missing in the result's count).
    """
    fault = FAULTS[fault]
    result = Result(client, fault.name, seed, wanted=calls)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(server_factory(fault.direct))
        fill(server)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
        board = scoreboard.Scoreboard.create(os.path.join(folder, "board"))
        report, trouble = {}, None
        if fault.direct:
            addresses = [f"{server.host}:{server.port}"]
            trouble = Trouble(server, fault.name, seed)
            trouble.start()
        else:
            listening, report = stack.enter_context(proxy(server, fault, seed, ports))
            addresses = [f"127.0.0.1:{port}" for port in listening]
        limit_memory = not client.startswith("mcext") and fault.name in PEER_MEMORY_FAULTS
        left = calls
        try:
            for attempt in range(RESTARTS + 1):
                settings = {
                    "client": client,
                    "fault": fault.name,
                    "seed": seed + attempt * 1000003,
                    "life": attempt,
                    "timeout": fault.timeout,
                    "addresses": addresses,
                    "ca_file": server.ca_file,
                    "threads": fault.threads,
                    "calls": left,
                    "board": os.path.join(folder, "board"),
                }
                watch = Watch(settings, environment, limit_memory)
                verdict = watch.watch(board, result, fault.timeout, started + seconds)
                for line in watch.lines():
                    result.version = line.get("version", result.version)
                left = calls - board.total("calls")
                result.deaths += verdict == "death"
                result.hangs += verdict == "hang"
                if verdict in ("done", "time") or left < fault.threads:
                    break
        finally:
            if trouble:
                trouble.end()
        result.counts = board.totals()
        result.deaths += result.counts["deaths"]
        result.slowest = board.slowest()
        result.twice = executed_twice(server)
        if trouble:
            result.sockets = trouble.connections
            result.injected = trouble.count
    if report:
        result.sockets = report["accepted"]
        result.injected = report["injected"]
    result.seconds = time.monotonic() - started
    return result
