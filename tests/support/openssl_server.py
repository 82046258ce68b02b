"""A TLS server that says what it is told, with key updates between: the openssl command's s_server.

    with OpensslServer() as server:
        server.wait_for(b"get key\\r\\n")
        server.update_keys(ask=True)
        server.say(b"END\\r\\n")

It has one connection at a time, and the certificate of mcext.testing's servers.
"""

import fcntl
import re
import subprocess
import termios
import threading
import time

from scripted_server import PATIENCE

from mcext import certificates

UPDATED = b"SSL_do_handshake -> 1\n"


class OpensslServer:
    def __enter__(self):
        chain = certificates.of_this_process().chain
        self._process = subprocess.Popen(
            ["stdbuf", "-o0", "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", chain, "-key", chain],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        self._output, self._seen = b"", 0
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.address = self.wait_for(rb"ACCEPT (127\.0\.0\.1:\d+)\n")[1].decode()
        return self

    def __exit__(self, *exception):
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self):
        while data := self._process.stdout.read(65536):
            with self._changed:
                self._output += data
                self._changed.notify_all()

    @property
    def connections(self):
        """How many handshakes it has completed."""
        with self._changed:
            return self._output.count(b"BEGIN SSL SESSION PARAMETERS")

    def wait_for(self, pattern):
        """The first match in what it has written and nobody has waited for; that and what is before it is done with."""
        with self._changed:
            assert self._changed.wait_for(lambda: re.search(pattern, self._output[self._seen :]), 20 * PATIENCE), (
                self._output[self._seen :]
            )
            match = re.search(pattern, self._output[self._seen :])
            self._seen += match.end()
            return match

    def _tell(self, data):
        """Waits until it has been taken: what is written together is one thing to s_server."""
        self._process.stdin.write(data)
        for _ in range(2000 * PATIENCE):
            if not any(fcntl.ioctl(self._process.stdin, termios.FIONREAD, bytes(4))):
                return
            time.sleep(0.01)
        raise TimeoutError("s_server reads nothing")

    def say(self, data):
        """It takes a line that begins with one of these for an order to itself."""
        assert data[:1] not in b"BKPQRbckqr"
        self._tell(data)

    def update_keys(self, ask):
        """Sends a KeyUpdate (RFC 8446, 4.6.3), which asks for one of the client's, or does not."""
        self._tell(b"K\n" if ask else b"k\n")
        self.wait_for(re.escape(UPDATED))
