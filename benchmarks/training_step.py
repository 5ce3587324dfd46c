"""A training step of every method against the bare products of its network (`benchmarks.bare`).

Paper sizes: 28x28 images, batch 256, 500-500-2000-10 or 32-64-128-10. Networks, losses, weights and
optimisers are those of the estimators' classes. Ours and the bare products run in turns in one
process; the ratio is the share of the bare rate that a step attains.

A step is one of a block of many, on a CPU as a fit dispatches them. What a fit does between blocks
and its updates are not in it; `benchmarks.plain_keras` and `benchmarks.scaling` have those.

FcDEC's share varies with how quickly a machine's two CPUs take over what the other one changed: a
step changes every weight, and the bare products' weights never change. A row beside FcDEC's says
how quickly they did meanwhile (`benchmarks.cores`). On one shared machine of two CPUs the share was
0.882 to 0.918 in eleven runs where that row's ratio was 0.9 to 1.1, and 0.873 in one where it was
2.3; of the products that ours takes, which are sooner than Keras's, 0.827 to 0.866 and 0.798.

The images begin where those of the command line, `load_user_data` and `load_dataset` do. Without
--quick two rows say what FcDEC's step takes longer with NumPy's own (`clustering_common.resident`):
with the paper's network, and with a very small one.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from benchmarks import cores
from benchmarks.bare import BareLayers
from benchmarks.rows import WARM_STEPS, Arm, Row, compared, main, paired, ratio_row
from clustering_common import backend
from clustering_common.aligned import aligned_empty
from clustering_common.seeds import SeedStream
from clustering_common.training import BatchSchedule, SteppedModel
from dec_da import phases, presets
from dec_da.models import ClusteringModel, ReconstructionModel
from dec_da.network import ClusteringNetwork

SHAPE, BATCH, N_SAMPLES = (28, 28, 1), 256, 10_000
PRETRAINED = {"Fc": "FcDEC", "Conv": "ConvDEC"}  # whose pretraining is their family's
RATE = 0.001  # of every optimiser: the paper's 1.0 could make random data diverge
NUMPYS = 4  # numbers after an aligned address at which NumPy's arrays mostly begin


def make_network(method: str, **settings: Any) -> ClusteringNetwork:
    """Return a method's network, its centres drawn at random."""
    shape = make_data(method, 1).shape[1:]
    network = presets.CLASSES[method](**settings)._make_network(shape, SeedStream(0))
    centers = network.clustering.clusters
    centers.assign(np.random.default_rng(0).normal(size=centers.shape))
    return network


def make_data(method: str, n_samples: int = N_SAMPLES, begin: int = 0) -> np.ndarray:
    """Return random images in a method's layout, so many numbers after an aligned address."""
    width = int(np.prod(SHAPE))
    X = aligned_empty((begin + n_samples * width,))[begin:].reshape(n_samples, width)
    np.random.default_rng(0).random(dtype=np.float32, out=X)
    return X if method.startswith("Fc") else X.reshape(-1, *SHAPE)


def options_of(is_augmented: bool) -> dict[str, Any]:
    """Return what both phases' models take for images that are augmented, or not."""
    return {"image_shape": SHAPE, "augment_seed": 1 if is_augmented else None}


def pretraining_model(
    method: str, is_augmented: bool, n_samples: int = N_SAMPLES
) -> ReconstructionModel:
    """Return the compiled model of a method's pretraining."""
    autoencoder, data = make_network(method).autoencoder, make_data(method, n_samples)
    model = ReconstructionModel(autoencoder, data, **options_of(is_augmented))
    optimizer = presets.CLASSES[method].settings.pretrain_optimizer
    model.prepare(phases.make_optimizer(optimizer, RATE))
    return model


def clustering_model(
    method: str, is_augmented: bool, n_samples: int = N_SAMPLES, begin: int = 0, **settings: Any
) -> ClusteringModel:
    """Return the compiled model of a method's clustering phase, its targets set."""
    estimator = presets.CLASSES[method](**settings)
    network, data = make_network(method, **settings), make_data(method, n_samples, begin)
    model = estimator._clustering_model(network, data, **options_of(is_augmented))
    model.update()
    model.prepare(phases.make_optimizer(estimator.settings.optimizer, RATE))
    return model


def steps_of(model: Any) -> Arm:
    """Return what trains a model for so many steps of batch 256, as one block."""
    return dispatch_of(model, BatchSchedule(model.n_samples, BATCH, seed=0).batches)


def dispatch_of(model: SteppedModel, batches: Callable[[int, int], Any]) -> Arm:
    """Return what trains a model on the next batches as one block, and waits for its end.

    It is compiled anew for another number of steps.
    """
    n_done = itertools.count()

    def run(n_steps: int) -> None:
        """Train for so many steps."""
        start = n_steps * next(n_done)
        block = np.array([n_steps], np.int32), batches(start, start + n_steps)
        with backend.products_in(model.precision):
            model.train_on_batch(block)
        keras.ops.convert_to_numpy(model.optimizer.iterations.value)  # small, and last

    return run


