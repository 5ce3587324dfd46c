"""Peak memory of this process."""

import resource
import sys
from pathlib import Path


def peak_mb() -> float:
    """Return the high-water mark of this process's resident memory, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the process that started this one had
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
