"""What a real terminal shows: the live table, a progress bar, questions; and that it is left as it was."""

import itertools
import os
import shlex
import signal
import sys
import threading

import ports
import pytest
from command_line import environment
from scripted_server import ScriptedServer
from tmux import Screen

from mcext import Cache
from mcext.testing import memcached as start

pytestmark = pytest.mark.frameworks

MANY = 100_000  # items: a copy of them takes some seconds, in which it is interrupted
HEADS = ["SERVER", "HIT", "CMD/s", "GET/s", "SET/s", "ITEMS", "BYTES", "OF", "CONN", "EVICT/s"]


def screen(*words, before="", **options):
    """A terminal in which the command runs."""
    command = shlex.join([sys.executable, "-m", "mcext", *words])
    return Screen(before + command, environment=environment(), **options)


@pytest.fixture(scope="module")
def fleet():
    """Three servers, with 30, 20 and 10 items of one size, which tests here only read."""
    servers = [start().start() for _ in range(3)]
    for server, count in zip(servers, (30, 20, 10), strict=True):
        with Cache(server.address) as cache:
            cache.set_many({f"key:{number:02}": b"x" * 100 for number in range(count)})
    yield servers
    for server in servers:
        server.stop()


def table(text):
    """The rows of the table on the screen, as lists of words: heads, servers, sum; in the midst of drawing fewer."""
    return [line.split() for line in itertools.takewhile(bool, text.splitlines())]


def is_left_as_it_was(shown, status):
    """The end of the program: its status, the cursor, the screen of before, and a terminal that echoes lines."""
    shown.wait_for(f"status {status}")
    assert shown.shows_cursor and not shown.is_alternate and "SERVER" not in shown.text
    shown.type("stty -a | tr ' ;' '\\n\\n' | grep -cx -e icanon -e echo -e isig", "Enter")
    shown.wait_for(lambda shown: "3" in shown.lines)
    return True


# top


def test_top_shows_a_row_for_each_server_and_their_sum(fleet):
    addresses = [server.address for server in fleet]
    sizes = []
    for server in fleet:
        with Cache(server.address) as cache:
            sizes.append(int(cache.stats()[server.address]["bytes"]))
    said = [f"{size}" if size < 1000 else f"{size / 1024:.1f}K" for size in [*sizes, sum(sizes)]]
    items, limits, connections = ["30", "20", "10", "60"], ["64.0M"] * 3 + ["192M"], ["1", "1", "1", "3"]
    figures = zip([*addresses, "all"], items, said, limits, connections, strict=True)
    expected = [HEADS, *([name, "-", "0", "0", "0", *four, "0"] for name, *four in figures)]
    with screen("top", *addresses) as shown:
        shown.wait_for(lambda shown: table(shown.text) == expected)
        shown.wait_for(lambda shown: shown.lines[-1].startswith("q quit  r reverse"))
        assert shown.is_alternate and not shown.shows_cursor


def test_top_sorts_by_the_column_of_a_key_and_turns_it_round(fleet):
    addresses = [server.address for server in fleet]
    with screen("top", addresses[1], addresses[2], addresses[0]) as shown:
        shown.wait_for("all ")

        def shows(head, order):
            shown.wait_for(lambda shown: head in shown.text and [row[0] for row in table(shown.text)[1:4]] == order)

        shows("SERVER", [addresses[1], addresses[2], addresses[0]])
        shown.type("i")
        shows("ITEMS v", addresses)
        shown.type("r")
        shows("ITEMS ^", addresses[::-1])
        shown.type("s")
        shows("SERVER ^", sorted(addresses))
        shown.type("b")
        shows("BYTES v", addresses)
        shown.type("Left", "x")  # keys that mean nothing change nothing
        shown.type("q")
        assert is_left_as_it_was(shown, 0)


def test_top_shows_the_hit_rate_and_the_rates_of_what_is_going_on(memcached):
    stop = threading.Event()

    def call():
        with Cache(memcached.address) as cache:
            cache.set("there", 1)
            while not stop.wait(0.001):
                cache.get_many(["there", "a", "b", "c"])
                cache.set("there", 1)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        with screen("top", memcached.address, "--interval", "0.3") as shown:
            row = table(shown.wait_for("25.0%"))[1]
            commands, gets, sets = (int(word.replace(",", "")) for word in row[2:5])
            assert commands >= gets + sets - 2 and gets > 0 and 3 < gets / sets < 5
            assert row[5] == "1"
    finally:
        stop.set()
        caller.join()