def networks_of(model: Any) -> list[keras.Model]:
    """Return the parts of the autoencoder that a step runs through."""
    decoder = getattr(model, "decoder", None)
    return [model.encoder] if decoder is None else [model.encoder, decoder]


def phase_rows(
    name: str,
    make: Callable[[bool], SteppedModel],
    rounds: int,
    n_steps: int,
    warm_steps: int = 1,
    *,
    has_ours: bool = False,
    beside: Mapping[str, Arm] | None = None,
) -> list[Row]:
    """Return the rows of one phase, with and without augmentation, against its bare products.

    If it trains with products of ours, also against these; with the arms of `benchmarks.cores`
    beside them, also the row of these.
    """
    plain, augmented = make(False), make(True)
    arms = {
        "plain": steps_of(plain),
        "bare": BareLayers(networks_of(plain), BATCH).run,  # beside both, as the machine is shared
        "augmented": steps_of(augmented),
        **(beside or {}),
    }
    if has_ours:
        arms["bare by ours"] = BareLayers(networks_of(plain), BATCH, backend.matmul).run
    found = paired(arms, rounds, 0, n_steps, warm_steps)
    rows = []
    for bare, yardstick in (("bare", "bare products"), ("bare by ours", "bare products by ours")):
        if bare in found:
            rows += [
                share_row(f"{name}{suffix}", found[arm], found[bare], yardstick)
                for arm, suffix in (("plain", ""), ("augmented", ", augmented"))
            ]
    words = {"yardstick": "without augmentation", "meaning": "cost of augmentation"}
    rows.append(compared(f"{name}, augmented", found["augmented"], found["plain"], **words))
    if beside:
        rows.append(
            compared(
                "13 MB, two CPUs in turns",
                found["turns"],
                found["own"],
                yardstick="each its own",
                meaning="of that time",
            )
        )
    return rows


def share_row(name: str, ours: np.ndarray, bare: np.ndarray, yardstick: str) -> Row:
    """Return the row of paired seconds, in ms; the ratio is the share of the bare rate."""
    words = {"yardstick": yardstick, "meaning": "share of their rate"}
    return ratio_row(name, 1e3 * ours, 1e3 * bare, bare / ours, "ms", **words)


def numpys_row(name: str, rounds: int, n_steps: int, warm_steps: int, **settings: Any) -> Row:
    """Return the row of FcDEC's clustering step with images that begin where NumPy's do."""
    arms = {
        array: steps_of(clustering_model("FcDEC", False, begin=begin, **settings))
        for array, begin in (("NumPy's", NUMPYS), ("ours", 0))
    }
    found = paired(arms, rounds, 0, n_steps, warm_steps)
    words = {"yardstick": "as load_user_data's", "meaning": "of its time"}
    return compared(f"FcDEC clustering step, {name}", *found.values(), **words)


def rows(quick: bool) -> list[Row]:
    """Return the rows of each phase of each method, and without --quick FcDEC's two more."""
    found: list[Row] = []
    for family, method in PRETRAINED.items():
        found += phase_rows(
            f"{family} pretraining step",
            lambda flag, method=method: pretraining_model(method, flag),
            *_effort(family, quick),
            has_ours=_has_ours(family),
        )
    for method in presets.CLASSES:
        found += phase_rows(
            f"{method} clustering step",
            lambda flag, method=method: clustering_model(method, flag),
            *_effort(method, quick),
            has_ours=_has_ours(method),
            beside=cores.arms() if method == "FcDEC" and backend.is_cpu() else None,
        )
    if not quick:
        effort = _effort("FcDEC", quick)
        found.append(numpys_row("NumPy's array", *effort))
        found.append(numpys_row("NumPy's array, 10-10", *effort, layer_sizes=(10, 10)))
    return found


def _has_ours(name: str) -> bool:
    """Return whether products of ours differ from Keras's in a method or family."""
    return name.startswith("Fc") and keras.backend.backend() == "tensorflow" and backend.is_cpu()


def _effort(name: str, quick: bool) -> tuple[int, int, int]:
    """Return rounds, steps of an arm in each, and steps before.

    Short rounds, as the machine is shared, and several, as one may be off by a tenth.

    With the settings of large data sets a block of a fit has on a CPU 140 dense steps without
    decoder and 70 with it, as here, and on small ones 30, so that a dispatch is a larger part.
    Convolutional steps are so long that it hardly matters how many make a block.
    """
    if name.startswith("Conv"):
        return 5 if quick else 51, 4, 1
    if name in ("Fc", "FcIDEC"):  # with decoder, twice as long a step
        return 5 if quick else 21, 70, WARM_STEPS
    return 5 if quick else 11, 140, WARM_STEPS


if __name__ == "__main__":
    main(rows)
