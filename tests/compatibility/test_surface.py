"""The names, signatures and kinds of things that `import memcache` has, compared with python-memcached's."""

import collections
import copy
import gc
import inspect
import os
import pickle
import pydoc
import re
import socket
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
import weakref
import zlib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from unittest import mock

import oracle
import pytest
from scripted_server import ScriptedServer

import mcext
import memcache
from mcext.testing import memcached

PUBLIC = [
    "set",
    "add",
    "replace",
    "append",
    "prepend",
    "cas",
    "get",
    "gets",
    "get_multi",
    "set_multi",
    "delete",
    "delete_multi",
    "touch",
    "incr",
    "decr",
    "flush_all",
    "get_stats",
    "get_slab_stats",
    "get_slabs",
    "quit_all",
    "disconnect_all",
    "forget_dead_hosts",
    "set_servers",
    "reset_cas",
    "check_key",
    "debuglog",
]
PRIVATE = [
    "_get_server",
    "_set",
    "_get",
    "_val_to_store_info",
    "_recv_value",
    "_incrdecr",
    "_statlog",
    "_map_and_prefix_keys",
    "_init_buckets",
    "_encode_key",
    "_encode_cmd",
    "_expectvalue",
    "_expect_cas_value",
]
HOST = [
    "connect",
    "_get_socket",
    "_check_dead",
    "mark_dead",
    "close_socket",
    "send_cmd",
    "send_cmds",
    "readline",
    "expect",
    "recv",
    "flush",
    "quit",
    "debuglog",
]
CONSTRUCTOR = [
    "servers",
    "debug",
    "pickleProtocol",
    "pickler",
    "unpickler",
    "compressor",
    "decompressor",
    "pload",
    "pid",
    "server_max_key_length",
    "server_max_value_length",
    "dead_retry",
    "socket_timeout",
    "cache_cas",
    "flush_on_reconnect",
    "check_keys",
    "key_encoder",
]
NEW = {
    "connect_timeout": None,
    "max_value_length": 134217728,
    "allow_pickle": True,
    "placement": None,
    "on_dead": None,
    "tls_context": None,
    "tls_server_hostname": None,
    "username": None,
    "password": None,
}


@pytest.fixture(scope="module")
def server():
    with memcached("-t", "1", unix=True) as server:  # what was sent first is done first, on all connections
        yield server


@pytest.fixture
def client(server):
    client = memcache.Client([server.address])
    yield client
    client.disconnect_all()


def parameters(function):
    found = list(inspect.signature(function).parameters.values())
    return found[1:] if found and found[0].name == "self" else found


# The module


def test_the_module_has_python_memcacheds_names():
    assert memcache.SERVER_MAX_KEY_LENGTH == 250
    assert memcache.SERVER_MAX_VALUE_LENGTH == 1024 * 1024
    assert (memcache._DEAD_RETRY, memcache._SOCKET_TIMEOUT) == (30, 3)
    assert memcache.serverHashFunction is memcache.cmemcache_hash
    assert callable(memcache.useOldServerHashFunction)
    assert memcache.valid_key_chars_re.pattern == oracle.load().valid_key_chars_re.pattern
    for name in ("__version__", "__author__", "__copyright__", "__license__"):
        assert isinstance(getattr(memcache, name), str)
    assert memcache.__doc__
    there = {name for name in vars(oracle.load()) if not name.startswith("__")}
    missing = {name for name in there if not hasattr(memcache, name)}
    # Names that its code happens to import, and the runner of its doctests.
    assert missing <= {"binascii", "re", "sys", "timedelta", "BytesIO", "_doctest"}


def test_the_version_can_be_parsed_as_1_62():
    assert re.match(r"1\.62\b", memcache.__version__)
    numbers = tuple(int(part) for part in re.findall(r"\d+", memcache.__version__))
    assert numbers[:2] == (1, 62)
    assert memcache.__version__ >= "1.48"


@pytest.mark.parametrize(
    "name, module", [("socket", socket), ("time", time), ("pickle", pickle), ("zlib", zlib), ("threading", threading)]
)
def test_the_module_answers_for_the_modules_it_would_use(name, module):
    assert getattr(memcache, name) is module


def test_a_star_import_brings_the_names_that_python_memcached_defines():
    imported = {}
    for name in (oracle.MODULE_NAME, "memcache"):
        oracle.load()
        imported[name] = {}
        exec(f"from {name} import *", imported[name])
    defined = {name for name, value in imported[oracle.MODULE_NAME].items() if not inspect.ismodule(value)}
    assert defined - {"__builtins__", "timedelta", "BytesIO"} == set(imported["memcache"]) - {"__builtins__"}
    assert imported["memcache"]["serverHashFunction"] is memcache.cmemcache_hash


def test_the_default_hash_takes_its_key_by_name():
    for module in (oracle.load(), memcache):
        assert module.cmemcache_hash(key=b"foo") == module.cmemcache_hash(b"foo") == 3187
        with pytest.raises(TypeError):
            module.cmemcache_hash("foo")


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        memcache.no_such_name  # noqa: B018


def test_the_two_modules_share_the_type():
    assert mcext.Client is memcache.Client
    assert isinstance(mcext.__version__, str)
    assert memcache.Client.__name__ == memcache.Client.__qualname__ == "Client"
    assert memcache.Client.__module__ == "memcache"
    assert memcache._Host.__name__ == "_Host"
    assert memcache._Host.__module__ == "memcache"


def test_the_errors_of_the_module():
    for name in ("_Error", "_ConnectionDeadError"):
        error = getattr(memcache, name)
        assert issubclass(error, Exception)
        assert error.__name__ == name


def test_the_exceptions_of_the_client():
    client = memcache.Client
    theirs = oracle.load().Client
    for name in ("KeyError", "KeyLengthError", "KeyCharacterError", "KeyNoneError", "KeyTypeError"):
        error = getattr(client, "Memcached" + name)
        assert error.__name__ == "Memcached" + name
        assert error.__qualname__ == "Client.Memcached" + name
        assert issubclass(error, client.MemcachedKeyError)
    assert client.MemcachedStringEncodingError.__bases__ == (Exception,)
    assert client.MemcachedKeyError.__bases__ == (Exception,)
    assert theirs.MemcachedStringEncodingError.__bases__ == (Exception,)


def test_the_errors_can_be_pickled():
    for name in ("MemcachedKeyError", "MemcachedKeyLengthError", "MemcachedStringEncodingError"):
        error = getattr(memcache.Client, name)("words")
        assert repr(pickle.loads(pickle.dumps(error))) == repr(error)


# Signatures


@pytest.mark.parametrize("name", PUBLIC + PRIVATE)
def test_a_method_has_python_memcacheds_parameters(name):
    theirs = parameters(getattr(oracle.load().Client, name))
    ours = parameters(getattr(memcache.Client, name))
    if name == "delete":  # the time of the 1.x API, by keyword
        time = ours.pop()
        assert (time.name, time.default) == ("time", 0)
    assert [(one.name, one.kind, one.default) for one in ours] == [(one.name, one.kind, one.default) for one in theirs]


def test_deletetouch_has_the_parameters_that_django_gives():
    ours = parameters(memcache.Client._deletetouch)
    empty = inspect.Parameter.empty
    assert [(one.name, one.default) for one in ours] == [
        ("expected", empty),
        ("cmd", empty),
        ("key", empty),
        ("time", 0),
        ("noreply", False),
    ]


@pytest.mark.parametrize("name", HOST)
def test_a_hosts_method_has_python_memcacheds_parameters(name):
    theirs = parameters(getattr(oracle.load()._Host, name))
    ours = parameters(getattr(memcache._Host, name))
    assert [(one.name, one.kind, one.default) for one in ours] == [(one.name, one.kind, one.default) for one in theirs]


