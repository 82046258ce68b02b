"""update: a new value made from the old one, stored by its token."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from mcext import steps
from mcext.errors import ConflictError, MemcacheError
from mcext.tokens import ABSENT

if TYPE_CHECKING:
    from mcext.steps import Primitives, Steps

__all__ = ["update", "updating"]

_CONFLICT_WAIT = 0.002  # seconds at most before it is tried again, times the number of the try


def update(cache: Primitives, key: Any, function: Any, ttl: Any, retries: Any) -> Any:
    """See Cache.update."""
    return steps.run(updating(cache, key, function, ttl, retries, lambda seconds: time.sleep(seconds)))


def updating(
    cache: Primitives, key: Any, function: Any, ttl: Any, retries: Any, sleep: Callable[[float], Any]
) -> Steps[Any]:
    """The steps of an update."""
    if isinstance(retries, bool) or not isinstance(retries, int):
        raise TypeError(f"retries must be an int, not {type(retries).__name__}")
    if retries < 0:
        raise ValueError(f"retries must be 0 or more, not {retries}")
    if not callable(function):
        raise TypeError(f"function must be callable, not {type(function).__name__}")
    for attempt in range(retries + 1):
        if attempt:
            yield partial(sleep, random.uniform(0, _CONFLICT_WAIT * attempt))
        try:
            found = yield partial(cache._gets, key)
        except MemcacheError:
            if cache.errors == "raise":
                raise
            return None
        old, token, is_value = found if found is not None else (ABSENT, ABSENT, False)
        value = yield partial(function, old if is_value else ABSENT)
        try:
            if (yield partial(cache._swap, key, value, ttl, token)):
                return value
        except MemcacheError:  # what may have run is not tried again
            if cache.errors == "raise":
                raise
            return None
    if cache.errors == "raise":
        raise ConflictError(
            f"others were faster at each of {retries + 1} tries", server=cache.server_for(key), command="cas"
        )
    return None
