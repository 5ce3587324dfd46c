"""The ladder network, with a leading member axis on every weight (SPEC 2.1).

E members are E independent networks in one set of batched products: losses add up and Adam works
element by element, so no member sees another.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from clustering_common import backend
from clustering_common.seeds import SeedStream
from clustering_common.stopping import STOP
from kingdra_cluster.losses import softmax

FUSE_FROM_WEIGHTS = 1_000_000  # fewer are passed sooner than XLA compiles
EPSILON = 1e-10  # under the root of every batch normalisation
N_DENOISE = 10  # vectors a1..a10 of the denoising function
Noise = Callable[[tuple[int, ...]], Any]


class LadderNetwork(keras.layers.Layer):
    """Encoder and decoder of all members.

    Parameters
    ----------
    n_members : int
        E.
    layer_sizes : sequence of int
        D, then the units of the L encoder layers; the last is n_clusters.
    last_layer_bn : bool
        Whether the last layer too is batch-normalised.
    seeds : SeedStream
        Member e, layer l draws its initial weights from its own stream with its own fan-in, so it
        starts alike in an ensemble of any size.

    Notes
    -----
    Deviation: prediction uses the population statistics ``means`` and ``variances`` of the clean
    pass over all training data where the release uses those of the batch at hand (SPEC 2.5).
    """

    def __init__(
        self,
        n_members: int,
        layer_sizes: Sequence[int],
        *,
        last_layer_bn: bool,
        seeds: SeedStream,
        name: str = "ladder",
    ):
        super().__init__(name=name)
        self.n_members = n_members
        self.layer_sizes = list(layer_sizes)
        self.n_layers = len(layer_sizes) - 1
        self.normalised = [True] * (self.n_layers - 1) + [last_layer_bn]
        self.kernels: list[Any] = []
        self.betas: list[Any] = []
        self.means: list[Any] = []
        self.variances: list[Any] = []
        self.decoder_kernels: list[Any] = []
        self.denoisers: list[Any] = []
        check_memory(n_members, self.layer_sizes)
        for layer in range(self.n_layers):
            self._add_layer(layer, seeds)
        for layer, units in enumerate(self.layer_sizes):
            start = np.zeros((n_members, N_DENOISE, units), np.float32)
            start[:, [1, 6]] = 1.0  # a2 and a7
            self.denoisers.append(self._variable(f"denoise_{layer}", start))
        self.built = True
        n_weights = sum(int(np.prod(weight.shape)) for weight in self.trainable_variables)
        last = self.n_layers - 1
        passes = [_LAYERS[self.normalised[layer], layer == last] for layer in range(self.n_layers)]
        is_large = n_weights >= FUSE_FROM_WEIGHTS
        self._denoised = backend.fused(_denoised) if is_large else _denoised
        self._activations = [backend.fused(each) if is_large else each for each in passes]

    def _add_layer(self, layer: int, seeds: SeedStream) -> None:
        """Add the weights between ``layer`` and ``layer + 1``."""
        below, above = self.layer_sizes[layer : layer + 2]
        for kernels, name, shape in (
            (self.kernels, "encoder", (below, above)),
            (self.decoder_kernels, "decoder", (above, below)),
        ):
            start = np.empty((self.n_members, *shape), np.float32)
            for member in range(self.n_members):
                seed = seeds.seed(f"{name} {layer}", member)
                start[member] = ops.convert_to_numpy(keras.initializers.GlorotNormal(seed)(shape))
                STOP.raise_if_any()  # many members take minutes
            kernels.append(self._variable(f"{name}_{layer}", start))
        zeros = np.zeros((self.n_members, above), np.float32)
        self.betas.append(self._variable(f"beta_{layer}", zeros))
        self.means.append(self._variable(f"mean_{layer}", zeros, trainable=False))
        self.variances.append(self._variable(f"variance_{layer}", zeros + 1, trainable=False))

    def _variable(self, name: str, start: np.ndarray, trainable: bool = True) -> Any:
        return self.add_weight(
            shape=start.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(start, dtype),
            trainable=trainable,
            name=name,
        )

    def encode(
        self, passes: Any, noise_std: float, noise: Noise
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Run all passes as one product a layer; each has its own batch statistics.

        z_l = norm(W_l h_(l-1)) + s n, h_l = relu(z_l + beta_l), the last without relu.

        Parameters
        ----------
        passes : tensor of shape (n_members, n_passes, batch, D)
            The first pass is clean (s = 0), the others are noisy.
        noise_std : float
            s of the noisy passes.
        noise : callable
            Returns standard normal draws of a shape.

        Returns
        -------
        clean_z, noisy_z : list of L + 1 tensors of shape (n_members, batch, units)
            Of the first and the second pass.
        logits : list of n_passes tensors of shape (n_members, batch, n_clusters)
        """
        n_members, n_passes, batch = passes.shape[:3]
        draws = noise((n_members, n_passes - 1, *passes.shape[2:]))
        z = _disturbed(passes, noise_std, draws)
        clean_z, noisy_z, h = z[:1], z[1:2], ops.stack(z, axis=1)
        for kernel, beta, activation in zip(
            self.kernels, self.betas, self._activations, strict=True
        ):
            rows = ops.reshape(h, (n_members, n_passes * batch, -1))
            a = ops.reshape(ops.matmul(rows, kernel), (n_members, n_passes, batch, -1))
            draws = noise((n_members, n_passes - 1, batch, a.shape[-1]))
            clean, noisy, h = activation(a, beta.value, noise_std, draws)
            clean_z.append(clean)
            noisy_z.append(noisy)
        return clean_z, noisy_z, h

    def decode(self, noisy_z: Sequence[Any], noisy_logits: Any) -> list[Any]:
        """Return the denoised zhat_0..zhat_L, each (n_members, batch, units).

        u = noisy logits for l = L, else V_l zhat_(l+1), batch-normalised;
        zhat = (z~ - m) v + m, m = a1 sigmoid(a2 u + a3) + a4 u + a5, v likewise of a6..a10.
        """
        estimates: list[Any] = []
        u = noisy_logits
        for layer in range(self.n_layers, -1, -1):
            if layer < self.n_layers:
                u = ops.matmul(estimates[0], self.decoder_kernels[layer])
            estimates.insert(0, self._denoised(u, noisy_z[layer], self.denoisers[layer].value))
        return estimates

    def clean_activation(self, rows: Any, depth: int) -> Any:
        """Return W_depth h_(depth-1) of the clean pass, with population statistics below.

        Parameters
        ----------
        rows : tensor of shape (n_rows, D)
        depth : int
            1 to L.

        Returns
        -------
        tensor of shape (n_members, n_rows, units)
        """
        h = ops.expand_dims(rows, 0)
        for layer in range(depth - 1):
            a = self._normalised(ops.matmul(h, self.kernels[layer]), layer)
            h = ops.relu(a + self.betas[layer][:, None, :])
        return ops.matmul(h, self.kernels[depth - 1])

    def probabilities(self, rows: Any) -> Any:
        """Return each member's clean class probabilities, (n_rows, n_members, n_clusters)."""
        last = self.n_layers - 1
        a = self._normalised(self.clean_activation(rows, self.n_layers), last)
        logits = a + self.betas[last][:, None, :]
        return ops.transpose(softmax(logits), (1, 0, 2))

    def _normalised(self, a: Any, layer: int) -> Any:
        if not self.normalised[layer]:
            return a
        scale = ops.rsqrt(self.variances[layer] + EPSILON)
        return (a - self.means[layer][:, None, :]) * scale[:, None, :]