def test_the_constructor_has_python_memcacheds_parameters_and_the_new_ones():
    theirs = parameters(oracle.load().Client)
    ours = parameters(memcache.Client)
    assert [one.name for one in theirs] == CONSTRUCTOR
    old, new = ours[: len(theirs)], ours[len(theirs) :]
    assert [(one.name, one.kind) for one in old] == [(one.name, one.kind) for one in theirs]
    for one, their in zip(old, theirs, strict=True):
        # A signature's text can name pickle.Pickler; or say None or ... for what is looked up later.
        if their.name not in ("pickler", "unpickler", "compressor", "decompressor"):
            assert one.default == their.default, one.name
    assert {one.name: one.default for one in new} == NEW
    assert {one.kind for one in new} == {inspect.Parameter.KEYWORD_ONLY}


def test_the_constructor_of_a_host():
    theirs, ours = parameters(oracle.load()._Host), parameters(memcache._Host)
    assert [(one.name, one.default) for one in ours] == [(one.name, one.default) for one in theirs]


@pytest.mark.parametrize("kind", [memcache.Client, memcache._Host])
def test_every_method_and_the_class_have_a_signature_and_a_text(kind):
    inspect.signature(kind)
    for name in dir(kind):
        method = getattr(kind, name)
        if name.startswith("__") or not callable(method) or inspect.isclass(method):
            continue
        first = next(iter(inspect.signature(method).parameters))
        assert first == "self", name
        if not name.startswith("_"):
            text = inspect.getdoc(method)
            assert text and "--\n" not in text, name


PUBLIC = [
    name
    for name in dir(memcache.Client)
    if not name.startswith("_") and inspect.isroutine(getattr(memcache.Client, name))
]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_text_of_a_method_says_what_is_returned_and_raised(name):
    method = getattr(memcache.Client, name)
    text = inspect.getdoc(method)
    assert max(map(len, text.splitlines())) < 100
    assert "Returns" in text
    parameters = inspect.signature(method).parameters
    if {"key", "keys", "mapping", "servers", "stat_args"} & {*parameters} and name != "decr":  # as incr
        assert "Raises" in text
    asks_no_server = name in ("check_key", "server_for")
    if {"key", "keys", "mapping", "stat_args"} & {*parameters} and not asks_no_server:
        assert "protocol.txt" in text


def test_a_subclass_has_the_signature_of_its_own_constructor():
    class Own(memcache.Client):
        def __init__(self, address, *, size=1):
            super().__init__([address])

    class Inherited(memcache.Client):
        pass

    assert str(inspect.signature(Own)) == "(address, *, size=1)"
    assert str(inspect.signature(Inherited)) == str(inspect.signature(memcache.Client))


def test_the_signature_of_a_bound_method_has_no_self(client):
    assert list(inspect.signature(client.set).parameters) == ["key", "val", "time", "min_compress_len", "noreply"]


def test_help_reads_well():
    text = pydoc.render_doc(memcache.Client.set, renderer=pydoc.plaintext)
    assert re.search(r"set\(self,( /,)? key, val, time=0, min_compress_len=0, noreply=False\)", text)
    assert "seconds" in text and "bytes" in text
    whole = pydoc.render_doc(memcache.Client, renderer=pydoc.plaintext)
    for name in PUBLIC:
        assert re.search(rf"\b{name}\(", whole), name
    assert pydoc.render_doc(memcache, renderer=pydoc.plaintext)


def test_every_argument_of_the_constructor_by_position_and_by_keyword(server):
    def encoder(key):
        return key

    given = [
        [server.address],
        1,
        2,
        pickle._Pickler,
        pickle._Unpickler,
        bytes,
        bytes,
        len,
        repr,
        100,
        200,
        7,
        9,
        True,
        1,
    ]
    given += [False, encoder]
    attributes = {"pload": "persistent_load", "pid": "persistent_id", "check_keys": "do_check_key"}
    for client in (memcache.Client(*given), memcache.Client(**dict(zip(CONSTRUCTOR, given, strict=True)))):
        for name, value in zip(CONSTRUCTOR[1:], given[1:], strict=True):
            assert getattr(client, attributes.get(name, name)) == value, name
        assert [host.address for host in client.servers] == [server.path]
        (host,) = client.servers
        assert (host.debug, host.dead_retry, host.socket_timeout, host.flush_on_reconnect) == (1, 7, 9, 1)


def test_the_defaults_of_the_constructor():
    client = memcache.Client([])
    expected = {
        "servers": [],
        "buckets": [],
        "debug": 0,
        "dead_retry": 30,
        "socket_timeout": 3,
        "flush_on_reconnect": 0,
        "cache_cas": False,
        "persistent_load": None,
        "persistent_id": None,
        "pickleProtocol": 0,
        "pickler": pickle.Pickler,
        "unpickler": pickle.Unpickler,
        "picklerIsKeyword": True,
        "compressor": zlib.compress,
        "decompressor": zlib.decompress,
        "do_check_key": True,
        "server_max_key_length": 250,
        "server_max_value_length": 1048576,
        "stats": {},
        "cas_ids": {},
        "max_value_length": 134217728,
        "allow_pickle": True,
    }
    for name, value in expected.items():
        assert getattr(client, name) == value, name
    assert client.key_encoder("key") == "key"


@pytest.mark.parametrize(
    "arguments, options",
    [
        ((), {}),
        (([], *[0] * 17), {}),
        (([],), {"no_such_option": 1}),
        (([],), {"servers": []}),
        (([],), {"timeout": 1}),
        (([], 0, 0), {"debug": 1}),
    ],
)
def test_wrong_arguments_of_the_constructor_are_type_errors(arguments, options):
    with pytest.raises(TypeError):
        memcache.Client(*arguments, **options)


@pytest.mark.parametrize("wrong", ["x", b"x", [], object(), 1j, Decimal("NaN")])
@pytest.mark.parametrize(
    "name",
    "pickleProtocol pickler unpickler compressor decompressor pload pid server_max_key_length "
    "server_max_value_length socket_timeout key_encoder connect_timeout max_value_length".split(),
)
def test_a_wrong_argument_of_the_constructor_is_named(name, wrong):
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        memcache.Client([], **{name: wrong})


@pytest.mark.parametrize("protocol", [100, 10**30])
def test_a_protocol_that_pickle_does_not_know_is_named(protocol):
    with pytest.raises(ValueError, match="pickleProtocol"):
        memcache.Client([], pickleProtocol=protocol)
    client = memcache.Client([])
    with pytest.raises(ValueError, match="pickleProtocol"):
        client.pickleProtocol = protocol
    with pytest.raises(TypeError, match="pickleProtocol"):
        client.pickleProtocol = str(protocol)
    assert client.pickleProtocol == 0


def test_the_defaults_in_the_constructors_signature_can_be_given(client, server):
    bound = inspect.signature(memcache.Client).bind([server.address])
    bound.apply_defaults()
    given = memcache.Client(*bound.args, **bound.kwargs)
    for name in ("pickler", "unpickler", "compressor", "decompressor"):
        assert getattr(given, name) is getattr(client, name)
    value = ["x" * 1000]
    assert given.set("given", value, min_compress_len=10) is True
    assert given.get("given") == value
    given.pickler = given.unpickler = given.compressor = given.decompressor = None
    assert given.set("given", value, min_compress_len=10) is True
    assert given.get("given") == value


