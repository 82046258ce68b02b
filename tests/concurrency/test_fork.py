"""After a fork, parent and child never see each other's bytes, and the parent's connections stay good."""

import concurrent.futures
import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import urllib.request
import warnings
import weakref
from pathlib import Path

import asleep
import ports
import pytest
from scripted_server import STALL, ScriptedServer

import mcext
from mcext.testing import memcached as start_memcached

AT_ONCE = 20
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def key_script(command, number):
    """Every value is its key."""
    words = command.split()
    if words[0] == b"get":
        return b"".join(b"VALUE %s 0 %d\r\n%s\r\n" % (k, len(k), k) for k in words[1:]) + b"END\r\n"
    return None


def in_child(function):
    """Fork, run the function there and return the child's process id; it exits with 0 where the function returns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    try:
        function()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def wait(*pids):
    """Wait for children to end well; one that hangs is killed, which is not well."""
    for pid in pids:
        deadline = time.monotonic() + 2 * AT_ONCE
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                pytest.fail("a forked process hangs")
            time.sleep(0.005)
        assert status == 0


def calls(mc, name, count=200):
    """Calls whose answers belong to this process alone."""
    for i in range(count):
        assert mc.set(f"{name}{i % 20}", f"{name} {i}")
        assert mc.get(f"{name}{i % 20}") == f"{name} {i}"
        assert mc.get(f"shared{i % 50}") == b"shared%d" % (i % 50)
        found = mc.get_multi([f"shared{j % 50}" for j in range(i, i + 5)])
        assert found == {f"shared{j % 50}": b"shared%d" % (j % 50) for j in range(i, i + 5)}


def filled(server):
    mc = mcext.Client([server.address], socket_timeout=AT_ONCE)
    assert mc.set_multi({f"shared{i}": b"shared%d" % i for i in range(50)}) == []
    return mc


def test_parent_and_children_after_use(memcached):
    mc = filled(memcached)
    children = [in_child(lambda i=i: calls(mc, f"child{i}")) for i in range(4)]
    calls(mc, "parent")
    wait(*children)
    calls(mc, "parent", 20)


def test_the_parents_connection_is_untouched():
    with ScriptedServer(key_script) as server:
        mc = mcext.Client([server.address])
        assert mc.get("parent") == b"parent"

        def child():
            assert mc.get("child") == b"child"
            mc.disconnect_all()
            assert mc.get("child2") == b"child2"
            mc.quit_all()
            assert mc.get("child3") == b"child3"

        wait(in_child(child))
        assert mc.get("parent2") == b"parent2"
        assert server.connections[0].commands == [b"get parent\r\n", b"get parent2\r\n"]
        assert not server.connections[0].closed.is_set()


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param(lambda mc: mc.disconnect_all(), id="disconnect_all first"),
        pytest.param(lambda mc: mc.quit_all(), id="quit_all first"),
        pytest.param(lambda mc: mc.set_servers([]), id="set_servers first"),
        pytest.param(lambda mc: mc.forget_dead_hosts(), id="forget_dead_hosts first"),
        pytest.param(lambda mc: [h.close_socket() for h in mc.servers], id="close_socket first"),
        pytest.param(lambda mc: mc.__dict__.clear(), id="nothing"),
    ],
)
def test_whatever_a_child_does_first_sends_nothing_on_the_parents_connection(ends):
    with ScriptedServer(key_script) as server:
        mc = mcext.Client([server.address])
        assert mc.get("parent") == b"parent"
        wait(in_child(lambda: ends(mc)))
        assert mc.get("parent2") == b"parent2"
        assert server.connections[0].commands == [b"get parent\r\n", b"get parent2\r\n"]
        assert len(server.connections) == 1


def test_a_child_that_drops_the_client_leaves_the_parents_connection():
    with ScriptedServer(key_script) as server:
        clients = [mcext.Client([server.address])]
        assert clients[0].get("parent") == b"parent"

        def child():
            clients.clear()
            gc.collect()

        wait(in_child(child))
        assert clients[0].get("parent2") == b"parent2"
        assert server.connections[0].commands == [b"get parent\r\n", b"get parent2\r\n"]


def test_a_child_that_ends_as_programs_do():
    """sys.exit runs finalizers, which must not speak on the parent's connection."""
    script = textwrap.dedent(
        """
        import os, sys, warnings, mcext
        warnings.simplefilter("ignore")
        mc = mcext.Client([sys.argv[1]])
        mc.set("key1", b"value1")
        pid = os.fork()
        if pid == 0:
            assert mc.get("key1") == b"value1"
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        for i in range(10):
            assert mc.get("key1") == b"value1"
        print(dict(mc.get_stats()[0][1])["total_connections"])
        """
    )
    with start_memcached("-t", "1") as server:  # one thread: it has counted all that came before
        before = int(dict(mcext.Client([server.address]).get_stats()[0][1])["total_connections"])
        done = subprocess.run(
            [sys.executable, "-c", script, server.address], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == before + 2, "one connection for each process"


def test_a_child_of_a_child(memcached):
    mc = filled(memcached)

    def grandchild(name):
        calls(mc, name, 50)

    def child():
        calls(mc, "child", 50)
        pid = in_child(lambda: grandchild("grandchild"))
        calls(mc, "child", 50)
        assert os.waitpid(pid, 0)[1] == 0

    def child_that_never_calls():
        assert os.waitpid(in_child(lambda: grandchild("another")), 0)[1] == 0

    children = [in_child(child), in_child(child_that_never_calls)]
    calls(mc, "parent")
    wait(*children)


@pytest.mark.slow
def test_fork_with_threads_calling(memcached):
    """Forks while other threads are in calls, at whatever instant: no lock or flag of theirs is waited for."""
    mc = filled(memcached)
    stop = threading.Event()
    problems = []

    def go_on(name):
        try:
            while not stop.is_set():
                calls(mc, name, 5)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=go_on, args=(f"thread{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    try:
        for i in range(40):
            wait(in_child(lambda i=i: calls(mc, f"child{i}", 3)))
            calls(mc, "parent", 3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert problems == []


def test_fork_during_another_threads_call():
    asked, go_on = threading.Event(), threading.Event()

    def script(command, number):
        if command == b"get slow\r\n":
            asked.set()
            assert go_on.wait(2 * AT_ONCE)
        return key_script(command, number)

    with ScriptedServer(script) as server:
        mc = mcext.Client([server.address], socket_timeout=3 * AT_ONCE)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(mc.get, "slow")
            assert asked.wait(AT_ONCE)

            def child():
                for i in range(20):
                    assert mc.get(f"child{i}") == b"child%d" % i
                mc.disconnect_all()

            wait(in_child(child))
            go_on.set()
            assert answer.result(AT_ONCE) == b"slow"
            assert pool.submit(mc.get, "slow2").result(AT_ONCE) == b"slow2"
        assert server.connections[0].commands == [b"get slow\r\n", b"get slow2\r\n"]


def test_what_is_replaced_in_a_child_does_not_wait_for_calls_of_the_parents_threads():
    """Such a call never ends there; the servers of before go, and their connections with them."""
    asked = threading.Event()

    def script(command, number):
        if command == b"get slow\r\n":
            asked.set()
            assert go_on.wait(2 * AT_ONCE)
        return key_script(command, number)

    go_on = threading.Event()
    with ScriptedServer(script) as server, ScriptedServer(key_script) as one, ScriptedServer(key_script) as other:
        mc = mcext.Client([server.address], socket_timeout=3 * AT_ONCE)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(mc.get, "slow")
            assert asked.wait(AT_ONCE)

            def child():
                mc.set_servers([one.address])  # the server before is one that the call itself holds
                for address in [other.address, one.address] * 3:
                    assert mc.get("key1") == b"key1"
                    before = weakref.ref(mc.servers[0])
                    mc.set_servers([address])
                    assert before() is None

            def child_of_many_threads():
                with concurrent.futures.ThreadPoolExecutor(4) as threads:
                    found = threads.map(mc.get, [f"key{i}" for i in range(100)])
                    mc.set_servers([one.address])
                    mc.set_servers([other.address])
                    assert list(found) == [b"key%d" % i for i in range(100)]

            try:
                wait(in_child(child), in_child(child_of_many_threads))
            finally:
                go_on.set()
            assert answer.result(AT_ONCE) == b"slow"


def test_a_fork_within_a_call():
    """An unpickler that forks: the call goes on in both processes."""
    pids = []

    class Forking(pickle.Unpickler):
        def load(self):
            pid = os.fork()
            if pid == 0:
                try:
                    ok = mc.get("child") == b"child" and mc.get_multi(["a", "b"]) == {"a": b"a", "b": b"b"}
                    os._exit(0 if ok else 1)
                finally:
                    os._exit(2)
            pids.append(pid)
            return super().load()

    data = pickle.dumps(["outer"])

    def script(command, number):
        if command == b"get outer\r\n":
            return b"VALUE outer 1 %d\r\n%s\r\nEND\r\n" % (len(data), data)
        return key_script(command, number)

    with ScriptedServer(script) as server:
        mc = mcext.Client([server.address], unpickler=Forking)
        assert mc.get("outer") == ["outer"]
        wait(*pids)
        assert mc.get("parent") == b"parent"
        assert server.connections[0].commands == [b"get outer\r\n", b"get parent\r\n"]


def get_in_both(mc, forked, server):
    """A get in whose middle the process forks: each of the two asks on a connection of its own, once."""
    ok = False
    try:
        ok = mc.get("key1") == b"key1" and mc.get("key2") == b"key2"
    finally:
        if forked and not forked[0]:
            os._exit(0 if ok else 1)
    wait(*forked)
    assert ok and len(forked) == 1
    asked = sorted(one.commands for one in server.connections if b"get key1\r\n" in one.commands)
    assert [commands.count(b"get key1\r\n") for commands in asked] == [1, 1], asked
    assert asked[-1] == [b"get key1\r\n", b"get key2\r\n"], "the parent's connection is good"


@pytest.mark.parametrize("name", ["add", "replace", "append", "prepend", "cas", "incr", "decr", "flush_all"])
def test_the_first_call_of_a_child_may_be_one_that_is_sent_once(name):
    """It finds out about the fork before it sends, not by a failure after which others are sent again."""
    answers = {b"incr": b"5\r\n", b"decr": b"5\r\n"}
    right = {"incr": 5, "decr": 5, "flush_all": None}.get(name, True)
    arguments = {"incr": ("key1",), "decr": ("key1",), "flush_all": ()}.get(name, ("key1", b"v"))

    def script(command, number):
        return answers.get(command.split()[0], b"OK\r\n" if command.startswith(b"flush") else b"STORED\r\n")

    with ScriptedServer(script) as server:
        mc = mcext.Client([server.address])
        assert mc.set("parent", b"v")

        def child():
            assert getattr(mc, name)(*arguments) == right

        wait(in_child(child))
        assert [len(one.commands) for one in server.connections] == [1, 1]


def ring():
    """The signal comes when the main thread waits."""
    asleep.wait(threading.main_thread().native_id)
    os.kill(os.getpid(), signal.SIGALRM)


def in_both(call, forked):
    """Make a call in whose middle the process forks; return its answer in the parent, and the child's."""
    answer = None
    reading, writing = os.pipe()
    try:
        answer = call()
    finally:
        if forked and not forked[0]:
            os.write(writing, repr(answer).encode())
            os._exit(0)
    wait(*forked)
    os.close(writing)
    with open(reading) as pipe:
        return answer, pipe.read()


@pytest.mark.parametrize(
    "call, answer",
    [
        pytest.param(lambda mc: mc.set("key1", ()), True, id="set"),
        pytest.param(lambda mc: mc.set_multi({"key1": (), "key2": ()}), [], id="set_multi"),
    ],
)
def test_a_fork_by_a_pickler_while_its_call_owns_a_connection(call, answer):
    forked = []

    class Forking(pickle.Pickler):
        def dump(self, value):
            if not forked:
                forked.append(os.fork())
            super().dump(value)

    with ScriptedServer() as server:
        mc = mcext.Client([server.address], pickler=Forking, socket_timeout=AT_ONCE)
        mc.get("warm")
        assert in_both(lambda: call(mc), forked) == (answer, repr(answer))
        first, second = (one.commands for one in server.connections)
        assert first[0] == b"get warm\r\n" and first[1:] == second


def test_a_fork_by_an_unpickler_while_its_call_reads_on():
    forked, go_on = [], threading.Event()
    data = pickle.dumps(())

    class Forking(pickle.Unpickler):
        def load(self):
            if not forked:
                forked.append(os.fork())
                if forked[0]:
                    wait(forked[0])  # the child has done what it would before the rest of the reply comes
                    go_on.set()
            return super().load()

    def script(command, number):
        return (b"VALUE key1 1 %d\r\n%s\r\n" % (len(data), data), STALL) if b"key1" in command else None

    with ScriptedServer(script) as server:
        mc = mcext.Client([server.address], unpickler=Forking, socket_timeout=AT_ONCE)
        threading.Thread(
            target=lambda: go_on.wait(2 * AT_ONCE) and server.push(b"VALUE key2 0 1\r\nx\r\nEND\r\n")
        ).start()
        answer = mc.get_multi(["key1", "key2"])
        if not forked[0]:
            os._exit(0 if answer == {"key1": ()} else 1)
        assert answer == {"key1": (), "key2": b"x"}
        assert len(server.connections) == 1


@pytest.mark.plain  # Python's own recv goes on in the child, and takes the reply: a miss in the parent
@pytest.mark.parametrize("name, in_the_child", [("get", b"key1"), ("incr", None)])
def test_a_fork_by_a_signal_handler_while_its_call_waits(name, in_the_child):
    """The reply is the parent's; the child asks again where that may be."""
    forked, asked, go_on = [], threading.Event(), threading.Event()

    def script(command, number):
        asked.set()
        assert go_on.wait(2 * AT_ONCE)
        return b"5\r\n" if command.startswith(b"incr") else key_script(command, number)

    def handler(*_):
        forked.append(os.fork())
        if forked[0]:
            threading.Thread(target=release).start()

    def release():
        time.sleep(0.3)  # the child takes the reply first where it can
        go_on.set()

    def interrupt():
        asked.wait(AT_ONCE)
        ring()

    with ScriptedServer(script) as server, contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, handler))
        mc = mcext.Client([server.address], socket_timeout=AT_ONCE)
        threading.Thread(target=interrupt).start()
        answer, child_answer = in_both(lambda: getattr(mc, name)("key1"), forked)
        assert answer == (b"key1" if name == "get" else 5)
        assert child_answer == repr(in_the_child)


def test_a_fork_by_a_signal_handler_in_the_middle_of_a_connect():
    forked = []

    def handler(*_):
        forked.append(os.fork())
        if forked[0]:
            server.__enter__()  # which takes what waits, and then the connect is through

    server = ScriptedServer(key_script)
    server.listener.listen(0)
    mc = mcext.Client([server.address], socket_timeout=AT_ONCE)
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex((server.host, server.port))
        stack.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, handler))
        stack.push(server)
        threading.Thread(target=ring).start()
        get_in_both(mc, forked, server)


