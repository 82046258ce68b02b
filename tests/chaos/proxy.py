"""A proxy before a memcached server that damages replies by a seeded plan; a process of its own.

It is started with one JSON argument (upstream, fault, seed, rate, timeout, listeners, tls), prints the ports it listens
on as one JSON line, and serves until its standard input ends; then it prints what it did as another.

Requests pass unharmed. Replies are cut into whole ones first, so that a plan (plans.py) can say "drop this one" or "cut
it at byte 17". Each connection draws its plan from a generator seeded by the run's seed and the connection's number. A
stream of TLS is passed on as it is, and cut into records (records.py), the handshake's too.
"""

import heapq
import json
import os
import selectors
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(sys.path[0], "support"))
import ports

from chaos import plans, records

HIGH_WATER = 8 << 20


class Pair:
    """One client connection and its own connection to the server."""

    def __init__(self, proxy, client, number):
        self.proxy = proxy
        self.client = client
        self.plan = proxy.plan(proxy.fault, f"{proxy.seed}:{number}", proxy.rate, proxy.timeout, proxy.recent)
        self.buffer = bytearray()
        self.to_server = bytearray()
        self.output = []
        self.waiting = False
        self.reading = True
        self.closed = False
        self.server = socket.socket(proxy.family, socket.SOCK_STREAM)
        try:
            self.server.connect(proxy.upstream)
        except OSError:
            self.server.close()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            self.closed = True
            return
        for sock in (client, self.server):
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        proxy.selector.register(client, selectors.EVENT_READ, (self, False))
        proxy.selector.register(self.server, selectors.EVENT_READ, (self, True))

    def close(self, reset=False):
        if self.closed:
            return
        self.closed = True
        self.proxy.open -= 1
        self.proxy.injected += self.plan.injected
        for sock in (self.client, self.server):
            self.proxy.selector.unregister(sock)
        if reset:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()
        self.server.close()

    def interest(self):
        if self.closed:
            return
        events = selectors.EVENT_READ
        if self.output and not self.waiting:
            events |= selectors.EVENT_WRITE
        self.proxy.selector.modify(self.client, events, (self, False))
        events = selectors.EVENT_WRITE if self.to_server else 0
        if len(self.buffer) < HIGH_WATER and len(self.output) < 100000:
            events |= selectors.EVENT_READ
        self.proxy.selector.modify(self.server, events or selectors.EVENT_READ, (self, True))

    def from_client(self):
        try:
            data = self.client.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.to_server += data
        self.push_server()

    def push_server(self):
        before = len(self.to_server)
        try:
            while self.to_server:
                del self.to_server[: self.server.send(self.to_server)]
        except BlockingIOError:
            pass  # the selector says when there is room again
        except OSError:
            self.close()
            return
        if before and (self.to_server or before > 262144):
            self.interest()

    def from_server(self):
        try:
            data = self.server.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        buffer = self.buffer
        buffer += data
        start = 0
        while start < len(buffer):
            end = self.proxy.unit_end(buffer, start)
            if end < 0:
                break
            self.output.extend(self.plan.apply(bytes(buffer[start:end])))
            start = end
        del buffer[:start]
        self.push_client()

    def push_client(self):
        """Send output entries until one waits or the socket is full."""
        if self.waiting or self.closed:
            return
        output = self.output
        index = 0
        blocked = False
        while index < len(output):
            entry = output[index]
            if isinstance(entry, bytes):
                if entry:
                    try:
                        sent = self.client.send(entry)
                    except BlockingIOError:
                        blocked = True
                        break
                    except OSError:
                        self.close()
                        return
                    if sent < len(entry):
                        output[index] = entry[sent:]
                        continue
                index += 1
            elif entry is plans.CLOSE or entry is plans.RESET:
                self.close(entry is plans.RESET)
                return
            else:
                self.waiting = True
                self.proxy.later(entry.seconds, self)
                index += 1
                break
        del output[:index]
        if blocked or self.waiting or output:
            self.interest()

    def resume(self):
        self.waiting = False
        self.push_client()
        self.interest()


class Proxy:
    def __init__(self, upstream, fault, seed, rate, timeout, listeners, tls):
        self.plan, self.unit_end = plans.Plan, plans.reply_end
        if tls:
            self.plan, self.unit_end = records.RecordPlan, records.record_end
        if isinstance(upstream, list):
            self.family, self.upstream = socket.AF_INET, tuple(upstream)
        else:
            self.family, self.upstream = socket.AF_UNIX, upstream
        self.fault, self.seed, self.rate, self.timeout = fault, seed, rate, timeout
        self.selector = selectors.DefaultSelector()
        self.recent = [None] * 50
        self.timers = []
        self.accepted = self.open = self.most_open = self.injected = 0
        self.pairs = []
        self.listeners = []
        for _ in range(listeners):
            listener = ports.listen(backlog=1024)
            listener.setblocking(False)
            self.selector.register(listener, selectors.EVENT_READ, listener)
            self.listeners.append(listener)

    def later(self, seconds, pair):
        heapq.heappush(self.timers, (time.monotonic() + seconds, id(pair), pair))

    def accept(self, listener):
        try:
            client, _ = listener.accept()
        except OSError:
            return  # gone again before it was taken
        self.accepted += 1
        pair = Pair(self, client, self.accepted)
        if not pair.closed:
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            self.pairs.append(pair)
            if len(self.pairs) > 4096:
                self.pairs = [p for p in self.pairs if not p.closed]

    def serve(self):
        self.selector.register(sys.stdin, selectors.EVENT_READ, None)
        while True:
            timeout = max(0, self.timers[0][0] - time.monotonic()) if self.timers else None
            for key, events in self.selector.select(timeout):
                data = key.data
                if data is None:
                    return
                if isinstance(data, socket.socket):
                    self.accept(data)
                    continue
                pair, is_server = data
                if events & selectors.EVENT_READ and not pair.closed:
                    pair.from_server() if is_server else pair.from_client()
                if events & selectors.EVENT_WRITE and not pair.closed:
                    pair.push_server() if is_server else pair.push_client()
                    pair.interest()
            now = time.monotonic()
            while self.timers and self.timers[0][0] <= now:
                heapq.heappop(self.timers)[2].resume()

    def report(self):
        injected = self.injected + sum(p.plan.injected for p in self.pairs if not p.closed)
        return {"accepted": self.accepted, "most_open": self.most_open, "open": self.open, "injected": injected}


def main():
    settings = json.loads(sys.argv[1])
    proxy = Proxy(**settings)
    print(json.dumps([listener.getsockname()[1] for listener in proxy.listeners]), flush=True)
    proxy.serve()
    print(json.dumps(proxy.report()), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
