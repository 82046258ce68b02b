"""Every method of python-memcached's Client and _Host, found by reflection: replaced, it is called where it is there.

Both modules make the same calls to one real server, with one method replaced by one that counts and calls through. In
what python-memcached calls it, so must we; and as often, but for what EXCEPTIONS names.
"""

import ast
import contextlib
import functools
import inspect
import textwrap
from types import MethodType

import oracle
import pytest
from test_overrides import PUBLIC, refill

import memcache
from mcext.testing import memcached

CALLS = {
    **PUBLIC,
    "set with noreply": lambda c: c.set("a", "2", noreply=True),
    "delete with noreply": lambda c: c.delete("a", noreply=True),
    "touch with noreply": lambda c: c.touch("a", 100, noreply=True),
    "incr with noreply": lambda c: c.incr("7", noreply=True),
    "set_multi with noreply": lambda c: c.set_multi({"a": 1, "b": "2"}, noreply=True),
    "delete_multi with noreply": lambda c: c.delete_multi(["a", "b"], noreply=True),
    "set_multi with prefix": lambda c: c.set_multi({"1": 1, "2": "2"}, key_prefix="p"),
    "delete_multi with prefix": lambda c: c.delete_multi(["1", "2"], key_prefix="p"),
    "get_slabs": lambda c: [name for name, _ in c.get_slabs()],
    "set_servers to others": lambda c: c.set_servers(
        [(f"127.0.0.1:{len(str(c.servers[-1]))}", 2), str(c.servers[-1]) + "x"]
    ),
    "get from a dead server": lambda c: (c.servers[0].mark_dead("test"), c.get("a")),
    "set to a dead server": lambda c: (c.servers[0].mark_dead("test"), c.set("a", 1)),
    "get_multi from a dead server": lambda c: (c.servers[0].mark_dead("test"), c.get_multi(["a"])),
    "flush_all of a dead server": lambda c: (c.servers[0].mark_dead("test"), c.flush_all()),
    "flush when it comes back": lambda c: (setattr(c.servers[0], "flush_on_next_connect", 1), c.get("b")),
    "str of a host": lambda c: str(c.servers[0])[:5],
    "quit of a host": lambda c: (c.get("a"), c.servers[0].quit()),
}
# (class, method, call) -> the row of docs/differences.md by which the number of calls is another one.
ONCE = "one dead server of two: each server is tried once, the rest after the ten probes"
STOPS = "get_slabs: python-memcached raises TypeError in its first line"
EXCEPTIONS = {
    **{
        ("_Host", method, call): ONCE
        for method in ("connect", "_get_socket", "_check_dead")
        for call in ("get from a dead server", "set to a dead server", "get_multi from a dead server")
    },
    ("_Host", "readline", "get_slabs"): STOPS,
}
OPTIONS = {"debug": 1, "cache_cas": True}
WAYS = ["subclass", "class", "instance"]
# What says so of itself: Python never looks these up on an instance.
SPECIAL = [name for name in vars(object)]


def methods(kind):
    return [name for name, _ in inspect.getmembers(kind, inspect.isfunction)]


def cases():
    for owner in ("Client", "_Host"):
        for name in methods(getattr(oracle.load(), owner)):
            for way in WAYS:
                if way != "instance" or name not in SPECIAL:
                    yield owner, name, way


CASES = list(cases())


class Counter:
    """Replaces one method of one class of a module in one way by one that counts and calls through."""

    def __init__(self, module, owner, name, way):
        self.module, self.name, self.way = module, name, way
        self.kind = getattr(module, owner)
        self.is_of_hosts = owner == "_Host"
        self.original = getattr(self.kind, name)
        self.count = 0

    def replacement(self):
        def replacement(one, *arguments, **options):
            self.count += 1
            return self.original(one, *arguments, **options)

        return replacement

    @contextlib.contextmanager
    def client(self, addresses):
        """A client that has it, and behind the body the class as it was."""
        client = self.make(addresses)
        try:
            yield client
        finally:
            self.put_back(client)

    def make(self, addresses):
        if self.way != "subclass":
            if self.way == "class":
                self.replace_on_class()
            client = self.module.Client(addresses, **OPTIONS)
            if self.way == "instance":
                self.replace_on_instances(client)
            return client
        mine = self.mine = type("Mine", (self.kind,), {self.name: self.replacement()})
        if not self.is_of_hosts:
            return mine(addresses, **OPTIONS)
        client = self.module.Client([], **OPTIONS)
        client.servers = [mine(address, debug=1) for address in addresses]
        client.buckets = list(client.servers)
        return client

    def replace_on_class(self):
        self.own = vars(self.kind)[self.name]
        setattr(self.kind, self.name, self.replacement())

    def replace_on_instances(self, client):
        for one in client.servers if self.is_of_hosts else [client]:
            setattr(one, self.name, MethodType(self.replacement(), one))

    def put_back(self, client):
        if self.way == "class":
            setattr(self.kind, self.name, self.own)
        elif self.way == "instance":
            for one in client.servers if self.is_of_hosts else [client]:
                vars(one).pop(self.name, None)
        else:
            delattr(self.mine, self.name)


@pytest.fixture(scope="module")
def server():
    with memcached("-t", "1", unix=True) as running:  # what was sent first is done first, on all connections
        yield running


