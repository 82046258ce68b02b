"""What the client does, on a memcached of its own, and what calls take beside python-memcached. Run by `make demo`."""

import subprocess
import sys
import threading
from pathlib import Path
from time import perf_counter

import memcache
from mcext.testing import memcached

PEER = "python-memcached==1.62"
ROUNDS, CALLS = 40, 250


def load_peer():
    """The Client class of python-memcached, installed into a folder of its own; its module is called memcache too."""
    folder = Path(__file__).resolve().parents[1] / "build" / "demo" / PEER
    if not folder.is_dir():
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
        subprocess.run([*pip, "--target", str(folder), PEER], check=True)
    ours = sys.modules.pop("memcache")
    sys.path.insert(0, str(folder))
    try:
        import memcache as theirs
    finally:
        sys.path.remove(str(folder))
        sys.modules["memcache"] = ours
    return theirs.Client


def show_values(mc, server):
    print(f"a memcached at {server.address}, a client by `import memcache`")
    print("  set Foo to Bar:    ", mc.set("Foo", "Bar"))
    print("  get Foo:           ", mc.get("Foo"))
    mc.set("hits", 41)
    print("  count one up:      ", mc.incr("hits"))
    print(
        "  set three:         ", mc.set_multi({"one": 1, "two": [2, "zwei"], "three": b"3"}), "(the ones that failed)"
    )
    print("  get them at once:  ", mc.get_multi(["one", "two", "three", "four"]))
    text = "All work and no play makes Jack a dull boy. " * 1000
    before = stored_bytes(mc)
    mc.set("novel", text, min_compress_len=1000)
    print(
        f"  compressed:         {len(text)} characters take {stored_bytes(mc) - before} bytes in the server;", end=" "
    )
    print("read back the same:", mc.get("novel") == text)


def stored_bytes(mc):
    ((_, stats),) = mc.get_stats()
    return int(stats["bytes"])


def show_threads(mc):
    results = {}

    def count(name):
        for _ in range(1000):
            mc.incr("turns")
        results[name] = mc.get("Foo")

    mc.set("turns", 0)
    threads = [threading.Thread(target=count, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"  two threads, one client: each counted to 1000, in all {mc.get('turns')}; both read {results}")


def show_times(ours, theirs):
    """Both take turns, so that what else the machine does hits both; the best round counts."""
    print("microseconds a call    here    python-memcached")
    calls = {
        "get, 100 bytes": lambda mc: mc.get("hundred"),
        "set, 100 bytes": lambda mc: mc.set("hundred", b"x" * 100),
        "incr": lambda mc: mc.incr("hits"),
        "get_multi, 100 keys": lambda mc: mc.get_multi(KEYS),
    }
    ours.set_multi(dict.fromkeys(KEYS, b"x" * 100))
    ours.set("hundred", b"x" * 100)
    for name, call in calls.items():
        count = CALLS // 10 if "multi" in name else CALLS
        times = {ours: [], theirs: []}
        for _ in range(ROUNDS):
            for mc in times:
                start = perf_counter()
                for _ in range(count):
                    call(mc)
                times[mc].append((perf_counter() - start) / count * 1e6)
        here, there = min(times[ours]), min(times[theirs])
        print(f"  {name:20} {here:7.1f} {there:10.1f}   ({there / here:.1f} times)")


KEYS = [f"key-{number}" for number in range(100)]


def main():
    peer = load_peer()
    with memcached() as server:
        mc = memcache.Client([server.address])
        show_values(mc, server)
        show_threads(mc)
        show_times(mc, peer([server.address]))
        mc.disconnect_all()


if __name__ == "__main__":
    main()
