"""Spans of OpenTelemetry for the calls of mcext.Cache, by the package opentelemetry-api.

    from mcext import otel

    otel.instrument(cache)  # calls that failed
    otel.instrument(cache, spans="slow")  # and those slower than cache.slow
    otel.instrument(cache, spans="all")  # every call

A span is made when its call has ended, with the times of the call, so that calls without a span cost nothing more. The
names are the stable ones of the semantic conventions for databases. Keys are in no span, nor are the words of an error,
which may have a key in them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Protocol

from opentelemetry import trace

from mcext import __version__

__all__ = ["instrument"]

_KINDS = {"errors": {"error"}, "slow": {"error", "slow"}, "all": {"error", "slow"}}


class _Cache(Protocol):
    on_event: Any
    slow: float | None


def instrument(cache: _Cache, spans: str = "errors", *, tracer_provider: trace.TracerProvider | None = None) -> None:
    """Make spans of the calls of a cache from now on.

    spans: "errors", "slow" or "all". The last sets cache.slow to 0.
    tracer_provider: None is the global one.

    What cache.on_event was before is called after, for the events that it got before.
    """
    if spans not in _KINDS:
        raise ValueError(f"spans: 'errors', 'slow' or 'all', not {spans!r}")
    if spans == "slow" and cache.slow is None:
        raise ValueError("spans: 'slow' needs a cache with `slow`, the seconds from which on a call is")
    before: Callable[[Any], object] | None = cache.on_event
    if isinstance(before, _Hook):
        raise RuntimeError("instrument(): the cache is instrumented already")
    tracer = trace.get_tracer("mcext", __version__, tracer_provider)
    cache.on_event = _Hook(tracer, _KINDS[spans], before, cache.slow)
    if spans == "all":
        cache.slow = 0.0


class _Hook:
    """A cache's on_event."""

    def __init__(
        self, tracer: trace.Tracer, kinds: set[str], before: Callable[[Any], object] | None, slow: float | None
    ) -> None:
        self._tracer = tracer
        self._kinds = kinds
        self._before = before
        self._slow = slow  # seconds, before instrument() made every call an event

    def __call__(self, event: Any) -> None:
        try:
            if event.kind in self._kinds:
                self._make_span(event)
        finally:
            if self._before is not None and (event.kind != "slow" or self._was_slow(event.seconds)):
                self._before(event)

    def _was_slow(self, seconds: float) -> bool:
        return self._slow is not None and seconds >= self._slow

    def _make_span(self, event: Any) -> None:
        end = time.time_ns()
        name = event.command or "memcached"
        attributes: dict[str, str | int] = {"db.system.name": "memcached", "db.operation.name": name}
        attributes.update(_server(event.server))
        if event.keys > 1:
            attributes["db.operation.batch.size"] = event.keys
        if event.error is not None:
            kind = type(event.error)
            attributes["error.type"] = f"{kind.__module__}.{kind.__qualname__}"
        span = self._tracer.start_span(
            name,
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
            start_time=end - round(event.seconds * 1e9),
        )
        if event.error is not None:
            span.set_status(trace.StatusCode.ERROR)
        span.end(end_time=end)


def _server(address: str | None) -> dict[str, str | int]:
    """The attributes of a server, whose address is as the cache was given it."""
    if address is None:
        return {}
    if address.startswith("unix:"):
        return {"server.address": address.removeprefix("unix:")}
    host = re.sub("^inet6?:", "", address)
    found = re.fullmatch(r"\[(.*)\](?::(\d+))?|([^:]*)(?::(\d+))?", host)
    if found is None:  # an IPv6 address without brackets
        return {"server.address": host, "server.port": 11211}
    return {"server.address": found[1] or found[3], "server.port": int(found[2] or found[4] or 11211)}
