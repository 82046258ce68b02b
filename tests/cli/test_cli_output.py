"""What keys, values and servers say gets to a terminal without control characters, and to programs as JSON."""

import itertools
import json
import random

import pytest
from command_line import mcext
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import CLOSE, ScriptedServer

from mcext.cli.output import escape, field

EVIL = b"\x1b]0;owned\x07\x1b[31m\xc2\x9b31m\x7f\x08\xe2\x80\xae"
turns = itertools.count()


@given(st.binary() | st.text())
def test_escaped_text_is_printable_and_stays_as_it_is(given):
    once = escape(given)
    assert once.isprintable() and escape(once) == once


@given(st.text().filter(str.isprintable))
def test_printable_text_is_not_changed(given):
    assert escape(given) == given == escape(given.encode())


@given(st.binary())
def test_bytes_in_json_are_those_that_they_were(given):
    from base64 import b64decode

    found = json.loads(json.dumps(field("key", given)))
    assert given == (found["key"].encode() if "key" in found else b64decode(found["key_base64"]))


def hostile(command, number):
    """A server that says all it can in escape sequences."""
    word = command.split()[0]
    if word == b"stats":
        rows = b"STAT %b %b\r\nSTAT more%b %d\r\nSTAT curr_items 1\r\nEND\r\n"
        return rows % (EVIL, EVIL, EVIL, next(turns))
    if word == b"version":
        return b"VERSION " + EVIL + b"\r\n"
    if word == b"lru_crawler":
        return b"key=%1B%5B31m%FF exp=-1 la=0 cas=1 fetch=no cls=1 size=60\nEND\r\n"
    if word == b"mg":
        return b"VA 3 f0 t-1 h0 l0 c1 s3\r\n\x1b[1\r\n"
    if word == b"mn":
        return b"MN\r\n"
    return b"SERVER_ERROR " + EVIL + b"\r\n"


@pytest.mark.parametrize(
    "words",
    [
        ["get", "a"],
        ["get", "a", "b"],
        ["set", "a", "1"],
        ["set", "a", ""],
        ["incr", "a"],
        ["delete", "a"],
        ["stats"],
        ["stats", "--diff", "--interval", "0.01"],
        ["keys"],
        ["keys", "--sort", "size"],
        ["check"],
        ["flush", "--yes"],
        ["bench", "--seconds", "0.01"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_no_escape_sequence_of_a_server_gets_to_a_terminal(words, options):
    with ScriptedServer(hostile) as server:
        done = mcext(*words, *options, "--servers", server.address, terminal=True)
    said = done.out + done.err
    assert said and all(line.isprintable() for line in said.split("\n"))
    if options and done.out:
        assert all(json.loads(line) is not None for line in done.out.splitlines())


def test_keys_that_are_no_text_are_escaped_in_a_pipe_too():
    with ScriptedServer(hostile) as server:
        assert mcext("keys", server.address) == (0, "\\x1b[31m\\xff\n", "")


ANSWERS = [
    *(b"STAT time 5\r\nSTAT curr_items 3\r\nEND\r\n", b"VERSION 1.6\r\n", b"MN\r\n", b"END\r\n", b"HD\r\n", b"EN\r\n"),
    *(b"VA 2 f0\r\nab\r\n", b"VA 2 f0 t-1 h0 l0 c1 s2\r\nab\r\n", b"STORED\r\n", b"OK\r\n", b"DELETED\r\n", b"1\r\n"),
    *(b"key=a exp=-1 la=0 cas=1 fetch=no cls=1 size=60\nEND\r\n", b"ERROR\r\n", b"BUSY x\r\n", b"ME a exp=1\r\n"),
]
VERBS = [line.split() for line in (
    *("get a", "get a b", "set a 1", "add a 1", "delete a", "touch a", "incr a", "incr a --initial 1", "stats"),
    *("stats items", "stats --diff --interval 0.01", "keys", "keys --sort ttl", "check", "flush --yes", "copy"),
)]  # fmt: skip


def noise(chance):
    """A server whose answers are those of others, cut, changed, repeated, or no answers at all."""

    def answer(command, number):
        data = bytearray(chance.choice(ANSWERS))
        way = chance.random()
        if way < 0.2:
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        elif way < 0.3:
            data *= chance.randrange(2, 30)
        elif way < 0.5:
            data = chance.randbytes(chance.randrange(1, 200)) + b"\r\n"
        return (bytes(data), CLOSE) if chance.random() < 0.2 else bytes(data)

    return answer


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_server_answers_it_ends_with_a_status_and_with_lines_that_can_be_read(seed):
    chance = random.Random(seed)
    for _ in range(25):
        words = [*chance.choice(VERBS), "--timeout", "0.1", *chance.choice([[], ["--json"]])]
        with ScriptedServer(noise(chance)) as server, ScriptedServer(noise(chance)) as other:
            to = [server.address, other.address] if words[0] == "copy" else ["--servers", server.address]
            done = mcext(*words, *to, terminal=True)
        assert done.status in (0, 1), words
        assert all(line.isprintable() for line in (done.out + done.err).split("\n")), words
        assert done.out or done.err, words
