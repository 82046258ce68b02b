"""A WSGI application whose client is made and used before the workers are forked (gunicorn_conf.py).

Every value carries its key and the process that wrote it; a request answers what the worker found wrong.
"""

import json
import os
import threading

import memcache

client = memcache.Client([os.environ["MEMCACHED"]])


def check(name, turns):
    """Write and read under keys of this process and thread; return what was not as written."""
    wrong = []
    for turn in range(turns):
        keys = [f"{name}-{os.getpid()}-{turn % 10}-{step}" for step in range(3)]
        values = {key: {"key": key, "pid": os.getpid(), "turn": turn} for key in keys}
        for key, value in values.items():
            if client.set(key, value) is not True:
                wrong.append([key, "not stored"])
        for key, value in values.items():
            found = client.get(key)
            if found != value:
                wrong.append([key, repr(found)])
        found = client.get_multi(keys)
        if found != values:
            wrong.append([keys, repr(found)])
        counter = f"counter-{keys[0]}"
        client.set(counter, turn)
        if client.incr(counter) != turn + 1:
            wrong.append([counter, "not counted"])
    return wrong


found_wrong_before_fork = check("preload", 20)


def application(environ, start_response):
    wrong = check(f"request-{threading.get_ident()}", 5)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "wrong": wrong}).encode()]
