"""The proxy's faults for a stream of TLS: what passes is cut into records, of which it knows no more than their heads.

A client has to find out about each change: of a record that is not as the server sent it, nothing may be believed.
"""

from chaos.plans import Plan, Wait

HEAD = 5  # type, version (2 bytes), length of the rest (2 bytes)
DATA = 23
FATAL_ALERT = b"\x15\x03\x03\x00\x02\x02"
ALERTS = (0, 10, 20, 40, 42, 45, 47, 80)  # close_notify, and some that say what is wrong
# No record may be of these lengths. Those that could be would be waited for, as they should.
ABSURD = (b"\x00\x00", b"\x41\x01", b"\x7f\xff", b"\x80\x00", b"\xff\xff")


def record_end(buffer, start):
    """Return where the record that begins at start ends, or -1 while it is not whole. The server is trusted."""
    if len(buffer) < start + HEAD:
        return -1
    end = start + HEAD + int.from_bytes(buffer[start + 3 : start + HEAD], "big")
    return end if end <= len(buffer) else -1


class RecordPlan(Plan):
    """What happens to the records of one connection. Cuts, pauses and drops are a plain stream's."""

    @staticmethod
    def is_another_keys(record):
        return record[0] == DATA

    def error_line(self, record):
        alert = FATAL_ALERT + bytes([self.random.choice(ALERTS)])
        return (self.random.choice((alert, alert + record, record + alert)),)

    def garbage(self, record):
        kind = self.random.randrange(3)
        at = self.random.randrange(len(record))
        if kind == 0:
            return (record[:at] + bytes([record[at] ^ 1 << self.random.randrange(8)]) + record[at + 1 :],)
        junk = self.random.randbytes(self.random.choice((1, 2, 3, 10, 60, 500)))
        if kind == 1:
            return (record[:at] + junk + record[at:],)
        return (junk,)

    def doubled(self, record):
        return (record, Wait(0.0005), record) if self.random.random() < 0.5 else (record + record,)

    def other_key(self, record):
        other = self.random.choice(self.recent)
        if other is None:
            return (record,)
        return (self.random.choice((other, other + record, record + other)),)

    def absurd_length(self, record):
        return (record[:3] + self.random.choice(ABSURD) + record[HEAD:],)
