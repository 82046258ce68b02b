"""The verbs, one row each."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VERBS", "Verb"]


class Verb(NamedTuple):
    """name: of the verb, and of the function in mcext.cli.<module> that carries it out; <name>_options adds its
    arguments to a parser. summary: a line for the help."""

    name: str
    module: str
    summary: str


VERBS = (
    Verb("get", "items", "show values, with flags, size and time to live"),
    Verb("set", "items", "store a value"),
    Verb("add", "items", "store a value where there is none"),
    Verb("delete", "items", "delete keys"),
    Verb("touch", "items", "set the time to live of keys"),
    Verb("incr", "items", "add to a number"),
    Verb("decr", "items", "take from a number, down to 0"),
    Verb("stats", "stats", "the statistics of servers, or what changed in an interval"),
    Verb("top", "top", "a live table of servers"),
    Verb("keys", "keys", "list the keys of servers"),
    Verb("copy", "copying", "copy the items of one fleet to another"),
    Verb("which", "which", "say which server a key belongs to"),
    Verb("check", "check", "say whether servers can be used, and whether `import memcache` is mcext"),
    Verb("bench", "bench", "measure how fast servers answer this machine"),
    Verb("flush", "flush", "expire all items of servers, after a question"),
)
