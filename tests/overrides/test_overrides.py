"""Overriding and patching: what replaces a method of Client or of _Host, in any way, is what the rest goes through.

Where python-memcached calls a method on its way, an override of it must see the same calls with the same arguments:
both modules are asked, and the records compared.
"""

import inspect
import socket
import threading
import time
from types import MethodType, SimpleNamespace
from unittest import mock

import oracle
import pytest
from scripted_server import CLOSE, STALL, ScriptedServer

import memcache
from mcext.testing import memcached

PUBLIC = {
    "set": lambda c: c.set("a", "1", 0, 5),
    "add": lambda c: c.add("new", "1", time=100),
    "replace": lambda c: c.replace("a", [1]),
    "append": lambda c: c.append("a", "1"),
    "prepend": lambda c: c.prepend("a", "1", 0, 5),
    "cas": lambda c: (c.gets("a"), c.cas("a", 5)),
    "cas without token": lambda c: c.cas("new", 5),
    "get": lambda c: c.get("a"),
    "get of a miss": lambda c: c.get("missing", "default"),
    "get of a tuple": lambda c: c.get((7, "a")),
    "gets": lambda c: c.gets("a"),
    "get_multi": lambda c: c.get_multi(["a", 7, (3, "b"), "missing"], key_prefix=""),
    "get_multi with prefix": lambda c: c.get_multi(["1", "2"], "p"),
    "set_multi": lambda c: c.set_multi({"a": 1, 7: "x", (1, "b"): [2]}, 100, "p", 5),
    "delete": lambda c: c.delete("a"),
    "delete of a miss": lambda c: c.delete("missing"),
    "delete_multi": lambda c: c.delete_multi(["a", 7]),
    "touch": lambda c: c.touch("a", 100),
    "incr": lambda c: c.incr("7", 5),
    "decr": lambda c: c.decr("7"),
    "incr of a miss": lambda c: c.incr("missing"),
    "flush_all": lambda c: c.flush_all(),
    "get_stats": lambda c: [name for name, _ in c.get_stats()],
    "get_slab_stats": lambda c: [name for name, _ in c.get_slab_stats()],
    "set_servers": lambda c: c.set_servers([]),
    "reset_cas": lambda c: c.reset_cas(),
    "disconnect_all": lambda c: c.disconnect_all(),
    "quit_all": lambda c: c.quit_all(),
    "forget_dead_hosts": lambda c: c.forget_dead_hosts(),
    "debuglog": lambda c: c.debuglog("a line"),
    "check_key": lambda c: c.check_key(b"a", 5),
}
CLIENT_METHODS = [
    "set add replace append prepend cas get gets get_multi set_multi delete delete_multi touch incr decr flush_all",
    "get_stats get_slab_stats get_slabs quit_all disconnect_all forget_dead_hosts set_servers reset_cas check_key",
    "debuglog _get_server _set _get _val_to_store_info _recv_value _incrdecr _statlog _map_and_prefix_keys",
    "_init_buckets",
]
CLIENT_METHODS = " ".join(CLIENT_METHODS).split()
HOST_METHODS = ["connect", "send_cmd", "readline", "recv", "mark_dead", "close_socket", "send_cmds", "expect"]
WAYS = ["subclass", "class", "instance", "subclass later"]


@pytest.fixture(scope="module")
def unix_server():
    with memcached("-t", "1", unix=True) as server:  # what was sent first is done first, on all connections
        yield server


def refill(server):
    """Empty a real memcached but for what the calls above are about."""
    stored = [(b"a", 16, b"text"), (b"7", 2, b"10"), (b"b", 0, b"b"), (b"p1", 0, b"1"), (b"p2", 0, b"2")]
    request = b"flush_all\r\n"
    for key, flags, value in stored:
        request += b"set %s %d 0 %d\r\n%s\r\n" % (key, flags, len(value), value)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server.path)
        connection.sendall(request + b"version\r\n")
        reply = b""
        while b"VERSION" not in reply:
            reply += connection.recv(4096)
    assert reply.count(b"STORED") == len(stored)


@pytest.fixture
def server(unix_server):
    refill(unix_server)
    return unix_server


def plain(value, client):
    """An argument in a form that can be compared between the two modules."""
    for number, host in enumerate(client.servers):
        if value is host:
            return f"server {number}"
    if isinstance(value, (list, tuple)):
        return [plain(one, client) for one in value]
    return [plain(one, client) for one in value] if isinstance(value, type({}.keys())) else value


class Recorder:
    """Replaces one method of Client in one way, passes calls on, and notes them with all their arguments."""

    def __init__(self, module, name, way, monkeypatch):
        self.calls = []
        self.module = module
        self.name = name
        self.way = way
        self.monkeypatch = monkeypatch
        self.signature = inspect.signature(getattr(oracle.load().Client, name))

    def note(self, client, arguments, options):
        bound = self.signature.bind(client, *arguments, **options)
        bound.apply_defaults()
        known = client if "servers" in dir(client) else mock.Mock(servers=[])
        self.calls.append([plain(value, known) for value in list(bound.arguments.values())[1:]])

    def replacement(self, original):
        def replacement(client, *arguments, **options):
            self.note(client, arguments, options)
            return original(client, *arguments, **options)

        return replacement

    def client(self, *arguments, **options):
        base = self.module.Client
        replacement = self.replacement(getattr(base, self.name))
        if self.way == "class":
            self.monkeypatch.setattr(base, self.name, replacement)
            client = base(*arguments, **options)
        elif self.way == "subclass":
            client = type("Mine", (base,), {self.name: replacement})(*arguments, **options)
        elif self.way == "subclass later":
            kind = type("Mine", (base,), {})
            client = kind(*arguments, **options)
            setattr(kind, self.name, replacement)
        else:
            client = base(*arguments, **options)
            setattr(client, self.name, MethodType(replacement, client))
        self.calls.clear()
        return client


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CLIENT_METHODS)
def test_a_replaced_method_sees_the_calls_that_python_memcached_makes_to_it(name, way, server, monkeypatch):
    for call_name, call in PUBLIC.items():
        records = []
        for module in (oracle.load(), memcache):
            refill(server)
            recorder = Recorder(module, name, way, monkeypatch)
            client = recorder.client([server.address], debug=0, cache_cas=True)
            result = call(client)
            records.append((recorder.calls, result))
            client.disconnect_all()
            monkeypatch.undo()
        assert records[1] == records[0], call_name


