"""The way of a call of a client that replaces one of python-memcached's insides, and Client's privates.

Each function is the method of its name, called with the client. Structured as python-memcached 1.62's: where that calls
a method of the client or of a host, so does this, through the attribute, so that whatever stands there acts. What is
put right beside it: a stream is out of step from before a request until behind its whole reply (exchange), a call has
one deadline, keys in replies are checked, and what cannot be repeated is sent once.
"""

import sys
from collections import Counter
from operator import index
from time import monotonic

from mcext import _core
from mcext.pure.exchange import ANSWERS, PROTOCOL_KEY_LENGTH, Budget, Failed, ask, ask_many, end_unread, judge, knows
from mcext.pure.host import UNAUTHENTICATED, _Host
from mcext.pure.servers import _init_buckets, refresh_servers, set_servers  # noqa: F401  (by name, from C)

# Keys and bytes to a get line, as in core/wire/command.h; commands and bytes to a batch: what a server answers to so
# many fits its buffers.
KEYS_PER_LINE = 1000
LINE = 16000
COMMANDS_AT_ONCE = 4096
BYTES_AT_ONCE = 1 << 18
# The same over TLS: see PIECE in core/flow/leg.c.
BYTES_IN_RECORDS = 1 << 13
# Bytes of a value: what its length can be and Python can still hold, with the end of the line.
LONGEST_VALUE = sys.maxsize - 2
# Flags of values whose decoding may run the caller's code: a pickle, compressed.
SLOW_FLAGS = 1 | 8
# Bytes of a listing, a row counted with what Python keeps for it.
LONGEST_LISTING = 64 << 20
ROW_KEPT = 200

_Keys: type = type({}.keys())
_REPEATABLE = frozenset(["get", "gets", "set", "delete", "touch"])
# The commands of each method.
_GET = ("get", "gets")
_SET = ("set", "add", "replace", "append", "prepend", "cas")
_DELETETOUCH = ("delete", "touch")
_INCRDECR = ("incr", "decr")


def _unknown(cmd, known):
    return ValueError(f"cmd must be one of {', '.join(sorted(known))}, not {cmd!r}")


def _choose(self, key, storage=False):
    """(server, key as bytes, the same or (hash, key)) for the caller's key, with nothing in it that ends or splits a
    command line, by the client's _get_server."""
    if isinstance(key, tuple) and len(key) != 2:
        raise self.MemcachedKeyTypeError(f"A key tuple must be (hash, key), not of length {len(key)}")
    given = self._encode_key(key)
    if self.do_check_key:
        self.check_key(given)
    text = given[1] if isinstance(given, tuple) else given
    _check_sent(self, text, storage)
    server, key = self._get_server(given)
    if server and key is not text:  # an override may have another one
        _check_sent(self, key, storage)
    return server, key, given


def _check_sent(self, text, storage):
    """What holds for every key that is sent, whoever made it."""
    _core._check_safe(text)
    if storage and len(text) > PROTOCOL_KEY_LENGTH and self.do_check_key:
        raise self.MemcachedKeyLengthError(f"Key length is > {PROTOCOL_KEY_LENGTH}")


def _check_all_sent(texts):
    """The same of many."""
    if texts:
        _core._check_safe(b"".join(texts) if all(texts) else b"")


# The servers


def _get_server(self, key):
    watch = _core._watch(self)
    if watch is not None and not self.buckets:
        watch.ready(self)
    if _core._placing(self)[1] != "walk":
        return _get_server_placed(self, key, watch)
    if isinstance(key, tuple):
        serverhash, key = key
    else:
        serverhash = _core._server_hash(key.encode("utf8") if isinstance(key, str) else key)
    buckets = self.buckets
    if not buckets:
        return None, None
    server = buckets[serverhash % len(buckets)]
    failed = []
    if isinstance(server, _Host) and server._ready_socket() is not None:
        if server.connect():  # which takes no time
            return server, key
        failed.append(server)
    budget = Budget.of_this_call()
    for i in range(type(self)._SERVER_RETRIES):
        server = buckets[serverhash % len(buckets)]
        if not failed or not any(server is one for one in failed):
            if budget.connect(server):
                return server, key
            failed.append(server)
            if watch is not None:
                watch.hint()
        serverhash = _core._server_hash(f"{serverhash}{i}".encode("ascii"))
    for server in buckets:  # whoever is left, in order
        if not any(server is one for one in failed):
            if budget.connect(server):
                return server, key
            failed.append(server)
    return None, None


