"""Training all members as one model: batches, losses, population statistics (SPEC 2.1-2.3, 2.5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from clustering_common import backend
from clustering_common.mapped import rows_of, stays_in_file
from clustering_common.resident import ResidentSamples
from clustering_common.seeds import SeedStream
from clustering_common.training import (
    BatchSchedule,
    SteppedModel,
    apply_in_chunks,
    row_chunks,
)
from kingdra_cluster import losses
from kingdra_cluster.ladder import LadderNetwork


@dataclass(frozen=True)
class LossSettings:
    """Weights of the loss (SPEC 2.2)."""

    base_loss: str
    base_weight: float
    mi_mu_w: float
    noise_kl_w: float
    ladder_w: float
    denoising_cost: tuple[float, ...]
    noise_std: float


@dataclass(frozen=True)
class PseudoLabelledSet:
    """What the members are taught: sample indices and their classes for each member.

    Attributes
    ----------
    indices : ndarray of shape (n_samples,)
    classes : ndarray of shape (n_members, n_samples)
    """

    indices: np.ndarray
    classes: np.ndarray


class MemberSchedule:
    """Each member's own batch order, (n_steps, n_members, batch) sample indices."""

    def __init__(self, n_members: int, n_samples: int, batch_size: int, seeds: list[int]):
        self.members = [BatchSchedule(n_samples, batch_size, seed) for seed in seeds[:n_members]]
        self.steps_per_pass = self.members[0].steps_per_pass

    def batches(self, start: int, stop: int) -> np.ndarray:
        """Return the batches of these steps."""
        return np.stack([member.batches(start, stop) for member in self.members], axis=1)