@pytest.mark.parametrize("name", ["set_servers", "_init_buckets", "reset_cas"])
@pytest.mark.parametrize("way", ["subclass", "class"])
def test_the_constructor_goes_through_overrides(name, way, server, monkeypatch):
    for module in (oracle.load(), memcache):
        calls = []

        original = getattr(module.Client, name)

        def replacement(self, *arguments, calls=calls, original=original):
            calls.append(arguments)
            return original(self, *arguments)

        if way == "class":
            monkeypatch.setattr(module.Client, name, replacement)
            module.Client([server.address])
        else:
            type("Mine", (module.Client,), {name: replacement})([server.address])
        assert calls == [([server.address],) if name == "set_servers" else ()]


@pytest.mark.parametrize("way", WAYS)
def test_the_debuglog_override_gets_the_lines(way, server, monkeypatch):
    records = []
    for module in (oracle.load(), memcache):
        refill(server)
        recorder = Recorder(module, "debuglog", way, monkeypatch)
        client = recorder.client([server.address], debug=1)
        client.delete("missing")
        client.touch("missing")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(server.path)
            connection.sendall(b"set bad 1 0 1\r\nx\r\n")
            assert connection.recv(100) == b"STORED\r\n"
        assert client.get("bad") is None
        assert client.get_multi(["bad"]) == {"bad": None}
        records.append(recorder.calls)
        monkeypatch.undo()
    assert len(records[0]) == 4
    assert [line[:2] for line in records[1][:2]] == [line[:2] for line in records[0][:2]]
    assert len(records[1]) == 4


# What an override answers, counts


def first(client):
    """The first host, connected as _get_server has to hand it out."""
    assert client.servers[0].connect()
    return client.servers[0]


def replace(way, monkeypatch, server, **methods):
    """A client with these methods (functions of self) replaced in one way."""
    base = memcache.Client
    if way == "subclass":
        return type("Mine", (base,), methods)([server.address])
    if way == "class":
        for name, function in methods.items():
            monkeypatch.setattr(base, name, function)
        return base([server.address])
    client = base([server.address])
    for name, function in methods.items():
        if way == "subclass later":
            client = type("Mine", (base,), {})([server.address])
            setattr(type(client), name, function)
        else:
            setattr(client, name, MethodType(function, client))
    return client


@pytest.mark.parametrize("way", WAYS)
def test_an_override_of_get_server_chooses_the_server_and_the_key(way, server, monkeypatch):
    client = replace(way, monkeypatch, server, _get_server=lambda self, key: (first(self), b"b"))
    assert client.get("a") == b"b"
    assert client.get("missing") == b"b"
    assert client.set("a", b"new") is True
    assert client.gets("a") == b"new"
    assert client.delete("a") == 1
    assert client.get_multi(["a"]) == {}
    assert memcache.Client([server.address])._get("get", "b") is None if way != "class" else True


@pytest.mark.parametrize("way", WAYS)
def test_an_override_of_get_server_that_finds_none(way, server, monkeypatch):
    client = replace(way, monkeypatch, server, _get_server=lambda self, key: (None, None))
    assert client.get("a", "default") == "default"
    assert (client.set("a", 1), client.delete("a"), client.touch("a")) == (0, 0, 0)
    assert client.incr("a") is None
    assert client.get_multi(["a", "b"]) == {}
    assert client.set_multi({"a": 1}) == ["a"]
    assert client.delete_multi(["a"]) == 0
    assert client.stats == {"get_multi": 1, "set_multi": 1, "delete_multi": 1}


@pytest.mark.parametrize("way", WAYS)
def test_an_override_of_val_to_store_info_makes_what_is_stored(way, server, monkeypatch):
    client = replace(way, monkeypatch, server, _val_to_store_info=lambda self, val, length: (0, 4, b"mine"))
    assert client.set("a", object()) is True
    assert client.get("a") == b"mine"
    assert client.append("a", 5) is True
    assert client.get("a") == b"minemine"
    assert client.set_multi({"b": 1, "c": 2}) == []
    assert client.get_multi(["b", "c"]) == {"b": b"mine", "c": b"mine"}


@pytest.mark.parametrize("way", WAYS)
def test_an_override_of_val_to_store_info_can_refuse(way, server, monkeypatch):
    client = replace(way, monkeypatch, server, _val_to_store_info=lambda self, val, length: 0)
    assert client.set("a", "new") == 0
    assert client.set_multi({"b": 1}) == ["b"]
    assert client.get("a") == "text"


@pytest.mark.parametrize("way", WAYS)
def test_an_override_of_recv_value_reads_the_connection_of_the_call(way, server, monkeypatch):
    seen = []

    def recv_value(self, server, flags, rlen):
        seen.append((server is self.servers[0], flags, rlen))
        return "read " + server.recv(rlen + 2)[:-2].decode()

    client = replace(way, monkeypatch, server, _recv_value=recv_value)
    assert client.get("a") == "read text"
    assert client.gets("b") == "read b"
    assert client.get_multi(["a", "7", "missing"]) == {"a": "read text", "7": "read 10"}
    assert client.get("missing") is None
    assert client.get("a") == "read text"
    assert seen == [(True, 16, 4), (True, 0, 1), (True, 16, 4), (True, 2, 2), (True, 16, 4)]


@pytest.mark.parametrize("way", WAYS)
def test_an_override_of_recv_value_that_raises_leaves_no_reply_behind(way, server, monkeypatch):
    class Odd(Exception):
        pass

    def recv_value(self, server, flags, rlen):
        if flags == 16:
            raise Odd
        return server.recv(rlen + 2)[:-2]

    client = replace(way, monkeypatch, server, _recv_value=recv_value)
    for call in (lambda: client.get("a"), lambda: client.get_multi(["a", "b"]), lambda: client.gets("a")):
        with pytest.raises(Odd):
            call()
        assert client.get("b") == b"b"
        assert client.get("7") == b"10"
    assert client.servers[0].deaduntil == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", [CLOSE, STALL])
def test_a_value_that_is_cut_or_late_under_an_override_of_recv_value_is_a_miss(way, end, monkeypatch):
    def script(command, number):
        if command == b"get b a\r\n":
            return (b"VALUE b 0 1\r\nb\r\nVALUE a 0 5\r\nab", end)
        return (b"VALUE a 0 5%s\r\nab" % (b" 7" if command.startswith(b"gets") else b""), end)

    recorder = Recorder(memcache, "_recv_value", way, monkeypatch)
    with ScriptedServer(script) as server:
        client = recorder.client([server.address], socket_timeout=2 if end is STALL else 20)
        for call, expected in [
            (lambda: client.get("a", "default"), "default"),
            (lambda: client.gets("a"), None),
            (lambda: client.get_multi(["a"]), {}),
            (lambda: client.get_multi(["b", "a"]), {"b": b"b"}),
        ]:
            before = len(server.connections)
            assert call() == expected
            assert len(server.connections) == before + 1
            assert (client.servers[0].deaduntil > 0) is (end is STALL)
            client.forget_dead_hosts()
    assert len(recorder.calls) == 5


