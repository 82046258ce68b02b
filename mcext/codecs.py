"""How values become bytes and flags, and values again: what mcext.Cache takes as `codec`.

    cache = mcext.Cache(servers, codec=mcext.codecs.JSON())

A codec is any object with encode(value) -> (bytes, flags) and decode(bytes, flags) -> value. What decode() does not
know it refuses with ValueError, and never gives the bytes as they are instead. Threads may share the codecs here.

Default, JSON, Restricted and Signed also read values that another cache compresses (flag 8, see mcext.compress).
max_length of each is how long a value may be when it is decompressed; a cache sets it to its own max_value_length, so
that caches with different ones need codecs of their own.
"""

from __future__ import annotations

import io
import json
import marshal
import pickle
from typing import Any, Protocol, TypeVar

from mcext.compress import FLAG as _COMPRESSED
from mcext.compress import Compression, compressing, decompress, pass_on_max_length

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["JSON", "Codec", "Default", "Libmc", "Pylibmc", "Pymemcache", "Restricted", "Signed", "as_codec"]

T = TypeVar("T")

# python-memcached's flags.
_PICKLE, _INTEGER, _LONG, _TEXT = 1, 2, 4, 16
# Our own. python-memcached and mcext.Client take values with these flags for undecodable.
_JSON, _SIGNED = 32, 64

_MAX_LENGTH = 134217728


class Codec(Protocol[T]):
    """What mcext.Cache takes as `codec`: values of T."""

    def encode(self, value: T, /) -> tuple[bytes, int]:
        """The bytes to store and their flags. Exceptions go to whoever stores the value; nothing is sent."""

    def decode(self, data: bytes, flags: int, /) -> T:
        """The value of stored bytes. ValueError where they are none that encode() makes."""


class Serde(Protocol):
    """One of pymemcache's serde objects, which mcext.Cache takes, too."""

    def serialize(self, key: Any, value: Any, /) -> tuple[Any, int]:
        """The bytes or str to store, and their flags."""

    def deserialize(self, key: Any, value: Any, flags: int, /) -> Any:
        """The value of stored bytes."""


def as_codec(codec: object) -> Codec[Any]:
    """codec itself, or a codec around one of pymemcache's serde objects. TypeError that names what it has not."""
    if isinstance(codec, type):
        raise TypeError(f"codec: an object, not the class {codec.__name__}")
    ours = _has(codec, "encode", "decode")
    if all(ours.values()):
        return codec  # type: ignore[return-value]
    theirs = _has(codec, "serialize", "deserialize")
    if all(theirs.values()):
        return _Serde(codec)
    names = theirs if any(theirs.values()) and not any(ours.values()) else ours
    lacking = " and no ".join(name for name, there in names.items() if not there)
    raise TypeError(f"codec: {type(codec).__name__} has no {lacking}")


def _has(thing: object, *names: str) -> dict[str, bool]:
    return {name: callable(getattr(thing, name, None)) for name in names}


class _Serde:
    """One of pymemcache's serde objects. It is given None for the key: a codec does not know keys."""

    owns_flags = True

    def __init__(self, serde: Any) -> None:
        self._serde = serde

    def encode(self, value: Any) -> tuple[bytes, int]:
        data, flags = self._serde.serialize(None, value)
        if isinstance(data, str):  # pymemcache's own gives ints so, and its client encodes them
            data = data.encode("ascii")
        if not isinstance(data, bytes):
            raise TypeError(f"codec: serialize() must give bytes or str, not {type(data).__name__}")
        return data, flags

    def decode(self, data: bytes, flags: int) -> Any:
        try:
            return self._serde.deserialize(None, data, flags)
        except Exception as error:
            raise ValueError(f"{type(self._serde).__name__}.deserialize() failed: {error!r}") from error


def _unknown(flags: int, codec: object) -> ValueError:
    return ValueError(f"{type(codec).__name__} does not know the flags {flags}")


def _bytes(value: bytes) -> tuple[bytes, int]:
    """bytes as they are. But none at all are pickled: an item of no bytes and no flags stands for a value that somebody
    computes. Every client reads that; what zlib makes of no bytes would crash pylibmc's.
    """
    return (value, 0) if value else (b"\x80\x03C\0.", _PICKLE)


def _loads(data: bytes) -> Any:
    try:
        return pickle.loads(data)
    except Exception as error:  # a pickle raises what it likes, and asks for any amount of memory
        raise ValueError(f"cannot be unpickled: {error!r}") from error


def _check_length(data: bytes, max_length: int) -> None:
    if len(data) > max_length:
        raise ValueError(f"the value is longer than {max_length} bytes")


