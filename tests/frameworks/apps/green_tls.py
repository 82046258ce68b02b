"""TLS in a program of greenlets. Arguments: library, address, file of the authority, address of a silent server.

Prints one line of JSON: how many answers were wrong, and how often another greenlet ran while a handshake stalled.
"""

import json
import sys

library, address, authority, silent = sys.argv[1:]

if library == "gevent":
    import gevent.monkey

    gevent.monkey.patch_all()
    spawn, sleep = gevent.spawn, gevent.sleep

    def result(greenlet):
        return greenlet.get()
else:
    import eventlet

    eventlet.monkey_patch()
    spawn, sleep = eventlet.spawn, eventlet.sleep

    def result(greenlet):
        return greenlet.wait()


import ssl  # noqa: E402

import mcext  # noqa: E402

context = ssl.create_default_context(cafile=authority)
client = mcext.Client([address], tls_context=context, socket_timeout=60)
cache = mcext.Cache([address], tls_context=context, timeout=60)
large = b"v" * 300_000
wrong = []


def work(number):
    many = {f"{number}-{n}": b"v" * (n * 50 + 1) for n in range(100)}
    for _ in range(3):
        for store, found in (
            (client.set_multi(many), client.get_multi(list(many))),
            (cache.set_many(many), cache.get_many(list(many))),
        ):
            if store != [] or found != many:
                wrong.append(number)
        if not (client.set(f"{number}", large) and cache.get(f"{number}") == large):
            wrong.append(number)


for greenlet in [spawn(work, number) for number in range(10)]:
    result(greenlet)

ticks = 0
stalled = spawn(lambda: mcext.Client([silent], tls_context=context, socket_timeout=1).get("k"))
for _ in range(20):
    sleep(0.02)
    ticks += not stalled.dead
assert result(stalled) is None
refused = mcext.Cache([address], tls_context=ssl.create_default_context())
try:
    refused.get("k")
except mcext.ServerUnavailable as error:
    said = str(error)
print(json.dumps({"wrong": len(wrong), "ticks": ticks, "said": said}))
