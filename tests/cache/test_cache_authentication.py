"""A cache that a server does not let in says so, once, and says nothing of the name and the password."""

import pathlib
import time

import pytest
from scripted_server import CLOSE, PATIENCE, RESET, STALL
from test_failures import CALLS, Server, each_call, only

import mcext
from mcext.testing import memcached as start_memcached

NAME, WORD = "alice", "correct-horse"
KNOWN = {"username": NAME, "password": WORD}
SAID = b"set auth 0 -1 19\r\nalice correct-horse\r\n"
AT_ONCE = 20 * PATIENCE
NOT_IN = "the server does not take the username and the password"


@pytest.fixture(scope="module")
def server():
    with start_memcached("-t", "1", auth=(NAME, WORD)) as server:  # with one thread nothing is counted late
        yield server


def opened(*servers, **options):
    addresses = [getattr(one, "address", one) for one in servers]
    return mcext.Cache(addresses, **{"timeout": AT_ONCE, **KNOWN, **options})


class Asking(Server):
    """Lets everybody in, and answers the rest as it is told."""

    def _script(self, command, number):
        if command.startswith(b"set auth "):
            return b"STORED\r\n"
        return super()._script(command, number)


def figures(server):
    """(connections, refusals) as the server counts them, without those of this look and the looks before."""
    with opened(server) as cache:
        (found,) = cache.stats().values()
    figures.looks += 1
    return int(found["total_connections"]) - figures.looks, int(found["auth_errors"])


figures.looks = 0


@pytest.mark.parametrize("password", [WORD, WORD.encode(), lambda: WORD, lambda: WORD.encode()])
def test_the_right_ones_get_in(server, password):
    with opened(server, password=password) as cache:
        assert cache.set("key", [1]) and cache.get("key") == [1]
        assert cache.get_or_set("other", lambda: "computed", 60) == "computed"
        assert cache.get_item("key").value == [1]
        assert cache.get_many(["key", "none"]) == {"key": [1]}
        assert cache.metrics()["connects"] == 1


def test_the_wrong_ones_are_one_clear_error_and_the_server_is_left_alone(server):
    events = []
    before = figures(server)
    with opened(server, password="wrong", dead_retry=1000, on_event=events.append) as cache:
        with pytest.raises(mcext.AuthenticationError) as caught:
            cache.get("key")
        error = caught.value
        assert (error.server, error.command, error.may_have_run) == (server.address, "get", False)
        assert str(error) == f"{NOT_IN} (get, server {server.address})"
        assert error.__cause__ is None and error.__context__ is None
        for call, *_ in CALLS.values():
            with pytest.raises((mcext.ServerUnavailable, mcext.PartialFailure)) as caught:
                call(cache)
            assert "marked dead" in str(only(caught.value))
        assert cache.metrics()["connects"] == cache.metrics()["dead_marks"] == 1
    after = figures(server)
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)
    assert [event.kind for event in events[:3]] == ["connect", "dead", "error"]
    assert events[2].error is error


@each_call
def test_each_call_says_it(name, server):
    call, command, *_, missed = CALLS[name]
    with opened(server, password="wrong") as cache:
        with pytest.raises((mcext.AuthenticationError, mcext.PartialFailure)) as caught:
            call(cache)
        error = only(caught.value)
        assert type(error) is mcext.AuthenticationError
        assert (error.server, error.command, error.may_have_run) == (server.address, command, False)
    with opened(server, password="wrong", errors="miss") as cache:
        assert call(cache) == missed


