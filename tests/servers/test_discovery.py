"""Servers that are found by asking an endpoint or a name server: when it is asked, and what becomes of the answers."""

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import warnings
import weakref
from pathlib import Path

import asleep
import pytest
from endpoint import Endpoint
from scripted_server import CLOSE, PATIENCE, STALL, ScriptedServer
from test_set_servers import Load, calls_of, one_thread, total_connections, wait_until

import mcext
from mcext import _core, discovery, sources
from mcext.testing import memcached as start_memcached

pytestmark = pytest.mark.filterwarnings("ignore:servers are found by asking")

AT_ONCE = 20 * PATIENCE
ROOT = Path(mcext.__file__).resolve().parents[1]
SUPPORT = Path(__file__).resolve().parents[1] / "support"


class Customised(mcext.Client):
    """Its calls go through mcext.pure."""

    def _get_server(self, key):
        return super()._get_server(key)


def client_of(servers, kind=mcext.Client, **options):
    return kind(servers, **{"socket_timeout": AT_ONCE, **options})


def customised_of(servers, **options):
    return client_of(servers, Customised, **options)


def cache_of(servers, socket_timeout=AT_ONCE, **options):
    return mcext.Cache(servers, timeout=socket_timeout, **options)


MAKERS = {"client": client_of, "customised": customised_of, "cache": cache_of}
ALL = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def listed(client):
    if isinstance(client, mcext.Cache):
        return [server.address for server in client.servers]
    return [f"{host.ip}:{host.port}" for host in client.servers]


def watchers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mcext discovery")]


def refreshed(client):
    """refresh_servers, and whether it was told why nobody answered."""
    try:
        assert client.refresh_servers() is None
    except mcext.ServerUnavailable as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    gc.collect()
    for thread in watchers():
        thread.join(AT_ONCE)
    assert watchers() == []


@pytest.fixture
def early(monkeypatch):
    """Who fails asks again at once."""
    monkeypatch.setattr(discovery, "EARLY", 0.001)


# ---- the list of an endpoint ---------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("old", [False, True], ids=["new engine", "old engine"])
def test_nodes_come_and_go_as_the_endpoint_says(make, old):
    with one_thread() as one, start_memcached() as two, Endpoint([one.address], old=old) as endpoint:
        client = make([endpoint.source])
        assert listed(client) == []
        assert client.set("k", 1) is True and client.get("k") == 1
        assert listed(client) == [one.address]
        before = total_connections(one)
        for nodes in (
            [one.address, two.address],  # out
            [two.address, one.address],
            [one.address],  # in
        ):
            endpoint.set(nodes)
            assert refreshed(client) == ""
            assert listed(client) == nodes
            for number in range(20):
                assert client.set(f"key{number}", number) is True
        assert total_connections(one) == before + 1  # the last question's own
        endpoint.set([two.address])  # one in place of the other
        assert refreshed(client) == ""
        assert listed(client) == [two.address]
        assert client.set("k", 2) is True and client.get("k") == 2
        assert endpoint.looks == 5


@ALL
def test_what_is_no_newer_configuration_changes_nothing(make):
    with start_memcached() as one, Endpoint([one.address]) as endpoint:
        endpoint.version = 5
        client = make([endpoint.source])
        assert client.set("k", 1) is True
        for version in (4, 5, 0):
            endpoint.set(["127.0.0.1:1"], version)
            assert refreshed(client) == ""
            assert listed(client) == [one.address]
        for said in (
            b"ERROR\r\n",
            b"END\r\n",
            CLOSE,
            b"CONFIG cluster 0 9999999\r\n",
            b"CONFIG cluster 0 1\r\n9\r\nEND\r\n",
        ):
            endpoint.says = said
            assert (endpoint.source in refreshed(client)) == isinstance(client, mcext.Cache)
            assert listed(client) == [one.address] and client.get("k") == 1
        endpoint.says = None
        endpoint.set([one.address, "127.0.0.1:1"], 6)
        assert refreshed(client) == ""
        assert len(listed(client)) == 2


@ALL
def test_an_endpoint_that_says_nothing_costs_the_connect_budget(make):
    with start_memcached() as one, Endpoint([one.address]) as endpoint:
        client = make([endpoint.source], connect_timeout=0.3)
        endpoint.says = STALL
        with contextlib.suppress(mcext.ServerUnavailable):
            assert client.get("k", 7) == 7
        assert listed(client) == []
        assert ("time" in refreshed(client)) == isinstance(client, mcext.Cache)
        endpoint.says = None
        client.set_servers([endpoint.source, ("127.0.0.1:1", 2)])
        endpoint.wait_for_looks(1)