class LadderTrainer(SteppedModel):
    """Trains the members on batches of their own and keeps the optimiser's state between rounds.

    Parameters
    ----------
    network : LadderNetwork
    X : ndarray or CSR matrix of shape (n_samples, n_features)
        Dense rows stay on the device; of a sparse matrix or an array in a file, blocks are fed.
    settings : LossSettings
    batch_size : int
    seeds : SeedStream
    precision : {'float32', 'tf32', 'bfloat16'}, default='float32'
        Of the training's products.
    """

    def __init__(
        self,
        network: LadderNetwork,
        X: Any,
        settings: LossSettings,
        batch_size: int,
        seeds: SeedStream,
        precision: str = "float32",
    ):
        super().__init__(precision=precision)
        self.network = network
        self.settings = settings
        self.is_fed = hasattr(X, "toarray") or stays_in_file(X)
        self.X = X if self.is_fed else None
        if not self.is_fed:
            self.samples = ResidentSamples(X)
            self.share_resident(*self.samples.variables)
        self.base_weight = keras.Variable(settings.base_weight, trainable=False, name="base_weight")
        self.seed_generator = keras.random.SeedGenerator(seeds.seed("noise"))
        names = ("base_loss", "noise_kl", "ladder_loss", "sup_loss")
        self.parts = {name: keras.metrics.Mean(name) for name in names}
        members = range(network.n_members)
        self.unlabelled, self.labelled = (
            MemberSchedule(
                network.n_members,
                X.shape[0],
                batch_size,
                [seeds.seed(f"{kind} batches", member) for member in members],
            )
            for kind in ("unlabelled", "labelled")
        )
        # Three encoder passes and a decoder, there and twice back, 2 operations a weight.
        n_kernel = sum(int(np.prod(kernel.shape)) for kernel in network.kernels)
        self.step_operations = 24.0 * n_kernel * self.unlabelled.members[0].batch_size
        self.n_steps_done = 0
        self.labels: np.ndarray | None = None
        self.pseudo_labels: np.ndarray | None = None

    def weight_layers(self) -> list[keras.layers.Layer]:
        """Return the members' network."""
        return [self.network]

    def call(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return each member's losses on its unlabelled and, if any, its labelled batch."""
        x = self._rows(batch["unlabelled"])
        passes = [x, x] + ([self._rows(batch["labelled"])] if "labelled" in batch else [])
        return self.member_losses(ops.stack(passes, axis=1), batch.get("classes"), self._noise)

    def _rows(self, rows_or_indices: Any) -> Any:
        return rows_or_indices if self.is_fed else self.samples.take(rows_or_indices)

    def _noise(self, shape: tuple[int, ...]) -> Any:
        return backend.normal(shape, self.seed_generator)

    def member_losses(self, passes: Any, classes: Any, noise: Any) -> dict[str, Any]:
        """Return the unweighted losses, each of shape (n_members,), from stacked passes."""
        settings, network = self.settings, self.network
        clean_z, noisy_z, (clean, noisy, *taught) = network.encode(
            passes, settings.noise_std, noise
        )
        estimates = network.decode(noisy_z, noisy)
        costs = [
            weight * losses.reconstruction_cost(estimate, z)
            for weight, estimate, z in zip(settings.denoising_cost, estimates, clean_z, strict=True)
        ]
        parts = {
            "base_loss": self._base_loss(clean) + self._base_loss(noisy),
            "noise_kl": losses.noise_divergence(clean, noisy),
            "ladder_loss": sum(costs),
        }
        if classes is not None:
            parts["sup_loss"] = losses.cross_entropy(taught[0], classes)
        return parts

    def _base_loss(self, logits: Any) -> Any:
        if self.settings.base_loss == "dot":
            return losses.dot_product(logits)
        return losses.information_maximisation(logits, self.settings.mi_mu_w)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the sum of the members' weighted losses, so that none sees another."""
        weights = {
            "base_loss": self.base_weight,
            "noise_kl": self.settings.noise_kl_w,
            "ladder_loss": self.settings.ladder_w,
            "sup_loss": 1.0,
        }
        for name, part in y_pred.items():
            self.parts[name].update_state(ops.mean(part))
        return ops.sum(sum(weights[name] * part for name, part in y_pred.items()))

    def train_round(
        self,
        n_epochs: int,
        pseudo_labelled: PseudoLabelledSet | None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        first_step: int = 0,
    ) -> None:
        """Train ``n_epochs`` passes over X; with pseudo-labels, each batch beside one of these.

        ``first_step`` steps of them were done before.
        """
        offset = self.n_steps_done
        per_epoch = self.unlabelled.steps_per_pass

        self.fit_steps(
            lambda start, stop: self._batches(start + offset, stop + offset, pseudo_labelled),
            steps_per_epoch=per_epoch,
            n_steps=n_epochs * per_epoch,
            first_step=first_step,
            callbacks=callbacks,
        )
        self.n_steps_done += n_epochs * per_epoch

    def _batches(self, start: int, stop: int, taught: PseudoLabelledSet | None) -> dict[str, Any]:
        batch = {"unlabelled": self._feed(self.unlabelled.batches(start, stop))}
        if taught is not None:
            positions = self.labelled.batches(start, stop)
            batch["labelled"] = self._feed(taught.indices[positions].astype(np.int32))
            members = np.arange(self.network.n_members)[:, None]
            batch["classes"] = taught.classes[members, positions].astype(np.int32)
        return batch

    def _feed(self, indices: np.ndarray) -> np.ndarray:
        return rows_of(self.X, indices) if self.is_fed else indices


class PopulationInference:
    """Clean class probabilities of all members, by statistics of the whole training data.

    Parameters
    ----------
    network : LadderNetwork
    """

    def __init__(self, network: LadderNetwork):
        self.network = network
        self._probabilities = backend.compiled(network.probabilities, network.variables)
        self._moments = [
            backend.compiled(partial(self._moments_of, depth), network.variables)
            for depth in range(1, network.n_layers + 1)
        ]

    def _moments_of(self, depth: int, rows: Any, mask: Any) -> Any:
        """Return mean and sum of squared deviations of a layer over the rows that count."""
        a = self.network.clean_activation(rows, depth)
        weight = mask[None, :, None]
        mean = ops.sum(a * weight, axis=1, keepdims=True) / ops.sum(mask)
        spread = ops.sum(ops.square(a - mean) * weight, axis=1)
        return mean[:, 0], spread

    def refresh(self, X: Any) -> None:
        """Set mean and variance of every normalised layer, exactly, layer by layer (SPEC 2.5)."""
        for layer in range(self.network.n_layers):
            if self.network.normalised[layer]:
                with np.errstate(invalid="ignore", over="ignore"):  # of diverged weights
                    mean, variance = self._population(X, layer)
                self.network.means[layer].assign(mean)
                self.network.variances[layer].assign(variance)

    def _population(self, X: Any, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance over all rows, chunks combined in double precision (Chan)."""
        count, mean, spread = 0, np.zeros(1), np.zeros(1)
        for rows, n_rows in row_chunks(X):
            mask = (np.arange(len(rows)) < n_rows).astype(np.float32)
            values = self._moments[layer](rows, mask)
            part_mean, part_spread = (backend.to_numpy(v).astype(np.float64) for v in values)
            total = count + n_rows
            difference = part_mean - mean
            spread = spread + part_spread + difference**2 * (count * n_rows / total)
            mean = mean + difference * (n_rows / total)
            count = total
        return mean, spread / count

    def probabilities(self, X: Any) -> np.ndarray:
        """Return (n_members, n_samples, n_clusters)."""
        return apply_in_chunks(self._probabilities, X).transpose(1, 0, 2)
