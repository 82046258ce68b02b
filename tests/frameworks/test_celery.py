"""Celery's `cache+memcached://` result backend with real workers: processes that fork, threads, greenlets."""

import signal
import sys

import pytest

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.slow]


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet"])
def test_each_caller_gets_its_own_results(pool, server, environment, start_program, run_app, tmp_path, apps):
    (tmp_path / "messages").mkdir()
    environment.update(CELERY_FOLDER=str(tmp_path / "messages"), CELERY_MEMCACHED=server.address)
    worker = start_program(
        *(sys.executable, "-m", "celery", "--workdir", apps, "-A", "celery_app", "worker"),
        *("--pool", pool, "--concurrency", 3, "--loglevel", "INFO"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    )
    worker.wait_for(r"celery@\S+ ready")
    result = run_app("celery_driver.py")
    assert result["wrong"] == []
    assert result["worker"]["same"] and result["worker"]["file"] == result["here"]
    if pool == "prefork":
        assert result["pids"] > 1
    worker.stop(signal.SIGQUIT)
