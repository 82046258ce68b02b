"""What becomes of an asyncio client when calls are cancelled: the same questions for each client.

    seen = await cancelled_then_sentinel(AiomcacheClient, "get", REPLY_LATER)
    assert seen.wrong == []

`cancelled_then_sentinel` lets a call's request reach a server that holds the reply back, cancels the call, and makes
calls for other keys; what they give is compared with what is stored. `storm` makes many calls to a real memcached and
cancels at random. `timed_out` has calls that wait in vain.

A client is a class with the few calls below, keys and values bytes; get returns bytes or None. ImportError where what
it needs is not there.

    python tests/support/cancelling.py           # the table of docs/reliability.md about asyncio clients
    python tests/support/cancelling.py --docs    # renewed there
"""

import asyncio
import dataclasses
import random
import sys
import threading
import time

import plain_socket
from scripted_server import ScriptedServer

LATE = (TimeoutError, asyncio.TimeoutError)  # the same from Python 3.11 on
REPLY_FIRST, REPLY_LATER = "before the next call", "after the next call was made"
COMMANDS = ("get", "get_many", "set", "incr", "delete")
PATIENCE = 5.0  # seconds for a call of a server that answers


# ---- the clients


class AsyncCacheClient:
    """mcext.AsyncCache."""

    name = "mcext.AsyncCache"

    def __init__(self, address, timeout=10.0, connections=1):
        import mcext

        self.client = mcext.AsyncCache([address], timeout=timeout, connections=connections, dead_retry=0)

    async def open(self):
        pass

    async def get(self, key):
        return await self.client.get(key)

    async def get_many(self, keys):
        return await self.client.get_many(keys)

    async def set(self, key, value):
        return await self.client.set(key, value)

    async def incr(self, key):
        return await self.client.incr(key)

    async def delete(self, key):
        return await self.client.delete(key)

    def number(self, number):
        """As what a number is set, for incr."""
        return number

    async def close(self):
        await self.client.aclose()


class AiomcacheClient:
    """aiomcache has no timeout; one is asyncio's."""

    name = "aiomcache"

    def __init__(self, address, timeout=10.0, connections=1):
        import aiomcache

        host, port = address.rsplit(":", 1)
        self.client = aiomcache.Client(host, int(port), pool_size=connections)
        self.timeout = timeout

    async def open(self):
        pass

    async def get(self, key):
        return await asyncio.wait_for(self.client.get(key), self.timeout)

    async def get_many(self, keys):
        found = await asyncio.wait_for(self.client.multi_get(*keys), self.timeout)
        return {key: value for key, value in zip(keys, found) if value is not None}

    async def set(self, key, value):
        return await asyncio.wait_for(self.client.set(key, value), self.timeout)

    async def incr(self, key):
        return await asyncio.wait_for(self.client.incr(key), self.timeout)

    async def delete(self, key):
        return await asyncio.wait_for(self.client.delete(key), self.timeout)

    async def close(self):
        await self.client.close()


class EmcacheClient:
    name = "emcache"
    autobatching = False

    def __init__(self, address, timeout=10.0, connections=1):
        import emcache

        host, port = address.rsplit(":", 1)
        self.nodes = [emcache.MemcachedHostAddress(host, int(port))]
        self.options = {"timeout": timeout, "max_connections": connections, "autobatching": self.autobatching}
        self.create = emcache.create_client
        self.not_found = emcache.NotFoundCommandError

    async def open(self):
        self.client = await self.create(self.nodes, **self.options)

    async def get(self, key):
        item = await self.client.get(key)
        return item and item.value

    async def get_many(self, keys):
        return {key: item.value for key, item in (await self.client.get_many(keys)).items()}

    async def set(self, key, value):
        await self.client.set(key, value)
        return True

    async def incr(self, key):
        return await self.client.increment(key, 1)

    async def delete(self, key):
        try:
            await self.client.delete(key)
        except self.not_found:
            return False
        return True

    async def close(self):
        await self.client.close()


class BatchingClient(EmcacheClient):
    name = "emcache, autobatching"
    autobatching = True


