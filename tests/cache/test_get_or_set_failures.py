"""Cache.get_or_set where the server fails at one of its steps, or has no meta protocol."""

import contextlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import plain_socket
import pytest
from scripted_server import CLOSE, PATIENCE, RESET, STALL, ScriptedServer
from twemproxy import twemproxy

import mcext
from mcext.testing import memcached as start_memcached

STUB = b"VA 0 kk f0 c7 W\r\n\r\n"
TAKEN = b"VA 0 kk f0 c7 Z\r\n\r\n"
OLD = b"VA 3 kk f16 c7 W\r\nold\r\n"
VALUE = b"VA 5 kk f16 c8\r\nvalue\r\n"

FAILURES = {
    "closing": (CLOSE, mcext.ConnectionLost),
    "reset": (RESET, mcext.ConnectionLost),
    "silent": (STALL, mcext.ServerTimeout),
    "out of memory": (b"SERVER_ERROR out of memory\r\n", mcext.ServerError),
    "nonsense": (b"HELLO\r\n", mcext.ProtocolError),
}


def meta(looks, writes=(), releases=()):
    """A server with the meta protocol: its answers to the looks, to what is stored, to the leases given back."""
    answers = {b"mg": iter(looks), b"cas": iter(writes), b"add": iter(writes), b"md": iter(releases)}

    def answer(command, number):
        if command.startswith(b"mn\r\n"):
            return b"MN\r\n"
        if command.startswith(b"mg AA== "):
            return b"EN kAA== b O1\r\n"
        return next(answers.get(command.split()[0], iter(())), None)

    return answer


def connected(server, answer=None, **options):
    """A cache whose calls are late soon where the server is silent at one of them, and in no other case: what goes
    before that is done, though nobody ran for a second."""
    timeout = (3 if answer == STALL else 20) * PATIENCE
    return mcext.Cache([server.address], timeout=timeout, dead_retry=0, **options)


def words(server):
    """The commands behind the probe."""
    return [c.split()[0] for c in server.commands if not c.startswith((b"mn", b"mg AA=="))]


def never():
    raise AssertionError("the factory was called")


def fills(cache):
    metrics = cache.metrics()
    return metrics["fills_won"], metrics["fills_lost"], metrics["fills_waited"]


@pytest.fixture(params=FAILURES, ids=lambda name: name.replace(" ", "-"))
def failure(request):
    return FAILURES[request.param]


# ---- at the look


@pytest.mark.parametrize("errors", ["raise", "miss"])
def test_where_the_look_fails_it_is_computed_and_nothing_is_sent(failure, errors):
    answer, error = failure
    events = []
    with (
        ScriptedServer(meta([answer])) as server,
        connected(server, answer, errors=errors, on_event=events.append) as cache,
    ):
        assert cache.get_or_set("k", lambda: "computed") == "computed"
        assert words(server) == [b"mg"]  # and not twice: the first may have taken the lease
        assert [type(event.error) for event in events if event.kind == "error"] == [error]
        assert fills(cache) == (0, 0, 0)


@pytest.mark.parametrize("errors", ["raise", "miss"])
def test_where_the_look_fails_it_is_an_error_by_fallback(failure, errors):
    answer, error = failure
    with ScriptedServer(meta([answer])) as server, connected(server, answer, errors=errors) as cache:
        with pytest.raises(error) as caught:
            cache.get_or_set("k", never, fallback="raise")
        assert (caught.value.server, caught.value.command) == (server.address, "mg")
        assert caught.value.may_have_run is True  # and may have left a lease


def test_where_no_server_is_there_it_is_computed_or_an_error_by_fallback():
    with ScriptedServer() as server:
        address = server.address
    with mcext.Cache([address]) as cache:
        for _ in range(2):  # the second finds the mark
            assert cache.get_or_set("k", lambda: "computed") == "computed"
            with pytest.raises(mcext.ServerUnavailable) as caught:
                cache.get_or_set("k", never, fallback="raise")
            assert caught.value.may_have_run is False
        with pytest.raises(LookupError):
            cache.get_or_set("k", raises)


def raises():
    raise LookupError


def test_without_servers_it_is_computed():
    assert mcext.Cache([]).get_or_set("k", lambda: "computed") == "computed"
    with pytest.raises(mcext.ServerUnavailable):
        mcext.Cache([]).get_or_set("k", never, fallback="raise")


def test_the_reply_for_another_key_is_never_served():
    with ScriptedServer(meta([VALUE.replace(b"kk", b"kother")])) as server, connected(server) as cache:
        with pytest.raises(mcext.ProtocolError):
            cache.get_or_set("k", never, fallback="raise")


