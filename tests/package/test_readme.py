"""What README, differences and docstrings tell whoever switches over: the examples run, and the cases are named."""

import re
import textwrap
import threading
from pathlib import Path

import oracle
import pytest
from scripted_server import ScriptedServer

import memcache

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DIFFERENCES = (ROOT / "docs" / "differences.md").read_text()


def block(word):
    """The one Python block of the README that holds the word."""
    (found,) = [one for one in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if word in one]
    return found


def in_threads(function, count):
    threads = [threading.Thread(target=function, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# cache_cas


def test_the_loop_around_gets_and_cas_loses_no_update(memcached):
    names = {"memcache": memcache}
    exec(block("cas(").replace("127.0.0.1:11211", memcached.address), names)
    join, client = names["join"], names["mc"]
    joined = []
    in_threads(lambda number: joined.extend(join("room", f"{number}.{each}") for each in range(10)), 4)
    assert joined == [True] * 40
    assert sorted(client.get("room")) == sorted(f"{number}.{each}" for number in range(4) for each in range(10))


def test_the_loop_around_gets_and_cas_ends_where_no_server_is():
    names = {"memcache": memcache}
    exec(block("cas(").replace("127.0.0.1:11211", "127.0.0.1:1"), names)
    assert names["join"]("room", "late") is False


def test_cas_without_cache_cas_overwrites_as_python_memcached_does(memcached):
    for module in (oracle.load(), memcache):
        client = module.Client([memcached.address])
        client.set("a", 1)
        assert client.gets("a") == 1
        client.set("a", 2)
        assert client.cas("a", 3) is True
        assert client.get("a") == 3
        client.disconnect_all()


def test_the_loop_in_the_docstring_of_cas_works(memcached):
    (loop,) = re.findall(r"\n\n((?:    .*\n)+)\n", memcache.Client.cas.__doc__)
    client = memcache.Client([memcached.address], cache_cas=True)

    def count(number):
        for _ in range(10):
            names = {"client": client, "key": "count", "first": 1, "change": lambda old: old + 1}
            exec(textwrap.dedent(loop), names)

    in_threads(count, 4)
    assert client.get("count") == 40


def test_what_cas_needs_is_said_where_people_look():
    for text in (memcache.Client.gets.__doc__, memcache.Client.cas.__doc__, memcache.Client.__doc__, README):
        assert "cache_cas=True" in text


# flags


def test_flags_beside_a_known_bit_are_read_as_python_memcached_reads_them(memcached):
    for text in (README, DIFFERENCES):
        assert "unknown flags" not in text
        assert "flags 48 are text" in text
    client = oracle.load().Client([memcached.address])
    (host,) = client.servers
    client._val_to_store_info = lambda value, least: (48, 4, b"text")
    assert client.set("a", "anything") is True
    assert client.get("a") == "text"
    assert memcache.Client([memcached.address]).get("a") == "text"


# values that are too large


@pytest.mark.parametrize("module", [oracle.load(), memcache], ids=["python-memcached", "mcext"])
def test_the_clients_refusal_of_a_value_leaves_the_old_one_and_memcacheds_removes_it(module, memcached):
    large = "x" * 3_000_000
    refuses = module.Client([memcached.address])
    assert refuses.set("a", "old") is True
    assert refuses.set("a", large) == 0
    assert refuses.get("a") == "old"
    sends = module.Client([memcached.address], server_max_value_length=0)
    assert sends.set("a", large) is False
    assert sends.get("a") is None
    refuses.disconnect_all()
    sends.disconnect_all()


def test_a_refused_value_of_a_set_multi_leaves_the_old_one_too(memcached):
    client = memcache.Client([memcached.address])
    client.set("a", "old")
    assert client.set_multi({"a": "x" * 3_000_000, "b": "new"}) == ["a"]
    assert client.get_multi(["a", "b"]) == {"a": "old", "b": "new"}
    sends = memcache.Client([memcached.address], server_max_value_length=0)
    assert sends.set_multi({"a": "x" * 3_000_000, "b": "newer"}) == ["a"]
    assert sends.get_multi(["a", "b"]) == {"b": "newer"}


def test_what_becomes_of_the_old_value_is_said():
    for text in (memcache.Client.set.__doc__, README):
        assert "too large" in text and "old value" in " ".join(text.split())


# queues that speak the protocol


def test_a_queue_that_answers_under_a_shorter_name_is_named_as_a_case_to_look_for():
    """Kestrel's timed and reliable reads are options behind the name of the queue."""
    for text in (README, DIFFERENCES):
        assert "`get q/t=500/open`" in text

    def queue(command, number):
        return b"VALUE q 0 3\r\njob\r\nEND\r\n" if command.startswith(b"get q") else None

    with ScriptedServer(queue) as server:
        theirs, ours = (module.Client([server.address]) for module in (oracle.load(), memcache))
        assert theirs.get("q/t=500/open") == b"job"
        assert ours.get("q/t=500/open") is None
        assert server.connections[1].closed.wait(20)
        assert ours.get("q") == b"job"
        theirs.disconnect_all()
