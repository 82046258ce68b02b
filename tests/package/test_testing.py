"""mcext.testing and the pytest plugin: servers that are there when they should be, and gone when they should be."""

import errno
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import textwrap

import pytest

import mcext
from mcext import certificates, testing
from mcext.testing import memcached


def ask(server, command=b"version\r\n", context=None):
    """The first bytes that the server answers, through TLS with a context."""
    family = socket.AF_UNIX if server.path else socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(10)
        connection.connect(server.path or (server.host, server.port))
        if context is None:
            connection.sendall(command)
            return connection.recv(4096)
        with context.wrap_socket(connection, server_hostname=server.host) as secure:
            secure.sendall(command)
            return secure.recv(4096)


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


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_server_with_tls_is_trusted_under_each_of_its_names(host):
    with memcached("-l", host, tls=True) as server:
        context = server.tls_context
        assert context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED
        assert ask(server, context=context).startswith(b"VERSION ")
        assert server.tls_context is context


def test_a_server_with_tls_speaks_nothing_else_and_strangers_do_not_trust_it():
    with memcached(tls=True) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(server, context=ssl.create_default_context())
        try:
            assert ask(server) == b""
        except ConnectionError:
            pass  # a reset where memcached closed before it had read all


def test_one_context_is_good_for_all_servers_of_a_process_also_after_a_restart():
    with memcached(tls=True) as first, memcached(tls=True) as second:
        assert first.ca_file == second.ca_file
        assert ask(second, context=first.tls_context).startswith(b"VERSION ")
        assert ask(first.restart(), context=first.tls_context).startswith(b"VERSION ")


def test_contexts_are_made_from_the_file_of_the_authority_too():
    with memcached(tls=True) as server:
        context = ssl.create_default_context(cafile=server.ca_file)
        assert ask(server, context=context).startswith(b"VERSION ")


def test_the_certificate_serves_clients_where_the_server_asks_for_one():
    with memcached("-o", "ssl_verify_mode=2", tls=True) as server:
        with pytest.raises(OSError):  # an alert of TLS 1.3 comes behind the handshake
            assert ask(server, context=server.tls_context)
            raise ConnectionError("closed without a word")
        server.tls_context.load_cert_chain(server.certificate_file)
        assert ask(server, context=server.tls_context).startswith(b"VERSION ")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_server_with_auth_wants_name_and_password(tls):
    with memcached(tls=tls, auth=("name", "pass:word")) as server:
        assert (server.username, server.password) == ("name", "pass:word")
        right = b"set auth 0 -1 14\r\nname pass:word\r\n"
        assert ask(server, b"get Foo\r\n", server.tls_context) == b"CLIENT_ERROR unauthenticated\r\n"
        assert ask(server, right.replace(b"pass", b"xxxx"), server.tls_context).startswith(b"CLIENT_ERROR")
        assert ask(server, right, server.tls_context) == b"STORED\r\n"
        assert ask(server.restart(), right, server.tls_context) == b"STORED\r\n"
        assert "word" not in repr(server)


def test_a_unix_socket_takes_auth(unix):
    with memcached(unix=unix, auth=("name", "password")) as server:
        assert ask(server).startswith(b"CLIENT_ERROR")


def test_without_tls_and_auth_there_is_nothing_of_them():
    with memcached() as server:
        assert (server.tls_context, server.username, server.password) == (None, None, None)
        assert (server.ca_file, server.certificate_file) == ("", "")


@pytest.mark.parametrize(
    "auth",
    [("", "p"), ("a:b", "p"), ("a b", "p"), ("a\nb", "p"), ("a", ""), ("a", "p q"), ("a", "\0"), ("é", "p" * 253)],
)
def test_words_that_memcached_cannot_take_are_refused(auth):
    with pytest.raises(ValueError, match="in auth"):
        memcached(auth=auth)


@pytest.mark.parametrize("auth", ["ab", ("a", "b", "c"), ("a", b"b"), ["a", "b"], 1])
def test_what_is_no_name_and_password_is_refused(auth):
    with pytest.raises(TypeError, match="auth must be"):
        memcached(auth=auth)


def test_the_longest_words_get_in():
    with memcached(auth=("name", "p" * 250)) as server:
        client = mcext.Client([server.address], username=server.username, password=server.password)
        assert client.set("key", 1)
        client.disconnect_all()


def test_tls_on_a_unix_socket_is_refused():
    with pytest.raises(ValueError, match="tls=True is for TCP"):
        memcached(unix=True, tls=True)


def test_the_certificates_are_gone_with_the_program():
    program = "from mcext.testing import memcached; print(memcached(tls=True).ca_file)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not os.path.exists(os.path.dirname(done.stdout.strip()))


def test_without_openssl_the_error_says_so(tmp_path):
    """In a program of its own: this one may have its certificates already."""
    os.symlink(shutil.which("memcached"), tmp_path / "memcached")
    program = "from mcext.testing import memcached; memcached(tls=True).start()"
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stderr.splitlines()[-1].startswith("FileNotFoundError: openssl is not installed"), done.stderr


def test_what_openssl_refuses_is_reported_in_its_words():
    with pytest.raises(RuntimeError, match=r"openssl x509 failed: .*nonsense"):
        certificates.openssl("x509", "-in", "/nonsense")


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
    "argument",
    [
        "-p",
        "-p11211",
        "-s",
        "-d",
        "-vd",
        "-kvp1",
        "-Z",
        "-kZ",
        "-Y",
        "-Y/x",
        "--port=1",
        "--unix-socket=/x",
        "--daemon",
    ],
)
def test_what_is_chosen_here_cannot_be_given(argument):
    with pytest.raises(ValueError, match=argument):
        memcached(argument)


def test_a_server_is_not_started_twice():
    with memcached() as server, pytest.raises(RuntimeError, match="already"):
        server.start()


def test_a_stopped_servers_port_is_kept_for_it_and_connects_are_refused():
    with memcached() as server:
        for end in (server.stop, lambda: os.kill(server.pid, signal.SIGKILL) or server.stop()):
            end()
            with socket.socket() as other, pytest.raises(OSError) as raised:
                other.bind((server.host, server.port))
            assert raised.value.errno == errno.EADDRINUSE
            with pytest.raises(ConnectionRefusedError):
                ask(server)
            assert ask(server.start()).startswith(b"VERSION ")
    with socket.create_server((server.host, server.port)):
        pass  # behind the end of the `with` statement anybody may have it


def test_a_port_is_given_back_with_the_server():
    with memcached() as server:
        server.stop()
        server.stop()
        with pytest.raises(OSError, match="in use"), socket.socket() as stranger:
            stranger.bind((server.host, server.port))
    server.stop()  # a fixture's end, say: there is nothing to keep any more
    assert not server._held


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
            assert "mcext.certificates" not in sys.modules
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
