"""Sub-interpreters with a GIL of their own: each has its module, its types and its clients; none disturbs another."""

import contextlib
import importlib
import os
import sys
import textwrap
import threading

import pytest
import waits
from checkers import not_under_thread_sanitizer

import mcext
from mcext.testing import memcached as memcached_server

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
mc = mcext.Client([{address!r}], socket_timeout=60, username="{name}", password=lambda: "a {name}".replace(" ", ""))
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


EVERY_KIND = """
import threading

import mcext
import memcache
from mcext.unpickler import restricted_unpickler


def every_kind(mc, name, rounds):
    key, number, absent = name + "key", name + "number", name + "absent"
    many = {{f"{{name}}{{i}}": [f"{{name}}{{i}}", i] for i in range(20)}}
    for i in range(rounds):
        for value in (i, 1.5, name, name.encode(), [name, i], {{name: None}}, name * 5000, "\u00e9" * 9, True, 1 << 70):
            assert mc.set(key, value, min_compress_len=100) is True
            assert mc.get(key) == value
        assert mc.get(absent) is None and mc.get(absent, name) == name
        assert mc.set(key, name.encode()) and mc.append(key, b">") and mc.prepend(key, b"<")
        assert mc.get(key) == b"<" + name.encode() + b">"
        assert mc.replace(key, name) and not mc.add(key, name) and mc.touch(key, 60) == 1
        assert mc.gets(key) == name and mc.cas(key, name * 2) is True and mc.get(key) == name * 2
        assert mc.delete(key) == 1 and not mc.replace(key, name) and not mc.append(key, name)
        assert mc.add(number, 5) and mc.incr(number) == 6 and mc.decr(number, 3) == 3 and mc.incr(number, 1 << 40)
        assert mc.delete(number) == 1 and mc.incr(number) is None
        assert mc.set_multi(many) == [] and mc.get_multi(list(many) + [absent]) == many
        assert mc.get_multi(["0", "1"], key_prefix=name) == {{str(i): many[f"{{name}}{{i}}"] for i in range(2)}}
        assert mc.delete_multi(list(many)) == 1 and mc.get_multi(many) == {{}}
        # Of a key of their own: they are done some time, also where the next call has another connection.
        mc.set(name + "quiet", name, noreply=True)
        mc.delete(name + "quiet", noreply=True)
        assert mc.set((i, key), name) and mc.get((i, key)) == name and mc.delete((i, key)) == 1
        assert len(mc.get_stats()) == len(mc.servers) and mc.get_slab_stats() and mc.get_slabs()
        mc.stats, mc.cas_ids, mc.buckets, str(mc.servers[0])
        mc.reset_cas()
        if i % 5 == 1:
            mc.disconnect_all()
        if i % 5 == 2:
            mc.set_servers({addresses!r})
        if i % 5 == 3:
            mc.quit_all()
        for wrong in ("a b", "", "k" * 251, 5):
            try:
                mc.set(wrong, 1)
            except (mcext.Client.MemcachedKeyError, TypeError):
                continue
            raise AssertionError(wrong)


class Mine(memcache.Client):
    def _get_server(self, key):
        return super()._get_server(key)

    def get(self, key, default=None):
        return super().get(key, default)
"""

KINDS_OF_CLIENTS = """
options = dict(socket_timeout=60, dead_retry=0)
every_kind(mcext.Client({addresses!r}, **options), "{name}plain", {rounds})
every_kind(mcext.Client({addresses!r}, cache_cas=True, pickleProtocol=2, **options), "{name}options", {rounds})
every_kind(mcext.Client({addresses!r}, unpickler=restricted_unpickler([]), **options), "{name}named", {rounds})
every_kind(Mine({addresses!r}, **options), "{name}mine", {rounds})
gone = mcext.Client(["127.0.0.1:1"], **options)
assert gone.get("a") is None and gone.set("a", 1) == 0 and gone.get_multi(["a"]) == {{}} and gone.set_multi({{"a": 1}})
"""

# Two threads of the interpreter share a client. None goes on before all interpreters have come so far.
AT_ONCE = """
mc = mcext.Client({addresses!r}, socket_timeout=60)
mc.add("there", 0)
mc.incr("there")
while int(mc.get("there")) < {count}:
    pass
problems = []


def live(name):
    try:
        every_kind(mc, name, {rounds})
    except BaseException as error:
        problems.append(f"{{name}}: {{error!r}} in line {{error.__traceback__.tb_next.tb_lineno}}")


threads = [threading.Thread(target=live, args=(f"{name}.{{i}}.",)) for i in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert problems == [], problems
"""


