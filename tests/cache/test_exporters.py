"""mcext.prometheus and mcext.otel, with the real packages.

They use three things of a cache: metrics(), on_event and slow. `cache` is an object that has these alone, so that a
test says which figures and which events there are.
"""

import collections
import subprocess
import sys
import time

import pytest

import mcext
from mcext import errors

pytestmark = pytest.mark.frameworks

SERVER, OTHER = "10.0.0.1:11211", "10.0.0.2:11311"
Event = collections.namedtuple("Event", "kind command server keys seconds error may_have_run")


class Cache:
    def __init__(self):
        self.on_event = None
        self.slow = None
        self.servers = {}

    def metrics(self, reset=False):
        assert not reset, "others may read them, too"
        return {**counted(), "servers": self.servers}

    def call(self, command="get", server=SERVER, keys=1, seconds=0.001, error=None):
        """What a cache does at the end of a call."""
        is_slow = self.slow is not None and seconds >= self.slow
        if self.on_event is not None and (error is not None or is_slow):
            kind = "slow" if error is None else "error"
            self.on_event(Event(kind, command, server, keys, seconds, error, error is not None and error.may_have_run))

    def happens(self, kind, error=None):
        """What it does when it connects, or marks a server dead."""
        if self.on_event is not None:
            self.on_event(Event(kind, None, SERVER, 0, 0.002, error, False))


@pytest.fixture
def cache():
    return Cache()


NAMES = (
    *("keys", "hits", "misses", "stored", "bytes_in", "bytes_out", "connects", "retries", "timeouts", "lost"),
    *("dead_marks", "fills_won", "fills_lost", "fills_waited"),
)


def counted(first=0, calls=(), durations=()):
    """The figures of a server: keys are first, hits first + 1 and so on; durations by their bucket."""
    figures = {name: first + number for number, name in enumerate(NAMES)}
    return {**figures, "calls": dict(calls), "durations": [dict(durations).get(bucket, 0) for bucket in range(24)]}


# ---- Prometheus ---------------------------------------------------------------------------------------------------


