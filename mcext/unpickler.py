"""An unpickler that makes objects of named types only, for caches that somebody else may write to.

    import mcext

    allowed = {"datetime.datetime", "decimal.Decimal", Account}
    client = mcext.Client(servers, unpickler=mcext.restricted_unpickler(allowed))

None, bool, int, float, str, bytes, list, tuple, dict, set and frozenset need no name. For the types that are named
holds what docs/security.md says about pickles: their methods that unpickling calls (`__new__`, `__setstate__`) get
the arguments that the pickle says.
"""

import _compat_pickle
import copyreg
import importlib
import pickle
from collections.abc import Iterable
from typing import Any

__all__ = ["RestrictedUnpickler", "restricted_unpickler"]


def _check_codec(allowed: type, arguments: tuple[object, ...], keywords: dict[str, object]) -> None:
    """Refuse the name of a codec: it would be imported. That of bytes in old pickles is latin-1, which always is."""
    makes = getattr(allowed, "__new__" if not issubclass(allowed, bytearray) else "__init__", None)
    if makes in _TAKE_A_CODEC and (keywords or arguments[1:] not in ((), ("latin-1",), ("latin1",))):
        raise pickle.UnpicklingError(f"{allowed!r} is allowed without a codec only")


_TAKE_A_CODEC: Any = (str.__new__, bytes.__new__, bytearray.__init__)


class _Allowed(type):
    """Stands for a named type while a pickle is read: it makes instances, but the type itself cannot be changed.

    A pickle can set attributes on whatever object it has at hand: on a class, that would change all of its instances.
    """

    _type: Any

    def __call__(cls, *args: object, **kwargs: object) -> object:
        _check_codec(cls._type, args, kwargs)
        return cls._type(*args, **kwargs)

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"a pickle may not change {cls!r}")

    def __repr__(cls) -> str:
        return f"<allowed type {cls._type.__module__}.{cls._type.__qualname__}>"


def _stand_in(allowed: type) -> _Allowed:
    def new(cls: type, *args: object, **kwargs: object) -> object:
        _check_codec(allowed, args, kwargs)
        return allowed.__new__(allowed, *args, **kwargs)

    return _Allowed(allowed.__name__, (), {"__slots__": (), "__new__": new, "_type": allowed})


def _type_of(stand_in: object) -> Any:
    if not isinstance(stand_in, _Allowed):
        raise pickle.UnpicklingError(f"{stand_in!r} is no allowed type")
    return stand_in._type


class _Helper:
    """A function that pickles of protocols 0 to 3 call by name, with no attribute that a pickle could set."""

    __slots__ = ()


class _Encode(_Helper):
    """_codecs.encode, for bytes only."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object) -> bytes:
        if encoding != "latin1" or not isinstance(text, str):
            raise pickle.UnpicklingError("_codecs.encode is allowed for bytes only")
        return text.encode("latin1")


class _EmptyBytes(_Helper):
    """builtins.bytes, for the empty ones only: bytes(n) would take n bytes of memory."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


class _Reconstructor(_Helper):
    """copyreg._reconstructor."""

    __slots__ = ()

    def __call__(self, cls: object, base: object, state: object) -> object:
        made: Any = _type_of(cls)
        made_from: Any = bytes if isinstance(base, _EmptyBytes) else _type_of(base)
        if made_from is object:
            return object.__new__(made)
        if made_from is bytes and not isinstance(state, bytes):
            raise pickle.UnpicklingError("bytes are allowed from bytes only")
        instance = made_from.__new__(made, state)
        if made_from.__init__ is not object.__init__:
            made_from.__init__(instance, state)
        return instance


_PLAIN = (object, int, float, str, list, tuple, dict, set, frozenset)

# Of protocols 0 to 3: what the pickles of plain data and of subclasses of plain types name.
_HELPERS: dict[tuple[str, str], object] = {
    ("_codecs", "encode"): _Encode(),
    ("builtins", "bytes"): _EmptyBytes(),
    ("copyreg", "_reconstructor"): _Reconstructor(),
    **{("builtins", plain.__name__): _stand_in(plain) for plain in _PLAIN},
}


def _resolve(item: object) -> tuple[tuple[str, str], type]:
    """The name under which pickles know a type, and the type."""
    if isinstance(item, str):
        module, separator, name = item.partition(":") if ":" in item else item.rpartition(".")
        if not module or not name:
            raise ValueError(f"allowed: {item!r} is not of the form 'module.name'")
        found: object = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if not isinstance(found, type):
            raise TypeError(f"allowed: {item} is not a type but {type(found).__name__}")
        return (module, name), found
    if not isinstance(item, type):
        raise TypeError(f"allowed: {item!r} is neither a type nor the name of one")
    return (item.__module__, item.__qualname__), item


def _refuse_extension_codes(file: Any) -> None:
    import pickletools

    for opcode, _, _ in pickletools.genops(file):
        if opcode.name in ("EXT1", "EXT2", "EXT4"):
            raise pickle.UnpicklingError("a pickle may not use extension codes")


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler that makes objects of the types in `allowed` only: none but plain data in this class itself.

    Make one with restricted_unpickler(allowed), or derive from this class and set `allowed`. Anything else in a pickle
    raises pickle.UnpicklingError, which the client answers as a value that cannot be unpickled: None.
    """

    allowed: Iterable[type | str] = ()
    _found = _HELPERS

    def __init__(self, file: Any, **options: Any) -> None:
        super().__init__(file, **options)
        self._file = file

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if isinstance(cls.allowed, str):
            raise TypeError("allowed: a set of types and names, not one str")
        cls.allowed = frozenset(cls.allowed)
        cls._found = _HELPERS | {name: _stand_in(found) for name, found in map(_resolve, cls.allowed)}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of the type that a pickle names; called by load()."""
        # Pickles of protocols 0 to 2 have the names of Python 2.
        module, name = _compat_pickle.NAME_MAPPING.get(
            (module, name), (_compat_pickle.IMPORT_MAPPING.get(module, module), name)
        )
        try:
            return self._found[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not an allowed type") from None

    def load(self) -> Any:
        """Read one pickle and return its object."""
        # find_class() is not asked for an extension code that another unpickler has met before.
        if copyreg._inverted_registry:  # type: ignore[attr-defined]
            begin = self._file.tell()
            _refuse_extension_codes(self._file)
            self._file.seek(begin)
        value = super().load()
        if isinstance(value, (_Allowed, _Helper)):
            raise pickle.UnpicklingError("a type itself is not allowed as a value")
        return value


def restricted_unpickler(allowed: Iterable[type | str]) -> type[RestrictedUnpickler]:
    """restricted_unpickler(allowed) -> class for Client's `unpickler`

    allowed: types, or their names as "module.name" ("module:outer.name" for a nested one). Names are imported now, so
    that a pickle never imports anything. TypeError, ValueError, ImportError or AttributeError where a name is no type.
    """
    if isinstance(allowed, str):
        raise TypeError("allowed: a set of types and names, not one str")
    return type("RestrictedUnpickler", (RestrictedUnpickler,), {"allowed": allowed, "__module__": __name__})
