"""mcext.testing and the pytest plugin: servers that are there when they should be, and gone when they should be."""

import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from mcext import testing
from mcext.testing import memcached


def ask(server, command=b"version\r\n"):
    """The first bytes that the server answers."""
    family = socket.AF_UNIX if server.path else socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(10)
        connection.connect(server.path or (server.host, server.port))
        connection.sendall(command)
        return connection.recv(4096)


def is_gone(pid):
    """True when there is no such process (one that is not waited for would still be there)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(params=[False, True], ids=["tcp", "unix"])
def unix(request):
    return request.param


def test_a_server_answers_in_the_body_and_is_gone_after_it(unix):
    with memcached(unix=unix) as server:
        pid = server.pid
        assert ask(server).startswith(b"VERSION ")
        folder = server.path and os.path.dirname(server.path)
    assert is_gone(pid)
    assert not (folder and os.path.exists(folder))
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


def test_addresses_are_as_a_client_takes_them():
    with memcached() as tcp, memcached(unix=True) as unix:
        assert tcp.address == f"127.0.0.1:{tcp.port}" and tcp.host == "127.0.0.1" and tcp.path == ""
        assert unix.address == f"unix:{unix.path}" and os.path.exists(unix.path)
        assert (unix.host, unix.port) == ("", 0)


def test_ipv6_by_memcacheds_own_argument():
    with memcached("-l", "::1") as server:
        assert server.address == f"inet6:[::1]:{server.port}"
        assert ask(server).startswith(b"VERSION ")


def test_arguments_reach_memcached():
    with memcached("-c", "77") as server:
        assert b"STAT maxconns 77\r\n" in ask(server, b"stats settings\r\n")


def test_many_servers_live_side_by_side():
    servers = [memcached().start() for _ in range(5)]
    assert len({server.port for server in servers}) == len({server.pid for server in servers}) == 5
    for server in servers:
        server.stop()


@pytest.mark.parametrize("how", ["stop", "kill", "restart"])
def test_a_restart_keeps_the_address_and_loses_the_values(unix, how):
    with memcached(unix=unix) as server:
        address, pid = server.address, server.pid
        assert ask(server, b"set Foo 0 0 3\r\nBar\r\n") == b"STORED\r\n"
        if how == "restart":
            server.restart()
        else:
            getattr(server, how)()
            assert is_gone(pid)
            with pytest.raises(OSError):
                ask(server)
            server.start()
        assert server.address == address and server.pid != pid
        assert ask(server, b"get Foo\r\n") == b"END\r\n"


def test_a_server_with_open_connections_restarts_at_once():
    with memcached() as server, socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(b"version\r\n")
        assert connection.recv(100)
        server.restart()
        assert ask(server).startswith(b"VERSION ")


def test_a_server_that_ended_by_itself_is_not_running_and_starts_again(unix):
    with memcached(unix=unix) as server:
        address, pid = server.address, server.pid
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(RuntimeError, match="not running"):
            _ = server.pid
        assert repr(server) == "<memcached not running>"
        server.start()
        assert server.address == address and server.pid != pid
        assert ask(server).startswith(b"VERSION ")
        assert is_gone(pid)


def test_flags_that_end_in_the_letter_of_another_are_no_port():
    with memcached("-umemcached" if os.geteuid() else "-uroot", "-vv", "-Mk") as server:
        assert ask(server).startswith(b"VERSION ")


def test_a_stopped_process_is_ended_too():
    with memcached() as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
    assert is_gone(pid)


def test_the_server_is_stopped_when_the_body_raises():
    with pytest.raises(ZeroDivisionError), memcached() as server:
        pid = server.pid
        raise ZeroDivisionError
    assert is_gone(pid)


def test_a_server_that_nobody_stopped_ends_with_the_program(unix):
    program = f"from mcext.testing import memcached; s = memcached(unix={unix}).start(); print(s.pid, s._folder)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    pid, folder = done.stdout.split()
    assert is_gone(int(pid))
    assert not os.path.exists(folder)


def test_a_forked_child_leaves_the_server_alone():
    program = """
        import os, sys
        from mcext.testing import memcached
        with memcached() as server:
            child = os.fork()
            if child == 0:
                server.stop()
                sys.exit(0)  # goes through the end of the with statement and through atexit
            assert os.waitpid(child, 0)[1] == 0
            os.kill(server.pid, 0)
        print("fine")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.stdout.endswith("fine\n"), done.stderr


def test_without_memcached_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="memcached is not installed"):
        memcached().start()


def test_a_refused_argument_is_reported_in_memcacheds_words():
    with pytest.raises(RuntimeError, match="--nonsense did not start: .*nonsense"):
        memcached("--nonsense").start()


@pytest.mark.parametrize(
    "argument", ["-p", "-p11211", "-s", "-d", "-vd", "-kvp1", "--port=1", "--unix-socket=/x", "--daemon"]
)
def test_what_is_chosen_here_cannot_be_given(argument):
    with pytest.raises(ValueError, match=argument):
        memcached(argument)


def test_a_server_is_not_started_twice():
    with memcached() as server, pytest.raises(RuntimeError, match="already"):
        server.start()


def test_a_port_taken_meanwhile_is_waited_for(monkeypatch):
    """After a stop somebody else has the port, until the second try."""
    server = memcached().start()
    server.stop()
    taker = socket.create_server((server.host, server.port))
    tries = []
    try_start = testing.Memcached._try_start

    def count(self, program, deadline):
        tries.append(1)
        if len(tries) == 2:
            taker.close()
        return try_start(self, program, deadline)

    monkeypatch.setattr(testing.Memcached, "_try_start", count)
    with server:
        assert ask(server).startswith(b"VERSION ")
    assert len(tries) == 2


def test_the_fixture_comes_with_the_package(pytester_run):
    done = pytester_run(
        """
        import socket

        def test_it(memcached):
            with socket.create_connection((memcached.host, memcached.port)) as connection:
                connection.sendall(b"version\\r\\n")
                assert connection.recv(100).startswith(b"VERSION ")
        """
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_loads_no_extension(pytester_run):
    """A conftest must be able to monkey-patch (gevent, eventlet) before the Client type is made."""
    done = pytester_run(
        """
        import sys

        def test_it():
            assert "mcext.testing" in sys.modules
            assert "mcext._core" not in sys.modules and "memcache" not in sys.modules
        """
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.fixture
def pytester_run(tmp_path):
    """Run pytest on one test file in a folder and an interpreter of its own, with installed plugins only."""

    def run(text):
        (tmp_path / "test_it.py").write_text(textwrap.dedent(text))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return run
