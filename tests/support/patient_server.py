"""A scripted server of TLS that accepts the next connection while the last one waits, or has not said its hello yet."""

import socket

from scripted_server import Connection, ScriptedServer


class PatientServer(ScriptedServer):
    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self._start(self._welcome, sock)

    def _welcome(self, sock):
        sock.recv(1, socket.MSG_PEEK)
        self._hold()
        connection = Connection(sock, 0, self._tls)
        with self._changed:
            self.connections.append(connection)
        self._serve(connection)

    def _hold(self):
        """Between a client's hello and its handshake."""