class MemcachioClient:
    name = "memcachio"

    def __init__(self, address, timeout=10.0, connections=1):
        import memcachio

        host, port = address.rsplit(":", 1)
        options = {"max_connections": connections, "read_timeout": timeout}
        self.client = memcachio.Client((host, int(port)), **options)

    async def open(self):
        pass

    async def get(self, key):
        item = (await self.client.get(key)).get(key)
        return item and item.value

    async def get_many(self, keys):
        return {key: item.value for key, item in (await self.client.get(*keys)).items()}

    async def set(self, key, value):
        return await self.client.set(key, value)

    async def incr(self, key):
        return await self.client.incr(key, 1)

    async def delete(self, key):
        return await self.client.delete(key)

    async def close(self):
        self.client.connection_pool.close()


CLIENTS = {one.name: one for one in (AsyncCacheClient, AiomcacheClient, EmcacheClient, BatchingClient, MemcachioClient)}


# ---- one call cancelled


class HoldingServer:
    """A scripted memcached with a few items. It keeps the reply to a request with b"held" in its line back, after the
    first `cut` bytes of it."""

    def __init__(self, cut=0):
        self.cut = cut
        self.release = threading.Event()
        self.items = {b"held": b"the held one", b"sentinel": b"the sentinel's own", b"other": b"the other's own"}
        self.numbers = {b"held-number": 7, b"number": 1_000}
        self.server = ScriptedServer(self.answer)

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *exception):
        self.release.set()
        return self.server.__exit__(*exception)

    def answer(self, command, connection):
        words = command.split(b"\r\n", 1)[0].split()
        reply = self.reply(words)
        if any(word.startswith(b"held") for word in words):
            if self.cut:
                self.server.push(reply[: self.cut], connection)
            self.release.wait(30)
            return reply[self.cut :]
        return reply

    def reply(self, words):
        if words[0] in (b"get", b"gets"):
            return b"".join(self.value(key, words[0]) for key in words[1:]) + b"END\r\n"
        if words[0] == b"set":
            return b"STORED\r\n"
        if words[0] == b"incr":
            self.numbers[words[1]] += int(words[2])
            return b"%d\r\n" % self.numbers[words[1]]
        if words[0] == b"delete":
            return b"DELETED\r\n"
        return None

    def value(self, key, command):
        if key not in self.items:
            return b""
        token = b" 1" if command == b"gets" else b""
        return b"VALUE %s 0 %d%s\r\n%s\r\n" % (key, len(self.items[key]), token, self.items[key])

    def held(self):
        """How many requests have come whose reply is held back."""
        return sum(b"held" in command.split(b"\r\n", 1)[0] for command in self.server.commands)


@dataclasses.dataclass
class Seen:
    """What came of it. `wrong`: a call, what it was to give, and what it gave or raised."""

    wrong: list
    connections: int


def call(client, command):
    """The call that is to be cancelled."""
    return {
        "get": lambda: client.get(b"held"),
        "get_many": lambda: client.get_many([b"held", b"held-2"]),
        "set": lambda: client.set(b"held", b"new"),
        "incr": lambda: client.incr(b"held-number"),
        "delete": lambda: client.delete(b"held"),
    }[command]()


async def answer_of(awaitable, patience=PATIENCE):
    """What it gives, or the exception."""
    try:
        return await asyncio.wait_for(awaitable, patience)
    except Exception as error:
        return error


async def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it never came to that state")
        await asyncio.sleep(0.001)


