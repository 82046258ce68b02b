"""gunicorn with preload_app: workers inherit a client in use, and nobody sees another process's bytes."""

import http.client
import json
import os
import signal
import sys
import time

import pytest

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.slow]
WORKERS = 4


@pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent"])
def test_parent_and_workers_see_their_own_values_only(
    worker_class, server, environment, start_program, in_threads, tmp_path, apps
):
    report_file = tmp_path / "report.json"
    environment.update(MEMCACHED=server.address, PARENT_REPORT=str(report_file))
    gunicorn = start_program(
        *(sys.executable, "-m", "gunicorn", "--chdir", apps, "--config", apps / "gunicorn_conf.py"),
        *("--bind", "127.0.0.1:0", "--workers", WORKERS, "--worker-class", worker_class),
        *("--threads", 3 if worker_class == "gthread" else 1, "--graceful-timeout", 5, "--worker-tmp-dir", tmp_path),
    )
    port = int(gunicorn.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)").group(1))
    for _ in range(WORKERS):
        gunicorn.wait_for("Booting worker")

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/", headers={"Connection": "close"})
        response = connection.getresponse()
        assert response.status == 200
        answer = json.loads(response.read())
        connection.close()
        assert answer["wrong"] == []
        return answer["pid"]

    def user(number):
        return {ask() for _ in range(25)}

    first = set().union(*in_threads(8, user))
    assert len(first) > 1, "only one worker was asked"

    # A worker dies; the parent, whose thread is in the middle of calls, forks another one.
    for pid in list(first)[:2]:
        os.kill(pid, signal.SIGKILL)
        gunicorn.wait_for("Booting worker")
    give_up = time.monotonic() + 30
    second = set()
    while not second - first:
        assert time.monotonic() < give_up, "the new workers were never asked"
        second |= set().union(*in_threads(4, lambda number: {ask()}))

    assert gunicorn.stop() == 0, gunicorn.output
    report = json.loads(report_file.read_text())
    assert report["wrong"] == []
    assert report["forks"] >= WORKERS + 2
    assert report["calls"] > 50
