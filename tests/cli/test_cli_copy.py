"""copy: all that the new fleet lacks, bytes, flags and ttl as they are; nothing there is overwritten."""

import base64
import json
import pickle
import random
import signal
import socket
import threading
import time

import pytest
from command_line import Bytes, Trap, mcext, run, start, wait_until_asleep
from scripted_server import STALL, ScriptedServer

from mcext import Cache
from mcext import placement as placements
from mcext.testing import memcached as start_memcached

AUTH = ("shop", "correct-horse")


@pytest.fixture
def old():
    with start_memcached() as server:
        yield server


@pytest.fixture
def new():
    with start_memcached() as one, start_memcached() as other:
        yield one, other


def cache(*servers, **options):
    return Cache([server.address for server in servers], codec=Bytes(), timeout=5, **options)


def listed(*servers):
    return ",".join(server.address for server in servers)


def test_bytes_flags_and_ttl_are_copied_as_they_are(old, new, tmp_path):
    trap = tmp_path / "trap"
    items = {
        "text": (b"text", 16),
        "bytes": (bytes(range(256)), 0),
        "pickle": (pickle.dumps(Trap(str(trap))), 1),
        "foreign": (b"no pickle", 1),
        "squeezed": (b"no zlib", 8),
        "flags": (b"x", 2**32 - 1),
        "big": (b"x" * 900_000, 2),
    }
    for key, value in items.items():
        cache(old).set(key, value, 1000)
    cache(old).set("for-ever", (b"1", 0))
    done = mcext("copy", old.address, listed(*new))
    assert done == (0, "8 copied\n", "")
    found = cache(*new).get_items([*items, "for-ever"])
    assert {key: found[key].value for key in items} == items and not trap.exists()
    assert all(900 < found[key].ttl <= 1000 for key in items) and found["for-ever"].ttl is None


def test_items_without_bytes_are_copied_and_stubs_of_leases_are_not(old, new):
    assert mcext("set", "empty", "", "--servers", old.address, "--ttl", "1000").status == 0
    done = []
    Cache(old.address).get_or_set("leased", lambda: done.append(mcext("copy", old.address, listed(*new))) or 1)
    assert done == [(0, "1 copied, 1 gone meanwhile\n", "")]
    found = json.loads(mcext("get", "empty", "--json", "--servers", listed(*new)).out)
    assert (found["size"], found["flags"]) == (0, 0)
    assert mcext("get", "leased", "--servers", listed(*new)).status == 1


def test_items_go_to_the_servers_that_the_placement_says(old, new):
    keys = [f"key:{number}" for number in range(300)]
    cache(old).set_many(dict.fromkeys(keys, (b"x", 0)))
    assert mcext("copy", old.address, listed(*new), "--placement", "rendezvous").status == 0
    there = cache(*new, placement=placements.rendezvous())
    assert len(there.get_many(keys)) == 300
    for server in new:
        own = [key for key in keys if there.server_for(key) == server.address]
        assert len(cache(server).get_many(keys)) == len(own) > 0


def test_what_is_there_is_not_overwritten_and_not_read_again(old, new):
    cache(old).set_many({key: (b"old", 1) for key in "abc"})
    cache(*new).set("b", (b"newer", 2))
    done = mcext("copy", old.address, listed(*new), "--json")
    assert json.loads(done.out) == {"copied": 2, "there": 1, "gone": 0, "binary": 0, "failed": 0}
    assert cache(*new).get_many("abc") == {"a": (b"old", 1), "b": (b"newer", 2), "c": (b"old", 1)}
    gets = int(cache(old).stats()[old.address]["get_hits"])
    assert json.loads(mcext("copy", old.address, listed(*new), "--json").out)["there"] == 3
    assert int(cache(old).stats()[old.address]["get_hits"]) == gets


