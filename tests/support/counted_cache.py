"""A script with all kinds of calls of mcext.Cache; it goes behind that of counted_malloc, whose table it replaces."""

CACHE_CALLS = r"""
import itertools

numbers = itertools.count()
events = []
DEAD = "127.0.0.1:1"
cache = mcext.Cache(servers)
misses = mcext.Cache(address, errors="miss", prefix="p:")
dead = mcext.Cache(DEAD, dead_retry=0)
dead_misses = mcext.Cache(DEAD, dead_retry=0, errors="miss")
told = mcext.Cache(DEAD, dead_retry=0, on_event=events.append)
told_misses = mcext.Cache(DEAD, dead_retry=0, errors="miss", on_event=events.append)
slow = mcext.Cache(address, slow=0, on_event=events.append)
json = mcext.Cache(address, codec=mcext.codecs.JSON())
packs = mcext.Cache(address, compression=mcext.Compression(min_length=100))
strong = mcext.Cache(address, compression=mcext.Compression(min_length=100, level=3))
small = mcext.Cache(address, max_value_length=100)
small_misses = mcext.Cache(address, max_value_length=100, errors="miss")
moves = mcext.Cache(address)
doubled = mcext.Cache([address, DEAD], dead_retry=0)
known = mcext.Cache(servers, username="name", password=lambda: "w\u00f6rd")
unknown = mcext.Cache(servers, username=b"name", password=lambda: 5, dead_retry=0)
asked_for, nobody_there = mcext.Cache(DEAD, dead_retry=0), mcext.Cache([])
for each in (asked_for, nobody_there):
    _core._set_watch(each, WATCH)
ring = mcext.Cache([address], placement=mcext.placement.libmc(), prefix="p:")
items = [f"m{n}" for n in range(5)]


def fields(item):
    return item.value, item.flags, type(item.cas)


def remade(item):
    assert repr(item).startswith("mcext.Item(value=b'value', flags=0, cas=")
    kind, arguments = item.__reduce__()
    return fields(kind(*arguments))


def deleted_by_its_token():
    cache.set("gone", b"x")
    return cache.delete("gone", cas=cache.get_item("gone").cas)


def cold(of, **options):
    # A lease that was won where memory is out stays until its time is over: each key is asked for once.
    value = of.get_or_set(f"cold{next(numbers)}", lambda: [1, "x"], 60, **options)
    assert not of._flights[1]  # nobody is waited for that has gone
    return value


def stale_then_new():
    key = f"stale{next(numbers)}"
    cache.set(key, b"old")
    cache.invalidate(key, stale=60)
    return cache.get_or_set(key, lambda: b"new", 60, stale=60)


def invalidated_item():
    key = f"stale{next(numbers)}"
    cache.set(key, b"old")
    cache.invalidate(key)
    return cache.get_items([key])[key].value, cache.get_item(key).value, cache.get_and_touch(key, 60)


def raising():
    raise KeyError("factory")


def failed(function, *arguments, **keywords):
    try:
        return "no failure", function(*arguments, **keywords)
    except mcext.PartialFailure as error:
        return type(error), error.result, {server: type(each) for server, each in error.errors.items()}, error.keys
    except (mcext.MemcacheError, KeyError, ValueError, TypeError, RecursionError) as error:
        return type(error)


def counted(function):
    del events[:]
    result = function()
    assert all(type(event) is mcext.Event for event in events)
    return result


def made():
    with mcext.Cache([address, (DEAD, 3)], prefix="q", timeout=3, compression=mcext.Compression()) as cache:
        result = cache.server_for("bytes") in (address, DEAD), len(cache.servers), repr(cache)
    return result


def moved():
    moves.set_servers([(address, 2), DEAD])
    moves.set_servers(servers)
    return moves.get("bytes")


def found_by_asking():
    _core._set_watch(moves, WATCH)
    return moves.get("bytes")


def made_with_a_placement():
    with mcext.Cache([NAMED, DEAD], placement=PYMEMCACHE, on_dead="next") as cache:
        result = cache.server_for("bytes") in (address, DEAD), cache.placement == PYMEMCACHE, cache.on_dead
    return result


def reopened():
    cache.close()
    return cache.get("bytes")


def first_words(of):
    of.close()
    return of.get("bytes")


memoized = cache.memoize(60)(lambda number: number + 1)
UNAVAILABLE, TOO_LARGE = mcext.ServerUnavailable, mcext.ValueTooLarge
AT_DEAD = {DEAD: UNAVAILABLE}

# The call, and its answer: where memory is out, an exception of the cache's own is no answer.
CALLS = {
    "get": lambda: (cache.get("bytes"), b"value"),
    "get text": lambda: (cache.get("text"), "t\u20acxt"),
    "get int": lambda: (cache.get("int"), 5),
    "get huge int": lambda: (cache.get("huge"), 10**40),
    "get pickle": lambda: (cache.get("pickle"), [1, "x"]),
    "get compressed": lambda: (cache.get("zlib"), big),
    "get large": lambda: (cache.get("big"), big),
    "get miss": lambda: (cache.get("miss"), None),
    "get default": lambda: (cache.get("miss", default=7), 7),
    "get by a text key": lambda: (misses.get("k\u20ac", 7), 7),
    "get by a wrong key": lambda: (failed(cache.get, "a b"), ValueError),
    "get by no key": lambda: (failed(cache.get, 5), TypeError),
    "get_many": lambda: (cache.get_many(["bytes", "int", "miss"]), {"bytes": b"value", "int": 5}),
    "get_many of a pickle": lambda: (cache.get_many(["bytes", "pickle"]), {"bytes": b"value", "pickle": [1, "x"]}),
    "get_many compressed": lambda: (cache.get_many(["zlib", b"text"]), {"zlib": big, b"text": "t\u20acxt"}),
    "get_many with a prefix": lambda: (misses.get_many(["k\u20ac", b"miss"]), {}),
    "get_item": lambda: (fields(cache.get_item("bytes")), (b"value", 0, int)),
    "get_item miss": lambda: (cache.get_item("miss"), None),
    "get_items": lambda: ([item.value for item in cache.get_items(items).values()], [*range(5)]),
    "items of what was invalidated": lambda: (invalidated_item(), (b"old",) * 3),
    "an item made again": lambda: (remade(cache.get_item("bytes")), (b"value", 0, int)),
    "set": lambda: (cache.set("s", b"x"), True),
    "set text": lambda: (cache.set("s", "\u20ac" * 50), True),
    "set int": lambda: (cache.set("s", 10**30), True),
    "set pickle": lambda: (cache.set("s", [1, "x"]), True),
    "set large": lambda: (cache.set("s", big), True),
    "set of no bytes": lambda: (cache.set("s", b""), True),
    "set without reply": lambda: (cache.set("s", b"x", noreply=True), True),
    "set with a ttl": lambda: (cache.set("s", b"x", 60), True),
    "set with a timedelta": lambda: (cache.set("s", b"x", timedelta(days=90)), True),
    "set with a wrong ttl": lambda: (failed(cache.set, "s", b"x", -1), ValueError),
    "set with cas": lambda: (cache.set("int", 5, cas=cache.get_item("int").cas), True),
    "set with another's cas": lambda: (cache.set("int", 5, cas=1), False),
    "set with ABSENT": lambda: (cache.set("int", 6, cas=mcext.ABSENT), False),
    "set too large": lambda: (failed(small.set, "s", big), TOO_LARGE),
    "set too large, missed": lambda: (small_misses.set("s", big), False),
    "set too large for the server": lambda: (failed(cache.set, "s", bytes(2 << 20)), TOO_LARGE),
    "set_many": lambda: (cache.set_many(many), []),
    "set_many with a prefix": lambda: (misses.set_many(many, 60), []),
    "set_many too large": lambda: (small_misses.set_many({"s": big, "s2": b"x"}), ["s"]),
    "set_many too large, raised": lambda: (
        failed(small.set_many, {"s": big, "s2": b"x"}), (mcext.PartialFailure, ["s"], {None: TOO_LARGE}, ["s"])),
    "add": lambda: (cache.add("bytes", b"x"), False),
    "replace": lambda: (cache.replace("bytes", b"value"), True),
    "append": lambda: (cache.append("miss", b"x"), False),
    "delete": lambda: (cache.delete("miss"), False),
    "delete with cas": lambda: (deleted_by_its_token(), True),
    "delete_many": lambda: (cache.delete_many(["x", "y"]), 0),
    "incr": lambda: (cache.incr("miss"), None),
    "incr with initial": lambda: (cache.incr(f"incr{next(numbers)}", initial=2**64 - 1, ttl=60), 2**64 - 1),
    "incr of what is no number": lambda: (failed(cache.incr, "text"), mcext.ServerError),
    "touch": lambda: (cache.touch("bytes", 100.5), True),
    "get_and_touch": lambda: (cache.get_and_touch("bytes", 100), b"value"),
    "get_and_touch miss": lambda: (cache.get_and_touch("miss", 100, 7), 7),
    "get_or_set hit": lambda: (cache.get_or_set("bytes", raising, 60), b"value"),
    "get_or_set cold": lambda: (cold(cache), [1, "x"]),
    "get_or_set with all options": lambda: (
        cold(misses, refresh=5, lease=3, wait=9, stale=5, fallback="raise"), [1, "x"]),
    "get_or_set of a factory that raises": lambda: (
        failed(cache.get_or_set, f"cold{next(numbers)}", raising, 60), KeyError),
    "get_or_set of what was invalidated": lambda: (stale_then_new(), b"new"),
    "get_or_set at a dead server": lambda: (dead.get_or_set("k", lambda: 5, 60), 5),
    "get_or_set at a dead server, raised": lambda: (
        failed(dead.get_or_set, "k", lambda: 5, 60, fallback="raise"), UNAVAILABLE),
    "get_or_set with the wrong arguments": lambda: (failed(cache.get_or_set, "k", 5), TypeError),
    "memoize": lambda: (memoized(4), 5),
    "invalidate": lambda: (cache.invalidate("miss"), False),
    "invalidate at once": lambda: (cache.invalidate("miss", stale=0), False),
    "update": lambda: (cache.update("number", lambda old: 1 if old is mcext.ABSENT else 2, 60) in (1, 2), True),
    "update at a dead server": lambda: (dead_misses.update("number", lambda old: 1), None),
    "a dead server": lambda: (failed(dead.get, "k"), UNAVAILABLE),
    "a dead server, stored": lambda: (failed(dead.set, "k", [1]), UNAVAILABLE),
    "a dead server, many": lambda: (
        failed(dead.get_many, ["k", "l"]), (mcext.PartialFailure, {}, AT_DEAD, ["k", "l"])),
    "a dead server, many stored": lambda: (
        failed(dead.set_many, {"k": 1}), (mcext.PartialFailure, ["k"], AT_DEAD, ["k"])),
    "a dead server, many deleted": lambda: (
        failed(dead.delete_many, ["k"]), (mcext.PartialFailure, 0, AT_DEAD, ["k"])),
    "a dead server, an item": lambda: (failed(dead.get_item, "k"), UNAVAILABLE),
    "a dead server, missed": lambda: (dead_misses.get("k", 7), 7),
    "a dead server, many missed": lambda: (dead_misses.get_many(["k"]), {}),
    "a dead server, not stored": lambda: (dead_misses.set_many({"k": 1}), ["k"]),
    "a dead server, not counted": lambda: (dead_misses.incr("k", initial=5), None),
    "a dead server, told of": lambda: (counted(lambda: failed(told.get, "k")), UNAVAILABLE),
    "a dead server, missed and told of": lambda: (counted(lambda: told_misses.get_many(["k"])), {}),
    "a call, told of": lambda: (counted(lambda: slow.get("bytes")), b"value"),
    "a broken pickle": lambda: (failed(cache.get, "broken"), mcext.DecodeError),
    "a broken pickle, missed": lambda: (misses.get("broken", 7), 7),
    "a broken pickle, an item": lambda: (failed(cache.get_item, "broken"), mcext.DecodeError),
    "a broken pickle, many": lambda: (
        failed(cache.get_many, ["broken", "bytes"]),
        (mcext.PartialFailure, {"bytes": b"value"}, {address: mcext.DecodeError}, ["broken"])),
    "a codec": lambda: ((json.set("json", {"a": [1]}), json.get("json")), (True, {"a": [1]})),
    "a codec, many": lambda: ((json.set_many({"json": [1]}), json.get_many(["json"])), ([], {"json": [1]})),
    "a codec that does not know the flags": lambda: (failed(json.get, "pickle"), mcext.DecodeError),
    "a codec that does not know the value": lambda: (failed(json.set, "json", {1j}), TypeError),
    "compression": lambda: ((packs.set("packed", big), packs.get("packed")), (True, big)),
    "compression of a level": lambda: ((strong.set("packed", big), strong.get("packed")), (True, big)),
    "server_for": lambda: (cache.server_for("bytes"), address),
    "server_for of a ring": lambda: (ring.server_for("bytes"), address),
    "get_many by a ring": lambda: (ring.get_many(["miss", "k\u20ac"]), {}),
    "metrics": lambda: (sorted(cache.metrics(True)["servers"]), [address]),
    "servers": lambda: (cache.servers[0].address, address),
    "stats": lambda: ("pid" in cache.stats()[address], True),
    "version": lambda: (list(cache.version()), [address]),
    "version of two servers": lambda: (failed(doubled.version)[0], mcext.PartialFailure),
    "set_servers": lambda: (moved(), b"value"),
    "servers found by asking": lambda: (found_by_asking(), b"value"),
    "a server found by asking that is not there": lambda: (failed(asked_for.get, "k"), UNAVAILABLE),
    "no servers found by asking": lambda: (failed(nobody_there.get, "k"), UNAVAILABLE),
    "close": lambda: (reopened(), b"value"),
    "a connect with a password": lambda: (first_words(known), b"value"),
    "a connect without its password": lambda: (failed(first_words, unknown), mcext.AuthenticationError),
    "a new cache with a password": lambda: (
        len(mcext.Cache(servers, username="a", password=b"b").servers), 1),
    "a new cache with a wrong password": lambda: (
        failed(mcext.Cache, servers, username="a", password=""), ValueError),
    "a new cache": lambda: (made(), (True, 2, f"<mcext.Cache of {address}, {DEAD}>")),
    "a new cache with a placement": lambda: (made_with_a_placement(), (True, True, "next")),
    "a new cache with the wrong arguments": lambda: (failed(mcext.Cache, servers, timeout=0), ValueError),
}


def prepare():
    assert cache.flush_all() is None
    assert cache.set_many({"bytes": b"value", "text": "t\u20acxt", "int": 5, "huge": 10**40}) == []
    assert cache.set_many({"pickle": [1, "x"], "big": big, **many}) == []
    assert packs.set("zlib", big)
    for key in ("broken", "p:broken"):
        broken = memcache.Client(servers, pickler=Broken)
        assert broken.set(key, [1])
        broken.disconnect_all()


prepare()
"""
