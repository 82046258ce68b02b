"""What a server has of the meta protocol is asked once, with commands that harm no server; none that was not proven to
know a command sees a data block behind it."""

import threading

import pytest
from scripted_server import CLOSE, EMPTY, PATIENCE, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

AT_ONCE = 20 * PATIENCE
META = (b"mn", b"mg", b"md", b"ms", b"ma", b"me")


def word(command):
    return command.split(None, 1)[0] if command.split() else b""


def refusing(line):
    """A server that has no command of the meta protocol, and says so."""
    return lambda command, number: line if word(command) in META else EMPTY.get(word(command), b"ERROR\r\n")


def closing(command, number):
    """twemproxy closes where it does not know a command."""
    return CLOSE if word(command) in META else None


def complaining(command, number):
    """mcrouter says so before it closes."""
    return (b"CLIENT_ERROR malformed request\r\n", CLOSE) if word(command) in META else None


def old_meta(command, number):
    """1.4.31 to 1.5: mg, but no mn, and other answers."""
    if word(command) == b"mn":
        return b"EN\r\n"
    return b"CLIENT_ERROR bad command line format\r\n" if word(command) in META else None


def executes_what_it_reads(command, number):
    """Each line is a command to it: a data block would be, too."""
    return b"ERROR\r\n" if word(command) in META else None


OLD = {
    "ERROR": refusing(b"ERROR\r\n"),
    "CLIENT_ERROR": refusing(b"CLIENT_ERROR what?\r\n"),
    "twemproxy": closing,
    "mcrouter": complaining,
    "1.5.22": old_meta,
}
each_old = pytest.mark.parametrize("name", OLD)

CALLS = {
    "get_item": lambda cache: cache.get_item("key"),
    "get_items": lambda cache: cache.get_items(["key", "other"]),
    "get_and_touch": lambda cache: cache.get_and_touch("key", 100),
    "get_or_set": lambda cache: cache.get_or_set("key", lambda: b"flush_all\r\ndelete key", 100),
    "invalidate": lambda cache: cache.invalidate("key"),
}
each_call = pytest.mark.parametrize("call", CALLS)


@each_old
@each_call
def test_an_old_server_is_asked_once_and_sees_no_data_block_behind_a_meta_command(name, call):
    with ScriptedServer(OLD[name]) as server, mcext.Cache([server.address], timeout=AT_ONCE) as cache:
        for _ in range(4):
            CALLS[call](cache)
        probes = [command for command in server.commands if word(command) == b"mn"]
        assert len(probes) == 1
        known = set(EMPTY) | set(META)
        assert {word(command) for command in server.commands} <= known, "a data block was read as a command"
        assert cache.servers[0].alive is True
        assert cache.metrics()["dead_marks"] == 0
        assert cache.metrics()["connects"] <= 2
        meta = [command for command in server.commands if word(command) in META]
        assert len(meta) <= 2, "only the probe"


@each_old
def test_threads_that_meet_an_old_server_at_once_are_all_served(name):
    with ScriptedServer(OLD[name]) as server, mcext.Cache([server.address], timeout=AT_ONCE) as cache:
        threads, errors = 8, []
        barrier = threading.Barrier(threads)

        def run():
            barrier.wait()
            try:
                for _ in range(10):
                    assert cache.get_item("key") is None
                    assert cache.get("key") is None
            except BaseException as error:
                errors.append(error)

        running = [threading.Thread(target=run) for _ in range(threads)]
        for each in running:
            each.start()
        for each in running:
            each.join()
        assert errors == []
        assert len([command for command in server.commands if word(command) == b"mn"]) <= threads
        assert cache.metrics()["dead_marks"] == 0


def test_a_real_server_is_probed_once_for_all_connections_and_threads(memcached):
    with mcext.Cache([memcached.address], timeout=AT_ONCE) as cache:
        for _ in range(20):
            cache.get_item("key")
        assert cache.metrics()["calls"] == {"mn": 1, "mg": 20}
        cache.close()
        cache.get_item("key")
        assert cache.metrics()["calls"]["mn"] == 1, "a new connection is no new server"


def test_calls_that_need_no_meta_protocol_probe_nothing(memcached):
    with mcext.Cache([memcached.address], timeout=AT_ONCE) as cache:
        cache.set("a", 1)
        cache.get("a")
        cache.get_many(["a"])
        cache.incr("a", initial=1)
        cache.update("a", lambda old: 1)
        cache.delete("a")
        assert "mn" not in cache.metrics()["calls"]


@pytest.mark.parametrize("line", [b"ERROR\r\n", b"CLIENT_ERROR bad command line format\r\n"])
@each_call
def test_a_verdict_that_proves_wrong_is_forgotten(line, call):
    """Another server has taken the address."""
    old = []

    def script(command, number):
        if word(command) in META and old:
            return line
        return {b"mn": b"MN\r\n", b"mg": b"EN\r\n", b"md": b"NF\r\n"}.get(word(command))

    with ScriptedServer(script) as server, mcext.Cache([server.address], timeout=AT_ONCE) as cache:
        cache.get_item("key")
        old.append(True)
        try:
            CALLS[call](cache)
        except mcext.PartialFailure:
            assert call == "get_items"  # which says so once
        CALLS[call](cache)
        probes = [command for command in server.commands if word(command) == b"mn"]
        assert len(probes) == 2
        before = len([command for command in server.commands if word(command) in META])
        CALLS[call](cache)
        assert len([command for command in server.commands if word(command) in META]) == before
        assert cache.servers[0].alive is True


def test_two_servers_are_judged_each_for_itself(memcached):
    with ScriptedServer(OLD["ERROR"]) as old:
        with mcext.Cache([old.address, memcached.address], timeout=AT_ONCE) as cache:
            keys = [f"key{number}" for number in range(40)]
            cache.set_many(dict.fromkeys(keys, b"v"))
            items = cache.get_items(keys)
            ours = [key for key in keys if cache.server_for(key) == memcached.address]
            assert 0 < len(ours) < 40
            assert set(items) == set(ours)
            assert all(item.size == 1 for item in items.values())
            assert [cache.get_item(key) is not None for key in keys] == [key in ours for key in keys]


def test_a_server_that_is_replaced_by_a_newer_one_is_asked_again_some_time():
    """A restart under the same address closes the connections, and the verdict is asked anew where it was good."""
    with start_memcached() as server:
        with mcext.Cache([server.address], timeout=AT_ONCE, dead_retry=0) as cache:
            cache.set("key", 1)
            assert cache.get_item("key").ttl is None
            server.restart()
            assert cache.get_item("key") is None
            cache.set("key", 2)
            assert cache.get_item("key").size == 1


def test_a_connection_that_ended_while_it_was_idle_says_nothing_of_the_meta_protocol():
    """The server was started anew between two calls."""

    def script(command, number):
        answers = {b"mn": b"MN\r\n", b"mg AA==": b"EN kAA== b O1\r\n", b"mg k": b"VA 5 kk f16 c7\r\nvalue\r\n"}
        if command.startswith(b"set"):
            return (b"STORED\r\n", CLOSE)
        return next((answer for word, answer in answers.items() if command.startswith(word)), None)

    with ScriptedServer(script) as server:
        with mcext.Cache([server.address]) as cache:
            cache.set("a", 1)
            server.wait_for(lambda server: server.connections[0].closed.is_set())
            assert cache.get_item("k").value == "value"
            assert not any(command.startswith(b"gets") for command in server.commands)
