"""The command as a process: how it is started, how it ends, and what it does without the terminal library."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import ROOT, environment, mcext, run, start, wait_until_asleep
from scripted_server import STALL, ScriptedServer

from mcext import Cache

WITHOUT_RICH = (
    "import sys; sys.modules['rich'] = None; sys.argv[0] = 'mcext'; from mcext.cli.main import main; sys.exit(main())"
)


def without_rich(*words, **options):
    command = [sys.executable, "-c", WITHOUT_RICH, *words]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, **options)


def test_python_m_mcext_and_the_console_script_are_one():
    pyproject = (Path(ROOT) / "pyproject.toml").read_text()
    assert '[project.scripts]\nmcext = "mcext.cli.main:main"\n' in pyproject
    done = run("which", "a", environment={"MCEXT_SERVERS": "10.0.0.1:1"})
    assert done == (0, "10.0.0.1:1\n", "") == mcext("which", "a", MCEXT_SERVERS="10.0.0.1:1")
    assert run().out == mcext().out


@pytest.mark.parametrize(
    "words", [["keys"], ["stats"], ["keys", "--json"], ["top", "--json", "--interval", "0.01"]], ids=" ".join
)
def test_a_reader_that_has_had_enough_ends_it_without_a_word(memcached, words):
    cache = Cache(memcached.address)
    for at in range(0, 20_000, 1000):
        cache.set_many({f"{number}:{'k' * 100}": b"" for number in range(at, at + 1000)})
    with start(*words, "--servers", memcached.address, stdout=-1, stderr=-1) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert (process.wait(30), process.stderr.read()) == (0, b"")


def test_an_output_that_is_full_is_status_1_and_one_line(memcached):
    Cache(memcached.address).set("a", b"1")
    with open("/dev/full", "w") as full:
        done = run("get", "a", "--servers", memcached.address, stdout=full)
    assert done.status == 1 and done.err.count("\n") == 1 and "No space left" in done.err


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_does_no_harm(memcached, closed):
    for words, status in (("set a 1", 0), ("get a", 0), ("get ghost", 1), ("keys", 0), ("set b -", 0), ("flush", 2)):
        command = f"exec {sys.executable} -m mcext {words} --servers {memcached.address} {closed}"
        done = subprocess.run(["sh", "-c", command], env=environment(), capture_output=True, text=True, timeout=60)
        assert done.returncode == status and "Traceback" not in done.stderr, words
    assert Cache(memcached.address).get("a") == b"1"


def test_an_encoding_that_lacks_characters_escapes_them(memcached):
    Cache(memcached.address).set("zwölf", b"1")
    done = run("keys", memcached.address, "--json", environment={"PYTHONIOENCODING": "ascii"})
    assert json.loads(done.out)["key"] == "zwölf"
    done = run("get", "zwölf", "x", "--servers", memcached.address, environment={"PYTHONIOENCODING": "ascii"})
    assert done.status == 1 and done.out.startswith("zw\\xf6lf  ")


@pytest.mark.parametrize("words", [["get", "a"], ["keys"], ["stats"], ["copy"], ["bench"]], ids=" ".join)
def test_ctrl_c_ends_it_with_130_and_without_a_traceback(words):
    """In the middle of a call that waits for its server."""
    with ScriptedServer(lambda command, number: (STALL,)) as server:
        to = [server.address, "127.0.0.1:1"] if words == ["copy"] else ["--servers", server.address]
        with start(*words, *to, "--timeout", "50", stdout=-1, stderr=-1, text=True) as process:
            server.wait_for(lambda server: server.received)
            wait_until_asleep(process)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        assert process.returncode == 130 and "Traceback" not in out + err and err.count("\n") <= 1


def test_ctrl_c_ends_a_listing_that_nobody_reads(memcached):
    cache = Cache(memcached.address)
    for at in range(0, 20_000, 1000):
        cache.set_many({f"{number}:{'k' * 100}": b"" for number in range(at, at + 1000)})
    with start("keys", memcached.address, stdout=-1, stderr=-1) as process:
        process.stdout.read(10)
        wait_until_asleep(process)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(20) == 130 and process.stderr.read() == b""


def test_a_second_ctrl_c_ends_what_is_left_to_do():
    with ScriptedServer(lambda command, number: (STALL,)) as server:
        with start("bench", server.address, "--timeout", "50", "--seconds", "100", stdout=-1, stderr=-1) as process:
            server.wait_for(lambda server: server.received)
            until = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < until:
                process.send_signal(signal.SIGINT)
                time.sleep(0.5)  # the first one is seen to, before the second one comes
            assert process.poll() in (130, -signal.SIGINT) and b"Traceback" not in process.stderr.read()


def test_without_the_terminal_library_the_verbs_that_can_do_without_it_work(memcached):
    for words, status in (
        (["set", "a", "1"], 0),
        (["get", "a"], 0),
        (["add", "a", "1"], 1),
        (["incr", "a"], 0),
        (["touch", "a"], 0),
        (["stats"], 0),
        (["keys", "--sort", "size"], 0),
        (["which", "a"], 0),
        (["check"], 0),
        (["bench", "--seconds", "0.05"], 0),
        (["delete", "a"], 0),
        (["flush", "--yes"], 0),
    ):
        done = without_rich(*words, "--servers", memcached.address)
        assert done.returncode == status and done.stderr.count("\n") == status, words


def test_top_without_the_terminal_library_says_what_to_install(memcached):
    master, terminal = os.openpty()
    try:
        command = [sys.executable, "-c", WITHOUT_RICH, "top", memcached.address]
        done = subprocess.run(command, env=environment(TERM="xterm"), stdout=terminal, stderr=-1, text=True, timeout=60)
    finally:
        os.close(master)
        os.close(terminal)
    assert (done.returncode, done.stderr) == (2, "mcext: top needs pip install mcext[cli]\n")


def test_a_bar_without_the_terminal_library_is_left_out_with_a_line(memcached):
    master, terminal = os.openpty()
    try:
        command = [sys.executable, "-c", WITHOUT_RICH, "keys", memcached.address, "--sort", "size"]
        done = subprocess.run(command, env=environment(), stdout=-1, stderr=terminal, text=True, timeout=60)
        said = os.read(master, 1000)
    finally:
        os.close(master)
        os.close(terminal)
    assert (done.returncode, done.stdout) == (0, "")
    assert said == b"mcext: no progress bar: it needs pip install mcext[cli]\r\n"


def test_a_verb_imports_nothing_that_it_does_not_need():
    program = """
import sys
from mcext.cli.main import main
main(["which", "a"])
print(sorted({"rich", "ssl", "asyncio", "mcext.cli.top", "mcext.cli.wire", "tempfile"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_a_password_is_asked_for_at_the_terminal_alone(memcached):
    done = run(
        "get", "a", "--servers", memcached.address, "--username", "shop", stdin=subprocess.PIPE, start_new_session=True
    )
    assert done.status == 2 and "MCEXT_PASSWORD" in done.err and done.err.count("\n") == 1
