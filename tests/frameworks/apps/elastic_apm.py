"""Calls with Elastic APM's agent applied: what they answer, and what the agent recorded.

Usage: elastic_apm.py ADDRESS
"""

import json
import sys

import elasticapm

import memcache

recorded = []


class Agent(elasticapm.Client):
    def queue(self, event_type, data, flush=False):
        if event_type == "span":
            recorded.append([data["name"], data["context"]["destination"]["address"]])


elasticapm.instrument()
agent = Agent(
    service_name="test",
    transport_class="elasticapm.transport.base.Transport",
    metrics_interval="0ms",
    central_config=False,
    cloud_provider="none",
    span_compression_enabled=False,
    exit_span_min_duration="0ms",
)


def calls(mc):
    return [
        mc.set("key", "text"),
        mc.get("key"),
        mc.get("missing", "default"),
        mc.set_multi({f"key{number}": number for number in range(20)}),
        mc.get_multi([f"key{number}" for number in range(20)]) == {f"key{number}": number for number in range(20)},
        mc.touch("key", 100),
        mc.incr("key1", 5),
        mc.delete("key"),
        mc.delete_multi(["key1", "key2"]),
        len(mc.get_stats()),
        mc.flush_all(),
        mc.disconnect_all(),
    ]


client = memcache.Client([sys.argv[1]], cache_cas=True)
without = calls(client)
assert not recorded, "a call outside a transaction was recorded"
agent.begin_transaction("calls")
within = calls(client)
agent.end_transaction("calls")
agent.close()
print(json.dumps({"without": without, "within": within, "recorded": recorded}))
