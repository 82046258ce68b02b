"""Every allocation of every kind of call, Python's and C's, failed once in turn: through native sockets and Python's,
with and without replaced methods, and of mcext.Cache.

What comes is MemoryError or an answer of the contract, without crash or leak, and the next call is right.
"""

import pytest
from counted_cache import CACHE_CALLS
from counted_malloc import CALLS, interposer, run  # noqa: F401  (interposer is a fixture)

FAILING = (
    CALLS
    + r"""
# CPython may say that it cannot pickle a type, where it has no memory to import the type's module.
INSTEAD = {"set of a named type": (pickle.PicklingError,)}


# What it says, where functions in Python run, if it has no memory for the frame of one.
WITHOUT_A_FRAME = (SystemError,) if REPLACED else ()


def each_allocation(name):
    call, right, failure = CALLS[name]
    number = 0
    while True:
        error = got = None
        try:
            fail_at(number)  # the first ones may be those of ctypes
            got = call()
        except (MemoryError, *INSTEAD.get(name, ()), *WITHOUT_A_FRAME):
            error = True
        hit = has_failed()
        if error is None and not is_answer(got, right, failure):
            return f"allocation {number}: {got!r:.200}"
        if error and not hit:
            return "MemoryError without a failed allocation"
        plain.forget_dead_hosts()
        client.forget_dead_hosts()
        if plain.get("bytes") != b"value" or plain.get_multi(["int"]) != {"int": 5}:
            return f"allocation {number}: the next call is wrong"
        if not hit:
            return number
        number += 1


# CPython's own leaks where memory is out: of pickle.dumps, and before 3.13 of list(a list), twice for each call here.
LEAKY = {"set pickle", "set of a named type"}
if sys.version_info < (3, 13):
    LEAKY |= {"a new client", "a new client with a password", "other servers", "attributes assigned", "privates"}
    LEAKY |= {"a new client with a placement", "another placement"}
    LEAKY |= {name for name in CALLS if "get_multi" in name or "delete_multi" in name}
# Where functions in Python run, CPython itself loses what belongs to a frame, a traceback or an exception that it has
# no memory to make, and before 3.13 all that a frame holds whose cells it cannot make (PyCell_New in MAKE_CELL): fewer
# than three blocks a failure.
IN_PYTHON = {"a new client", "a new client with a password", "other servers"}
IN_PYTHON |= {"a new client with a placement", "another placement"}
IN_PYTHON = set(CALLS) if REPLACED else IN_PYTHON
if REPLACED:
    # An exception that a function in Python raises is lost where memory is out.
    for name in ("a wrong key", "no key", "a wrong argument", "a server's error"):
        del CALLS[name]

for name in CALLS:
    assert CALLS[name][0]() == CALLS[name][1], (name, CALLS[name][0]())
    prepare()
    counts, levels, files = [each_allocation(name)], array.array("q", [level()]), descriptors()
    assert isinstance(counts[0], int), (name, counts)
    growth = limit = 3 * counts[0] if name in IN_PYTHON else 40 if name in LEAKY else 0
    # A leak is there each time; caches of the interpreter come and go. One level round of 14 shows that there is none.
    while len(counts) < 3 or (len(counts) < 15 and growth > limit):
        counts.append(each_allocation(name))
        levels.append(level())
        growth = min(after - before for before, after in zip(levels, levels[1:]))
    if not all(isinstance(count, int) for count in counts):
        print(f"{name}: {counts}")
    elif growth > limit:
        print(f"{name}: {growth} blocks more after {counts[-1]} failures")
    elif descriptors() > files and name not in LEAKY | IN_PYTHON:
        print(f"{name}: {descriptors() - files} descriptors more")
    else:
        print(f"{name}: ok, {counts[-1]} allocations")
"""
)


