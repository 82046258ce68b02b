"""python-memcached's module, answered by mcext: `import memcache` and use Client as ever.

The names are those of python-memcached 1.62. What applications assign here (serverHashFunction, the
limits, socket, time) acts on the clients.
"""

import sys
from types import ModuleType

from mcext import _core
from mcext._core import Client, _ConnectionDeadError, _Error, cmemcache_hash

__author__ = "the mcext authors"
__version__ = "1.62"  # of the interface: python-memcached's
__copyright__ = "Copyright the mcext authors"
__license__ = "MIT"

__all__ = [
    "Client",
    "SERVER_MAX_KEY_LENGTH",
    "SERVER_MAX_VALUE_LENGTH",
    "cmemcache_hash",
    "serverHashFunction",
    "useOldServerHashFunction",
    "valid_key_chars_re",
]

_DEAD_RETRY = 30  # seconds
_SOCKET_TIMEOUT = 3  # seconds


def useOldServerHashFunction():
    """Choose servers by plain crc32, as versions of python-memcached before 1.20 did."""
    from binascii import crc32

    sys.modules[__name__].serverHashFunction = crc32


_LIMITS = {"SERVER_MAX_KEY_LENGTH": 0, "SERVER_MAX_VALUE_LENGTH": 1}
_MODULES = ("pickle", "socket", "threading", "time", "zlib")


class _Module(ModuleType):
    """The module's own class: assignments reach the clients, modules are imported when asked for."""

    def __setattr__(self, name, value):
        if name == "serverHashFunction":
            _core._set_hash_function(value)
        elif name in _LIMITS:
            _core._set_limit(_LIMITS[name], value)
        elif name == "socket":
            _core._set_socket(value)
        elif name == "time":
            _core._set_time(value)
        super().__setattr__(name, value)

    def __delattr__(self, name):
        super().__delattr__(name)
        if name == "socket":
            _core._set_socket(None)
        elif name == "time":
            _core._set_time(None)

    def __getattr__(self, name):
        if name in _MODULES:
            return __import__(name)
        if name == "_Host":
            from mcext.pure.host import _Host

            return _Host
        if name == "valid_key_chars_re":
            import re

            self.valid_key_chars_re = re.compile(b"[\x21-\x7e\x80-\xff]+$")
            return self.valid_key_chars_re
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


_module = sys.modules[__name__]
_module.__class__ = _Module
_module.serverHashFunction = cmemcache_hash
_module.SERVER_MAX_KEY_LENGTH = 250  # bytes; read when a Client is made
_module.SERVER_MAX_VALUE_LENGTH = 1024 * 1024
if "socket" in sys.modules and sys.modules["socket"].__name__ != "socket":
    # Imported by eventlet.import_patched: the module that stands in for socket during this import.
    _module.socket = sys.modules["socket"]
