"""A proxy in the test's own event loop that holds replies back at one byte, and passes them on later.

    async with HoldingProxy(server) as proxy:
        proxy.hold(17)              # 17 more bytes to the client, then no more
        ...
        await proxy.held.wait()     # there is one more than that
        proxy.release()

Bytes are counted over all connections. What the client says is passed on at once, and kept: `received`.
"""

import asyncio


class _Client(asyncio.Protocol):
    """What a client is connected to."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.waiting = b""
        self.server = None
        self.is_lost = False

    def connection_made(self, transport):
        self.transport = transport
        self.proxy.connections.append(self)
        self.task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self):
        await self.proxy.may_connect.wait()
        _, protocol = await asyncio.get_running_loop().create_connection(lambda: _Server(self), *self.proxy.server)
        self.server = protocol
        if self.waiting:
            protocol.transport.write(self.waiting)
            self.waiting = b""

    def data_received(self, data):
        self.proxy.received += data
        self.proxy.heard.set()
        if self.server is None:
            self.waiting += data
        else:
            self.server.transport.write(data)

    def connection_lost(self, error):
        self.is_lost = True
        self.task.cancel()
        if self.server is not None:
            self.server.transport.abort()


class _Server(asyncio.Protocol):
    """What it has of the server for that client."""

    def __init__(self, client):
        self.client = client
        self.held = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.held += data
        self.flush()

    def flush(self):
        proxy = self.client.proxy
        if proxy.left is None:
            data, self.held = self.held, b""
        else:
            data, self.held = self.held[: proxy.left], self.held[proxy.left :]
            proxy.left -= len(data)
        proxy.passed += len(data)
        if data:
            self.client.transport.write(data)
        if self.held:
            proxy.held.set()

    def connection_lost(self, error):
        self.client.transport.close()


class HoldingProxy:
    def __init__(self, server):
        self.server = server.host, server.port
        self.connections = []
        self.received = b""
        self.passed = 0  # bytes to clients
        self.left = None  # bytes that still pass to clients; None: all
        self.held = asyncio.Event()  # something is held back
        self.heard = asyncio.Event()  # a client has said something
        self.may_connect = asyncio.Event()
        self.may_connect.set()

    async def __aenter__(self):
        self.listener = await asyncio.get_running_loop().create_server(lambda: _Client(self), "127.0.0.1", 0)
        self.address = "{}:{}".format(*self.listener.sockets[0].getsockname())
        return self

    async def __aexit__(self, *exception):
        self.release()
        self.listener.close()
        for each in self.connections:
            each.transport.abort()

    @property
    def open_connections(self):
        return sum(not each.is_lost for each in self.connections)

    def hold(self, after=0):
        self.left = after
        self.held.clear()

    def release(self):
        self.left = None
        self.held.clear()
        for each in self.connections:
            if each.server is not None and not each.is_lost:
                each.server.flush()
