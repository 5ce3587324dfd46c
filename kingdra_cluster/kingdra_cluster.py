"""KingdraCluster: an ensemble of ladder networks that teaches itself by agreement."""

from collections.abc import Sequence
from typing import Any

from clustering_common.checks import check_flag, check_number
from kingdra_cluster.agreement_graph import check_thresholds
from kingdra_cluster.base import LadderClusterer
from kingdra_cluster.loop_state import LoopSettings


class KingdraCluster(LadderClusterer):
    """Unsupervised clustering by pseudo-semi-supervised learning (Kingdra, algorithm 1).

    ``n_en`` ladder networks cluster X, each in its own way. Samples that (nearly) all of them put
    together are sure to belong together: the graph of their agreement yields ``n_class`` buckets
    of pseudo-labels, on which all members are then trained, in ``n_iter`` rounds.

    Parameters
    ----------
    n_class : int, default=10
        Number of clusters, from 1 to n_samples; equal to the last of ``fc_layer_sizes``.
    n_en : int, default=10
        Members of the ensemble.
    n_iter : int, default=40
        Rounds of training, prediction and new pseudo-labels.
    n_epochs_per_iter0 : int, default=5
        Epochs of a round as long as there are no pseudo-labels.
    n_epochs_per_iter : int, default=5
        Epochs of a round with pseudo-labels.
    low_th, high_th : int, default=1, 9
        Votes: samples in whose label more than ``high_th`` members agree are joined, a bucket
        shuts out all samples that share more than ``low_th`` votes with one of its own. From 0 to
        n_en - 1; ``high_th = n_en - 1`` means that all agree.
    med_th : int, default=4
        No effect; the release reads it and uses it nowhere.
    thresh : float, default=0.9
        A sample is sure where every member's largest probability exceeds it; from 0 to below 1.
    batch_size : int, default=64
    ens_common_mapping : bool, default=True
        Whether all members are taught one naming of the clusters, and averaged for prediction.
        Otherwise each has its own and the first member predicts (as released for cifar10).
    use_pseudo_labels : bool, default=True
        False is the paper's baseline "ensemble": members averaged after alignment, never taught.
    base_loss : {'im', 'dot'}, default='im'
        Information maximisation or dot product.
    mi_loss_w_init : float, default=0.1
        Weight of the base loss.
    mi_loss_w_it2 : float, default=None
        Its weight once there are pseudo-labels; None leaves it.
    fc_layer_sizes : sequence of int, default=(1200, 1200, 10)
        Units of the encoder's layers, mirrored by the decoder.
    ladder_loss_w_init : float, default=1
        Weight of the denoising costs.
    sup_loss_w_init : float, default=0
        No effect: there is nothing to be supervised by before the first pseudo-labels, and with
        them the weight is 1.
    noise_kl_w_init : float, default=1
        Weight of the divergence between clean and noisy prediction.
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
        Seed of initial weights, noise, batches and pseudo-labelled sets.
    verbose : int, default=0
        0 says nothing but warnings, 1 iteration, losses and time left every five seconds, 2 those
        of each iteration and of its epochs, through the logger ``clustering_common``
        (`clustering_common.progress`).

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each training sample.
    pseudo_labels_ : ndarray of shape (n_samples,)
        Cluster of each training sample in the last set of pseudo-labels, -1 = none; the names are
        those of ``labels_``.
    member_mapping_ : ndarray of shape (n_en, n_class)
        The common name of each member's clusters.
    history_ : list of dict
        A row per iteration: losses of its last epoch, bucket_sizes (in the order in which they were
        found), coverage (share of samples in a bucket), reused_buckets (whether these buckets were
        refused and the last good ones, of which pseudo_acc tells, taught again), member_agreement.
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
    Deviation: batch normalisation at prediction uses statistics of the whole training data, so a
    sample's prediction does not depend on its neighbours; on the training data it equals the
    release's one-batch prediction (SPEC 2.5). Deviation: members that were not yet taught one
    naming are matched before their mean is taken, as each names its clusters in its own way.
    ``n_iter=1`` works. An epoch is floor(n_samples / batch_size) full batches of a fresh
    permutation for each member.

    References
    ----------
    Gupta, Ramjee, Kwatra, Sivathanu. Unsupervised Clustering using Pseudo-semi-supervised
    Learning. ICLR 2020.
    Rasmus et al. Semi-Supervised Learning with Ladder Networks. NIPS 2015.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from kingdra_cluster import KingdraCluster
    >>> X = load_digits().data / 16
    >>> model = KingdraCluster(10, n_en=3, high_th=2, n_iter=2, n_epochs_per_iter0=1,
    ...                        fc_layer_sizes=(50, 50, 10), random_state=0).fit(X)
    >>> model.labels_.shape, model.predict_proba(X).shape
    ((1797,), (1797, 10))
    """

    def __init__(
        self,
        n_class: int = 10,
        *,
        n_en: int = 10,
        n_iter: int = 40,
        n_epochs_per_iter0: int = 5,
        n_epochs_per_iter: int = 5,
        low_th: int = 1,
        med_th: int = 4,
        high_th: int = 9,
        thresh: float = 0.9,
        batch_size: int = 64,
        ens_common_mapping: bool = True,
        use_pseudo_labels: bool = True,
        base_loss: str = "im",
        mi_loss_w_init: float = 0.1,
        mi_loss_w_it2: float | None = None,
        fc_layer_sizes: Sequence[int] = (1200, 1200, 10),
        ladder_loss_w_init: float = 1,
        sup_loss_w_init: float = 0,
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
        self.n_en = n_en
        self.n_iter = n_iter
        self.n_epochs_per_iter0 = n_epochs_per_iter0
        self.n_epochs_per_iter = n_epochs_per_iter
        self.low_th = low_th
        self.med_th = med_th
        self.high_th = high_th
        self.thresh = thresh
        self.batch_size = batch_size
        self.ens_common_mapping = ens_common_mapping
        self.use_pseudo_labels = use_pseudo_labels
        self.base_loss = base_loss
        self.mi_loss_w_init = mi_loss_w_init
        self.mi_loss_w_it2 = mi_loss_w_it2
        self.fc_layer_sizes = fc_layer_sizes
        self.ladder_loss_w_init = ladder_loss_w_init
        self.sup_loss_w_init = sup_loss_w_init
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
        return self.n_en

    def _loop_settings(self) -> LoopSettings:
        return LoopSettings.of(self)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        for name in ("n_en", "n_epochs_per_iter0", "n_epochs_per_iter"):
            check_number(name, getattr(self, name), integer=True, low=1)
        check_flag("ens_common_mapping", self.ens_common_mapping)
        check_flag("use_pseudo_labels", self.use_pseudo_labels)
        for name in ("low_th", "med_th", "high_th"):
            check_number(name, getattr(self, name))
        check_number("thresh", self.thresh, low=0, high=1)
        if self.thresh == 1 and self.use_pseudo_labels:
            raise ValueError(
                f"thresh must be below 1, which no probability exceeds; got {self.thresh!r}. The "
                "paper uses 0.9; use_pseudo_labels=False is the ensemble without pseudo-labels."
            )
        check_number("sup_loss_w_init", self.sup_loss_w_init, low=0)
        if self.mi_loss_w_it2 is not None:
            check_number("mi_loss_w_it2", self.mi_loss_w_it2, low=0)
        if self.use_pseudo_labels:
            check_thresholds(self.n_en, self.low_th, self.high_th)
