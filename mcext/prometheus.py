"""The counters of mcext.Cache for Prometheus, by the package prometheus_client.

    from mcext.prometheus import Collector

    prometheus_client.REGISTRY.register(Collector(cache))

Caches count all the time; a scrape reads what they have counted. All figures are by server, and those of several caches
on one server are added up. `Cache.metrics(reset=True)` elsewhere makes the counters begin again, which Prometheus takes
for a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from prometheus_client import Metric
from prometheus_client import registry as _registry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

__all__ = ["Collector"]


class _Counting(Protocol):
    def metrics(self) -> Mapping[str, Any]: ...


# Our name of a counter, Prometheus's, and what it says.
_COUNTERS = [
    ("keys", "mcext_keys", "Keys asked for, in calls for one key or many."),
    ("hits", "mcext_hits", "Keys that were found."),
    ("misses", "mcext_misses", "Keys that were not found."),
    ("stored", "mcext_stored", "Values that the server took."),
    ("bytes_in", "mcext_received_bytes", "Bytes read from the server."),
    ("bytes_out", "mcext_sent_bytes", "Bytes sent to the server."),
    ("connects", "mcext_connects", "Connections made."),
    ("retries", "mcext_retries", "Calls sent once more, on a new connection."),
    ("timeouts", "mcext_timeouts", "Calls that were not answered in time."),
    ("lost", "mcext_connections_lost", "Connections that ended in the middle of a call."),
    ("dead_marks", "mcext_dead_marks", "How often the server was marked dead."),
]
_FILLS = ["won", "lost", "waited"]


class Collector(_registry.Collector):
    """What the caches have counted, as the metrics of a prometheus_client registry."""

    def __init__(self, *caches: _Counting) -> None:
        self._caches = caches

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now; called at each scrape."""
        servers = self._by_server()
        calls = CounterMetricFamily("mcext_calls", "Calls, by command.", labels=["server", "command"])
        for server, counted in servers.items():
            for command, number in _sum_by_name(one["calls"] for one in counted).items():
                calls.add_metric([server, command], number)
        yield calls
        for key, name, text in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=["server"])
            for server, counted in servers.items():
                counter.add_metric([server], sum(one[key] for one in counted))
            yield counter
        fills = CounterMetricFamily(
            "mcext_fills", "Values that get_or_set computed, or waited for.", labels=["server", "outcome"]
        )
        for server, counted in servers.items():
            for outcome in _FILLS:
                fills.add_metric([server, outcome], sum(one[f"fills_{outcome}"] for one in counted))
        yield fills
        # The sum of all durations is not counted.
        durations = HistogramMetricFamily("mcext_call_duration_seconds", "How long calls took.", labels=["server"])
        for server, counted in servers.items():
            durations.add_metric([server], _cumulated([one["durations"] for one in counted]), None)
        yield durations

    def _by_server(self) -> dict[str, list[dict[str, Any]]]:
        servers: dict[str, list[dict[str, Any]]] = {}
        for cache in self._caches:
            for server, counted in cache.metrics()["servers"].items():
                servers.setdefault(server, []).append(counted)
        return servers


def _sum_by_name(counted: Iterator[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for numbers in counted:
        for name, number in numbers.items():
            total[name] = total.get(name, 0) + number
    return total


def _cumulated(durations: list[list[int]]) -> list[tuple[str, float]]:
    """Prometheus's buckets, each of which has those before in it; the bounds are powers of two of microseconds."""
    bounds = [repr(2**power / 1e6) for power in range(len(durations[0]) - 1)]
    buckets, total = [], 0
    for bound, numbers in zip([*bounds, "+Inf"], zip(*durations)):
        total += sum(numbers)
        buckets.append((bound, float(total)))
    return buckets