@pytest.mark.parametrize("name", [1, b"debug", ("debug",), None])
def test_a_keyword_of_the_constructor_that_is_no_str_is_a_type_error(name):
    with pytest.raises(TypeError, match="keywords must be strings"):
        memcache.Client(["127.0.0.1:1"], **{name: 1})


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.get(),
        lambda c: c.get("a", 1, 2),
        lambda c: c.get("a", defualt=1),
        lambda c: c.get("a", key="a"),
        lambda c: c.set("a"),
        lambda c: c.set("a", 1, 0, 0, False, 0),
        lambda c: c.set("a", 1, value=1),
        lambda c: c.set("a", "text", min_compress_len="1"),
        lambda c: c.set_multi(["a"]),
        lambda c: c.set_multi(),
        lambda c: c.get_multi(),
        lambda c: c.get_multi(5),
        lambda c: c.get_multi(["a"], key_prefix=5),
        lambda c: c.get_multi(["a"], key_prefix=None),
        lambda c: c.incr("a", 1, False, 0),
        lambda c: c.get_stats(5),
        lambda c: c.get_stats(b"settings"),
        lambda c: c.flush_all(1),
        lambda c: c.get((1,)),
        lambda c: c.get((1, "a", 2)),
        lambda c: c.get(("hash", "a")),
        lambda c: c.get((1.5, "a")),
    ],
)
def test_wrong_arguments_of_a_call_are_type_or_value_errors_and_nothing_is_sent(call):
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        with pytest.raises((TypeError, ValueError, client.MemcachedKeyTypeError)) as caught:
            call(client)
        assert str(caught.value)
        assert server.received == b""


@pytest.mark.parametrize(
    "name, value",
    [
        ("server_max_key_length", -1),
        ("server_max_key_length", 1.5),
        ("server_max_value_length", -1),
        ("server_max_value_length", "100"),
        ("socket_timeout", 0),
        ("socket_timeout", -1),
        ("socket_timeout", "3"),
        ("dead_retry", "30"),
        ("pickler", 5),
        ("unpickler", 5),
        ("compressor", 5),
        ("decompressor", 5),
        ("key_encoder", 5),
    ],
)
def test_an_option_of_a_wrong_kind_is_refused_by_its_name(client, name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        memcache.Client([], **{name: value})
    before = getattr(client, name)
    with pytest.raises((TypeError, ValueError), match=name):
        setattr(client, name, value)
    assert getattr(client, name) == before
    assert client.set("a", 1) is True


STORAGE = ("set", "add", "replace", "append", "prepend", "cas")
NO_TIME = [None, "5", b"5", [], float("inf"), float("-inf"), float("nan"), Decimal("NaN"), 2**63]
NO_LENGTH = ["5", b"5", [5], object(), 1j, Decimal("NaN")]
TIMED = {
    **{name: lambda c, time, name=name: getattr(c, name)("a", "1", time) for name in STORAGE},
    "touch": lambda c, time: c.touch("a", "five" if time == "5" else time),
    "delete": lambda c, time: c.delete("a", time="None" if time is None else time),
    "set_multi": lambda c, time: c.set_multi({"a": "1"}, time),
    "delete_multi": lambda c, time: c.delete_multi(["a"], "None" if time is None else time),
}
STORED = ["text", b"bytes", 7, [1]]  # with and without a look at min_compress_len
NAMED = [
    *[("time", lambda c, call=call, time=time: call(c, time)) for call in TIMED.values() for time in NO_TIME],
    *[
        ("min_compress_len", lambda c, name=name, value=value, no=no: getattr(c, name)("a", value, min_compress_len=no))
        for name in STORAGE
        for value in STORED
        for no in NO_LENGTH
    ],
    *[
        ("min_compress_len", lambda c, value=value, no=no: c.set_multi({"a": value}, min_compress_len=no))
        for value in STORED
        for no in NO_LENGTH
    ],
    ("min_compress_len", lambda c: c.set_multi({**dict.fromkeys(range(50000), 1), "a": "text"}, min_compress_len="5")),
    ("min_compress_len", lambda c: c._val_to_store_info(5, "5")),
    ("keys", lambda c: c.get_multi(["a", ["b"]])),
    ("keys", lambda c: c.get_multi(["a", {}], "prefix")),
    ("keys", lambda c: c.get_multi([(1, "a"), ([1], "b")])),
    ("expected", lambda c: c._deletetouch(5, "delete", "a")),
    ("expected", lambda c: c._deletetouch("DELETED", "delete", "a")),
    ("expected", lambda c: c._deletetouch(None, "touch", "a", 5, True)),
    ("key_extra_len", lambda c: c.check_key(b"a", "5")),
    ("key_extra_len", lambda c: c.check_key(b"a", 1.5)),
    ("flags", lambda c: c._recv_value(c.servers[0], "5", 5)),
    ("flags", lambda c: c._recv_value(c.servers[0], -1, 5)),
    ("flags", lambda c: c._recv_value(c.servers[0], 2**32, 5)),
    ("rlen", lambda c: c._recv_value(c.servers[0], 0, "5")),
    ("rlen", lambda c: c._recv_value(c.servers[0], 0, 10**30)),
    ("delta", lambda c: c.incr("a", -1)),
    ("delta", lambda c: c.decr("a", b"1")),
    ("stat_args", lambda c: c.get_stats(5)),
    ("servers", lambda c: c.set_servers(b"127.0.0.1")),
    ("mapping", lambda c: c.set_multi(["a"])),
]


def test_a_wrong_argument_is_named_before_anything_is_sent_whatever_the_servers_state():
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        dead = memcache.Client([server.address])
        dead.servers[0].mark_dead("test")
        for number, (name, call) in enumerate(NAMED):
            for one in (client, dead, memcache.Client([server.address], check_keys=False, cache_cas=True)):
                with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
                    call(one)
                    pytest.fail(f"call {number}, about {name}, was taken")
            assert server.received == b"", (number, name)


def test_a_min_compress_len_of_any_number_is_taken(client):
    for least in (0, None, 5, True, 5.5, -1, 10**30, float("inf"), Decimal(5), Fraction(1, 2)):
        assert client.set("least", "x" * 100, min_compress_len=least) is True
        assert client.set_multi({"most": "x" * 100}, min_compress_len=least) == []
        assert client.get_multi(["least", "most"]) == {"least": "x" * 100, "most": "x" * 100}


@pytest.mark.parametrize("token", ["5", None, -1, 2**64])
def test_a_cas_token_that_is_none_is_named(token):
    with ScriptedServer() as server:
        client = memcache.Client([server.address], cache_cas=True)
        client.cas_ids[b"a"] = token
        with pytest.raises((TypeError, ValueError), match="cas_ids"):
            client.cas("a", 1)
        assert server.received == b""


# Server addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:11212",
        "127.0.0.1",
        "inet:127.0.0.1:11212",
        "inet:somewhere",
        "inet6:[::1]:11212",
        "inet6:[::1]",
        "unix:/path/to/socket",
        "unix:relative",
        "some.host.name:1",
        ("127.0.0.1:11212", 5),
        ("unix:/path", 0),
    ],
)
def test_an_address_is_read_as_python_memcached_reads_it(address):
    ours, theirs = memcache._Host(address), oracle.load()._Host(address)
    for name in ("family", "address", "weight", "deaduntil", "flush_on_next_connect", "socket", "buffer"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert str(ours) == str(theirs)
    for name in ("ip", "port"):
        assert getattr(ours, name, "none") == getattr(theirs, name, "none")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:11212", "inet:somewhere:1", "inet6:[::1]:11212", "unix:/path/to/socket", "unix:relative"]
)
def test_a_newline_behind_an_address_is_none_of_it(address, server):
    """As lines of a file have it."""
    for module in (oracle.load(), memcache):
        host = module._Host(address + "\n")
        assert (host.address, str(host)) == (module._Host(address).address, str(module._Host(address)))
        client = module.Client([server.address + "\n"])
        assert client.set("a", 1) is True
        client.disconnect_all()


