"""A warning at the line of the application, whatever of mcext stands between."""

import sys
import warnings


def warn(text: str) -> None:
    """Issue a RuntimeWarning for the nearest caller outside of this package. Raises it where a filter says so."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "mcext":
        level, frame = level + 1, frame.f_back
    warnings.warn(text, RuntimeWarning, stacklevel=level)
