"""Every allocation of every kind of call, Python's and C's, failed once in turn.

What comes is MemoryError or an answer of the contract, without crash or leak, and the next call is right.
"""

import pytest
from counted_malloc import CALLS, interposer, run  # noqa: F401  (interposer is a fixture)

FAILING = (
    CALLS
    + r"""
def each_allocation(name):
    call, right, failure = CALLS[name]
    number = 0
    while True:
        error = got = None
        try:
            fail_at(number)  # the first ones may be those of ctypes
            got = call()
        except MemoryError:
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
LEAKY = {"set pickle"}
if sys.version_info < (3, 13):
    LEAKY |= {"a new client", "other servers", "delete_multi", *(name for name in CALLS if "get_multi" in name)}


for name in CALLS:
    assert CALLS[name][0]() == CALLS[name][1], (name, CALLS[name][0]())
    prepare()
    counts, levels, files = [each_allocation(name)], array.array("q", [level()]), descriptors()
    while len(counts) < 15:
        counts.append(each_allocation(name))
        levels.append(level())
    # A leak is there each time; caches of the interpreter come and go.
    growth = min(after - before for before, after in zip(levels, levels[1:]))
    if not all(isinstance(count, int) for count in counts):
        print(f"{name}: {counts}")
    elif growth > (40 if name in LEAKY else 0):
        print(f"{name}: {growth} blocks more after {counts[-1]} failures")
    elif descriptors() > files:
        print(f"{name}: {descriptors() - files} descriptors more")
    else:
        print(f"{name}: ok, {counts[-1]} allocations")
"""
)


@pytest.mark.slow
def test_each_allocation_failed_once(interposer):  # noqa: F811
    assert run(interposer, FAILING) > 35
