"""The tests that `make tls` leaves out, by the reason."""

from pathlib import Path

# A file's name, or with :: the beginning of a test's name in it.
REASONS = {}


def reason_for(item):
    """Why this test is not run over TLS, or None."""
    file = Path(item.fspath).name
    for reason, names in REASONS.items():
        for name in names:
            if name == file or ("::" in name and f"{file}::{item.name}".startswith(name)):
                return reason
    return None
