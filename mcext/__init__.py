"""A memcached client in C. `import memcache` gives the same Client under python-memcached's names.

    import mcext

    client = mcext.Client(["127.0.0.1:11211"])
    client.set("Foo", "Bar")
    client.get("Foo")

mcext.testing starts real servers for tests.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mcext import codecs as codecs
    from mcext import placement as placement
    from mcext._core import Client as Client
    from mcext._core import Item as Item
    from mcext.async_cache import AsyncCache as AsyncCache
    from mcext.cache import Cache as Cache
    from mcext.compress import Compression as Compression
    from mcext.errors import AuthenticationError as AuthenticationError
    from mcext.errors import ConflictError as ConflictError
    from mcext.errors import ConnectionLost as ConnectionLost
    from mcext.errors import DecodeError as DecodeError
    from mcext.errors import LeaseTimeout as LeaseTimeout
    from mcext.errors import MemcacheError as MemcacheError
    from mcext.errors import Overloaded as Overloaded
    from mcext.errors import PartialFailure as PartialFailure
    from mcext.errors import ProtocolError as ProtocolError
    from mcext.errors import ServerError as ServerError
    from mcext.errors import ServerTimeout as ServerTimeout
    from mcext.errors import ServerUnavailable as ServerUnavailable
    from mcext.errors import ValueTooLarge as ValueTooLarge
    from mcext.events import Event as Event
    from mcext.server import Server as Server
    from mcext.tokens import ABSENT as ABSENT
    from mcext.unpickler import RestrictedUnpickler as RestrictedUnpickler
    from mcext.unpickler import restricted_unpickler as restricted_unpickler

__all__ = [
    "ABSENT",
    "AsyncCache",
    "AuthenticationError",
    "Cache",
    "Client",
    "Compression",
    "ConflictError",
    "ConnectionLost",
    "DecodeError",
    "Event",
    "Item",
    "LeaseTimeout",
    "MemcacheError",
    "Overloaded",
    "PartialFailure",
    "ProtocolError",
    "RestrictedUnpickler",
    "Server",
    "ServerError",
    "ServerTimeout",
    "ServerUnavailable",
    "ValueTooLarge",
    "__version__",
    "codecs",
    "placement",
    "restricted_unpickler",
]

__version__ = "1.0.0"


def __getattr__(name: str) -> object:
    # On first use, so that mcext.testing and the pytest plugin can be imported before somebody replaces
    # threading.local (gevent, eventlet): Client derives from what stands there when it is made.
    if name == "Client":
        from mcext._core import Client

        globals()[name] = Client
        return Client
    if name in ("RestrictedUnpickler", "restricted_unpickler"):
        from mcext import unpickler

        return getattr(unpickler, name)
    if name == "Cache":
        from mcext.cache import Cache

        globals()[name] = Cache
        return Cache
    if name == "AsyncCache":
        from mcext.async_cache import AsyncCache

        globals()[name] = AsyncCache
        return AsyncCache
    if name in ("ABSENT", "Event", "Item"):
        from mcext import _core, events, tokens

        return {"ABSENT": tokens.ABSENT, "Event": events.Event, "Item": _core.Item}[name]
    if name in ("codecs", "placement"):
        from importlib import import_module  # not from mcext: that would ask this function for the name

        return import_module(f"mcext.{name}")
    if name == "Server":
        from mcext.server import Server

        return Server
    if name == "Compression":
        from mcext.compress import Compression

        return Compression
    if name in __all__ and not name.startswith("__"):
        from mcext import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _memcache_problem() -> str | None:
    """What is wrong with the module that `import memcache` gives, and what repairs it; None where it is ours.

    python-memcached owns a file of the same name: installing it puts its own in place of ours, and uninstalling it
    takes ours away. The package memcache, another client, has a folder of that name, which wins over any file.
    """
    repair = "to repair: pip uninstall python-memcached, then pip install --force-reinstall mcext"
    if "memcache" in sys.modules:
        spec = getattr(sys.modules["memcache"], "__spec__", None)
        if spec is None:  # put there by hand, as tests do
            return None
    else:
        spec = None
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            spec = find_spec("memcache", None) if find_spec else None
            if spec is not None:
                break
    is_folder = spec is not None and spec.submodule_search_locations is not None
    if spec is None or (is_folder and spec.origin is None):  # an empty folder is a module, too
        gone = "has python-memcached been uninstalled after mcext was installed?"
        return f"there is no module memcache; {gone} ({repair})"
    if _names_mcext(spec.loader, spec.origin):
        return None
    where = os.path.abspath(spec.origin) if spec.has_location else spec.origin or spec.loader
    if is_folder:
        other, repair = "the package memcache", "to repair: pip uninstall memcache"
    else:
        other = "python-memcached"
    return f"`import memcache` gives {where}, which is not mcext's; is {other} installed? ({repair})"


def _names_mcext(loader: object, origin: str | None) -> bool:
    """Whether the file of memcache names mcext; where there is none to read, as in a frozen application, its code."""
    for name, argument in (("get_data", origin), ("get_code", "memcache")):
        ask = getattr(loader, name, None)
        if ask is None or argument is None:
            continue
        try:
            answer = ask(argument)
        except OSError:
            continue
        return b"mcext" in answer if isinstance(answer, bytes) else "mcext" in getattr(answer, "co_names", ())
    return False


def _warn() -> None:
    problem = _memcache_problem()
    if problem:
        import warnings

        warnings.warn(problem, RuntimeWarning, stacklevel=3)


_warn()
