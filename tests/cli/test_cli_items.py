"""get, set, add, delete, touch, incr, decr: what they do at the server, what they print, how they end."""

import json
import pickle

import ports
import pytest
from command_line import Bytes, Trap, mcext

from mcext import Cache, Client


@pytest.fixture
def call(memcached):
    """Runs a command on the test's server."""
    return lambda *words, **options: mcext(*words, "--servers", memcached.address, **options)


@pytest.fixture
def cache(memcached):
    with Cache(memcached.address, codec=Bytes()) as made:
        yield made


def test_set_stores_bytes_flags_and_ttl_as_they_are_said(call, cache):
    done = call("set", "greeting", "hello wörld", "--ttl", "60", "--flags", "16")
    assert done == (0, "greeting: stored\n", "")
    item = cache.get_item("greeting")
    assert item.value == ("hello wörld".encode(), 16) and 50 <= item.ttl <= 60


def test_set_without_options_stores_plain_bytes_for_ever(call, cache):
    assert call("set", "a", "1").status == 0
    assert cache.get_item("a")[:2] == ((b"1", 0), 0) and cache.get_item("a").ttl is None


def test_set_reads_a_value_of_any_bytes_from_standard_input(call, cache):
    data = bytes(range(256)) * 10
    assert call("set", "a", "-", stdin=data).status == 0
    assert cache.get("a") == (data, 0)


def test_what_set_stores_as_text_a_client_reads_as_text(call, memcached):
    call("set", "a", "text", "--flags", "16")
    assert Client([memcached.address]).get("a") == "text"


def test_get_gives_a_pipe_the_bytes_of_the_value_and_nothing_else(call, cache):
    cache.set("a", (b"\x00\xff\n\x1b[31m", 7))
    done = call("get", "a")
    assert done.status == 0 and done.err == ""
    assert done.out.encode("utf-8", "surrogateescape") == b"\x00\xff\n\x1b[31m"


def test_get_shows_a_terminal_what_the_item_is_and_no_control_character(call, cache):
    cache.set("a", ("zwölf\n\x1b[31m\u202e".encode() + b"\xff", 7), 60)
    done = call("get", "a", terminal=True)
    head, value = done.out.splitlines()
    words = dict(word.split("=") for word in head.split()[1:])
    assert head.startswith("a  ") and (words["flags"], words["size"], words["hit"]) == ("7", "16", "no")
    assert 50 <= int(words["ttl"]) <= 60
    assert value == "zwölf\\x0a\\x1b[31m\\u202e\\xff"


def test_get_raw_gives_a_terminal_the_bytes_too(call, cache):
    cache.set("a", (b"\x1b[31m", 0))
    assert call("get", "a", "--raw", terminal=True).out == "\x1b[31m"


def test_get_of_several_keys_shows_each_and_names_those_that_are_not_there(call, cache):
    cache.set("a", (b"1", 0))
    cache.set("b", (b"2", 0))
    done = call("get", "a", "ghost", "b")
    assert done.status == 1 and done.err == "mcext: ghost: not found\n"
    assert done.out.splitlines()[1::2] == ["1", "2"]


def test_get_json_has_all_that_is_known_a_line_for_each_key(call, cache):
    cache.set("a", (b"text", 16), 60)
    cache.set("b", (b"\xff", 0))
    done = call("get", "a", "b", "c", "--json")
    a, b, c = map(json.loads, done.out.splitlines())
    assert 50 <= a.pop("ttl") <= 60 and a.pop("cas") > 0 and a.pop("age") < 10
    assert a == {"key": "a", "found": True, "flags": 16, "size": 4, "hit": False, "stale": False, "value": "text"}
    assert b["value_base64"] == "/w==" and b["ttl"] is None and "value" not in b
    assert c == {"key": "c", "found": False} and done.status == 1


def test_get_never_unpickles_unless_it_is_told_to(call, cache, tmp_path):
    path = tmp_path / "trap"
    cache.set("a", (pickle.dumps(Trap(str(path))), 1))
    for options in ((), ("--json",), ("--raw",)):
        assert call("get", "a", *options).status == 0
        assert call("get", "a", *options, terminal=True).status == 0
    assert not path.exists()
    assert call("get", "a", "--pickle").status == 0
    assert path.exists()


def test_get_pickle_shows_what_a_client_stored(call, memcached):
    client = Client([memcached.address])
    for key, value in {"a": [1, "two\x1b"], "b": 7, "c": "text" * 100}.items():
        client.set(key, value, min_compress_len=100)
    done = call("get", "a", "b", "c", "--pickle")
    assert done.out.splitlines()[1::2] == ["[1, 'two\\x1b']", "7", repr("text" * 100)]
    assert json.loads(call("get", "a", "--pickle", "--json").out)["repr"] == "[1, 'two\\x1b']"


def test_a_value_that_does_not_decode_is_said_in_one_line(call, cache):
    cache.set("a", (b"no pickle", 1))
    done = call("get", "a", "--pickle")
    assert done.status == 1 and done.out == "" and done.err.count("\n") == 1
    assert done.err.startswith("mcext: a: it does not decode: ")


