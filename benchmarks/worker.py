"""One client in a process of its own, driven by run.py over its standard input and output, a JSON object a line.

{"open": [servers], "prefix": text}              opens the client; keys of its own begin so
{"call": name, "keys": count, "shared": prefix}  stores what the call reads, does it once and checks the result;
                                                 with a prefix that is not empty it reads what another has stored
{"run": count}                                   does the call count times

The answer to a run is [time, CPU time] in nanoseconds, to all else null, and after a failure {"error": text}.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from clients import KINDS
from placement import Placement, key_names
from workload import BY_NAME, Bound


def main() -> None:
    kind = KINDS[sys.argv[1]]
    servers: list[str] = []
    client: Any = None
    protocol = 0  # of the client's pickles
    placement: Any = None
    bound: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: Any = None
        try:
            if "open" in order:
                servers = order["open"]
                client = kind.open(servers, protocol)
                placement = Placement(client, servers, order["prefix"])
            elif "call" in order:
                call, shared, count = BY_NAME[order["call"]], order["shared"], order["keys"]
                keys = key_names(shared, count) if shared else placement.choose(count)
                if call.protocol != protocol:
                    client, protocol = kind.open(servers, call.protocol), call.protocol
                bound = Bound(client, call, keys, store=not shared)
                bound.check()
            else:
                wall, cpu = time.perf_counter_ns(), time.process_time_ns()
                bound.run(order["run"])
                cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
                answer = [wall, cpu]
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
