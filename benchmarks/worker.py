"""One client in a process of its own, driven by run.py over its standard input and output, a JSON object a line.

{"open": [servers]}                              opens the client
{"call": name, "prefix": text, "keys": count, "store": bool}
                                                 stores what the call reads, does it once and checks the result
{"run": count}                                   does the call count times

The answer to a run is [time, CPU time] in nanoseconds, to all else null, and after a failure {"error": text}.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from clients import KINDS
from workload import BY_NAME, Bound


def main() -> None:
    kind = KINDS[sys.argv[1]]
    client: Any = None
    bound: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: Any = None
        try:
            if "open" in order:
                client = kind.open(order["open"])
            elif "call" in order:
                bound = Bound(client, BY_NAME[order["call"]], order["prefix"], order["keys"], order["store"])
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
