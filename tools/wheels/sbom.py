"""What a wheel is made of, for programs that look for vulnerable parts: CycloneDX 1.7, at the place of PEP 770."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from typing import Any


def bill(name: str, version: str, wheel: str, time: int, tools: dict[str, str]) -> bytes:
    """The bill of one wheel. `tools`: what it was made with, and of which version."""
    own, zlib = f"pkg:pypi/{name}@{version}", "pkg:generic/zlib"
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{own}#{wheel}')}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {
                "components": [{"type": "application", "name": tool, "version": tools[tool]} for tool in sorted(tools)]
            },
            "component": {
                "type": "library",
                "bom-ref": own,
                "name": name,
                "version": version,
                "purl": own,
                "licenses": [{"license": {"id": "MIT"}}],
            },
        },
        "components": [
            {
                "type": "library",
                "bom-ref": zlib,
                "name": "zlib",
                "description": "libz.so.1 of the system: the wheel does not hold it",
                "isExternal": True,
                "versionRange": "vers:generic/>=1.2.9",
                "purl": zlib,
                "licenses": [{"license": {"id": "Zlib"}}],
            }
        ],
        "dependencies": [{"ref": own, "dependsOn": [zlib]}, {"ref": zlib}],
    }
    return (json.dumps(document, indent=2) + "\n").encode()
