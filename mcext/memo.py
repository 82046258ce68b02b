"""memoize, Cache's and AsyncCache's: what a function returns, kept under a key that its name and its arguments make."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import hashlib
import inspect
import sys
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcext import fill

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from datetime import timedelta
    from typing import Literal, Protocol, TypedDict, overload

    from typing_extensions import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R", covariant=True)

    class Memoized(Protocol[P, R]):
        """A function that Cache.memoize has decorated."""

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        def key(self, *args: P.args, **kwargs: P.kwargs) -> str | bytes: ...
        def forget(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...

    class AsyncMemoized(Protocol[P, R]):
        """A function that AsyncCache.memoize has decorated."""

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
        def key(self, *args: P.args, **kwargs: P.kwargs) -> str | bytes: ...
        def forget(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[bool]: ...

    class AsyncDecorator(Protocol):
        """What AsyncCache.memoize returns."""

        @overload
        def __call__(self, function: Callable[P, Awaitable[R]], /) -> AsyncMemoized[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, R], /) -> AsyncMemoized[P, R]: ...

    class Options(TypedDict, total=False):
        """Those of get_or_set."""

        refresh: float | timedelta
        lease: float | timedelta
        wait: float | timedelta | None
        stale: float | timedelta
        fallback: Literal["compute", "raise"]


__all__ = ["memoize"]

# What means the same in every process, and is shown by repr as what it is.
_STABLE = (
    bool,
    bytes,
    complex,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    float,
    int,
    str,
    type(None),
    uuid.UUID,
)

_NAME_AT_MOST = 150  # bytes of a key that a function's name may take; a longer one goes into the hash


def _is_stable_zone(zone: Any) -> bool:
    zoneinfo = sys.modules.get("zoneinfo")
    is_named = zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo and zone.key is not None
    return zone is None or type(zone) is datetime.timezone or is_named


def _shown(name: str, value: Any) -> str:
    """The argument as text, the same in every process; TypeError that names it where it has none."""
    kind = type(value)
    if kind in _STABLE and _is_stable_zone(getattr(value, "tzinfo", None)):
        return repr(value)
    if kind is tuple:
        return f"({','.join(_shown(name, each) for each in value)})"
    if kind is frozenset:
        return f"{{{','.join(sorted(_shown(name, each) for each in value))}}}"
    if isinstance(value, enum.Enum):
        member = value.value if isinstance(value, enum.Flag) else value.name  # of several flags there is no one name
        return f"{kind.__module__}.{kind.__qualname__}.{member}"
    raise TypeError(
        f"the argument {name} has no text that is the same in every process: a {kind.__qualname__}; "
        "give memoize a key= of your own"
    )


def _key_maker(function: Callable[..., Any]) -> Callable[..., str]:
    if not hasattr(function, "__qualname__"):
        raise TypeError(f"memoize() makes no key of a {type(function).__qualname__}, which has no name; give it a key=")
    signature = inspect.signature(function)
    name = f"{function.__module__}.{function.__qualname__}"
    is_plain = name.isascii() and name.isprintable() and " " not in name and len(name) <= _NAME_AT_MOST

    def key(*args: Any, **kwargs: Any) -> str:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        parts = [] if is_plain else [name]
        for argument, value in bound.arguments.items():
            kind = signature.parameters[argument].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                parts += [_shown(f"{argument}[{number}]", each) for number, each in enumerate(value)]
                parts.append("*")
            elif kind is inspect.Parameter.VAR_KEYWORD:
                parts += [f"{each!r}={_shown(each, value[each])}" for each in sorted(value)]
            else:
                parts.append(f"{argument}={_shown(argument, value)}")
        digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:40]
        return f"{name}:{digest}" if is_plain else f"memoize:{digest}"

    return key


def memoize(
    cache: Any, ttl: Any, key: Callable[..., str | bytes] | None, options: Options, is_async: bool = False
) -> Callable[[Callable[..., Any]], Any]:
    """See Cache.memoize. is_async: the cache is an AsyncCache, and what is decorated becomes a coroutine function."""
    if key is not None and not callable(key):
        raise TypeError(f"key must be callable or None, not {type(key).__name__}")
    known = {"refresh", "lease", "wait", "stale", "fallback"}
    for option in options:
        if option not in known:
            raise TypeError(f"memoize() got an unexpected keyword argument {option!r}")
    fill.check(ttl, **options)

    def decorate(function: Callable[..., Any]) -> Any:
        if not callable(function):
            raise TypeError(f"memoize() decorates a function, not {type(function).__name__}")
        if inspect.iscoroutinefunction(function) and not is_async:
            raise TypeError("memoize() decorates no coroutine function: what it returns cannot be stored")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("memoize() decorates no generator function: what it returns cannot be stored")
        key_of = key or _key_maker(function)

        def fetch(args: Any, kwargs: Any) -> Any:
            compute = functools.partial(function, *args, **kwargs)
            return cache.get_or_set(key_of(*args, **kwargs), compute, ttl, **options)

        def memoized(*args: Any, **kwargs: Any) -> Any:
            return fetch(args, kwargs)

        async def memoized_async(*args: Any, **kwargs: Any) -> Any:
            return await fetch(args, kwargs)

        def forget(*args: Any, **kwargs: Any) -> Any:
            return cache.delete(key_of(*args, **kwargs))

        wrapper: Any = functools.wraps(function)(memoized_async if is_async else memoized)
        wrapper.key = key_of
        wrapper.forget = forget
        return wrapper

    return decorate
