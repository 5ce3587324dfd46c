"""Peak memory of this process."""

import resource
import sys


def peak_mb() -> float:
    """Return the high-water mark of this process's resident memory, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