@pytest.fixture(autouse=True)
def nothing_stays_replaced():
    before = [dict(vars(kind)) for kind in (memcache.Client, memcache._Host)]
    yield
    assert [dict(vars(kind)) for kind in (memcache.Client, memcache._Host)] == before


def end(client):
    """The server has read all that the client sent, on every connection."""
    client.get("a")
    for host in client.servers:
        if host.socket:
            host.send_cmd("version")
            host.readline()
    client.disconnect_all()


def counts(module, owner, name, way, server):
    """{call: how often the method was called while the client was made, by the first call, by the second}"""
    found = {}
    for call_name, call in CALLS.items():
        refill(server)
        counter = Counter(module, owner, name, way)
        with counter.client([server.address]) as client:
            numbers = [counter.count]
            for _ in range(2):
                before = counter.count
                with contextlib.suppress(TypeError if call_name == "get_slabs" else ()):
                    call(client)
                numbers.append(counter.count - before)
        end(client)
        found[call_name] = numbers
    return found


@pytest.mark.parametrize("owner, name, way", CASES)
def test_a_replaced_method_is_called_where_python_memcached_calls_it_and_as_often(owner, name, way, server):
    theirs = counts(oracle.load(), owner, name, way, server)
    ours = counts(memcache, owner, name, way, server)
    assert {call: list(map(bool, n)) for call, n in ours.items()} == {
        call: list(map(bool, n)) for call, n in theirs.items()
    }
    other = {call: (ours[call], theirs[call]) for call in CALLS if ours[call] != theirs[call]}
    assert [*other] == [call for call in CALLS if (owner, name, call) in EXCEPTIONS], other


# What nothing goes through


def called_by_others(kind):
    """Names of self's methods that the methods of a class call."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }


@functools.cache
def ends():
    """Methods of Client through which nothing else goes."""
    client = oracle.load().Client
    return sorted(set(methods(client)) - called_by_others(client) - set(SPECIAL))


def goes_the_way_in_c(client, key="a"):
    """No stream of a host in Python is opened by a call."""
    client.disconnect_all()
    assert client.get_multi([key]) == {key: "text"}
    client.touch(key, 100)
    return all(host.socket is None for host in client.servers)


def test_what_nothing_goes_through_is_the_public_api():
    assert {"get", "set", "get_multi", "set_multi", "delete_multi", "incr", "get_stats"} <= set(ends())
    assert not [name for name in ends() if name.startswith("_")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ends())
def test_a_replaced_method_through_which_nothing_goes_leaves_the_way_in_c(name, way, server):
    refill(server)
    with Counter(memcache, "Client", name, way).client([server.address]) as client:
        assert goes_the_way_in_c(client)


def test_a_client_that_replaces_an_inside_is_seen_to_leave_the_way_in_c(server):
    refill(server)
    with Counter(memcache, "Client", "_get_server", "instance").client([server.address]) as client:
        assert not goes_the_way_in_c(client)


# Noticed at the next call


@functools.cache
def triggers(owner, name, path):
    """The calls in which python-memcached calls a method."""
    server = type("Server", (), {"address": f"unix:{path}", "path": path})
    found = counts(oracle.load(), owner, name, "class", server)
    return [call for call, numbers in found.items() if numbers[2] > 0]


@pytest.mark.parametrize("owner, name, way", [case for case in CASES if case[2] != "subclass"])
def test_a_replacement_is_noticed_at_the_next_call_and_its_end_too(owner, name, way, server):
    for call_name in triggers(owner, name, server.path)[:3]:
        call = CALLS[call_name]
        refill(server)
        expected = memcache.Client([server.address], **OPTIONS)
        results = [call(expected) for _ in range(3)]
        refill(server)
        client = memcache.Client([server.address], **OPTIONS)
        counter = Counter(memcache, owner, name, way)
        found = [call(client)]
        if way == "class":
            counter.replace_on_class()
        else:
            counter.replace_on_instances(client)
        try:
            found.append(call(client))
        finally:
            counter.put_back(client)
        count = counter.count
        assert count > 0, call_name
        found.append(call(client))
        assert counter.count == count, call_name
        assert found == results, call_name
        client.forget_dead_hosts()
        if not client.servers or call_name == "set_servers to others":
            continue
        end(client)
        refill(server)
        assert goes_the_way_in_c(client)


@pytest.mark.parametrize("owner, name", sorted({case[:2] for case in CASES if case[1] not in SPECIAL}))
def test_a_subclass_is_changed_while_it_is_in_use(owner, name, server):
    """The same for a subclass of the application, whose method comes later and goes again."""
    call_name = (triggers(owner, name, server.path) or [None])[0]
    if call_name in (None, "set_servers to others"):
        return
    call = CALLS[call_name]
    counter = Counter(memcache, owner, name, "subclass")
    mine = type("Mine", (counter.kind,), {})
    refill(server)
    if owner == "Client":
        client = mine([server.address], **OPTIONS)
    else:
        client = memcache.Client([], **OPTIONS)
        client.servers = [mine(server.address, debug=1)]
        client.buckets = list(client.servers)
    call(client)
    setattr(mine, name, counter.replacement())
    call(client)
    count = counter.count
    assert count > 0, call_name
    delattr(mine, name)
    call(client)
    assert counter.count == count, call_name
