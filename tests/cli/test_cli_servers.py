"""stats, check, bench, flush, top --json: what is asked of servers as a whole."""

import json
import os
import sys
import termios
import threading

import pytest
from command_line import mcext, start
from scripted_server import ScriptedServer

import mcext as package
from mcext import Cache, Client
from mcext.cli import main as main_module
from mcext.cli.sampling import Row, sum_of
from mcext.cli.stats import change
from mcext.cli.terminal import SUSPEND, Keys
from mcext.testing import memcached as start_memcached


def rows(text):
    return dict(line.split(None, 1) for line in text.splitlines())


# stats


def test_stats_are_those_of_the_server(memcached):
    Cache(memcached.address).set("a", b"1")
    assert rows(mcext("stats", memcached.address).out)["curr_items"] == "1"
    assert rows(mcext("stats", "settings", memcached.address).out)["item_size_max"] == "1048576"
    assert rows(mcext("stats", "items", memcached.address).out)["items:1:number"] == "1"
    assert "1:chunk_size" in rows(mcext("stats", "slabs", memcached.address).out)


def test_stats_of_several_servers_stand_under_their_addresses(memcached):
    with start_memcached() as other:
        done = mcext("stats", memcached.address, other.address, "127.0.0.1:1")
        found = json.loads(mcext("stats", memcached.address, other.address, "--json").out)
        pids = {server.address: str(server.pid) for server in (memcached, other)}
    heads = [line for line in done.out.splitlines() if line.endswith(":")]
    assert heads == [f"{memcached.address}:", f"{other.address}:"]
    assert done.status == 1 and "127.0.0.1:1" in done.err and done.err.count("\n") == 1
    assert {address: values["pid"] for address, values in found.items()} == pids


def test_diff_shows_what_became_more_in_the_interval(memcached):
    cache = Cache(memcached.address)
    cache.set("a", b"1")
    stop = threading.Event()

    def call():
        while not stop.is_set():
            cache.get("a")

    caller = threading.Thread(target=call)
    caller.start()
    try:
        found = json.loads(mcext("stats", memcached.address, "--diff", "--interval", "1", "--json").out)
        text = mcext("stats", memcached.address, "--diff", "--interval", "1").out
    finally:
        stop.set()
        caller.join()
    assert found["seconds"] >= 1 and found["servers"][memcached.address]["get_hits"] > 0
    assert "cmd_set" not in found["servers"][memcached.address]
    assert rows(text)["get_hits"].startswith("+") and rows(text)["get_hits"].endswith("/s")


def test_a_change_is_of_numbers_that_changed():
    before = {"a": "1", "b": "5", "c": "1.5", "d": "text", "e": "7", "f": "inf", "g": "nan"}
    after = {"a": "4", "b": "5", "c": "1.25", "d": "word", "new": "2", "f": "1", "g": "1"}
    assert change(before, after) == {"a": 3, "c": -0.25, "new": 2}


# check


def test_check_says_what_a_server_can_do(memcached):
    done = mcext("check", memcached.address)
    assert done.status == 0 and done.err == ""
    for said in ("usable", "1 MiB", "meta protocol   yes", "TLS             no", "not wanted", "of 64 MiB", "of 1024"):
        assert said in done.out
    assert done.out.splitlines()[-1] == "import memcache   is mcext"
    found = json.loads(mcext("check", memcached.address, "--json").out)["servers"][memcached.address]
    assert found["usable"] and found["limits"]["item_size"] == 1048576 and found["limits"]["connections"] == 1024
    assert Cache(memcached.address).version()[memcached.address] == found["version"]


def test_check_says_how_tls_and_authentication_went():
    with start_memcached(tls=True, auth=("shop", "word")) as server:
        given = ["check", server.address, "--tls-ca", server.ca_file, "--username", "shop"]
        done = mcext(*given, MCEXT_PASSWORD="word")
        assert done.status == 0 and "TLSv1.3" in done.out and "authentication  accepted" in done.out
        found = json.loads(mcext(*given, "--json", MCEXT_PASSWORD="other").out)["servers"][server.address]
        assert found == {"usable": False, "problem": found["problem"], "authentication": "refused"}


def test_a_name_that_nobody_asks_for_is_said(memcached):
    done = mcext("check", memcached.address, "--username", "shop", MCEXT_PASSWORD="word")
    assert done.status == 0 and "not wanted: any name is taken" in done.out


def test_check_is_status_1_where_any_server_cannot_be_used(memcached):
    done = mcext("check", memcached.address, "127.0.0.1:1")
    assert done.status == 1 and "no: Connection refused" in done.out and "yes, connected" in done.out
    with ScriptedServer(lambda command, number: b"HTTP/1.1 400 Bad Request\r\n") as server:
        done = mcext("check", server.address)
    assert done.status == 1 and "what no memcached answers" in done.out


def test_check_of_an_old_server_says_what_it_has_not():
    def old(command, number):
        if command.startswith(b"version"):
            return b"VERSION 1.4.33\r\n"
        return b"STAT time 5\r\nSTAT curr_connections 950\r\nEND\r\n" if command == b"stats\r\n" else None

    def with_settings(command, number):
        return b"STAT maxconns 1000\r\nEND\r\n" if command == b"stats settings\r\n" else old(command, number)

    with ScriptedServer(with_settings) as server:
        out = mcext("check", server.address).out
    for said in ("1.4.33", "meta protocol   no", "950 of 1000: nearly all are in use", "behind this machine's"):
        assert said in out
    with ScriptedServer(lambda command, number: old(command, number) or b"ERROR\r\n") as server:
        done = mcext("check", server.address)
    assert done.status == 0 and "connections     unknown" in done.out


