"""A C library's clocks and name look-ups, under a test's control, in a process of its own.

    done = shim.run(script, server.address)

runs the script with a small library preloaded, and with `shift_clock(seconds)`, which moves the clocks on that the
extension module reads, and `set_address("127.0.0.2")`, which says where the name `moving.test` lives, as globals. The
client under test knows nothing of it.
"""

import functools
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
from checkers import THREAD_SANITIZER

BUILD = Path(__file__).resolve().parents[2] / "build"

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic long shift; /* seconds */
static char address[64] = "127.0.0.1";

void shim_shift_clock(long seconds) { shift += seconds; }

void shim_set_address(const char *text) { strncpy(address, text, sizeof address - 1); }

/* Only for calls from the extension: what waits until a time would wait too long by a clock that has moved. */
static int is_for_us(const void *caller)
{
    Dl_info where;

    return dladdr(caller, &where) != 0 && where.dli_fname != NULL && strstr(where.dli_fname, "/_core.") != NULL;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);

    if (result == 0 && shift != 0 && is_for_us(__builtin_return_address(0))) {
        now->tv_sec += shift;
    }
    return result;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    }
    if (node != NULL && strcmp(node, "moving.test") == 0) {
        if (hints != NULL && hints->ai_flags & AI_NUMERICHOST) {
            return EAI_NONAME;
        }
        node = address;
    }
    return real(node, service, hints, result);
}
"""

PRELUDE = """
import ctypes, time
_shim = ctypes.CDLL({library!r})
_time, _shift = time.time, [0]
time.time = lambda: _time() + _shift[0]
def shift_clock(seconds):
    _shim.shim_shift_clock(seconds)
    _shift[0] += seconds
def set_address(text):
    _shim.shim_set_address(text.encode())
"""


@functools.cache
def library():
    """Compile the library, once; return its path."""
    BUILD.mkdir(exist_ok=True)
    target = BUILD / f"shim-{sysconfig.get_platform()}.so"
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        source = Path(folder, "shim.c")
        source.write_text(SOURCE)
        made = Path(folder, "shim.so")
        compiler = os.environ.get("CC", "cc").split()
        subprocess.run([*compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"], check=True)
        made.replace(target)
    return str(target)


def run(script, *arguments, timeout=60):
    """Run a Python script with the library preloaded; return what it printed. Raises where it fails."""
    import mcext

    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer takes the C library's calls before this library can")
    if THREAD_SANITIZER:
        pytest.skip("ThreadSanitizer takes the C library's calls before this library can")
    folder = str(Path(mcext.__file__).resolve().parents[1])
    preload = ":".join(filter(None, [os.environ.get("LD_PRELOAD"), library()]))
    path = os.pathsep.join([folder, *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE.format(library=library()) + script, *arguments],
        env={**os.environ, "LD_PRELOAD": preload, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