@pytest.mark.parametrize("way", WAYS)
def test_overrides_of_get_set_and_incrdecr_answer(way, server, monkeypatch):
    client = replace(way, monkeypatch, server, _get=lambda self, cmd, key, default=None: (cmd, key, default))
    assert client.get("a", 5) == ("get", "a", 5)
    assert client.gets((1, "a")) == ("gets", (1, "a"), None)

    def own_set(self, cmd, key, val, time, min_compress_len=0, noreply=False):
        return (cmd, key, val, time, min_compress_len, noreply)

    monkeypatch.undo()
    client = replace(way, monkeypatch, server, _set=own_set)
    assert client.set("a", 1, 2, 3, True) == ("set", "a", 1, 2, 3, True)
    for name in ("add", "replace", "append", "prepend", "cas"):
        assert getattr(client, name)("a", 1, time=7) == (name, "a", 1, 7, 0, False)
    monkeypatch.undo()
    client = replace(way, monkeypatch, server, _incrdecr=lambda self, cmd, key, delta, noreply=False: (cmd, key, delta))
    assert (client.incr("a"), client.decr("a", 5)) == (("incr", "a", 1), ("decr", "a", 5))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("noreply", [False, True])
def test_keys_without_a_server_are_told_under_an_override_of_map_and_prefix_keys(way, noreply, server, monkeypatch):
    recorder = Recorder(memcache, "_map_and_prefix_keys", way, monkeypatch)
    client = recorder.client([server.address])
    none = recorder.client([])
    keys = ["a", b"a", "a", 7, (3, "b")]
    mapping = dict.fromkeys(keys, 1)
    for one, expected in ((client, []), (none, list(mapping))):
        assert one.set_multi(mapping, noreply=noreply) == expected
        assert one.delete_multi(iter(keys), noreply=noreply) == (one is client)
    client.servers[0].mark_dead("test")
    assert client.set_multi({"a": 1}, noreply=noreply) == ["a"]
    assert client.delete_multi(["a"], noreply=noreply) == 0
    assert client.get_multi(key for key in keys) == {}


@pytest.mark.parametrize("way", WAYS)
def test_an_override_of_map_and_prefix_keys_maps(way, server, monkeypatch):
    def mapped(self, keys, prefix):
        names = {b"p" + key.encode(): key.upper() for key in keys}
        return {first(self): list(names)}, names

    client = replace(way, monkeypatch, server, _map_and_prefix_keys=mapped)
    assert client.get_multi(["1", "2", "a"]) == {"1": b"1", "2": b"2"}
    assert client.delete_multi(["1"]) == 1
    assert client.get_multi(["1", "2"]) == {"2": b"2"}


@pytest.mark.parametrize("way", ["subclass", "class"])
def test_an_override_of_init_buckets_fills_the_buckets(way, server, monkeypatch):
    """As python-memcached's own does: an empty list is assigned first, and then appended to."""

    def init_buckets(self):
        self.buckets = []
        for host in self.servers:
            for _ in range(host.weight + 1):
                self.buckets.append(host)

    client = replace(way, monkeypatch, server, _init_buckets=init_buckets)
    assert client.buckets == client.servers * 2
    assert client.get("a") == "text"
    assert client.get_multi(["a", "b"]) == {"a": "text", "b": b"b"}
    client.set_servers([(server.address, 3)])
    assert client.buckets == client.servers * 4
    assert client.set("a", "new") is True
    assert client.get("a") == "new"


@pytest.mark.parametrize("module", [oracle.load(), memcache])
def test_a_host_appended_to_servers_is_used_after_init_buckets(module, server):
    client = module.Client([])
    client.servers.append(module._Host(server.address))
    client._init_buckets()
    assert client.buckets == client.servers
    assert client.get("a") == "text"
    assert client.get_multi(["a"]) == {"a": "text"}
    assert [name for name, _ in client.get_stats()] == [f"unix:{server.path} (1)"]


@pytest.mark.parametrize("way", WAYS)
def test_an_override_of_deletetouch_deletes_and_touches(way, server, monkeypatch):
    """As in python-memcached 1.59, where `delete_multi` goes its own way too."""
    seen = []
    original = memcache.Client._deletetouch

    def deletetouch(self, *arguments):
        seen.append(arguments)
        return original(self, *arguments)

    client = replace(way, monkeypatch, server, _deletetouch=deletetouch)
    assert (client.touch("a", 100), client.delete((1, "a")), client.delete("a", noreply=True)) == (1, 1, 1)
    assert seen == [
        ([b"TOUCHED"], "touch", "a", 100, False),
        ([b"DELETED"], "delete", (1, "a"), 0, False),
        ([b"DELETED"], "delete", "a", 0, True),
    ]
    assert client.delete_multi(["b"]) == 1
    assert client.get_multi(["a", "b"]) == {}


def test_what_map_and_prefix_keys_returned_may_change_while_it_is_read(server, monkeypatch):
    class Keys(list):
        def __getitem__(self, number):
            answer.clear()
            [Keys() for _ in range(100)]  # takes the memory of what is freed by now
            return super().__getitem__(number)

    answer = {}

    def mapped(self, keys, prefix):
        answer[first(self)] = Keys([b"p1", b"p2"])
        return answer, {b"p1": "1", b"p2": "2"}

    client = replace("subclass", monkeypatch, server, _map_and_prefix_keys=mapped)
    assert client.get_multi(["1", "2"]) == {"1": b"1", "2": b"2"}


def test_a_mapping_of_keys_that_raises_is_told(server, monkeypatch):
    class Sizes(list):
        def __len__(self):
            raise KeyboardInterrupt

    client = replace("subclass", monkeypatch, server, _map_and_prefix_keys=lambda *_: ({1: Sizes(), 2: [b"a"]}, {}))
    with pytest.raises(KeyboardInterrupt):
        client.get_multi(["1"])


