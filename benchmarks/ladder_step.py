"""One training step of ten ladder members as one model against ten plain single members.

The plain member is written as a textbook would: two-dimensional weights, one product for each pass,
a compiled training step of its own, Keras's Adam as it comes. MNIST sizes (784-1200-1200-10),
batch 64, with pseudo-labels.
A second line gives the plain members our fused Adam too: what the batched products alone save.
All run in turns in one process, so that a busy machine slows both: the ratio is what counts.

    python -m benchmarks.ladder_step [--quick]
"""

import functools
import itertools
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.rows import Arm, Row, compared, main, paired
from benchmarks.training_step import dispatch_of
from clustering_common.backend import best_jit
from clustering_common.seeds import SeedStream
from clustering_common.training import SteppedModel
from kingdra_cluster import losses
from kingdra_cluster.ladder import EPSILON, LadderNetwork
from kingdra_cluster.members import LadderTrainer, LossSettings, PseudoLabelledSet

SIZES, BATCH, N_MEMBERS, N_SAMPLES = [784, 1200, 1200, 10], 64, 10, 6400
SETTINGS = LossSettings("im", 0.1, 4.0, 1.0, 1.0, (1000.0, 10.0, 0.1, 0.1), 0.3)


def normalised(a: Any) -> Any:
    """Return ``a`` with mean 0 and variance 1 over the batch."""
    mean, variance = ops.moments(a, axes=[0], keepdims=True)
    return (a - mean) / ops.sqrt(variance + EPSILON)


class PlainLadder(SteppedModel):
    """One member, each pass its own product."""

    def __init__(self, X: np.ndarray, seed: int, is_fused: bool):
        super().__init__()
        self.is_fused = is_fused
        self.data = self.add_resident(X, "data")
        self.noise_seed = keras.random.SeedGenerator(seed)
        seeds = SeedStream(seed)
        self.kernels, self.decoders, self.betas, self.denoisers = [], [], [], []
        for layer, (below, above) in enumerate(itertools.pairwise(SIZES)):
            for kernels, shape in ((self.kernels, (below, above)), (self.decoders, (above, below))):
                start = keras.initializers.GlorotNormal(seeds.seed("kernel", layer))
                kernels.append(self.add_weight(shape=shape, initializer=start))
            self.betas.append(self.add_weight(shape=(above,), initializer="zeros"))
        for size in SIZES:
            ones = [i in (1, 6) for i in range(10)]
            self.denoisers.append(
                [
                    self.add_weight(shape=(size,), initializer="ones" if one else "zeros")
                    for one in ones
                ]
            )

    def prepare(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Compile as Keras does, unless our fused update is asked for."""
        if self.is_fused:
            super().prepare(optimizer)
            return
        self.built = True
        self.compile(optimizer=optimizer, loss=None, jit_compile=best_jit())
        optimizer.build(self.trainable_variables)

    def encode(self, x: Any, noise_std: float) -> Any:
        """Return z_0..z_L and the logits of one pass."""

        def disturbed(a: Any) -> Any:
            """Add noise, if any."""
            if not noise_std:
                return a
            return a + noise_std * keras.random.normal(ops.shape(a), seed=self.noise_seed)

        z = [disturbed(x)]
        h = z[0]
        for layer, kernel in enumerate(self.kernels):
            a = ops.matmul(h, kernel)
            last = layer == len(self.kernels) - 1
            z.append(disturbed(a if last else normalised(a)))
            h = z[-1] + self.betas[layer]
            h = h if last else ops.relu(h)
        return z, h

    def call(self, batch: dict[str, Any]) -> Any:
        """Return the weighted loss."""
        x = ops.take(self.data, batch["unlabelled"], axis=0)
        z, clean = self.encode(x, 0.0)
        noisy_z, noisy = self.encode(x, SETTINGS.noise_std)
        _, taught = self.encode(ops.take(self.data, batch["labelled"], axis=0), SETTINGS.noise_std)
        loss = SETTINGS.base_weight * (
            losses.information_maximisation(clean, SETTINGS.mi_mu_w)
            + losses.information_maximisation(noisy, SETTINGS.mi_mu_w)
        )
        loss += losses.noise_divergence(clean, noisy)
        loss += losses.cross_entropy(taught, batch["classes"])
        estimate = noisy
        for layer in range(len(SIZES) - 1, -1, -1):
            u = estimate if layer == len(SIZES) - 1 else ops.matmul(estimate, self.decoders[layer])
            u = normalised(u)
            a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 = self.denoisers[layer]
            m = a1 * ops.sigmoid(a2 * u + a3) + a4 * u + a5
            v = a6 * ops.sigmoid(a7 * u + a8) + a9 * u + a10
            estimate = (noisy_z[layer] - m) * v + m
            loss += SETTINGS.denoising_cost[layer] * ops.mean(ops.square(estimate - z[layer]))
        return loss

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return what ``call`` returned."""
        return y_pred


class Arms:
    """Ten members as one model, and twice one by one, on the same data and batches."""

    def __init__(self, with_fused: bool, seed: int = 0):
        rng = np.random.default_rng(seed)
        X = rng.random((N_SAMPLES, SIZES[0]), np.float32)
        classes = rng.integers(0, 10, (N_MEMBERS, N_SAMPLES))
        self.taught = PseudoLabelledSet(rng.integers(0, N_SAMPLES, N_SAMPLES), classes)
        network = LadderNetwork(N_MEMBERS, SIZES, last_layer_bn=False, seeds=SeedStream(seed))
        self.ensemble = LadderTrainer(network, X, SETTINGS, BATCH, SeedStream(seed))
        self.plain, self.fused = (
            [PlainLadder(X, member, is_fused) for member in range(n_members)]
            for is_fused, n_members in ((False, N_MEMBERS), (True, N_MEMBERS * with_fused))
        )
        for model in (self.ensemble, *self.plain, *self.fused):
            model.prepare(keras.optimizers.Adam(0.002))
        self.together = dispatch_of(self.ensemble, self._batches)

    def _batches(self, start: int, stop: int) -> Any:
        return self.ensemble._batches(start, stop, self.taught)

    def _batches_of(self, member: int, start: int, stop: int) -> Any:
        batches = self._batches(start, stop)
        return keras.tree.map_structure(lambda leaf: leaf[:, member], batches)

    def apart(self, members: list[PlainLadder]) -> Arm:
        """Return what trains members one after the other, each for so many steps."""
        runs = [
            dispatch_of(member, functools.partial(self._batches_of, index))
            for index, member in enumerate(members)
        ]

        def run(n_steps: int) -> None:
            """Train each for so many steps."""
            for each in runs:
                each(n_steps)

        return run


def rows(quick: bool) -> list[Row]:
    """Return how ten members as one compare with ten one by one, by Keras's Adam and by ours."""
    arms = Arms(with_fused=not quick)
    runs = {"together": arms.together, "plain": arms.apart(arms.plain)}
    if not quick:
        runs["plain with fused Adam"] = arms.apart(arms.fused)
    found = paired(runs, 11 if quick else 21, 0, 3)
    return [
        compared(
            "ten ladder members, a step",
            found["together"],
            found[name],
            yardstick=f"one by one, {name}",
            meaning="of its time",
        )
        for name in list(runs)[1:]
    ]


if __name__ == "__main__":
    main(rows)
