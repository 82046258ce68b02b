"""gunicorn's configuration for preload.py: the parent goes on using the client that the workers inherit.

It calls in its main thread right before each fork, and without a pause in a second thread, also while it forks. What it
found wrong goes to the file $PARENT_REPORT when the server stops.
"""

import json
import os
import threading

wsgi_app = "preload:application"
preload_app = True
report = {"calls": 0, "wrong": [], "forks": 0}
stopping = threading.Event()
beside = []


def parent_calls(name, turns):
    import preload

    report["wrong"] += preload.check(name, turns)
    report["calls"] += turns


def when_ready(server):
    import preload

    report["wrong"] += preload.found_wrong_before_fork

    def body():
        while not stopping.is_set():
            parent_calls("thread", 5)

    beside.append(threading.Thread(target=body))
    beside[0].start()


def pre_fork(server, worker):
    report["forks"] += 1
    parent_calls("pre_fork", 5)


def on_exit(server):
    stopping.set()
    beside[0].join()
    with open(os.environ["PARENT_REPORT"], "w") as file:
        json.dump(report, file)