def test_while_both_fleets_are_written_to_nothing_is_overwritten_and_nothing_is_missed(old, new):
    keys = [f"key:{number}" for number in range(10_000)]
    before, after = cache(old), cache(*new)
    for at in range(0, len(keys), 1000):
        before.set_many({key: (b"old", 1) for key in keys[at : at + 1000]})
    written, stop = set(), threading.Event()

    def write():
        for key in random.Random(1).sample(keys, len(keys)):
            if stop.is_set():
                return
            after.set(key, (b"new", 2))
            written.add(key)
            before.set(f"more:{key}", (b"x" * random.Random(key).randrange(2000), 0))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert run("copy", old.address, listed(*new)).status == 0
    finally:
        stop.set()
        writer.join()
    assert after.get_many(keys) == {key: (b"new", 2) if key in written else (b"old", 1) for key in keys} and written


def test_all_servers_of_the_old_fleet_are_copied(old, new):
    cache(*new).set_many({f"key:{number}": (b"x", 0) for number in range(250)})
    assert mcext("copy", listed(*new), old.address) == (0, "250 copied\n", "")
    assert len(cache(old).get_many([f"key:{number}" for number in range(250)])) == 250


def test_binary_keys_are_left_out_and_said(old, new):
    with socket.create_connection((old.host, old.port)) as direct:
        direct.sendall(b"ms %b 1 b\r\n1\r\n" % base64.b64encode(b"with space"))
        assert direct.recv(100).startswith(b"HD")
    assert mcext("copy", old.address, listed(*new)) == (0, "0 copied, 1 left out, for their keys are binary\n", "")


def test_what_the_new_fleet_does_not_take_is_named_and_the_rest_is_copied(old):
    with start_memcached("-I", "512k") as small:
        cache(old).set_many({"big": (b"x" * 700_000, 0), "little": (b"x", 0)})
        done = mcext("copy", old.address, small.address)
        assert cache(small).get("little") == (b"x", 0)
    assert done.status == 1 and done.out == "1 copied, 1 failed\n"
    assert done.err.startswith("mcext: big: ") and done.err.count("\n") == 1


def test_a_server_that_is_down_costs_its_own_items_and_no_key_goes_elsewhere(old, new):
    keys = [f"key:{number}" for number in range(100)]
    cache(old).set_many(dict.fromkeys(keys, (b"x", 0)))
    up, down = new
    down.stop()
    done = mcext("copy", old.address, listed(*new), "--json")
    own = [key for key in keys if cache(*new).server_for(key) == up.address]
    counts = json.loads(done.out)
    assert done.status == 1 and counts["copied"] == len(own) and counts["failed"] == 100 - len(own)
    assert {*cache(up).get_many(keys)} == {*own}
    assert 1 <= done.err.count("\n") <= 21  # of many failures alike not each has a line
    done = mcext("copy", listed(down, old), up.address, "--json")
    assert done.status == 1 and down.address in done.err and json.loads(done.out)["there"] == len(own)


@pytest.mark.parametrize("pair", [["127.0.0.1:1", "127.0.0.1:1"], ["a:1,b:1", "c:1,b:1"]])
def test_a_fleet_is_not_copied_onto_itself(pair):
    done = mcext("copy", *pair)
    assert done.status == 2 and "both" in done.err


def test_each_fleet_has_its_own_tls_and_password(old):
    cache(old).set("a", (b"1", 5))
    with start_memcached(tls=True, auth=AUTH) as secure:
        there = ["--new-tls-ca", secure.ca_file, "--new-username", AUTH[0]]
        assert mcext("copy", old.address, secure.address, *there, MCEXT_NEW_PASSWORD=AUTH[1]) == (0, "1 copied\n", "")
        cache(old).flush_all()
        back = ["--tls-ca", secure.ca_file, "--username", AUTH[0]]
        assert mcext("copy", secure.address, old.address, *back, MCEXT_PASSWORD=AUTH[1]) == (0, "1 copied\n", "")
        assert cache(old).get("a") == (b"1", 5)
        # The password of one fleet is not said to the other.
        assert mcext("copy", old.address, secure.address, *back, MCEXT_PASSWORD=AUTH[1]).status == 1