def test_a_fork_by_a_sockets_own_connect(monkeypatch):
    forked = []

    class Forking(socket.socket):
        def connect(self, address):
            super().connect(address)
            if not forked:
                forked.append(os.fork())

    with ScriptedServer(key_script) as server:
        monkeypatch.setattr(socket, "socket", Forking)
        get_in_both(mcext.Client([server.address], socket_timeout=AT_ONCE), forked, server)


def test_a_dead_mark_is_not_lost_in_a_child():
    with ports.listen() as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    mc = mcext.Client([address], dead_retry=1000)
    assert mc.get("key1") is None

    def child():
        assert mc.servers[0].deaduntil
        assert mc.get("key1") is None
        mc.forget_dead_hosts()
        assert mc.get("key1") is None

    wait(in_child(child))


def multiprocessing_child(mc, name):
    calls(mc, name, 50)


def test_multiprocessing_fork(memcached):
    mc = filled(memcached)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=multiprocessing_child, args=(mc, f"process{i}")) for i in range(4)]
    for process in processes:
        process.start()
    calls(mc, "parent")
    for process in processes:
        process.join(2 * AT_ONCE)
        assert process.exitcode == 0


GUNICORN = """
import os
import mcext

mc = mcext.Client([os.environ["TEST_MEMCACHED"]], socket_timeout=20)
assert mc.get("shared0") == b"shared0"


def app(environ, start_response):
    for i in range(50):
        if mc.get(f"shared{i}") != b"shared%d" % i:
            start_response("500 Wrong", [])
            return [b"wrong"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]
"""