# ---- at the store


@pytest.mark.parametrize("look", [STUB, OLD])
@pytest.mark.parametrize("errors", ["raise", "miss"])
@pytest.mark.parametrize("fallback", ["compute", "raise"])
def test_where_it_cannot_be_stored_the_computed_value_is_returned(failure, look, errors, fallback):
    answer, error = failure
    events = []
    with (
        ScriptedServer(meta([look], [answer])) as server,
        connected(server, answer, errors=errors, on_event=events.append) as cache,
    ):
        assert cache.get_or_set("k", lambda: "computed", fallback=fallback) == "computed"
        assert words(server)[:2] == [b"mg", b"cas"]
        assert words(server)[2:] == ([b"delete"] if error is mcext.ServerError else [])  # no old value stays
        assert b"cas k 16 0 8 7\r\ncomputed\r\n" in server.commands
        assert [type(event.error) for event in events if event.kind == "error"] == [error]
        assert fills(cache) == (0, 1, 0)


@pytest.mark.parametrize("answer", [b"EXISTS\r\n", b"NOT_FOUND\r\n"])
def test_where_somebody_was_faster_nothing_more_is_sent(answer):
    with ScriptedServer(meta([STUB], [answer])) as server, connected(server) as cache:
        assert cache.get_or_set("k", lambda: "computed") == "computed"
        assert words(server) == [b"mg", b"cas"]
        assert fills(cache) == (0, 1, 0)


# ---- at the release


@pytest.mark.parametrize(("look", "line"), [(STUB, b"md k C7\r\n"), (OLD, b"md k I C7\r\n")])
@pytest.mark.parametrize("errors", ["raise", "miss"])
def test_what_the_factory_raises_is_raised_also_where_the_lease_cannot_be_given_back(failure, look, line, errors):
    answer, _ = failure
    with ScriptedServer(meta([look], [], [answer] * 2)) as server, connected(server, answer, errors=errors) as cache:
        with pytest.raises(LookupError):
            cache.get_or_set("k", raises)
        assert line in server.commands
        assert set(words(server)) == {b"mg", b"md"}


def test_the_old_value_is_served_also_where_the_lease_cannot_be_given_back(failure):
    with ScriptedServer(meta([OLD], [], [failure[0]] * 2)) as server, connected(server, failure[0]) as cache:
        assert cache.get_or_set("k", raises, 10, stale=60) == "old"


# ---- while another computes


def test_where_the_server_fails_while_it_is_waited_it_is_computed(failure):
    answer, error = failure
    with ScriptedServer(meta([TAKEN, TAKEN, answer])) as server, connected(server, answer) as cache:
        assert cache.get_or_set("k", lambda: "computed") == "computed"
        assert words(server) == [b"mg"] * 3
        assert fills(cache) == (0, 0, 1)
    with ScriptedServer(meta([TAKEN, TAKEN, answer])) as server, connected(server, answer) as cache:
        with pytest.raises(error):
            cache.get_or_set("k", never, fallback="raise")
        assert cache._flights_of_this_process() == {}


def test_who_waits_looks_until_the_value_is_there():
    with ScriptedServer(meta([TAKEN] * 5 + [VALUE])) as server, connected(server) as cache:
        assert cache.get_or_set("k", never) == "value"
        assert words(server) == [b"mg"] * 6
        assert fills(cache) == (0, 0, 1)


def test_who_waits_takes_over_where_the_lease_is_free():
    with ScriptedServer(meta([TAKEN, STUB], [b"STORED\r\n"])) as server, connected(server) as cache:
        assert cache.get_or_set("k", lambda: "computed") == "computed"
        assert words(server) == [b"mg", b"mg", b"cas"]
        assert fills(cache) == (1, 0, 1)


def test_a_lease_of_its_length_is_asked_for_and_a_refresh_of_refresh_and_stale():
    with ScriptedServer(meta([VALUE] * 3)) as server, connected(server) as cache:
        cache.get_or_set("k", never, lease=7)
        cache.get_or_set("k", never, 100, refresh=20, stale=300, lease=2.5)
        cache.get_or_set("k", never, fallback="raise")
        asked = [c for c in server.commands if c.startswith(b"mg k ")]
        assert asked == [b"mg k v k f c N7\r\n", b"mg k v k f c N3 R320\r\n", b"mg k v k f c N30\r\n"]


# ---- a server that grants no leases: it says EN