def test_an_interrupted_copy_ends_clean_and_the_same_command_goes_on(old):
    keys = [f"key:{number}" for number in range(5000)]
    for at in range(0, len(keys), 1000):
        cache(old).set_many({key: (b"x" * 100, 3) for key in keys[at : at + 1000]})
    there, go_on = Old({}), threading.Event()

    def answer(command, number):
        """From the 500th item on it waits until it is told to go on."""
        if len(there.items) == 500:
            go_on.wait(60)
        return there(command, number)

    with ScriptedServer(answer) as new:
        to = ["copy", old.address, new.address, "--json"]
        with start(*to, "--threads", "1", "--timeout", "50", stdout=-1, stderr=-1, text=True) as process:
            new.wait_for(lambda server: len(there.items) == 500, timeout=30)
            wait_until_asleep(process)
            process.send_signal(signal.SIGINT)
            go_on.set()
            out, err = process.communicate(timeout=30)
        first = json.loads(out)
        assert process.returncode == 130
        assert err == "mcext: interrupted; the same command goes on where this one ended\n"
        assert 0 < first["copied"] < len(keys)
        done = run(*to)
        second = json.loads(done.out)
        assert done.status == 0
        assert second["there"] == first["copied"] and second["copied"] == len(keys) - first["copied"]
        assert there.items == {key.encode(): (b"x" * 100, 3) for key in keys}


def test_ctrl_c_ends_a_copy_whose_new_server_hangs(old):
    cache(old).set_many({str(number): (b"x", 3) for number in range(1000)})
    with ScriptedServer(lambda command, number: (STALL,)) as hanging:
        with start("copy", old.address, hanging.address, "--timeout", "50", stdout=-1, stderr=-1, text=True) as process:
            hanging.wait_for(lambda server: server.received)
            wait_until_asleep(process)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert process.returncode == 130 and out == "0 copied\n" and err.count("\n") == 1


class Old:
    """A memcached without the meta protocol: it has what it is given, and keeps what is added."""

    def __init__(self, items):
        self.items = dict(items)

    def __call__(self, command, number):
        line, _, rest = command.partition(b"\r\n")
        verb, *words = line.split()
        if verb in (b"get", b"gets"):
            token = b" 7" if verb == b"gets" else b""
            found = [(key, *self.items[key]) for key in words if key in self.items]
            values = [b"VALUE %b %d %d%b\r\n%b\r\n" % (key, flags, len(d), token, d) for key, d, flags in found]
            return b"".join(values) + b"END\r\n"
        if verb == b"add":
            is_new = words[0] not in self.items
            self.items.setdefault(words[0], (rest[:-2], int(words[1])))
            return b"STORED\r\n" if is_new else b"NOT_STORED\r\n"
        if verb == b"stats":
            return b"STAT time 1000\r\nSTAT curr_items %d\r\nEND\r\n" % len(self.items)
        if line == b"lru_crawler metadump all":
            row = b"key=%b exp=1060 la=1000 cas=1 fetch=no cls=1 size=60\n"
            return b"".join(row % key for key in self.items) + b"END\r\n"
        return b"VERSION 1.4.33\r\n" if verb == b"version" else b"ERROR\r\n"


def test_servers_without_the_meta_protocol_are_copied_from_and_to(new):
    items = {b"a": (b"1", 5), b"empty": (b"", 0), b"b": (b"2", 0)}
    with ScriptedServer(Old(items)) as before, ScriptedServer(after := Old({b"b": (b"newer", 1)})) as there:
        assert mcext("copy", before.address, there.address) == (0, "2 copied, 1 there already\n", "")
        assert after.items == {**items, b"b": (b"newer", 1)}
        assert mcext("copy", before.address, listed(*new)) == (0, "3 copied\n", "")
    found = cache(*new).get_items(["a", "b"])
    assert found["a"].value == (b"1", 5) and 30 < found["a"].ttl <= 60


def test_a_copy_that_is_killed_is_finished_by_the_same_command(old, new):
    keys = [f"key:{number}" for number in range(5000)]
    for at in range(0, len(keys), 1000):
        cache(old).set_many({key: (b"x", 3) for key in keys[at : at + 1000]})
    with start("copy", old.address, listed(*new)) as process:
        until = time.monotonic() + 30
        while not any(int(values["curr_items"]) for values in cache(*new).stats().values()):
            assert time.monotonic() < until
        process.kill()
    assert mcext("copy", old.address, listed(*new)).status == 0
    assert len(cache(*new).get_many(keys)) == len(keys)
