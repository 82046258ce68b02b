"""What fails says what failed, where, and whether it may have been carried out: never that it was not, where it was."""

import os
import socket
import sys
import threading

import ports
import pytest
from driven_cache import FACES, DrivenCache
from scripted_server import CLOSE, PATIENCE, RESET, STALL, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

AT_ONCE = 20 * PATIENCE
SOON = 0.3 * PATIENCE

# Each call: the memcached command, the whole answer, what it returns for that, and what it is where it fails quietly.
CALLS = {
    "get": (lambda cache: cache.get("k"), "get", b"VALUE k 0 5\r\nvalue\r\nEND\r\n", b"value", None),
    "get with a default": (lambda cache: cache.get("k", 7), "get", b"END\r\n", 7, 7),
    "set": (lambda cache: cache.set("k", b"v"), "set", b"STORED\r\n", True, False),
    "set by token": (lambda cache: cache.set("k", b"v", cas=5), "cas", b"EXISTS\r\n", False, False),
    "set if absent": (lambda cache: cache.set("k", b"v", cas=mcext.ABSENT), "add", b"STORED\r\n", True, False),
    "add": (lambda cache: cache.add("k", b"v"), "add", b"STORED\r\n", True, False),
    "replace": (lambda cache: cache.replace("k", b"v"), "replace", b"STORED\r\n", True, False),
    "append": (lambda cache: cache.append("k", b"v"), "append", b"STORED\r\n", True, False),
    "prepend": (lambda cache: cache.prepend("k", b"v"), "prepend", b"NOT_STORED\r\n", False, False),
    "delete": (lambda cache: cache.delete("k"), "delete", b"DELETED\r\n", True, False),
    "incr": (lambda cache: cache.incr("k"), "incr", b"17\r\n", 17, None),
    "decr": (lambda cache: cache.decr("k"), "decr", b"17\r\n", 17, None),
    "touch": (lambda cache: cache.touch("k", 10), "touch", b"TOUCHED\r\n", True, False),
    "get_item": (lambda cache: cache.get_item("k"), "mg", b"EN\r\n", None, None),
    "get_and_touch": (lambda cache: cache.get_and_touch("k", 10, 7), "mg", b"VA 1 kk f0 c1\r\nv\r\n", b"v", 7),
    "delete by token": (lambda cache: cache.delete("k", cas=5), "md", b"HD\r\n", True, False),
    "get_many": (lambda cache: cache.get_many(["k"]), "get", b"VALUE k 0 1\r\nv\r\nEND\r\n", {"k": b"v"}, {}),
    "get_items": (lambda cache: cache.get_items(["k"]), "mg", b"EN\r\n", {}, {}),
    "set_many": (lambda cache: cache.set_many({"k": b"v"}), "set", b"STORED\r\n", [], ["k"]),
    "delete_many": (lambda cache: cache.delete_many(["k"]), "delete", b"DELETED\r\n", 1, 0),
    "flush_all": (lambda cache: cache.flush_all(), "flush_all", b"OK\r\n", None, None),
    "version": (lambda cache: list(cache.version().values()), "version", b"VERSION 1.6.18\r\n", ["1.6.18"], []),
    "stats": (lambda cache: list(cache.stats().values()), "stats", b"STAT a b\r\nEND\r\n", [{"a": "b"}], []),
}
each_call = pytest.mark.parametrize("name", CALLS)
READS = {"get", "mg", "version", "stats"}


make = mcext.Cache


@pytest.fixture(autouse=True, params=FACES)
def face(request, monkeypatch):
    """What is promised here is promised of both: make is one, or the other."""
    made = []

    def make(*arguments, **options):
        made.append(FACES[request.param](*arguments, **options))
        return made[-1]

    monkeypatch.setattr(sys.modules[__name__], "make", make)
    yield request.param
    for cache in made:
        if isinstance(cache, DrivenCache):
            cache.end()


class Server(ScriptedServer):
    """Answers the probe as memcached 1.6.18 does; `answer` is for what comes then. It carries out all that it reads
    whole: `ran` are the commands."""

    def __init__(self, answer):
        super().__init__(self._script)
        self.answer = answer
        self.ran = []

    def _script(self, command, number):
        if command == b"mn\r\n":
            return b"MN\r\n"
        if command.startswith(b"mg AA== "):
            return b"EN\r\n"
        self.ran.append(command.split()[0].decode())
        answer = self.answer
        return answer(command, number) if callable(answer) else answer


