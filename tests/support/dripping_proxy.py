"""A proxy whose server's bytes come one by one, 4 ms apart, from the moment that a test wants it.

with DrippingProxy(server) as proxy:
    client = memcache.Client([proxy.address])
    proxy.drips.set()
"""

import socket
import threading

import ports

PAUSE = 0.004


class DrippingProxy:
    def __init__(self, server):
        self._server = (server.host, server.port)
        self._listener = ports.listen()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.drips = threading.Event()
        self._ended = threading.Event()
        self._open = []
        self._threads = []

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *exception):
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for each in self._open:
            self._shut(each)
        for thread in self._threads:
            thread.join()
        for each in self._open:
            each.close()

    def _start(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    @staticmethod
    def _shut(each):
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is so already

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [client, server]
            self._start(self._pass_on, client, server, False)
            self._start(self._pass_on, server, client, True)

    def _pass_on(self, source, to, may_drip):
        try:
            while data := source.recv(65536):
                if may_drip and self.drips.is_set():
                    for at in range(len(data)):
                        to.sendall(data[at : at + 1])
                        if self._ended.wait(PAUSE):
                            return
                else:
                    to.sendall(data)
        except OSError:
            pass  # one of them is gone, and so is the other
        self._shut(source)
        self._shut(to)
