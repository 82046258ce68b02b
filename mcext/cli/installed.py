"""Without a verb: what is installed, and whether `import memcache` finds it. Exit status 1 where it does not."""

from __future__ import annotations

import platform
import sysconfig
import zlib

import mcext
from mcext import _core

__all__ = ["installed"]


def installed() -> int:
    threads = ", free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    print(f"mcext    {mcext.__version__}")
    print(f"Python   {platform.python_version()} ({platform.python_implementation()}{threads})")
    print(f"zlib     {zlib.ZLIB_RUNTIME_VERSION}")
    print(f"core     {_core.__file__}")
    problem = mcext._memcache_problem()
    print(f"memcache {problem or 'is mcext'}")
    return 1 if problem else 0