@pytest.mark.parametrize("way", WAYS)
def test_an_override_of_check_key_checks(way, server, monkeypatch):
    class Refused(Exception):
        pass

    def check_key(self, key, key_extra_len=0):
        if b"a" in (key[1] if isinstance(key, tuple) else key):
            raise Refused

    client = replace(way, monkeypatch, server, check_key=check_key)
    for call in (
        lambda: client.get("a"),
        lambda: client.set((1, "a"), 1),
        lambda: client.delete("a"),
        lambda: client.get_multi(["b", "a"]),
        lambda: client.set_multi({"b": 1, "a": 1}),
        lambda: client.delete_multi(["b"], key_prefix="a"),
    ):
        with pytest.raises(Refused):
            call()
    assert client.get("b") == b"b"
    assert client.get("k" * 251) is None
    client.do_check_key = False
    assert client.get("a") == "text"


@pytest.mark.parametrize("way", WAYS)
def test_an_override_of_statlog_counts(way, server, monkeypatch):
    seen = []
    client = replace(way, monkeypatch, server, _statlog=lambda self, word: seen.append(word))
    client.get("a")
    client.get_multi(["a"])
    client.cas("a", 1)
    client.delete("a")
    assert seen == ["get", "get_multi", "cas", "set", "delete"]
    assert client.stats == {}


@pytest.mark.parametrize("way", WAYS)
def test_a_method_put_back_is_no_longer_called(way, server, monkeypatch):
    seen = []

    def get_server(self, key):
        seen.append(key)
        return first(self), key

    client = replace(way, monkeypatch, server, _get_server=get_server)
    assert client.get("a") == "text"
    assert seen == [b"a"]
    if way == "class":
        monkeypatch.undo()
    elif way == "instance":
        del client._get_server
    else:
        del type(client)._get_server
    assert client.get("a") == "text"
    assert client.get_multi(["a"]) == {"a": "text"}
    assert seen == [b"a"]


def set_past_ours(self, name, value):
    threading.local.__setattr__(self, name, value)


def set_into_the_dict(self, name, value):
    self.__dict__[name] = value


def set_with_super(self, name, value):
    super(type(self), self).__setattr__(name, value)


@pytest.mark.parametrize("setter", [set_past_ours, set_into_the_dict, set_with_super])
def test_a_method_is_replaced_on_an_instance_whose_class_sets_attributes_its_own_way(setter, server):
    kind = type("Mine", (memcache.Client,), {"__setattr__": setter})
    client = kind([server.address])
    assert client.get("a") == "text"
    seen = []
    client._get_server = lambda key: seen.append(key) or (None, None)
    assert client.get("a", "none") == "none"
    assert client.set("b", b"new") == 0
    assert client.get_multi(["a"]) == {}
    assert seen == [b"a", b"b", b"a"]
    del client._get_server
    client.check_key = lambda key, extra=0: seen.append(key)
    assert client.get("a") == "text"
    assert seen[3:] == [b"a"]
    del client.check_key
    kind.__setattr__ = memcache.Client.__setattr__
    client.check_key = lambda key, extra=0: seen.append(key)
    assert client.get("a") == "text"
    assert seen[3:] == [b"a", b"a"]


@pytest.mark.parametrize("name", CLIENT_METHODS)
def test_mock_patch_object_works_for_every_method_of_a_client(name, server):
    client = memcache.Client([server.address])
    original = getattr(memcache.Client, name)
    with mock.patch.object(memcache.Client, name, return_value="mocked") as patched:
        assert getattr(client, name)("a") == "mocked"
        patched.assert_called_once_with("a")
    assert getattr(memcache.Client, name) is original or getattr(memcache.Client, name) == original
    with mock.patch.object(client, name, return_value="mocked") as patched:
        assert getattr(client, name)("a", "b") == "mocked"
        patched.assert_called_once_with("a", "b")
    with mock.patch.object(memcache.Client, name, autospec=True):
        pass
    with mock.patch.object(client, name, autospec=True):
        pass
    assert client.set("a", 5) is True and client.get("a") == 5


@pytest.mark.parametrize("name", HOST_METHODS)
def test_mock_patch_object_works_for_every_method_of_a_host(name, server):
    client = memcache.Client([server.address])
    host = client.servers[0]
    with mock.patch.object(memcache._Host, name, return_value="mocked") as patched:
        assert getattr(host, name)(5) == "mocked"
        patched.assert_called_once_with(5)
    with mock.patch.object(host, name, return_value="mocked"):
        assert getattr(host, name)() == "mocked"
    with mock.patch.object(memcache._Host, name, autospec=True):
        pass
    with mock.patch.object(host, name, autospec=True):
        pass
    assert client.set("a", 5) is True and client.get("a") == 5


def test_autospec_of_the_whole_class_works(server):
    spec = mock.create_autospec(memcache.Client)
    client = spec([server.address])
    client.get.return_value = "mocked"
    assert client.get("a") == "mocked"
    with mock.patch("memcache.Client", autospec=True) as patched:
        memcache.Client([server.address]).set("a", 1)
        patched.return_value.set.assert_called_once_with("a", 1)
    assert memcache.Client([server.address]).set("a", 5) is True


# _Host


def patched_host(client, name, way, monkeypatch, function):
    """Replace a method of the client's host: function(original, host, *arguments)."""
    host = client.servers[0]
    original = getattr(type(host), name)

    def replacement(self, *arguments, **options):
        return function(original, self, *arguments, **options)

    if way == "class":
        monkeypatch.setattr(memcache._Host, name, replacement)
    else:
        setattr(host, name, MethodType(replacement, host))


HOST_WAYS = ["class", "instance"]
HOST_CALLS = {name: PUBLIC[name] for name in PUBLIC if name not in (
    "set_servers", "reset_cas", "disconnect_all", "quit_all", "forget_dead_hosts", "debuglog", "check_key"
)}  # fmt: skip


