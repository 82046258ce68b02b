"""What scale.py measures, run in a process of its own with one client.

Arguments: name of the client, name of the measurement (a function below), its arguments as JSON. Prints one JSON value.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import resource
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from clients import KINDS, OURS
from placement import key_names
from workload import some_bytes

SMALL = some_bytes(100)


def store(client: Any, keys: list[str], value: bytes = SMALL) -> None:
    for key in keys:
        if not client.set(key, value):
            raise RuntimeError(f"set of {key} failed")


def timed(run: Callable[[], Any], repeat: int) -> tuple[float, float]:
    """Medians of the wall-clock and the CPU time of a run, in seconds."""
    walls, cpus = [], []
    for _ in range(repeat):
        cpu, wall = time.process_time(), time.perf_counter()
        run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def get_multi(kind: str, servers: list[str], keys: int, repeat: int) -> float:
    """Seconds of a get_multi."""
    client = KINDS[kind].open(servers, 0)
    names = key_names(kind, keys)
    store(client, names)
    if client.get_multi(names) != dict.fromkeys(names, SMALL):
        raise RuntimeError("get_multi returned something else than what was stored")
    return timed(lambda: client.get_multi(names), repeat)[0]


def keys(kind: str, servers: list[str], count: int) -> list[float]:
    """Wall-clock and CPU nanoseconds a key of get_multi and set_multi of that many keys."""
    client = KINDS[kind].open(servers, 0)
    names = key_names(kind, count)
    mapping = dict.fromkeys(names, SMALL)
    client.set_multi(mapping)
    if len(client.get_multi(names)) != count:
        raise RuntimeError("set_multi and get_multi did not store and find all keys")
    repeat = max(3, min(2000, 200_000 // count))
    times = [*timed(lambda: client.get_multi(names), repeat), *timed(lambda: client.set_multi(mapping), repeat)]
    return [seconds * 1e9 / count for seconds in times]


def get_all(client: Any, names: list[str], count: int) -> Callable[[], None]:
    get = client.get

    def run() -> None:
        for name in itertools.islice(itertools.cycle(names), count):
            get(name)

    return run


def server_list(kind: str, servers: list[str], counts: list[int]) -> list[list[float]]:
    """Wall-clock and CPU seconds of a get of one key, and of gets that go round all servers, for each length of the
    list."""
    answer = []
    for count in counts:
        client = KINDS[kind].open(servers[:count], 0)
        names = key_names(kind, 2 * count)
        store(client, names)  # opens the connections, too
        start = time.perf_counter()
        client.get(names[0])
        fast_enough = min(5000, int(0.1 / (time.perf_counter() - start)))
        row = []
        for group in (names[:1], names):
            calls = max(len(group), fast_enough)
            row += [seconds / calls for seconds in timed(get_all(client, group, calls), 5)]
        answer.append(row)
    return answer


def open_sockets() -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:  # the descriptor that the listing itself used
            continue
    return count


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.01)


def in_flight_together(pid: int, threads: int, sockets: int, call: Callable[[], Any]) -> None:
    """Does the call in that many threads at the same moment: the server is stopped until all of them wait for it."""
    before = open_sockets()
    results: list[Any] = []
    running = [threading.Thread(target=lambda: results.append(call())) for _ in range(threads)]
    os.kill(pid, signal.SIGSTOP)
    try:
        for thread in running:
            thread.start()
        wait_for(lambda: open_sockets() >= before + sockets, f"{sockets} more connections")
    finally:
        os.kill(pid, signal.SIGCONT)
    for thread in running:
        thread.join()
    if len(results) != threads or not all(results):
        raise RuntimeError("a call failed")


def idle_connections(kind: str, servers: list[str], pid: int, threads: int) -> list[float]:
    """The connections that get_multi over all servers left open, called in that many threads at once; then the CPU
    seconds of a get in this thread, and of a thread that does one get."""
    client = KINDS[kind].open(servers, 0)
    client.socket_timeout = 60
    names = key_names(kind, 20 * len(servers))
    store(client, names)  # one connection to each server
    if threads > 1:
        in_flight_together(pid, threads, (threads - 1) * len(servers), lambda: client.get_multi(names))
    connections = open_sockets()
    calls, starts = 5000, 200

    def in_new_threads() -> None:
        for _ in range(starts):
            thread = threading.Thread(target=client.get, args=(names[0],))
            thread.start()
            thread.join()

    here = timed(get_all(client, names[:1], calls), 7)[1] / calls
    there = timed(in_new_threads, 7)[1] / starts
    if open_sockets() < 0.9 * connections:
        raise RuntimeError("the connections were closed while the calls were timed")
    return [connections, here, there]


class Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def allocated() -> int:
    """Bytes that malloc has given out and not got back."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def idle_memory(kind: str, servers: list[str], pid: int, threads: int) -> list[float]:
    """Bytes of user memory of an idle connection through which a value of 1 MB was read, and then written."""
    value = some_bytes(1_000_000)
    client = KINDS[kind].open(servers, 0)
    client.socket_timeout = 60
    store(client, ["large"], value)
    answer: list[float] = []
    for call in (lambda: len(client.get("large")), lambda: client.set("large", value)):
        client.disconnect_all()
        in_flight_together(pid, threads, threads, call)
        with_connections = allocated()
        client.disconnect_all()
        answer.append((with_connections - allocated()) / threads)
    return answer


