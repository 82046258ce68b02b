"""The token that stands for an item that is not there."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

__all__ = ["ABSENT", "Absent"]


class Absent:
    """The type of mcext.ABSENT, which is false."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "mcext.ABSENT"

    def __reduce__(self) -> str:  # there is one of it in each process
        return "ABSENT"

    def __bool__(self) -> Literal[False]:
        return False


ABSENT = Absent()
"""`cache.set(key, value, cas=ABSENT)`: only where there is no value; what update() gives its function then."""
