"""fuzz_value: any flags and any bytes through Client._recv_value, as if a server had stored them.

    python tests/fuzz/fuzz_value.py FILE_OR_FOLDER...     replay
    python tests/fuzz/fuzz_value.py --fuzz LIBFUZZER_ARGUMENT...     fuzz, with atheris (see tests/fuzz/run.sh)

Promises: a value or None, never an exception; what comes is what an independent decoder makes of flags and bytes; a
value that is stored again decodes to itself; never more memory than `max_value_length` asks for.

Input: two bytes of flags, one of options, then the stored bytes. Pickles go through an unpickler that makes plain data
only: what a hostile pickle may call is not the question here.
"""

import io
import pickle
import pickletools
import sys
import zlib
from pathlib import Path

import memcache
from mcext.unpickler import RestrictedUnpickler

LIMIT = 10000
PICKLE, INT, LONG, ZLIB, TEXT = 1, 2, 4, 8, 16


class Server:
    """What _recv_value needs of a host: recv."""

    def __init__(self, data):
        self.data = data

    def recv(self, length):
        assert length == len(self.data) + 2
        return self.data + b"\r\n"


class Undecodable(Exception):
    pass


def inflate(data):
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, LIMIT + 1)
    except zlib.error:
        raise Undecodable from None
    if len(text) > LIMIT or not stream.eof:
        raise Undecodable
    return text


def is_modest(data):
    """False for pickles that claim memory: theirs is a limit of pickle's, not of the client's."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if "PUT" in opcode.name and int(argument) > 1000:
                return False
    except Exception:
        return False
    return True


def decode(flags, data):
    """The oracle: python-memcached's order of flags, with None for what does not decode."""
    if flags & ZLIB:
        data = inflate(data)
        flags &= ~ZLIB
    if flags == 0:
        return data
    if flags & TEXT:
        return data.decode("utf-8")
    if flags & (INT | LONG):
        return int(data)
    if flags & PICKLE:
        return RestrictedUnpickler(io.BytesIO(data)).load()
    raise Undecodable


def expect(flags, data):
    try:
        return decode(flags, data)
    except Exception:
        return None


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, (str, bytes, int)):
        return one == other
    return repr(one) == repr(other)  # NaN, and containers that hold themselves


clients = [
    memcache.Client([], unpickler=RestrictedUnpickler, max_value_length=LIMIT),
    memcache.Client([], unpickler=RestrictedUnpickler, max_value_length=LIMIT, pickleProtocol=2),
    memcache.Client([], allow_pickle=False, max_value_length=LIMIT),
    memcache.Client([], unpickler=RestrictedUnpickler, decompressor=lambda data: inflate(data), max_value_length=LIMIT),
]


def run(flags, client, data):
    got = client._recv_value(Server(data), flags, len(data))
    wanted = None if client is clients[2] and pickled(flags) else expect(flags, data)
    assert same(got, wanted), (flags, data, got, wanted)
    if type(got) in (str, bytes, int) and len(data) < LIMIT:
        stored_flags, length, stored = client._val_to_store_info(got, len(data) % 2)
        assert length == len(stored)
        again = client._recv_value(Server(stored), stored_flags, length)
        assert same(again, got), (got, stored_flags, stored)


def pickled(flags):
    return flags & PICKLE and not flags & (TEXT | INT | LONG)


def test_one_input(data):
    if len(data) < 3:
        return
    flags = int.from_bytes(data[:2], "little")
    if flags & 0x8000:
        flags |= 0xFFFF0000
    client, data = clients[data[2] % len(clients)], data[3:]
    plain = expect(flags & ZLIB, data) if flags & ZLIB else data
    if pickled(flags) and not is_modest(plain or b""):
        return
    run(flags, client, data)


def seeds():
    """(name, bytes) of the corpus, for whoever wants to write it anew."""
    values = [b"", b"x", "é".encode(), b"\xff", b"5", b"-5", b"99 ", b"+1", b"1_0", b"1" * 4301, b"0x1"]
    values += [zlib.compress(value) for value in values[:8]] + [
        zlib.compress(bytes(LIMIT + 1)),
        zlib.compress(b"x")[:-2],
    ]
    values += [pickle.dumps([None, True, 1, 2.5, "x", b"y", (1,), {2: {3}}], protocol) for protocol in range(6)]
    for flags in (0, 1, 2, 4, 8, 9, 10, 12, 16, 17, 24, 32, 48):
        for option, value in enumerate(values):
            yield flags.to_bytes(2, "little") + bytes([option % len(clients)]) + value


def replay(paths):
    count = 0
    for path in map(Path, paths):
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            test_one_input(file.read_bytes())
            count += 1
    return count


def main(arguments):
    if arguments[:1] == ["--fuzz"]:
        import atheris

        atheris.Setup([sys.argv[0], *arguments[1:]], test_one_input)
        atheris.Fuzz()
        return 0
    count = replay(arguments)
    print(f"{count} inputs")
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
