"""The server's end of a TLS stream, with the few methods of a socket that the tests' servers use.

One thread may receive while others send, which ssl.SSLSocket does not promise: OpenSSL works in memory, under a lock,
and nobody holds it while waiting for bytes.
"""

import ssl
import threading


class TlsEnd:
    def __init__(self, sock, context):
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._lock = threading.Lock()
        self.setsockopt = sock.setsockopt
        self.close = sock.close  # says nothing
        self.shutdown = sock.shutdown

    def recv(self, length):
        """As a socket's. The handshake is done on the way. ssl.SSLError where the stream ends without a goodbye."""
        while True:
            with self._lock:
                try:
                    return self._tls.read(length)
                except ssl.SSLWantReadError:
                    pass
                finally:
                    self._flush()  # an alert, too
            data = self._socket.recv(65536)
            with self._lock:
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()

    def sendall(self, data):
        with self._lock:
            rest = memoryview(data)
            while rest:
                rest = rest[self._tls.write(rest) :]
            self._flush()

    def goodbye(self):
        """Say that nothing more comes (close_notify), as memcached does before it closes."""
        with self._lock:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # it wants the other's goodbye, or there was no handshake yet
            self._flush()

    @property
    def session_reused(self):
        return self._tls.session_reused

    def _flush(self):
        data = self._outgoing.read()
        if data:
            self._socket.sendall(data)
