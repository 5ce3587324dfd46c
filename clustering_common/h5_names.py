"""Names of variable length in an HDF5 file, as h5py writes lists of texts into Keras's files.

HDF5 believes any length that a damaged file declares, and walks a damaged heap of texts for ever.
So a process of its own reads them, with bounds on its time and memory.
"""

import json
import os
import subprocess
import sys
from functools import cached_property

__all__ = ["LongNames"]

ATTRIBUTES = ("layer_names", "weight_names")
SECONDS, N_BYTES, MAX_OUTPUT = 10, 1 << 31, 1 << 24
SCRIPT = """
import json, sys
path, attributes, n_bytes, max_output = json.loads(sys.argv[1])
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
except ImportError:  # not on Windows
    pass
import h5py
found = {}
def look(name, thing):
    for attribute in attributes:
        if attribute in thing.attrs:
            type = h5py.check_string_dtype(thing.attrs.get_id(attribute).dtype)
            if type is not None and type.length is None:
                names = thing.attrs[attribute]
                names = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
                found[thing.name + " " + attribute] = names
with h5py.File(path, "r") as file:
    look("/", file)
    file.visititems(look)
sys.stdout.write(json.dumps(found)[:max_output])
"""


class LongNames:
    """The names of variable length in a file, read when one is asked for.

    Parameters
    ----------
    path : str
    """

    def __init__(self, path: str):
        self.path = path

    def of(self, group: str, attribute: str) -> list[str]:
        """Return the names that an attribute of a group lists.

        Raises
        ------
        OSError
            If they can't be read.
        """
        names = self._all.get(f"{group} {attribute}")
        if names is None:
            raise OSError(f"the attribute {attribute!r} of {group!r} can't be read")
        return names

    @cached_property
    def _all(self) -> dict[str, list[str]]:
        """All names that can be reached without links to elsewhere, by group and attribute."""
        task = json.dumps([os.path.abspath(self.path), ATTRIBUTES, N_BYTES, MAX_OUTPUT])
        # BLAS would reserve memory for each core.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                # -P: else modules of the current folder, which may be anybody's, come first.
                [sys.executable, "-P", "-c", SCRIPT, task],
                capture_output=True, env=environment, timeout=SECONDS, check=True,
            )  # fmt: skip
            return json.loads(done.stdout)
        except (subprocess.SubprocessError, ValueError) as error:
            raise OSError("its lists of names can't be read") from error
