"""All of mcext.Cache as a typed program uses it. Only type checkers read this file; see test_typing.py.

A line with `type: ignore` is one that a checker has to refuse: both are told to complain of a needless one.
"""

from datetime import timedelta
from typing import Any

from typing_extensions import assert_type

import mcext
from mcext import ABSENT, Cache, Event, Item
from mcext.cache import ServerState
from mcext.tokens import Absent


class Words:
    def encode(self, words: list[str]) -> tuple[bytes, int]:
        return " ".join(words).encode(), 1 << 16

    def decode(self, stored: bytes, its_flags: int) -> list[str]:
        return stored.decode().split()


class Serde:
    """As pymemcache's."""

    def serialize(self, key: str, value: Any) -> tuple[bytes, int]:
        return repr(value).encode(), 0

    def deserialize(self, key: str, value: bytes, flags: int) -> Any:
        return value


def note(event: Event) -> None:
    words: tuple[str, str, str | None, int] = event.kind, event.command, event.server, event.keys
    print(words, event.seconds, event.error, event.may_have_run)


def make() -> Cache:
    any_cache = Cache("127.0.0.1:11211")
    assert_type(any_cache, Cache[Any])
    assert_type(Cache(["a", ("b", 2)], codec=Words()), Cache[list[str]])
    assert_type(Cache(["a"], codec=Serde()), Cache[Any])
    texts: Cache[str] = Cache(["a"])
    numbers = Cache[int](["a"])
    print(texts, numbers)
    Cache(["a"], username="name", password=lambda: 5)  # type: ignore[arg-type,return-value]
    Cache(11211)  # type: ignore[arg-type]
    Cache(["a"], timeuot=1)  # type: ignore[call-arg]
    Cache(["a"], errors="ignore")  # type: ignore[arg-type]
    Cache(["a"], codec=len)  # type: ignore[arg-type]
    return Cache(
        ["127.0.0.1:11211"],
        timeout=0.5,
        connect_timeout=None,
        dead_retry=5,
        errors="miss",
        prefix=b"shop-",
        codec=mcext.codecs.JSON(),
        compression=mcext.Compression(min_length=1024, method="zlib", level=6),
        max_value_length=1 << 20,
        allow_pickle=False,
        on_event=note,
        slow=0.1,
        placement=mcext.placement.rendezvous(),
        on_dead="miss",
        username="name",
        password=lambda: b"password",
    )


def reads(cache: Cache[int], plain: Cache) -> None:
    assert_type(cache.get("key"), int | None)
    assert_type(cache.get(b"key", default=0), int)
    assert_type(cache.get("key", "none"), int | str)
    found: dict[str, Any] = plain.get("key", {})
    assert_type(cache.get_many(["a", "b"]), dict[str, int])
    assert_type(cache.get_many({b"a": 1}), dict[bytes, int])
    assert_type(cache.get_item("key"), Item[int] | None)
    assert_type(cache.get_items(["a"]), dict[str, Item[int]])
    assert_type(cache.get_and_touch("key", 60), int | None)
    assert_type(cache.get_and_touch("key", timedelta(minutes=1), default=0), int)
    item = cache.get_item("key")
    if item is not None:
        assert_type(item.value, int)
        value, flags, *_ = item
        times: tuple[int | None, int | None] = item.ttl, item.age
        print(value, flags, times, item.size, item.hit, item.stale, found)
        stored: bool = cache.set("key", item.value + 1, cas=item.cas)
        item.value = 3  # type: ignore[misc]
        print(stored)
    cache.get(5)  # type: ignore[call-overload]
    cache.get_many("key", "other")  # type: ignore[call-arg]


