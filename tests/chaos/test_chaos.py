"""A short run of the chaos suite (tests/chaos), and proof that it can fail. `make chaos` is the long one."""

import gc
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import oracle
import pytest

import mcext
from chaos import caller, plans, records, run
from chaos.__main__ import server

TESTS = Path(__file__).resolve().parents[1]
# Over TLS what differs most: cut, changed and foreign records, handshakes in forks, in threads, with a new server.
OVER_TLS = ("cut-fin", "garbage", "other-key", "fork", "threads", "stall", "kill")
RUNS = {fault: (fault,) for fault in run.FAULTS} | {f"{fault}-tls": (fault, "--tls") for fault in OVER_TLS}
EACH_RUN = [pytest.param(name, marks=pytest.mark.slow if name.endswith("-tls") else ()) for name in RUNS]


def chaos(*arguments):
    """Run the command; return what it printed and its results."""
    folder = str(Path(mcext.__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-m", "chaos", "--json", *arguments]
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=600)
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.stdout + done.stderr, results


@pytest.mark.parametrize("name", EACH_RUN)
def test_never_a_wrong_value_a_death_or_a_hang(name, way_of_calls):
    fault, *tls = RUNS[name]
    text, results = chaos("--fault", fault, "--calls", "1500", "--waiting-calls", "320", *tls)
    assert len(results) == 1, text
    (result,) = results
    counts = result["counts"]
    assert result["verdicts"] == [], text
    assert counts["calls"] >= result["wanted"]
    assert fault == "none" or fault in ("threads", "churn") or result["injected"] > 0, "the fault was not met"
    if fault in ("none", "fragments", "threads", "churn"):
        assert counts["late"] == counts["broken"] == counts["raised"] == 0, text
    if fault in ("threads", "churn"):
        # Two addresses, each with as many connections as threads at the most; on the way in Python those are a thread's
        # own, and end with it.
        at_most = result["most_sockets"] if way_of_calls else result["sockets"]
        assert at_most <= 2 * run.FAULTS[fault].threads, text
    # Nothing is raised but what a server said to incr, which is a ValueError by contract.
    assert all("raised incr ValueError" in words for words in result["words"] if words.startswith("raised")), text


@pytest.mark.plain
@pytest.mark.parametrize("name", EACH_RUN)
def test_never_a_wrong_value_a_death_or_a_hang_of_a_cache(name):
    fault, *tls = RUNS[name]
    options = ["--client", "mcext.Cache", "--calls", "1500", "--waiting-calls", "320", *tls]
    text, results = chaos("--fault", fault, *options)
    (result,) = results
    counts = result["counts"]
    assert result["verdicts"] == [], text
    assert counts["calls"] >= result["wanted"]
    assert fault == "none" or fault in ("threads", "churn") or result["injected"] > 0, "the fault was not met"
    if fault in ("none", "fragments", "threads", "churn"):
        assert counts["late"] == counts["broken"] == 0, text
    assert counts["raised"] == 0, text


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["garbage", "doubled", "other-key", "signals", "fork"])
def test_the_suite_catches_a_client_that_trusts_its_stream(fault):
    """python-memcached hands out other keys' values under these faults: a suite that does not see it is blind."""
    environment = {**os.environ, "PYTHONPATH": str(oracle.installed())}
    result = run.run("python-memcached", fault, 1, 1500, server, environment)
    assert result.counts["wrong"] > 0
    assert result.verdicts()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_threads_delay_leaves_no_file_open():
    """A million calls by short-lived threads are more threads than a process may have files."""
    delay = caller.Delay()

    def threads(count):
        for _ in range(count):
            thread = threading.Thread(target=delay.seconds)
            thread.start()
            thread.join()
        return len(os.listdir("/proc/self/fd"))

    gc.collect()  # what other tests have left open is closed before, and not in the middle
    assert threads(3) == threads(20)


def test_values_carry_their_key():
    for key in caller.KEY_NAMES[:20]:
        for size in (0, 10, 100, 5000):
            value = caller.value_for(key, 7, size)
            assert caller.value_is_right(key, value)
            assert not caller.value_is_right(caller.KEY_NAMES[50], value)
            assert not caller.value_is_right(key, value[:-1])
            assert not caller.value_is_right(key, value + b"x")
            assert not caller.value_is_right(key, value.decode())


@pytest.mark.parametrize(
    ("stream", "ends"),
    [
        (b"STORED\r\nEND\r\n", [8, 13]),
        (b"VALUE a 0 5\r\nEND\r\n\r\nEND\r\n", [25]),
        (b"VALUE a 0 1\r\nx\r\nVALUE b 0 0\r\n\r\nEND\r\n5\r\n", [36, 39]),
        (b"STAT a b\r\nSTAT c d\r\nEND\r\nOK\r\n", [25, 29]),
        (b"VALUE a 0 5\r\nabc", []),
        (b"STORED\r", []),
    ],
)
def test_the_proxy_finds_the_ends_of_replies(stream, ends):
    found = []
    start = 0
    while start < len(stream) and (end := plans.reply_end(bytearray(stream), start)) >= 0:
        found.append(end)
        start = end
    assert found == ends


@pytest.mark.plain
@pytest.mark.parametrize(
    ("stream", "ends"),
    [
        (b"\x16\x03\x03\x00\x02ab\x17\x03\x03\x00\x00\x17\x03\x03\x01\x00" + b"x" * 256, [7, 12, 273]),
        (b"\x17\x03\x03\x00\x02a", []),
        (b"\x17\x03\x03\x00", []),
    ],
)
def test_the_proxy_finds_the_ends_of_records(stream, ends):
    found = []
    start = 0
    while start < len(stream) and (end := records.record_end(bytearray(stream), start)) >= 0:
        found.append(end)
        start = end
    assert found == ends


@pytest.mark.plain
@pytest.mark.parametrize("fault", ["error-line", "garbage", "doubled", "absurd-length"])
def test_no_damaged_record_is_the_one_that_was_sent(fault):
    plan = records.RecordPlan(fault, 1, 1, 0.25, [None] * 50)
    record = b"\x17\x03\x03\x00\x06record"
    assert all(list(plan.apply(record)) != [record] for _ in range(200))


def test_a_seed_replays_the_same_plan():
    def entries(seed):
        plan = plans.Plan("garbage", seed, 0.5, 0.25, [None] * 50)
        return [plan.apply(b"VALUE key1 0 5\r\nvalue\r\nEND\r\n") for _ in range(100)]

    assert entries("1:1") == entries("1:1")
    assert entries("1:1") != entries("1:2")
