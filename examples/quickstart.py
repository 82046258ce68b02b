"""The quick start: python examples/quickstart.py 127.0.0.1:11211 [more servers]

A server is "host:port", "inet6:[addr]:port" or "unix:/path".
"""

import sys

import memcache


def main(servers):
    mc = memcache.Client(servers)

    # A value: str, bytes and int as such, anything else pickled. 0 (false) says that no server could be reached.
    if not mc.set("greeting", "hello", time=60):
        sys.exit(f"no memcached answers at {', '.join(servers)}")
    print("get:", mc.get("greeting"))

    # A key that is not there is None, or the default that you give.
    print("a miss:", mc.get("nothing"), mc.get("nothing", "a default"))

    # Counters live on the server: no two clients get the same number.
    mc.set("visits", 0)
    print("counter:", mc.incr("visits"), mc.incr("visits", 10), mc.decr("visits"))

    # Many keys with one request to each server; the prefix is put before each key and not in the answer.
    failed = mc.set_multi({"ada": {"born": 1815}, "alan": {"born": 1912}}, key_prefix="person:")
    print("not stored:", failed)
    print("get_multi:", sorted(mc.get_multi(["ada", "alan", "nobody"], key_prefix="person:").items()))

    # add stores only what is not there yet, and so can serve as a lock with a time limit.
    print("add:", bool(mc.add("lock", "me", time=30)), bool(mc.add("lock", "you", time=30)))

    # A long value is compressed where you ask for it: here, from 1,000 bytes on.
    text = "all work and no play " * 1000
    mc.set("long", text, min_compress_len=1000)
    print("compressed:", mc.get("long") == text)

    mc.delete_multi(["greeting", "visits", "lock", "long"])
    mc.delete_multi(["ada", "alan"], key_prefix="person:")
    mc.disconnect_all()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
