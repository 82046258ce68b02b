"""What the verbs print. Keys, values and the words of servers are others' text: no control character of theirs gets
to a terminal."""

from __future__ import annotations

import json
import sys
from typing import Any

__all__ = ["complain", "document", "escape", "field", "is_terminal", "say"]


def escape(text: str | bytes) -> str:
    """The text with all that is not printable (control characters, line ends, marks that turn the direction of
    writing, bytes that are no UTF-8) as \\x1b, \\u202e and the like."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of the command line
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def say(line: str) -> None:
    """Print a line, escaped."""
    print(escape(line))


def complain(line: str) -> None:
    """Say on stderr what went wrong, in one line, escaped."""
    print(f"mcext: {escape(line)}", file=sys.stderr)


def document(value: Any) -> None:
    """Print a value as a line of JSON; it is ASCII."""
    print(json.dumps(value))


def field(name: str, data: bytes) -> dict[str, str]:
    """Bytes as a field of a JSON object: text where they are UTF-8, else base64 under NAME_base64."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode

        return {f"{name}_base64": b64encode(data).decode()}


def is_terminal(stream: Any) -> bool:
    return stream is not None and not stream.closed and stream.isatty()
