"""The record of a run, results.json: its name and its checksum."""

import hashlib
import json
from typing import Any

RESULTS = "results.json"
CHECKSUM = "sha256"


def checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of a record without its own key ``CHECKSUM``."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