async def cancelled_then_sentinel(make, command, reply, cut=0, **options):
    """Cancel that call when its request has arrived and that many bytes of the reply have been sent; the rest comes
    before or after the next call is made, which is for another key and, where its reply shows whose it is, a call of
    the same kind."""
    with HoldingServer(cut) as holding:
        client = make(holding.server.address, **options)
        await client.open()
        own = {key: holding.items[key] for key in (b"sentinel", b"other")}
        sentinels = {
            "get": (lambda: client.get(b"sentinel"), own[b"sentinel"]),
            "incr": (lambda: client.incr(b"number"), 1_001),
            "get_many": (lambda: client.get_many(list(own)), own),
            "set": (lambda: client.set(b"new", b"value"), True),
        }
        first = command if command in ("get", "get_many", "incr") else "get"
        try:
            assert await client.get(b"other") == own[b"other"]
            task = asyncio.ensure_future(call(client, command))
            await until(holding.held)
            if cut:
                await asyncio.sleep(0.02)  # until they have arrived
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=PATIENCE)
            assert done and task.cancelled(), "a call that was cancelled did not end so"
            if reply == REPLY_FIRST:
                holding.release.set()
                await asyncio.sleep(0.05)  # until it has arrived, if anybody listens
            running = asyncio.ensure_future(answer_of(sentinels[first][0]()))
            await asyncio.sleep(0.05)
            holding.release.set()
            wrong = []

            def compare(what, wanted, got):
                if type(got) is not type(wanted) or got != wanted:
                    wrong.append((what, wanted, got))

            compare(first, sentinels[first][1], await running)
            for what in [name for name in sentinels if name != first]:
                compare(what, sentinels[what][1], await answer_of(sentinels[what][0]()))
            compare("get", own[b"other"], await answer_of(client.get(b"other")))
            return Seen(wrong, len(holding.server.connections))
        finally:
            holding.release.set()
            await client.close()


# ---- calls that wait in vain


@dataclasses.dataclass
class TimedOut:
    ended: list  # what each of the calls gave or raised
    requests: int  # that the server got of them, in the end
    after: object  # what a get of another key gave or raised then, while the server was still silent to those
    later: object  # and when it had answered them
    connections: int


async def timed_out(make, count=3, timeout=1.0):
    """Calls, one after the other, whose replies are held back until all have timed out."""
    with HoldingServer() as holding:
        client = make(holding.server.address, timeout=timeout)
        await client.open()
        try:
            assert await client.get(b"other") == b"the other's own"
            ended = [await answer_of(client.get(b"held")) for _ in range(count)]
            after = await answer_of(client.get(b"sentinel"))
            holding.release.set()
            await asyncio.sleep(0.1)
            later = await answer_of(client.get(b"sentinel"))
            await asyncio.sleep(0.1)
            return TimedOut(ended, holding.held(), after, later, len(holding.server.connections))
        finally:
            holding.release.set()
            await client.close()


# ---- many


@dataclasses.dataclass
class Storm:
    calls: int = 0
    cancelled: int = 0
    answers: int = 0
    wrong: int = 0  # another key's value, or another's number
    missed: int = 0  # None, or False, for what is there
    raised: int = 0
    hung: int = 0
    connections: int = 0


def total_connections(server):
    with plain_socket.connect(server) as sock, sock.makefile("rb") as file:
        sock.sendall(b"stats\r\n")
        for line in file:
            if line.startswith(b"STAT total_connections"):
                return int(line.split()[2])
    raise RuntimeError("no stats")