@pytest.mark.parametrize("way", HOST_WAYS)
@pytest.mark.parametrize("method", ["connect", "send_cmd", "readline", "recv"])
@pytest.mark.parametrize("name", HOST_CALLS)
def test_calls_go_through_a_replaced_method_of_a_host(name, method, way, server, monkeypatch):
    expected = PUBLIC[name](memcache.Client([server.address], cache_cas=True))
    theirs = []
    refill(server)
    client = oracle.load().Client([server.address], cache_cas=True)
    host = client.servers[0]
    original = getattr(host, method)
    setattr(host, method, lambda *arguments: (theirs.append(arguments), original(*arguments))[1])
    assert PUBLIC[name](client) == expected
    refill(server)
    ours = []

    def function(original, host, *arguments, **options):
        ours.append(arguments)
        return original(host, *arguments, **options)

    client = memcache.Client([server.address], cache_cas=True)
    patched_host(client, method, way, monkeypatch, function)
    assert PUBLIC[name](client) == expected
    # expect() and recv() are one another's business: what counts is that nothing passes by.
    assert bool(ours) == bool(theirs) or method in ("readline", "recv")
    if method == "send_cmd" and "multi" not in name:

        def words(calls):
            found = [(command.encode() if isinstance(command, str) else command).split() for (command,) in calls]
            return [command[:5] + command[6:] if command[0] == b"cas" else command for command in found]

        assert words(ours) == words(theirs)
    client.disconnect_all()


def test_a_host_that_cannot_be_told_from_others_as_it_comes_back_from_the_dead(server):
    class Host(memcache._Host):
        def __hash__(self):
            return 1 // self.whole

    client = memcache.Client([server.address])
    host = Host(server.address)
    host.whole = 0
    client.servers = client.buckets = [host]
    host.readline = host.readline
    host.deaduntil = 1
    with pytest.raises(ZeroDivisionError):
        client.set_multi({"a": b"v"})
    host.whole = 1
    assert client.set("a", b"v") is True
    assert host.deaduntil == 0


@pytest.mark.parametrize("method", ["send_cmd", "readline", "recv"])
def test_an_empty_value_comes_through_a_replaced_method_of_a_host(method, server, monkeypatch):
    client = memcache.Client([server.address])
    patched_host(
        client, method, HOST_WAYS[0], monkeypatch, lambda original, host, *arguments: original(host, *arguments)
    )
    assert client.set("a", b"") is True
    assert client.get("a", "none") == b""
    assert client.get_multi(["a", "b"]) == {"a": b"", "b": b"b"}
    client.disconnect_all()


@pytest.mark.parametrize("way", HOST_WAYS)
def test_a_host_whose_connect_says_no_is_passed_over(way, server, monkeypatch):
    client = memcache.Client([server.address])
    patched_host(client, "connect", way, monkeypatch, lambda original, host: 0)
    assert client.get("a", "default") == "default"
    assert client.get_multi(["a"]) == {}
    assert client.set("a", 1) == 0
    assert client.get_stats() == []
    assert client.servers[0].deaduntil == 0


@pytest.mark.parametrize("way", HOST_WAYS)
def test_a_replaced_send_cmd_can_change_what_is_sent(way, server, monkeypatch):
    client = memcache.Client([server.address])
    patched_host(
        client, "send_cmd", way, monkeypatch,
        lambda original, host, command: original(host, command.replace(b"get missing", b"get a")),
    )  # fmt: skip
    # The reply is for another key than the one asked for: that is no answer.
    assert client.get("missing") is None
    assert client.get("b") == b"b"
    assert client.get_multi(["7"]) == {"7": 10}


@pytest.mark.parametrize("way", HOST_WAYS)
def test_replaced_send_cmd_and_readline_need_no_server(way, monkeypatch):
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        sent = []
        lines = [b"END", b"STORED", b"NOT_FOUND", b"TOUCHED", b"7", b"NOT_STORED"]
        patched_host(client, "send_cmd", way, monkeypatch, lambda original, host, command: sent.append(command))
        patched_host(client, "readline", way, monkeypatch, lambda original, host, raise_exception=False: lines.pop(0))
        assert client.get("a", "default") == "default"
        assert client.set("a", b"1") is True
        assert client.delete("a") == 0
        assert client.touch("a") == 1
        assert client.incr("a") == 7
        assert client.add("a", b"1") is False
        assert [command.split()[:2] for command in sent] == [
            [word, b"a"] for word in (b"get", b"set", b"delete", b"touch", b"incr", b"add")
        ]
        assert server.received == b""


def test_mocks_on_the_host_as_python_memcacheds_tests_have_them(server, capsys):
    client = memcache.Client([server.address], debug=1)
    with mock.patch.object(memcache._Host, "send_cmd") as send, mock.patch.object(memcache._Host, "readline") as read:
        read.return_value = "SET"
        assert client.touch("key") == 0
        send.assert_called_once_with(b"touch key 0")
        read.assert_called_once_with()
    assert capsys.readouterr().err == "MemCached: touch expected TOUCHED, got: 'SET'\n"
    assert client.get("a") == "text"


@pytest.mark.parametrize("way", HOST_WAYS)
def test_a_replaced_readline_sees_every_line(way, server, monkeypatch):
    seen = []

    def readline(original, host, raise_exception=False):
        line = original(host, raise_exception)
        seen.append(line)
        return line

    client = memcache.Client([server.address])
    patched_host(client, "readline", way, monkeypatch, readline)
    assert client.get("a") == "text"
    assert client.get_multi(["7", "missing"]) == {"7": 10}
    assert client.set("a", b"1") is True
    assert seen == [b"VALUE a 16 4", b"END", b"VALUE 7 2 2", b"END", b"STORED"]


@pytest.mark.parametrize("way", HOST_WAYS)
def test_a_replaced_recv_delivers_the_value(way, server, monkeypatch):
    client = memcache.Client([server.address])
    patched_host(client, "recv", way, monkeypatch, lambda original, host, size: original(host, size).upper())
    assert client.get("a") == "TEXT"
    assert client.get_multi(["a", "b"]) == {"a": "TEXT", "b": b"B"}
    assert client.gets("b") == b"B"


@pytest.mark.parametrize("way", HOST_WAYS)
def test_a_replaced_host_method_that_raises_leaves_no_reply_behind(way, server, monkeypatch):
    class Odd(Exception):
        pass

    client = memcache.Client([server.address])
    for method in ("readline", "recv", "send_cmd"):
        armed = [True]

        def function(original, host, *arguments, armed=armed):
            if armed[0]:
                raise Odd
            return original(host, *arguments)

        patched_host(client, method, way, monkeypatch, function)
        with pytest.raises(Odd):
            client.get("a")
        with pytest.raises(Odd):
            client.get_multi(["a", "b"])
        armed[0] = False
        assert client.get("b") == b"b"
        assert client.get_multi(["a", "7"]) == {"a": "text", "7": 10}


