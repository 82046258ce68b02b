# The types of memcache.py: a module that is one file has them in a package of their own (PEP 561).

import pickle as pickle
import socket as socket
import threading as threading
import time as time
import zlib as zlib
from collections.abc import Callable
from re import Pattern

from mcext._core import Client as Client
from mcext._core import _ConnectionDeadError as _ConnectionDeadError
from mcext._core import _Error as _Error
from mcext._core import cmemcache_hash as cmemcache_hash
from mcext.pure.host import _Host as _Host

__all__ = [
    "Client",
    "SERVER_MAX_KEY_LENGTH",
    "SERVER_MAX_VALUE_LENGTH",
    "cmemcache_hash",
    "serverHashFunction",
    "useOldServerHashFunction",
    "valid_key_chars_re",
]
__author__: str
__version__: str
__copyright__: str
__license__: str

SERVER_MAX_KEY_LENGTH: int
SERVER_MAX_VALUE_LENGTH: int
_DEAD_RETRY: int
_SOCKET_TIMEOUT: int
valid_key_chars_re: Pattern[bytes]
serverHashFunction: Callable[[bytes], int]

def useOldServerHashFunction() -> None: ...
