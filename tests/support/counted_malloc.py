"""A script with all kinds of calls, in a process whose allocations are counted and can be made to fail.

A library between the process and malloc counts the allocations of one thread and fails the one that it is told to, and
counts the blocks of all threads that live. Python's own allocator is out of the way (PYTHONMALLOC=malloc), so that its
allocations are counted, too.
"""

import os
import subprocess
import sys

import pytest

from mcext.testing import memcached

INTERPOSER = r"""
#define _GNU_SOURCE
#include <stddef.h>
#include <errno.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void __libc_free(void *memory);

static _Thread_local long until = -1; /* allocations before the one that fails; negative: none will */
static _Thread_local int failed;
static long live;

static int fails(void)
{
    if (until < 0 || until-- != 0) {
        return 0;
    }
    failed = 1;
    errno = ENOMEM;
    return 1;
}

static void *count(void *memory)
{
    if (memory != NULL) {
        __atomic_fetch_add(&live, 1, __ATOMIC_RELAXED);
    }
    return memory;
}

void *malloc(size_t size)
{
    return fails() ? NULL : count(__libc_malloc(size));
}

void *calloc(size_t number, size_t size)
{
    return fails() ? NULL : count(__libc_calloc(number, size));
}

void *realloc(void *memory, size_t size)
{
    if (fails()) {
        return NULL;
    }
    return memory == NULL ? count(__libc_malloc(size)) : __libc_realloc(memory, size);
}

void free(void *memory)
{
    if (memory != NULL) {
        __atomic_fetch_sub(&live, 1, __ATOMIC_RELAXED);
    }
    __libc_free(memory);
}

void fail_at(long number)
{
    failed = 0;
    until = number;
}

int has_failed(void)
{
    until = -1;
    return failed;
}

long live_count(void)
{
    return __atomic_load_n(&live, __ATOMIC_RELAXED);
}
"""