@pytest.mark.parametrize("way", HOST_WAYS)
@pytest.mark.parametrize(
    "methods", [["readline"], ["recv"], ["readline", "recv"], ["close_socket", "send_cmd", "recv"]]
)
def test_a_hosts_methods_may_read_the_socket_and_keep_the_rest_in_buffer(methods, way, server, monkeypatch):
    """As python-memcached's own do, which are put in place of ours here."""
    for name, call in HOST_CALLS.items():
        refill(server)
        expected = call(memcache.Client([server.address], cache_cas=True))
        refill(server)
        client = memcache.Client([server.address], cache_cas=True)
        for method in methods:
            theirs = getattr(oracle.load()._Host, method)
            patched_host(
                client, method, way, monkeypatch, lambda original, *arguments, theirs=theirs: theirs(*arguments)
            )
        assert call(client) == expected, name
        assert client.get("a") == memcache.Client([server.address]).get("a"), name
        assert client.servers[0].deaduntil == 0
        client.disconnect_all()
        monkeypatch.undo()


@pytest.mark.parametrize("way", HOST_WAYS)
@pytest.mark.parametrize("error", [OSError("broken"), TimeoutError("slow")])
def test_an_oserror_from_a_replaced_host_method_is_a_miss(way, error, server, monkeypatch):
    def function(original, host, *arguments):
        raise error

    client = memcache.Client([server.address])
    patched_host(client, "send_cmd", way, monkeypatch, function)
    assert client.get("a", "default") in ("default", None)
    assert client.set("a", 1) == 0
    assert client.delete("a") == 0
    assert client.incr("a") is None
    assert client.get_multi(["a"]) == {}


@pytest.mark.parametrize("way", HOST_WAYS)
@pytest.mark.parametrize(
    "call, answer",
    [
        (lambda c: c.get("a"), b"EN"),
        (lambda c: c.set("a", 1), b"STORED\r"),
        (lambda c: c.delete("a"), b"D"),
        (lambda c: c.touch("a"), b"TOUCHE"),
        (lambda c: c.get_multi(["a"]), b"VALUE a 0 1"),
        (lambda c: c.set_multi({"a": 1}), b"STO"),
        (lambda c: c.delete_multi(["a"]), b"NOT_"),
        (lambda c: c.get_stats(), b"STAT"),
    ],
)
def test_nothing_is_asked_again_after_a_byte_of_the_reply_that_a_replaced_readline_met(call, answer, way, monkeypatch):
    with ScriptedServer(lambda command, number: (answer, CLOSE)) as server:
        client = memcache.Client([server.address])
        patched_host(client, "readline", way, monkeypatch, lambda original, host, *rest: original(host, *rest))
        assert call(client) in (None, 0, {}, [], ["a"])
        assert len(server.connections) == 1


@pytest.mark.parametrize("way", HOST_WAYS)
@pytest.mark.parametrize(
    "method, name", [("flush", "flush_all"), ("quit", "quit_all"), ("close_socket", "disconnect_all")]
)
@pytest.mark.parametrize("error", [ConnectionResetError("gone"), TimeoutError("slow")])
def test_an_oserror_from_a_replaced_method_ends_no_flush_quit_or_disconnect(method, name, error, way, monkeypatch):
    def function(original, host):
        raise error

    with ScriptedServer() as server, ScriptedServer() as other:
        client = memcache.Client([server.address, other.address])
        assert client.get_multi([(0, "a"), (1, "a")]) == {}
        patched_host(client, method, way, monkeypatch, function)
        assert getattr(client, name)() is None
        if name == "flush_all":
            assert (client.servers[0].deaduntil > 0) is isinstance(error, TimeoutError)
            assert (b"flush_all\r\n" in other.commands) is (way == "instance")
        else:
            server.wait_for(lambda s: s.connections[0].closed.is_set())
            other.wait_for(lambda s: s.connections[0].closed.is_set())


def test_methods_of_a_host_that_are_replaced_in_the_middle_of_a_call_carry_the_next_one():
    sent = []

    class Value:
        def __reduce__(self):
            host = client.servers[0]
            host.connect = lambda: 1
            host.send_cmds = sent.append
            host.readline = lambda *arguments: b"STORED"
            return (int, ())

    with ScriptedServer(lambda command, number: "close" if command.startswith(b"set") else None) as server:
        client = memcache.Client([server.address], socket_timeout=2)
        assert client.get("a") is None
        assert client.set_multi({"a": Value()}) == ["a"]
        assert sent == []
        assert client.set_multi({"a": Value()}) == []
    assert [one.split()[:2] for one in sent] == [[b"set", b"a"]]


def test_hosts_io_inside_an_override_is_the_connection_of_the_call():
    """A subclass that asks the server for something more within a call gets its answer on the same connection."""

    class Asks(memcache.Client):
        def _recv_value(self, server, flags, rlen):
            value = super()._recv_value(server, flags, rlen)
            assert server.readline() == b"END"
            server.send_cmd("version")
            self.version = server.readline()
            server.send_cmd("get other")
            return value

    with ScriptedServer(
        lambda command, number: b"VALUE a 0 1\r\nx\r\nEND\r\n" if command == b"get a\r\n" else None
    ) as server:
        client = Asks([server.address])
        assert client.get("a") == b"x"
        assert client.version == b"VERSION 1.6.18"
        assert [one.commands for one in server.connections] == [[b"get a\r\n", b"version\r\n", b"get other\r\n"]]


def test_a_bucket_that_is_no_host_is_asked_through_its_methods():
    """Any object with a host's methods will do, assigned to `buckets` or `servers`, with nothing else replaced."""

    class Server:
        lines = ()

        def __init__(self):
            self.sent = []

        def connect(self):
            return 1

        def send_cmd(self, command):
            self.sent.append(command)

        send_cmds = send_cmd

        def readline(self, raise_exception=False):
            return self.lines.pop(0)

        def expect(self, text, raise_exception=False):
            return self.readline(raise_exception)

        def recv(self, size):
            return b"x\r\n"

        def __str__(self):
            return "mine"

    client = memcache.Client(["127.0.0.1:1"])
    one = Server()
    client.servers = client.buckets = [one]
    one.lines = [b"VALUE a 0 1", b"END", b"VALUE a 0 1", b"END", b"STORED", b"STORED", b"STAT pid 1", b"END"]
    assert client.get("a") == b"x"
    assert client.get_multi(["a"]) == {"a": b"x"}
    assert client.set("a", "1") is True
    assert client.set_multi({"a": "1"}) == []
    assert client.get_stats() == [("mine", {"pid": "1"})]
    assert one.sent == [b"get a", b"get a", b"set a 16 0 1 \r\n1", b"set a 16 0 1 \r\n1\r\n", "stats"]


