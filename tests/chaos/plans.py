"""What the proxy does to replies: one method a fault, drawn from a seeded generator."""

import random

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
        if self.is_another_keys(reply):
            self.recent[self.random.randrange(len(self.recent))] = reply
        if self.random.random() >= self.rate:
            return (reply,)
        self.injected += 1
        return self.damage(reply)

    @staticmethod
    def is_another_keys(reply):
        """Whether it would be wrong behind any other call's request."""
        return reply.startswith(b"VALUE ")

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
