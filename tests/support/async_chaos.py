"""Chaos for an AsyncCache: tasks that are cancelled and time out, between servers that die and streams that end.

    result = await chaos(calls=30_000, seed=1)
    result.verdicts()       # what was wrong; empty: nothing

Three real servers: two behind proxies in the same loop that reset, close, stall and hold back replies, one that is
killed and started again. Each value names its key, so that another call's answer is seen at once. Counters are on a
server that is never killed, and their bounds are known: what was answered has been counted once, what was cancelled or
failed with may_have_run at most once, all else not at all.
"""

import asyncio
import collections
import contextlib
import gc
import os
import random
import signal
import socket
import struct
import sys
import time
import traceback

import mcext
from mcext import _core
from mcext.testing import memcached

KEYS, COUNTERS, TASKS = 300, 20, 1000
TIMEOUT = 0.5
SLACK = 15  # seconds by which a call may be late on a machine that is busy
FORK_EVERY, KILL_EVERY = 3000, 5000  # calls


# ---- what damages streams


class _Front(asyncio.Protocol):
    """A client's connection, and what is to happen to it."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.back = None
        self.waiting = []
        self.is_stalled = False
        self.draw()

    def draw(self):
        dice = self.proxy.random
        self.fate = dice.choices(["reset", "close", "stall", "hold"], [25, 20, 3, 52])[0]
        self.left = int(dice.expovariate(1 / dice.choice([100, 60_000, 300_000])))  # bytes to the client until then

    def connection_made(self, transport):
        self.transport = transport
        if self.proxy.random.random() < 0.05:
            transport.abort()
            return
        self.proxy.fronts.add(self)
        self.task = asyncio.get_running_loop().create_task(self.connect())

    async def connect(self):
        with contextlib.suppress(OSError):
            _, self.back = await asyncio.get_running_loop().create_connection(lambda: _Back(self), *self.proxy.server)
            if self.waiting and not self.back.transport.is_closing():
                self.back.transport.write(b"".join(self.waiting))
            return
        self.transport.abort()

    def data_received(self, data):
        if self.back is None:
            self.waiting.append(data)
        elif not self.back.transport.is_closing():
            self.back.transport.write(data)

    def connection_lost(self, error):
        self.proxy.fronts.discard(self)
        if self.back is not None:
            self.back.transport.abort()

    def pass_on(self, data):
        if self.is_stalled:
            return
        if len(data) < self.left:
            self.left -= len(data)
            self.transport.write(data)
            return
        self.transport.write(data[: self.left])
        rest = data[self.left :]
        self.proxy.injected[self.fate] += 1
        if self.fate == "reset":
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        elif self.fate == "close":
            self.transport.close()
        elif self.fate == "stall":
            self.is_stalled = True
        else:  # in two pieces, the second one later
            held = [rest]
            self.draw()
            self.pass_on = held.append
            asyncio.get_running_loop().call_later(self.proxy.random.uniform(0, 0.02), self.go_on, held)

    def go_on(self, held):
        del self.pass_on
        if not self.transport.is_closing():
            self.transport.write(b"".join(held))


class _Back(asyncio.Protocol):
    def __init__(self, front):
        self.front = front

    def connection_made(self, transport):
        self.transport = transport
        if self.front.transport.is_closing():
            transport.abort()

    def data_received(self, data):
        if not self.front.transport.is_closing():
            self.front.pass_on(data)

    def connection_lost(self, error):
        self.front.transport.close()


class Proxy:
    def __init__(self, server, dice):
        self.server = server.host, server.port
        self.random = dice
        self.fronts = set()
        self.injected = collections.Counter()

    async def __aenter__(self):
        self.listener = await asyncio.get_running_loop().create_server(
            lambda: _Front(self), "127.0.0.1", 0, backlog=1000
        )
        self.address = "{}:{}".format(*self.listener.sockets[0].getsockname())
        return self

    async def __aexit__(self, *exception):
        self.listener.close()
        for each in list(self.fronts):
            each.transport.abort()
        await asyncio.sleep(0.05)


# ---- what is called


class Result:
    def __init__(self):
        self.counts = collections.Counter()
        self.injected = collections.Counter()
        self.words = []  # of what was wrong
        self.slowest = 0.0
        self.hung = 0
        self.left = {}
        self.seconds = 0.0

    def wrong(self, words):
        self.counts["wrong"] += 1
        self.words.append(words)

    def verdicts(self):
        found = list(self.words[:20])
        if self.hung:
            found.append(f"{self.hung} tasks hang")
        if self.slowest > TIMEOUT * 2 + SLACK:
            found.append(f"a call took {self.slowest:.1f} s")
        found += [f"{count} {name} are left" for name, count in self.left.items() if count]
        return found

    def __repr__(self):
        return f"{dict(self.counts)}, {dict(self.injected)}, slowest {self.slowest:.2f} s, {self.seconds:.0f} s"


class Counter:
    def __init__(self, key):
        self.key = key
        self.seen = set()
        self.maybe = 0


class Caller:
    def __init__(self, cache, counters, calls, dice, result):
        self.cache = cache
        self.counters = counters
        self.left = calls
        self.random = dice
        self.result = result
        self.serial = 0

    def key(self):
        return f"k{self.random.randrange(KEYS)}"

    def value(self, key):
        self.serial += 1
        size = self.random.choices([10, 1000, 20_000, 300_000], [80, 15, 4, 1])[0]
        return [key, self.serial, "v" * size]

    def check(self, key, value, what):
        if value is not None and not (type(value) is list and len(value) == 3 and value[0] == key):
            self.result.wrong(f"{what}({key!r}) gave {value!r:.80}")

    def check_type(self, value, kind, what):
        if type(value) is not kind:
            self.result.wrong(f"{what} gave {value!r:.80}")

    async def get(self):
        key = self.key()
        self.check(key, await self.cache.get(key), "get")

    async def get_many(self):
        keys = [self.key() for _ in range(self.random.randrange(1, 30))]
        for key, value in (await self.cache.get_many(keys)).items():
            self.check(key, value, "get_many")
            if key not in keys:
                self.result.wrong(f"get_many gave {key!r}")

    async def get_item(self):
        key = self.key()
        item = await self.cache.get_item(key)
        if item is not None:
            self.check(key, item.value, "get_item")

    async def get_and_touch(self):
        key = self.key()
        self.check(key, await self.cache.get_and_touch(key, 1000), "get_and_touch")

    async def set(self):
        key = self.key()
        self.check_type(await self.cache.set(key, self.value(key), 1000), bool, "set")

    async def add(self):
        key = self.key()
        self.check_type(await self.cache.add(key, self.value(key)), bool, "add")

    async def set_many(self):
        keys = {self.key() for _ in range(self.random.randrange(1, 10))}
        self.check_type(await self.cache.set_many({key: self.value(key) for key in keys}), list, "set_many")

    async def delete(self):
        self.check_type(await self.cache.delete(self.key()), bool, "delete")

    async def touch(self):
        self.check_type(await self.cache.touch(self.key(), 1000), bool, "touch")

    async def get_or_set(self):
        key = self.key()

        async def factory():
            await asyncio.sleep(self.random.choice([0, 0.001]))
            return self.value(key)

        value = await self.cache.get_or_set(key, factory, 1000, lease=2, wait=0.1)
        self.check(key, value, "get_or_set")
        if value is None:
            self.result.wrong(f"get_or_set({key!r}) gave None")

    async def update(self):
        key = self.key()

        def function(old):
            if old is not mcext.ABSENT:
                self.check(key, old, "update")
            return self.value(key)

        self.check(key, await self.cache.update(key, function), "update")

    async def invalidate(self):
        self.check_type(await self.cache.invalidate(self.key(), stale=5), bool, "invalidate")

    async def version(self):
        self.check_type(await self.cache.version(), dict, "version")

    async def incr(self):
        counter = self.random.choice(self.counters)
        counter.maybe += 1  # until it is known
        try:
            number = await self.cache.incr(counter.key)
        except mcext.MemcacheError as error:
            counter.maybe -= not error.may_have_run
            raise
        counter.maybe -= 1
        if type(number) is not int or number in counter.seen:
            self.result.wrong(f"incr({counter.key!r}) gave {number!r} twice")
        counter.seen.add(number)

    KINDS = [
        (get, 40), (get_many, 8), (get_item, 5), (get_and_touch, 3), (set, 15), (add, 3), (set_many, 3), (delete, 3),
        (touch, 3), (get_or_set, 6), (update, 2), (invalidate, 1), (version, 1), (incr, 15),
    ]  # fmt: skip
    FUNCTIONS = [each for each, _ in KINDS]
    WEIGHTS = [weight for _, weight in KINDS]

    async def one(self):
        call = self.random.choices(self.FUNCTIONS, self.WEIGHTS)[0](self)
        way = self.random.choices(["await", "cancel", "wait_for", "timeout", "twice"], [60, 20, 10, 7, 3])[0]
        soon = self.random.choice([0, 0, 0.0005, 0.002, 0.01])
        if way == "await":
            return await call
        if way == "wait_for":
            return await asyncio.wait_for(call, soon + 0.001)
        if way == "timeout" and sys.version_info >= (3, 11):
            async with asyncio.timeout(soon + 0.001):
                return await call
        task = asyncio.ensure_future(call)
        await asyncio.sleep(soon)
        task.cancel()
        if way == "twice":
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        return task.result()

    async def work(self):
        counts = self.result.counts
        while self.left > 0:
            self.left -= 1
            began = time.monotonic()
            pause = 0
            try:
                await self.one()
                counts["answered"] += 1
            except asyncio.CancelledError:
                counts["cancelled"] += 1
            except asyncio.TimeoutError as error:
                counts["late" if isinstance(error, mcext.MemcacheError) else "timed out"] += 1
            except mcext.MemcacheError as error:
                counts[type(error).__name__] += 1
                pause = self.random.uniform(0.001, 0.05)
            except Exception:
                self.result.wrong(traceback.format_exc()[-500:])
            self.result.slowest = max(self.result.slowest, time.monotonic() - began)
            counts["calls"] += 1
            await asyncio.sleep(pause)


# ---- forks and kills


def fork(cache, dice):
    """A child that uses the cache in a loop of its own: its process id."""
    seed = dice.randrange(1 << 30)
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(100)
        result = Result()
        asyncio.run(Caller(cache, None, 0, random.Random(seed), result).child())
        status = 1 if result.words else 0
        if result.words:
            os.write(2, "\n".join(result.words).encode())
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


async def child(self):
    for _ in range(20):
        with contextlib.suppress(mcext.MemcacheError):
            await asyncio.gather(self.get(), self.set(), self.get_many(), self.get_item())


Caller.child = child


async def disturb(caller, cache, victim, result):
    """Forks, and kills and restarts of a server, until all calls are made."""
    dice, counts = caller.random, result.counts
    next_fork, next_kill = caller.left - FORK_EVERY // 2, caller.left - KILL_EVERY // 2
    children = []
    try:
        while True:
            await asyncio.sleep(0.01)
            if caller.left < next_fork and not children:
                next_fork -= FORK_EVERY
                counts["forks"] += 1
                children.append(fork(cache, dice))
            for pid in list(children):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    children.remove(pid)
                    if status:
                        result.wrong(f"a child ended with {status}")
            if caller.left < next_kill:
                next_kill -= KILL_EVERY
                counts["kills"] += 1
                await asyncio.to_thread(victim.kill)
                await asyncio.sleep(dice.uniform(0, 0.1))
                await asyncio.to_thread(victim.start)
    finally:
        for pid in children:
            _, status = os.waitpid(pid, 0)
            if status:
                result.wrong(f"a child ended with {status}")


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def count_calls():
    gc.collect()
    return sum(isinstance(each, _core._AsyncCall) for each in gc.get_objects())


async def chaos(calls, seed, tasks=TASKS):
    result = Result()
    dice = random.Random(seed)
    began = time.monotonic()
    await asyncio.to_thread(int)  # its thread stays, and what uvloop opens for its first stream
    (await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)).close()
    await asyncio.sleep(0.01)
    before, tasks_before = descriptors(), len(asyncio.all_tasks())
    with memcached() as first, memcached() as second, memcached() as victim:
        async with Proxy(first, dice) as one, Proxy(second, dice) as two:
            cache = mcext.AsyncCache(
                [one.address, two.address, victim.address],
                timeout=TIMEOUT,
                dead_retry=0.05,
                on_dead="miss",
                connections=dice.choice([1, 2, 2, 4]),
            )
            names = (f"n{i}" for i in range(10_000))
            counters = [
                Counter(key)
                for key, _ in zip((n for n in names if cache.server_for(n) == one.address), range(COUNTERS))
            ]
            with mcext.Cache([first.address]) as direct:
                direct.set_many({each.key: 0 for each in counters})
                caller = Caller(cache, counters, calls, dice, result)
                disturbing = asyncio.ensure_future(disturb(caller, cache, victim, result))
                workers = [asyncio.ensure_future(caller.work()) for _ in range(tasks)]
                _, hung = await asyncio.wait(workers, timeout=60 + calls / 200)
                result.hung = len(hung)
                disturbing.cancel()
                await asyncio.wait([disturbing, *hung], timeout=30)
                if not disturbing.cancelled() and disturbing.exception():
                    raise disturbing.exception()
                await asyncio.wait_for(cache.aclose(), 30)
                await asyncio.sleep(TIMEOUT)  # what was written and cancelled may still be on its way
                for each in counters:
                    number, sure = direct.get(each.key), len(each.seen)
                    if not sure <= number <= sure + each.maybe:
                        result.wrong(f"{each.key} is {number}, after {sure} to {sure + each.maybe} calls")
                    if each.seen and max(each.seen) > number:
                        result.wrong(f"{each.key} is {number}, and {max(each.seen)} was told")
            result.left["pending"] = cache._pending
            result.injected = one.injected + two.injected
        del workers, hung, disturbing, caller
        await asyncio.sleep(0.1)
        result.left["calls"] = count_calls()
        result.left["streams"] = len(cache._streams) + len(cache._tasks)
    for _ in range(100):  # the proxies' own tasks end when the loop has run them
        result.left["tasks"] = len(asyncio.all_tasks()) - tasks_before
        result.left["descriptors"] = descriptors() - before
        if result.left["tasks"] <= 0 and result.left["descriptors"] <= 0:
            break
        await asyncio.sleep(0.1)
    result.seconds = time.monotonic() - began
    return result