@pytest.mark.parametrize("address", ["", ":", "a:b", "a:1:2:3", "inet6:::1", "inet6:[::1", "inet:", "a:", ":11211"])
def test_an_address_that_cannot_be_read(address):
    with pytest.raises(ValueError) as caught:
        memcache._Host(address)
    assert address in str(caught.value)
    with pytest.raises(ValueError):
        memcache.Client([address])


@pytest.mark.parametrize("address", [5, None, b"localhost", ("a", 1, 2), ("a",), ["a", 1], ("a", "1"), ("a", 1.5)])
def test_a_server_of_another_type(address):
    with pytest.raises((TypeError, ValueError)):
        memcache.Client([address])


def test_a_host_name_that_is_not_ascii_is_looked_up_in_its_idna_form():
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in "localhost")  # full-width letters
    with memcached() as server:
        address = f"{wide}:{server.port}"
        for module in (oracle.load(), memcache):
            client = module.Client([address])
            assert client.set("a", 1) is True
            (host,) = client.servers
            assert (host.ip, host.address, str(host)) == (wide, (wide, server.port), f"inet:{address}")
            assert [name for name, _ in client.get_stats()] == [f"{address} (1)"]
            client.disconnect_all()
        client.set_servers([address])
        assert client.servers == [host]
    with pytest.raises(UnicodeError):
        memcache._Host("\xe9" * 100)