def test_where_no_lease_is_granted_the_value_is_added():
    looks, writes = [b"EN kk\r\n"] * 2, [b"STORED\r\n", b"NOT_STORED\r\n"]
    with ScriptedServer(meta(looks, writes)) as server, connected(server) as cache:
        for count in ((1, 0, 0), (1, 1, 0)):
            assert cache.get_or_set("k", lambda: "computed", 60) == "computed"
            assert fills(cache) == count
        assert server.commands[-1] == b"add k 16 60 8\r\ncomputed\r\n"
        assert words(server) == [b"mg", b"add"] * 2


# ---- a server without the meta protocol


class Memory:
    """memcached 1.4: it executes what it does not know line by line, and so must never see a data block."""

    def __init__(self, probe=b"ERROR\r\n"):
        self.items = {}
        self.tokens = itertools.count(1)
        self.probe = probe

    def __call__(self, command, number):
        head, _, rest = command.partition(b"\r\n")
        name, *arguments = head.split()
        if name in (b"mn", b"mg"):
            return self.probe
        assert name in (b"gets", b"get", b"add", b"delete", b"set", b"version", b"cas"), command
        key = arguments[0] if arguments else b""
        if name in (b"gets", b"get"):
            flags, data, token = self.items.get(key, (b"", b"", 0))
            size = b"%d %d" % (len(data), token) if name == b"gets" else b"%d" % len(data)
            return b"VALUE %s %s %s\r\n%s\r\nEND\r\n" % (key, flags, size, data) if token else b"END\r\n"
        if name == b"add" and key in self.items:
            return b"NOT_STORED\r\n"
        if name in (b"add", b"set"):
            self.items[key] = arguments[1], rest[:-2], next(self.tokens)
            return b"STORED\r\n"
        if name == b"delete":
            return b"DELETED\r\n" if self.items.pop(key, None) else b"NOT_FOUND\r\n"
        return None


def stubborn(answer):
    """A proxy that closes where it does not know the command, as twemproxy does."""
    return Memory(CLOSE) if answer == "closes" else Memory(answer)


@pytest.fixture(params=["ERROR", "closes", "CLIENT_ERROR"])
def plain(request):
    memory = stubborn({"ERROR": b"ERROR\r\n", "CLIENT_ERROR": b"CLIENT_ERROR no\r\n"}.get(request.param, "closes"))
    with ScriptedServer(memory) as server, connected(server) as cache:
        yield cache, memory, server


def test_without_meta_a_lease_stands_beside_the_key(plain):
    cache, memory, server = plain

    def compute():
        assert set(memory.items) == {b"k.lease"}
        with pytest.raises(mcext.LeaseTimeout):
            another.get_or_set("k", never, wait=0.02, fallback="raise")
        return "computed"

    with connected(server) as another:
        assert cache.get_or_set("k", compute, 60, lease=7) == "computed"
    assert memory.items.keys() == {b"k"}
    assert b"add k.lease 2 7 1\r\n1\r\n" in server.commands
    assert b"add k 16 60 8\r\ncomputed\r\n" in server.commands
    assert cache.get_or_set("k", never) == "computed"
    assert fills(cache) == (1, 0, 0)


def test_without_meta_the_server_carries_no_dead_mark_and_is_asked_once(plain):
    cache, memory, server = plain
    for number in range(5):
        assert cache.get_or_set(f"k{number}", lambda: "computed") == "computed"
    assert all(state.alive for state in cache.servers)
    assert sum(command.startswith(b"mn") for command in server.commands) == 1
    assert cache.metrics()["dead_marks"] == 0


def test_without_meta_a_factory_that_raises_gives_the_lease_back(plain):
    cache, memory, server = plain
    for error in (LookupError, KeyboardInterrupt):

        def fails(error=error):
            raise error

        with pytest.raises(error):
            cache.get_or_set("k", fails, wait=0, fallback="raise")
        assert memory.items == {}
    assert cache.get_or_set("k", lambda: "next", wait=0, fallback="raise") == "next"


def test_without_meta_a_value_that_cannot_be_stored_gives_the_lease_back(plain):
    cache, memory, server = plain
    with pytest.raises(Exception, match="pickle|local object"):
        cache.get_or_set("k", lambda: lambda: 1)
    assert memory.items == {}


def test_without_meta_a_factory_that_asks_for_its_own_key_is_told(plain):
    cache, memory, server = plain
    with pytest.raises(RuntimeError, match="its own factory"):
        cache.get_or_set("k", lambda: cache.get_or_set("k", never))
    assert memory.items == {}


def test_without_meta_what_was_set_while_the_factory_ran_stays(plain):
    cache, memory, server = plain

    def compute():
        cache.set("k", "written")
        return "outdated"

    assert cache.get_or_set("k", compute) == "outdated"
    assert cache.get("k") == "written"
    assert fills(cache) == (0, 1, 0)