CALLS = r"""
import array, ctypes, faulthandler, gc, os, pickle, sys, types, warnings
from datetime import timedelta
import mcext, memcache
from mcext import _core

faulthandler.enable()
warnings.simplefilter("ignore")
sys.unraisablehook = lambda what: None  # where memory is out in a destructor
address = sys.argv[1]
shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
shim.live_count.restype = ctypes.c_long
fail_at, has_failed = shim.fail_at, shim.has_failed

servers = [address]
client = memcache.Client(servers, cache_cas=True)
plain = memcache.Client(servers)
nobody = memcache.Client([])
two = memcache.Client([address, (address, 2)])
gone = memcache.Client(["127.0.0.1:1"], dead_retry=0, debug=1)
WATCH = types.SimpleNamespace(ready=bool, hint=dict, why="nobody answers")  # mcext.discovery's, without a thread
asked = memcache.Client(["127.0.0.1:1"], dead_retry=0)
_core._set_watch(asked, WATCH)
encoded = memcache.Client(servers, key_encoder=lambda key: key[1:] if isinstance(key, str) else key)
careful = memcache.Client(servers, unpickler=mcext.restricted_unpickler({timedelta}), pickleProtocol=2, debug=1)
known = memcache.Client(servers, username="name", password=lambda: "w\u00f6rd", dead_retry=0)
unknown = memcache.Client(servers, username=b"name", password=lambda: 5, dead_retry=0, debug=1)
host = memcache.Client(servers).servers[0]
RENDEZVOUS, PYMEMCACHE = mcext.placement.rendezvous(), mcext.placement.pymemcache()
NAMED = mcext.Server(address, 2, "a")
placed = memcache.Client([NAMED], placement=RENDEZVOUS, on_dead="next")
ring = memcache.Client(servers, placement=mcext.placement.libmemcached("ketama_weighted"))
big = b"b" * 100000
many = {f"m{n}": n for n in range(20)}
many_and_big = {**many, "l": big}
bytes_and_many = ["bytes", *many]
ERRORS = memcache.Client.MemcachedKeyError


def made():
    made = memcache.Client(servers)
    result = made.get("bytes")
    made.disconnect_all()
    return result


def reconnect():
    plain.disconnect_all()
    return plain.get("bytes")


def first_words(client):
    client.disconnect_all()
    client.servers[0].flush_on_next_connect = 0
    return client.get("bytes")


def made_with_a_password():
    made = memcache.Client(servers, username="n\u00e4me", password="word")
    made.password = b"another"
    result = made.get("bytes"), repr(made.password)
    made.disconnect_all()
    return result


def without_reply():
    plain.set("n", 1, noreply=True)
    plain.incr("n", noreply=True)
    return plain.get("bytes")


def moved():
    plain.set_servers([(address, 2), address])
    plain.set_servers(servers)
    return plain.get("bytes")


def found():
    _core._set_watch(plain, WATCH)
    return plain.get("bytes")


def made_with_a_placement():
    made = memcache.Client([NAMED], placement=PYMEMCACHE, on_dead="next")
    result = made.get("bytes"), made.server_for("bytes"), made.on_dead
    made.disconnect_all()
    return result


def placed_anew():
    placed.placement = PYMEMCACHE
    placed.on_dead = "miss"
    placed.set_servers([NAMED, ("127.0.0.1:1", 2)])
    placed.buckets.pop()
    where = placed.server_for("bytes") is not None, placed.placement == PYMEMCACHE, placed.on_dead
    placed.set_servers([NAMED])
    placed.placement, placed.on_dead = RENDEZVOUS, "next"
    return where, placed.get("bytes")


def tables():
    table = mcext._core._Table
    for kind, hash, values in ("ring", "md5", [1, 2, 3]), ("seeds", "fnv1a", [1, 2, 3]), ("texts", None, [b"a"] * 3):
        table(kind, hash, "{}", values, [0, 1, 1], True)
    return type(table("slots", "crc", "", None, [0, 1, 1], False)) is table


class Silent:
    def write(self, text):
        pass


def with_debug_lines(function):
    sys.stderr, before = Silent(), sys.stderr
    try:
        return function()
    finally:
        sys.stderr = before


ATTRIBUTES = ("pickler", "unpickler", "compressor", "key_encoder", "connect_timeout", "stats", "cas_ids", "servers")


def attributes():
    for name in ATTRIBUTES:
        getattr(plain, name)
    return plain.debug


def assigned():
    plain.debug = plain.pickleProtocol = 0
    plain.socket_timeout, plain.dead_retry = 3, 30.5
    plain.pickler, plain.persistent_id, plain.key_encoder = pickle.Pickler, None, None
    plain.server_max_key_length, plain.max_value_length = 250, 1 << 20
    plain.stats, plain.cas_ids, plain.mine = {}, {}, 5
    plain.servers, plain.buckets = tuple(plain.servers), tuple(plain.buckets)
    return plain.get("bytes")


def new_host():
    made = memcache._Host((address, 2), debug=0, dead_retry=1.5, socket_timeout=0.5, flush_on_reconnect=1)
    made.mark_dead("it does not answer")
    made.mine = str(made)
    return made.address, made.weight, made.deaduntil > 0


def host_methods():
    try:
        host.close_socket()  # where the last time ended in the middle
        host.connect()
        host.send_cmd("get bytes")
        line = host.expect(b"VALUE bytes 0 5")
        value = host.recv(7), host.buffer, str(host), host.readline()
        host.send_cmds(b"get miss\r\n")
        host.readline()
        host.quit()
        host.close_socket()
        return line and value[0]
    except (OSError, memcache._Error):
        host.close_socket()


def privates():
    plain._val_to_store_info(b"value", 0), plain._encode_key("\u20ac")
    plain._encode_cmd("get", b"k", "0 0", True, b"x")
    plain._expectvalue(None, b"VALUE k 0 5"), plain._expect_cas_value(None, b"VALUE k 0 5 7")
    plain.check_key(b"abc", 3), plain._statlog("mine"), plain.debuglog("x"), plain.reset_cas()
    plain._map_and_prefix_keys(["bytes"], "p"), plain._get_server("bytes")
    return plain._get("get", "bytes")


def rejected(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except (ERRORS, TypeError, ValueError, AttributeError, pickle.PicklingError) as error:
        return type(error)


CALLS = {
    # The call, and its answers: where all is well, and what the contract has for a server that failed.
    "get": (lambda: plain.get("bytes"), b"value", None),
    "get text": (lambda: plain.get("text"), "t\u20acxt", None),
    "get int": (lambda: plain.get("int"), 5, None),
    "get huge int": (lambda: plain.get("huge"), 10**40, None),
    "get pickle": (lambda: plain.get("pickle"), [1, "x"], None),
    "get compressed": (lambda: plain.get("zlib"), big, None),
    "get large": (lambda: plain.get("big"), big, None),
    "get miss": (lambda: plain.get("miss", 7), 7, None),
    "get by a long text key": (lambda: plain.get("k\u20ac" * 20), None, None),
    "get by a tuple": (lambda: plain.get((2**70, "bytes")), b"value", None),
    "gets and cas": (lambda: [client.gets("bytes"), client.cas("bytes", b"value")][1], True, 0),
    "get_multi": (lambda: plain.get_multi(["bytes", "int", "miss"]), {"bytes": b"value", "int": 5}, {}),
    "get_multi compressed": (lambda: plain.get_multi(["zlib", "pickle"]), {"zlib": big, "pickle": [1, "x"]}, {}),
    "get_multi with a prefix": (lambda: plain.get_multi([0, 1], "m"), {0: 0, 1: 1}, {}),
    "set": (lambda: plain.set("s", b"x"), True, 0),
    "set text": (lambda: plain.set("s", "\u20ac" * 50), True, 0),
    "set int": (lambda: plain.set("s", 10**30), True, 0),
    "set pickle": (lambda: plain.set("s", [1, "x"]), True, 0),
    "set compressed": (lambda: plain.set("s", big, min_compress_len=10), True, 0),
    "set large": (lambda: plain.set("s", big), True, 0),
    "set too large": (lambda: plain.set("s", bytes(2 << 20)), 0, 0),
    "set_multi": (lambda: plain.set_multi(many), [], list(many)),
    "set_multi without reply": (lambda: plain.set_multi(many, noreply=True), [], list(many)),
    "delete_multi": (lambda: plain.delete_multi(["x", "y"], key_prefix="p"), 1, 0),
    "append": (lambda: plain.append("miss", b"x"), False, 0),
    "delete": (lambda: plain.delete("miss"), 0, 0),
    "touch": (lambda: plain.touch("bytes", 100), 1, 0),
    "incr": (lambda: plain.incr("miss"), None, None),
    "get_stats": (lambda: len(plain.get_stats()), 1, 0),
    "get_stats settings": (lambda: len(plain.get_stats("settings")), 1, 0),
    "get_slabs": (lambda: len(plain.get_slabs()), 1, 0),
    "without reply": (without_reply, b"value", None),
    "reconnect": (reconnect, b"value", None),
    "a new client": (made, b"value", None),
    "a new client with a password": (made_with_a_password, (b"value", "<password>"), (None, "<password>")),
    "a connect with a password": (lambda: first_words(known), b"value", None),
    "a password that is none": (lambda: with_debug_lines(lambda: first_words(unknown)), None, None),
    "a wrong password": (lambda: rejected(memcache.Client, [], **{"username": "a", "password": ""}), ValueError, None),
    "other servers": (moved, b"value", None),
    "servers found by asking": (found, b"value", None),
    "a server found by asking that is not there": (lambda: asked.get("k", 7), 7, None),
    "no server": (lambda: nobody.get("k", 7), 7, None),
    "a wrong key": (lambda: rejected(plain.get, "a b"), memcache.Client.MemcachedKeyCharacterError, None),
    "no key": (lambda: rejected(plain.set, None, 1), memcache.Client.MemcachedKeyNoneError, None),
    "a wrong argument": (lambda: rejected(plain.incr, "k", "x"), ValueError, TypeError),
    "a stored value that is none": (lambda: plain.get("broken"), None, None),
    "a server's error": (lambda: rejected(plain.incr, "text"), ValueError, None),
    "get of two servers": (lambda: two.get("bytes"), b"value", None),
    "get_multi of two servers": (lambda: two.get_multi(bytes_and_many), {"bytes": b"value", **many}, {}),
    "set_multi of two servers": (lambda: two.set_multi(many_and_big), [], [*many, "l"]),
    "delete_multi of two servers": (lambda: two.delete_multi(["x", "y"]), 1, 0),
    "get_stats of two servers": (lambda: len(two.get_stats()) in (1, 2), True, False),
    "get behind an encoder": (lambda: encoded.get("xbytes"), b"value", None),
    "get_multi behind an encoder": (lambda: encoded.get_multi(["xbytes"]), {"xbytes": b"value"}, {}),
    "set behind an encoder": (lambda: encoded.set("xs", b"x"), True, 0),
    "get_multi by keys of all kinds": (
        lambda: plain.get_multi([(2**70, "bytes"), b"int", "k\u20ac"]),
        {(2**70, "bytes"): b"value", b"int": 5},
        {},
    ),
    "set of a named type": (lambda: careful.set("named", timedelta(5)), True, 0),
    "get of a named type": (lambda: with_debug_lines(lambda: careful.get("named")), timedelta(5), None),
    "a debug line": (lambda: with_debug_lines(lambda: careful.get("broken")), None, None),
    "a server that is not there": (lambda: with_debug_lines(lambda: gone.get("k", 7)), 7, None),
    "a timedelta": (lambda: plain.set("s", b"x", timedelta(seconds=90)), True, 0),
    "a float for a time": (lambda: plain.touch("bytes", 100.5), 1, 0),
    "a str for a delta": (lambda: plain.incr("miss", "5"), None, None),
    "attributes": (attributes, 0, None),
    "attributes assigned": (assigned, b"value", None),
    "a new host": (new_host, (host.address, 2, True), None),
    "a host's methods": (host_methods, b"value\r\n", None),
    "privates": (privates, b"value", None),
    "server_for": (lambda: plain.server_for("bytes"), address, None),
    "server_for of a ring": (lambda: ring.server_for("k\u20ac"), address, None),
    "server_for by a tuple": (lambda: placed.server_for((2**70, "bytes")), address, None),
    "a candidate": (lambda: mcext._core._candidate(placed, (2**70, "bytes"), 1), None, None),
    "get by a ring": (lambda: ring.get("bytes"), b"value", None),
    "get_multi by rendezvous": (lambda: placed.get_multi(["bytes", "int"]), {"bytes": b"value", "int": 5}, {}),
    "tables": (tables, True, None),
    "hashes": (lambda: (mcext._core._key_hash("md5", b"foo"), len(mcext._core._md5(b"foo"))), (3675831724, 16), None),
    "a new client with a placement": (made_with_a_placement, (b"value", address, "next"), (None, address, "next")),
    "another placement": (placed_anew, ((True, True, "miss"), b"value"), ((True, True, "miss"), None)),
}


class Broken:
    def __init__(self, file, protocol=0):
        self.file = file

    def dump(self, value):
        self.file.write(b"x")


def prepare():
    plain.flush_all()
    values = {"bytes": b"value", "text": "t\u20acxt", "int": 5, "huge": 10**40, "pickle": [1, "x"], "big": big}
    assert plain.set_multi(values) == []
    assert plain.set("zlib", big, min_compress_len=10)
    assert plain.set_multi(many) == []
    # A pickle that is none, under the flag of one.
    broken = memcache.Client(servers, pickler=Broken)
    assert broken.set("broken", [1])
    broken.disconnect_all()
    assert careful.set("named", timedelta(5))


def is_answer(got, right, failure):
    if isinstance(got, dict):  # those of a part may be missing, and values not have been decoded
        return all(value in (right[key], None) for key, value in got.items())
    if isinstance(got, list) and isinstance(failure, list):
        return set(got) <= set(failure)
    return any(type(got) is type(answer) and got == answer for answer in (right, failure))


def level():
    gc.collect()
    if hasattr(sys, "_clear_type_cache"):
        sys._clear_type_cache()  # it keeps the names that were looked up
    return shim.live_count()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


prepare()
"""


@pytest.fixture(scope="module")
def interposer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("malloc")
    (folder / "malloc.c").write_text(INTERPOSER)
    library = folder / "malloc.so"
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run([*compiler, "-O1", "-fPIC", "-shared", "-o", library, folder / "malloc.c"], check=True)
    return library


def run(interposer, script, *arguments):
    """Run the script; each line that it prints says `: ok, ` or what is wrong. Returns how many there are."""
    environment = os.environ | {
        "LD_PRELOAD": str(interposer),
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONHASHSEED": "0",
    }
    lines = []
    with memcached(unix=True) as server:
        command = [sys.executable, "-u", "-c", script, server.address, *arguments]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                print(line, end="", flush=True)  # pytest -s shows how far it is
                lines.append(line)
    assert process.returncode == 0
    assert [line for line in lines if ": ok, " not in line] == []
    return len(lines)