def test_the_path_of_a_unix_socket_need_not_be_utf_8(server, tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xe9"
    os.symlink(server.path, path)
    address = "unix:" + os.fsdecode(path)
    for module in (oracle.load(), memcache):
        client = module.Client([address])
        assert client.set("a", 1) is True
        assert client.get("a") == 1
        (host,) = client.servers
        assert (host.address, str(host)) == (os.fsdecode(path), address)
        assert [name for name, _ in client.get_stats()] == [f"{address} (1)"]
        client.disconnect_all()
    client.set_servers([address])
    assert client.servers == [host]


def test_a_weight_is_whatever_counts_as_an_int(server):
    class Number:
        def __index__(self):
            return 3

        def __str__(self):
            return "three"

    for module in (oracle.load(), memcache):
        client = module.Client([(server.address, Number())])
        assert len(client.buckets) == 3
        assert client.set("a", 1) is True
        assert [name for name, _ in client.get_stats()] == [f"unix:{server.path} (three)"]


@pytest.mark.parametrize("port", ["65536", "99999999999999999999"])
def test_a_port_that_is_none(port):
    with pytest.raises(ValueError):
        memcache.Client([f"127.0.0.1:{port}"])


# Attributes


def test_a_client_and_a_host_take_any_attribute(client):
    for thing in (client, client.servers[0]):
        thing.mine = 5
        assert thing.mine == 5
        assert vars(thing)["mine"] == 5
        del thing.mine
        assert not hasattr(thing, "mine")
    memcache.Client.mine = 6
    assert client.mine == 6
    del memcache.Client.mine


def test_mock_replaces_an_attribute_for_a_while(server):
    """It deletes what it set, and sets the original where nothing is there then."""
    client = memcache.Client([server.address], cache_cas=True)
    host = client.servers[0]
    client.set("a", 1)
    client.gets("a")
    others = [memcache._Host(server.address)]
    replaced = [(client, name, others) for name in ("servers", "buckets")]
    replaced += [(client, "stats", {"get": 100}), (client, "cas_ids", {b"a": 1}), (client, "compressor", bytes)]
    replaced += [(client, name, lambda one: one) for name in ("key_encoder", "decompressor", "persistent_id")]
    replaced += [(client, name, 2) for name in ("debug", "dead_retry", "socket_timeout", "server_max_key_length")]
    replaced += [(client, name, 0) for name in ("cache_cas", "do_check_key", "picklerIsKeyword", "allow_pickle")]
    replaced += [(host, name, 5) for name in ("debug", "dead_retry", "socket_timeout", "flush_on_reconnect", "weight")]
    replaced += [(host, "deaduntil", 2**32)]
    for thing, name, value in replaced:
        before = getattr(thing, name)
        with mock.patch.object(thing, name, value):
            assert getattr(thing, name) is value or getattr(thing, name) == value
        assert getattr(thing, name) is before or getattr(thing, name) == before, name
    assert client.stats == {"set": 1, "gets": 1}
    assert list(client.cas_ids) == [b"a"]
    assert client.servers == client.buckets == [host]
    assert client.get("a") == 1


def test_an_attribute_that_was_deleted_is_there_again_when_it_is_assigned(server):
    client = memcache.Client([server.address], debug=0, socket_timeout=5)
    host = client.servers[0]
    client.set("a", 1)
    for thing, names in ((client, ["debug", "servers", "buckets", "stats", "cas_ids"]), (host, ["debug", "weight"])):
        for name in names:
            before = getattr(thing, name)
            delattr(thing, name)
            assert not hasattr(thing, name)
            assert client.get("a") == 1
            setattr(thing, name, before)
            assert getattr(thing, name) == before
    del client.servers, client.cas_ids, host.weight
    with pytest.raises(AttributeError):
        client.get_stats()
    client.set_servers([server.address])
    client.reset_cas()
    assert client.servers != [host]
    assert client.cas_ids == {}
    assert client.get("a") == 1


def test_attributes_that_a_user_sets_are_the_threads_own(client):
    client.mine = 5
    found = []
    thread = threading.Thread(target=lambda: found.append(hasattr(client, "mine")))
    thread.start()
    thread.join()
    assert found == [False]


def test_stats_and_cas_ids_are_the_threads_own(server):
    client = memcache.Client([server.address], cache_cas=True)
    client.set("a", 1)
    client.gets("a")
    found = []

    def other():
        found.append((dict(client.stats), dict(client.cas_ids)))
        client.get("a")
        found.append(dict(client.stats))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [({}, {}), {"get": 1}]
    assert client.stats == {"set": 1, "gets": 1}
    assert list(client.cas_ids) == [b"a"]


def test_servers_and_buckets_are_shared(client):
    found = []
    thread = threading.Thread(target=lambda: found.extend([client.servers[0], client.buckets[0]]))
    thread.start()
    thread.join()
    assert found[0] is client.servers[0] is client.buckets[0] is found[1]


def test_buckets_and_servers_act_when_assigned(server):
    with ScriptedServer(lambda command, number: b"VALUE a 0 5\r\nother\r\nEND\r\n") as other:
        client = memcache.Client([server.address])
        client.set("a", "real")
        host = memcache._Host(other.address)
        client.buckets = [host]
        assert client.get("a") == b"other"
        client.buckets = list(client.servers)
        assert client.get("a") == "real"
        client.servers = [host]
        client._init_buckets()
        assert client.get("a") == b"other"
        assert client.servers == client.buckets == [host]


def test_set_servers_with_an_equal_list_keeps_the_hosts(client, server):
    hosts = client.servers
    host = hosts[0]
    host.mark_dead("test")
    client.set_servers([server.address])
    assert client.servers[0] is host
    assert host.deaduntil > time.time()
    client.set_servers([(server.address, 2)])
    assert [one.weight for one in client.servers] == [2]
    assert len(client.buckets) == 2


def test_set_servers_with_an_equal_list_makes_the_buckets_anew(server):
    servers = [server.address, (server.address, 2)]
    for module in (oracle.load(), memcache):
        client = module.Client(servers)
        client.buckets = client.servers[:1]
        client.set_servers(servers)
        one, other = client.servers
        assert client.buckets == [one, other, other]
        client.buckets = []
        client.set_servers(servers)
        assert len(client.buckets) == 3


# The class


def test_the_class_derives_from_threading_local():
    assert memcache.Client.__mro__[1] is threading.local
    assert issubclass(memcache.Client, threading.local)
    assert memcache.Client.__bases__ == (threading.local,)


def test_weak_references(client):
    reference = weakref.ref(client)
    host = weakref.ref(client.servers[0])
    assert reference() is client and host() is client.servers[0]
    other = memcache.Client(["127.0.0.1"])
    reference = weakref.ref(other)
    del other
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("function", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_client_cannot_be_copied_or_pickled(client, function):
    with pytest.raises(TypeError):
        function(client)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            client.__reduce_ex__(protocol)


def picklable(module, servers):
    """A client of a subclass that says itself how it is copied and pickled."""

    class Picklable(sys.modules[module].Client):
        def __reduce__(self):
            return picklable, (module, servers)

    return Picklable(servers)


@pytest.mark.parametrize("module", [oracle.load(), memcache])
def test_a_subclass_may_say_how_it_is_copied_and_pickled(module, server):
    client = picklable(module.__name__, [server.address])
    client.set("a", 1)
    for again in (copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        other = again(client)
        assert other is not client
        assert other.get("a") == 1
        other.disconnect_all()


def test_the_type_has_no_new_of_its_own(client, server):
    class Plain(memcache.Client):
        __new__ = object.__new__ if threading.local.__module__ != "_thread" else threading.local.__new__

    plain = Plain([server.address])
    assert plain.set("a", 1) is True


def test_new_taken_from_object(server):
    """Where threading.local is C, object.__new__ refuses to make one: then nothing may crash either."""

    class Client(memcache.Client):
        __new__ = object.__new__

    try:
        client = Client([server.address])
    except TypeError:
        return
    assert client.set("a", 1) is True


SKIPPED = """
import memcache, threading

class Skips(memcache.Client):
    def __init__(self, *arguments):
        pass

class Replaces(memcache.Client):
    def __init__(self, *arguments):
        threading.local.__init__(self)

clients = [Skips(["127.0.0.1:1"]), Replaces(["127.0.0.1:1"]), memcache.Client.__new__(memcache.Client, ["127.0.0.1:1"])]
clients.append(threading.local.__new__(memcache.Client, ["127.0.0.1:1"]))
raised = 0
for client in clients:
    calls = [
        lambda: client.get("a"), lambda: client.set("a", 1), lambda: client.get_multi(["a"]),
        lambda: client.set_multi({"a": 1}), lambda: client.delete_multi(["a"]), lambda: client.incr("a"),
        lambda: client.delete("a"), lambda: client.touch("a"), lambda: client.cas("a", 1), lambda: client.gets("a"),
        lambda: client.flush_all(), lambda: client.get_stats(), lambda: client.get_slabs(),
        lambda: client.get_slab_stats(), lambda: client._get_server(b"a"), lambda: client._set("set", "a", 1, 0),
        lambda: client.disconnect_all(), lambda: client.quit_all(), lambda: client.forget_dead_hosts(),
    ]
    for call in calls:
        try:
            call()
        except Exception as error:
            assert str(error), call
            raised += 1
        else:
            raise AssertionError("no error")
    for name in ("servers", "buckets", "debug", "stats", "cas_ids", "key_encoder", "socket_timeout"):
        try:
            getattr(client, name)
        except Exception:
            pass
    repr(client), dir(client)
host = memcache._Host.__new__(memcache._Host)
for call in (host.connect, host.readline, host.close_socket, host._get_socket, host.flush, host.quit, host.__str__):
    try:
        call()
    except Exception:
        pass
print("raised", raised)
"""


def test_with_init_skipped_a_call_raises_and_never_crashes():
    done = subprocess.run(
        [sys.executable, "-c", SKIPPED], cwd=Path(memcache.__file__).parent, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("raised 76\n", "", 0)


def test_init_can_be_called_again(server):
    client = memcache.Client(["127.0.0.1:1"])
    client.__init__([server.address])
    assert isinstance(client.set("a", 1), int)


def test_init_that_is_called_in_its_own_middle_opens_once():
    class Option:
        def __bool__(self):
            if opened:
                opened.pop()()
            return False

    opened = []
    host = memcache._Host.__new__(memcache._Host)
    opened.append(lambda: host.__init__("127.0.0.1:1"))
    with pytest.raises(RuntimeError):
        host.__init__("127.0.0.1:2", Option())
    assert str(host) == "inet:127.0.0.1:1"
    client = memcache.Client.__new__(memcache.Client)
    opened.append(lambda: client.__init__(["127.0.0.1:1"]))
    client.__init__(["127.0.0.1:2"], Option())
    assert [str(host) for host in client.servers] == ["inet:127.0.0.1:1"]


def test_a_class_that_loses_its_client_while_it_is_looked_at():
    """What a call finds by the class of a client may give the client another class, and end the first."""

    class Method:
        def __call__(self, *arguments):
            pass

        def __index__(self):
            return 3

        def __del__(self):
            gc.collect()

    class Changes:
        def __get__(self, instance, owner):
            if instance is None and armed:
                armed.clear()
                client.__class__ = Other
            return Method()

    class First(memcache.Client):
        pass

    class Other(memcache.Client):
        pass

    armed = []
    client = First(["127.0.0.1:1"])
    First.debuglog = First._SERVER_RETRIES = Changes()
    reference = weakref.ref(First)
    del First
    armed.append(1)
    for _ in range(2):
        assert client.get("a", "default") == "default"
    gc.collect()
    if sys.version_info >= (3, 14) or not sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert reference() is None  # else classes live for ever once there were two threads


def test_options_that_change_while_servers_are_set_are_not_lost():
    class Option:
        def __bool__(self):
            if left:
                left.pop()
                client.dead_retry = len(left) + 1
            return False

    left = []
    client = memcache.Client(["127.0.0.1:1"], Option())
    left.extend(range(1))
    client.set_servers(["127.0.0.1:2"])
    assert not left and client.dead_retry == 1
    assert [str(host) for host in client.servers] == ["inet:127.0.0.1:2"]


def test_init_runs_again_in_a_thread_that_meets_the_client_first(server):
    ran = []

    class Mine(memcache.Client):
        def __init__(self, *arguments, **options):
            ran.append((threading.get_ident(), arguments, options))
            super().__init__(*arguments, **options)
            self.set_servers(arguments[0])
            self.own = len(ran)

    client = Mine([server.address], debug=0)
    client.set("a", 1)
    host = client.servers[0]
    found = []
    thread = threading.Thread(target=lambda: found.extend([client.own, client.get("a"), client.servers[0]]))
    thread.start()
    thread.join()
    assert len(ran) == 2 and ran[0][0] != ran[1][0] and ran[0][1:] == ran[1][1:]
    assert found == [2, 1, host]
    assert client.own == 1


def test_the_rerun_of_init_changes_nothing_shared(server):
    client = memcache.Client([server.address])
    client.debug = 1
    client.server_max_value_length = 7
    client.set_servers([(server.address, 2)])
    found = []
    thread = threading.Thread(
        target=lambda: found.extend([client.debug, len(client.buckets), client.set("a", "x" * 8)])
    )
    thread.start()
    thread.join()
    assert found == [1, 2, 0]
    assert (client.debug, client.server_max_value_length, len(client.buckets)) == (1, 7, 2)


def test_a_subclass_with_objects_attribute_access_shares_all(server):
    class Shared(memcache.Client):
        __getattribute__ = object.__getattribute__
        __setattr__ = object.__setattr__
        __delattr__ = object.__delattr__

    client = Shared([server.address], cache_cas=True)
    client.mine = 5
    client.set("a", 1)
    client.gets("a")
    found = []

    def other():
        found.extend([client.mine, client.get("a"), list(client.cas_ids)])
        client.debug = 1

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [5, 1, [b"a"]]
    assert client.debug == 1
    assert client.stats["get"] == 1


EMPTIED = """
import signal, sys, threading
import memcache

class Mine(memcache.Client):
    def __setattr__(self, name, value):
        kept[name] = value

def handler(number, frame):
    signal.setitimer(signal.ITIMER_REAL, 0)
    vars(client).clear()
    # In the place of what is freed now, whatever it was.
    for size in range(0, 400, 16):
        filled.extend(bytes(size) for _ in range(50))

def fill():
    filled.extend(bytes(size) for size in range(0, 400, 16) for _ in range(50))

filled, kept = [], {}
if sys.argv[2] == "handler":
    client = memcache.Client([sys.argv[1]])
    for _ in range(5):
        client.get("key")
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    client.get("slow")
else:
    client = Mine([sys.argv[1]])
    for _ in range(5):
        client.get("key")
    thread = threading.Thread(target=lambda: client.get("key"))
    thread.start()
    thread.join()
    fill()
    for _ in range(5):
        client.get("key")
print(sum(map(any, filled)))
"""


@pytest.mark.parametrize("how", ["handler", "setattr"])
def test_what_a_thread_has_of_a_client_may_be_emptied_at_any_moment(how):
    """No call counts in freed memory: not behind a signal handler, nor where __setattr__ gives it to other threads."""

    def script(command, number):
        if command == b"get slow\r\n":
            time.sleep(0.5)
        return None

    with ScriptedServer(script) as server:
        done = subprocess.run(
            [sys.executable, "-c", EMPTIED, server.address, how],
            cwd=Path(memcache.__file__).parent,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)


def test_what_the_threads_share_cannot_be_taken_from_a_client(server):
    """Calls work with it to their end, whatever the Python code in their middle does to the client."""
    refused = []

    def encoder(key):
        for take in (lambda: delattr(client, "_mcext_shared"), lambda: type(client)._mcext_shared.__delete__(client)):
            with pytest.raises(AttributeError):
                take()
            refused.append(key)
        return key

    client = memcache.Client([server.address], key_encoder=encoder)
    assert client.set("a", 1) is True
    assert client.get("a") == 1
    assert len(refused) == 4


def test_delete_takes_a_time_by_keyword(client):
    client.set("a", 1)
    assert client.delete("a", time=0) == 1
    with ScriptedServer() as server:
        other = memcache.Client([server.address])
        other.delete("a", time=0)
        other.delete("a", time=5)
        assert server.commands == [b"delete a\r\n", b"delete a 5\r\n"]


def test_deletetouch_of_the_1_x_api(server):
    with ScriptedServer() as server:
        client = memcache.Client([server.address])
        assert client._deletetouch([b"DELETED", b"NOT_FOUND"], "delete", "a") == 1
        assert client._deletetouch([b"DELETED"], "delete", "a", 0) == 0
        assert client._deletetouch([b"NOT_FOUND"], "touch", "a", 7) == 1
        assert client._deletetouch([b"TOUCHED"], "touch", "a", 7, True) == 1
        server.wait_for(lambda s: len(s.commands) == 4)
        assert server.commands == [b"delete a\r\n"] * 2 + [b"touch a 7\r\n", b"touch a 7 noreply\r\n"]


# Private methods, called directly


def test_the_private_methods_work_when_called(server):
    theirs = oracle.load().Client([server.address], cache_cas=True)
    ours = memcache.Client([server.address], cache_cas=True)
    for client in (theirs, ours):
        assert client._get_server(b"a") == (client.servers[0], b"a")
        assert client._get_server((5, b"a")) == (client.servers[0], b"a")
        assert client._set("set", "a", "text", 0) is True
        assert client._set("add", "a", "text", 0, 0, False) is False
        assert client._get("get", "a") == "text"
        assert client._get("get", "b", "default") == "default"
        assert client._get("gets", (1, "a")) == "text"
        assert list(client.cas_ids) == [b"a"]
        assert client._set("set", "n", 5, 0) is True
        assert client._incrdecr("incr", "n", 2) == 7
        assert client._incrdecr("decr", "n", 2, True) is None
        assert client._val_to_store_info("text", 0) == (16, 4, b"text")
        assert client._val_to_store_info(5, 1) == (2, 1, b"5")
        assert client._val_to_store_info(b"x" * 2_000_000, 0) == 0
        assert client._val_to_store_info([1], 0) == (1, len(pickle.dumps([1], 0)), pickle.dumps([1], 0))
        assert client._val_to_store_info(b"x" * 1000, 10) == (
            8,
            len(zlib.compress(b"x" * 1000)),
            zlib.compress(b"x" * 1000),
        )
        assert client._encode_key("é") == "é".encode()
        assert client._encode_key((1, "é")) == (1, "é".encode())
        assert client._encode_key(b"a") == b"a" and client._encode_key(5) == 5
        assert client._encode_cmd("set", b"a", "0 0 1", True, b"\r\n", b"x") == b"set a 0 0 1 noreply \r\nx"
        assert client._encode_cmd("delete", b"a", None, False) == b"delete a"
        client._statlog("mine")
        client._statlog("mine")
        assert client.stats["mine"] == 2
        keys, originals = client._map_and_prefix_keys(["a", 7, (3, "c")], "p")
        assert keys == {client.servers[0]: [b"pa", b"p7", b"pc"]}
        assert originals == {b"pa": "a", b"p7": 7, b"pc": (3, "c")}
        client.buckets = []
        client._init_buckets()
        assert client.buckets == client.servers


def test_recv_value_and_expectvalue_on_a_hosts_own_connection(server):
    for module in (oracle.load(), memcache):
        client = module.Client([server.address])
        client.set("a", "text")
        host = client.servers[0]
        assert host.connect() == 1
        host.send_cmd("get a")
        assert client._expectvalue(host) == (b"a", 16, 4)
        assert client._recv_value(host, 16, 4) == "text"
        assert host.readline() == b"END"
        host.send_cmd("gets a")
        key, flags, size, cas = client._expect_cas_value(host)
        assert (key, flags, size) == (b"a", 16, 4) and type(cas) is int
        assert client._recv_value(host, flags, size) == "text"
        assert client._expectvalue(host) == (None, None, None)
        assert client._expectvalue(host, b"VALUE k 1 2") == (b"k", 1, 2)
        assert client._expect_cas_value(host, b"VALUE k 1 2 3") == (b"k", 1, 2, 3)
        host.close_socket()


def test_expectvalue_splits_a_line_by_itself(client):
    class Line(bytes):
        def split(self):
            return (b"VALUE", b"other", b"1", b"2")

    assert client._expectvalue(None, Line(b"VALUE k 1 2")) == (b"k", 1, 2)
    assert client._expect_cas_value(None, Line(b"VALUE k 1 2 3")) == (b"k", 1, 2, 3)


@pytest.mark.parametrize("items", [(), (1,)])
def test_encode_key_believes_a_tuples_length_and_not_its_getitem(client, items):
    class Key(tuple):
        def __getitem__(self, at):
            return "text"

    with pytest.raises(IndexError):
        client._encode_key(Key(items))
    assert client._encode_key(Key((7, "a"))) == (7, b"a")


def test_recv_value_refuses_what_is_no_flags_or_no_length(client):
    class Length:
        def __index__(self):
            return len(b"x")  # which asks whether an exception is set

    host = mock.Mock(recv=lambda size: b"x" * size)
    assert client._recv_value(host, 0, Length()) == b"x"
    with pytest.raises(TypeError):
        client._recv_value(host, "flags", Length())
    for length in (-1, -2, sys.maxsize, sys.maxsize - 1):
        with pytest.raises(ValueError):
            client._recv_value(host, 0, length)


@pytest.mark.parametrize("key", [b"a", (1, b"a"), b"k" * 250, b"\xff"])
def test_check_key_takes_a_good_key(client, key):
    assert client.check_key(key) is None


@pytest.mark.parametrize(
    "key, extra, error",
    [
        (None, 0, "None"),
        ((1, None), 0, "None"),
        ("", 0, "None"),
        ("text", 0, "Type"),
        (5, 0, "Type"),
        (b"k" * 251, 0, "Length"),
        (b"k" * 250, 1, "Length"),
        (b"kk", sys.maxsize, "Length"),
        (b"a b", 0, "Character"),
        (b"a\n", 0, "Character"),
        (b"\x00", 0, "Character"),
    ],
)
def test_check_key_refuses_a_bad_one(client, key, extra, error):
    with pytest.raises(getattr(client, f"MemcachedKey{error}Error")):
        client.check_key(key, extra)
    with pytest.raises(getattr(client, f"MemcachedKey{error}Error")):
        client.check_key(key, key_extra_len=extra)


@pytest.mark.parametrize("rest", [3, 10**6, 10**30, -1, "0"])
def test_a_hash_with_a_remainder_of_its_own_cannot_leave_the_buckets(rest, monkeypatch):
    class Number(int):
        def __mod__(self, other):
            return rest

    client = memcache.Client(["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"])
    for call in (client.get, lambda key: client.get_multi([key])):
        with pytest.raises((IndexError, OverflowError, TypeError)):
            call((Number(5), "a"))
    monkeypatch.setattr(memcache, "serverHashFunction", lambda key: Number(5))
    with pytest.raises((IndexError, OverflowError, TypeError)):
        client.get("a")


def test_cas_ids_that_are_forgotten_while_they_are_asked(server):
    class Tokens(dict):
        pass

    class Key:
        def __hash__(self):
            return hash(b"a")

        def __eq__(self, other):
            client.reset_cas()
            alive.append(reference() is not None)
            return False

    client = memcache.Client([server.address], cache_cas=True)
    client.set("a", 1)
    for call in (lambda: client.gets("a"), lambda: client.cas("a", 2)):
        alive = []
        client.cas_ids = Tokens({Key(): 1})
        reference = weakref.ref(client.cas_ids)
        call()
        assert set(alive) == {True}
        assert reference() is None


def test_cas_asks_for_a_token_only_where_there_is_one(server):
    for module in (oracle.load(), memcache):
        client = module.Client([server.address], cache_cas=True)
        client.cas_ids = collections.defaultdict(int)
        client.set("a", 1)
        assert client.cas("a", 2) is True
        assert client.cas_ids == {}
        assert client.gets("a") == 2
        assert client.cas("a", 3) is True
        assert client.cas("a", 4) is False
        assert client.get("a") == 3


# Direct I/O through a host


def test_a_hosts_methods_do_what_python_memcacheds_do(server):
    for module in (oracle.load(), memcache):
        host = module._Host(server.address)
        assert host.socket is None
        assert host.connect() == 1
        assert host.socket is not None
        host.send_cmd("set direct 0 0 5\r\nvalue")
        assert host.expect(b"STORED") == b"STORED"
        host.send_cmd(b"get direct")
        assert host.readline() == b"VALUE direct 0 5"
        assert host.recv(7) == b"value\r\n"
        assert host.readline() == b"END"
        host.send_cmds("get direct\r\nget nothing\r\n")
        assert host.recv(4) == b"VALU"
        assert host.buffer.startswith(b"E direct 0 5\r\n")
        assert host.readline() == b"E direct 0 5"
        assert [host.readline() for _ in range(3)] == [b"value", b"END", b"END"]
        assert host.flush() is None
        assert host.quit() is None
        assert host.socket is None
        assert host._get_socket() is not None
        assert host.close_socket() is None
        assert host.socket is None
        assert host._check_dead() == 0
        assert host.deaduntil == 0


def test_a_hosts_methods_take_their_arguments_by_name(server, capsys):
    for module in (oracle.load(), memcache):
        host = module._Host(server.address, debug=1)
        host.connect()
        assert host.send_cmd(cmd="set named 0 0 5\r\nvalue") is None
        assert host.expect(text=b"STORED", raise_exception=True) == b"STORED"
        assert host.send_cmds(cmds=b"get named\r\n") is None
        assert host.readline(raise_exception=True) == b"VALUE named 0 5"
        assert host.recv(rlen=7) == b"value\r\n"
        host.debuglog(str="a line")
        host.mark_dead(reason="a reason")
        lines = capsys.readouterr().err.replace(str(server.path), "PATH").splitlines()
        assert lines == ["MemCached: a line", "MemCached: MemCache: unix:PATH: a reason.  Marking dead."]
        for call in (host.send_cmd, host.send_cmds, host.recv, host.debuglog, host.mark_dead):
            with pytest.raises(TypeError):
                call()
            with pytest.raises(TypeError):
                call("version", "version")
            with pytest.raises(TypeError):
                call(other="version")


def test_a_host_sends_any_bytes_and_expects_any_text(server, capsys):
    for module in (oracle.load(), memcache):
        host = module._Host(server.address)
        host.connect()
        host.send_cmd(bytearray(b"flush_all"))
        host.send_cmds(bytearray(b"flush_all\r\n"))
        host.send_cmds(memoryview(b"flush_all\r\n"))
        for text in (b"OK", bytearray(b"OK"), "OK"):
            assert host.expect(text) == b"OK"
        host.debug = 1
        host.send_cmd("flush_all")
        assert host.expect(bytearray(b"END")) == b"OK"
        assert capsys.readouterr().err == "MemCached: while expecting 'END', got unexpected response 'OK'\n"
        for call in (host.send_cmd, host.send_cmds):
            with pytest.raises(TypeError):
                call(5)
        host.close_socket()


def test_a_hosts_socket_waits_no_longer_than_the_hosts_timeout():
    """However long new sockets wait by default; and the host's own methods go on as before."""
    with ScriptedServer(lambda command, number: None if command == b"version\r\n" else b"") as server:
        for module in (oracle.load(), memcache):
            host = module._Host(server.address, socket_timeout=0.2)
            before = socket.getdefaulttimeout()
            socket.setdefaulttimeout(50)
            try:
                assert host.connect() == 1
                assert host.socket.gettimeout() == 0.2
            finally:
                socket.setdefaulttimeout(before)
            with pytest.raises(TimeoutError):
                host.socket.recv(1)
            host.socket_timeout = 20
            host.socket.settimeout(20)
            host.socket.sendall(b"version\r\n")
            assert host.readline() == b"VERSION 1.6.18"
            host.send_cmd("version")
            assert host.readline() == b"VERSION 1.6.18"
            host.socket = None
            assert host.socket is None


def test_what_is_left_of_what_a_hosts_socket_read_can_be_put_into_its_buffer(server):
    for module in (oracle.load(), memcache):
        host = module._Host(server.address)
        host.buffer = b""
        assert host.connect() == 1
        host.send_cmds("get nothing\r\nget nothing\r\n")
        data = b""
        while len(data) < 10:
            data += host.socket.recv(100)
        host.buffer = data[3:]
        assert host.buffer == b"\r\nEND\r\n"
        assert [host.readline(), host.readline()] == [b"", b"END"]
        assert host.buffer == b""
        host.close_socket()
    host.buffer = b"nobody sent this"
    assert host.connect() == 1
    assert host.buffer == b""
    with pytest.raises(TypeError):
        host.buffer = "text"


def test_a_hosts_readline_at_the_end_of_the_connection():
    for module in (oracle.load(), memcache):
        with ScriptedServer(lambda command, number: "close") as server:
            host = module._Host(server.address)
            host.connect()
            host.send_cmd("get a")
            assert host.readline() == ""
            assert host.socket is None
            host.deaduntil = 0
            host.connect()
            host.send_cmd("get a")
            with pytest.raises(module._ConnectionDeadError):
                host.readline(True)


def test_a_host_that_cannot_be_reached():
    for module in (oracle.load(), memcache):
        host = module._Host("unix:/nowhere/at/all", dead_retry=100)
        assert host.connect() == 0
        assert host.deaduntil > time.time() + 50
        assert host._check_dead() == 1
        assert host._get_socket() is None
        host.deaduntil = time.time() - 1
        assert host._check_dead() == 0
        assert host.deaduntil == 0


FAR = 1e12  # seconds: what no clock shows


def clock_at(now):
    return mock.patch.object(memcache, "time", mock.Mock(time=lambda: now))


@pytest.mark.parametrize(
    "now, taken",
    [
        (float("inf"), FAR),
        (1e300, FAR),
        (1e13, FAR),
        (float("-inf"), -FAR),
        (-1e300, -FAR),
        (-1e13, -FAR),
        (float("nan"), 0),
    ],
)
def test_a_time_that_no_clock_shows_is_the_nearest_that_can_be_counted(now, taken):
    host = memcache._Host("127.0.0.1:1", dead_retry=30)
    with clock_at(now):
        host.mark_dead("test")
        assert host.deaduntil == taken + 30
        assert str(host) == f"inet:127.0.0.1:1 (dead until {taken + 30:.0f})"
        assert host._check_dead() == 1
    assert host._check_dead() == (taken == FAR)


@pytest.mark.parametrize("forever", [float("inf"), 1e300, 1e13])
def test_a_dead_mark_and_a_dead_retry_beyond_all_time_are_for_ever(forever):
    host = memcache._Host("127.0.0.1:1", dead_retry=forever)
    host.deaduntil = forever
    assert host.deaduntil == FAR
    host.mark_dead("test")
    assert host.deaduntil == pytest.approx(FAR + time.time())
    with clock_at(float("inf")):
        host.mark_dead("test")
        assert host.deaduntil == 2 * FAR
        assert host._check_dead() == 1


@pytest.mark.parametrize("no", [float("-inf"), float("nan"), -1e300, -1, 0])
def test_a_dead_mark_and_a_dead_retry_that_are_no_time_are_none(no):
    host = memcache._Host("127.0.0.1:1", dead_retry=no)
    host.deaduntil = no
    assert host.deaduntil == 0
    host.mark_dead("test")
    assert host._check_dead() == 0


def test_a_host_is_hashable_and_equal_to_itself_alone():
    one, other = memcache._Host("127.0.0.1"), memcache._Host("127.0.0.1")
    assert {one: 1}[one] == 1
    assert one != other


def test_a_hosts_own_connection_is_not_the_calls(server):
    client = memcache.Client([server.address])
    host = client.servers[0]
    assert host.connect()
    host.send_cmd("version")
    assert client.set("a", "text") is True
    assert client.get("a") == "text"
    assert host.readline().startswith(b"VERSION ")
    host.close_socket()


GOES_AWAY = """
import sys, zlib
import memcache

class Leaves:
    # Takes itself away when it is first asked, and is asked once more.
    def forget(self):
        if sys.argv[1] == "socket":
            del memcache.socket
        elif sys.argv[1] == "time":
            del memcache.time
        else:
            del sys.modules["zlib"]
        raise AttributeError

    socket = time = compress = property(forget)

    def __getattr__(self, name):
        return {"socket": None, "time": lambda: self.now}.get(name)

    now = 5e9

client = memcache.Client(["127.0.0.1:1"])
if sys.argv[1] == "zlib":
    compress = zlib.compress
    sys.modules["zlib"] = Leaves()
    client.compressor = compress
    assert client.compressor is compress
elif sys.argv[1] == "socket":
    memcache.socket = Leaves()
    assert client.get("a") is None
else:
    memcache.time = Leaves()
    client.servers[0].mark_dead("test")
    assert client.servers[0].deaduntil == 5e9 + 30
print("done")
"""


@pytest.mark.parametrize("name", ["socket", "time", "zlib"])
def test_a_module_that_is_replaced_while_it_is_asked(name):
    done = subprocess.run(
        [sys.executable, "-c", GOES_AWAY, name],
        cwd=Path(memcache.__file__).parent,
        env=os.environ | {"PYTHONMALLOC": "debug"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_importing_the_module_imports_no_module_that_is_not_needed_yet():
    code = "import sys; sys.path.append(sys.argv[1]); import memcache\n"
    code += "print({'pickle', 'zlib', 'socket'}.intersection(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(Path(memcache.__file__).parent)], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("name", ["address", "ip", "port", "family"])
def test_what_a_host_is_connected_to_can_only_be_read(name):
    host = memcache._Host("127.0.0.1:11211")
    before = getattr(host, name)
    with pytest.raises(AttributeError):
        setattr(host, name, before)
    assert getattr(host, name) == before


def test_a_weight_of_another_type_keeps_its_references():
    weight = object()
    before = sys.getrefcount(weight)
    for _ in range(10):
        with pytest.raises(TypeError):
            memcache.Client([("127.0.0.1:11211", weight)])
    assert sys.getrefcount(weight) == before


def run_debugging_memory(code):
    """In a process of its own where what is freed is overwritten."""
    environment = os.environ | {
        "PYTHONMALLOC": "debug",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_long_chain_of_hosts_can_be_dropped():
    code = """
        import memcache

        last = None
        for _ in range(200000):
            host = memcache._Host("127.0.0.1:1")
            host.weight = last
            last = host
        del host, last
        print("ok")
    """
    assert run_debugging_memory(code) == "ok\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_what_a_hash_raises_goes_to_the_caller(error):
    class Hash:
        def __index__(self):
            raise error

    client = memcache.Client(["127.0.0.1:1", "127.0.0.1:2"])
    for call in (lambda: client.get((Hash(), "k")), lambda: client.get_multi([(Hash(), "k")])):
        with pytest.raises(error):
            call()


@pytest.mark.parametrize("weight", [1 << 70, -(1 << 70)])
def test_a_weight_beyond_all_bounds_is_a_value_error_that_names_it(weight):
    client = memcache.Client([])
    for take in (memcache.Client, client.set_servers):
        with pytest.raises(ValueError, match="the weight of a server"):
            take([("127.0.0.1:11211", weight)])
    assert client.servers == []
    client.set_servers(["127.0.0.1:11211"])
    before = client.servers
    with pytest.raises(ValueError, match="the weight of a server"):
        client.set_servers(["127.0.0.1:11212", ("127.0.0.1:11213", weight)])
    assert client.servers == before and len(client.buckets) == 1


def test_a_dead_retry_beyond_all_bounds_is_a_value_error_that_names_it():
    with pytest.raises(ValueError, match="dead_retry"):
        memcache.Client(["127.0.0.1:11211"], dead_retry=10**400)
    with pytest.raises(ValueError, match="dead_retry"):
        memcache._Host("127.0.0.1:11211", dead_retry=10**400)


def test_the_extra_length_of_check_key_is_any_int():
    clients = [module.Client([]) for module in (oracle.load(), memcache)]
    for client in clients:
        client.check_key(b"key", -(1 << 70))
        with pytest.raises(client.MemcachedKeyLengthError):
            client.check_key(b"key", 1 << 70)
    with pytest.raises(TypeError, match="key_extra_len"):
        clients[1].check_key(b"key", "1")