def test_a_preforking_web_server(memcached, tmp_path):
    """gunicorn loads the application, and uses the client, before it forks its workers."""
    pytest.importorskip("gunicorn")
    mc = filled(memcached)
    (tmp_path / "application.py").write_text(GUNICORN)
    port_file = tmp_path / "port"
    (tmp_path / "configuration.py").write_text(
        textwrap.dedent(
            f"""
            bind = "127.0.0.1:0"
            workers = 3
            threads = 2
            preload_app = True
            graceful_timeout = 1
            control_socket_disable = True

            def when_ready(server):
                with open({str(port_file)!r} + ".new", "w") as file:
                    file.write(str(server.LISTENERS[0].sock.getsockname()[1]))
                import os
                os.rename({str(port_file)!r} + ".new", {str(port_file)!r})
            """
        )
    )
    folder = str(Path(mcext.__file__).resolve().parents[1])
    environment = {
        **os.environ,
        "TEST_MEMCACHED": memcached.address,
        "PYTHONPATH": os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "gunicorn", "-c", str(tmp_path / "configuration.py"), "application:app"]
    with open(tmp_path / "log", "w+") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 3 * AT_ONCE
            while not port_file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    pytest.fail(f"gunicorn did not start: {log.read()}")
                time.sleep(0.02)
            url = f"http://127.0.0.1:{port_file.read_text()}/"

            def visit(_):
                with urllib.request.urlopen(url, timeout=AT_ONCE) as answer:
                    return int(answer.read())

            workers = set()
            with concurrent.futures.ThreadPoolExecutor(6) as pool:
                while len(workers) < 2 and time.monotonic() < deadline:
                    workers |= set(pool.map(visit, range(60)))
            assert len(workers) >= 2, "more than one worker answered"
            assert process.pid not in workers
        finally:
            process.terminate()
            process.wait(AT_ONCE)
    calls(mc, "parent", 5)