def refuse(server):
    """From now on it takes no connection."""
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener = ports.listen()  # for its end


def only(error):
    """The one error of a call to one server."""
    if isinstance(error, mcext.PartialFailure):
        (inner,) = error.errors.values()
        assert error.server is None
        assert error.may_have_run is inner.may_have_run
        return inner
    return error


def fails(call, kind, server, command):
    with pytest.raises(mcext.MemcacheError) as raised:
        call()
    error = only(raised.value)
    assert type(error) is kind, repr(error)
    assert error.server == server.address
    assert error.command == raised.value.command == command
    return error


def cache_of(*servers, **options):
    options = {"timeout": AT_ONCE, "dead_retry": 0, **options}
    return make([each if isinstance(each, str) else each.address for each in servers], **options)


def quiet_and_right(cache, server, name):
    """errors="miss": no exception, and the same connection or the next serves the right answer."""
    call, _, right, result, missed = CALLS[name]
    assert call(cache) == missed
    server.answer = right
    assert call(cache) == result


# ---- answers that end too early ------------------------------------------------------------------------------------


@each_call
@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_connection_that_closes_within_the_reply_is_lost_and_the_command_may_have_run(name, end, face):
    """At every byte of it. Where gets share a line, each has its value before the end of all."""
    call, command, right, result, missed = CALLS[name]
    with Server(b"") as server:
        with cache_of(server) as cache, cache_of(server, errors="miss") as forgiving:
            for one in (cache, forgiving):
                server.answer = right
                assert call(one) == result
            for cut in range(len(right)):
                server.ran.clear()
                server.answer = (right[:cut], end)
                has_value = name == "get_many" or (name == "get" and face == "AsyncCache")
                if has_value and cut >= right.index(b"END") and end == CLOSE:
                    assert call(cache) == result, "each key has its value"
                    continue
                if has_value and cut >= right.index(b"END"):
                    continue  # what came before a reset may be gone with it
                error = fails(lambda: call(cache), mcext.ConnectionLost, server, command)
                assert isinstance(error, ConnectionError)
                assert command in server.ran
                assert error.may_have_run is True, f"behind {right[:cut]}"
                server.answer = right
                assert call(cache) == result
            server.answer = (right[:3], end)
            quiet_and_right(forgiving, server, name)


@each_call
def test_a_connection_that_closes_behind_the_reply_is_noticed_and_nothing_is_carried_out_twice(name):
    """What only reads is asked once more; of anything else nobody can know."""
    call, command, right, result, missed = CALLS[name]
    with Server((right, CLOSE)) as server, cache_of(server) as cache:
        for number in range(6):
            server.ran.clear()
            try:
                assert call(cache) == result
                assert server.ran.count(command) == 1
            except mcext.MemcacheError as error:
                assert number > 0 and command != "get"
                assert type(only(error)) is mcext.ConnectionLost
                assert only(error).may_have_run is True
                assert server.ran.count(command) == 0
            server.wait_for(lambda server: all(each.closed.is_set() for each in server.connections))


@each_call
def test_a_server_that_is_silent_is_a_timeout_and_the_command_may_have_run(name):
    call, command, right, result, missed = CALLS[name]
    with Server(right) as server, cache_of(server, timeout=SOON) as cache:
        call(cache_of(server))  # the probe does not take of the time
        try:
            call(cache)
        except mcext.MemcacheError:
            pytest.skip("this machine is too slow to say")
        server.ran.clear()
        server.answer = (right[:1], STALL)
        error = fails(lambda: call(cache), mcext.ServerTimeout, server, command)
        assert isinstance(error, TimeoutError)
        assert error.may_have_run is True
        server.wait_for(lambda server: server.ran)
        assert server.ran == [command], "it is asked once"


@each_call
def test_what_no_memcached_answers_is_a_protocol_error_and_the_next_call_is_right(name):
    call, command, right, result, missed = CALLS[name]
    for garbage in (b"garbage\r\n", b"\r\n", b"\x00\xff\r\n", b"VALUE other 0 1\r\nx\r\nEND\r\n", b"STORE\r\n",
                    b"VA 1 kother f0 c1\r\nx\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"):  # fmt: skip
        with Server(right) as server, cache_of(server) as cache, cache_of(server, errors="miss") as forgiving:
            assert call(cache) == call(forgiving) == result
            server.answer = garbage
            error = fails(lambda: call(cache), mcext.ProtocolError, server, command)
            assert error.may_have_run is True
            quiet_and_right(forgiving, server, name)
            server.answer = right
            assert call(cache) == result