def _get_server_placed(self, key, watch):
    """As the way in C chooses."""
    budget = Budget.of_this_call()
    number = 0
    while (server := _core._candidate(self, key, number)) is not None:
        if budget.connect(server):
            return server, key[1] if isinstance(key, tuple) else key
        if watch is not None:
            watch.hint()
        number += 1
    return None, None


def disconnect_all(self):
    for server in [*self.servers]:
        try:
            server.close_socket()
        except OSError as error:
            _debug(server, error)
        if isinstance(server, _Host):
            server._disconnect(False)


def quit_all(self):
    for server in [*self.servers]:
        try:
            server.quit()
        except (OSError, _core._Error) as error:
            _debug(server, error)
            server.close_socket()
        if isinstance(server, _Host):
            server._disconnect(True)


def _debug(server, error):
    if isinstance(server, _Host):
        server.debuglog(f"MemCache: {server}: {error}.  Closing the connection.")


def forget_dead_hosts(self):
    for server in [*self.servers]:
        server.deaduntil = 0


def flush_all(self):
    start = monotonic()
    with Budget() as budget:
        for server in [*self.servers]:
            if not budget.connect(server):
                continue

            def talk(stream, server=server):
                stream.settle(server)
                server.flush()
                stream.end_if(b"OK")

            try:
                ask(server, talk, False, start=start)
            except Failed:
                continue


# Statistics


def get_stats(self, stat_args=None):
    request = "stats"
    if stat_args is not None:
        if not isinstance(stat_args, str):
            raise TypeError(f"stat_args must be a str, not {type(stat_args).__name__}")
        if any(character < " " or character == "\x7f" for character in stat_args):
            raise ValueError(f"stat_args must not hold control characters: {stat_args!r}")
        if stat_args:
            request = "stats " + stat_args

    return _list(self, request, dict.__setitem__)


def get_slab_stats(self):
    def add(rows, name, value):
        slab, colon, field = name.partition(":")
        if not colon or name.startswith(("active_slabs", "total_malloced")):
            rows[name] = value
        else:
            _nest(rows, slab, field, value)

    return _list(self, "stats slabs", add)


def get_slabs(self):
    def add(rows, name, value):
        slab, colon, field = name.partition(":")[2].partition(":")
        if not colon:
            rows[name] = value
        else:
            _nest(rows, slab, field, value)

    return _list(self, "stats items", add)


def _nest(rows, outer, field, value):
    inner = rows.get(outer)
    if not isinstance(inner, dict):
        inner = rows[outer] = {}
    inner[field] = value


def _list(self, request, add):
    start = monotonic()
    listed = []
    with Budget() as budget:
        for server in [*self.servers]:
            if not budget.connect(server):
                continue
            try:
                rows = ask(server, lambda stream, server=server: _rows(stream, server, request, add), True, start=start)
            except Failed:
                continue
            listed.append((_stats_name(server), rows))
    return listed


def _rows(stream, server, request, add):
    rows = {}
    server.send_cmd(request)
    stream.settle(server)
    size = 0
    while True:
        line = server.readline()
        if not line:
            raise _core._ConnectionDeadError("connection closed in readline()")
        if line.startswith((b"STAT ", b"ITEM ")):
            size += len(line) + ROW_KEPT
            if size > LONGEST_LISTING:
                raise _core._Error("a listing that does not end")
            words = line.decode("utf-8", "replace").split(" ", 2)
            add(rows, words[1], words[2] if len(words) > 2 else "")
        elif line.strip() == b"END" or (not rows and line in (b"RESET", b"OK")):
            stream.end()
            return rows
        elif is_error(line):
            return rows
        else:
            raise _core._Error("a reply that the protocol does not allow")