class Default:
    """The format of mcext.Client and python-memcached, which a cache without codec has, too.

    bytes, str and int by exact type, all else pickled. Unpickling runs what the pickle says: see docs/security.md.
    """

    max_length = _MAX_LENGTH

    def encode(self, value: Any) -> tuple[bytes, int]:
        kind = type(value)
        if kind is bytes:
            return _bytes(value)
        if kind is str:
            return value.encode(), _TEXT
        if kind is int:
            return b"%d" % value, _INTEGER
        return pickle.dumps(value), _PICKLE

    def decode(self, data: bytes, flags: int) -> Any:
        if flags & _COMPRESSED:
            data, flags = decompress(data, self.max_length), flags & ~_COMPRESSED
        _check_length(data, self.max_length)
        if not flags:
            return data
        # In python-memcached's order, which passes over other bits.
        if flags & _TEXT:
            return data.decode()
        if flags & (_INTEGER | _LONG):
            return int(data)
        if flags & _PICKLE:
            return self._unpickle(data)
        raise _unknown(flags, self)

    def _unpickle(self, data: bytes) -> Any:
        return _loads(data)


class Restricted(Default):
    """The default format, but a pickle makes objects of the named types only, and plain data.

    types: as of mcext.restricted_unpickler, which has all about it. What is stored is not checked.
    """

    def __init__(self, types: Iterable[type | str]) -> None:
        from mcext.unpickler import restricted_unpickler

        self._unpickler = restricted_unpickler(types)

    def _unpickle(self, data: bytes) -> Any:
        try:
            return self._unpickler(io.BytesIO(data)).load()
        except Exception as error:
            raise ValueError(f"cannot be unpickled: {error!r}") from error


class JSON:
    """JSON in UTF-8: dict, list, str, int, float, bool and None. Nothing of it runs when it is read.

    As with json.dumps(), tuples come back as lists and the keys of dicts as str. NaN and infinity, which JSON does not
    have, are refused. Ints work as counters.
    """

    max_length = _MAX_LENGTH

    def encode(self, value: Any) -> tuple[bytes, int]:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(), _JSON

    def decode(self, data: bytes, flags: int) -> Any:
        if flags & _COMPRESSED:
            data, flags = decompress(data, self.max_length), flags & ~_COMPRESSED
        _check_length(data, self.max_length)
        if flags == _INTEGER:  # a counter that incr(initial=) made
            return int(data)
        if flags != _JSON:
            raise _unknown(flags, self)
        try:
            return json.loads(data.decode(), parse_constant=_refuse_constant)
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class Signed:
    """Values with a signature (HMAC-SHA256), for caches that others may write to: without the key nobody can make one.

    key: bytes, at least 16 and best 32 of os.urandom, or a list of such: the first signs, each is taken when reading.
    To change the key, put the new one behind the old in all processes, then before it; drop the old once all that it
    has signed is gone.
    inner: the codec of the values; None is the default format.

    The signature is checked before anything is decompressed or unpickled. It does not say when the value was stored nor
    under which of the cache's keys: who writes to the server can still bring back an old value, or put one in another's
    place. incr() and decr() do not work.
    """

    def __init__(self, key: bytes | Sequence[bytes], inner: object = None) -> None:
        keys = [key] if isinstance(key, (bytes, str)) else list(key)
        if not keys:
            raise ValueError("key: a list of at least one")
        for one in keys:
            if not isinstance(one, bytes):
                raise TypeError(f"key: bytes, not {type(one).__name__}")
            if len(one) < 16:
                raise ValueError(f"key: at least 16 bytes, not {len(one)}")
        self._keys = keys
        self._inner: Codec[Any] = Default() if inner is None else as_codec(inner)
        self._max_length: int = getattr(self._inner, "max_length", _MAX_LENGTH)

    @property
    def max_length(self) -> int:
        return self._max_length

    @max_length.setter
    def max_length(self, length: int) -> None:
        self._max_length = length
        pass_on_max_length(self._inner, length)

    def compressing_inside(self, compression: Compression) -> Signed:
        """For mcext.compress.compressing(): what is not signed is not even decompressed."""
        return Signed(self._keys, compressing(self._inner, compression))

    def encode(self, value: Any) -> tuple[bytes, int]:
        data, flags = self._inner.encode(value)
        signed = flags.to_bytes(4, "big") + data
        return _signature(self._keys[0], signed) + signed, _SIGNED

    def decode(self, data: bytes, flags: int) -> Any:
        import hmac  # see _signature

        if flags != _SIGNED or len(data) < _SIGNATURE_LENGTH + 4:
            raise ValueError("the value is not signed")
        signature, signed = data[:_SIGNATURE_LENGTH], data[_SIGNATURE_LENGTH:]
        if not any(hmac.compare_digest(signature, _signature(key, signed)) for key in self._keys):
            raise ValueError("the signature is not that of any of the keys")
        return self._inner.decode(signed[4:], int.from_bytes(signed[:4], "big"))


_SIGNATURE_LENGTH = 32


def _signature(key: bytes, signed: bytes) -> bytes:
    # The words in front tell these signatures from any others that the application makes with the same key.
    import hmac  # here: CPython 3.12 crashes at its end where two sub-interpreters have imported hashlib

    return hmac.digest(key, b"mcext.codecs.Signed 1\0" + signed, "sha256")