# ---- error lines ---------------------------------------------------------------------------------------------------

LINES = {
    b"ERROR\r\n": False,
    b"CLIENT_ERROR bad command line format\r\n": False,
    b"SERVER_ERROR out of memory storing object\r\n": False,
    b"SERVER_ERROR of a proxy that knows no more\r\n": True,
    b"SERVER_ERROR \xff\xfe\r\n": True,
}


@each_call
@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:20].decode(errors="replace"))
def test_an_error_line_is_a_server_error_with_its_words(name, line):
    call, command, right, result, missed = CALLS[name]
    if command in ("mg", "md") and not line.startswith(b"SERVER_ERROR"):
        pytest.skip("a server that does not know the meta protocol is asked otherwise")
    with Server(right) as server, cache_of(server) as cache, cache_of(server, errors="miss") as forgiving:
        assert call(cache) == call(forgiving) == result
        server.answer = lambda given, number: b"NOT_FOUND\r\n" if given.startswith(b"delete") != (
            command == "delete"
        ) else line  # fmt: skip
        error = fails(lambda: call(cache), mcext.ServerError, server, command)
        assert error.message == line.decode(errors="replace").strip()
        assert error.may_have_run is LINES[line]
        assert call(forgiving) == missed
        server.answer = right
        assert call(cache) == call(forgiving) == result
        assert cache.metrics()["connects"] <= 2


# ---- connects ------------------------------------------------------------------------------------------------------


def closed_port():
    with ports.listen() as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@each_call
@pytest.mark.parametrize("where", ["refused", "no name", "no socket"])
def test_a_server_that_cannot_be_connected_is_unavailable_and_nothing_has_run(name, where, tmp_path):
    call, command, right, result, missed = CALLS[name]
    address = {
        "refused": closed_port(),
        "no name": f"{'x' * 64}.invalid:11211",  # longer than a label may be: no name server is asked
        "no socket": f"unix:{tmp_path}/none",
    }[where]
    with cache_of(address, dead_retry=1000) as cache:
        for _ in range(2):  # then its mark stands
            with pytest.raises(mcext.MemcacheError) as raised:
                call(cache)
            error = only(raised.value)
            assert type(error) is mcext.ServerUnavailable
            assert isinstance(error, ConnectionError)
            assert (error.server, error.command, error.may_have_run) == (address, command, False)
            assert cache.servers[0].alive is False
        assert "dead" in str(error)
        assert cache.metrics()["dead_marks"] == 1
    with cache_of(address, errors="miss") as forgiving:
        assert call(forgiving) == missed


@each_call
def test_a_connect_that_takes_too_long_is_a_timeout_and_nothing_has_run(name):
    """A listener whose queue is full answers no connect."""
    call, command, right, result, missed = CALLS[name]
    with ports.listen(backlog=0) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        waiting = []
        try:
            for _ in range(4):  # as many as it takes, and more
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(listener.getsockname())
                waiting.append(one)
            cache = cache_of(address, connect_timeout=0.05, timeout=AT_ONCE)
            with pytest.raises(mcext.MemcacheError) as raised:
                call(cache)
            error = only(raised.value)
            assert type(error) is mcext.ServerTimeout, repr(error)
            assert (error.server, error.command, error.may_have_run) == (address, command, False)
        finally:
            for one in waiting:
                one.close()


@each_call
def test_without_servers_no_server_is_to_blame(name):
    call, command, right, result, missed = CALLS[name]
    if command in ("flush_all", "version", "stats"):
        assert call(make([])) in ([], None)
        return
    with pytest.raises(mcext.MemcacheError) as raised:
        call(make([]))
    error = only(raised.value)
    assert type(error) is mcext.ServerUnavailable
    assert (error.server, error.command, error.may_have_run) == (None, command, False)
    assert call(make([], errors="miss")) == missed


# ---- what has run --------------------------------------------------------------------------------------------------


