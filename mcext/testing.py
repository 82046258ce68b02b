"""A real memcached for tests.

    from mcext.testing import memcached

    with memcached() as server:
        client = mcext.Client([server.address])

The server listens on a free port of 127.0.0.1, or with ``unix=True`` on a Unix socket in a temporary folder; it answers
when the ``with`` body begins and is gone when the body has ended, whichever way. The package brings a pytest fixture of
the same name, ``memcached``, that yields such a server to one test.

With ``tls=True`` the server speaks TLS, and ``server.tls_context`` is a context that trusts it. With
``auth=(name, password)`` it wants that name and password.

Nothing but the standard library is needed, and on the PATH memcached, and openssl for ``tls=True``.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from mcext.certificates import Certificates

__all__ = ["Memcached", "memcached"]

_START_SECONDS = 20.0
"""How long a server may take until it answers; a loaded machine is slow, a broken server exits at once."""
_SAID_AT_MOST = 255
"""Bytes of a name, a space and a password: with more memcached 1.6.18 lets nobody in."""


class Memcached:
    """One memcached process; see :func:`memcached`, which makes it.

    It can be started and stopped as often as wanted and keeps its address, so that its clients see a restart. A server
    belongs to the process that made it: in a forked child ``stop`` and ``kill`` do nothing.
    """

    def __init__(self, *args: str, unix: bool = False, tls: bool = False, auth: tuple[str, str] | None = None) -> None:
        for arg in args:
            # Also behind others, as in -vd.
            if re.match(r"-[AFhiKkLMrSVvX]*[dpsYZ]|--(port|unix-socket|daemon|enable-ssl|auth-file)\b", arg):
                raise ValueError(f"memcached(): {arg!r} is set by memcached() itself and cannot be given")
        if tls and unix:
            raise ValueError("memcached(): tls=True is for TCP; memcached speaks no TLS on a Unix socket")
        self._args = args
        self._unix = unix
        self._tls = tls
        self._auth = auth and _check_auth(auth)
        self._context: ssl.SSLContext | None = None
        self._port = 0
        self._owner = os.getpid()
        self._folder = tempfile.mkdtemp(prefix="mcext-")
        if len(self._folder) > 90:  # a socket's path has at most 107 bytes
            os.rmdir(self._folder)
            self._folder = tempfile.mkdtemp(prefix="mcext-", dir="/tmp")
        self._running: list[subprocess.Popen[bytes]] = []
        self._held: list[socket.socket] = []
        weakref.finalize(self, _clean, self._running, self._held, self._folder, self._owner)

    def __enter__(self) -> Memcached:
        if not self._is_running():
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _clean(self._running, self._held, self._folder, self._owner)

    def __repr__(self) -> str:
        state = f"at {self.address}, pid {self.pid}" if self._is_running() else "not running"
        return f"<memcached {state}>"

    @property
    def address(self) -> str:
        """The address as a client takes it: ``"127.0.0.1:PORT"``, ``"inet6:[::1]:PORT"`` or ``"unix:/path"``."""
        if self._unix:
            return f"unix:{self.path}"
        return f"inet6:[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host(self) -> str:
        """The host listened on: 127.0.0.1, or what the arguments have after ``-l``; empty for a Unix socket."""
        if self._unix:
            return ""
        if "-l" in self._args[:-1]:
            return self._args[self._args.index("-l") + 1].strip("[]")
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The TCP port: chosen by the first start, kept from then on. 0 for a Unix socket."""
        if not self._port and not self._unix:
            raise RuntimeError("memcached was never started: it has no port yet")
        return self._port

    @property
    def path(self) -> str:
        """The path of the Unix socket, empty for TCP."""
        return os.path.join(self._folder, "socket") if self._unix else ""

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """With ``tls=True`` this server's ssl.SSLContext for clients: it trusts the server's authority and verifies.

        All servers of a process have the same certificate, so it is good for each of them. None without TLS.
        """
        if self._tls and self._context is None:
            self._context = _certificates().context()
        return self._context

    @property
    def ca_file(self) -> str:
        """With ``tls=True`` the file, PEM, with the certificate of the authority to trust. Empty without TLS."""
        return _certificates().authority if self._tls else ""

    @property
    def certificate_file(self) -> str:
        """With ``tls=True`` the file, PEM, with the server's certificate and key, else empty.

        A client may show the same: a server with ``"-o", "ssl_verify_mode=2"`` lets nobody in without a certificate,
        and after ``server.tls_context.load_cert_chain(server.certificate_file)`` that context gets in.
        """
        return _certificates().chain if self._tls else ""

    @property
    def username(self) -> str | None:
        """The name that the server wants to hear, None without ``auth``."""
        return self._auth[0] if self._auth else None

    @property
    def password(self) -> str | None:
        """The password that the server wants to hear, None without ``auth``."""
        return self._auth[1] if self._auth else None

    @property
    def pid(self) -> int:
        """The process id of the server. RuntimeError where it was not started, was stopped, or ended by itself."""
        if not self._is_running():
            raise RuntimeError("memcached is not running")
        return self._running[0].pid

    @property
    def output(self) -> str:
        """What the server has written to its standard error since it was started (much, with ``-vv``)."""
        try:
            with open(os.path.join(self._folder, "output"), errors="replace") as output:
                return output.read().strip()
        except FileNotFoundError:
            return ""

    def start(self) -> Memcached:
        """Start the server, empty, and wait until it answers. Returns itself.

        Raises FileNotFoundError where memcached is not installed, or for TLS openssl; RuntimeError where it runs
        already or does not start.
        """
        if self._is_running():
            raise RuntimeError("memcached is running already")
        self.stop()  # one that ended by itself is still there to be waited for
        program = shutil.which("memcached")
        if program is None:
            raise FileNotFoundError(
                "memcached is not installed, or not on the PATH (Debian: apt-get install memcached)"
            )
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            problem = self._try_start(program, deadline)
            if problem is None:
                return self
            self.kill()
            # Somebody may have our port from before, or still be leaving it: it is tried again, all else is final.
            if "failed to listen" not in problem or time.monotonic() > deadline:
                raise RuntimeError(f"memcached {' '.join(self._args)} did not start: {problem}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server and wait until it is gone. Does nothing where it does not run.

        It is killed: a cache has nothing to save, its clients see the same, and on SIGTERM memcached takes a second.
        Its port is kept, where connects are refused.
        """
        was_started = bool(self._running)
        _end(self._running, self._owner)
        if was_started:
            self._hold_port()

    def kill(self) -> None:
        """The same as ``stop``, under the name that a test of a crash wants."""
        self.stop()

    def restart(self) -> Memcached:
        """Stop the server and start it again, empty, at the same address. Returns itself."""
        self.stop()
        return self.start()

    def _hold_port(self) -> None:
        """Bind the port without listening, until the next start: the system gives it to no other server meanwhile."""
        if self._port and not self._held and os.getpid() == self._owner:
            held = socket.socket(self._family(), socket.SOCK_STREAM)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held.bind((self.host, self._port))
            except OSError:  # somebody was faster: the next start waits for him
                held.close()
            else:
                self._held.append(held)

    def _is_running(self) -> bool:
        """Whether the process was started and has not ended; a child of a fork cannot look, and believes so."""
        return bool(self._running) and (os.getpid() != self._owner or self._running[0].poll() is None)

    def _try_start(self, program: str, deadline: float) -> str | None:
        """Start the process and wait for its first answer; returns what went wrong, in words, or None."""
        port_file = os.path.join(self._folder, "port")
        if self._unix:
            where = ["-s", self.path, "-a", "0700"]
        else:
            # -1 lets the system choose a free port, which memcached writes to the file named by the environment.
            where = ["-p", str(self._port or -1)]
            if "-l" not in self._args:
                where += ["-l", self.host]
        command = [program, *self._args, *where, *self._tls_arguments(), *self._auth_arguments()]
        if os.geteuid() == 0:
            command += ["-u", "root"]  # memcached runs as root only when told to
        _let_go(self._held)
        with open(os.path.join(self._folder, "output"), "wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "MEMCACHED_PORT_FILENAME": port_file},
            )
        self._running.append(process)
        while process.poll() is None:
            if not self._unix and not self._port:
                self._port = _read_port(port_file)
            if (self._unix or self._port) and self._answers():
                return None
            if time.monotonic() > deadline:
                return self.output or f"no answer in {_START_SECONDS:.0f} seconds"
            time.sleep(0.002)
        return self.output or f"exit status {process.returncode}"

    def _tls_arguments(self) -> list[str]:
        if not self._tls:
            return []
        chain = self.certificate_file
        return ["-Z", "-o", f"ssl_chain_cert={chain},ssl_key={chain},ssl_ca_cert={self.ca_file}"]

    def _auth_arguments(self) -> list[str]:
        """-Y and its file, which is written here."""
        if self._auth is None:
            return []
        path = os.path.join(self._folder, "auth")
        with open(path, "w", encoding="utf-8") as file:
            file.write(":".join(self._auth) + "\n")
        return ["-Y", path]

    def _answers(self) -> bool:
        """True when the process that answers at our address is the one just started."""
        question, answer = b"version\r\nstats\r\nquit\r\n", b"VERSION "
        if self._auth is not None:
            words = " ".join(self._auth).encode()
            question = b"set auth 0 -1 %d\r\n%s\r\n%s" % (len(words), words, question)
            answer = b"STORED\r\n" + answer
        try:
            with self._connect() as connection:
                connection.sendall(question)
                reply = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError:
            return False
        return reply.startswith(answer) and b"STAT pid %d\r\n" % self._running[0].pid in reply

    def _family(self) -> socket.AddressFamily:
        return socket.AF_UNIX if self._unix else socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def _connect(self) -> socket.socket:
        """A new connection to the server, through TLS where it speaks that."""
        connection = socket.socket(self._family(), socket.SOCK_STREAM)
        try:
            connection.settimeout(1.0)
            connection.connect(self.path if self._unix else (self.host, self.port))
            if not self._tls:
                return connection
            context = _certificates().context()
            context.load_cert_chain(self.certificate_file)
            return context.wrap_socket(connection, server_hostname=self.host)
        except BaseException:
            connection.close()
            raise


def memcached(*args: str, unix: bool = False, tls: bool = False, auth: tuple[str, str] | None = None) -> Memcached:
    """Return a real memcached for a ``with`` statement, which starts it, waits until it answers, and stops it.

    args: arguments for memcached, as on its command line (``"-m", "100"``), without ``-p``, ``-s``, ``-d``, ``-Y`` and
          ``-Z``; ``"-l", "::1"`` makes it listen on IPv6.
    unix: listen on a Unix socket in a temporary folder, not on a free TCP port of 127.0.0.1.
    tls:  speak TLS, with a certificate for 127.0.0.1, ::1 and localhost that is made here by the openssl command.
    auth: a name and a password, which a client has to say (``-Y``). ValueError for what memcached cannot take.

    What the ``with`` statement gives has ``address`` (as a client takes it), ``host``, ``port``, ``path``, ``pid``,
    ``tls_context``, ``ca_file``, ``certificate_file``, ``username``, ``password``, and ``stop()``, ``kill()``,
    ``start()``, ``restart()``, which keep the address. Without ``with``, call ``start`` and ``stop``.
    """
    return Memcached(*args, unix=unix, tls=tls, auth=auth)


def _certificates() -> Certificates:
    """The certificates of this process. Nothing of ssl is imported before: gevent has to patch it first."""
    from mcext import certificates

    return certificates.of_this_process()


def _check_auth(auth: tuple[str, str]) -> tuple[str, str]:
    """Name and password, where memcached can be told them in its file and by its clients."""
    if not isinstance(auth, tuple) or not all(isinstance(each, str) for each in auth) or len(auth) != 2:
        raise TypeError(f"memcached(): auth must be a name and a password, two str in a tuple, not {auth!r}")
    username, password = auth
    if len(f"{username} {password}".encode()) > _SAID_AT_MOST:
        raise ValueError(f"memcached(): name and password in auth are longer than {_SAID_AT_MOST - 1} bytes together")
    if not username or ":" in username or re.search(r"[\s\0]", username):
        raise ValueError("memcached(): the name in auth is empty, or has a colon, space, newline or NUL")
    if not password or re.search(r"[\s\0]", password):  # memcached 1.6.18 takes no password with a space
        raise ValueError("memcached(): the password in auth is empty, or has a space, newline or NUL")
    return username, password


def _read_port(port_file: str) -> int:
    """The port in memcached's port file (``TCP INET: 46265``), or 0 while there is none."""
    try:
        with open(port_file) as text:
            found = re.search(r"TCP INET6?: (\d+)", text.read())
    except FileNotFoundError:
        return 0
    return int(found[1]) if found else 0


def _end(running: list[subprocess.Popen[bytes]], owner: int) -> None:
    """Kill the process in `running`, if any, and wait for its end."""
    if os.getpid() != owner:
        return
    while running:
        process = running.pop()
        process.kill()
        process.wait()


def _let_go(held: list[socket.socket]) -> None:
    """Close the socket in `held`, if any."""
    while held:
        held.pop().close()


def _clean(running: list[subprocess.Popen[bytes]], held: list[socket.socket], folder: str, owner: int) -> None:
    """Kill the process in `running`, remove the folder: the last thing done for a server, at the latest at exit."""
    _let_go(held)
    if os.getpid() == owner:
        _end(running, owner)
        shutil.rmtree(folder, ignore_errors=True)
