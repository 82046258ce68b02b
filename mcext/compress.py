"""Values that are compressed: mcext.Compression says how a cache stores, decompress() reads what any cache has stored.

    cache = mcext.Cache(servers, compression=mcext.Compression(method="zstd"))

The flag of a compressed value does not say by what. Its first bytes do, so that each cache reads what zlib and zstd
made, whatever it stores itself. zstd comes with Python from 3.14 on, and before as the package backports.zstd. Other
clients, and mcext.Client, read only what zlib made.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from typing import Any, TypeVar

    from mcext.codecs import Codec

    _T = TypeVar("_T")

__all__ = ["FLAG", "Compression", "ZstdMissing", "compressing", "decompress"]

FLAG = 8  # python-memcached's and pylibmc's, too

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # never the beginning of what zlib makes: its check of the first two bytes fails

# As text, the greatest number that a server counts to. Counters stay digits, or `incr` could not read them.
_COUNTER_LENGTH = 20


class ZstdMissing(ImportError, ValueError):
    """There is no zstd to compress with, or to read a value with that another cache has compressed."""


def _zstd() -> types.ModuleType:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        need = "a Python built with zstd" if sys.version_info >= (3, 14) else "the package backports.zstd"
        raise ZstdMissing(f"zstd needs {need}: {error}", name=error.name) from error
    return zstd


@dataclass(frozen=True)
class Compression:
    """How values are compressed before they are stored.

    min_length: values of fewer bytes are stored as they are, and so is what does not become smaller.
    method: "zlib", which other clients read too, or "zstd", which is faster.
    level: 1 to 9 for zlib, up to 22 for zstd, also below 0; None is the method's own choice.
    """

    min_length: int = 1024
    method: str = "zlib"
    level: int | None = None

    def __post_init__(self) -> None:
        if type(self.min_length) is not int:
            raise TypeError(f"min_length: an int, not {type(self.min_length).__name__}")
        if self.min_length < 0:
            raise ValueError(f"min_length: 0 or more, not {self.min_length}")
        if self.method == "zlib":
            least, most = 1, 9
        elif self.method == "zstd":
            least, most = _zstd().CompressionParameter.compression_level.bounds()
        else:
            raise ValueError(f"method: 'zlib' or 'zstd', not {self.method!r}")
        if self.level is None:
            return
        if type(self.level) is not int:
            raise TypeError(f"level: an int or None, not {type(self.level).__name__}")
        if not least <= self.level <= most:
            raise ValueError(f"level: {least} to {most} for {self.method}, not {self.level}")

    def compress(self, data: bytes) -> bytes:
        """data in a form that decompress() reads, whatever its length."""
        if self.method == "zlib":
            return zlib.compress(data, -1 if self.level is None else self.level)
        compressed: bytes = _zstd().compress(data, self.level)
        return compressed


def decompress(data: bytes, max_length: int) -> bytes:
    """What zlib or zstd made data of. ValueError where neither did, or where it is more than max_length bytes long."""
    if data.startswith(_ZSTD_MAGIC):
        return _decompress_zstd(data, max_length)
    machine = zlib.decompressobj()
    try:
        plain = machine.decompress(data, max_length + 1)
    except zlib.error as error:
        raise ValueError(f"zlib cannot decompress the value: {error}") from error
    # Bytes behind the end are passed over, as python-memcached does.
    return _whole(plain, machine.eof, max_length)


def _decompress_zstd(data: bytes, max_length: int) -> bytes:
    zstd = _zstd()
    try:
        announced = zstd.get_frame_info(data).decompressed_size
        if announced is not None and announced > max_length:
            raise ValueError(_too_long(max_length))
        machine = zstd.ZstdDecompressor()
        plain = machine.decompress(data, max_length + 1)
    except zstd.ZstdError as error:
        raise ValueError(f"zstd cannot decompress the value: {error}") from error
    if machine.eof and machine.unused_data:
        raise ValueError("there are bytes behind the end of the compressed value")
    return _whole(plain, machine.eof, max_length)


def _whole(plain: bytes, ended: bool, max_length: int) -> bytes:
    if len(plain) > max_length:
        raise ValueError(_too_long(max_length))
    if not ended:
        raise ValueError("the compressed value is cut off")
    return plain


def _too_long(max_length: int) -> str:
    return f"the value is longer than {max_length} bytes when decompressed"


def compressing(codec: Codec[_T], compression: Compression) -> Codec[_T]:
    """codec, with its bytes compressed where that makes them smaller; the flag says it.

    ValueError where the codec's format has a compression of its own, or none that its readers would know.
    """
    if not isinstance(compression, Compression):
        raise TypeError(f"compression: an mcext.Compression, not {type(compression).__name__}")
    if getattr(codec, "owns_flags", False):
        raise ValueError(f"compression: {type(codec).__name__} has flags and compression of its own")
    inside = getattr(codec, "compressing_inside", None)
    if inside is not None:
        compressed_inside: Codec[_T] = inside(compression)
        return compressed_inside
    return _Compressing(codec, compression)


def pass_on_max_length(codec: Any, length: int) -> None:
    """Set the limit of a codec that another one stands around. One that does not decompress has none."""
    if hasattr(codec, "max_length"):
        codec.max_length = length


class _Compressing:
    """A codec around a codec."""

    def __init__(self, codec: Codec[Any], compression: Compression) -> None:
        self._codec = codec
        self._compression = compression
        self._max_length: int = getattr(codec, "max_length", 134217728)

    @property
    def max_length(self) -> int:
        return self._max_length

    @max_length.setter
    def max_length(self, length: int) -> None:
        self._max_length = length
        pass_on_max_length(self._codec, length)

    def encode(self, value: Any) -> tuple[bytes, int]:
        data, flags = self._codec.encode(value)
        if flags & FLAG:
            raise ValueError(f"compression: the codec {type(self._codec).__name__} uses flag {FLAG} itself")
        if len(data) > _COUNTER_LENGTH and len(data) >= self._compression.min_length:
            compressed = self._compression.compress(data)
            if len(compressed) < len(data):
                return compressed, flags | FLAG
        return data, flags

    def decode(self, data: bytes, flags: int) -> Any:
        if flags & FLAG:
            data, flags = decompress(data, self.max_length), flags & ~FLAG
        return self._codec.decode(data, flags)
