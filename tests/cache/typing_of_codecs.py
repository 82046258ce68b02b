"""Codecs, compression and errors as a typed program uses them. Only type checkers read this file.

A line with `type: ignore` is one that a checker has to refuse: both are told to complain of a needless one.
"""

from typing import Any

import mcext
from mcext.codecs import JSON, Codec, Libmc, Pylibmc, Pymemcache, Restricted, Signed, as_codec
from mcext.compress import compressing, decompress


class Words:
    """A codec of one type of values, with names of its own for the arguments."""

    def encode(self, words: list[str]) -> tuple[bytes, int]:
        return " ".join(words).encode(), 1 << 16

    def decode(self, stored: bytes, its_flags: int) -> list[str]:
        return stored.decode().split()


class NoFlags:
    def encode(self, value: str) -> bytes:
        return value.encode()

    def decode(self, data: bytes, flags: int) -> str:
        return data.decode()


def codecs() -> None:
    words: Codec[list[str]] = Words()
    squeezed: Codec[list[str]] = compressing(words, mcext.Compression(min_length=100, method="zstd", level=3))
    found: list[str] = squeezed.decode(*squeezed.encode(["a"]))
    squeezed.encode("a")  # type: ignore[arg-type]
    wrong: Codec[str] = NoFlags()  # type: ignore[assignment]
    every: list[Codec[Any]] = [JSON(), Restricted(["datetime.date", dict]), Signed(b"k" * 16, JSON())]
    every += [Signed([b"k" * 16, b"o" * 16]), Pymemcache(), Pylibmc(min_compress_len=100), Libmc()]
    every.append(as_codec(object()))
    mcext.codecs.Signed("key")  # type: ignore[arg-type]
    mcext.Compression(level="9")  # type: ignore[arg-type]
    plain: bytes = decompress(b"", 1000)
    print(found, wrong, every, plain)


def errors() -> None:
    try:
        codecs()
    except mcext.PartialFailure as error:
        keys: list[str | bytes] = error.keys
        failed: list[str] = list(error.errors)
        print(keys, failed, error.result)
    except mcext.DecodeError as error:
        flags: int = error.flags
        print(flags)
    except mcext.ServerError as error:
        words: str = error.message
        print(words)
    except (mcext.ServerUnavailable, mcext.ConnectionLost, mcext.ServerTimeout) as error:
        server: str | None = error.server
        again: bool = not error.may_have_run
        print(server, again, error.errno)
    except mcext.MemcacheError as error:
        print(error.command)