def test_a_value_without_bytes_is_stored_and_shown_as_it_is(call, memcached):
    assert call("set", "a", "").status == 0
    assert Client([memcached.address]).get("a") == b""
    assert json.loads(call("get", "a", "--json").out)["size"] == 0
    assert call("get", "a") == (0, "", "")
    assert call("add", "a", "").status == 1
    assert call("add", "b", "", "--ttl", "60").status == 0


def test_the_stub_of_a_lease_is_no_value(call, memcached):
    seen = []
    Cache(memcached.address).get_or_set("a", lambda: seen.append(call("get", "a")) or 1)
    assert seen == [(1, "", "mcext: a: not found\n")]


def test_add_leaves_what_is_there(call, cache):
    assert call("add", "a", "first") == (0, "a: stored\n", "")
    assert call("add", "a", "second") == (1, "", "mcext: a: not stored: it is there already\n")
    assert json.loads(call("add", "a", "third", "--json").out) == {"key": "a", "stored": False}
    assert cache.get("a") == (b"first", 0)


def test_delete_and_touch_say_of_each_key_whether_it_was_there(call, cache):
    cache.set("a", (b"1", 0))
    cache.set("b", (b"2", 0))
    assert call("touch", "a", "ghost", "--ttl", "60") == (1, "a: touched\n", "mcext: ghost: not found\n")
    assert 50 <= cache.get_item("a").ttl <= 60
    assert call("touch", "a").status == 0 and cache.get_item("a").ttl is None
    assert call("delete", "a", "b") == (0, "a: deleted\nb: deleted\n", "")
    assert cache.get_many(["a", "b"]) == {}
    assert json.loads(call("delete", "a", "--json").out) == {"key": "a", "deleted": False}


def test_incr_and_decr_print_the_number(call, cache):
    assert call("incr", "n") == (1, "", "mcext: n: not found\n")
    assert call("incr", "n", "5", "--initial", "10", "--ttl", "60") == (0, "10\n", "")
    assert call("incr", "n", "5") == (0, "15\n", "")
    assert call("decr", "n", "100") == (0, "0\n", "")
    assert json.loads(call("incr", "n", "--json").out) == {"key": "n", "number": 1}
    assert 50 <= cache.get_item("n").ttl <= 60


def test_incr_of_what_is_no_number_is_said_in_the_servers_words(call):
    call("set", "a", "text")
    done = call("incr", "a")
    assert done.status == 1 and done.out == "" and "non-numeric value" in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (["get"], "key"),
        (["get", "a b"], "key"),
        (["get", "a\x1b"], "key"),
        (["get", "a" * 251], "key"),
        (["get", "a", "b", "--raw"], "--raw takes one key"),
        (["get", "a", "--raw", "--pickle"], "--pickle"),
        (["get", "a", "--no-such-option"], "--no-such-option"),
        (["get", "a", "--js"], "--js"),
        (["set", "a"], "value"),
        (["set", "a", "1", "--ttl", "0"], "--ttl"),
        (["set", "a", "1", "--ttl", "nan"], "--ttl"),
        (["set", "a", "1", "--flags", "-1"], "--flags"),
        (["set", "a", "1", "--flags", str(2**32)], "flags"),
        (["incr", "a", "-1"], "delta"),
        (["incr", "a", "--ttl", "5"], "--initial"),
        (["delete"], "key"),
        (["gte", "a"], "gte"),
        (["\x1b[31m"], "\\x1b[31m"),
    ],
)
def test_wrong_use_is_status_2_and_one_line_that_names_it(words, said):
    done = mcext(*words)
    assert done.status == 2 and done.out == ""
    assert said in done.err and done.err.count("\n") == 1 and done.err.startswith("mcext: ") and "\x1b" not in done.err


def test_a_server_that_is_down_is_status_1_and_one_line_that_names_it():
    with ports.bound() as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        for words in (
            ["get", "a"],
            ["set", "a", "1"],
            ["set", "a", ""],
            ["add", "a", "1"],
            ["delete", "a"],
            ["incr", "a"],
        ):
            done = mcext(*words, "--servers", address)
            assert done.status == 1 and done.out == ""
            assert address in done.err and done.err.count("\n") == 1, words


def test_get_shows_what_the_other_servers_have_where_one_is_down(memcached):
    with ports.bound() as closed:
        servers = f"{memcached.address},127.0.0.1:{closed.getsockname()[1]}"
        cache = Cache(servers.split(","), on_dead="miss")
        here = [key for key in map(str, range(20)) if cache.server_for(key) == memcached.address]
        for key in here:
            cache.set(key, b"x")
        done = mcext("get", *map(str, range(20)), "--json", "--servers", servers, "--on-dead", "miss")
    assert done.status == 1 and done.err.count("\n") == 1
    assert sorted(json.loads(line)["key"] for line in done.out.splitlines()) == sorted(here) and here
