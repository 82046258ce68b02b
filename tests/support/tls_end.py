"""The server's end of a TLS stream, with the methods of a socket that the tests' servers use.

One thread may receive while others send, which ssl.SSLSocket does not promise: OpenSSL works in memory, under a lock,
and nobody holds it while waiting for bytes.
"""

import io
import ssl
import threading


class TlsEnd:
    def __init__(self, sock, context):
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._looked = threading.Condition()  # with a lock; told when what was received has been looked at
        self._is_receiving = False
        self.setsockopt = sock.setsockopt
        self.fileno = sock.fileno
        self.shutdown = sock.shutdown  # says nothing, nor does close
        self.close = sock.close

    @property
    def session_reused(self):
        return self._tls.session_reused

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def recv(self, length):
        """As a socket's. The handshake is done on the way. ssl.SSLError where the stream ends without a goodbye."""
        self._is_receiving = True
        try:
            while True:
                with self._looked:
                    try:
                        return self._tls.read(length)
                    except ssl.SSLWantReadError:
                        pass
                    finally:
                        self._flush()  # an alert, too
                        self._looked.notify_all()
                self._feed()
        finally:
            self._is_receiving = False

    def sendall(self, data):
        """A list of bytes is sent together, each in records of its own."""
        rest = [memoryview(each) for each in (data if isinstance(data, list) else [data]) if each]
        while rest:
            with self._looked:
                try:
                    while rest:
                        rest[0] = rest[0][self._tls.write(rest[0]) :]
                        if not rest[0]:
                            del rest[0]
                    self._flush()
                    return
                except ssl.SSLWantReadError:  # the handshake is not done
                    self._flush()
                    if self._is_receiving:
                        self._looked.wait()
                        continue
            self._feed()

    def goodbye(self):
        """Say that nothing more comes (close_notify), as memcached does before it closes."""
        with self._looked:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # it wants the other's goodbye, or there was no handshake yet
            self._flush()

    def makefile(self, mode):
        assert mode == "rb"
        return io.BufferedReader(_File(self))

    def _feed(self):
        data = self._socket.recv(65536)
        with self._looked:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _flush(self):
        data = self._outgoing.read()
        if data:
            self._socket.sendall(data)


class _File(io.RawIOBase):
    def __init__(self, end):
        self._end = end

    def readable(self):
        return True

    def readinto(self, buffer):
        try:
            data = self._end.recv(len(buffer))
        except (ssl.SSLEOFError, ConnectionResetError):
            return 0  # the client says no goodbye; what it has not read (a ticket) makes its close a reset
        buffer[: len(data)] = data
        return len(data)
