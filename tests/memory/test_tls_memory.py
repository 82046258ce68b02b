"""TLS where memory is out, and what it leaves behind: as test_allocation_failure.py and test_leaks.py, over TLS."""

import pytest
from clear_context import ClearContext
from counted_malloc import interposer, run  # noqa: F401  (interposer is a fixture)
from scripted_server import ScriptedServer

from mcext.testing import memcached

CALLS = r"""
import array, ctypes, faulthandler, gc, os, ssl, sys, types, warnings
import mcext, memcache
from clear_context import ClearContext
from other_sockets import Other

faulthandler.enable()
sys.unraisablehook = lambda what: None  # where memory is out in a destructor
_, _, address, ca, clear_address = sys.argv
shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
shim.live_count.restype = ctypes.c_long
fail_at, has_failed = shim.fail_at, shim.has_failed
context = ssl.create_default_context(cafile=ca)
other = ssl.create_default_context(cafile=ca)
stranger = ssl.create_default_context()

client = mcext.Client([address], tls_context=context, dead_retry=100)
two = mcext.Client([address, (address, 2)], tls_context=context)
cache = mcext.Cache([address], tls_context=context, dead_retry=100)
refused = mcext.Client([address], tls_context=stranger, dead_retry=0)
big = b"b" * 300_000
many = {f"m{n}": b"v" * n for n in range(200)}


def reconnect():
    client.disconnect_all()
    return client.get("k")


# Without memory for its SSL CPython's ssl crashes: connects are tried without OpenSSL.
clear = mcext.Client([clear_address], tls_context=ClearContext(), dead_retry=0)


def clear_reconnect():
    clear.disconnect_all()
    return clear.get("k")


def clear_anew():
    clear.tls_context = ClearContext()
    return clear.get("k")


def clear_made():
    mine = mcext.Client([clear_address], tls_context=ClearContext(), dead_retry=0)
    answer = mine.get("k"), mine.get_multi(["k"])
    mine.disconnect_all()
    return answer[0] if answer[1] else None


# The same over sockets of another class.
OTHERS = types.SimpleNamespace(socket=Other)
other_clear = mcext.Client([clear_address], tls_context=ClearContext(), dead_retry=0)


def over_others(call):
    def over():
        real, memcache.socket = memcache.socket, OTHERS
        try:
            return call()
        finally:
            memcache.socket = real

    return over


def other_reconnect():
    other_clear.disconnect_all()
    return other_clear.get("k")


def anew():
    client.tls_context = other if client.tls_context is context else context
    return client.get("k")


def made():
    mine = mcext.Client([address], tls_context=context)
    answer = mine.get("k")
    mine.disconnect_all()
    return answer


CALLS = {
    "get": (lambda: client.get("k"), b"value", None),
    "get of a Cache": (lambda: cache.get("k"), b"value", None),
    "get large": (lambda: client.get("big"), big, None),
    "set": (lambda: client.set("s", b"x"), True, 0),
    "set large": (lambda: client.set("s", big), True, 0),
    "get_multi": (lambda: client.get_multi(many), many, {}),
    "set_multi": (lambda: client.set_multi(many), [], list(many)),
    "get_multi of two servers": (lambda: two.get_multi(many), many, {}),
    "reconnect in the clear": (clear_reconnect, b"value", None),
    "a new session in the clear": (clear_anew, b"value", None),
    "a new client in the clear": (clear_made, b"value", None),
    "get in the clear over others": (over_others(lambda: other_clear.get("k")), b"value", None),
    "get_multi in the clear over others": (over_others(lambda: other_clear.get_multi(["k"])), {"k": b"value"}, {}),
    "set_multi in the clear over others": (over_others(lambda: other_clear.set_multi(many)), [], list(many)),
    "reconnect in the clear over others": (over_others(other_reconnect), b"value", None),
    "reconnect": (reconnect, b"value", None),
    "reconnect over others": (over_others(reconnect), b"value", None),
    "a new session": (anew, b"value", None),
    "a new client": (made, b"value", None),
    "refused": (lambda: refused.get("k"), None, None),
}


# Those whose connections are there and stay.
QUIET = list(CALLS)[:8]
# SSLObject.session of CPython loses the copy of a session that it makes: so many blocks a full handshake.
SESSION = {"a new session": 100, "a new client": 100}


def is_answer(got, right, failure):
    if isinstance(got, dict):
        return all(right[key] == value for key, value in got.items())
    if isinstance(got, list):
        return set(got) <= set(failure)
    return got == right or got == failure


def level():
    gc.collect()
    sys._clear_type_cache() if hasattr(sys, "_clear_type_cache") else None
    return shim.live_count()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


assert client.set_multi({"k": b"value", "big": big, **many}) == []
"""

