"""Calls by deferToThread under load, in a reactor that must keep ticking. Arguments: address, calls, stalled address.

Prints JSON: wrong values, failures, how often the reactor ticked while a call waited for a server that never answers,
and what that call returned.
"""

import json
import sys
import time

from twisted.internet import defer, reactor, task
from twisted.internet.threads import deferToThread

import memcache

TICK = 0.01
AT_A_TIME = 50


class Ticker:
    def __init__(self):
        self.ticks = 0
        self._loop = task.LoopingCall(self._tick)

    def _tick(self):
        self.ticks += 1

    def __enter__(self):
        self._loop.start(TICK)
        return self

    def __exit__(self, *_):
        self._loop.stop()


@defer.inlineCallbacks
def load(client, worker, calls, result):
    for number in range(calls):
        key = f"key-{worker}-{number}"
        value = {"key": key, "filler": "x" * (number % 7) * 500}
        try:
            stored = yield deferToThread(client.set, key, value)
            answer = yield deferToThread(client.get, key)
            many = yield deferToThread(client.get_multi, [key, f"missing-{key}"])
        except Exception as failure:
            result["failures"].append(repr(failure))
            continue
        if not stored or answer != value or many != {key: value}:
            result["wrong"].append([key, repr(stored), repr(answer)[:100], repr(many)[:100]])


@defer.inlineCallbacks
def main(address, calls, stalled):
    result = {"wrong": [], "failures": []}
    client = memcache.Client([address])
    yield defer.gatherResults([load(client, worker, calls, result) for worker in range(AT_A_TIME)])

    waiting = memcache.Client([stalled], socket_timeout=2.0)
    started = time.monotonic()
    with Ticker() as ticker:
        result["stalled get"] = yield deferToThread(waiting.get, "key", "the default")
    result["stalled for"] = time.monotonic() - started
    result["ticks"] = ticker.ticks
    client.disconnect_all()
    return result


@defer.inlineCallbacks
def run():
    address, calls, stalled = sys.argv[1:]
    reactor.suggestThreadPoolSize(20)
    result = yield main(address, int(calls), stalled)
    print(json.dumps(result))


task.react(lambda _: run())