@pytest.mark.parametrize("what", ["recv", "readline", "close_socket"])
@pytest.mark.parametrize("where", ["unpickler", "debuglog", "cas_ids"])
def test_what_is_read_ahead_or_closed_in_the_middle_of_a_call_spoils_that_call_alone(where, what):
    """Python code that a call runs finds its connection by the host; what it does there the call may not believe."""
    does = {"recv": lambda host: host.recv(4), "readline": lambda host: host.readline()}

    def meet():
        if armed:
            armed.clear()
            does.get(what, lambda host: host.close_socket())(client.servers[0])

    class Chooses(memcache.Client):
        def _get_server(self, key):
            return super()._get_server(key)

        def debuglog(self, text):
            meet()

    class Unpickler:
        def __init__(self, file):
            pass

        def load(self):
            meet()
            return 1

    class Tokens(dict):
        def __setitem__(self, key, value):
            meet()
            super().__setitem__(key, value)

    flags = {"unpickler": 1, "debuglog": 2, "cas_ids": 0}[where]
    body = b"x" * 30

    def script(command, number):
        if command.startswith(b"gets "):
            return b"VALUE a 0 30 7\r\n" + body + b"\r\nEND\r\n"
        if command == b"get a b\r\n":
            return b"VALUE a %d 30\r\n%s\r\nVALUE b 0 30\r\n%s\r\nEND\r\n" % (flags, body, body)
        return b"VALUE " + command.split()[1] + b" 0 30\r\n" + body + b"\r\nEND\r\n"

    armed = []
    with ScriptedServer(script) as server:
        client = Chooses([server.address], unpickler=Unpickler, cache_cas=True, socket_timeout=2)
        client.cas_ids = Tokens()
        armed.append(1)
        if where == "cas_ids":
            assert client.gets("a") in (body, None)
        else:
            assert set(client.get_multi(["a", "b"])) <= {"a", "b"}
        assert not armed
        client.forget_dead_hosts()
        client.socket_timeout = 20
        for key in ("c", "d"):
            assert client.get(key) == body


def test_a_class_between_and_a_mixin_are_honoured(server):
    class Mixin:
        def _get_server(self, key):
            self.asked = getattr(self, "asked", 0) + 1
            return super()._get_server(key)

    class Between(memcache.Client):
        def get(self, key, default=None):
            return ("between", super().get(key, default))

    class Mine(Mixin, Between):
        def get_multi(self, keys, key_prefix=""):
            return {key: self.get(key) for key in keys}

    client = Mine([server.address])
    assert client.get("a") == ("between", "text")
    assert client.get_multi(["a", "b"]) == {"a": ("between", "text"), "b": ("between", b"b")}
    assert client.asked == 3


def test_options_given_by_a_subclass_as_properties_or_class_attributes_do_not_break_calls(server):
    class Mine(memcache.Client):
        extra = 5

        @property
        def described(self):
            return f"{len(self.servers)} servers"

    client = Mine([server.address])
    assert client.get("a") == "text"
    assert (client.extra, client.described) == (5, "1 servers")


def test_special_attributes_of_the_client_can_be_replaced_while_in_use(server):
    client = memcache.Client([server.address])
    seen = []
    client.key_encoder = lambda key: seen.append(key) or key
    assert client.get("a") == "text"
    assert seen == ["a"]
    client.decompressor = lambda data: b"decompressed"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server.path)
        connection.sendall(b"set z 8 0 1\r\nx\r\n")
        assert connection.recv(100) == b"STORED\r\n"
    assert client.get("z") == b"decompressed"


# The socket class


class FakeSocket:
    """What python-memcached's tests use: no settimeout, bytes from a list."""

    made = []
    chunks = ()

    def __init__(self, *arguments):
        self.arguments = arguments
        self.sent = []
        self.left = list(self.chunks)
        self.connected = None
        self.closed = False
        FakeSocket.made.append(self)

    def connect(self, address):
        self.connected = address

    def sendall(self, data):
        self.sent.append(bytes(data))

    def recv(self, size):
        return self.left.pop(0) if self.left else b""

    def close(self):
        self.closed = True


@pytest.mark.parametrize("where", ["socket", "memcache.socket"])
def test_a_replaced_socket_class_carries_all_io(where, monkeypatch):
    monkeypatch.setattr(FakeSocket, "made", [])
    monkeypatch.setattr(FakeSocket, "chunks", [b"VALUE a 0 5\r", b"\nval", b"ue\r\nEND\r\n", b"STORED\r\n"])
    if where == "socket":
        monkeypatch.setattr(socket, "socket", FakeSocket)
    else:
        monkeypatch.setattr(memcache, "socket", SimpleNamespace(**{**vars(socket), "socket": FakeSocket}))
    client = memcache.Client(["a.name.that.nobody.resolves:1234"])
    assert client.get("a") == b"value"
    assert client.set("a", b"x") is True
    (one,) = FakeSocket.made
    assert one.arguments[:2] == (socket.AF_INET, socket.SOCK_STREAM)
    assert one.connected == ("a.name.that.nobody.resolves", 1234)
    assert b"".join(one.sent).split() == [b"get", b"a", b"set", b"a", b"0", b"0", b"1", b"x"]
    client.disconnect_all()
    assert one.closed


def test_native_connections_from_before_a_replacement_are_not_used_after_it(server, monkeypatch):
    client = memcache.Client([server.address])
    assert client.get("a") == "text"
    monkeypatch.setattr(FakeSocket, "made", [])
    monkeypatch.setattr(FakeSocket, "chunks", [b"VALUE a 0 4\r\nfake\r\nEND\r\n"])
    monkeypatch.setattr(socket, "socket", FakeSocket)
    assert client.get("a") == b"fake"
    assert FakeSocket.made[0].connected == server.path
    monkeypatch.undo()
    assert client.get("a") == "text"


