"""A small ladder ensemble's data and weights, for the tests of its networks and rounds."""

import numpy as np

from clustering_common.backend import to_numpy
from kingdra_cluster.members import PseudoLabelledSet

SIZES = [6, 5, 4, 3]
N, BATCH = 20, 7
X = np.random.default_rng(0).uniform(size=(N, SIZES[0])).astype(np.float32)
X.setflags(write=False)
_rng = np.random.default_rng(1)
TAUGHT = PseudoLabelledSet(_rng.integers(0, N, N), _rng.integers(0, 3, (3, N)))


def draws_of(shape, members):
    """The same noise for a member in an ensemble of any size."""
    seed = [int(n) for n in shape[1:]]
    draw = np.random.default_rng(seed).normal(size=(3, *shape[1:])).astype(np.float32)
    return draw[members]


def shuffled(network):
    """Give the vectors that start at constants values of their own."""
    rng = np.random.default_rng(5)
    for variable in [*network.betas, *network.denoisers]:
        variable.assign(to_numpy(variable) + rng.normal(0, 0.3, variable.shape))
    return network


def member_weights(network, member):
    def of(variables):
        return [to_numpy(v)[member].astype(np.float64) for v in variables]

    return {
        "W": of(network.kernels),
        "V": of(network.decoder_kernels),
        "beta": of(network.betas),
        "a": [to_numpy(v)[member].astype(np.float64) for v in network.denoisers],
    }
