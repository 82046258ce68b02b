"""keys: each key once, of all servers: of busy, old, broken and hostile ones, and to readers that are slow."""

import base64
import json
import socket
import threading
import time

import pytest
from command_line import mcext
from scripted_server import CLOSE, CUT, STALL, ScriptedServer

from mcext import Cache
from mcext.cli.fleet import Access, Fleet
from mcext.cli.metadump import Listed, listing
from mcext.cli.spool import Spool
from mcext.testing import memcached as start

LINE = b"key=%b exp=-1 la=0 cas=1 fetch=no cls=1 size=60\n"


@pytest.fixture(scope="module")
def full():
    """A server with some keys, which tests here only read."""
    with start() as server:
        cache = Cache(server.address)
        cache.set("user:1", b"x" * 300, ttl=5000)
        cache.set("user:2", b"x" * 200, ttl=1000)
        cache.set("page:1", b"x" * 100)
        yield server


def scripted(*answers):
    """A server that answers the first, second ... `lru_crawler` with these; the last one from then on."""
    left = list(answers)

    def answer(command, number):
        if command.startswith(b"lru_crawler"):
            return left.pop(0) if len(left) > 1 else left[0]
        return None

    return ScriptedServer(answer)


def test_keys_go_into_a_pipe_one_a_line(full):
    done = mcext("keys", full.address)
    assert sorted(done.out.splitlines()) == ["page:1", "user:1", "user:2"] and (done.status, done.err) == (0, "")


def test_a_terminal_sees_size_ttl_and_age_beside_the_key(full):
    head, *rows = mcext("keys", full.address, "--sort", "size", terminal=True).out.splitlines()
    assert head.split() == ["SIZE", "TTL", "AGE", "KEY"]
    found = [row.split() for row in rows]
    assert [row[3] for row in found] == ["user:1", "user:2", "page:1"]
    assert int(found[0][0]) > 300 and 4000 < int(found[0][1]) <= 5000 and int(found[0][2]) < 1000
    assert found[2][1] == "never"


@pytest.mark.parametrize(
    "options, keys",
    [
        (["--match", "user:*"], {"user:1", "user:2"}),
        (["--match", "*:1", "--sort", "size"], ["user:1", "page:1"]),
        (["--match", "[u]ser:?", "--sort", "ttl"], ["user:2", "user:1"]),
        (["--sort", "ttl"], ["user:2", "user:1", "page:1"]),
        (["--sort", "size", "--limit", "1"], ["user:1"]),
        (["--match", "USER*"], set()),
    ],
    ids=lambda each: " ".join(sorted(each)),
)
def test_keys_are_matched_sorted_and_limited(full, options, keys):
    found = [json.loads(line)["key"] for line in mcext("keys", full.address, "--json", *options).out.splitlines()]
    assert (found if isinstance(keys, list) else set(found)) == keys and len(found) == len(keys)


def test_the_oldest_are_first_by_age():
    lines = [b"key=%d exp=-1 la=%d cas=1 fetch=no cls=1 size=60\n" % (number, number) for number in (3, 1, 2)]
    with scripted(b"".join(lines) + b"END\r\n") as server:
        assert mcext("keys", server.address, "--sort", "age").out == "1\n2\n3\n"
        assert mcext("keys", server.address, "--sort", "age", "--limit", "2").out == "1\n2\n"


def test_a_limit_ends_the_listing_without_reading_all_of_it():
    with scripted((LINE % b"a" + LINE % b"b" + LINE % b"c", STALL)) as server:
        assert mcext("keys", server.address, "--limit", "2").out == "a\nb\n"


def test_keys_of_all_servers_are_listed_with_their_server(full, memcached):
    Cache(memcached.address).set("other", b"1")
    done = mcext("keys", full.address, memcached.address, "--json")
    found = {row["key"]: row["server"] for row in map(json.loads, done.out.splitlines())}
    assert found == {**dict.fromkeys(["user:1", "user:2", "page:1"], full.address), "other": memcached.address}
    assert "SERVER" in mcext("keys", full.address, memcached.address, terminal=True).out.splitlines()[0]


def test_a_server_that_is_down_is_named_and_the_others_are_listed(full):
    done = mcext("keys", "127.0.0.1:1", full.address)
    assert done.status == 1 and done.out.count("\n") == 3
    assert "127.0.0.1:1" in done.err and done.err.count("\n") == 1


def test_the_time_that_an_item_has_left_is_that_of_now():
    """A listing may be taken up long after it was written."""
    now = time.monotonic()
    assert Listed(b"a", 60, now + 4.5, 0).ttl == 5 and Listed(b"a", 60, now - 1, 0).ttl == 0
    assert Listed(b"a", 60, None, 0).ttl is None


def test_keys_of_any_characters_come_as_they_are(memcached):
    keys = ["a%20b", "zwölf", "a+b", "k" * 250, "key=x", "%"]
    Cache(memcached.address).set_many(dict.fromkeys(keys, b"1"))
    binary = b"with space \xff\n"
    with socket.create_connection((memcached.host, memcached.port)) as direct:
        direct.sendall(b"ms %b 1 b\r\n1\r\n" % base64.b64encode(binary))
        assert direct.recv(100).startswith(b"HD")
    found = {item.key for item in listing(Fleet([(memcached.address, 1)], Access(5.0)), memcached.address)}
    assert found == {*(key.encode() for key in keys), binary}
    done = mcext("keys", memcached.address)
    assert {*done.out.splitlines()} == {*keys, "with\\x20space\\x20\\xff\\x0a"}
    found = [json.loads(line) for line in mcext("keys", memcached.address, "--json").out.splitlines()]
    assert base64.b64encode(binary).decode() in [row.get("key_base64") for row in found]


