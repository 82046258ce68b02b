"""--placement: NAME[:OPTION=VALUE,...] of a function of mcext.placement.

rendezvous
libmemcached:distribution=ketama,hash=md5
pylibmc:ketama=true,hash=md5
ketama                                      what pylibmc's {"ketama": True} and libmemcached's "ketama" are
"""

from __future__ import annotations

import inspect
from typing import Any

from mcext import placement
from mcext.cli.wrong import Wrong

__all__ = ["placement_of"]

_NAMES = [name for name in placement.__all__ if name != "Placement"]
_WORDS = {"true": True, "false": False, "none": None}


def placement_of(text: str) -> placement.Placement:
    """Raises Wrong for what is none."""
    if text == "ketama":
        text = "libmemcached:distribution=ketama"
    name, _, rest = text.partition(":")
    if name not in _NAMES:
        raise Wrong(f"--placement: there is no {name!r}, but {', '.join(['ketama', *_NAMES])}")
    options = dict(_option(one) for one in rest.split(",")) if rest else {}
    function = getattr(placement, name)
    try:
        if name == "pylibmc":
            made: placement.Placement = function(options)
        else:
            inspect.signature(function).bind(**options)
            made = function(**options)
    except (TypeError, ValueError) as error:
        raise Wrong(f"--placement {name}: {error}") from None
    return made


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Wrong(f"--placement: an option is NAME=VALUE, not {text!r}")
    return name, _WORDS.get(value.lower(), value)