@each_call
def test_what_ran_is_never_said_not_to_have(name):
    """A connection that was idle, and a server that is gone by the time it would be asked again."""
    call, command, right, result, missed = CALLS[name]
    if command in ("flush_all", "version", "stats"):
        return
    with Server(right) as server:
        cache = cache_of(server)
        assert call(cache) == result
        server.ran.clear()

        def last(given, number):
            refuse(server)
            return CLOSE

        server.answer = last
        with pytest.raises(mcext.MemcacheError) as raised:
            call(cache)
        assert command in server.ran
        assert only(raised.value).may_have_run is True
        assert raised.value.may_have_run is True


def test_a_large_value_that_goes_out_in_part_is_a_connection_lost():
    """The server closes while the value is still on its way."""
    with ports.listen() as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def serve():
            while True:
                try:
                    stream, _ = listener.accept()
                except OSError:
                    return
                with stream:
                    stream.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        for call in (
            lambda cache: cache.set("k", b"x" * 50_000_000),
            lambda cache: cache.set_many({"k": b"x" * 50_000_000}),
        ):
            with pytest.raises(mcext.MemcacheError) as raised:
                call(cache_of(address))
            error = only(raised.value)
            assert type(error) is mcext.ConnectionLost
            assert (error.server, error.command) == (address, "set")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_of_two_steps_the_first_has_run_where_the_second_fails():
    """get_and_touch on a server without the meta protocol: the touch has been carried out."""

    def script(command, number):
        if command.startswith((b"mn", b"mg")):
            return b"ERROR\r\n"
        if command.startswith(b"touch"):
            refuse(server)
            return (b"TOUCHED\r\n", CLOSE)
        return None

    with ScriptedServer(script) as server:
        with pytest.raises(mcext.MemcacheError) as raised:
            cache_of(server).get_and_touch("k", 10)
        assert any(command.startswith(b"touch") for command in server.commands)
        assert raised.value.may_have_run is True


def test_of_two_steps_the_first_has_run_where_no_server_is_left_for_the_second():
    """The same, where the connection is gone too, and each server refuses another."""

    def script(command, number):
        if command.startswith((b"mn", b"mg")):
            return b"ERROR\r\n"
        if command.startswith(b"touch"):
            refuse(one)
            refuse(other)
            return (b"TOUCHED\r\nand more\r\n", CLOSE)
        return None

    with ScriptedServer(script) as one, ScriptedServer(script) as other:
        with pytest.raises(mcext.ServerUnavailable) as raised:
            cache_of(one, other).get_and_touch("k", 10)
        assert any(command.startswith(b"touch") for command in one.commands + other.commands)
        assert raised.value.may_have_run is True


# ---- many keys, many servers ---------------------------------------------------------------------------------------


def keys_by_server(cache, count=60):
    keys = {}
    for number in range(count):
        key = f"key{number}"
        keys.setdefault(cache.server_for(key), []).append(key)
    return keys


def plain(result):
    """Items by their values."""
    if isinstance(result, dict):
        return {key: getattr(value, "value", value) for key, value in result.items()}
    return result


MANY = {
    "get_many": lambda cache, keys: cache.get_many(keys),
    "get_items": lambda cache, keys: {key: item.value for key, item in cache.get_items(keys).items()},
    "set_many": lambda cache, keys: cache.set_many(dict.fromkeys(keys, b"new")),
    "delete_many": lambda cache, keys: cache.delete_many(keys),
}


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("fault", ["closes", "silent", "garbage", "error line"])
def test_of_three_servers_two_do_their_part(name, fault):
    answers = {
        "closes": (CLOSE, mcext.ConnectionLost),
        "silent": (STALL, mcext.ServerTimeout),
        "garbage": (b"garbage\r\n", mcext.ProtocolError),
        "error line": (b"SERVER_ERROR oops\r\n", mcext.ServerError),
    }
    answer, kind = answers[fault]
    bad = Server(lambda command, number: answer)
    with bad, start_memcached() as one, start_memcached() as two:
        timeout = 2 * PATIENCE if fault == "silent" else AT_ONCE
        cache = cache_of(one, bad, two, timeout=timeout)
        keys = keys_by_server(cache)
        good = [*keys[one.address], *keys[two.address]]
        live = cache_of(one, bad, two)
        for key in good:
            live.set(key, key)
        everything = [key for each in keys.values() for key in each]
        with pytest.raises(mcext.PartialFailure) as raised:
            MANY[name](cache, everything)
        error = raised.value
        assert list(error.errors) == [bad.address]
        assert type(error.errors[bad.address]) is kind
        assert error.errors[bad.address].server == bad.address
        assert error.may_have_run is error.errors[bad.address].may_have_run is True
        assert set(error.keys) == set(keys[bad.address])
        expected = {
            "get_many": {key: key for key in good},
            "get_items": {key: key for key in good},
            "set_many": error.keys,
            "delete_many": len(good),
        }[name]
        assert plain(error.result) == expected
        assert live.get(good[0]) == {"set_many": b"new", "delete_many": None}.get(name, good[0])
        forgiving = cache_of(one, bad, two, timeout=timeout, errors="miss")
        again = MANY[name](forgiving, everything)
        if name == "set_many":
            assert set(again) == set(keys[bad.address])
        elif name == "delete_many":
            assert again == 0
        else:
            assert plain(again) == expected


