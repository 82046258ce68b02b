"""One asyncio client on one kind of loop, in a process of its own, driven by asyncio_clients.py over its standard input
and output, a JSON object a line. Arguments: the contestant, the loop, and --check to see only whether both are there.

{"open": [servers], "tasks": count}           opens the client for so many tasks
{"call": method, "size": bytes, "prefix": p}  stores what the call reads, does it once and checks the result
{"run": count}                                each task does the call count times; [time, CPU time] in nanoseconds
{"place": prefix, "server": address}          finds the keys that belong to that server and those that do not
{"others": count, "late": bool}               gets of keys on the other servers, while ten tasks wait for that one or
                                              not: [median, 99 of 100, greatest] in nanoseconds, and the failures
{"close": true}                               closes it; the floor says whether it counted all bytes

The answer to all else is null, and after a failure {"error": text}.

It imports nothing that makes large objects and frees them (see values.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any

import asyncio_contestants as contestants
from placement import key_names, present
from values import COUNTER, some_bytes

MANY = 100  # keys of one get_many
OTHERS, LATE = 90, 10  # tasks


class Gate:
    """All tasks do one call that is not timed and wait here; open() lets them go on together."""

    def __init__(self, tasks: int) -> None:
        loop = asyncio.get_running_loop()
        self.missing = tasks
        self.all_here, self.opened = loop.create_future(), loop.create_future()

    async def wait(self) -> None:
        self.missing -= 1
        if not self.missing:
            self.all_here.set_result(None)
        await self.opened


async def call_with_key(call: Any, key: Any, count: int, gate: Gate) -> None:
    await call(key)
    await gate.wait()
    for _ in itertools.repeat(None, count):
        await call(key)


async def call_with_two(call: Any, key: Any, value: Any, count: int, gate: Gate) -> None:
    await call(key, value)
    await gate.wait()
    for _ in itertools.repeat(None, count):
        await call(key, value)


async def call_with_each(call: Any, keys: Sequence[Any], gate: Gate) -> None:
    keys = iter(keys)  # type: ignore[assignment]
    await call(next(keys))  # type: ignore[call-overload]
    await gate.wait()
    for key in keys:
        await call(key)


class Side:
    """The client and what it is doing."""

    def __init__(self, name: str) -> None:
        self.client = contestants.CONTESTANTS[name]()
        self.tasks = 1
        self.turn = 0

    async def open(self, servers: list[str], tasks: int) -> None:
        self.tasks = tasks
        await self.client.open(servers, tasks)

    def names(self, prefix: str, count: int) -> list[Any]:
        return [self.client.key(name) for name in key_names(prefix, count)]

    async def store(self, keys: Sequence[Any], value: Any) -> None:
        self.client.plan("set", keys, value)
        together = 1 if isinstance(value, bytes) and len(value) > 100_000 else 50
        for begin in range(0, len(keys), together):
            await asyncio.gather(*(self.client.set(key, value) for key in keys[begin : begin + together]))

    async def prepare(self, method: str, size: int, prefix: str) -> None:
        client, self.method, self.prefix = self.client, method, prefix
        self.value = client.number(COUNTER) if method == "incr" else some_bytes(size)
        if method == "delete":
            await self.check_delete()
            return
        keys = self.names(prefix, self.tasks * (MANY if method == "get_many" else 1))
        await self.store(keys, self.value)
        self.arguments: list[Any] = keys
        if method == "get_many":
            self.arguments = [keys[begin : begin + MANY] for begin in range(0, len(keys), MANY)]
            for some in self.arguments:
                client.plan(method, some, self.value)
        else:
            client.plan(method, keys, self.value)
        if client.name != contestants.FLOOR:
            await self.check()

    async def check(self) -> None:
        """A failed call would be a fast one. What the floor does is checked by the bytes that it counts."""
        client, first = self.client, self.arguments[0]
        got: Any
        expected: Any = self.value
        if self.method == "get":
            got = client.content(await client.get(first), first)
        elif self.method == "set":
            await client.set(first, self.value)
            got = client.content(await client.get(first), first)
        elif self.method == "incr":
            got, expected = int(await client.incr(first, 1)), COUNTER + 1
        else:
            got, expected = client.contents(await client.get_many(first), first), dict.fromkeys(first, self.value)
        if got != expected:
            raise RuntimeError(f"{self.method} returned {got!r:.200} instead of {expected!r:.200}")

    async def check_delete(self) -> None:
        if self.client.name == contestants.FLOOR:
            return
        (key,) = self.names(self.prefix, 1)
        await self.client.set(key, self.value)
        if not await self.client.get(key):
            raise RuntimeError("set stored nothing")
        await self.client.delete(key)
        if await self.client.get(key):
            raise RuntimeError("delete deleted nothing")

    async def run(self, count: int) -> list[int]:
        """Of all tasks together."""
        gate = Gate(self.tasks)
        call = getattr(self.client, self.method)
        loop = asyncio.get_running_loop()
        if self.method == "delete":
            self.turn += 1
            keys = self.names(f"{self.prefix}{self.turn}", self.tasks * (count + 1))
            await self.store(keys, self.value)
            self.client.plan("delete", keys, self.value)
            shares = [keys[number :: self.tasks] for number in range(self.tasks)]
            bodies = [call_with_each(call, share, gate) for share in shares]
        elif self.method in ("get", "get_many"):
            bodies = [call_with_key(call, argument, count, gate) for argument in self.arguments]
        else:
            second = self.value if self.method == "set" else 1
            bodies = [call_with_two(call, key, second, count, gate) for key in self.arguments]
        running = [loop.create_task(body) for body in bodies]
        try:
            first, _ = await asyncio.wait([gate.all_here, *running], return_when=asyncio.FIRST_COMPLETED)
            for done in first:
                done.result()
            wall, cpu = time.perf_counter_ns(), time.process_time_ns()
            gate.opened.set_result(None)
            for task in running:
                await task
            cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        except BaseException:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise
        return [wall, cpu]

    # ---- one late server of ten

    async def place(self, prefix: str, server: str) -> None:
        client = self.client
        names = key_names(prefix, 600)
        keys = [client.key(name) for name in names]
        await self.store(keys, some_bytes(100))
        there = present(server, names)
        self.late = [key for name, key in zip(names, keys, strict=True) if name in there][:LATE]
        self.others = [key for name, key in zip(names, keys, strict=True) if name not in there][:OTHERS]
        if len(self.late) < LATE or len(self.others) < OTHERS:
            raise RuntimeError(f"of {len(names)} keys {len(there)} belong to the late server")
        client.plan("get", keys, some_bytes(100))

    async def around(self, count: int, late: bool) -> list[int]:
        get, clock = self.client.get, time.perf_counter_ns
        taken: list[int] = []
        failed = 0
        for key in self.others:  # so that all connections are open
            await get(key)

        async def ask(key: Any) -> None:
            nonlocal failed
            for _ in itertools.repeat(None, count):
                begin = clock()
                try:
                    await get(key)
                except Exception:
                    failed += 1
                taken.append(clock() - begin)

        async def ask_late(key: Any) -> None:
            with contextlib.suppress(Exception):  # the server is silent for longer than it waits
                await get(key)

        waiting = [asyncio.ensure_future(ask_late(key)) for key in self.late] if late else []
        await asyncio.sleep(0)
        await asyncio.gather(*(ask(key) for key in self.others))
        await asyncio.gather(*waiting)
        taken.sort()
        return [taken[len(taken) // 2], taken[len(taken) * 99 // 100], taken[-1], failed]


async def obey(side: Side, order: dict[str, Any]) -> Any:
    if "open" in order:
        return await side.open(order["open"], order["tasks"])
    if "call" in order:
        return await side.prepare(order["call"], order["size"], order["prefix"])
    if "run" in order:
        return await side.run(order["run"])
    if "place" in order:
        return await side.place(order["place"], order["server"])
    if "others" in order:
        return await side.around(order["others"], order["late"])
    return await side.client.close()


def main() -> None:
    name, loop_name = sys.argv[1:3]
    loop = contestants.new_loop(loop_name)
    contestants.check(name)
    if "--check" in sys.argv:
        loop.close()
        return
    asyncio.set_event_loop(loop)
    logging.disable(logging.CRITICAL)  # emcache tells of each connection that it closes
    side = Side(name)
    for line in sys.stdin:
        try:
            answer = loop.run_until_complete(obey(side, json.loads(line)))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    loop.close()


if __name__ == "__main__":
    main()