# A Cache of each interpreter: its errors, its codecs and what it composes are the interpreter's own modules.
CACHE = """
import mcext


def every_kind_of_cache(cache, name):
    many = {{f"{{name}}{{i}}": [name, i] for i in range(20)}}
    for value in (5, 1.5, name, name.encode(), [name], name * 5000, 1 << 70):
        assert cache.set(name, value, 60) is True and cache.get(name) == value
    assert cache.get(name + "absent", default=name) == name
    assert cache.set_many(many) == [] and cache.get_many(list(many)) == many and cache.delete_many(many) == 20
    item = cache.get_item(name)
    assert type(item) is mcext.Item and item.value == 1 << 70
    assert cache.set(name, 7, cas=item.cas) is True and cache.set(name, 8, cas=item.cas) is False
    assert cache.set(name, 8, cas=mcext.ABSENT) is False and cache.incr(name) == 8
    assert cache.incr(name + "number", initial=5) == 5 and cache.delete(name + "number") is True
    assert cache.update(name, lambda old: old + 1) == 9 and cache.get_and_touch(name, 60) == 9
    computed = []
    for i in range(2):
        assert cache.get_or_set(name + "computed", lambda: computed.append(1) or name, 60) == name
    assert computed == [1] and cache.invalidate(name + "computed", stale=60) is True
    assert cache.get_or_set(name + "computed", lambda: [name], 60, stale=60) == [name]
    assert cache.delete(name) is True and cache.delete(name + "computed") is True
    assert cache.metrics()["servers"] and cache.version() and all(server.alive for server in cache.servers)


def fails(kind, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except kind as error:
        return type(error) is kind
    return False


def failures(name, address):
    told = []
    gone = mcext.Cache("127.0.0.1:1", dead_retry=0, timeout=60, on_event=told.append)
    assert fails(mcext.ServerUnavailable, gone.get, name)
    assert {{type(event) for event in told}} == {{mcext.Event}}
    assert type(told[0].error) is type(None) and type(told[-1].error) is mcext.ServerUnavailable, told
    assert fails(mcext.PartialFailure, gone.set_many, {{name: 1}})
    assert fails(mcext.ServerUnavailable, gone.get_or_set, name, list, fallback="raise")
    assert gone.get_or_set(name, lambda: name) == name
    assert mcext.Cache("127.0.0.1:1", errors="miss").get(name, name) == name
    plain = mcext.Cache(address, timeout=60, allow_pickle=False)
    assert mcext.Cache(address, timeout=60).set(name, [name])
    assert fails(mcext.DecodeError, plain.get, name) and fails(ValueError, plain.get, "a b")


for i in range({rounds}):
    for options in ({{}}, {{"prefix": "{name}:"}}, {{"compression": mcext.Compression(100)}}):
        with mcext.Cache({addresses!r}, timeout=60, **options) as cache:
            every_kind_of_cache(cache, "{name}")
    with mcext.Cache({addresses!r}, timeout=60, codec=mcext.codecs.JSON()) as cache:
        assert cache.set("{name}json", {{"a": ["{name}"]}}) and cache.get("{name}json") == {{"a": ["{name}"]}}
    failures("{name}failed", {addresses!r})
"""


def test_a_cache_in_a_sub_interpreter(memcached):
    with memcached_server(unix=True) as other:
        addresses = [memcached.address, other.address]
        with Interpreter() as interpreter:
            interpreter.run(CACHE.format(addresses=addresses, name="sub", rounds=2))
            exec(CACHE.format(addresses=addresses, name="main", rounds=1), {})
            interpreter.run(CACHE.format(addresses=addresses, name="sub", rounds=2))
        with mcext.Cache(addresses, timeout=60) as cache:
            assert cache.get("subfailed") == ["subfailed"] and cache.get("mainfailed") == ["mainfailed"]