@pytest.mark.parametrize("name", MANY)
def test_of_two_that_fail_each_says_what_it_knows(name):
    """One refused the connect, and has certainly done nothing; the other has read the command."""
    with Server(CLOSE) as bad, start_memcached() as live:
        gone = closed_port()
        cache = cache_of(gone, bad, live, dead_retry=1000)
        keys = keys_by_server(cache)
        with pytest.raises(mcext.PartialFailure) as raised:
            MANY[name](cache, keys[bad.address])
        # The dead one's keys go elsewhere, as Client's do.
        assert raised.value.errors[bad.address].may_have_run is True
        assert gone not in raised.value.errors or raised.value.errors[gone].may_have_run is False
        assert set(raised.value.keys) == set(keys[bad.address])


@pytest.mark.parametrize("name", MANY)
def test_a_server_that_is_gone_when_it_would_be_asked_again_is_the_one_that_may_have_run(name):
    """Another, which refuses the connect, has not: each error is its own server's."""
    with Server(b"") as bad:
        gone = closed_port()
        cache = cache_of(gone, bad)
        keys = keys_by_server(cache)
        bad.answer = lambda command, number: b"END\r\n" if command[:3] == b"get" else b"STORED\r\n"
        cache.get(keys[bad.address][0])

        def last(command, number):
            refuse(bad)
            return CLOSE

        bad.answer = last
        with pytest.raises(mcext.PartialFailure) as raised:
            MANY[name](cache, [*keys[gone][:3], *keys[bad.address][:3]])
        errors = raised.value.errors
        assert bad.ran, "it has read a command"
        assert errors[bad.address].may_have_run is True, errors
        assert gone not in errors or errors[gone].may_have_run is False, errors
        assert raised.value.may_have_run is True


# ---- behind a failure ----------------------------------------------------------------------------------------------


def test_no_descriptor_and_no_connection_is_left_behind_a_failure():
    with Server(CLOSE) as server:
        cache = cache_of(server)
        open_before = None
        for round in range(30):
            for call, *_ in CALLS.values():
                with pytest.raises(mcext.MemcacheError):
                    call(cache)
            server.wait_for(lambda server: all(each.closed.is_set() for each in server.connections))
            if round == 2:
                open_before = len(os.listdir("/proc/self/fd"))
        assert len(os.listdir("/proc/self/fd")) <= open_before + 1
        assert cache.servers[0].connections == 0


def test_a_dead_mark_holds_for_dead_retry_and_goes_with_the_first_answer():
    with start_memcached() as server:
        cache = cache_of(server, dead_retry=0.05)
        cache.set("k", 1)
        server.stop()
        with pytest.raises(mcext.ServerUnavailable):
            cache.get("k")
        assert cache.servers[0].alive is False
        server.start()
        while True:
            try:
                assert cache.get("k") is None
                break
            except mcext.ServerUnavailable:
                pass
        assert cache.servers[0].alive is True


@pytest.mark.parametrize("errors", ["raise", "miss"])
def test_a_decode_error_of_the_callers_own_code_comes_out_of_a_call_for_many(errors):
    """It is none of the cache's: there is no miss to be had instead."""
    raised_error = mcext.DecodeError("of the caller")

    class Values(dict):
        def __getitem__(self, key):
            raise raised_error

    def keys():
        yield "k"
        raise raised_error

    with ScriptedServer() as server, cache_of(server, errors=errors) as cache:
        for call in (
            lambda: cache.get_many(keys()),
            lambda: cache.get_items(keys()),
            lambda: cache.delete_many(keys()),
            lambda: cache.set_many(Values(k=1)),
        ):
            with pytest.raises(mcext.DecodeError) as raised:
                call()
            assert raised.value is raised_error
