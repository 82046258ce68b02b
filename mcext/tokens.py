"""The token that stands for an item that is not there."""

from __future__ import annotations

__all__ = ["ABSENT"]


class _Absent:
    __slots__ = ()

    def __repr__(self) -> str:
        return "mcext.ABSENT"

    def __reduce__(self) -> str:  # there is one of it in each process
        return "ABSENT"

    def __bool__(self) -> bool:
        return False


ABSENT = _Absent()
"""`cache.set(key, value, cas=ABSENT)`: only where there is no value; what update() gives its function then."""
