"""Many processes of many threads that all call get_or_set for one key at once; started by test_stampede.py.

    python crowd.py '{"address": ..., "processes": 64, "threads": 4, ...}'

Each process is a fork of this one, opens a cache of its own, and waits until all are there. What happens is written to
standard output, a JSON object a line: {"run": PID, "at": SECONDS} where a factory begins, {"got": [VALUES], "fills":
[WON, LOST, WAITED]} where a process has what it wants. SECONDS are of the clock that all processes share.

dies: the first factory to run is killed with its process. until: calls are made again until they have that value.
"""

import json
import os
import signal
import sys
import threading
import time

import mcext
import mcext.fill  # before the forks, once for all


def say(**what):
    """One write, which the kernel does not mix with another's."""
    os.write(1, json.dumps(what).encode() + b"\n")


def first_of_all(folder):
    try:
        os.close(os.open(os.path.join(folder, "first"), os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False


def call(cache, order, got):
    def factory():
        say(run=os.getpid(), at=time.monotonic())
        is_first = first_of_all(order["folder"])
        if is_first and order.get("dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(order["seconds"])
        if is_first and order.get("raises"):
            raise LookupError
        return "computed"

    while True:
        try:
            value = cache.get_or_set(order["key"], factory, order["ttl"], **order["options"])
        except LookupError:
            value = "raised"
        if value in order.get("until", [value, "raised"]):
            break
        time.sleep(0.05)
    got.append(value)


def crowd_of_one_process(order):
    cache = mcext.Cache([order["address"]], timeout=60)
    got = []
    threads = [threading.Thread(target=call, args=(cache, order, got)) for _ in range(order["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics = cache.metrics()
    say(got=got, fills=[metrics["fills_won"], metrics["fills_lost"], metrics["fills_waited"]])


def main():
    order = json.loads(sys.argv[1])
    gate, opener = os.pipe()
    children = []
    for _ in range(order["processes"]):
        child = os.fork()
        if child == 0:
            os.close(opener)
            os.read(gate, 1)  # until this process closes the other end
            crowd_of_one_process(order)
            os._exit(0)
        children.append(child)
    os.close(opener)
    failed = [child for child in children if os.waitpid(child, 0)[1] not in (0, signal.SIGKILL)]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