def test_a_node_is_named_by_its_host_or_by_its_address(memcached):
    with Endpoint([f"localhost|10.255.255.1|{memcached.port}", f"|127.0.0.1|{memcached.port}"]) as endpoint:
        cache = cache_of([endpoint.source])
        for number in range(10):
            assert cache.set(f"key{number}", 1) is True
        assert listed(cache) == [f"localhost:{memcached.port}", memcached.address]


@ALL
def test_sources_stand_among_servers_and_weigh_what_is_said(make):
    with start_memcached() as one, start_memcached() as two, start_memcached() as third:
        with Endpoint([one.address, two.address, third.address]) as endpoint, Endpoint([two.address]) as other:
            client = make([other.source, (endpoint.source, 3), third.address])
            assert client.set("k", 1) is True
            assert listed(client) == [two.address, one.address, third.address]
            if not isinstance(client, mcext.Cache):
                assert [host.weight for host in client.servers] == [1, 3, 1]
                assert len(client.buckets) == 5
            endpoint.set([one.address])
            assert refreshed(client) == ""
            assert listed(client) == [two.address, one.address, third.address]


@ALL
def test_while_one_source_has_never_answered_there_are_no_servers(make, early):
    """What is stored meanwhile would be found by nobody afterwards."""
    with start_memcached() as one, Endpoint([one.address]) as endpoint, Endpoint() as other:
        other.says = b"ERROR\r\n"
        client = make([endpoint.source, other.source, one.address])
        with contextlib.suppress(mcext.ServerUnavailable):
            assert client.get("k", 7) == 7
        assert listed(client) == []
        other.says = None
        other.set([one.address])
        wait_until(lambda: listed(client) == [one.address], "it is not asked again")


@ALL
def test_it_is_asked_again_and_again(make, monkeypatch):
    monkeypatch.setattr(sources.ElastiCache, "interval", 0.005)
    with start_memcached() as one, start_memcached() as two, Endpoint([one.address]) as endpoint:
        client = make([endpoint.source])
        assert client.set("k", 1) is True
        endpoint.wait_for_looks(3)
        endpoint.says = b"ERROR\r\n"
        endpoint.wait_for_looks(endpoint.looks + 3)
        endpoint.set([one.address, two.address])
        endpoint.says = None
        wait_until(lambda: listed(client) == [one.address, two.address], "it is not asked again")


# ---- when nobody answers -------------------------------------------------------------------------------------------


@ALL
def test_where_the_first_look_fails_there_are_no_servers_until_it_is_asked_again(make, early):
    with start_memcached() as one, Endpoint([one.address]) as endpoint:
        endpoint.says = b"ERROR\r\n"
        client = make([endpoint.source])
        if isinstance(client, mcext.Cache):
            why = "there are no servers: elasticache://.*configuration"
            with pytest.raises(mcext.ServerUnavailable, match=why):
                client.get("k")
            with pytest.raises(mcext.ServerUnavailable, match=why):
                client.set("k", 1)
            with pytest.raises(mcext.PartialFailure, match=why):
                client.get_many(["k"])
            with pytest.raises(mcext.ServerUnavailable, match=endpoint.source):
                client.refresh_servers()
            assert client.stats() == {} and client.server_for("k") is None
            quiet = make([endpoint.source], errors="miss")
            assert (quiet.get("k", 7), quiet.set("k", 1), quiet.get_many(["k"])) == (7, False, {})
            assert quiet.refresh_servers() is None
        else:
            assert (client.get("k", 7), client.set("k", 1), client.get_multi(["k"])) == (7, 0, {})
            assert client.get_stats() == [] and client.flush_all() is None
            assert client.refresh_servers() is None
        endpoint.says = None
        wait_until(lambda: listed(client) == [one.address], "it is not asked again")
        assert client.set("k", 1) is True


def test_a_client_says_in_its_debug_lines_why_a_look_failed(capsys):
    with Endpoint() as endpoint:
        endpoint.says = b"SERVER_ERROR words\r\n"
        client = client_of([endpoint.source], debug=1)
        assert client.get("k") is None
        assert refreshed(client) == ""
    del client
    said = capsys.readouterr().err
    assert f"MemCache: {endpoint.source}: " in said and "SERVER_ERROR words" in said