def test_a_reader_that_is_slow_gets_each_key_once(memcached):
    """memcached spoils a listing whose reader takes nothing for a second."""
    keys = [f"{number}:{'k' * 200}" for number in range(30000)]
    cache = Cache(memcached.address, timeout=10)
    for at in range(0, len(keys), 1000):
        assert cache.set_many(dict.fromkeys(keys[at : at + 1000], b"")) == []
    found = listing(Fleet([(memcached.address, 1)], Access(5.0)), memcached.address)
    taken = [next(found).key]
    time.sleep(2.5)
    taken += [item.key for item in found]
    assert len(taken) == len({*taken}) == len(keys)


def test_a_crawl_that_is_under_way_is_waited_for():
    busy = b"BUSY currently processing crawler request\r\n"
    with scripted(busy, busy, LINE % b"a" + b"END\r\n") as server:
        assert mcext("keys", server.address) == (0, "a\n", "")


@pytest.mark.parametrize(
    "answers, said",
    [
        ([b"ERROR\r\n"], "older than memcached 1.4.31"),
        ([b"CLIENT_ERROR lru crawler disabled\r\n"], "lru crawler disabled"),
        ([b"CLIENT_ERROR metadump not allowed\r\n"], "not allowed"),
        ([(LINE % b"a" + b"key=", CLOSE)], "closed the connection"),
        ([(LINE % b"a" + b"key=", CUT)], "closed the connection"),
        ([(LINE % b"a" + b"key=", STALL)], "did not answer in time"),
        ([(STALL,)], "did not answer in time"),
        ([LINE % b"a" + b"garbage\n" + b"END\r\n"], "garbage"),
        ([LINE % b"a" + b"key=a exp=x la=0 cas=1 fetch=no cls=1 size=60\nEND\r\n"], "exp=x"),
        ([LINE % b"a" + b"x" * 100000 + b"\nEND\r\n"], "what no memcached answers"),
        ([(b"x" * 100000, STALL)], "what no memcached answers"),
        ([LINE % b"a" + b"ERROR cannot pipeline\r\nEND\r\n"], "cannot pipeline"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_listing_that_fails_is_status_1_and_one_line_that_says_why(answers, said):
    with scripted(*answers) as server:
        done = mcext("keys", server.address, "--timeout", "1" if "in time" in said else "20")
    assert done.status == 1 and said in done.err and done.err.count("\n") == 1 and server.address in done.err
    assert done.out in ("", "a\n")


def test_a_crawler_that_is_off_is_said_by_a_real_server():
    with start("-o", "no_lru_crawler") as server:
        Cache(server.address).set("a", b"1")
        done = mcext("keys", server.address)
    assert done.status == 1 and "crawler disabled" in done.err and done.err.count("\n") == 1


def test_a_server_that_cannot_go_through_its_table_lists_by_its_lru():
    for refusal in (b"CLIENT_ERROR bad data chunk\r\n", b"END\r\n"):
        with scripted(refusal, LINE % b"a" + b"END\r\n") as server:
            answers = server._function
            server._function = lambda command, number, answers=answers: (
                b"STAT curr_items 1\r\nEND\r\n" if command.startswith(b"stats") else answers(command, number)
            )
            assert mcext("keys", server.address) == (0, "a\n", "")
            asked = [one for one in server.commands if one.startswith(b"lru")]
        assert asked == [b"lru_crawler metadump hash\r\n", b"lru_crawler metadump all\r\n"]


class Blocks:
    """Stands for a connection that gives these blocks, and then nothing but the end of the test."""

    def __init__(self, blocks):
        self._blocks = iter(blocks)

    def block(self):
        return next(self._blocks)

    def shut(self):
        pass


def test_the_end_of_a_listing_is_seen_wherever_its_bytes_are_cut():
    text = LINE % b"END" + LINE % b"a" + b"END\r\n"
    for at in range(1, len(text)):
        for then in range(at + 1, len(text) + 1):
            with Spool(Blocks(filter(None, [text[:at], text[at:then], text[then:]]))) as spool:
                assert list(spool.lines()) == text.split(b"\n")[:2], (at, then)


@pytest.mark.parametrize("items", [b"", LINE % b"a", LINE % b"a" + LINE % b"b"])
def test_a_listing_of_a_newer_memcached_begins_with_ok(items):
    """As memcached 1.6.45 has it; it is asked once, and what it says comes once."""
    with scripted(b"OK\r\n" + items + b"END\r\n", b"ERROR\r\n") as server:
        done = mcext("keys", server.address)
        assert (done.status, done.err) == (0, "") and done.out.split() == ["a", "b"][: items.count(b"key=")]


def test_a_listing_that_is_left_early_ends_its_thread():
    before = threading.active_count()
    with scripted((LINE % b"a", STALL)) as server:
        found = listing(Fleet([(server.address, 1)], Access(60.0)), server.address)
        next(found)
        began = time.monotonic()
        found.close()
        assert time.monotonic() - began < 30
    assert threading.active_count() <= before
