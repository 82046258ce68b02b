"""Calls that are composed of several: one logic for mcext.Cache, which blocks, and mcext.AsyncCache, which awaits.

Such a call is a generator of steps. It yields what is to be done next, something to be called without arguments: what
asks a server, sleeps, waits for another caller, or is a function of the user's. It is sent what that returned, and what
that raised is raised at its yield. Here is who takes the steps of mcext.Cache; in mcext.async_fill who takes those of
mcext.AsyncCache.

GeneratorExit at a yield says that nobody takes steps any more: there is no cleaning up then that takes one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Protocol, TypeVar

    R = TypeVar("R")
    Steps = Generator[Callable[[], Any], Any, R]

    class Primitives(Protocol):
        """What the steps ask of a cache: the names are Cache's; of AsyncCache what asks a server is awaitable."""

        on_event: Callable[[Any], object] | None
        _leases: dict[bytes, tuple[int, float]]

        @property
        def errors(self) -> str: ...
        def server_for(self, key: Any, /) -> str | None: ...
        def _count_fill(self, key: Any, which: int, /) -> None: ...

        def set(self, key: Any, value: Any, ttl: Any = None, *, cas: Any = None) -> Any: ...
        def add(self, key: Any, value: Any, ttl: Any = None) -> Any: ...
        def delete(self, key: Any) -> Any: ...
        def _look(self, key: Any, lease: int, refresh: int, /) -> Any: ...
        def _release(self, key: Any, token: int, has_value: bool, /) -> Any: ...
        def _gets(self, key: Any, /) -> Any: ...
        def _swap(self, key: Any, value: Any, ttl: Any, cas: Any, /) -> Any: ...
        def _invalidate(self, key: Any, seconds: int, /) -> Any: ...
        def _add_beside(self, key: Any, suffix: bytes, seconds: int, /) -> Any: ...
        def _delete_beside(self, key: Any, suffix: bytes, /) -> Any: ...


__all__ = ["carried", "ended", "is_over", "original", "run"]


class _Carried(BaseException):
    """What a step raised, where that itself would mean something else to a generator."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def carried(error: BaseException) -> BaseException:
    """The error as it is raised at the yield."""
    return _Carried(error) if isinstance(error, (StopIteration, GeneratorExit)) else error


def original(error: BaseException) -> BaseException:
    """The error as the step raised it."""
    return error.error if isinstance(error, _Carried) else error


def is_over(steps: Steps[Any]) -> bool:
    """Whether the generator has returned or raised, and waits for no answer."""
    return steps.gi_frame is None  # type: ignore[attr-defined]


def ended(error: BaseException) -> Any:
    """What comes of steps that are over, by the exception that their generator ended with."""
    try:
        if isinstance(error, StopIteration):
            return error.value
        raise original(error)
    finally:
        del error  # which holds this frame


def run(steps: Steps[R]) -> R:
    """Take all steps, and return what the generator returns, or raise what it raises."""
    send, throw = steps.send, steps.throw  # here: what fails in between would be the step's own failure
    go_on: Callable[[Any], Callable[[], Any]] = send
    answer: Any = None
    try:
        while True:
            try:
                answer = go_on(answer)()
                go_on = send
            except BaseException as error:  # also what a signal handler raises between two steps
                if is_over(steps):
                    answer = error
                    break
                go_on, answer = throw, carried(error)
        return ended(answer)  # type: ignore[no-any-return]
    finally:
        del answer  # as in ended
