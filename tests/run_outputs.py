"""What a run leaves, as tests read it."""

import csv

import h5py


def read_csv(path):
    """Return the rows of a table or log."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def arrays_of(path):
    """Return {place: numbers} of all that a weight file holds."""
    arrays = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()].tolist()

    with h5py.File(path) as file:
        file.visititems(keep)
    return arrays