def test_check_is_status_1_where_memcache_is_another(memcached, monkeypatch):
    monkeypatch.setattr(package, "_memcache_problem", lambda: "`import memcache` gives another")
    done = mcext("check", memcached.address)
    assert done.status == 1 and done.out.splitlines()[-1].endswith("gives another")
    assert mcext().status == 1 and mcext().out.splitlines()[-1] == "memcache `import memcache` gives another"


# bench


def test_bench_gives_figures_of_what_it_measured_and_leaves_nothing(memcached):
    before = Client([memcached.address]).get_stats()[0][1]
    done = mcext("bench", memcached.address, "--seconds", "0.2", "--threads", "2", "--size", "50", "--json")
    after = Client([memcached.address]).get_stats()[0][1]
    found = json.loads(done.out)
    assert (done.status, found["threads"], found["size"]) == (0, 2, 50)
    sets, gets, many = found["results"]
    assert [row["call"] for row in found["results"]] == ["set", "get", "get_many of 100"]
    assert int(after["cmd_set"]) - int(before["cmd_set"]) == sets["calls"] + 1000
    assert int(after["cmd_get"]) - int(before["cmd_get"]) == gets["calls"] + 100 * many["calls"]
    assert int(after["get_misses"]) == int(before["get_misses"]) and after["curr_items"] == "0"
    for row in found["results"]:
        assert 0 < row["median"] <= row["p99"] <= row["p999"] <= row["longest"] < 60e6
        assert row["calls"] * 0.01 < row["calls_per_second"] * 0.2 < row["calls"] * 1.01
    text = mcext("bench", memcached.address, "--seconds", "0.05", "--size", "0").out.splitlines()
    assert len(text) == 5 and text[1].split()[0] == "calls/s"


def test_bench_of_a_server_that_is_down_is_status_1():
    done = mcext("bench", "127.0.0.1:1", "--seconds", "0.1")
    assert done.status == 1 and done.out == "" and "refused" in done.err and done.err.count("\n") == 1


# flush


def test_flush_without_a_terminal_flushes_only_if_it_is_told_to(memcached):
    cache = Cache(memcached.address)
    cache.set("a", b"1")
    done = mcext("flush", memcached.address, stdin=b"y\n")
    assert done.status == 2 and "--yes" in done.err and cache.get("a") == b"1"
    assert mcext("flush", memcached.address, "--yes") == (0, f"{memcached.address}: flushed\n", "")
    assert cache.get("a") is None


def test_flush_names_the_servers_that_it_did_not_reach(memcached):
    done = mcext("flush", memcached.address, "127.0.0.1:1", "--yes", "--json")
    assert done.status == 1 and json.loads(done.out) == {"flushed": [memcached.address]}
    assert "127.0.0.1:1" in done.err and done.err.count("\n") == 1


# top


def test_top_json_prints_a_line_at_each_look_with_rates_of_the_interval(memcached):
    cache = Cache(memcached.address)
    cache.set("a", b"1")
    servers = [memcached.address, "127.0.0.1:1"]
    with start("top", *servers, "--json", "--interval", "0.1", stdout=-1, text=True) as process:
        looks = []
        while len(looks) < 50 and not any(look["servers"][0]["hit_rate"] == 0.5 for look in looks):
            for _ in range(50):
                cache.get("a")
                cache.get("ghost")
            looks.append(json.loads(process.stdout.readline()))
        process.terminate()
    up, down = looks[-1]["servers"]
    assert up["hit_rate"] == 0.5 and up["gets"] > 0 and up["commands"] >= up["gets"] and up["items"] == 1
    assert looks[0]["servers"][0]["gets"] is None  # the first look knows no interval
    assert down["error"] and down["gets"] is None


def test_top_without_a_terminal_is_wrong_use(memcached):
    done = mcext("top", memcached.address)
    assert done.status == 2 and "--json" in done.err


def test_the_sum_of_servers_weighs_hit_rates_by_gets():
    busy = Row("a", 0.9, 900.0, 900.0, 0.0, 5, 10, 100, 3, 1.0)
    idle = Row("b", 0.1, 100.0, 100.0, 0.0, 5, 10, 100, 3, 1.0)
    down = Row("c", error="refused")
    total = sum_of([busy, idle, down])
    assert total.hit_rate == pytest.approx(0.82) and total[2:10] == (1000.0, 1000.0, 0.0, 10, 20, 200, 6, 2.0)
    assert sum_of([down])[1:] == Row("c")[1:]


def test_every_verb_has_help_and_a_line_in_the_list():
    listed = mcext("--help").out
    for verb in main_module.VERBS:
        done = mcext(verb.name, "--help")
        assert done.status == 0 and done.out.startswith(f"usage: mcext {verb.name} ")
        assert f"  {verb.name} " in listed and "--json" in done.out
    assert mcext("--version").out == f"mcext {package.__version__}\n"


def test_keys_that_are_typed_fast_come_one_by_one_and_arrows_do_not(monkeypatch):
    master, terminal = os.openpty()
    try:
        with open(terminal, closefd=False) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            before = termios.tcgetattr(terminal)
            with Keys() as keys:
                os.write(master, b"i\x1b[Dr\x1bOAx\x1b[15~q\x1b")
                assert [keys.next(10) for _ in range(4)] == ["i", "r", "x", "q"] and keys.next(0.01) is None
                os.write(master, b"\x1a")
                assert keys.next(10) == SUSPEND
            assert termios.tcgetattr(terminal) == before
    finally:
        os.close(master)
        os.close(terminal)