class _Clients:
    """The format of another client, for a change to or from it without a cold cache.

    min_compress_len: longer values are compressed with zlib, where that makes them smaller; 0 for none.
    """

    owns_flags = True
    max_length = _MAX_LENGTH

    _known: int
    _zlib: int

    def __init__(self, *, min_compress_len: int = 0) -> None:
        if type(min_compress_len) is not int:
            raise TypeError(f"min_compress_len: an int, not {type(min_compress_len).__name__}")
        if min_compress_len < 0:
            raise ValueError(f"min_compress_len: 0 or more, not {min_compress_len}")
        self._min_compress_len = min_compress_len

    def encode(self, value: Any) -> tuple[bytes, int]:
        data, flags = self._encode(value)
        if 0 < self._min_compress_len < len(data):
            compressed = Compression().compress(data)
            if len(compressed) < len(data):
                return compressed, flags | self._zlib
        return data, flags

    def decode(self, data: bytes, flags: int) -> Any:
        if flags & ~(self._known | self._zlib):
            raise _unknown(flags, self)
        if flags & self._zlib:
            data = decompress(data, self.max_length)
        _check_length(data, self.max_length)
        return self._decode(data, flags & ~self._zlib)

    def _encode(self, value: Any) -> tuple[bytes, int]:
        raise NotImplementedError

    def _decode(self, data: bytes, flags: int) -> Any:
        raise NotImplementedError


class Pymemcache(_Clients):
    """pymemcache's format: of its serde.pickle_serde, and with min_compress_len of its CompressedSerde (400 there).

    bytes, str and int by exact type, all else pickled. Reads what either has stored.
    """

    _known = _PICKLE | _INTEGER | _LONG | _TEXT
    _zlib = _COMPRESSED

    def _encode(self, value: Any) -> tuple[bytes, int]:
        kind = type(value)
        if kind is bytes:
            return _bytes(value)
        if kind is str:
            return value.encode(), _TEXT
        if kind is int:
            return b"%d" % value, _INTEGER
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL), _PICKLE

    def _decode(self, data: bytes, flags: int) -> Any:
        if flags & _TEXT:
            return data.decode()
        if flags & (_INTEGER | _LONG):
            return int(data)
        return _loads(data) if flags else data


class Pylibmc(_Clients):
    """pylibmc's format. Subclasses of bytes, str and int come back as these, and True and False as 1 and 0.

    Reads compressed values, whatever min_compress_len is.
    """

    _known = _PICKLE | _INTEGER | _LONG | _TEXT
    _zlib = _COMPRESSED

    def _encode(self, value: Any) -> tuple[bytes, int]:
        if isinstance(value, bytes):
            return _bytes(bytes(value))
        if isinstance(value, str):
            return str.encode(value), _TEXT
        if isinstance(value, bool):
            return b"%d" % value, _INTEGER
        if isinstance(value, int):
            return b"%d" % value, _LONG
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL), _PICKLE

    def _decode(self, data: bytes, flags: int) -> Any:
        if flags == 0:
            return data
        if flags == _TEXT:
            return data.decode()
        if flags in (_INTEGER, _LONG):
            return int(data)
        if flags == _PICKLE:
            return _loads(data)
        raise _unknown(flags, self)


class Libmc(_Clients):
    """libmc's format: what marshal knows is marshalled, else pickled. Reading either is for servers that nobody else
    writes to.

    Values of more than 1,000,000 bytes, which libmc splits over several keys, cannot be read: ValueError.
    """

    _INTEGER, _LONG, _BOOL, _MARSHAL, _SPLIT = 2, 4, 8, 32, 1 << 12
    _known = _PICKLE | _INTEGER | _LONG | _BOOL | _MARSHAL
    _zlib = 16

    def _encode(self, value: Any) -> tuple[bytes, int]:
        kind = type(value)
        if kind is bytes:
            return _bytes(value)
        if kind is bool:
            return b"%d" % value, self._BOOL
        if kind is int:
            return b"%d" % value, self._LONG
        if kind.__module__ != "numpy":  # marshal would keep an array's bytes alone
            try:
                return marshal.dumps(value, 2), self._MARSHAL
            except ValueError:  # marshal does not know the type
                pass
        return pickle.dumps(value, 2), _PICKLE

    def decode(self, data: bytes, flags: int) -> Any:
        if flags & self._SPLIT:
            raise ValueError("the value is one that libmc has split over several keys")
        return super().decode(data, flags)

    def _decode(self, data: bytes, flags: int) -> Any:
        if flags == 0:
            return data
        if flags == self._BOOL:
            return bool(int(data))
        if flags in (self._INTEGER, self._LONG):
            return int(data)
        if flags == self._MARSHAL:
            try:
                return marshal.loads(data)
            except Exception as error:
                raise ValueError(f"marshal cannot read the value: {error!r}") from error
        if flags == _PICKLE:
            return _loads(data)
        raise _unknown(flags, self)
