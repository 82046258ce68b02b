"""What ends a verb with exit status 2."""

from __future__ import annotations

__all__ = ["Wrong"]


class Wrong(Exception):
    """The command was used in a wrong way, or something that it needs is not installed. Its text is one line."""
