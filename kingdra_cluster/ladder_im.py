"""LadderIM: one ladder network without pseudo-labels, the paper's base model."""

from collections.abc import Sequence
from typing import Any

from clustering_common.checks import check_number
from kingdra_cluster.base import LadderClusterer
from kingdra_cluster.loop_state import LoopSettings


class LadderIM(LadderClusterer):
    """One ladder network that maximises information: Ladder-IM, or Ladder-Dot (Kingdra, 3.1).

    Parameters
    ----------
    n_class : int, default=10
        Number of clusters, from 1 to n_samples; equal to the last of ``fc_layer_sizes``.
    n_iter : int, default=15
        Rounds; after each, callbacks see the labels.
    n_epochs_per_iter : int, default=3
        Epochs of a round.
    batch_size : int, default=64
    base_loss : {'im', 'dot'}, default='im'
        Information maximisation or dot product.
    mi_loss_w_init : float, default=0.1
        Weight of the base loss.
    fc_layer_sizes : sequence of int, default=(1200, 1200, 10)
        Units of the encoder's layers, mirrored by the decoder.
    ladder_loss_w_init, noise_kl_w_init : float, default=1
        Weights of the denoising costs, and of the divergence of clean and noisy prediction.
    noise_std : float, default=0.3
        Standard deviation of the noise in every layer of a noisy pass.
    mi_mu_w_init : float, default=4
        Weight of balanced clusters within information maximisation.
    lr : float, default=0.002
        Learning rate of Adam.
    denoising_cost : sequence of float, default=(1000, 10, 0.1, 0.1)
        Weight of each layer's denoising cost, the input first.
    last_layer_bn : bool, default=False
        Whether the logits too are batch-normalised.
    precision : {'float32', 'tf32', 'bfloat16'}, default='float32'
        Of the training's matrix products on a GPU; all else is float32, and so is a CPU.
        'bfloat16' is for JAX.
    random_state : int, RandomState, Generator or None, default=None
        Seed of initial weights, noise and batches.
    verbose : int, default=0
        0 says nothing but warnings, 1 iteration, losses and time left every five seconds, 2 those
        of each iteration and of its epochs, through the logger ``clustering_common``
        (`clustering_common.progress`).

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each training sample.
    history_ : list of dict
        A row per iteration: the losses of its last epoch.
    n_iter_ : int
        Iterations.
    termination_condition_ : {'n_iter', 'callback'}
        Why training ended.
    seconds_ : dict of float
        Wall-clock time.
    n_features_in_ : int
        Numbers per sample.

    Notes
    -----
    Prediction uses statistics of the whole training data, as KingdraCluster's does.

    References
    ----------
    Gupta, Ramjee, Kwatra, Sivathanu. Unsupervised Clustering using Pseudo-semi-supervised
    Learning. ICLR 2020.

    Examples
    --------
    >>> from kingdra_cluster import LadderIM
    >>> LadderIM(4, fc_layer_sizes=(100, 4), denoising_cost=(1000, 10, 0.1))
    LadderIM(denoising_cost=(1000, 10, 0.1), fc_layer_sizes=(100, 4), n_class=4)
    """

    def __init__(
        self,
        n_class: int = 10,
        *,
        n_iter: int = 15,
        n_epochs_per_iter: int = 3,
        batch_size: int = 64,
        base_loss: str = "im",
        mi_loss_w_init: float = 0.1,
        fc_layer_sizes: Sequence[int] = (1200, 1200, 10),
        ladder_loss_w_init: float = 1,
        noise_kl_w_init: float = 1,
        noise_std: float = 0.3,
        mi_mu_w_init: float = 4,
        lr: float = 0.002,
        denoising_cost: Sequence[float] = (1000, 10, 0.1, 0.1),
        last_layer_bn: bool = False,
        precision: str = "float32",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.n_class = n_class
        self.n_iter = n_iter
        self.n_epochs_per_iter = n_epochs_per_iter
        self.batch_size = batch_size
        self.base_loss = base_loss
        self.mi_loss_w_init = mi_loss_w_init
        self.fc_layer_sizes = fc_layer_sizes
        self.ladder_loss_w_init = ladder_loss_w_init
        self.noise_kl_w_init = noise_kl_w_init
        self.noise_std = noise_std
        self.mi_mu_w_init = mi_mu_w_init
        self.lr = lr
        self.denoising_cost = denoising_cost
        self.last_layer_bn = last_layer_bn
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @property
    def _n_members(self) -> int:
        return 1

    def _loop_settings(self) -> LoopSettings:
        return LoopSettings.of(
            self,
            n_epochs_per_iter0=self.n_epochs_per_iter,
            low_th=0,
            high_th=0,
            thresh=1.0,
            ens_common_mapping=True,
            mi_loss_w_it2=None,
            use_pseudo_labels=False,
        )

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_number("n_epochs_per_iter", self.n_epochs_per_iter, integer=True, low=1)
