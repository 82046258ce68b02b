"""A proxy before a memcached server that damages replies by a seeded plan; a process of its own.

It is started with one JSON argument (upstream, fault, seed, rate, timeout, listeners), prints the ports it listens on
as one JSON line, and serves until its standard input ends; then it prints what it did as another.

Requests pass unharmed. Replies are cut into whole ones first, so that a plan can say "drop this one" or "cut it at byte
17". Each connection draws its plan from a generator seeded by the run's seed and the connection's number.
"""

import heapq
import json
import os
import random
import selectors
import socket
import struct
import sys
import time

HIGH_WATER = 8 << 20
ERROR_LINES = (
    b"ERROR\r\n",
    b"CLIENT_ERROR bad command line format\r\n",
    b"CLIENT_ERROR bad data chunk\r\n",
    b"SERVER_ERROR out of memory storing object\r\n",
    b"SERVER_ERROR out of memory writing get response\r\n",
    b"SERVER_ERROR\r\n",
)
# None of these lengths may be believed: negative, wrapped, or past what a client has to accept.
ABSURD = (
    b"-1",
    b"-9223372036854775808",
    b"4294967295",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551615",
    b"18446744073709551617",
    b"99999999999999999999999999",
    b"1" * 300,
    b"0x7fffffff",
    b"+99999999999",
    b"",
)
NO_DIGITS = bytes(b for b in range(256) if not 0x30 <= b <= 0x39)

CLOSE, RESET = object(), object()


class Wait:
    """An entry of a connection's output: go on after so many seconds."""

    def __init__(self, seconds):
        self.seconds = seconds


def reply_end(buffer, start):
    """Return where the reply that begins at start ends, or -1 while it is not whole. The server is trusted."""
    position = start
    while True:
        line = buffer.find(b"\r\n", position)
        if line < 0:
            return -1
        if buffer.startswith(b"VALUE ", position):
            length = int(buffer[position:line].split()[3])
            position = line + 2 + length + 2
        elif buffer.startswith(b"STAT ", position):
            position = line + 2
        else:
            return line + 2


def bodies(reply):
    """Where the values of a whole reply begin and end."""
    position = 0
    while reply.startswith(b"VALUE ", position):
        start = reply.index(b"\r\n", position) + 2
        end = start + int(reply[position:start].split()[3])
        yield start, end
        position = end + 2