@pytest.mark.parametrize("where", ["sendall", "recv"])
@pytest.mark.parametrize("what", ["close_socket", "disconnect_all", "mark_dead", "readline", "recv", "send_cmd", "get"])
@pytest.mark.parametrize("way", ["plain", "customised"])
def test_what_a_sockets_own_methods_do_to_a_call_in_whose_middle_they_are_spoils_that_call_alone(
    way, what, where, monkeypatch
):
    """They close its stream, read from it, send on it, or call the client once more: the call is right or a miss."""

    class Chooses(memcache.Client):
        def _get_server(self, key):
            return super()._get_server(key)

    class Calls(FakeSocket):
        def meet(self, method):
            if method == where and armed:
                armed.clear()
                try:
                    does[what]()
                except (OSError, memcache._Error) as error:
                    assert "not connected" in str(error) or "Read" in str(error)

        def sendall(self, data):
            self.meet("sendall")
            super().sendall(data)
            key = data.split()[1]
            self.left.append(b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (key, len(key), key))

        def recv(self, size):
            self.meet("recv")
            return super().recv(size)

    client = (Chooses if way == "customised" else memcache.Client)(["nowhere:1"])
    host = client.servers[0]
    armed = [1]
    does = {
        "close_socket": host.close_socket,
        "disconnect_all": client.disconnect_all,
        "mark_dead": lambda: host.mark_dead("test"),
        "readline": host.readline,
        "recv": lambda: host.recv(10),
        "send_cmd": lambda: host.send_cmd(b"get other"),
        "get": lambda: client.get("inner") == b"inner" or pytest.fail("another key's value"),
    }
    monkeypatch.setattr(FakeSocket, "made", [])
    monkeypatch.setattr(socket, "socket", Calls)
    assert client.get("outer") in (b"outer", None)
    assert not armed
    client.forget_dead_hosts()
    for key in ("a", "b", "c"):
        assert client.get(key) == key.encode()
    if what in ("disconnect_all", "mark_dead"):
        assert FakeSocket.made[0].closed


def test_a_subclass_of_the_real_socket_is_used(server, monkeypatch):
    sent = []

    class Watched(socket.socket):
        def sendall(self, data, *rest):
            sent.append(bytes(data))
            return super().sendall(data, *rest)

    monkeypatch.setattr(socket, "socket", Watched)
    client = memcache.Client([server.address])
    assert client.get("a") == "text"
    assert client.get_multi(["a", "b"]) == {"a": "text", "b": b"b"}
    assert client.set("a", b"x" * 100_000) is True
    assert client.get("a") == b"x" * 100_000
    assert b"".join(sent).startswith(b"get a\r\n")
    client.disconnect_all()


@pytest.mark.parametrize("error", [None, ConnectionResetError("gone"), TimeoutError("slow")])
def test_quit_all_says_quit_through_a_subclass_of_the_real_socket(error, monkeypatch):
    class Watched(socket.socket):
        def sendall(self, data, *rest):
            if data == b"quit\r\n" and error is not None:
                raise error
            return super().sendall(data, *rest)

    with ScriptedServer() as server:
        monkeypatch.setattr(memcache, "socket", SimpleNamespace(socket=Watched))
        client = memcache.Client([server.address])
        for _ in range(2):
            assert client.get("a") is None
            assert client.quit_all() is None
            server.wait_for(lambda s: s.connections[-1].closed.is_set())
            assert (b"quit\r\n" in server.connections[-1].commands) is (error is None)
        assert len(server.connections) == 2


def test_many_noreply_commands_go_through_a_subclass_of_the_real_socket(server, monkeypatch):
    class Other(socket.socket):
        pass

    monkeypatch.setattr(socket, "socket", Other)
    client = memcache.Client([server.address])
    values = {f"k{i}": b"%0999d" % i for i in range(1000)}
    assert client.set_multi(values, noreply=True) == []
    assert client.get_multi(values) == values
    client.disconnect_all()


# What tests patch in the module


def test_a_patched_clock_of_the_time_module_is_the_one_for_dead_marks(server):
    client = memcache.Client([server.address])
    client.servers[0].mark_dead("test")
    assert client.get("a") is None
    with mock.patch("memcache.time.time", return_value=time.time() + 100):
        assert client.get("a") == "text"
        client.servers[0].mark_dead("test")
        assert client.servers[0].deaduntil > time.time() + 20
    assert client.servers[0].deaduntil > time.time() + 100
    assert client.get("a") is None


def test_a_replaced_time_module_is_the_one_for_dead_marks(server, monkeypatch):
    client = memcache.Client([server.address])
    client.servers[0].mark_dead("test")
    later = time.time() + 100
    monkeypatch.setattr(memcache, "time", SimpleNamespace(time=lambda: later))
    assert client.get("a") == "text"
    monkeypatch.undo()
    assert memcache.time is time


def test_a_connection_is_of_one_socket_class_and_not_of_its_address(monkeypatch):
    """What makes sockets may be a function, and the next one may stand where it stood."""

    def make(value):
        kind = type("Socket", (FakeSocket,), {"chunks": [b"VALUE a 0 1\r\n" + value + b"\r\nEND\r\n"] * 3})
        return lambda *arguments: kind(*arguments)

    monkeypatch.setattr(FakeSocket, "made", [])
    client = memcache.Client(["nowhere:1"])
    monkeypatch.setattr(memcache, "socket", SimpleNamespace())
    for number in range(200):
        memcache.socket.socket = make(b"%d" % (number % 10))
        assert client.get("a") == b"%d" % (number % 10)
        del memcache.socket.socket


def test_an_end_of_file_of_another_type_is_asked_for_its_length_alone(monkeypatch):
    """No exception is set while its __len__ runs: it says that the server has closed, and get asks once more."""

    class End:
        def __len__(self):
            return len([])

    monkeypatch.setattr(FakeSocket, "made", [])
    monkeypatch.setattr(FakeSocket, "chunks", [End()])
    monkeypatch.setattr(socket, "socket", FakeSocket)
    assert memcache.Client(["nowhere:1"]).get("a") is None
    assert len(FakeSocket.made) == 2


def test_a_mock_as_the_socket_class():
    with mock.patch("memcache.socket.socket") as patched:
        patched.return_value.recv.side_effect = [b"VALUE a 0 1\r\nx\r\nEND\r\n", b"STORED\r\n", TimeoutError("slow")]
        client = memcache.Client(["nowhere:1"])
        assert client.get("a") == b"x"
        assert client.set("a", 1) is True
        assert client.get("a") is None
    patched.assert_called_once_with(socket.AF_INET, socket.SOCK_STREAM)
    patched.return_value.connect.assert_called_once_with(("nowhere", 1))
    assert client.servers[0].deaduntil > time.time()


def test_options_assigned_to_the_client_or_to_a_host_act_on_dead_marks(server):
    client = memcache.Client([server.address])
    host = client.servers[0]
    client.dead_retry = 1000
    host.mark_dead("test")
    assert host.deaduntil > time.time() + 900
    host.dead_retry = 5
    host.mark_dead("test")
    assert host.deaduntil < time.time() + 10
