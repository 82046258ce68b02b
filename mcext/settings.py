"""From what a framework's configuration holds to what Cache and AsyncCache take: for mcext's backends of frameworks."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mcext.cache import Cache
from mcext.server import Server

if TYPE_CHECKING:
    from mcext.async_cache import AsyncCache

__all__ = ["cache_options", "options_known", "options_of_query", "server_list"]

# Options whose value is an object: a str is the dotted path of one, or of a callable without arguments that gives it.
_OBJECTS = frozenset({"codec", "compression", "placement", "tls_context"})
# One that is a callable itself.
_CALLABLES = frozenset({"on_event"})

_TRUTHS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def cache_options(
    options: Mapping[str, object], *, source: str, of: type[Cache[Any]] | type[AsyncCache[Any]] = Cache
) -> dict[str, Any]:
    """The keywords of Cache, or of the class `of`, that a framework's options name.

    options: by the names of the keywords. A str as codec, compression, placement or tls_context is the dotted path of
        such an object, or of a callable without arguments that gives it; as on_event that of the function. All else
        is as it is, username and password too.
    source: where the options stand, for error messages: "OPTIONS of CACHES['default']".

    Raises TypeError where options is no mapping, ValueError for an option that there is not, for a dotted path that
    leads nowhere, and what a callable raises. Values are checked by the class that takes them.
    """
    if not isinstance(options, Mapping):
        raise TypeError(f"{source} must be a dict of options, not {type(options).__name__}")
    known = options_known(of)
    return {_known(name, known, source): _object(name, value, source) for name, value in options.items()}


def options_known(of: type[Cache[Any]] | type[AsyncCache[Any]] = Cache) -> list[str]:
    """The names of the options of Cache, or of the class `of`."""
    parameters = inspect.signature(of).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def _known(name: object, known: Iterable[str], source: str) -> str:
    if isinstance(name, str) and name in known:
        return name
    close = difflib.get_close_matches(str(name), known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}"
    raise ValueError(f"{source}: there is no option {name!r}; {hint}")


def _object(name: str, value: object, source: str) -> object:
    if not isinstance(value, str) or name not in _OBJECTS | _CALLABLES:
        return value
    module, _, attribute = value.rpartition(".")
    if not module:
        what = "a function" if name in _CALLABLES else "an object"
        raise ValueError(f"{source}: {name} must be {what} or its dotted path, not {value!r}")
    try:
        found: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{source}: {name} cannot be had from {value!r}: {error}") from error
    if name in _CALLABLES or not callable(found):
        return found
    try:
        return found()
    except TypeError as error:  # a class that wants arguments, say
        raise ValueError(f"{source}: {name}: {value} cannot be called without arguments: {error}") from error


def options_of_query(pairs: Iterable[tuple[str, str]], *, source: str) -> dict[str, object]:
    """The options of a URL's query, with the numbers and truth values that cache_options and Cache want.

    pairs: as urllib.parse.parse_qsl gives them.

    Raises ValueError, which names the option, where a text is none of these or an option stands there twice.
    """
    options: dict[str, object] = {}
    for name, text in pairs:
        if name in options:
            raise ValueError(f"{source}: the option {name!r} stands there twice")
        kind, read = _READERS.get(name, _TEXT)
        try:
            options[name] = read(text)
        except (KeyError, ValueError):
            raise ValueError(f"{source}: {name} must be {kind}, not {text!r}") from None
    return options


_TEXT: tuple[str, Callable[[str], object]] = "text", str
_READERS: dict[str, tuple[str, Callable[[str], object]]] = {
    **dict.fromkeys(("timeout", "connect_timeout", "dead_retry", "slow"), ("a number", float)),
    **dict.fromkeys(("max_value_length", "connections", "max_pending"), ("a whole number", int)),
    "allow_pickle": ("true or false", lambda text: _TRUTHS[text.lower()]),
}


def server_list(location: object) -> list[Any]:
    """The servers that a framework's configuration names, as a list for Cache.

    location: a str with addresses between which stands ";", "," or white space; a list or tuple of what Cache takes
        ("host:port", "unix:/path", "elasticache://host:port", (address, weight), mcext.Server), or one such pair or
        Server alone. A path of a Unix socket with one of these characters in it must stand in a list.

    Raises ValueError where no server is named, TypeError for what is neither. The addresses are checked by Cache.
    """
    servers: list[str | tuple[str, int] | Server]
    if isinstance(location, str):
        servers = [address for address in re.split(r"[;,\s]+", location) if address]
    elif isinstance(location, Server) or (isinstance(location, tuple) and _is_pair(location)):
        servers = [location]
    elif isinstance(location, (list, tuple)):
        servers = list(location)
    else:
        raise TypeError(f"servers must be a str or a list of addresses, not {type(location).__name__}")
    if not servers:
        raise ValueError(f"servers must name one at least: {location!r}")
    return servers


def _is_pair(location: tuple[Any, ...]) -> bool:
    return len(location) == 2 and isinstance(location[0], str) and isinstance(location[1], int)