WAYS = {
    "native": "REPLACED = False",
    "python sockets": r"""
import socket, types
import memcache

class Socket(socket.socket):
    pass

memcache.socket = types.SimpleNamespace(socket=Socket)
REPLACED = False
""",
    "replaced methods": r"""
import memcache

def passing_on(base, names):
    def method(name):
        original = getattr(base, name)
        return lambda self, *arguments, **keywords: original(self, *arguments, **keywords)
    return {name: method(name) for name in names.split()}

memcache.Client = type("Client", (memcache.Client,), passing_on(
    memcache.Client,
    "check_key debuglog _statlog _get_server _set _get _deletetouch _incrdecr _val_to_store_info _recv_value"
    " _map_and_prefix_keys _init_buckets set_servers reset_cas",
))
REPLACED = True
""",
    "replaced methods of hosts": r"""
import memcache

def passing_on(name):
    original = getattr(memcache._Host, name)
    setattr(memcache._Host, name, lambda self, *arguments, **keywords: original(self, *arguments, **keywords))

for name in "connect _get_socket mark_dead close_socket send_cmd send_cmds readline expect recv flush quit".split():
    passing_on(name)
REPLACED = True
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_each_allocation_failed_once(interposer, way):  # noqa: F811
    assert run(interposer, WAYS[way] + FAILING) > 55


CACHE_FAILING = (
    CALLS
    + CACHE_CALLS
    + r"""
# A pickle can ask for any amount of memory: that there is none is its fault (binding/pickles.c).
def is_of_a_pickle(name, error):
    errors = error.errors.values() if isinstance(error, mcext.PartialFailure) else [error]
    return "pickle" in name and all(isinstance(each, mcext.DecodeError) for each in errors)


# Where functions in Python run: of errors, of events, of a codec, of get_or_set behind a look, of the class.
IN_PYTHON = ("a dead", "a broken", "a c", "a new", "get_or_set", "set too large", "set_many too large", "memoize",
             "items of what was invalidated", "incr of what is no number", "invalidate", "update", "metrics", "servers",
             "compression of a level", "stats", "version", "set_servers", "close")
IN_PYTHON = {name for name in CALLS if name.startswith(IN_PYTHON)} - {"get_or_set hit"}
if sys.version_info >= (3, 12):
    # Without memory for a generator CPython 3.13 itself crashes (RETURN_GENERATOR): what is in C alone is looked at.
    CALLS = {name: call for name, call in CALLS.items() if name not in IN_PYTHON}
# CPython's own leaks where memory is out: as for Client.
LEAKY = {"set pickle"}
if sys.version_info < (3, 13):
    LEAKY |= {name for name in CALLS if name.startswith(("get_many", "get_items", "set_many", "delete_many"))}


# What CPython says where there is no memory for a frame, for a lock, for OpenSSL.
def is_of_cpython(name, error):
    said = str(error).startswith(("can't allocate lock", "[digital envelope routines]"))
    return name in IN_PYTHON and (isinstance(error, SystemError) or said)


def each_allocation(name):
    number = 0
    while True:
        error = answer = None
        if name in IN_PYTHON:
            # For `for ... in dict.items()`: without memory for its pair CPython untracks what it has not tracked, and
            # crashes. These are pairs to be taken again.
            spare = [(n, n) for n in range(100)]
            del spare
        try:
            fail_at(number)  # the first ones may be those of ctypes
            answer = CALLS[name]()
        except MemoryError:
            error = True
        except Exception as raised:
            error = True
            if not (is_of_cpython(name, raised) or is_of_a_pickle(name, raised)):
                return f"allocation {number}: {raised!r}"
        hit = has_failed()
        if error is None and not is_answer(answer[0], answer[1], answer[1]):
            return f"allocation {number}: {answer[0]!r:.200}"
        if error and not hit:
            return "MemoryError without a failed allocation"
        if cache.get("bytes") != b"value" or cache.get_many(["int"]) != {"int": 5} or not cache.servers[0].alive:
            return f"allocation {number}: the next call is wrong"
        if not hit:
            return number
        number += 1


for name in CALLS:
    got, right = CALLS[name]()
    assert got == right, (name, got)
    prepare()
    counts, levels, files = [each_allocation(name)], array.array("q", [level()]), descriptors()
    growth = limit = 3 * counts[0] if name in IN_PYTHON else 40 if name in LEAKY else 0
    while isinstance(counts[-1], int) and (len(counts) < 3 or (len(counts) < 15 and growth > limit)):
        counts.append(each_allocation(name))
        levels.append(level())
        growth = min(after - before for before, after in zip(levels, levels[1:]))
    if not isinstance(counts[-1], int):
        print(f"{name}: {counts}")
    elif growth > limit:
        print(f"{name}: {growth} blocks more after {counts[-1]} failures")
    elif descriptors() > files and name not in LEAKY | IN_PYTHON:
        print(f"{name}: {descriptors() - files} descriptors more")
    else:
        print(f"{name}: ok, {counts[-1]} allocations")
"""
)


@pytest.mark.slow
def test_each_allocation_of_a_cache_failed_once(interposer):  # noqa: F811
    assert run(interposer, CACHE_FAILING) > 45
