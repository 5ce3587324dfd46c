"""FcDEC, FcIDEC and FcDCN: the methods with the dense autoencoder."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from clustering_common.checks import check_sizes
from clustering_common.seeds import SeedStream
from dec_da._docs import DENSE_LAYERS, documented
from dec_da.arguments import MethodSettings
from dec_da.autoencoders import Autoencoder, dense_autoencoder
from dec_da.base import DeepClusterer
from dec_da.models import ClusteringModel, HardAssignmentModel

PRETRAIN_OPTIMIZER, PRETRAIN_RATE = "sgd", 1.0
MOVE_CENTERS = """    move_centers : bool, default=False
        Whether each update moves the centres to the means of their classes. The paper leaves the
        update open, and a centre that follows its samples invites collapse.
"""


class DenseClusterer(DeepClusterer):
    """Abstract: clusters vectors, or images as vectors, with the dense autoencoder."""

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        layer_sizes: Sequence[int] = (500, 500, 2000, 10),
        aug_pretrain: bool = False,
        aug_cluster: bool = False,
        alpha: float = 1.0,
        pretrain_epochs: int = 500,
        max_iter: int = 20000,
        update_interval: int = 140,
        tol: float = 0.001,
        batch_size: int = 256,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        pretrain_optimizer: str | None = None,
        pretrain_learning_rate: float | None = None,
        pretrained_weights: str | None = None,
        precision: str = "float32",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.n_clusters = n_clusters
        self.layer_sizes = layer_sizes
        self.aug_pretrain = aug_pretrain
        self.aug_cluster = aug_cluster
        self.alpha = alpha
        self.pretrain_epochs = pretrain_epochs
        self.max_iter = max_iter
        self.update_interval = update_interval
        self.tol = tol
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.pretrain_optimizer = pretrain_optimizer
        self.pretrain_learning_rate = pretrain_learning_rate
        self.pretrained_weights = pretrained_weights
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def _input_shape(self, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (int(np.prod(sample_shape)),)

    def _make_autoencoder(self, input_shape: tuple[int, ...], seeds: SeedStream) -> Autoencoder:
        return dense_autoencoder(input_shape[0], self.layer_sizes, seeds)

    def _least_size(self, input_shape: tuple[int, ...]) -> tuple[int, int]:
        sizes = [input_shape[0], *map(int, self.layer_sizes)]
        n_weights = sum(below * above for below, above in itertools.pairwise(sizes))
        return n_weights + self.n_clusters * sizes[-1], len(self.layer_sizes)

    def _check_layers(self) -> None:
        check_sizes("layer_sizes", self.layer_sizes)

    @property
    def _embedding_dim(self) -> int:
        return self.layer_sizes[-1]


@documented(DENSE_LAYERS)
class FcDEC(DenseClusterer):
    """Deep embedded clustering with a dense autoencoder (DEC; with augmentation, FcDEC-DA).

    After pretraining, encoder and centres are trained to minimise KL(p || q), q the Student's t
    similarity of embedding and centre, p its sharpened form (DEC, eqs. 1-3).

    {parameters}

    Notes
    -----
    The paper's settings: clustering weight 1, reconstruction weight 0, SGD 0.01 with momentum 0.9.
    {notes}

    References
    ----------
    Guo, Zhu, Liu, Yin. Deep Embedded Clustering with Data Augmentation. ACML 2018.
    Xie, Girshick, Farhadi. Unsupervised Deep Embedding for Clustering Analysis. ICML 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from dec_da import FcDEC
    >>> X = load_digits().data / 16
    >>> model = FcDEC(10, aug_pretrain=True, aug_cluster=True, layer_sizes=(50, 10),
    ...               pretrain_epochs=2, max_iter=10, random_state=0).fit(X)
    >>> model.labels_.shape, model.transform(X).shape
    ((1797,), (1797, 10))
    """

    settings = MethodSettings(1.0, 0.0, "sgd", 0.01, PRETRAIN_OPTIMIZER, PRETRAIN_RATE)


@documented(DENSE_LAYERS)
class FcIDEC(DenseClusterer):
    """Improved deep embedded clustering, dense: DEC that keeps reconstructing (IDEC, eq. 1).

    {parameters}

    Notes
    -----
    The paper's settings: clustering weight 0.1, reconstruction weight 1, SGD 1.0 with momentum 0.9.
    {notes}

    References
    ----------
    Guo, Zhu, Liu, Yin. Deep Embedded Clustering with Data Augmentation. ACML 2018.
    Guo, Gao, Liu, Yin. Improved Deep Embedded Clustering with Local Structure Preservation.
    IJCAI 2017.

    Examples
    --------
    >>> from dec_da import FcIDEC
    >>> FcIDEC(4, random_state=0)
    FcIDEC(n_clusters=4, random_state=0)
    """

    settings = MethodSettings(0.1, 1.0, "sgd", 1.0, PRETRAIN_OPTIMIZER, PRETRAIN_RATE)


@documented(DENSE_LAYERS, MOVE_CENTERS)
class FcDCN(DenseClusterer):
    """Deep clustering with hard assignments, dense (DCN as DEC-DA describes it).

    Every update assigns each clean sample to its nearest centre; training then pulls the
    (augmented) embeddings to these centres: mean |z - mu_s|^2 (SPEC 1.6).

    {parameters}

    Notes
    -----
    The paper's settings: no reconstruction, Adam 0.0001. Centres stay those of the first k-means.
    {notes}

    References
    ----------
    Guo, Zhu, Liu, Yin. Deep Embedded Clustering with Data Augmentation. ACML 2018.
    Yang, Fu, Sidiropoulos, Hong. Towards K-means-friendly Spaces. ICML 2017.

    Examples
    --------
    >>> from dec_da import FcDCN
    >>> FcDCN(4, random_state=0)
    FcDCN(n_clusters=4, random_state=0)
    """

    settings = MethodSettings(1.0, 0.0, "adam", 0.0001, PRETRAIN_OPTIMIZER, PRETRAIN_RATE)

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        layer_sizes: Sequence[int] = (500, 500, 2000, 10),
        aug_pretrain: bool = False,
        aug_cluster: bool = False,
        alpha: float = 1.0,
        pretrain_epochs: int = 500,
        max_iter: int = 20000,
        update_interval: int = 140,
        tol: float = 0.001,
        batch_size: int = 256,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        pretrain_optimizer: str | None = None,
        pretrain_learning_rate: float | None = None,
        pretrained_weights: str | None = None,
        precision: str = "float32",
        move_centers: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ):
        super().__init__(
            n_clusters,
            layer_sizes=layer_sizes,
            aug_pretrain=aug_pretrain,
            aug_cluster=aug_cluster,
            alpha=alpha,
            pretrain_epochs=pretrain_epochs,
            max_iter=max_iter,
            update_interval=update_interval,
            tol=tol,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate,
            pretrain_optimizer=pretrain_optimizer,
            pretrain_learning_rate=pretrain_learning_rate,
            pretrained_weights=pretrained_weights,
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )
        self.move_centers = move_centers

    def _clustering_model(self, network: Any, data: Any, **options: Any) -> ClusteringModel:
        return HardAssignmentModel(
            network.autoencoder,
            network.clustering,
            data,
            move_centers=self.move_centers,
            **options,
        )