class Plan:
    """What happens to the replies of one connection."""

    def __init__(self, fault, seed, rate, timeout, recent):
        self.random = random.Random(seed)
        self.damage = getattr(self, fault.replace("-", "_"))
        self.rate = rate
        self.timeout = timeout
        self.recent = recent
        self.injected = 0

    def apply(self, reply):
        """Return the output entries for a reply."""
        if reply.startswith(b"VALUE "):
            self.recent[self.random.randrange(len(self.recent))] = reply
        if self.random.random() >= self.rate:
            return (reply,)
        self.injected += 1
        return self.damage(reply)

    def cut(self, reply):
        at = self.random.randint(0, len(reply))
        # Half of the cuts fall where the protocol is: in the first and last bytes.
        if len(reply) > 80 and self.random.random() < 0.5:
            at = self.random.choice((at % 40, len(reply) - at % 40))
        return at

    def cut_fin(self, reply):
        return (reply[: self.cut(reply)], CLOSE)

    def cut_rst(self, reply):
        return (reply[: self.cut(reply)], RESET)

    def fragments(self, reply):
        entries = []
        head, tail = reply[:400], reply[400:]
        entries.extend(head[i : i + 1] for i in range(len(head)))
        if len(tail) > 60:
            entries.append(tail[:-60])
            tail = tail[-60:]
        entries.extend(tail[i : i + 1] for i in range(len(tail)))
        return entries

    def error_line(self, reply):
        error = self.random.choice(ERROR_LINES)
        kind = self.random.randrange(4)
        if kind == 0:
            return (error + reply,)
        if kind == 1 and reply.endswith(b"END\r\n"):
            return (reply[:-5] + error,)
        if kind == 2:
            return (reply + error,)
        return (error,)

    def garbage(self, reply):
        length = self.random.choice((1, 2, 3, 10, 60, 500))
        if self.random.random() < 0.3:
            # Something has to end it, or a client would rightly wait for the rest of the line.
            junk = self.random.randbytes(length)
            if junk.strip().isdigit():
                junk += b"?"  # no client could tell it from a counter's number
            return (junk, self.random.choice((b"\r\n", CLOSE)))
        # Digits would make other flags or another number, which no client could tell from a true one; so would a
        # line end within a number, or within a version, whose last digit then is a line of its own.
        junk = bytes(self.random.choices(NO_DIGITS, k=length))
        if reply[:1].isdigit() or reply.startswith(b"VERSION "):
            junk = junk.replace(b"\n", b"\r")
        elif self.random.random() < 0.2:
            junk += b"\r\n"
        at = self.cut(reply)
        damaged = reply[:at] + junk + reply[at:]
        # Nor could one see that a value is another, where a line end comes to stand at its end.
        if any(start <= at < end and damaged[end : end + 2] == b"\r\n" for start, end in bodies(reply)):
            damaged = reply[:at] + junk.replace(b"\n", b"\r") + reply[at:]
        return (damaged,)

    def doubled(self, reply):
        # The second copy may come late only where it names its key: a late number or line fits any later call.
        if reply.startswith(b"VALUE ") and self.random.random() < 0.5:
            return (reply, Wait(0.0005), reply)
        return (reply + reply,)

    def dropped(self, reply):
        return ()

    def other_key(self, reply):
        other = self.random.choice(self.recent)
        if not reply.startswith(b"VALUE ") or other is None:
            return (reply,)
        kind = self.random.randrange(3)
        if kind == 0:
            return (other,)
        if kind == 1:
            return (other[:-5] + reply,)
        return (reply[:-5] + other,)

    def absurd_length(self, reply):
        length = self.random.choice(ABSURD)
        if not reply.startswith(b"VALUE "):
            return (self.random.choice((b"9" * 400 + b"\r\n", b"-5\r\n", b"\x00" * 70000, b"STORED" * 20000)),)
        line, rest = reply.split(b"\r\n", 1)
        words = line.split(b" ")
        kind = self.random.randrange(4)
        if kind == 0:
            words[2] = b"9" * 30
        elif kind == 1:
            words[1] = words[1] * 5000
        else:
            words[3] = length
        return (b" ".join(words) + b"\r\n" + rest,)

    def delay(self, reply):
        at = self.cut(reply)
        return (reply[:at], Wait(self.random.uniform(0, 1.6 * self.timeout)), reply[at:])

    def stall(self, reply):
        at = self.cut(reply)
        return (reply[:at], Wait(self.random.uniform(1.2, 3) * self.timeout), reply[at:])

    def trickle(self, reply):
        entries = []
        for i in range(min(len(reply), 60)):
            entries.append(reply[i : i + 1])
            entries.append(Wait(self.timeout / 10))
        entries.append(reply[60:])
        return entries

    def jitter(self, reply):
        """No damage: replies take long enough for a signal or a fork to meet a call that waits."""
        return (reply[: len(reply) // 2], Wait(self.random.uniform(0, 0.003)), reply[len(reply) // 2 :])

    def none(self, reply):
        return (reply,)


class Pair:
    """One client connection and its own connection to the server."""

    def __init__(self, proxy, client, number):
        self.proxy = proxy
        self.client = client
        self.plan = Plan(proxy.fault, f"{proxy.seed}:{number}", proxy.rate, proxy.timeout, proxy.recent)
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
            end = reply_end(buffer, start)
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
            elif entry is CLOSE or entry is RESET:
                self.close(entry is RESET)
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
    def __init__(self, upstream, fault, seed, rate, timeout, listeners=1):
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
            listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
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
