"""Ask a running worker of celery_app for results, from several threads; print JSON: what was wrong."""

import json
import threading

from celery_app import app, chord, echo, fail, group, keys_of, where

import memcache

WAIT = {"timeout": 40, "interval": 0.02}  # seconds, for one result
assert isinstance(app.backend.client, memcache.Client), app.backend.client
wrong = []
pids = set()


def user(number):
    for turn in range(4):
        keys = [f"{number}-{turn}-{step}" for step in range(4)]
        results = group(echo.s(key, 500 * step) for step, key in enumerate(keys)).apply_async().get(**WAIT)
        for step, (key, result) in enumerate(zip(keys, results, strict=True)):
            pids.add(result.pop("pid"))
            if result != {"key": key, "filler": key[0] * 500 * step}:
                wrong.append([key, result])
    broken = fail.delay(f"failure-{number}")
    try:
        wrong.append(["no failure", broken.get(**WAIT)])
    except LookupError as failure:
        if failure.args != (f"failure-{number}",):
            wrong.append(["another's failure", repr(failure)])
    one = echo.delay(f"forgotten-{number}")
    one.get(**WAIT)
    one.forget()
    if app.AsyncResult(one.id).state != "PENDING":
        wrong.append(["not forgotten", number])


def run(target, number):
    try:
        target(number)
    except Exception as failure:
        wrong.append(["exception", repr(failure)])


threads = [threading.Thread(target=run, args=(user, number)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

# The counter of a chord is the server's; its parts are fetched with get_multi.
parts = [f"part-{number}" for number in range(12)]
joined = chord([echo.s(part) for part in parts], keys_of.s()).apply_async().get(**WAIT)
if joined != parts:
    wrong.append(["chord", joined])

print(json.dumps({"wrong": wrong, "pids": len(pids), "worker": where.delay().get(**WAIT), "here": memcache.__file__}))