def scraped(*caches):
    """What Prometheus reads of the caches: the value of each sample, by its name and labels."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.parser import text_string_to_metric_families

    from mcext.prometheus import Collector

    registry = CollectorRegistry()
    registry.register(Collector(*caches))
    samples = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        assert family.documentation
        for sample in family.samples:
            identity = (sample.name, sample.labels.pop("server"), *sample.labels.values())
            assert identity not in samples
            samples[identity] = sample.value
    return samples


def test_each_counter_is_there_by_server(cache):
    cache.servers = {SERVER: counted(100, {"get": 7, "set": 2}), OTHER: counted(200, {"get": 5})}
    samples = scraped(cache)
    assert {key: value for key, value in samples.items() if key[0] == "mcext_calls_total"} == {
        ("mcext_calls_total", SERVER, "get"): 7,
        ("mcext_calls_total", SERVER, "set"): 2,
        ("mcext_calls_total", OTHER, "get"): 5,
    }
    names = {
        **{name: f"mcext_{name}_total" for name in NAMES[:11]},
        "bytes_in": "mcext_received_bytes_total",
        "bytes_out": "mcext_sent_bytes_total",
        "lost": "mcext_connections_lost_total",
    }
    for server, first in ((SERVER, 100), (OTHER, 200)):
        for name, theirs in names.items():
            assert samples[theirs, server] == first + NAMES.index(name), name
        for outcome in ("won", "lost", "waited"):
            assert samples["mcext_fills_total", server, outcome] == first + NAMES.index(f"fills_{outcome}")
    assert len(names) == 11


def test_durations_are_a_histogram_in_seconds(cache):
    cache.servers = {SERVER: counted(durations={0: 1, 1: 2, 10: 3, 22: 4, 23: 5})}
    buckets = {
        float(key[2]): value for key, value in scraped(cache).items() if key[0] == "mcext_call_duration_seconds_bucket"
    }
    assert len(buckets) == 24
    assert list(buckets) == sorted(buckets)
    expected = {1e-6: 1, 2e-6: 3, 4e-6: 3, 512e-6: 3, 1024e-6: 6, 2.097152: 6, 4.194304: 10, float("inf"): 15}
    assert {bound: buckets[bound] for bound in expected} == expected


def test_caches_on_one_server_are_added_up(cache):
    other = Cache()
    cache.servers = {SERVER: counted(100, {"get": 7}, {3: 1})}
    other.servers = {SERVER: counted(10, {"get": 2, "touch": 1}, {3: 1, 4: 1}), OTHER: counted(0)}
    samples = scraped(cache, other)
    assert samples["mcext_keys_total", SERVER] == 110
    assert samples["mcext_fills_total", SERVER, "won"] == 110 + 2 * NAMES.index("fills_won")
    assert samples["mcext_calls_total", SERVER, "get"] == 9
    assert samples["mcext_calls_total", SERVER, "touch"] == 1
    assert samples["mcext_call_duration_seconds_bucket", SERVER, "+Inf"] == 3
    assert samples["mcext_keys_total", OTHER] == 0


def test_a_scrape_reads_what_stands_there_then(cache):
    from prometheus_client import CollectorRegistry

    from mcext.prometheus import Collector

    registry = CollectorRegistry()
    registry.register(Collector(cache))
    for number in (5, 9):
        cache.servers = {SERVER: counted(number)}
        assert registry.get_sample_value("mcext_keys_total", {"server": SERVER}) == number


def test_a_cache_without_servers_has_no_samples(cache):
    assert scraped(cache) == scraped() == {}


# ---- OpenTelemetry ------------------------------------------------------------------------------------------------


@pytest.fixture
def traces():
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    exporter.provider = provider
    yield exporter
    provider.shutdown()


def instrument(cache, traces, *spans):
    from mcext import otel

    otel.instrument(cache, *spans, tracer_provider=traces.provider)


def names(traces):
    return [span.name for span in traces.get_finished_spans()]


def test_a_failed_call_has_a_span_with_the_stable_names(cache, traces):
    from opentelemetry.trace import SpanKind, StatusCode

    instrument(cache, traces)
    before = time.time_ns()
    cache.call("get", keys=3, seconds=0.25, error=errors.ServerTimeout("no answer to the-key", server=SERVER))
    (span,) = traces.get_finished_spans()
    assert dict(span.attributes) == {
        "db.system.name": "memcached",
        "db.operation.name": "get",
        "db.operation.batch.size": 3,
        "server.address": "10.0.0.1",
        "server.port": 11211,
        "error.type": "mcext.errors.ServerTimeout",
    }
    assert (span.name, span.kind, span.status.status_code) == ("get", SpanKind.CLIENT, StatusCode.ERROR)
    assert span.end_time - span.start_time == 250_000_000
    assert before <= span.end_time <= time.time_ns()
    assert span.instrumentation_scope.name == "mcext"
    assert "the-key" not in span.to_json()


def test_a_span_of_one_key_without_an_error_has_no_more_than_it_needs(cache, traces):
    from opentelemetry.trace import StatusCode

    instrument(cache, traces, "all")
    cache.call("set", server=None)
    (span,) = traces.get_finished_spans()
    assert dict(span.attributes) == {"db.system.name": "memcached", "db.operation.name": "set"}
    assert span.status.status_code == StatusCode.UNSET


def test_the_names_are_those_of_the_semantic_conventions(cache, traces):
    from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes

    instrument(cache, traces)
    cache.call(keys=2, error=errors.ConnectionLost("gone"))
    (span,) = traces.get_finished_spans()
    known = {
        value
        for module in (db_attributes, error_attributes, server_attributes)
        for name, value in vars(module).items()
        if name.isupper()
    }
    assert set(span.attributes) <= known
    assert span.attributes["db.operation.batch.size"] == 2


def happenings(cache):
    cache.call("fast", seconds=0.001)
    cache.call("slow", seconds=0.5)
    cache.call("failed", error=errors.ServerError("no"))
    cache.happens("connect")
    cache.happens("dead", errors.ServerUnavailable("no"))


@pytest.mark.parametrize(
    ("spans", "expected"),
    [("errors", ["failed"]), ("slow", ["slow", "failed"]), ("all", ["fast", "slow", "failed"])],
)
def test_spans_are_made_of_the_calls_that_were_asked_for(cache, traces, spans, expected):
    cache.slow = 0.1
    instrument(cache, traces, spans)
    happenings(cache)
    assert names(traces) == expected


@pytest.mark.parametrize(
    ("spans", "slow"), [("errors", 0.1), ("slow", 0.1), ("all", 0.1), ("errors", None), ("all", None)]
)
def test_a_hook_from_before_gets_what_it_got_before(cache, traces, spans, slow):
    cache.slow = slow
    before, after = [], []
    cache.on_event = lambda event: before.append(event[:5])
    happenings(cache)
    cache.on_event = lambda event: after.append(event[:5])
    instrument(cache, traces, spans)
    happenings(cache)
    assert after == before
    assert len(before) == 3 + (slow is not None)


def test_a_hook_from_before_is_called_also_where_no_span_can_be_made(cache, traces):
    seen = []
    cache.on_event = seen.append
    instrument(cache, traces)
    with pytest.raises(TypeError):
        cache.on_event(Event("error", "get", SERVER, None, 0.1, None, False))
    assert len(seen) == 1


def test_a_span_belongs_to_the_one_it_was_called_in(cache, traces):
    instrument(cache, traces)
    with traces.provider.get_tracer("application").start_as_current_span("request") as request:
        cache.call(error=errors.ServerError("no"))
    span = traces.get_finished_spans()[0]
    assert span.parent.span_id == request.get_span_context().span_id


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("cache.example:11311", "cache.example", 11311),
        ("cache.example", "cache.example", 11211),
        ("inet:10.0.0.1:1", "10.0.0.1", 1),
        ("inet6:[::1]:11311", "::1", 11311),
        ("[fe80::1%eth0]:11311", "fe80::1%eth0", 11311),
        ("[::1]", "::1", 11211),
        ("inet6:::1", "::1", 11211),
        ("unix:/run/memcached.sock", "/run/memcached.sock", None),
    ],
)
def test_all_kinds_of_addresses_are_taken_apart(cache, traces, address, host, port):
    instrument(cache, traces)
    cache.call(server=address, error=errors.ServerError("no"))
    attributes = traces.get_finished_spans()[0].attributes
    assert (attributes["server.address"], attributes.get("server.port")) == (host, port)


def test_what_cannot_be_instrumented_is_refused_and_left_as_it_was(cache, traces):
    with pytest.raises(ValueError, match="spans: 'errors', 'slow' or 'all', not 'some'"):
        instrument(cache, traces, "some")
    with pytest.raises(ValueError, match="spans: 'slow' needs a cache with `slow`"):
        instrument(cache, traces, "slow")
    assert (cache.on_event, cache.slow) == (None, None)
    instrument(cache, traces)
    with pytest.raises(RuntimeError, match="instrumented already"):
        instrument(cache, traces, "all")
    assert cache.slow is None
    cache.call(error=errors.ServerError("no"))
    assert len(names(traces)) == 1


def test_the_global_provider_is_taken_where_none_is_given(cache):
    """In a process of its own: it can be set once."""
    program = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
import sys
sys.path.insert(0, sys.argv[1])
from test_exporters import Cache, errors
from mcext import otel
cache = Cache()
otel.instrument(cache)
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name)))
trace.set_tracer_provider(provider)
cache.call("incr", error=errors.ServerError("no"))
"""
    here = __file__.rpartition("/")[0]
    done = subprocess.run([sys.executable, "-c", program, here], capture_output=True, text=True, check=True)
    assert done.stdout == "incr"


@pytest.mark.parametrize("spans, expected", [("errors", []), ("all", ["set", "get"])])
def test_a_real_cache_has_the_spans_that_were_asked_for(memcached, traces, spans, expected):
    with mcext.Cache([memcached.address]) as cache:
        instrument(cache, traces, spans)
        assert cache.set("a", 1) is True
        assert cache.get("a") == 1
    assert [span.attributes["db.operation.name"] for span in traces.get_finished_spans()] == expected