@not_under_thread_sanitizer("Python 3.13 itself has races where an interpreter begins or ends while others run")
def test_caches_of_interpreters_at_the_same_time(memcached):
    problems = []

    def live(number):
        try:
            with Interpreter() as interpreter:
                interpreter.run(CACHE.format(addresses=addresses, name=f"sub{number}", rounds=5))
        except BaseException as error:
            problems.append(error)

    with memcached_server(unix=True) as other:
        addresses = [memcached.address, other.address]
        threads = [threading.Thread(target=live, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        with mcext.Cache(addresses, timeout=60) as cache:
            while any(thread.is_alive() for thread in threads):
                assert cache.get_or_set("main", lambda: ["main"], 60) == ["main"]
                assert cache.delete("main") is True
        assert problems == []


TLS = """
import ssl, mcext
context = ssl.create_default_context(cafile={ca!r})
client = mcext.Client([{address!r}], tls_context=context, socket_timeout=60)
cache = mcext.Cache([{address!r}], tls_context=context, timeout=60)
for i in range({rounds}):
    many = {{f"{name}{{n}}": b"v" * n for n in range(1, 100)}}
    assert client.set_multi(many) == [] and cache.get_many(many) == many
    assert cache.set("{name}", b"x" * 100_000) and client.get("{name}") == b"x" * 100_000
    client.disconnect_all()
    cache.close()
"""


def test_tls_in_sub_interpreters():
    problems = []

    def live(number):
        try:
            with Interpreter() as interpreter:
                interpreter.run(TLS.format(**server_of_all, name=f"sub{number}", rounds=5))
        except BaseException as error:
            problems.append(error)

    with memcached_server(tls=True) as server:
        server_of_all = {"address": server.address, "ca": server.ca_file}
        live(0)
        exec(TLS.format(**server_of_all, name="main", rounds=2), {})
        assert problems == []


def test_every_kind_of_call_and_client(memcached):
    with memcached_server(unix=True) as other, Interpreter() as interpreter:
        options = {"addresses": [memcached.address, other.address], "name": "sub", "rounds": 6}
        interpreter.run((EVERY_KIND + KINDS_OF_CLIENTS).format(**options))
        interpreter.run(f"mcext.Client({options['addresses']!r}).flush_all()")
        interpreter.run(f"assert mcext.Client({options['addresses']!r}).get('subplainkey') is None")


def test_every_kind_of_call_in_all_interpreters_at_once(memcached):
    """Each interpreter has a GIL of its own: their calls meet in the same C code and on the same servers."""
    problems = []

    def live(number, interpreter):
        try:
            interpreter.run(AT_ONCE.format(addresses=addresses, name=f"sub{number}", rounds=20, count=4))
        except BaseException as error:
            problems.append(error)

    with memcached_server(unix=True) as other, contextlib.ExitStack() as stack:
        addresses = [memcached.address, other.address]
        interpreters = [stack.enter_context(Interpreter()) for _ in range(4)]
        for interpreter in interpreters:
            # Begins and ends of interpreters are for the other tests; here each has imported all that it uses.
            options = {"addresses": addresses, "name": "before", "rounds": 1}
            interpreter.run((EVERY_KIND + KINDS_OF_CLIENTS).format(**options))
        threads = [threading.Thread(target=live, args=item) for item in enumerate(interpreters)]
        for thread in threads:
            thread.start()
        mc = mcext.Client(addresses, socket_timeout=60)
        while any(thread.is_alive() for thread in threads):
            many = {f"main{i}": ["main", i] for i in range(20)}
            assert mc.set_multi(many) == []
            assert mc.get_multi(many) == many
            mc.disconnect_all()
        assert problems == []


def test_a_client_in_a_sub_interpreter(memcached):
    with Interpreter() as interpreter:
        interpreter.run(CALLS.format(address=memcached.address, name="sub", count=50))
    mc = mcext.Client([memcached.address])
    assert mc.get("sub") == ["sub", 49]


@not_under_thread_sanitizer("Python 3.13 itself has races where an interpreter begins or ends while others run")
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
    waits.until(
        lambda: int(mc.get_stats()[0][1]["curr_connections"]) <= 4,
        "the connections of the interpreters that ended are open",
    )


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


ASYNC_CALLS = """
import asyncio

import mcext


async def main():
    async with mcext.AsyncCache([{address!r}], timeout=60) as cache:
        for i in range({count}):
            calls = cache.set("{name}", ["{name}", i]), cache.get("{name}"), cache.get_many(["{name}"])
            got = await asyncio.gather(*calls)
            assert got == [True, ["{name}", i], {{"{name}": ["{name}", i]}}]
            call = asyncio.ensure_future(cache.get("{name}"))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        assert await cache.get_or_set("{name}", lambda: None) == ["{name}", i]


for _ in range(2):
    asyncio.run(main())
"""


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="asyncio of Python 3.12 frees memory twice at the end, whatever is run in it"
)
@not_under_thread_sanitizer("Python 3.13 itself has races where an interpreter begins or ends while others run")
def test_asyncio_in_interpreters_at_the_same_time(memcached):
    failures = []

    def work(name):
        try:
            with Interpreter() as interpreter:
                interpreter.run(ASYNC_CALLS.format(address=memcached.address, name=name, count=50))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(f"loop{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
