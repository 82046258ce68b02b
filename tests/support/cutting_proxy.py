"""A proxy that passes a stream on, and does one thing to it at one byte; it does not know what the bytes mean.

    with CuttingProxy(server) as proxy:
        client = memcache.Client([proxy.address])
        ...                                         # a handshake, a reply; what has passed is in proxy.passed
        proxy.cut(TO_CLIENT, 17)                    # 17 more bytes to the client, then the connection is closed

Bytes are counted in each direction over all connections. What was done once is not done again: a client that connects
anew finds a sound way to the server.
"""

import os
import select
import socket
import struct
import threading

import ports

TO_CLIENT, TO_SERVER = "to client", "to server"

FIN = "fin"  # both ends are closed
RESET = "reset"  # the client's end is reset, the server's closed
STALL = "stall"  # nothing more passes in this direction on this connection
FLIP = "flip"  # the next byte is changed
DROP = "drop"  # the next byte is left out


class CuttingProxy:
    def __init__(self, server):
        self._server = (server.host, server.port)
        self._listener = ports.listen()
        self.host, self.port = self._listener.getsockname()
        self.address = f"{self.host}:{self.port}"
        self.passed = {TO_CLIENT: 0, TO_SERVER: 0}
        self.connections = 0
        self.done = threading.Event()  # what the last `cut` wanted
        self._lock = threading.Lock()
        self._wanted = None
        self._ending, self._end = os.pipe()  # closed at its one end, it is readable at the other
        self._threads = []

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *exception):
        os.close(self._end)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        os.close(self._ending)

    def cut(self, direction, after, how=FIN):
        """When `after` more bytes have passed in that direction, do this; 0: before the next one passes."""
        with self._lock:
            self._wanted = [direction, after, how]
            self.done.clear()

    def cut_no_more(self):
        """What was wanted, and did not come to that, is forgotten."""
        with self._lock:
            self._wanted = None

    def _start(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _readable(self, sockets):
        """Those of the sockets that have something to say; nothing when the test has ended."""
        ready, _, _ = select.select([*sockets, self._ending], [], [])
        return [] if self._ending in ready else ready

    def _accept(self):
        while self._readable([self._listener]):
            client, _ = self._listener.accept()
            self.connections += 1
            self._start(self._serve, client)

    def _serve(self, client):
        with client:
            try:
                with socket.create_connection(self._server) as server:
                    self._pass_on(client, server)
            except OSError:
                return  # the client or the server is gone, and so is the other

    def _pass_on(self, client, server):
        ways = {client: (server, TO_SERVER), server: (client, TO_CLIENT)}
        for each in ways:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stalled = set()
        while ready := self._readable(ways):
            for source in ready:
                target, direction = ways[source]
                data = source.recv(65536)
                if not data:
                    return
                if direction in stalled:
                    continue
                data, how = self._treated(direction, data)
                target.sendall(data)
                if how == RESET:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if how in (FIN, RESET):
                    return
                if how == STALL:
                    stalled.add(direction)

    def _treated(self, direction, data):
        """What of the data passes, and what is done behind it."""
        with self._lock:
            how = None
            if self._wanted and self._wanted[0] == direction:
                _, left, wanted = self._wanted
                if left < len(data) or (left == len(data) and wanted not in (FLIP, DROP)):
                    how = wanted
                    data = _damaged(data, left, how)
                    self._wanted = None
                    self.done.set()
                else:
                    self._wanted[1] -= len(data)
            self.passed[direction] += len(data)
            return data, how


def _damaged(data, at, how):
    if how == FLIP:
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    if how == DROP:
        return data[:at] + data[at + 1 :]
    return data[:at]