FAILING = (
    CALLS
    + r"""
def each_allocation(name):
    call, right, failure = CALLS[name]
    number = 0
    while True:
        error = got = None
        try:
            fail_at(number)
            got = call()
        except MemoryError:
            error = True
        except (mcext.MemcacheError, SystemError):  # OpenSSL says it in its own words, CPython's ssl in none at all
            error = True
        hit = has_failed()
        if error is None and not is_answer(got, right, failure if hit else right):
            return f"allocation {number}: {got!r:.200}"
        if error and not hit:
            return "MemoryError without a failed allocation"
        client.forget_dead_hosts()
        cache._hosts[address][0].deaduntil = 0
        two.forget_dead_hosts()
        if client.get("k") != b"value" or cache.get("k") != b"value" or two.get_multi(many) != many:
            return f"allocation {number}: the next call is wrong"
        if not hit:
            return number
        number += 1


for name in [name for name in CALLS if name in QUIET or "in the clear" in name]:
    assert CALLS[name][0]() == CALLS[name][1], (name, CALLS[name][0]())
    counts, levels, files = [each_allocation(name)], array.array("q", [level()]), descriptors()
    growth = 1
    limit = 0 if name in QUIET else 3 * counts[0]  # where functions in Python run CPython loses some
    while len(counts) < 3 or (len(counts) < 8 and growth > limit):
        counts.append(each_allocation(name))
        levels.append(level())
        growth = min(after - before for before, after in zip(levels, levels[1:]))
    if not all(isinstance(count, int) for count in counts):
        print(f"{name}: {counts}")
    elif growth > limit:
        print(f"{name}: {growth} blocks more after {counts[-1]} failures")
    elif descriptors() > files and "client" not in name:  # which CPython may lose, with all that it holds
        print(f"{name}: {descriptors() - files} descriptors more")
    else:
        print(f"{name}: ok, {counts[-1]} allocations")
"""
)


def by_rote(command, number):
    return b"VALUE k 0 5\r\nvalue\r\nEND\r\n" if command.startswith(b"get") else None


@pytest.fixture(scope="module")
def server():
    with memcached(tls=True) as server, ScriptedServer(by_rote, tls=ClearContext()) as clear:
        yield server, clear


def arguments(servers):
    server, clear = servers
    return server.address, server.ca_file, clear.address


@pytest.mark.slow
def test_each_allocation_over_tls_failed_once(interposer, server):  # noqa: F811
    assert run(interposer, FAILING, *arguments(server)) == 15


LASTING = (
    CALLS
    + r"""
for name in CALLS:
    call = CALLS[name][0]
    is_slow = name in ("a new session", "a new client", "refused")
    count = int(os.environ.get("MCEXT_LEAK_CALLS", "1000")) // (50 if is_slow else 5)
    levels = []
    for turn in range(6):
        for _ in range(max(count // 5, 3)):
            call()
        levels.append((level(), descriptors()))
    growth = min(after[0] - before[0] for before, after in zip(levels[1:], levels[2:]))
    if growth > 3 + SESSION.get(name, 0) * max(count // 5, 3) or levels[-1][1] > levels[1][1]:
        print(f"{name}: not level: {levels}")
    else:
        print(f"{name}: ok, {levels[-1]}")
"""
)


@pytest.mark.slow
def test_many_calls_over_tls_leave_nothing_behind(interposer, server):  # noqa: F811
    assert run(interposer, LASTING, *arguments(server)) == 20
