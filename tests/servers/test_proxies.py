"""Behind a proxy: values in any order, and one server of several that is down, cost no other key its answer.

What each proxy says is from its source and was looked at: memcached's own has an error line for each key that it could
not get, between the values, and then an END; mcrouter has one in place of the END; twemproxy has one in place of the
whole reply, and where that was to many keys it closes. Each has one in place of STORED.
"""

import os
import random
import socket

import pytest
from scripted_server import CLOSE, PATIENCE, RESET, STALL, ScriptedServer
from twemproxy import twemproxy

import memcache
from mcext.testing import memcached

# Seconds: a deadline that a test waits out, behind what comes in time; and one that it must never reach.
SHORT = 1.5 * PATIENCE
LONG = 1000 * PATIENCE
KEYS = [f"key{i}" for i in range(10)]
STORAGE = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")


def block(key, value=None, flags=0):
    value = key if value is None else value
    return b"VALUE %s %d %d\r\n%s\r\n" % (key, flags, len(value), value)


def client(server, **options):
    return memcache.Client([server.address], **{"socket_timeout": LONG, **options})


def found(keys):
    """The answer where each key's value is its name."""
    return {key: key.encode() for key in keys}


class Proxy:
    """A script: every value is its key's name, and the keys that `is_dead` names are on a server that is down."""

    def __init__(self, error, is_dead=lambda key: int(key[-1:]) % 3 == 1):
        self.error = b"SERVER_ERROR " + error + b"\r\n"
        self.is_dead = is_dead

    def __call__(self, command, number):
        words = command.split(b"\r\n", 1)[0].split()
        if words[0] == b"get" and len(words) == 2 and self.is_dead(words[1]):
            return self.error
        if words[0] == b"get":
            return self.get(words[1:])
        if words[0] in STORAGE and self.is_dead(words[1]):
            return self.error
        return None

    def dead(self, keys):
        return [key for key in keys if self.is_dead(key.encode())]

    def live(self, keys):
        return [key for key in keys if not self.is_dead(key.encode())]


class Memcached(Proxy):
    def get(self, keys):
        return b"".join(self.error if self.is_dead(key) else block(key) for key in keys) + b"END\r\n"


class Mcrouter(Proxy):
    def get(self, keys):
        live = [block(key) for key in keys if not self.is_dead(key)]
        return b"".join(live) + (b"END\r\n" if len(live) == len(keys) else self.error)


class Twemproxy(Proxy):
    def get(self, keys):
        if any(map(self.is_dead, keys)):
            return (self.error, CLOSE)
        return b"".join(map(block, reversed(keys))) + b"END\r\n"


PROXIES = [
    pytest.param(Memcached, b"backend failure", id="memcached"),
    pytest.param(Mcrouter, b"connection error", id="mcrouter"),
    pytest.param(Mcrouter, b"timeout", id="mcrouter, slow"),
    pytest.param(Mcrouter, b"307 busy", id="mcrouter, busy"),
    pytest.param(Twemproxy, b"Connection refused", id="twemproxy"),
    pytest.param(Twemproxy, b"Host is down", id="twemproxy, ejected"),
]


# ---- values in any order ----


def reordered(order):
    """A server that answers the keys of each get in that order."""

    def script(command, number):
        words = command.split()
        return b"".join(map(block, order(words[1:]))) + b"END\r\n" if words[0] == b"get" else None

    return script


def shuffled(keys):
    keys = list(keys)
    random.Random(11211).shuffle(keys)
    return keys