@ALL
def test_servers_that_cannot_be_taken_change_nothing(make, monkeypatch, early):
    """What an application put in place of a part may raise."""
    with start_memcached() as one, Endpoint([one.address]) as endpoint:
        client = make([endpoint.source])
        assert client.set("k", 1) is True
        part = "_host_of" if isinstance(client, mcext.Cache) else "_init_buckets"

        def refuse(*unused):
            raise LookupError("not today")

        with monkeypatch.context() as patch:
            patch.setattr(type(client), part, refuse)
            endpoint.set([one.address, "127.0.0.1:1"])
            if isinstance(client, mcext.Cache):
                assert "not today" in refreshed(client)
                assert listed(client) == [one.address]
            else:
                client.refresh_servers()
                assert client.buckets == client.servers[:1]
            assert client.get("k") == 1
        assert refreshed(client) == ""
        assert len(listed(client)) == 2
        if not isinstance(client, mcext.Cache):
            assert len(client.buckets) == 2


# ---- threads -------------------------------------------------------------------------------------------------------


@ALL
def test_there_is_one_thread_from_the_first_call_to_the_clients_end(make):
    with start_memcached() as one, Endpoint([one.address]) as endpoint:
        plain = make([one.address])
        assert plain.set("k", 1) is True and plain.refresh_servers() is None
        client = make([endpoint.source])
        assert (watchers(), endpoint.looks, listed(client)) == ([], 0, [])
        for _ in range(3):
            assert client.get("k") == 1
        (thread,) = watchers()
        assert thread.daemon and endpoint.source in thread.name
        others = [threading.Thread(target=client.get, args=("k",)) for _ in range(8)]
        for each in others:
            each.start()
        for each in others:
            each.join()
        assert (watchers(), endpoint.looks) == ([thread], 1)
        seen = weakref.ref(client)
        del client, each, others
        gc.collect()
        assert seen() is None
        thread.join(AT_ONCE)
        assert watchers() == [] and not thread.is_alive()