def threads_together(kind: str, servers: list[str], threads: int, calls: int, rounds: int) -> list[float]:
    """Calls a second of all threads together. Ours share one client; the others have one for each thread, since not all
    of them can be shared."""
    shared = KINDS[kind].open(servers, 0)
    store(shared, key_names(kind, threads))
    clients = [shared if kind == OURS else KINDS[kind].open(servers, 0) for _ in range(threads)]
    answer = []
    for _ in range(rounds):
        barrier = threading.Barrier(threads + 1)

        def work(number: int, barrier: threading.Barrier = barrier) -> None:
            run = get_all(clients[number], key_names(kind, threads)[number : number + 1], calls)
            run()  # each thread opens its connection before the time is taken
            barrier.wait()
            run()
            barrier.wait()

        running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        barrier.wait()
        start = time.perf_counter()
        barrier.wait()
        answer.append(threads * calls / (time.perf_counter() - start))
        for thread in running:
            thread.join()
    return answer


def cpu_used() -> tuple[float, float]:
    """Seconds of CPU time in user space, and in all. The system tells the sum exactly, and the part in user space by
    where it found the process at each tick of its clock."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_utime + usage.ru_stime


def shared_cpu(kind: str, servers: list[str], threads: list[int], calls: int, rounds: int) -> list[list[float]]:
    """For each number of threads, CPU seconds a call, in user space and in all, of one client that the threads share;
    then of as many clients, one for each. All rounds together: so many ticks find enough of them in user space."""
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        raise RuntimeError("the GIL is on")
    shared = [KINDS[kind].open(servers, 0)] * max(threads)
    own = [KINDS[kind].open(servers, 0) for _ in shared]
    names = key_names(kind, max(threads))
    store(shared[0], names)
    answer = [[0.0] * 4 for _ in threads]
    for _ in range(rounds):
        for row, count in zip(answer, threads):
            for place, clients in ((0, shared), (2, own)):
                runs = [get_all(clients[at], names[at : at + 1], calls // count) for at in range(count)]
                running = [threading.Thread(target=run) for run in runs]
                before = cpu_used()
                for thread in running:
                    thread.start()
                for thread in running:
                    thread.join()
                for more, (after, then) in enumerate(zip(cpu_used(), before)):
                    row[place + more] += (after - then) / (calls // count * count * rounds)
    return answer


MEASUREMENTS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        get_multi,
        keys,
        server_list,
        idle_connections,
        idle_memory,
        threads_together,
        shared_cpu,
    )
}

if __name__ == "__main__":
    print(json.dumps(MEASUREMENTS[sys.argv[2]](sys.argv[1], **json.loads(sys.argv[3]))))
