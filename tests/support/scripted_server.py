"""A memcached that answers from a script, for replies that a real one does not give.

    with ScriptedServer([b"VALUE k 0 1\r\nx\r\nEND\r\n", CLOSE]) as server:
        client = memcache.Client([server.address])

The script is a list: one answer for each command that wants one, in the order in which they arrive, over all
connections; or a function that gets the command (its data block included) and the number of the connection, counted
from 0, and returns an answer or None. Where the script says nothing the answer is that of an empty memcached.

An answer is bytes to send, CLOSE, CUT, RESET, STALL (never answer, keep the connection) or a tuple of these; with TLS
also a list of bytes, each a record of its own, which are sent together. `version`
and commands with noreply take nothing from a list; a function is asked about them too.

`tls=` is an ssl.SSLContext for servers (see server_contexts): it speaks TLS. CLOSE says goodbye there, CUT does not.
"""

import os
import socket
import struct
import threading

import ports
from tls_end import TlsEnd

# How much longer all may take than on a machine at rest: under a checker that slows it down.
PATIENCE = int(os.environ.get("MCEXT_PATIENCE", "1"))

CLOSE = "close"
CUT = "cut"
RESET = "reset"
STALL = "stall"

EMPTY = {
    b"get": b"END\r\n",
    b"gets": b"END\r\n",
    b"set": b"STORED\r\n",
    b"add": b"STORED\r\n",
    b"replace": b"NOT_STORED\r\n",
    b"append": b"NOT_STORED\r\n",
    b"prepend": b"NOT_STORED\r\n",
    b"cas": b"NOT_FOUND\r\n",
    b"delete": b"NOT_FOUND\r\n",
    b"touch": b"NOT_FOUND\r\n",
    b"incr": b"NOT_FOUND\r\n",
    b"decr": b"NOT_FOUND\r\n",
    b"stats": b"END\r\n",
    b"flush_all": b"OK\r\n",
    b"version": b"VERSION 1.6.18\r\n",
    b"quit": CLOSE,
}
STORAGE = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")


class Connection:
    """What one connection brought: `received`, all bytes, and `commands`, the whole ones among them.

    With TLS the bytes are those inside, and `socket` is a TlsEnd.
    """

    def __init__(self, sock, number, tls):
        self.socket = TlsEnd(sock, tls) if tls else sock
        self.tls = tls
        self.number = number
        self.received = b""
        self.commands = []
        self.closed = threading.Event()  # the client closed it, or the script did
        self._rest = b""

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self.received += data
        self._rest += data

    def next_command(self):
        while b"\r\n" not in self._rest:
            self._more()
        end = self._rest.index(b"\r\n") + 2
        words = self._rest[: end - 2].split()
        if words and words[0] in STORAGE and len(words) > 4 and words[4].isdigit():
            end += int(words[4]) + 2
            while len(self._rest) < end:
                self._more()
        command, self._rest = self._rest[:end], self._rest[end:]
        self.commands.append(command)
        return command


class ScriptedServer:
    def __init__(self, script=(), host="127.0.0.1", port=0, tls=None):
        self._function = script if callable(script) else None
        self._answers = None if callable(script) else list(script)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._threads = []
        self._tls = tls
        self.connections = []
        self.listener = ports.listen(host, port)
        self.host, self.port = self.listener.getsockname()[:2]
        self.address = f"inet6:[{self.host}]:{self.port}" if ":" in host else f"{self.host}:{self.port}"

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, kind, *exception):
        self.listener.shutdown(socket.SHUT_RDWR)
        for accepting in self._threads[:1]:
            accepting.join()  # it may take one more connection: only when it has ended are all known
        self.listener.close()
        for connection in self.connections:
            self._shut(connection)
        for thread in self._threads[1:]:
            thread.join(10 * PATIENCE)
            assert kind or not thread.is_alive(), "a script waits for what never comes"

    @property
    def commands(self):
        """All commands so far but `version`, connection after connection."""
        with self._lock:
            return [c for one in self.connections for c in one.commands if not c.startswith(b"version")]

    @property
    def received(self):
        with self._lock:
            return b"".join(one.received for one in self.connections)

    def wait_for(self, condition, timeout=10 * PATIENCE):
        """Wait until condition(self) is true; it is looked at after each command and each end of a connection."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError("the scripted server never came to that state")

    def push(self, data, connection=-1):
        """Send bytes nobody asked for."""
        self.connections[connection].socket.sendall(data)

    def close_connection(self, connection=-1):
        """Close one from the server's side; when this returns, the close is on its way."""
        self._goodbye(self.connections[connection])
        self._shut(self.connections[connection])

    def _start(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    @staticmethod
    def _goodbye(connection):
        if connection.tls:
            connection.socket.goodbye()

    @staticmethod
    def _shut(connection):
        try:
            connection.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                connection = Connection(sock, len(self.connections), self._tls)
                self.connections.append(connection)
                self._changed.notify_all()
            self._start(self._serve, connection)

    def _answer(self, command, number):
        line = command.split(b"\r\n", 1)[0]
        words = line.split()
        word = words[0] if words else b""
        silent = words[-1:] == [b"noreply"]
        if self._function:
            answer = self._function(command, number)
            if answer is not None:
                return answer
        elif not silent and word != b"version":
            with self._lock:
                if self._answers:
                    return self._answers.pop(0)
        return b"" if silent else EMPTY.get(word, b"ERROR\r\n")

    def _serve(self, connection):
        try:
            while True:
                command = connection.next_command()
                answer = self._answer(command, connection.number)
                with self._changed:
                    self._changed.notify_all()
                for part in answer if isinstance(answer, tuple) else (answer,):
                    if part == CLOSE:
                        self._goodbye(connection)
                        return
                    if part == CUT:
                        return
                    if part == RESET:
                        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    if part == STALL:
                        while True:
                            connection._more()
                    connection.socket.sendall(part)
        except (OSError, EOFError):
            pass  # the client or the end of the test closed it
        finally:
            connection.socket.close()
            connection.closed.set()
            with self._changed:
                self._changed.notify_all()
