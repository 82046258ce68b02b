"""What a page's cache costs in Django, by the backend: python benchmarks/run.py django

A page is a request through Django's WSGI handler whose view does GETS gets, one after another, and is measured in the
view; what a backend does at the end of a request (some close their connections) is in it by what the next page's gets
take. The awaited rows do the same in a view for asyncio, with aget. Each backend is a process of its own on the
memcached's core; they take turns, page by page, in another order each time. Figures are medians over all pages.

Run with a backend's name and an address it is that process.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

GETS = 20
PAGES = 400
WARM = 20
BACKENDS = {
    "mcext": "mcext.django.MemcachedCache",
    "pymemcache": "django.core.cache.backends.memcached.PyMemcacheCache",
    "pylibmc": "django.core.cache.backends.memcached.PyLibMCCache",
}
VALUE = {"title": "A page", "tags": ["a", "b", "c"], "price": 12.5, "stock": 7}
COLUMNS = ["backend", "a page, µs", "quartiles", "times mcext's"]


# ---- the process of a backend --------------------------------------------------------------------------------------


def serve(name: str, address: str) -> None:
    import asyncio

    import django
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["*"],
        CACHES={"default": {"BACKEND": BACKENDS[name], "LOCATION": address}},
        MIDDLEWARE=[],
        ROOT_URLCONF=type("urls", (), {"urlpatterns": []}),
        SECRET_KEY="of a benchmark",
    )
    django.setup()
    from django.core.cache import cache
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.test import AsyncRequestFactory, RequestFactory
    from django.urls import path

    keys = [f"fragment-{number}" for number in range(GETS)]
    cache.set_many(dict.fromkeys(keys, VALUE))
    taken: list[int] = []

    def called(request: Any) -> Any:
        begun = time.perf_counter_ns()
        found = [cache.get(key) for key in keys]
        taken.append(time.perf_counter_ns() - begun)
        assert found == [VALUE] * GETS
        return HttpResponse("done")

    async def awaited(request: Any) -> Any:
        begun = time.perf_counter_ns()
        found = [await cache.aget(key) for key in keys]
        taken.append(time.perf_counter_ns() - begun)
        assert found == [VALUE] * GETS
        return HttpResponse("done")

    settings.ROOT_URLCONF.urlpatterns = [path("called", called), path("awaited", awaited)]
    wsgi, asgi = WSGIHandler(), ASGIHandler()
    loop = asyncio.new_event_loop()

    async def request_awaited() -> None:
        sent: list[Any] = []
        scope = AsyncRequestFactory().get("/awaited").scope
        requests = iter([{"type": "http.request", "body": b""}])

        async def receive() -> Any:
            for each in requests:
                return each
            await asyncio.sleep(3600)

        async def send(message: Any) -> None:
            sent.append(message)

        await asgi(scope, receive, send)
        assert sent[0]["status"] == 200, sent

    for line in sys.stdin:
        if line == "called\n":
            response = wsgi(RequestFactory().get("/called").environ, lambda status, headers: None)
            response.close()  # the request's end, as a server says it
            assert response.status_code == 200
        else:
            loop.run_until_complete(request_awaited())
        print(json.dumps(taken.pop()), flush=True)


# ---- all of them ---------------------------------------------------------------------------------------------------


def measure(progress: Any, missing: dict[str, str], core: int) -> list[dict[str, Any]]:
    """A table for what is called, and one for what is awaited."""
    from environment import BUILD, ROOT, Worker, install, pin, servers

    try:
        django = str(install("Django"))
    except RuntimeError as error:
        missing["django"] = str(error)
        return []
    paths = {name: [django, str(ROOT), *([] if name == "mcext" else [str(install(name))])] for name in BACKENDS}
    pin(core)
    tables = []
    with servers(1, False) as (address,):
        workers = {
            name: Worker(
                [sys.executable, str(Path(__file__).resolve()), name, address],
                {**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            )
            for name, path in paths.items()
        }
        for how in ("called", "awaited"):
            taken: dict[str, list[float]] = {name: [] for name in workers}
            for page in range(WARM + PAGES):
                if page % 50 == 0:
                    progress(f"Django, {how}: page {page}")
                for name in random.sample(list(workers), len(workers)):
                    microseconds = json.loads(workers[name].ask(how)) / 1000
                    if page >= WARM:
                        taken[name].append(microseconds)
            tables.append(_table(how, taken))
        for worker in workers.values():
            worker.close()
    BUILD.mkdir(parents=True, exist_ok=True)
    return tables


def _table(how: str, taken: dict[str, list[float]]) -> dict[str, Any]:
    rows = []
    ours = statistics.median(taken["mcext"])
    for name, figures in taken.items():
        low, median, high = statistics.quantiles(figures, n=4)
        rows.append([name, f"{median:,.0f}", f"{low:,.0f}–{high:,.0f}", f"{median / ours:.2f}"])
    title = f"The cache of a page with {GETS} gets in Django, {how}: {PAGES} pages"
    return {"title": title, "columns": COLUMNS, "rows": rows}


if __name__ == "__main__":
    serve(*sys.argv[1:])
