"""Ask a running worker of celery_mcext for results, from several threads; print JSON: what was wrong."""

import json
import threading

from celery_app import chord, echo, fail, group, keys_of
from celery_mcext import app, backend

WAIT = {"timeout": 40, "interval": 0.02}  # seconds, for one result
wrong, pids = [], set()


def user(number):
    try:
        for turn in range(4):
            keys = [f"{number}-{turn}-{step}" for step in range(4)]
            results = group(echo.s(key, 500) for key in keys).apply_async().get(**WAIT)
            pids.update(result["pid"] for result in results)
            wrong.extend([turn, result] for key, result in zip(keys, results, strict=True) if result["key"] != key)
        parts = [f"{number}-{step}" for step in range(5)]
        joined = chord([echo.s(part) for part in parts], keys_of.s()).apply_async().get(**WAIT)
        if joined != parts:
            wrong.append(["chord", joined])
        one = echo.delay("forgotten")
        one.get(**WAIT)
        one.forget()
        if app.AsyncResult(one.id).state != "PENDING":
            wrong.append(["not forgotten", number])
    except Exception as failure:
        wrong.append(["exception", repr(failure)])


threads = [threading.Thread(target=user, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
failed = fail.delay("so it is").get(**WAIT, propagate=False)
print(json.dumps({"wrong": wrong, "pids": len(pids), "failed": repr(failed), "worker": backend.delay().get(**WAIT)}))