@each_call
@pytest.mark.parametrize("line", ["unauthenticated", "authentication failure", "bad authentication token format"])
def test_a_server_that_asks_for_it_later_is_closed_and_not_believed(name, line):
    call, *_, missed = CALLS[name]
    refusal = b"CLIENT_ERROR %s\r\n" % line.encode()
    for errors in ("raise", "miss"):
        with (
            Asking(lambda command, number: refusal if number == 0 else None) as server,
            opened(server, errors=errors) as cache,
        ):
            began = time.monotonic()
            if errors == "miss":
                assert call(cache) == missed
            else:
                with pytest.raises((mcext.AuthenticationError, mcext.PartialFailure)) as caught:
                    call(cache)
                error = only(caught.value)
                assert type(error) is mcext.AuthenticationError and not error.may_have_run
                assert str(error).startswith(f"CLIENT_ERROR {line} (")
            assert time.monotonic() - began < AT_ONCE / 2  # nothing else was waited for
            server.wait_for(lambda s: s.connections[0].closed.is_set())
            assert cache.servers[0].alive
            cache.set("key", 1)
            assert server.connections[-1].commands[0] == SAID


MANY = {
    "get_many": (lambda cache: cache.get_many(f"key{n}" for n in range(3000)), 3000),
    "get_items": (lambda cache: cache.get_items(f"key{n}" for n in range(300)), 300),
    "set_many": (lambda cache: cache.set_many({f"key{n}": n for n in range(300)}), 300),
    "delete_many": (lambda cache: cache.delete_many(f"key{n}" for n in range(300)), 300),
}


@pytest.mark.parametrize("name", MANY)
def test_the_keys_of_a_server_that_was_told_nothing_are_named_at_once(name, server):
    call, count = MANY[name]
    with start_memcached() as other, opened(server, other, username=None, password=None) as cache:
        began = time.monotonic()
        with pytest.raises(mcext.PartialFailure) as caught:
            call(cache)
        assert time.monotonic() - began < AT_ONCE / 2
        assert {address: type(error) for address, error in caught.value.errors.items()} == {
            server.address: mcext.AuthenticationError
        }
        assert 0 < len(caught.value.keys) < count


def test_what_a_server_has_is_not_judged_by_a_refusal(server):
    """It may have the meta protocol: that is asked for when it lets us in."""
    with opened(server, username=None, password=None) as cache:
        with pytest.raises(mcext.AuthenticationError, match="CLIENT_ERROR unauthenticated"):
            cache.get_item("key")
        with pytest.raises(mcext.AuthenticationError, match="CLIENT_ERROR unauthenticated"):
            cache.get_or_set("key", lambda: 1, 60, fallback="raise")
        assert cache.get_or_set("key", lambda: 1, 60) == 1
    words = ["wrong", WORD]
    with opened(server, password=lambda: words.pop(0), dead_retry=0) as cache:
        with pytest.raises(mcext.AuthenticationError):
            cache.get_item("key")
        cache.set("key", "value", 60)
        assert cache.get_item("key").ttl is not None


def test_none_is_tried_twice_in_a_call_that_waits_for_its_password(server):
    def wrong():
        time.sleep(0.05)
        return "wrong"

    with start_memcached(auth=(NAME, WORD)) as other:
        with opened(server, other, password=wrong, dead_retry=0, errors="miss") as cache:
            assert cache.get("key") is None
            assert [each["connects"] for each in cache.metrics()["servers"].values()] == [1, 1]


def test_several_servers_each_of_which_is_told(server):
    with start_memcached(auth=(NAME, WORD)) as other, start_memcached(auth=(NAME, "another")) as third:
        items = {f"key{n}": n for n in range(100)}
        with opened(server, other) as cache:
            assert cache.set_many(items) == [] and cache.get_many(items) == items
        with opened(third) as cache, pytest.raises(mcext.PartialFailure) as caught:
            cache.get_many(items)
        assert [type(error) for error in caught.value.errors.values()] == [mcext.AuthenticationError]
        assert sorted(caught.value.keys) == sorted(items) and caught.value.result == {}


