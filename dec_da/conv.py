"""ConvDEC and ConvIDEC: the methods with the convolutional autoencoder."""

from collections.abc import Sequence
from typing import Any

from sklearn.utils import Tags

from clustering_common.checks import check_number, check_sizes
from clustering_common.seeds import SeedStream
from dec_da._docs import CONV_LAYERS, documented
from dec_da.arguments import MethodSettings
from dec_da.autoencoders import Autoencoder, check_conv_shape, conv_autoencoder
from dec_da.base import DeepClusterer

PRETRAIN_OPTIMIZER, PRETRAIN_RATE = "adam", 0.001


class ConvClusterer(DeepClusterer):
    """Abstract: clusters images with the convolutional autoencoder."""

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        filters: Sequence[int] = (32, 64, 128),
        embedding_dim: int = 10,
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
        self.filters = filters
        self.embedding_dim = embedding_dim
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

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def _input_shape(self, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
        return check_conv_shape(self._image_shape)

    def _make_autoencoder(self, input_shape: tuple[int, ...], seeds: SeedStream) -> Autoencoder:
        height, width, channels = input_shape
        filters = tuple(map(int, self.filters))
        return conv_autoencoder((height, width, channels), filters, int(self.embedding_dim), seeds)

    def _least_size(self, input_shape: tuple[int, ...]) -> tuple[int, int]:
        height, width, channels = input_shape
        first, second, third = map(int, self.filters)
        kernels = [25 * channels * first, 25 * first * second, 9 * second * third]
        kernels.append((height // 8) * (width // 8) * third * int(self.embedding_dim))
        return sum(kernels) + self.n_clusters * int(self.embedding_dim), len(kernels)

    def _check_layers(self) -> None:
        check_sizes("filters", self.filters)
        if len(self.filters) != 3:
            raise ValueError(
                f"filters must be three numbers; got {self.filters!r}. The paper has (32, 64, 128)."
            )
        check_number("embedding_dim", self.embedding_dim, integer=True, low=1)

    @property
    def _embedding_dim(self) -> int:
        return self.embedding_dim


@documented(CONV_LAYERS)
class ConvDEC(ConvClusterer):
    """Deep embedded clustering with a convolutional autoencoder (with augmentation, ConvDEC-DA).

    X is images, (n_samples, height, width[, channels]), or vectors that are square images. Height
    and width are multiples of 4 from 8 up, channels 1 or 3.

    {parameters}

    Notes
    -----
    The paper's settings: clustering weight 1, reconstruction weight 0, Adam 0.001.
    {notes}

    References
    ----------
    Guo, Zhu, Liu, Yin. Deep Embedded Clustering with Data Augmentation. ACML 2018.

    Examples
    --------
    >>> from dec_da import ConvDEC
    >>> ConvDEC(4, random_state=0)
    ConvDEC(n_clusters=4, random_state=0)
    """

    settings = MethodSettings(1.0, 0.0, "adam", 0.001, PRETRAIN_OPTIMIZER, PRETRAIN_RATE)


@documented(CONV_LAYERS)
class ConvIDEC(ConvClusterer):
    """Improved deep embedded clustering, convolutional: ConvDEC that keeps reconstructing.

    X is images, (n_samples, height, width[, channels]), or vectors that are square images. Height
    and width are multiples of 4 from 8 up, channels 1 or 3.

    {parameters}

    Notes
    -----
    The paper's settings: clustering weight 0.1, reconstruction weight 1, Adam 0.001.
    {notes}

    References
    ----------
    Guo, Zhu, Liu, Yin. Deep Embedded Clustering with Data Augmentation. ACML 2018.
    Guo, Liu, Zhu, Yin. Deep Clustering with Convolutional Autoencoders. ICONIP 2017.

    Examples
    --------
    >>> from dec_da import ConvIDEC
    >>> ConvIDEC(4, random_state=0)
    ConvIDEC(n_clusters=4, random_state=0)
    """

    settings = MethodSettings(0.1, 1.0, "adam", 0.001, PRETRAIN_OPTIMIZER, PRETRAIN_RATE)