def writes(cache: Cache[int], plain: Cache) -> None:
    stored: bool = cache.set("key", 1)
    stored = cache.set("key", 1, 0.5)
    stored = cache.set("key", 1, ttl=timedelta(minutes=1), cas=ABSENT, noreply=True)
    stored = cache.add("key", 1, 60) or cache.replace("key", 1, 60, noreply=True)
    stored = plain.append("log", b"tail") or plain.prepend("log", "head")
    assert_type(cache.set_many({"a": 1, "b": 2}, ttl=60), list[str])
    stored = cache.delete("key") or cache.delete("key", cas=17)
    gone: int = cache.delete_many(key for key in ("a", "b"))
    assert_type(cache.incr("key"), int | None)
    assert_type(cache.decr("key", 2, initial=10, ttl=60), int | None)
    stored = cache.touch("key", None)
    print(stored, gone)
    plain.set("key", object())
    cache.set("key", "text")  # type: ignore[arg-type]
    cache.set("key", 1, "60")  # type: ignore[arg-type]
    cache.set("key", 1, cas="token")  # type: ignore[arg-type]
    cache.touch("key")  # type: ignore[call-arg]
    cache.incr("key", 1.5)  # type: ignore[arg-type]


def add_one(old: int | Absent) -> int:
    return 1 if isinstance(old, Absent) else old + 1


def cube_key(number: int) -> str:
    return f"cube-{number}"


def composed(cache: Cache[int], plain: Cache) -> None:
    assert_type(cache.get_or_set("key", lambda: 1, 60), int)
    anything: str = plain.get_or_set("key", str)
    value = cache.get_or_set(
        "key", int, timedelta(hours=1), refresh=5, lease=10, wait=2.5, stale=timedelta(days=1), fallback="raise"
    )
    assert_type(cache.update("key", add_one, 60, retries=3), int | None)
    plain.update("key", lambda old: [1] if old is ABSENT else 2)
    gone: bool = cache.invalidate("key") or cache.invalidate("key", stale=30)

    @plain.memoize(60, refresh=5, stale=600)
    def square(number: int) -> int:
        return number * number

    assert_type(square(2), int)
    key: str | bytes = square.key(2)
    gone = square.forget(number=2)

    @plain.memoize(key=cube_key)
    def cube(number: int) -> int:
        return number**3

    print(anything, value, gone, key, cube(3))
    square("2")  # type: ignore[arg-type]
    cache.get_or_set("key", lambda: "text")  # type: ignore[arg-type, return-value]
    cache.get_or_set("key", int, fallback="miss")  # type: ignore[arg-type]
    plain.memoize(60, refersh=5)  # type: ignore[call-arg]


def about_servers(cache: Cache) -> None:
    servers: tuple[ServerState, ...] = cache.servers
    for address, alive, connections in servers:
        print(address, alive, connections)
    cache.set_servers(["127.0.0.1:11211", ("127.0.0.1:11212", 3)])
    cache.set_servers([mcext.Server("127.0.0.1:11211", name="one")])
    print(cache.placement == mcext.placement.rendezvous(), cache.on_dead)
    cache.placement = mcext.placement.rendezvous()  # type: ignore[misc]
    cache.refresh_servers()
    where: str | None = cache.server_for("key")
    cache.flush_all()
    cache.flush_all(delay=1.5)
    statistics: dict[str, dict[str, str]] = cache.stats("items")
    versions: dict[str, str] = cache.version()
    hits: int = cache.metrics(reset=True)["hits"]
    print(where, statistics, versions, hits, cache.errors)
    cache.on_event = None
    cache.slow = 0.5
    cache.slow = "1"  # type: ignore[assignment]


class Sessions(Cache[dict[str, str]]):
    """A subclass with a method of its own."""

    def session(self, number: int) -> dict[str, str]:
        nothing: dict[str, str] = {}
        return self.get(f"session-{number}", nothing)


def main() -> None:
    with make() as cache, Sessions(["127.0.0.1:11211"]) as sessions:
        assert_type(sessions, Sessions)
        print(sessions.session(1))
        numbers: Cache[int] = Cache(["127.0.0.1:11211"])
        reads(numbers, cache)
        writes(numbers, cache)
        composed(numbers, cache)
        about_servers(cache)
    cache.close()
