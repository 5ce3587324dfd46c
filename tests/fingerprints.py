"""What estimators learn from made data, as one checksum each.

``python -m tests.fingerprints NAME ...`` fits each class twice in a process that is otherwise
unlike any other: with its own global random state and its own order of sets and dicts.
"""

import hashlib
import json
import random
import sys
import warnings

import keras
import numpy as np

from dec_da import ConvDEC, ConvIDEC, FcDCN, FcDEC, FcIDEC
from kingdra_cluster import KingdraCluster, LadderIM

DEC = {
    "n_clusters": 3, "aug_pretrain": True, "aug_cluster": True, "pretrain_epochs": 3,
    "pretrain_optimizer": "adam", "max_iter": 12, "update_interval": 4, "tol": 0, "batch_size": 12,
    "random_state": 7,
}  # fmt: skip
DENSE = {**DEC, "layer_sizes": (16, 3)}
CONV = {**DEC, "filters": (4, 4, 8), "embedding_dim": 3}
LADDER = {
    "n_class": 3, "n_iter": 3, "fc_layer_sizes": (16, 3), "denoising_cost": (10, 1, 0.1),
    "batch_size": 12, "lr": 0.02, "mi_loss_w_init": 1, "random_state": 7,
}  # fmt: skip
ESTIMATORS = {
    "FcDEC": (FcDEC, DENSE),
    "FcIDEC": (FcIDEC, DENSE),
    "FcDCN": (FcDCN, DENSE),
    "ConvDEC": (ConvDEC, CONV),
    "ConvIDEC": (ConvIDEC, CONV),
    "KingdraCluster": (KingdraCluster, {**LADDER, "n_en": 3, "high_th": 2, "thresh": 0}),
    "LadderIM": (LadderIM, LADDER),
}


def fingerprint(name: str) -> str:
    """Return the checksum of all that a fit learns, to the last bit."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 0.2, (36, 8, 8))
    X[0::3, 3:5, :] += 0.8
    X[1::3, :, 3:5] += 0.8
    X = X.astype(np.float32)
    cls, params = ESTIMATORS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so short a training: empty clusters
        model = cls(**params).fit(X)
    digest = hashlib.sha256(json.dumps(model.history_, sort_keys=True).encode())
    for array in (model.labels_, model.predict_proba(X)):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def main() -> None:
    """Print the checksums as JSON."""
    state = random.SystemRandom().randrange(2**31)
    keras.utils.set_random_seed(state)
    found = {name: [fingerprint(name), fingerprint(name)] for name in sys.argv[1:]}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
