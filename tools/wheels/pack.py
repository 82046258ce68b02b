"""A wheel: its names in order, one time, two modes, so that the same parts give the same bytes."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from datetime import datetime, timezone
from pathlib import Path


def pack(path: Path, files: dict[str, bytes], info: str, generator: str, time: int) -> None:
    """Writes the wheel `path`; `files` by their names in it, without WHEEL and RECORD, which come from here."""
    _, python, abi, platform = path.stem.rsplit("-", 3)
    files = dict(files)
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: {generator}\nRoot-Is-Purelib: false\nTag: {python}-{abi}-{platform}\n\n"
    ).encode()
    names = sorted(files, key=lambda name: (name.startswith(info), name))
    rows = [f"{name},sha256={digest(files[name])},{len(files[name])}" for name in names]
    files[f"{info}/RECORD"] = "".join(f"{row}\n" for row in [*rows, f"{info}/RECORD,,"]).encode()
    stamp = datetime.fromtimestamp(time, timezone.utc).timetuple()[:6]
    unfinished = path.with_name(path.name + ".part")  # whoever stops it leaves nothing that looks like a wheel
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in [*names, f"{info}/RECORD"]:
            member = zipfile.ZipInfo(name, stamp)
            member.create_system = 3
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            archive.writestr(member, files[name])
    unfinished.replace(path)


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