def test_without_meta_a_key_with_no_room_beside_it_is_computed_without_a_lease(plain):
    cache, memory, server = plain
    key = "k" * 245
    assert cache.get_or_set(key, lambda: "computed") == "computed"
    assert memory.items.keys() == {key.encode()}


def test_without_meta_invalidate_is_a_delete(plain):
    cache, memory, server = plain
    cache.set("k", "old")
    assert cache.invalidate("k", stale=60) is True
    assert memory.items == {}
    assert cache.invalidate("k") is False


@pytest.mark.parametrize("step", [b"gets k", b"add k.lease"])
def test_without_meta_a_failure_is_as_with_it(failure, step):
    memory = Memory()

    def answer(command, number):
        return failure[0] if command.startswith(step) else memory(command, number)

    with ScriptedServer(answer) as server, connected(server, failure[0]) as cache:
        assert cache.get_or_set("k", lambda: "computed") == "computed"
        assert fills(cache) == (0, 0, 0)
        with pytest.raises(failure[1]):
            cache.get_or_set("k", never, fallback="raise")


@pytest.mark.parametrize("step", [b"add k 16", b"delete k.lease"])
def test_without_meta_the_computed_value_is_returned_where_the_server_fails_then(failure, step):
    memory = Memory()

    def answer(command, number):
        return failure[0] if command.startswith(step) else memory(command, number)

    with ScriptedServer(answer) as server, connected(server, failure[0]) as cache:
        assert cache.get_or_set("k", lambda: "computed", fallback="raise") == "computed"


def test_a_server_that_is_exchanged_for_an_older_one_costs_a_line():
    memory, is_old = Memory(), []

    def answer(command, number):
        return memory(command, number) if is_old else new(command, number)

    new = meta([VALUE])
    with ScriptedServer(answer) as server, connected(server) as cache:
        assert cache.get_or_set("k", never) == "value"
        is_old.append(True)
        assert cache.get_or_set("k", lambda: "computed") == "computed"
        assert memory.items.keys() == {b"k"}
        assert cache.get_or_set("k", never) == "computed"
        assert all(state.alive for state in cache.servers)


def test_through_a_twemproxy_a_lease_stands_beside_the_key():
    with start_memcached() as first, twemproxy([first.address]) as proxy, mcext.Cache([proxy.address]) as cache:

        def compute():
            assert plain_socket.fetch(first, "k.lease") == (b"1", 2)
            return "computed"

        assert cache.get_or_set("k", compute, 60) == "computed"
        assert cache.get_or_set("k", never, 60) == "computed"
        assert cache.get("k.lease") is None
        assert cache.invalidate("k") is True
        assert cache.get("k") is None
        assert all(state.alive for state in cache.servers)


def test_without_meta_an_undecodable_value_is_computed_and_stored_where_failures_are_misses():
    memory = Memory()
    with ScriptedServer(memory) as server, connected(server, errors="miss") as cache:
        memory.items[b"k"] = b"1", b"no pickle", next(memory.tokens)
        assert cache.get_or_set("k", lambda: "computed") == "computed"
        assert cache.get_or_set("k", never) == "computed"
        assert memory.items.keys() == {b"k"}


@pytest.mark.parametrize("how", ["raises", "cannot be stored"])
def test_callers_do_not_wait_for_one_failure_after_the_other(how):
    """A failing factory of 0.5 s costs 20 callers no more than three of these."""

    def factory():
        time.sleep(0.5)
        if how == "raises":
            raise KeyError
        return b"x" * (2 << 20)

    def call(number):
        began = time.monotonic()
        with contextlib.suppress(KeyError):
            cache.get_or_set("key", factory, fallback="raise")
        return time.monotonic() - began

    with start_memcached() as server, mcext.Cache([server.address], timeout=20 * PATIENCE) as cache:
        with ThreadPoolExecutor(20) as pool:
            took = list(pool.map(call, range(20)))
    assert max(took) < 0.5 * 20 / 2


def test_where_one_fails_one_of_the_others_computes_for_all():
    runs = []

    def factory():
        runs.append(1)
        time.sleep(0.2)
        if len(runs) == 1:
            raise KeyError
        return "value"

    def call(number):
        try:
            return cache.get_or_set("key", factory)
        except KeyError:
            return "raised"

    with start_memcached() as server, mcext.Cache([server.address], timeout=20 * PATIENCE) as cache:
        with ThreadPoolExecutor(10) as pool:
            got = sorted(pool.map(call, range(10)))
    assert got == ["raised", *["value"] * 9]
    assert len(runs) == 2