def check_memory(n_members: int, sizes: Sequence[int]) -> None:
    """Raise MemoryError unless the kernels of so many members fit into memory at once.

    Parameters
    ----------
    n_members : int
    sizes : sequence of int
        D, then the units of the encoder layers.
    """
    n_weights = 2 * sum(below * above for below, above in itertools.pairwise(sizes))
    try:
        np.empty((n_members, n_weights), np.float32)  # takes none before it is written to
    except (MemoryError, ValueError) as error:  # ValueError: more than can be addressed
        raise MemoryError(
            f"The members must fit into memory; got {n_members} of layer sizes {list(sizes)}. "
            f"Lower n_en or fc_layer_sizes. {error}"
        ) from error


def _disturbed(values: Any, noise_std: Any, draws: Any) -> list[Any]:
    """Return the passes one by one, noise added to all but the first."""
    clean, *noisy = ops.unstack(values, axis=1)
    return [clean] + [z + noise_std * draws[:, position] for position, z in enumerate(noisy)]


def _layer(
    a: Any, beta: Any, noise_std: Any, draws: Any, *, is_normalised: bool, is_last: bool
) -> tuple[Any, Any, Any]:
    """Return z of the clean and of the first noisy pass, and h of all, of a layer's product.

    h is stacked for the next product, the last a list. z comes apart: the gradient of a slice would
    be as large as all passes.
    """
    z = _disturbed(batch_normalised(a) if is_normalised else a, noise_std, draws)
    h = [each + beta[:, None, :] for each in z]
    return z[0], z[1], h if is_last else ops.relu(ops.stack(h, axis=1))


_LAYERS = {
    (is_normalised, is_last): partial(_layer, is_normalised=is_normalised, is_last=is_last)
    for is_normalised in (False, True)
    for is_last in (False, True)
}


def _denoised(u: Any, noisy_z: Any, denoiser: Any) -> Any:
    """Return zhat = (z~ - m) v + m of a layer from what comes from the layer above."""
    u = batch_normalised(u)
    a = [None, *ops.unstack(denoiser[:, :, None, :], axis=1)]
    m = a[1] * ops.sigmoid(a[2] * u + a[3]) + a[4] * u + a[5]
    v = a[6] * ops.sigmoid(a[7] * u + a[8]) + a[9] * u + a[10]
    return (noisy_z - m) * v + m


def batch_normalised(a: Any) -> Any:
    """Return ``a`` with mean 0 and variance 1 along its second last axis, the batch."""
    mean, variance = ops.moments(a, axes=[-2], keepdims=True)
    return (a - mean) * ops.rsqrt(variance + EPSILON)