@ALL
def test_all_threads_of_the_first_moment_wait_for_one_look(make):
    with start_memcached() as one, Endpoint([one.address]) as endpoint:
        client = make([endpoint.source])
        barrier, results = threading.Barrier(16), []

        def call(number):
            barrier.wait(AT_ONCE)
            results.append(client.set(f"key{number}", number))

        threads = [threading.Thread(target=call, args=(number,)) for number in range(16)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert results == [True] * 16
        assert (endpoint.looks, len(watchers())) == (1, 1)


def test_close_ends_the_thread_and_a_later_call_begins_another(memcached):
    with Endpoint([memcached.address]) as endpoint, cache_of([endpoint.source]) as cache:
        assert cache.set("k", 1) is True
        (thread,) = watchers()
        cache.close()
        thread.join(AT_ONCE)
        assert watchers() == []
        assert cache.get("k") == 1
        assert len(watchers()) == 1 and watchers() != [thread]
    wait_until(lambda: watchers() == [], "it has not ended")


@ALL
def test_set_servers_ends_it_and_begins_it(make):
    with one_thread() as one, start_memcached() as two, Endpoint([one.address]) as endpoint:
        with Endpoint([one.address, two.address]) as other:
            client = make([endpoint.source])
            assert client.set("k", 1) is True
            before = total_connections(one)
            (thread,) = watchers()
            client.set_servers([endpoint.source])  # the same
            assert client.get("k") == 1 and watchers() == [thread] and endpoint.looks == 1
            client.set_servers([other.source, two.address])
            thread.join(AT_ONCE)
            assert not thread.is_alive()
            assert client.set("k", 1) is True
            assert listed(client) == [one.address, two.address]
            client.set_servers([one.address])
            wait_until(lambda: watchers() == [], "it has not ended")
            assert listed(client) == [one.address] and client.set("k", 1) is True
            assert total_connections(one) == before + 1  # the same connection all the time
            client.set_servers([endpoint.source])
            assert client.get("k") == 1
            assert endpoint.looks == 2


def test_nothing_of_it_is_imported_where_no_source_is_given(memcached):
    program = f"""
import sys, mcext
address = {memcached.address!r}
for client in (mcext.Client([address], socket_timeout=20), mcext.Cache([address], timeout=20)):
    assert client.set("k", 1) is True
    client.refresh_servers()
print("mcext.discovery" in sys.modules, "mcext.sources" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False False\n", done.stderr


def test_ctrl_c_ends_the_wait_for_the_first_look(memcached):
    def interrupt(*unused):
        raise KeyboardInterrupt

    def ring():
        asleep.wait(threading.main_thread().native_id)
        os.kill(os.getpid(), signal.SIGALRM)

    with Endpoint([memcached.address]) as endpoint:
        endpoint.says = STALL
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            for make in MAKERS.values():
                client = make([endpoint.source], connect_timeout=60 * PATIENCE)
                ringing = threading.Thread(target=ring)
                with pytest.raises(KeyboardInterrupt):
                    ringing.start()
                    client.get("k")
                ringing.join()
                del client
        finally:
            signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_may_call_the_client_that_waits_for_the_first_look(memcached):
    found = []
    with Endpoint([memcached.address]) as endpoint:
        client = client_of([endpoint.source], connect_timeout=0.5)
        endpoint.says = STALL
        before = signal.signal(signal.SIGALRM, lambda *unused: found.append(client.get("k", 5)))
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            assert client.get("k", 7) == 7
            assert found == [5]
        finally:
            signal.signal(signal.SIGALRM, before)


def test_a_subclass_whose_constructor_calls_the_client(memcached):
    """It runs in each thread that meets the client, so in that one too."""

    class Mine(mcext.Client):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.set_servers(arguments[0])
            self.own = self.get("k")

    with Endpoint([memcached.address]) as endpoint:
        client = client_of([endpoint.source], Mine)
        assert client.set("k", 1) is True and client.own is None
        assert listed(client) == [memcached.address] and len(watchers()) == 1
        endpoint.set([memcached.address, "127.0.0.1:1"])
        client.refresh_servers()
        assert len(client.servers) == 2


@ALL
def test_privates_and_calls_about_all_servers_find_servers_first(make):
    with start_memcached() as one, Endpoint([one.address]) as endpoint:
        for call in (
            [
                lambda c: c.stats(),
                lambda c: c.server_for("k"),
                lambda c: c.get_many(["k", "l"]) == {},
                lambda c: c.version(),
            ]
            if make is cache_of
            else [
                lambda c: c.server_for("k"),
                lambda c: c._get_server(b"k")[0],
                lambda c: c.get_stats(),
                lambda c: c.set_multi({"k": 1}) == [],
            ]
        ):
            client = make([endpoint.source])
            assert call(client)
            assert listed(client) == [one.address]


# ---- a hint --------------------------------------------------------------------------------------------------------


@ALL
def test_a_server_that_cannot_be_reached_is_a_reason_to_ask_at_once(make, monkeypatch):
    monkeypatch.setattr(discovery, "EARLY", 3600)
    with start_memcached() as one, start_memcached() as two, Endpoint([one.address]) as endpoint:
        client = make([endpoint.source])
        assert client.set("k", 1) is True
        endpoint.set([two.address])
        one.stop()
        with contextlib.suppress(mcext.MemcacheError):
            client.set("k", 1)  # on the way in Python it ends with the old connection
        with contextlib.suppress(mcext.MemcacheError):
            client.set("k", 1)
        wait_until(lambda: listed(client) == [two.address], "it was not asked")
        assert client.set("k", 1) is True


@ALL
def test_many_reasons_are_few_questions(make, monkeypatch):
    monkeypatch.setattr(discovery, "EARLY", 3600)
    with Endpoint(["127.0.0.1:1"]) as endpoint:
        client = make([endpoint.source], dead_retry=0)
        for _ in range(50):
            with contextlib.suppress(mcext.MemcacheError):
                client.set("k", 1)
        wait_until(lambda: endpoint.looks == 2, "the first of them is no reason")
        for _ in range(50):
            with contextlib.suppress(mcext.MemcacheError):
                client.set("k", 1)
        assert refreshed(client) == ""
        assert endpoint.looks == 3


@ALL
def test_a_node_that_is_added_under_load_is_used_and_nobody_else_notices(make, early):
    """No call fails, and the other nodes see no new connection but those that more calls at once need."""
    with one_thread() as one, one_thread() as two, one_thread() as third:
        with Endpoint([one.address, two.address]) as endpoint:
            before = [total_connections(server) for server in (one, two)]
            client = make([endpoint.source])
            with Load(calls_of(client)) as load:
                for nodes in ([one.address, two.address, third.address], [one.address, two.address]) * 10:
                    endpoint.set(nodes)
                    _core._watch(client).hint()
                    wait_until(lambda nodes=nodes: listed(client) == nodes, "the hint came to nothing")
                    load.goes_on()
            for server, count in zip((one, two), before, strict=True):
                assert total_connections(server) - count - 1 <= 16
            assert total_connections(third) > 2


# ---- processes and greenlets ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@ALL
@pytest.mark.parametrize("used", [False, True], ids=["made before the fork", "used before the fork"])
def test_each_worker_has_a_thread_of_its_own_from_its_first_call_on(make, used):
    with start_memcached() as one, start_memcached() as two, Endpoint([one.address]) as endpoint:
        client = make([endpoint.source])
        if used:
            assert client.set("k", 1) is True
        looks, children = endpoint.looks, []
        for _ in range(3):
            started, told = os.pipe(), os.pipe()
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    signal.alarm(3 * AT_ONCE)  # it may hang
                    assert watchers() == []
                    assert client.set("k", 1) is True
                    assert client.get("k") == 1
                    assert len(watchers()) == 1
                    os.write(started[1], b"x")
                    os.read(told[0], 1)
                    refreshed(client)
                    assert listed(client) == [one.address, two.address]
                    status = 0
                finally:
                    os._exit(status)
            children.append((pid, started, told))
        for _, started, _ in children:
            assert os.read(started[0], 1) == b"x"
        endpoint.wait_for_looks(looks + 3)
        endpoint.set([one.address, two.address])
        for _, _, told in children:
            os.write(told[1], b"x")
        assert [os.waitpid(pid, 0)[1] for pid, _, _ in children] == [0] * 3
        assert len(watchers()) == used
        assert client.get("k") == 1
        for _, *pipes in children:
            for descriptor in sum(pipes, ()):
                os.close(descriptor)


def run(program, *arguments, **formatted):
    """A program of its own; it prints "done"."""
    head = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(SUPPORT)!r}]\n"
    head += "import warnings; warnings.simplefilter('ignore')\n"
    text = textwrap.dedent(program).format(**formatted) if formatted else textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", text.replace("HEAD", head, 1), *arguments],
        capture_output=True,
        text=True,
        timeout=6 * AT_ONCE,
    )
    assert done.stdout == "done\n", done.stdout + done.stderr
    assert "Traceback" not in done.stderr


GREENLETS = """
HEAD
{patch}
import threading
import mcext
from mcext import _core, discovery
discovery.EARLY = 0.001
from endpoint import Endpoint
from mcext.testing import memcached

with memcached() as one, memcached() as two, Endpoint([one.address]) as endpoint:
    for kind, seconds in ((mcext.Client, "socket_timeout"), (mcext.Cache, "timeout")):
        client = kind([endpoint.source], **{{seconds: 20}})
        endpoint.set([one.address])
        done = []
        def work(number):
            for i in range(20):
                assert client.set(f"key{{number}}", i) is True
            done.append(number)
        each = [threading.Thread(target=work, args=(number,)) for number in range(10)]
        for thread in each:
            thread.start()
        for thread in each:
            thread.join()
        assert sorted(done) == list(range(10)) and len(client.servers) == 1, done
        watchers = [t for t in threading.enumerate() if t.name.startswith("mcext discovery")]
        assert len(watchers) == 1, watchers
        endpoint.set([one.address, two.address])
        _core._watch(client).hint()
        {wait}(lambda: len(client.servers) == 2)
        work(11)
        endpoint.set([one.address])
        client.refresh_servers()
        assert len(client.servers) == 1
        del client, work
        {wait}(lambda: not watchers[0].is_alive())
print("done")
"""
WAIT = """
import time
def wait(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
"""


@pytest.mark.frameworks
def test_with_gevent_the_thread_is_a_greenlet():
    pytest.importorskip("gevent")
    patch = "from gevent import monkey; monkey.patch_all()\n" + WAIT
    run(GREENLETS, patch=patch, wait="wait")


@pytest.mark.frameworks
def test_a_fork_takes_no_greenlet_along_that_looks():
    """gevent's greenlets go on in the child: the parent's there looks for nobody, and the child has its own."""
    pytest.importorskip("gevent")
    program = """
    HEAD
    from gevent import monkey; monkey.patch_all()
    import os, threading
    import gevent, mcext
    from mcext import _core, discovery
    from endpoint import Endpoint
    from mcext.testing import memcached

    with memcached() as one, memcached() as two, Endpoint([one.address]) as endpoint:
        client = mcext.Client([endpoint.source], socket_timeout=20)
        assert client.set("k", 1) is True
        discovery.EARLY = 0.001
        looks = endpoint.looks
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for _ in range(20):
                    assert client.set("k", 2) is True
                    _core._watch(client).hint()
                    gevent.sleep(0.01)
                client.refresh_servers()
                assert len(client.servers) == 2
                status = 0
            finally:
                os._exit(status)
        endpoint.set([one.address, two.address])
        assert os.waitpid(pid, 0)[1] == 0
        assert len(client.servers) == 1 and endpoint.looks > looks
    print("done")
    """
    run(program)


@pytest.mark.frameworks
def test_with_eventlet_the_thread_is_a_greenlet():
    pytest.importorskip("eventlet")
    patch = "import eventlet; eventlet.monkey_patch()\n" + WAIT
    run(GREENLETS, patch=patch, wait="wait")


SUBINTERPRETER = """
HEAD
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
from endpoint import Endpoint
from mcext.testing import memcached

CODE = '''
import sys; sys.path[:] = {path!r}
import warnings; warnings.simplefilter("ignore")
import threading, mcext
from mcext import discovery
for client in (mcext.Client([{source!r}], socket_timeout=20), mcext.Cache([{source!r}], timeout=20)):
    assert client.set("k", 1) is True and client.get("k") == 1
    client.refresh_servers()
    assert len(client.servers) == 1
'''
with memcached() as one, Endpoint([one.address]) as endpoint:
    for isolated in (True, False):
        try:
            made = interpreters.create(**({{"isolated": isolated}} if sys.version_info < (3, 13) else {{}}))
        except TypeError:
            made = interpreters.create("isolated" if isolated else "legacy")
        answer = interpreters.run_string(made, CODE.format(path=sys.path, source=endpoint.source))
        assert answer is None, answer
        interpreters.destroy(made)
print("done")
"""


def test_in_an_interpreter_of_its_own_it_is_asked_with_or_without_a_thread():
    """One may not have daemon threads: there the calls ask. Its end waits for nobody."""
    run(SUBINTERPRETER.replace("{{", "{").replace("}}", "}"))


def test_an_application_ends_while_a_look_is_under_way():
    program = """
    HEAD
    import mcext
    from endpoint import Endpoint
    from scripted_server import STALL

    endpoint = Endpoint().__enter__()
    endpoint.says = STALL
    cache = mcext.Cache([endpoint.source], timeout=0.05, errors="miss")
    client = mcext.Client([endpoint.source], socket_timeout=0.05)
    assert cache.get("k") is None and client.get("k") is None
    print("done")
    """
    run(program)


# ---- what users are told -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default:servers are found by asking")
@pytest.mark.parametrize("make", [mcext.Client, mcext.Cache, Customised])
def test_a_placement_by_modulo_is_warned_of_at_the_line_of_the_application(make):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        client = make(["dns+localhost:1"])
        client.set_servers(["dns+localhost:1"])  # the same
        client.set_servers(["a:1"])
        client.set_servers(["dns+localhost:2"])
    assert [(each.category, each.filename) for each in said] == [(RuntimeWarning, __file__)] * 2
    assert "placement" in str(said[0].message)


def test_a_placement_with_a_ring_is_not_warned_of(monkeypatch):
    class Ring:
        _scheme = object()

    class Placed(mcext.Client):
        placement = Ring()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Placed(["dns+localhost:1"])


def test_a_plain_name_is_one_server_with_several_addresses(memcached):
    client = client_of([f"localhost:{memcached.port}"])
    assert client.set("k", 1) is True
    assert len(client.servers) == 1 and watchers() == []


def test_a_cache_whose_endpoint_has_gone_works_on(memcached):
    endpoint = Endpoint([memcached.address])
    with endpoint:
        cache = cache_of([endpoint.source])
        assert cache.set("k", 1) is True
    for _ in range(3):
        assert endpoint.source in refreshed(cache)
        assert cache.get("k") == 1


def test_dns_in_place_of_an_endpoint(memcached, monkeypatch):
    found = ["127.0.0.1"]
    real = socket.getaddrinfo
    asked = lambda name, port, *rest: [  # noqa: E731
        row for each in (found if name == "cache.test" else [name]) for row in real(each, port, *rest)
    ]
    monkeypatch.setattr(socket, "getaddrinfo", asked)
    with ScriptedServer(host="::1") as other:
        for make in MAKERS.values():
            found[:] = ["127.0.0.1"]
            client = make([f"dns+cache.test:{memcached.port}"])
            assert client.set("k", 1) is True
            assert listed(client) == [memcached.address]
            found[:] = ["127.0.0.1", other.host]
            assert refreshed(client) == ""
            assert len(listed(client)) == 2
            found[:] = []
            refreshed(client)
            assert len(listed(client)) == 2
            del client