def _stats_name(server):
    if not isinstance(server, _Host):
        return str(server)
    if not hasattr(server, "ip"):
        return f"unix:{server.address} ({server.weight})"
    ip = f"[{server.ip}]" if ":" in server.ip else server.ip
    return f"{ip}:{server.port} ({server.weight})"


def is_error(line):
    return line.startswith((b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR"))


# Commands and replies as bytes


def _encode_cmd(self, cmd, key, headers, noreply, *args):
    parts = [cmd.encode("utf-8"), b" ", key]
    if headers:
        parts += (b" ", headers.encode("utf-8"))
    if noreply:
        parts.append(b" noreply")
    if args:
        parts.append(b" ")
        parts += args
    return b"".join(parts)


def _expectvalue(self, server, line=None, raise_exception=False):
    if not line:
        line = server.readline(raise_exception)
    return _fields(line, 3)


def _expect_cas_value(self, server, line=None, raise_exception=False):
    if not line:
        line = server.readline(raise_exception)
    return _fields(line, 4)


def _fields(line, count):
    """A VALUE line as (key, flags, length[, cas]); as many times None where it is another line."""
    if not line or line[:5] != b"VALUE":
        return (None,) * count
    return _core._value_fields(line, count)


def _int(number, name):
    try:
        return int.__add__(index(number), 0)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {type(number).__name__}") from None


def _recv_value(self, server, flags, rlen):
    if type(flags) is not int or type(rlen) is not int:
        flags, rlen = _int(flags, "flags"), _int(rlen, "rlen")
    if not 0 <= flags < 1 << 32:
        raise ValueError("flags must be between 0 and 2**32-1")
    if not 0 <= rlen <= LONGEST_VALUE:
        raise ValueError("rlen must be a number of bytes")
    if rlen > self.max_value_length:
        raise _core._Error(f"a value of {rlen} bytes, larger than max_value_length")
    data = server.recv(rlen + 2)
    if type(data) is not bytes:
        data = bytes(data)
    if len(data) != rlen + 2:
        raise _core._Error(f"received {len(data)} bytes when expecting {rlen + 2}")
    if not data.endswith(b"\r\n") and isinstance(server, _Host):
        raise _core._Error("a value that is longer than was said")
    if not flags & SLOW_FLAGS:
        return _core._decode(self, flags, data)
    before = monotonic()
    value = _core._decode(self, flags, data)
    if isinstance(server, _Host):
        stream = server._here()
        if stream.deadline is not None:  # what decodes it is the caller's own code
            stream.deadline += monotonic() - before
    return value


# Calls about one key


def get(self, key, default=None):
    return self._get("get", self.key_encoder(key), default)


def gets(self, key):
    return self._get("gets", self.key_encoder(key))


def _get(self, cmd, key, default=None):
    if cmd not in _GET:
        raise _unknown(cmd, _GET)
    server, key, _ = _choose(self, key)
    if not server:
        return default
    self._statlog(cmd)
    request = b"%s %s" % (cmd.encode("ascii"), key)

    def talk(stream):
        server.send_cmd(request)
        stream.settle(server)
        if cmd == "gets":
            rkey, flags, rlen, cas_id = self._expect_cas_value(server, raise_exception=True)
            if rkey == key and self.cache_cas:
                self.cas_ids[rkey] = cas_id
        else:
            rkey, flags, rlen = self._expectvalue(server, raise_exception=True)
        if not rkey:
            stream.end_if(b"END")
            return default
        if rkey != key:
            raise _core._Error("a value for a key that was not asked for")
        value = self._recv_value(server, flags, rlen)
        stream.resume(server)
        if server.expect(b"END", raise_exception=True) != b"END":
            raise _core._Error("a reply that the protocol does not allow")
        stream.end()
        return value

    try:
        return ask(server, talk, True)
    except Failed:
        return default


def _storage(cmd):
    def method(self, key, val, time=0, min_compress_len=0, noreply=False):
        return self._set(cmd, self.key_encoder(key), val, time, min_compress_len, noreply)

    method.__name__ = cmd
    return method


add, replace, append, prepend, cas = map(_storage, ("add", "replace", "append", "prepend", "cas"))
set = _storage("set")


def _stored(self, info):
    """(flags, bytes) of what _val_to_store_info returned."""
    if not isinstance(info, tuple) or len(info) != 3:
        raise TypeError("_val_to_store_info must return (flags, length, bytes) or 0")
    flags, _, data = info
    if not isinstance(flags, int):
        raise TypeError(f"_val_to_store_info must return flags as an int, not {type(flags).__name__}")
    if not 0 <= int.__add__(flags, 0) < 1 << 32:
        raise ValueError("_val_to_store_info must return flags between 0 and 2**32-1")
    if type(data) is not bytes:
        data = data.encode("utf-8") if isinstance(data, str) else bytes(memoryview(data))
    if len(data) > (1 << 31) - 3:  # servers read the length of a block, with its CRLF, into 32 bits with a sign
        raise ValueError("_val_to_store_info returned more bytes than a server takes")
    return int.__add__(flags, 0), data


def _set(self, cmd, key, val, time, min_compress_len=0, noreply=False):
    if cmd not in _SET:
        raise _unknown(cmd, _SET)
    _core._check_min_compress(min_compress_len)
    exptime = _core._exptime(time)
    server, key, given = _choose(self, key, storage=True)
    if not server:
        return 0
    self._statlog(cmd)
    if cmd == "cas" and key not in self.cas_ids:
        whole = (given[0], key) if isinstance(given, tuple) else key
        return self._set("set", whole, val, time, min_compress_len, noreply)
    info = self._val_to_store_info(val, min_compress_len)
    if not info:
        return 0
    flags, data = _stored(self, info)
    headers = f"{flags} {exptime} {len(data)}"
    if cmd == "cas":
        headers += f" {_token(self.cas_ids[key])}"
    request = self._encode_cmd(cmd, key, headers, noreply, b"\r\n", data)

    def talk(stream):
        server.send_cmd(request)
        if noreply:
            end_unread(server, stream, 1, key)
            return True
        stream.settle(server)
        line = server.expect(b"STORED", raise_exception=True)
        if judge(stream, cmd, line):
            return line == b"STORED"
        return 0

    try:
        return ask(server, talk, cmd in _REPEATABLE, noreply)
    except Failed:
        return 0


def _token(number):
    if not isinstance(number, int):
        raise TypeError("a token in cas_ids must be an int")
    if not 0 <= number < 1 << 64:
        raise ValueError("a token in cas_ids must be between 0 and 2**64-1")
    return int(number)


def delete(self, key, noreply=False, time=0):
    return self._deletetouch([b"DELETED"], "delete", self.key_encoder(key), 0 if time is None else time, noreply)


def touch(self, key, time=0, noreply=False):
    return self._deletetouch([b"TOUCHED"], "touch", self.key_encoder(key), time, noreply)


def _deletetouch(self, expected, cmd, key, time=0, noreply=False):
    if type(expected) is not list and (
        isinstance(expected, str) or not (hasattr(expected, "__contains__") or hasattr(expected, "__iter__"))
    ):
        raise TypeError(f"expected must be a list of lines as bytes, not {type(expected).__name__}")
    if cmd not in _DELETETOUCH:
        raise _unknown(cmd, _DELETETOUCH)
    headers = _core._touch_time(time) if cmd == "touch" else _core._exptime(time)
    if cmd == "delete" and headers == "0":
        headers = None  # the same, and newer servers want it so
    server, key, _ = _choose(self, key)
    if not server:
        return 0
    self._statlog(cmd)
    request = self._encode_cmd(cmd, key, headers, noreply)

    def talk(stream):
        server.send_cmd(request)
        if noreply:
            end_unread(server, stream, 1, key)
            return 1
        stream.settle(server)
        line = server.readline()
        if line == "":
            raise _core._ConnectionDeadError("connection closed in readline()")
        if judge(stream, cmd, line) and line.strip() in expected:
            return 1
        self.debuglog(f"{cmd} expected {' '.join(map(_shown, expected))}, got: {line!r}")
        return 0

    try:
        return ask(server, talk, True, noreply)
    except Failed:
        return 0


def _shown(line):
    return line.decode("ascii", "replace") if isinstance(line, bytes) else str(line)


def incr(self, key, delta=1, noreply=False):
    return self._incrdecr("incr", self.key_encoder(key), delta, noreply)


def decr(self, key, delta=1, noreply=False):
    return self._incrdecr("decr", self.key_encoder(key), delta, noreply)


def _incrdecr(self, cmd, key, delta, noreply=False):
    if cmd not in _INCRDECR:
        raise _unknown(cmd, _INCRDECR)
    headers = _core._delta(delta)
    server, key, _ = _choose(self, key)
    if not server:
        return None
    self._statlog(cmd)
    request = self._encode_cmd(cmd, key, headers, noreply)

    def talk(stream):
        server.send_cmd(request)
        if noreply:
            end_unread(server, stream, 1, key)
            return None
        stream.settle(server)
        line = server.readline()
        if line == "":
            raise _core._ConnectionDeadError("connection closed in readline()")
        if isinstance(line, str):
            line = line.encode("utf-8", "replace")
        text = line.strip()
        if not judge(stream, cmd, text):
            self.debuglog(f"{cmd} expected a number, got: {line!r}")
            return None
        # A number names nothing, and half of one is a number too.
        if text.isdigit() and not stream.buffer:
            return int(text)
        if text.startswith(b"CLIENT_ERROR"):
            raise ValueError(text.decode("utf-8", "replace"))
        return None

    try:
        return ask(server, talk, False, noreply)
    except Failed:
        return None


# Calls about many keys


def _map_and_prefix_keys(self, key_iterable, key_prefix):
    if not isinstance(key_prefix, (str, bytes)):
        raise TypeError(f"key_prefix must be a str or bytes, not {type(key_prefix).__name__}")
    key_prefix = self._encode_key(key_prefix)
    extra = len(key_prefix)
    if key_prefix:
        if self.do_check_key:
            self.check_key(key_prefix)
        _core._check_safe(key_prefix)
    encode, encoder, check = self._encode_key, self.key_encoder, self.check_key if self.do_check_key else None
    mapped, texts = [], []
    for given in key_iterable:
        key, serverhash = given, None
        if isinstance(given, tuple):
            if len(given) != 2:
                raise self.MemcachedKeyTypeError(f"a key that is a tuple must be (hash, key), not {given!r}")
            serverhash, key = given
        if key is None:
            raise self.MemcachedKeyNoneError("Key is None")
        text = encode(encoder(key))
        if not isinstance(text, bytes):
            text = str(text).encode("utf8")
        if check is not None:
            check(text, key_extra_len=extra)
        text = key_prefix + text
        texts.append(text)
        mapped.append((given, text if serverhash is None else (serverhash, text)))
    _check_all_sent(texts)
    get_server = self._get_server
    server_keys, originals = {}, {}
    for given, text in mapped:
        server, key = get_server(text)
        if server:
            if server in server_keys:
                server_keys[server].append(key)
            else:
                server_keys[server] = [key]
            originals[key] = given
    return server_keys, originals


def _mapped(self, keys, prefix, storage=False):
    """What the client's _map_and_prefix_keys says, and the keys that it left out: no server was found for them."""
    if not isinstance(keys, (list, tuple, _Keys)):
        try:
            keys = [*keys]
        except TypeError:
            if hasattr(type(keys), "__iter__"):
                raise
            raise TypeError(f"keys must be an iterable of keys, not {type(keys).__name__}") from None
    answer = self._map_and_prefix_keys(keys, prefix)
    if (
        not isinstance(answer, tuple)
        or len(answer) != 2
        or not (isinstance(answer[0], dict) and isinstance(answer[1], dict))
    ):
        raise TypeError("_map_and_prefix_keys must return two dicts")
    servers, originals = {server: [*texts] for server, texts in answer[0].items()}, answer[1].copy()
    count = 0
    for texts in servers.values():
        are_bytes = {*map(type, texts)} <= {bytes} or all(isinstance(text, bytes) for text in texts)
        if not are_bytes or not all(map(originals.__contains__, texts)):
            raise TypeError("_map_and_prefix_keys must list keys as bytes, each with its original")
        _check_all_sent(texts)
        if storage and max(map(len, texts), default=0) > PROTOCOL_KEY_LENGTH:
            for text in texts:
                _check_sent(self, text, True)
        count += len(texts)
    left_out = []
    if count < len(keys):
        there = {*originals.values()}
        left_out = [key for key in keys if key not in there]
    return servers, originals, left_out


def _check_hashable(keys):
    try:
        dict.fromkeys(keys)
    except TypeError:
        for key in keys:
            try:
                hash(key)
            except TypeError:
                raise TypeError(f"keys must be hashable, not {type(key).__name__}") from None
        raise


def get_multi(self, keys, key_prefix=""):
    self._statlog("get_multi")
    keys = keys if isinstance(keys, (list, tuple)) else _listed(keys)
    _check_hashable(keys)
    with Budget():
        servers, originals, _ = _mapped(self, keys, key_prefix)
        return _get_mapped(self, servers, originals)


def _keys_of_line(texts):
    """How many of these keys the next get line has: one at least."""
    left = LINE - len("get\r\n")
    for count, text in enumerate(texts[:KEYS_PER_LINE]):
        left -= len(text) + 1
        if left < 0:
            return count or 1
    return min(len(texts), KEYS_PER_LINE)


def _get_mapped(self, servers, originals):
    found = {}

    def send(clock, server, texts):
        texts = texts[: _keys_of_line(texts)]
        server.send_cmd(b"get " + b" ".join(texts))
        return len(texts)

    def read(stream, server, texts):
        stream.settle(server)
        wanted = dict.fromkeys(texts, 1)
        if len(wanted) < len(texts):
            wanted = Counter(texts)
        errors = 0
        while True:
            line = server.readline()
            if not line:
                raise _core._ConnectionDeadError("connection closed in readline()")
            if line == b"END" and not errors:
                break
            if line.startswith(b"VERSION ") and errors:
                break
            if line == b"END":
                continue
            rkey, flags, rlen = self._expectvalue(server, line)
            if rkey is None:
                # A proxy's, for some of the keys; how its reply ends it does not tell, but a marker behind it does.
                errors += 1
                if not line.startswith(b"SERVER_ERROR") or errors > len(texts):
                    return False
                if errors == 1:
                    stream.go_on()
                    server.send_cmd(b"version")
                continue
            if not wanted.get(rkey):
                raise _core._Error("a value for a key that was not asked for")
            wanted[rkey] -= 1
            value = self._recv_value(server, flags, rlen)
            stream.resume(server)
            found[originals[rkey]] = value
        stream.end()
        return True

    ask_many(servers, send, read)
    return found


def _listed(keys):
    try:
        return [*keys]
    except TypeError:
        if hasattr(type(keys), "__iter__"):
            raise
        raise TypeError(f"keys must be an iterable of keys, not {type(keys).__name__}") from None


def set_multi(self, mapping, time=0, key_prefix="", min_compress_len=0, noreply=False):
    _core._check_min_compress(min_compress_len)
    exptime = _core._exptime(time)
    self._statlog("set_multi")
    if not hasattr(mapping, "keys"):
        raise TypeError(f"mapping must be a mapping, not {type(mapping).__name__}")
    keys = [*mapping] if type(mapping) is dict else [*mapping.keys()]
    stored = []

    def command(text):
        info = self._val_to_store_info(mapping[originals[text]], min_compress_len)
        if not info:
            return None  # too large: nothing is sent for it
        flags, data = _stored(self, info)
        headers = f"{flags} {exptime} {len(data)}"
        return self._encode_cmd("set", text, headers, noreply, b"\r\n", data, b"\r\n")

    def answered(texts, lines):
        if lines.count(b"STORED") == len(texts):
            stored.extend(texts)
        else:
            stored.extend(text for text, line in zip(texts, lines, strict=False) if line == b"STORED")

    with Budget():
        servers, originals, left_out = _mapped(self, keys, key_prefix, storage=True)
        _send_commands(servers, "set", command, answered, noreply)
    failed = originals.keys() - stored
    if not failed and not left_out:
        return []
    missing = {*(originals[text] for text in failed), *left_out}
    standing = {*originals.values()}
    for key in keys:  # several keys may have one text, and the last stands for all
        if key not in standing and key not in missing:
            text = self._encode_key(self.key_encoder(key[1] if isinstance(key, tuple) else key))
            if not isinstance(text, bytes):
                text = str(text).encode("utf8")
            if self._encode_key(key_prefix) + text in failed:
                missing.add(key)
    return [key for key in keys if key in missing]


def delete_multi(self, keys, time=None, key_prefix="", noreply=False):
    headers = None if time is None else _core._exptime(time)
    if headers == "0":
        headers = None
    self._statlog("delete_multi")
    failed = False

    def command(text):
        return self._encode_cmd("delete", text, headers, noreply, b"\r\n")

    def answered(texts, lines):
        nonlocal failed
        failed = failed or any(map(is_error, lines))

    with Budget():
        servers, _, left_out = _mapped(self, keys, key_prefix)
        done = _send_commands(servers, "delete", command, answered, noreply)
    return 0 if failed or left_out or not done else 1


def _send_commands(servers, cmd, command, answered, noreply):
    """A command for each key, in batches; answered(keys, lines) when replies to the first of these have come. False
    where a server failed."""

    def send(clock, server, texts):
        parts, size, count, sent = [], 0, 0, []
        before = monotonic()
        most = BYTES_AT_ONCE if getattr(server, "tls_context", None) is None else BYTES_IN_RECORDS
        for text in texts:
            if len(parts) >= COMMANDS_AT_ONCE or size >= most:
                break
            one = command(text)
            count += 1
            if one is not None:
                sent.append(text)
                parts.append(one)
                size += len(one)
        clock.leave_out(before)
        batch[server] = sent
        if parts:
            server.send_cmds(b"".join(parts))
        return count

    def read(stream, server, _):
        sent = batch[server]
        if noreply:
            answered(sent, [b"STORED"] * len(sent))
            end_unread(server, stream, len(sent), max(sent, key=len, default=b""))
            return True
        stream.settle(server)
        lines, whole = [], True
        try:
            for _ in sent:
                line = server.expect(b"DELETED") if cmd == "delete" else server.readline()
                if not line:
                    raise _core._ConnectionDeadError("connection closed in readline()")
                if line not in ANSWERS[cmd] and not knows(cmd, line):
                    if not is_error(line):
                        raise _core._Error("a reply that the protocol does not allow")
                    whole = False
                lines.append(line)
                if line in UNAUTHENTICATED:
                    break
        finally:
            answered(sent, lines)
        if whole:
            stream.end()
        return whole

    batch = {}
    return ask_many(servers, send, read, noreply)