def test_top_shows_that_a_server_is_down_and_that_it_is_back(fleet, memcached):
    with screen("top", fleet[0].address, memcached.address, "--interval", "0.2") as shown:
        shown.wait_for("all ")
        memcached.stop()
        shown.wait_for(lambda shown: table(shown.text)[2:3] == [[memcached.address, "down"]])
        shown.wait_for(f"{memcached.address}: ")
        memcached.start()
        shown.wait_for(lambda shown: [row[5:6] for row in table(shown.text)[2:3]] == [["0"]])


def test_top_fits_the_screen_however_many_servers_there_are(fleet):
    with ports.bound() as closed:
        port = closed.getsockname()[1]
        down = [f"127.0.0.{number}:{port}" for number in range(1, 40)]
        with screen("top", fleet[0].address, *down, height=24, width=100) as shown:
            shown.wait_for("more")
            shown.wait_for(lambda shown: table(shown.text)[:1] == [HEADS] and shown.lines[-1].startswith("q quit"))
            shown.resize(80, 12)

            def fits(shown):
                heads, first = ([*table(shown.text), [], []])[:2]
                return (
                    len(shown.lines) <= 12
                    and heads == [head for head in HEADS if head in heads]
                    and {"HIT", "CMD/s", "EVICT/s"} < {*heads}
                    and first[:1] == [fleet[0].address]
                    and "... 37 more" in shown.text
                    and "q quit" in shown.text
                    and "…" not in shown.text
                )

            shown.wait_for(fits)
            shown.resize(40, 12)
            narrow = [["SERVER", "HIT", "CMD/s"], [fleet[0].address, "-", "0"]]
            shown.wait_for(lambda shown: [row[:3] for row in table(shown.text)[:2]] == narrow)
            shown.wait_for(lambda shown: table(shown.text)[0][3:] == ["BYTES"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_top_that_is_ended_by_a_signal_leaves_the_terminal_as_it_was(fleet, number):
    with screen("top", fleet[0].address, before="echo before; ") as shown:
        shown.wait_for("q quit")
        if number == signal.SIGINT:
            shown.type("C-c")
        else:
            os.kill(shown.program, number)
        assert is_left_as_it_was(shown, 128 + number)
        assert "before" in shown.text and "Traceback" not in shown.text


def test_top_can_be_stopped_and_continued(fleet):
    with screen("top", fleet[0].address, fleet[1].address) as shown:
        shown.wait_for("all ")
        shown.type("i")
        shown.wait_for("ITEMS v")
        shown.type("C-z")
        shown.wait_for("Stopped")
        assert shown.shows_cursor and not shown.is_alternate
        shown.type("fg", "Enter")
        shown.wait_for("ITEMS v")
        assert shown.is_alternate
        shown.type("q")
        shown.wait_for(lambda shown: not shown.is_alternate)


def test_top_answers_its_keys_while_a_server_hangs(fleet):
    with ports.listen(backlog=0) as silent:
        hanging = f"127.0.0.1:{silent.getsockname()[1]}"
        with screen("top", fleet[0].address, hanging, "--timeout", "1") as shown:
            shown.wait_for("all ")
            shown.type("i")
            shown.wait_for("ITEMS v")
            shown.type("q")
            assert is_left_as_it_was(shown, 0)


def test_top_shows_the_words_of_a_server_without_control_characters():
    evil = b"SERVER_ERROR \x1b[2J\x1b]0;owned\x07[red]\r\n"
    with ScriptedServer(lambda command, number: evil) as server:
        with screen("top", server.address) as shown:
            shown.wait_for("down")
            shown.wait_for("\\x1b[2J\\x1b]0;owned\\x07[red]")
            shown.wait_for("q quit")
            assert shown.title != "owned"


# Progress bars


def fill(server, count):
    with Cache(server.address, timeout=5) as cache:
        for at in range(0, count, 1000):
            cache.set_many({f"key:{number}": b"x" * 200 for number in range(at, at + 1000)})


def test_copy_shows_a_bar_that_ends_at_the_number_of_items(memcached):
    fill(memcached, 5000)
    with start() as new, screen("copy", memcached.address, new.address) as shown:
        text = shown.wait_for("status 0")
    (bar,) = [line for line in text.splitlines() if line.startswith("copying")]
    assert "━" in bar and "5000/5000" in bar
    assert text.splitlines()[-3:-1] == ["5000 copied", "status 0"]


def test_an_interrupted_copy_says_how_far_it_came_and_how_to_go_on(memcached):
    fill(memcached, MANY)
    with start() as new, screen("copy", memcached.address, new.address, "--threads", "1", width=120) as shown:
        shown.wait_for(lambda shown: "copying" in shown.text and not shown.text.rstrip().endswith(f"0/{MANY} -:--:--"))
        shown.type("C-c")
        text = shown.wait_for("status 130")
        assert shown.shows_cursor and "Traceback" not in text
        assert "the same command goes on where this one ended" in text
        (done,) = [line for line in text.splitlines() if line.endswith(" copied")]
        assert 0 < int(done.split()[0]) < MANY
        shown.type("Up", "Enter")
        text = shown.wait_for("status 0")
        assert f"{MANY}/{MANY}" in text and f"{done.split()[0]} there already" in text


def test_a_copy_that_is_ended_by_sigterm_leaves_the_cursor(memcached):
    fill(memcached, MANY)
    with start() as new, screen("copy", memcached.address, new.address, "--threads", "1") as shown:
        shown.wait_for(lambda shown: "copying" in shown.text and not shown.shows_cursor)
        os.kill(shown.program, signal.SIGTERM)
        assert "Traceback" not in shown.wait_for("status 143") and shown.shows_cursor


# Questions


def test_flush_asks_and_does_what_it_is_told(memcached):
    with Cache(memcached.address) as cache:
        cache.set("a", 1)
        with screen("flush", memcached.address) as shown:
            text = shown.wait_for("[y/N]")
            assert f"{memcached.address}: 1 items\nFlush all of these? [y/N]" in text
            shown.type("n", "Enter")
            assert "nothing was flushed" in shown.wait_for("status 1") and cache.get("a") == 1
        with screen("flush", memcached.address) as shown:
            shown.wait_for("[y/N]")
            shown.type("C-c")
            assert "Traceback" not in shown.wait_for("status 130") and cache.get("a") == 1
        with screen("flush", memcached.address) as shown:
            shown.wait_for("[y/N]")
            shown.type("y", "Enter")
            assert f"{memcached.address}: flushed" in shown.wait_for("status 0") and cache.get("a") is None


def test_the_password_is_asked_for_and_not_shown():
    with start(auth=("shop", "correct-horse")) as server:
        with screen("stats", "settings", server.address, "--username", "shop", height=120) as shown:
            shown.wait_for("password of shop:")
            shown.type("correct-horse", "Enter")
            text = shown.wait_for("status 0")
            assert "maxbytes" in text and "correct-horse" not in text
        with screen("get", "a", "--servers", server.address, "--username", "shop") as shown:
            shown.wait_for("password of shop:")
            shown.type("C-c")
            assert "Traceback" not in shown.wait_for("status 130")
            shown.type("echo back", "Enter")
            shown.wait_for("$ echo back\nback")


# What is printed


def test_values_and_keys_reach_the_screen_as_plain_text(memcached):
    with Cache(memcached.address) as cache:
        cache.set("a\x1b[31m".replace("\x1b", "\u200b"), "\x1b[2Jcleared\r\n\x07")
    with screen("get", "a\u200b[31m", "--servers", memcached.address) as shown:
        text = shown.wait_for("status 0")
    assert "a\\u200b[31m  flags=16 size=14 ttl=never" in text and "\\x1b[2Jcleared\\x0d\\x0a\\x07" in text


def test_keys_are_a_table_on_a_terminal(fleet):
    with screen("keys", fleet[2].address, "--sort", "size", "--limit", "2") as shown:
        text = shown.wait_for("status 0")
    rows = [line.split() for line in text.splitlines()]
    at = rows.index(["SIZE", "TTL", "AGE", "KEY"])
    assert [(row[1], row[3][:4]) for row in rows[at + 1 : at + 3]] == [("never", "key:")] * 2
    assert any(line.startswith("listing keys") and "10/10" in line for line in text.splitlines())