ORDERS = {
    "reversed": lambda keys: keys[::-1],
    "the last one first": lambda keys: keys[-1:] + keys[:-1],
    "the first one last": lambda keys: keys[1:] + keys[:1],
    "two servers' keys": lambda keys: keys[1::2] + keys[::2],
    "by chance": shuffled,
    "by chance, half of them missing": lambda keys: shuffled(keys)[::2],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("count", [2, 3, 50, 1000, 2500])
def test_values_in_any_order_land_under_their_keys(order, count):
    keys = [f"key{i}" for i in range(count)]
    lines = [keys[at : at + 1000] for at in range(0, count, 1000)]  # each is a get of its own
    with ScriptedServer(reordered(order)) as server:
        mc = client(server)
        for _ in range(2):
            assert mc.get_multi(keys) == found(key for line in lines for key in order(line))
        assert len(server.connections) == 1


def test_the_order_of_values_is_free_for_keys_of_any_kind():
    with ScriptedServer(reordered(lambda keys: keys[::-1])) as server:
        mc = client(server)
        keys = ["text", b"bytes", 7, (3, "pair"), "é", ("x" * 250)[4:]]
        texts = ["text", "bytes", "7", "pair", "é", "x" * 246]
        expected = {key: f"pre:{text}".encode() for key, text in zip(keys, texts)}
        assert mc.get_multi(keys, key_prefix="pre:") == expected
        assert len(server.connections) == 1


def test_the_order_of_values_is_free_where_they_are_large():
    """They are received past the buffer, into their own memory."""
    values = {key: key.encode() * 20000 for key in KEYS}
    answer = b"".join(block(key.encode(), values[key]) for key in reversed(KEYS)) + b"END\r\n"
    with ScriptedServer(lambda command, number: answer) as server:
        assert client(server).get_multi(KEYS) == values
        assert len(server.connections) == 1


def test_a_hundred_thousand_keys_in_reverse():
    """With much in common, so that to tell them apart takes long."""
    keys = [f"{'x' * 200}{i:06d}" for i in range(100000)]
    with ScriptedServer(reordered(lambda line: line[::-1])) as server:
        assert client(server).get_multi(keys) == found(keys)
        assert len(server.connections) == 1


def test_a_key_asked_for_twice_may_be_answered_twice_in_any_order():
    with ScriptedServer(reordered(lambda keys: keys[::-1])) as server:
        mc = client(server)
        assert mc.get_multi(["a", "b", "a", "c"]) == found("abc")
        assert len(server.connections) == 1


WRONG = {
    "a key that was not asked for": block(b"key77", b"evil"),
    "the beginning of a key": block(b"key", b"evil"),
    "a second answer": block(b"key8", b"evil"),
    "a second answer to the first": block(b"key9", b"evil"),
    "no answer": b"STORED\r\n",
    "a value that is longer than it says": b"VALUE key3 0 2\r\nevil\r\n",
    "no length": b"VALUE key3 0\r\n",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_value_breaks_the_connection_and_what_came_before_stays(wrong):
    answer = block(b"key9") + block(b"key8") + block(b"key5") + wrong + block(b"key4") + b"END\r\n"
    with ScriptedServer([answer]) as server:
        mc = client(server)
        assert mc.get_multi(KEYS) == found(["key9", "key8", "key5"])
        assert mc.get_multi(KEYS) == {}
        assert len(server.connections) == 2
        assert mc.servers[0].deaduntil == 0


# ---- what was read whole before a failure ----

ENDS = {
    "closed": CLOSE,
    "rubbish": b"rubbish\r\n",
    "half of a value": (b"VALUE key7 0 10\r\nkey7", CLOSE),
    "half of a line": (b"VALUE key", CLOSE),
    "ERROR": b"ERROR\r\n",
    "CLIENT_ERROR": b"CLIENT_ERROR line too long\r\n",
    "SERVER_ERROR": b"SERVER_ERROR out of memory writing get response\r\n",
    "SERVER_ERROR and closed": (b"SERVER_ERROR out of memory\r\n", CLOSE),
}


@pytest.mark.parametrize("size", [4, 50000])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_values_read_whole_before_a_failure_are_in_the_result(end, size):
    values = {key: key.encode().ljust(size) for key in ("key2", "key0", "key5")}
    blocks = b"".join(block(key.encode(), value) for key, value in values.items())
    with ScriptedServer([(blocks, *(end if isinstance(end, tuple) else (end,)))]) as server:
        mc = client(server)
        assert mc.get_multi(KEYS) == values
        assert mc.get_multi(KEYS) == {}
        assert mc.servers[0].deaduntil == 0


@pytest.mark.parametrize("rest", [b"", b"VALUE key7 0 10\r\nkey7", b"END\r"])
def test_values_read_whole_before_a_timeout_are_in_the_result(rest):
    with ScriptedServer([(block(b"key2") + block(b"key1") + rest, STALL)]) as server:
        mc = client(server, socket_timeout=SHORT)
        assert mc.get_multi(KEYS) == found(["key1", "key2"])
        assert mc.servers[0].deaduntil != 0


def test_values_of_a_line_before_the_one_that_fails_are_in_the_result():
    keys = [f"key{i}" for i in range(3000)]
    first = b"".join(block(key.encode()) for key in keys[999::-1]) + b"END\r\n"
    with ScriptedServer([first, (block(b"key1500") + block(b"key1400"), RESET)]) as server:
        result = client(server).get_multi(keys)
        # A reset may overtake what was on its way.
        assert result.items() <= found([*keys[:1000], "key1500", "key1400"]).items()


# ---- one server of several is down ----


@pytest.mark.parametrize("make, error", PROXIES)
def test_live_keys_are_served_and_the_others_are_misses(make, error):
    proxy = make(error)
    with ScriptedServer(proxy) as server:
        mc = client(server)
        for _ in range(2):
            for key in KEYS:
                assert mc.get(key, "none") == ("none" if key in proxy.dead(KEYS) else key.encode())
            assert mc.get_multi(proxy.live(KEYS)) == found(proxy.live(KEYS))
        assert len(server.connections) == 1
        assert mc.servers[0].deaduntil == 0


@pytest.mark.parametrize("make, error", PROXIES)
def test_get_multi_has_all_that_came(make, error):
    proxy = make(error)
    with ScriptedServer(proxy) as server:
        mc = client(server)
        for _ in range(3):
            assert mc.get_multi(KEYS) == ({} if make is Twemproxy else found(proxy.live(KEYS)))
            assert mc.get_multi(proxy.dead(KEYS)) == {}
        if make is not Twemproxy:  # which closes
            assert len(server.connections) == 1
        assert mc.servers[0].deaduntil == 0


@pytest.mark.parametrize("make, error", PROXIES)
def test_set_multi_reports_the_keys_of_the_dead_server_alone(make, error):
    proxy = make(error)
    with ScriptedServer(proxy) as server:
        mc = client(server)
        for _ in range(2):
            assert mc.set_multi(dict.fromkeys(KEYS, 1)) == proxy.dead(KEYS)
        assert mc.set_multi(dict.fromkeys(KEYS, b"x" * 50000)) == proxy.dead(KEYS)
        assert mc.servers[0].deaduntil == 0


@pytest.mark.parametrize("make, error", PROXIES)
def test_thousands_of_keys_through_a_proxy_with_a_dead_server(make, error):
    """The answers to several get lines, sent together, hold errors."""
    proxy = make(error)
    keys = [f"key{i:05d}" for i in range(5000)]
    with ScriptedServer(proxy) as server:
        mc = client(server)
        assert mc.get_multi(keys) == ({} if make is Twemproxy else found(proxy.live(keys)))
        assert mc.set_multi(dict.fromkeys(keys, 1)) == proxy.dead(keys)
        assert mc.servers[0].deaduntil == 0


@pytest.mark.parametrize("make, error", PROXIES)
def test_it_is_the_same_through_sockets_of_another_class(make, error, monkeypatch):
    class OtherSocket(socket.socket):
        """Not Python's own class: all bytes go through its methods."""

    monkeypatch.setattr(socket, "socket", OtherSocket)
    proxy = make(error)
    keys = [f"key{i:05d}" for i in range(3500)]
    with ScriptedServer(proxy) as server:
        mc = client(server)
        for key in KEYS:
            assert mc.get(key) == (None if key in proxy.dead(KEYS) else key.encode())
        assert mc.get_multi(keys) == ({} if make is Twemproxy else found(proxy.live(keys)))
        assert mc.set_multi(dict.fromkeys(keys, 1)) == proxy.dead(keys)
        assert mc.servers[0].deaduntil == 0


def test_gets_through_a_proxy_with_a_dead_server():
    error = b"SERVER_ERROR backend failure\r\n"
    with ScriptedServer([error, b"VALUE b 0 1 7\r\nb\r\nEND\r\n", error]) as server:
        mc = client(server, cache_cas=True)
        assert [mc.gets("a"), mc.gets("b"), mc.gets("c")] == [None, b"b", None]
        assert mc.cas_ids == {b"b": 7}
        assert len(server.connections) == 1


def test_delete_multi_goes_on_behind_an_error_line():
    with ScriptedServer([b"DELETED\r\n", b"SERVER_ERROR backend failure\r\n", b"DELETED\r\n"]) as server:
        assert client(server).delete_multi(["a", "b", "c"]) == 0
        assert server.commands == [b"delete a\r\n", b"delete b\r\n", b"delete c\r\n"]


@pytest.mark.parametrize("error", [b"ERROR\r\n", b"CLIENT_ERROR bad data chunk\r\n"])
def test_set_multi_believes_no_answer_behind_an_error_that_may_leave_a_value_on_the_stream(error):
    with ScriptedServer([b"STORED\r\n", error, b"STORED\r\n", b"STORED\r\n"]) as server:
        mc = client(server)
        assert mc.set_multi({"a": 1, "b": b"set x 0 0 1\r\ny", "c": 3}) == ["b", "c"]
        assert mc.get("d") is None
        assert len(server.connections) == 2


def test_set_multi_behind_a_noreply_call_believes_no_answer_behind_an_error():
    """The error may be about the noreply command: then each answer is another key's."""
    with ScriptedServer([b"STORED\r\n", b"SERVER_ERROR busy\r\n", b"STORED\r\n"]) as server:
        mc = client(server)
        assert mc.set("quiet", 1, noreply=True)
        assert mc.set_multi({"a": 1, "b": 2, "c": 3}) == ["b", "c"]


# ---- behind an error line ----


def in_step(mc):
    """Calls of other kinds and keys, so that a reply left over cannot pass for theirs."""
    assert mc.get("after1") is None
    assert mc.incr("after2") == 42
    assert mc.get_multi(["after3", "after4"]) == {}


LATE = {
    "nothing": b"",
    "a miss": b"END\r\n",
    "the value": block(b"key1") + b"END\r\n",
    "one more error": b"SERVER_ERROR again\r\n",
    "a number": b"7\r\n",
    "another key's value": block(b"after1", b"evil") + b"END\r\n",
    "a value that looks like the marker's reply": block(b"key1", b"VERSION 1\r\nEND") + b"END\r\n",
}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
@pytest.mark.parametrize("call", [lambda mc: mc.get("key1"), lambda mc: mc.get_multi(["key1"])], ids=["get", "multi"])
def test_what_comes_behind_an_error_line_is_nobody_elses_answer(call, late):
    """It comes when the client has read the error line, and before the answer to what it sends then."""
    said = []

    def script(command, number):
        if command == b"get key1\r\n":
            return b"SERVER_ERROR busy\r\n"
        if command == b"version\r\n" and not said:
            said.append(late)
            return late + b"VERSION 1\r\n"
        return b"42\r\n" if command.startswith(b"incr") else None

    with ScriptedServer(script) as server:
        mc = client(server)
        assert call(mc) in (None, b"key1", b"VERSION 1\r\nEND", {}, found(["key1"]), {"key1": b"VERSION 1\r\nEND"})
        in_step(mc)
        assert said == [late]
        assert mc.servers[0].deaduntil == 0


NO_VERSION = {
    "closes": CLOSE,
    "resets": RESET,
    "ERROR": b"ERROR\r\n",
    "CLIENT_ERROR": b"CLIENT_ERROR unknown command\r\n",
    "SERVER_ERROR": b"SERVER_ERROR Connection refused\r\n",
    "rubbish": b"rubbish\r\n",
    "endless errors": b"SERVER_ERROR backend failure\r\n" * 10000,
    "endless misses": b"END\r\n" * 10000,
}


@pytest.mark.parametrize("answer", NO_VERSION.values(), ids=NO_VERSION)
def test_a_proxy_that_knows_no_version_costs_a_connection_and_nothing_else(answer):
    """twemproxy asks one of its servers, which may be the one that is down; before 0.5 it closed."""

    def script(command, number):
        words = command.split()
        if words[0] == b"version":
            return answer
        if words[0] == b"incr":
            return b"42\r\n"
        return b"SERVER_ERROR Connection refused\r\n" if b"down" in words or b"down2" in words else None

    with ScriptedServer(script) as server:
        mc = client(server)
        for _ in range(3):
            assert mc.get("down", "none") == "none"
            assert mc.incr("up") == 42
            assert mc.get_multi(["down", "down2", "up"]) == {}
            in_step(mc)
        assert mc.servers[0].deaduntil == 0
        assert len(server.connections) == 7


def test_a_proxy_that_is_silent_behind_an_error_line_is_not_taken_for_dead():
    def script(command, number):
        return STALL if command == b"version\r\n" else b"SERVER_ERROR busy\r\n" if command == b"get k\r\n" else None

    with ScriptedServer(script) as server:
        mc = client(server, socket_timeout=SHORT)
        assert mc.get("k", "none") == "none"
        assert mc.get_multi(["k"]) == {}
        assert mc.servers[0].deaduntil == 0
        assert all(connection.closed.wait(LONG) for connection in server.connections)


def test_an_error_line_in_all_words_is_awaited_no_longer_than_its_line():
    """A server that has nothing but errors is no proxy whose reply goes on: nothing is waited for."""
    with ScriptedServer(lambda command, number: b"SERVER_ERROR out of memory\r\n") as server:
        mc = client(server)
        assert mc.get("a", "none") == "none"
        assert mc.get_multi(KEYS) == {}
        assert mc.get_multi([f"key{i}" for i in range(2500)]) == {}
        assert mc.servers[0].deaduntil == 0


def test_an_error_line_behind_a_noreply_call_ends_the_connection():
    """It may be about the noreply command, and the get's own answer still to come."""
    script = [b"SERVER_ERROR busy\r\n", b"42\r\n"]
    with ScriptedServer(script) as server:
        mc = client(server)
        assert mc.set("quiet", 1, noreply=True)
        assert mc.get("a") is None
        assert mc.incr("b") == 42
        assert len(server.connections) == 2


# ---- a real one ----


@pytest.fixture
def servers():
    with memcached() as first, memcached() as second:
        yield [first, second]


@pytest.fixture
def proxy(servers):
    with twemproxy([server.address for server in servers]) as one:
        yield one


def keys_on(server, keys):
    return set(memcache.Client([server.address]).get_multi(keys))


def sockets():
    """This process's, by their numbers: a new connection is another one."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue  # the listing's own
    return {link for link in links if link.startswith("socket:")}


def test_twemproxy_one_miss_amid_fifty_stored_keys(proxy):
    mc = client(proxy)
    values = {f"key{i}": i for i in range(50)}
    assert mc.set_multi(values) == []
    before = sockets()
    assert mc.get_multi(values) == values
    for at in (0, 1, 25, 50):
        keys = list(values)
        keys.insert(at, "missing")
        assert mc.get_multi(keys) == values
    assert sockets() <= before


def test_twemproxy_any_keys_of_many(proxy):
    mc = client(proxy)
    chance = random.Random(11211)
    values = {f"key{i}": f"value{i}" * chance.randrange(1, 500) for i in range(1500)}
    assert mc.set_multi(values) == []
    before = sockets()
    for _ in range(20):
        keys = [f"key{i}" for i in chance.sample(range(3000), chance.randrange(1, 2500))]
        assert mc.get_multi(keys) == {key: values[key] for key in keys if key in values}
    assert sockets() <= before


def kill_one(proxy, servers):
    """One of them, such that the other is the one that twemproxy asks for its version: (killed, other)."""
    for killed, other in (servers, servers[::-1]):
        killed.kill()
        if proxy.answers():
            return killed, other
        killed.start()
    raise AssertionError("twemproxy has a version whatever server is down")


def test_twemproxy_with_a_killed_server_serves_the_live_keys(proxy, servers):
    mc = client(proxy)
    keys = [f"key{i}" for i in range(40)]
    assert mc.set_multi({key: key for key in keys}) == []
    killed, other = kill_one(proxy, servers)
    assert mc.set_multi({key: key for key in keys}) == [key for key in keys if key not in keys_on(other, keys)]
    live = keys_on(other, keys)
    assert 0 < len(live) < len(keys)
    assert mc.get("key0", "none") in ("key0", "none")
    before = sockets()
    for key in keys:
        assert mc.get(key, "none") == (key if key in live else "none")
    assert mc.get_multi(live) == {key: key for key in live}
    assert sockets() <= before
    assert mc.get_multi(keys) == {}  # there is one error line for all, and it closes
    assert mc.get_multi(live) == {key: key for key in live}
    assert mc.servers[0].deaduntil == 0


def test_twemproxy_whose_killed_server_is_the_one_that_it_asks_for_its_version(proxy, servers):
    mc = client(proxy)
    keys = [f"key{i}" for i in range(40)]
    assert mc.set_multi({key: key for key in keys}) == []
    other, killed = kill_one(proxy, servers)
    other.start()
    killed.kill()
    assert not proxy.answers()
    lost = mc.set_multi({key: key for key in keys})
    live = keys_on(other, keys)
    assert lost == [key for key in keys if key not in live]
    for key in keys:
        assert mc.get(key, "none") == (key if key in live else "none")
    assert mc.get_multi(live) == {key: key for key in live}
    assert mc.servers[0].deaduntil == 0
