"""The record of a run, results.json: its name, its checksum, and the measures in it."""

import hashlib
import json
from typing import Any

RESULTS = "results.json"
CHECKSUM = "sha256"
MEASURES = ("acc", "nmi", "ari")  # of a clustering where labels are known, in this order


def checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of a record without its own key ``CHECKSUM``."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
