"""Sub-interpreters with a GIL of their own: each has its module, its types and its clients; none disturbs another."""

import importlib
import os
import sys
import textwrap
import threading

import pytest

import mcext

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="an interpreter's own GIL came with Python 3.12")

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(mcext.__file__)))


class Interpreter:
    """One sub-interpreter with its own GIL, by whichever module this Python has."""

    def __init__(self):
        for name in ("_interpreters", "_xxsubinterpreters"):
            try:
                self.module = importlib.import_module(name)
                break
            except ImportError:
                continue
        if name == "_interpreters":
            self.id = self.module.create("isolated")
        else:
            self.id = self.module.create(isolated=True)

    def run(self, script):
        path = [FOLDER, *sys.path]
        text = f"import sys\nsys.path[:] = {path!r}\n" + textwrap.dedent(script)
        failure = self.module.run_string(self.id, text)
        if failure is not None:
            raise RuntimeError(getattr(failure, "formatted", None) or str(failure))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.module.destroy(self.id)


CALLS = """
import mcext
mc = mcext.Client([{address!r}], socket_timeout=60)
for i in range({count}):
    assert mc.set("{name}", ["{name}", i]) is True
    assert mc.get("{name}") == ["{name}", i]
    assert mc.set_multi({{"{name}a": "a", "{name}b": b"b"}}) == []
    assert mc.get_multi(["{name}a", "{name}b"]) == {{"{name}a": "a", "{name}b": b"b"}}
    assert mc.set("{name}n", 5) and mc.incr("{name}n") == 6
try:
    mc.get("a b")
except mcext.Client.MemcachedKeyCharacterError:
    pass
else:
    raise AssertionError
"""


def test_a_client_in_a_sub_interpreter(memcached):
    with Interpreter() as interpreter:
        interpreter.run(CALLS.format(address=memcached.address, name="sub", count=50))
    mc = mcext.Client([memcached.address])
    assert mc.get("sub") == ["sub", 49]


def test_interpreters_at_the_same_time(memcached):
    problems = []

    def live(number):
        try:
            for _ in range(3):
                with Interpreter() as interpreter:
                    interpreter.run(CALLS.format(address=memcached.address, name=f"sub{number}", count=50))
        except BaseException as error:
            problems.append(error)

    mc = mcext.Client([memcached.address], socket_timeout=60)
    threads = [threading.Thread(target=live, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for i in range(200):
        assert mc.set("main", i)
        assert mc.get("main") == i
    for thread in threads:
        thread.join()
    assert problems == []


def test_an_interpreter_that_ends_leaves_the_others_good(memcached):
    with Interpreter() as first:
        first.run(CALLS.format(address=memcached.address, name="first", count=5))
        with Interpreter() as second:
            second.run(CALLS.format(address=memcached.address, name="second", count=5))
        first.run("assert mc.get('first') == ['first', 4]\nassert mc.get('second') == ['second', 4]")
    mc = mcext.Client([memcached.address])
    assert mc.get("first") == ["first", 4]
    connections = int(mc.get_stats()[0][1]["curr_connections"])
    assert connections <= 4, "the connections of the interpreters that ended are closed"


def test_the_module_is_an_interpreters_own(memcached):
    """What is set in one interpreter is not seen in another."""
    import memcache

    with Interpreter() as interpreter:
        interpreter.run("import memcache\nmemcache.SERVER_MAX_KEY_LENGTH = 10\nmemcache.Client.mine = 1")
        assert memcache.SERVER_MAX_KEY_LENGTH == 250
        assert not hasattr(memcache.Client, "mine")
    memcache.Client([memcached.address])


def test_the_main_client_outlives_interpreters_that_imported(memcached):
    mc = mcext.Client([memcached.address])
    for i in range(5):
        with Interpreter() as interpreter:
            interpreter.run("import mcext, memcache\nassert memcache.Client is mcext.Client")
        assert mc.set("key", i)
        assert mc.get("key") == i