def test_what_the_function_raises_is_the_cause():
    class Vault(Exception):
        pass

    def password():
        raise Vault("the vault is sealed")

    events = []
    with Asking(b"") as server, opened(server, password=password, on_event=events.append) as cache:
        with pytest.raises(mcext.AuthenticationError) as caught:
            cache.get("key")
        error = caught.value
        assert str(error).startswith("the password cannot be had: Vault: the vault is sealed (get, server ")
        assert not error.may_have_run and error.server == server.address
        assert type(error.__cause__) is Vault
        assert error.__cause__.__traceback__.tb_frame.f_code is password.__code__
        assert [event.kind for event in events] == ["connect", "dead", "error"]
        assert server.received == b""
        with pytest.raises(mcext.ServerUnavailable):
            cache.get("key")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, MemoryError])
def test_what_is_no_failure_of_it_goes_to_the_caller(kind):
    def password():
        raise kind

    for errors in ("raise", "miss"):
        with Asking(b"") as server, opened(server, password=password, errors=errors) as cache:
            with pytest.raises(kind):
                cache.get("key")
            assert cache.servers[0].alive


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            b"ERROR\r\n",
            mcext.AuthenticationError,
            "the server has answered the username and the password with an error",
        ),
        (b"SERVER_ERROR alice correct-horse\r\n", mcext.AuthenticationError, "with an error"),
        (SAID, mcext.AuthenticationError, "is not one of memcached's"),
        (b"STORED\r\nEND\r\n", mcext.AuthenticationError, "is not one of memcached's"),
        (b"x" * 20000, mcext.AuthenticationError, "is not one of memcached's"),
        (CLOSE, mcext.ServerUnavailable, "connection closed"),
        (RESET, mcext.ServerUnavailable, ""),
        (STALL, mcext.ServerTimeout, "the connect timed out"),
    ],
)
def test_each_way_to_be_kept_out_has_its_error(answer, kind, words):
    def script(command, number):
        return (answer, STALL) if isinstance(answer, bytes) and answer not in (CLOSE, RESET, STALL) else answer

    class Refusing(Server):
        def _script(self, command, number):
            return script(command, number)

    time_to_connect = (3 if answer == STALL else 20) * PATIENCE
    with Refusing(b"") as server, opened(server, connect_timeout=time_to_connect) as cache:
        with pytest.raises(kind) as caught:
            cache.set("key", 1)
        assert type(caught.value) is kind and words in str(caught.value)
        assert not caught.value.may_have_run and caught.value.command == "set"
        for shown in (str(caught.value), repr(caught.value), repr(caught.value.__dict__)):
            assert NAME not in shown and WORD not in shown
        assert not cache.servers[0].alive
        server.wait_for(lambda server: server.received == SAID)


def test_a_connection_that_cannot_be_made_anew_may_have_run():
    """What went to the first connection is what counts."""
    answers = {0: b"STORED\r\n", 1: b"CLIENT_ERROR authentication failure\r\n"}

    class Changing(Server):
        def _script(self, command, number):
            return answers[number] if command == SAID else CLOSE

    with Changing(b"") as server, opened(server) as cache:
        with pytest.raises(mcext.AuthenticationError) as caught:
            cache.set("key", 1)
        assert caught.value.may_have_run and NOT_IN in str(caught.value)
        assert len(server.connections) == 2


def test_servers_that_are_set_later_are_told(server):
    with opened("127.0.0.1:1") as cache:
        cache.set_servers([server.address])
        assert cache.set("key", 1)


def test_nothing_of_it_stays_in_a_server_without_authentication():
    with start_memcached() as server, opened(server) as cache:
        assert cache.get("auth") is None and cache.set("key", 1) and cache.get("auth") is None
        (stats,) = cache.stats("items").values()
        assert stats["items:1:number"] == "1"


def test_a_password_may_change_on_the_server(tmp_path):
    with start_memcached(auth=(NAME, "first")) as server:
        path = pathlib.Path(server._folder) / "auth"
        with opened(server, password=lambda: path.read_text().rstrip().partition(":")[2]) as cache:
            assert cache.set("key", 1)
            server._auth = (NAME, "second")
            server.restart()
            assert cache.set("key", 2) and cache.get("key") == 2