async def storm(make, calls=10_000, tasks=50, seed=1, share=0.1, seconds=60.0, **options):
    """That many calls by that many tasks, each with keys of its own; a share of them is cancelled at a random moment.

    Every value and every number carries its key, so that another's is known.
    """
    from mcext.testing import memcached

    rng = random.Random(seed)
    seen = Storm()
    with memcached() as server:
        client = make(server.address, **{"connections": 2, **options})
        await client.open()
        number_to_set = getattr(client, "number", lambda number: b"%d" % number)
        before = total_connections(server)
        end = time.monotonic() + seconds

        async def one(number, step):
            key, counter = b"key-%d" % number, b"number-%d" % number
            kind = step % 4
            if kind == 0:
                return await client.set(key, b"value of %d" % number) is True
            if kind == 1:
                found = await client.get(key)
                return found and found == b"value of %d" % number
            if kind == 2:
                found = await client.get_many([key, b"twin-%d" % number])
                wanted = {key: b"value of %d" % number, b"twin-%d" % number: b"twin of %d" % number}
                return None if isinstance(found, dict) and found.keys() < wanted.keys() else found == wanted
            found = await client.incr(counter)
            return None if found is None else isinstance(found, int) and found // 1_000_000 == number + 1

        for number in range(tasks):
            await client.set(b"key-%d" % number, b"value of %d" % number)
            await client.set(b"twin-%d" % number, b"twin of %d" % number)
            await client.set(b"number-%d" % number, number_to_set((number + 1) * 1_000_000))

        async def work(number):
            local = random.Random(rng.random())
            for step in range(calls // tasks):
                if time.monotonic() > end:
                    return
                seen.calls += 1
                task = asyncio.ensure_future(one(number, step))
                if local.random() < share:
                    if local.random() < 0.5:
                        for _ in range(local.randrange(4)):
                            await asyncio.sleep(0)
                    else:
                        await asyncio.sleep(local.random() * 0.002)
                    task.cancel()
                done, _ = await asyncio.wait([task], timeout=PATIENCE)
                if not done:
                    seen.hung += 1
                    task.cancel()
                elif task.cancelled():
                    seen.cancelled += 1
                elif task.exception():
                    seen.raised += 1
                else:
                    seen.answers += 1
                    seen.missed += task.result() is None
                    seen.wrong += task.result() is False

        await asyncio.gather(*(work(number) for number in range(tasks)))
        seen.connections = total_connections(server) - before - 1
        await client.close()
    return seen


# ---- the table


def word(count, one, many=""):
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def of_cancelled(seen):
    if not seen.wrong:
        return "ok" if seen.connections == 1 else "ok; the connection is closed"
    words = []
    for what, wanted, got in seen.wrong:
        if isinstance(got, Exception):
            words.append(f"`{what}` raises {type(got).__name__}")
        elif got in (None, {}):
            words.append(f"`{what}` misses what is there")
        else:
            words.append(f"`{what}` gives {got!r} instead of {wanted!r}")
    return "next, " + ", then ".join(words)


def of_timed_out(seen):
    words = [] if seen.connections > 1 else ["the connection is kept"]
    for when, got in (("the next get", seen.after), ("a get when the server has answered", seen.later)):
        if isinstance(got, Exception):
            words.append(f"{when} times out, too" if isinstance(got, LATE) else f"{when} raises")
        elif got is None:
            words.append(f"{when} misses what is there")
    return "; ".join(words) or "ok; the connection is closed"


def of_storm(seen):
    words = [
        word(seen.wrong, "wrong answer") if seen.wrong else "",
        word(seen.missed, "false miss", "false misses") if seen.missed else "",
        word(seen.raised, "exception") if seen.raised else "",
        word(seen.hung, "hung call") if seen.hung else "",
    ]
    ended = f"{seen.cancelled:,} cancelled, {word(seen.connections, 'connection')}"
    return "; ".join([*(filter(None, words) if any(words) else ["ok"]), ended])


ROWS = [
    *((f"`{command}` is cancelled before its reply", command) for command in COMMANDS),
    ("three gets time out, one after the other", "timed out"),
    ("10,000 calls by 50 tasks, a tenth cancelled at random", "storm"),
]


def table():
    import importlib.metadata
    import logging

    logging.disable(logging.CRITICAL)  # emcache tells of each connection that it closes
    columns = {}
    for name, make in CLIENTS.items():
        try:
            make("127.0.0.1:1")
        except (ImportError, RuntimeError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        cells = []
        for title, what in ROWS:
            print(f"... {name}: {title}", file=sys.stderr, flush=True)
            if what == "timed out":
                cells.append(of_timed_out(asyncio.run(timed_out(make))))
            elif what == "storm":
                cells.append(of_storm(asyncio.run(storm(make))))
            else:
                both = [asyncio.run(cancelled_then_sentinel(make, what, reply)) for reply in (REPLY_FIRST, REPLY_LATER)]
                cells.append(" / ".join(dict.fromkeys(map(of_cancelled, both))))
        package = name.split(",")[0].split(".")[0]
        try:
            version = f" {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:  # ours, in a folder that it was built in
            version = ""
        columns[name.replace(name.split(",")[0], name.split(",")[0] + version, 1)] = cells
    lines = ["| what happens | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for number, (title, _) in enumerate(ROWS):
        lines.append("| " + " | ".join([title, *(cells[number] for cells in columns.values())]) + " |")
    return "\n".join(lines) + "\n"


def main():
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root))
    made = table()
    print(made, end="")
    if "--docs" in sys.argv:
        page = root / "docs" / "reliability.md"
        begin, end = "<!-- asyncio: begin -->", "<!-- asyncio: end -->"
        before, _, rest = page.read_text().partition(begin)
        page.write_text(f"{before}{begin}\n\n{made}\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    main()
