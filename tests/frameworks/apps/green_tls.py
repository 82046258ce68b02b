"""TLS in a program of greenlets. Arguments: library, order, file of the authority, the time of the calls whose server
drips, and JSON of addresses.

The order is "patched" (everything is monkey-patched) or "assigned" (nothing is: memcache.socket is set to the library's
socket module). Prints one line of JSON: what it saw.
"""

import json
import sys
import time

library, order, authority, limit, addresses = sys.argv[1:]
limit, addresses = float(limit), json.loads(addresses)

if library == "gevent":
    import gevent.monkey
    import gevent.socket as green_socket

    if order == "patched":
        gevent.monkey.patch_all()
    spawn, sleep = gevent.spawn, gevent.sleep

    def result(greenlet):
        return greenlet.get()
else:
    import eventlet
    import eventlet.green.socket as green_socket

    if order == "patched":
        eventlet.monkey_patch()
    spawn, sleep = eventlet.spawn, eventlet.sleep

    def result(greenlet):
        return greenlet.wait()


import ssl  # noqa: E402

import mcext  # noqa: E402
import memcache  # noqa: E402

if order == "assigned":
    memcache.socket = green_socket

context = ssl.create_default_context(cafile=authority)
seen = {}


def cache_of(name, **options):
    return mcext.Cache([addresses[name]], **{"tls_context": context, "timeout": 60, **options})


# ---- many calls

client = mcext.Client([addresses["server"]], tls_context=context, socket_timeout=60)
cache = cache_of("server")
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
seen["wrong"] = len(wrong)


# ---- handshakes

seen["ticks"] = 0
stalled = spawn(lambda: mcext.Client([addresses["silent"]], tls_context=context, socket_timeout=3).get("k"))
for _ in range(20):
    sleep(0.02)
    seen["ticks"] += not stalled.dead
assert result(stalled) is None

refused = cache_of("server", tls_context=ssl.create_default_context())
try:
    refused.get("k")
except mcext.ServerUnavailable as error:
    seen["said"] = str(error)

held = cache_of("silent", connect_timeout=1)
for _ in range(2):
    killed = [spawn(held.get, "k") for _ in range(4)]
    sleep(0.1)
    for greenlet in killed:
        greenlet.kill()
    sleep(0.01)
try:
    held.get("k")
except mcext.ServerTimeout as error:
    seen["said after kills"] = str(error)

again = cache_of("again")
for _ in range(3):
    assert again.get("k") == bytes(1000)
    again.close()

seen["unavailable"] = 0
for _ in range(50):
    try:
        cache_of("strict").get("k")
    except mcext.ServerUnavailable:
        seen["unavailable"] += 1

crowded = cache_of("crowded")
crowd = [spawn(crowded.get, f"k{n}") for n in range(12)]
seen["ticks_of_the_crowd"] = 0
while not all(each.dead for each in crowd):
    sleep(0.02)
    seen["ticks_of_the_crowd"] += 1
seen["crowd"] = sum(result(each) == bytes(1000) for each in crowd)


# ---- a server that drips


def time_of(dripping):
    began = time.monotonic()
    try:
        raise AssertionError(dripping.get("slow"))
    except mcext.ServerTimeout:
        return time.monotonic() - began


seen["handshake"] = time_of(cache_of("drips at once", timeout=limit))
dripping = cache_of("drips later", timeout=limit, connect_timeout=60)
assert dripping.get("k") == bytes(1000)
seen["reply"] = time_of(dripping)
print(json.dumps(seen))
