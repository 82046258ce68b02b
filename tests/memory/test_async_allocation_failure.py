"""Every allocation of the calls of mcext.AsyncCache, Python's and C's, failed once in turn.

The event loop here is a list of callbacks, and the transport a list of what was written: CPython's own loop may lose a
wake-up where it has no memory for it. What comes is MemoryError, an exception that says so, or the right answer,
without crash or leak; no call is left waiting, and the next call is right.
"""

import pytest
from counted_malloc import CALLS, interposer, run  # noqa: F401  (interposer is a fixture)

FAILING = (
    CALLS
    + r"""
import asyncio, collections
import mcext
from mcext import async_cache

sys.unraisablehook = lambda unraisable: None  # what is nobody's is told of there


class Loop:
    def __init__(self):
        self.ready = collections.deque()

    def create_future(self):
        return asyncio.Future(loop=self)

    def call_soon(self, callback, *arguments, context=None):
        self.ready.append((callback, arguments))
        return self

    def call_later(self, delay, callback, *arguments, context=None):
        return self

    def cancel(self):
        pass

    def get_debug(self):
        return False

    def is_closed(self):
        return False

    def call_exception_handler(self, context):
        pass

    def turn(self):
        for _ in range(len(self.ready)):
            callback, arguments = self.ready.popleft()
            try:
                callback(*arguments)
            except MemoryError:  # a loop says so, and goes on
                continue


class Transport:
    def __init__(self, stream, answer):
        self.stream, self.answer, self.is_over = stream, answer, False

    def get_extra_info(self, name, default=None):
        return None

    def write(self, data):
        if not self.is_over:
            loop.ready.append((self.reply, (self.answer(bytes(data)),)))

    def writelines(self, pieces):
        self.write(b"".join(pieces))

    def reply(self, data):
        try:
            while data and not self.is_over:
                room = self.stream.get_buffer(-1)
                part, data = data[: len(room)], data[len(room):]
                room[: len(part)] = part
                self.stream.buffer_updated(len(part))
        except BaseException as error:  # as asyncio's own transports do
            self.is_over = True
            _core._AsyncStream.connection_lost(self.stream, error)

    def abort(self):
        self.is_over = True

    close = abort


class Cache(mcext.AsyncCache):
    def _open(self, stream, host):
        _core._AsyncStream.connection_made(stream, Transport(stream, answer))
        loop.call_soon(stream._opened)


big = b"x" * 600_000
VALUES = {b"k0": (2, b"0"), b"k1": (2, b"1"), b"k2": (2, b"2"), b"big": (0, big), b"pickled": (1, b"I5\n.")}


def answer(request):
    said, lines = [], request.split(b"\r\n")
    while lines:
        words = lines.pop(0).split()
        if not words:
            continue
        if words[0] in (b"get", b"gets"):
            token = b" 9" if words[0] == b"gets" else b""
            for key in words[1:]:
                if key in VALUES:
                    flags, value = VALUES[key]
                    said.append(b"VALUE %s %d %d%s\r\n%s\r\n" % (key, flags, len(value), token, value))
            said.append(b"END\r\n")
        elif words[0] in (b"set", b"add", b"cas"):
            lines.pop(0)
            said.append(b"NOT_STORED\r\n" if words[0] == b"add" else b"STORED\r\n")
        elif words[0] == b"incr":
            said.append(b"7\r\n")
        elif words[0] == b"mn":
            said.append(b"MN\r\n")
        elif words[0] == b"mg":
            flags, value = VALUES.get(words[1], (0, None))
            hit = (len(value or b""), words[1], flags, value)
            said.append(b"EN\r\n" if value is None else b"VA %d k%s f%d c9\r\n%s\r\n" % hit)
        else:
            said.append({b"touch": b"TOUCHED\r\n", b"delete": b"NOT_FOUND\r\n"}.get(words[0], b"ERROR\r\n"))
    return b"".join(said)


def outcome(call):
    # Each outcome is (True, value) or (False, exception).
    try:
        call.send(None)
    except StopIteration as stop:
        return True, stop.value
    except BaseException as error:
        return False, error
    return None


def run_all(*calls):
    ends = [outcome(call) for call in calls]
    for turn in range(12):
        loop.turn()
        for number, call in enumerate(calls):
            if ends[number] is None and (call.cr_await is None or call.cr_await.done()):
                ends[number] = outcome(call)
    return ends


def one(make):
    return lambda cache: run_all(make(cache))


def several(cache):
    calls = []
    for n in range(12):  # a comprehension makes a cell, at which CPython before 3.13 loses what the frame holds
        calls.append(cache.get(f"k{n % 3}"))
    return run_all(*calls)


def cancelled(cache):
    call = cache.get("k1")
    began = outcome(call)
    call.close()
    for turn in range(4):
        loop.turn()
    return [(True, "closed")]


ASYNC_CALLS = {
    "get": (one(lambda c: c.get("k1")), [1]),
    "get, missing": (one(lambda c: c.get("nothing", "none")), ["none"]),
    "get, large": (one(lambda c: c.get("big")), [big]),
    "get, pickled": (one(lambda c: c.get("pickled")), [5]),
    "several in a line": (several, [0, 1, 2] * 4),
    "closed": (cancelled, ["closed"]),
    "set": (one(lambda c: c.set("k5", b"5")), [True]),
    "set, large": (one(lambda c: c.set("big", big)), [True]),
    "set without a reply": (one(lambda c: c.set("k5", b"5", noreply=True)), [True]),
    "set with a token": (one(lambda c: c.set("k5", b"5", 100, cas=9)), [True]),
    "set, too large": (one(lambda c: c.set("k5", b"5" * 700_001)), [mcext.ValueTooLarge]),
    "add": (one(lambda c: c.add("k1", 1)), [False]),
    "touch": (one(lambda c: c.touch("k1", 1000)), [True]),
    "delete": (one(lambda c: c.delete("nothing")), [False]),
    "incr": (one(lambda c: c.incr("n", 5)), [7]),
    "an error": (one(lambda c: c._flush_all(c._cache._hosts[address][0], "")), [mcext.ServerError]),
    "get_many": (one(lambda c: c.get_many(["k0", "k1", "nothing"])), [{"k0": 0, "k1": 1}]),
    "set_many": (one(lambda c: c.set_many({"a": 1, "b": b"2"})), [[]]),
    "delete_many": (one(lambda c: c.delete_many(["nothing", "no"])), [0]),
    "gets": (one(lambda c: c._gets("k1")), [(1, 9, True)]),
    "look": (one(lambda c: _core._AsyncCache._look(c, "k1", 30, 0)), [(0, 1, 9, True)]),
    "items": (one(lambda c: c._items(["nothing"])), [({}, [])]),
    "probe": (one(lambda c: c._probe(c._cache._hosts[address][0], None, False)), [3]),
}
EXCUSES = (MemoryError, mcext.MemcacheError, SystemError)  # the last is CPython's, without memory for a frame
address = "10.0.0.1:1"
loop = Loop()
asyncio._set_running_loop(loop)


def is_right(end, wanted):
    done, got = end
    return got == wanted if done else isinstance(wanted, type) and isinstance(got, wanted)


def each_allocation(name):
    call, wanted = ASYNC_CALLS[name]
    number = 0
    while True:
        cache = Cache(address, dead_retry=0, max_value_length=700_000)
        assert run_all(cache.get("k1")) == [(True, 1)]
        try:
            fail_at(number)
            ends = call(cache)
        except MemoryError:  # of the script itself
            ends = None
            for turn in range(6):
                loop.turn()
        hit = has_failed()
        fail_at(-1)
        if ends is not None:
            if None in ends:
                return f"allocation {number}: a call is left waiting"
            for end, value in zip(ends, wanted):
                if not (is_right(end, value) or (hit and isinstance(end[1], EXCUSES))):
                    return f"allocation {number}: {end!r:.200}"
        run_all(cache.get("k1"))  # the stream of the call that failed may end with this one
        following = run_all(cache.get("k1"))
        if following != [(True, 1)]:
            return f"allocation {number}: the next call is wrong: {ends}, then {following}"
        if ends is not None and cache._pending != 0:
            return f"allocation {number}: {cache._pending} calls are counted as waiting"
        loop.ready.clear()
        if not hit:
            return number
        number += 1


for name in ASYNC_CALLS:
    counts, levels = [each_allocation(name)], array.array("q", [level()])
    growth = 1
    while len(counts) < 3 or (len(counts) < 10 and growth > 0 and isinstance(counts[0], int)):
        counts.append(each_allocation(name))
        levels.append(level())
        growth = min(after - before for before, after in zip(levels, levels[1:]))
    if not all(isinstance(count, int) for count in counts):
        print(f"{name}: {counts[0]}")
    elif growth > 0:
        print(f"{name}: {growth} blocks more after {counts[-1]} failures")
    else:
        print(f"{name}: ok, {counts[-1]} allocations")
"""
)


@pytest.mark.slow
def test_each_allocation_of_a_call_for_asyncio_failed_once(interposer):  # noqa: F811
    assert run(interposer, FAILING) > 20
