"""oslo.cache's pool in a monkey-patched eventlet program, where it makes its clients by object.__new__(cls).

Argument: address. Prints JSON: what was wrong, and how many clients the pool made.
"""

import json
import sys
import warnings

import eventlet

eventlet.monkey_patch()
warnings.simplefilter("ignore")  # both projects deprecate the combination, which still runs

from oslo_cache._memcache_pool import MemcacheClientPool  # noqa: E402

pool = MemcacheClientPool([sys.argv[1]], {"socket_timeout": 3}, maxsize=5, unused_timeout=60, conn_get_timeout=30)
wrong = []
clients = set()


def user(number):
    for turn in range(30):
        key = f"{number}-{turn}"
        with pool.acquire() as client:
            clients.add(id(client))
            if client.set(key, {"key": key}) is not True or client.get(key) != {"key": key}:
                wrong.append(key)


for greenlet in [eventlet.spawn(user, number) for number in range(20)]:
    greenlet.wait()
print(json.dumps({"wrong": wrong, "clients": len(clients)}))
