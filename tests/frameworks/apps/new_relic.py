"""Calls with New Relic's agent applied: what they answer, and what the agent recorded.

Usage: new_relic.py ADDRESS
"""

import json
import sys

import newrelic.agent
from newrelic.api.datastore_trace import DatastoreTrace

with open("newrelic.ini", "w") as config:
    config.write("[newrelic]\nlicense_key = none\napp_name = test\ndeveloper_mode = true\nlog_level = critical\n")
newrelic.agent.initialize("newrelic.ini")

import memcache  # noqa: E402  (the agent instruments what is imported behind it)

recorded = []
create_node = DatastoreTrace.create_node


def note(trace):
    recorded.append([trace.operation, trace.host, trace.port_path_or_id])
    return create_node(trace)


DatastoreTrace.create_node = note


def calls(mc):
    return [
        mc.set("key", "text"),
        mc.get("key"),
        mc.get("missing", "default"),
        mc.set_multi({f"key{number}": number for number in range(20)}),
        mc.get_multi([f"key{number}" for number in range(20)]) == {f"key{number}": number for number in range(20)},
        [mc.get(f"key{number}") for number in range(20)] == list(range(20)),
        mc.add("key", 1),
        mc.replace("key", b"bytes"),
        mc.append("key", b"!"),
        mc.prepend("key", b"!"),
        mc.gets("key") == b"!bytes!",
        mc.cas("key", [1]),
        mc.incr("key1", 5),
        mc.decr("key1", 2),
        mc.delete("key"),
        mc.delete_multi(["key1", "key2"]),
        len(mc.get_stats()),
        mc.flush_all(),
    ]


client = memcache.Client([sys.argv[1]], cache_cas=True)
without = calls(client)
assert not recorded, "a call outside a transaction was recorded"
application = newrelic.agent.register_application(timeout=10)
with newrelic.agent.BackgroundTask(application, "calls"):
    within = calls(client)
print(json.dumps({"without": without, "within": within, "recorded": recorded}))
