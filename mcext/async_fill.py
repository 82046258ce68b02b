"""What mcext.AsyncCache has of its own in the calls that are composed of several: who takes their steps, and flights.

The logic is Cache's (mcext.steps, mcext.fill, mcext.swap). The functions that a caller gives may be plain ones, or
return what can be awaited.

A caller that is cancelled gives its lease back, in what it still awaits, before the cancellation goes on; then one of
the others wins it by its next look. Nobody is cancelled because another is.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcext import fill, steps, swap

if TYPE_CHECKING:
    from typing import Protocol

    from mcext.steps import Primitives, R, Steps

    class AsyncPrimitives(Primitives, Protocol):
        def _flights_of_this_loop(self) -> dict[bytes, fill.Flight]: ...


__all__ = ["get_or_set_async", "invalidate_async", "run", "update_async"]


async def get_or_set_async(
    cache: AsyncPrimitives,
    key: str | bytes,
    factory: Any,
    ttl: Any = None,
    refresh: Any = None,
    lease: Any = None,
    wait: Any = None,
    stale: Any = None,
    fallback: Any = None,
) -> Any:
    """See AsyncCache.get_or_set. None stands for what is not given."""
    order = fill.Order(key, factory, ttl, refresh, lease, wait, stale, fallback)
    call = fill.Call(cache, order, cache._flights_of_this_loop(), _Flight)
    try:
        return await run(call.run(None))
    finally:
        call.land()


async def update_async(cache: Primitives, key: str | bytes, function: Any, ttl: Any = None, retries: Any = 16) -> Any:
    """See AsyncCache.update."""
    return await run(swap.updating(cache, key, function, ttl, retries, asyncio.sleep))


async def invalidate_async(cache: Primitives, key: str | bytes, stale: Any = None) -> bool:
    """See AsyncCache.invalidate."""
    return await run(fill.invalidating(cache, key, stale))


async def run(taken: Steps[R]) -> R:
    """mcext.steps.run, where what a step returns is awaited if it can be."""
    send, throw = taken.send, taken.throw  # as in steps.run
    go_on: Callable[[Any], Callable[[], Any]] = send
    answer: Any = None
    try:
        while True:
            try:
                answer = go_on(answer)()
                if inspect.isawaitable(answer):
                    answer = await answer
                go_on = send
            except GeneratorExit:  # this coroutine is closed: nothing can be awaited any more
                raise
            except BaseException as error:
                if steps.is_over(taken):
                    answer = error
                    break
                go_on, answer = throw, steps.carried(error)
        return steps.ended(answer)  # type: ignore[no-any-return]
    finally:
        del answer  # as in steps.ended


class _Flight:
    """One of this loop. It is a task that takes it.

    A factory that waits for a task of its own which asks for the same key is not noticed: whether it waits for it
    cannot be known, and one that it only started may wait as others do. Such a task waits for at most its `wait`.
    """

    __slots__ = ("computes", "done", "failed", "task")

    def __init__(self) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self.task = asyncio.current_task()
        self.computes = False
        self.failed = False

    def is_of_this_caller(self) -> bool:
        return self.task is not None and self.task is asyncio.current_task()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, seconds: float) -> None:
        """Until it has landed, or so long. It goes on where the caller that waits is cancelled."""
        await asyncio.wait([self.done], timeout=seconds)

    def land(self) -> None:
        if not self.done.get_loop().is_closed():
            self.done.set_result(None)
