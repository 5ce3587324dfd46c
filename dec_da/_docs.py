"""Parts of the docstrings that all five methods share."""

from typing import Any

PARAMETERS = """Parameters
    ----------
    n_clusters : int, default=10
        Number of clusters, from 1 to n_samples.
{layers}    aug_pretrain, aug_cluster : bool, default=False
        Whether each drawn image is augmented afresh in that phase: rotation in +-10 degrees, shift
        in +-10 %. Both on is the paper's "-DA". X must be images, or vectors that are.
    alpha : float, default=1.0
        Degrees of freedom of q, > 0.
    pretrain_epochs : int, default=500
        Epochs of pretraining; an epoch is floor(n_samples / batch_size) full batches.
    max_iter : int, default=20000
        Training steps of the clustering phase at most; 0 leaves k-means on the embedding.
    update_interval : int, default=140
        Training steps between two updates of labels and targets.
    tol : float, default=0.001
        Clustering ends when the share of labels that changed since the last update is below.
    batch_size : int, default=256
        Samples per training step; at most n_samples are used.
    optimizer, pretrain_optimizer : {{'sgd', 'adam', 'adamw', 'rmsprop'}}, default=None
        None is the paper's own for the method (see Notes). SGD has momentum 0.9.
    learning_rate, pretrain_learning_rate : float, default=None
        None is the paper's own for the method; with another optimiser than the paper's, Keras's
        default for it.
    pretrained_weights : path-like, default=None
        A classic Keras .h5 file of the autoencoder, used instead of pretraining.
    precision : {{'float32', 'tf32', 'bfloat16'}}, default='float32'
        Of the training's matrix products and convolutions on a GPU; all else is float32, and so is
        a CPU. 'bfloat16', for JAX alone, leaves convolutions at 'tf32'.
    random_state : int, RandomState, Generator or None, default=None
        Seed of initial weights, batches, augmentation and k-means; None differs every time.
    verbose : int, default=0
        0 says nothing but warnings, 1 epoch, losses and time left every five seconds, 2 those of
        each epoch and update, through the logger ``clustering_common``
        (`clustering_common.progress`).
{more}
    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Nearest cluster of each training sample, by the final weights.
    cluster_centers_ : ndarray of shape (n_clusters, embedding_dim)
        Centres in the embedding.
    history_ : dict of list of dict
        'pretrain': a row per epoch; 'cluster': a row per update, the first before any training.
    n_iter_ : int
        Training steps of the clustering phase.
    termination_condition_ : {{'tol', 'max_iter', 'callback'}}
        Why clustering ended.
    seconds_ : dict of float
        Wall-clock time of 'pretrain', 'kmeans' and 'cluster'.
    n_features_in_ : int
        Numbers per sample.
"""

DENSE_LAYERS = """    layer_sizes : sequence of int, default=(500, 500, 2000, 10)
        Units of the encoder's layers; the last is the embedding, mirrored by the decoder.
"""

CONV_LAYERS = """    filters : sequence of three int, default=(32, 64, 128)
        Channels of the encoder's convolutions.
    embedding_dim : int, default=10
        Units of the embedding.
"""

NOTES = """Deviations from the authors' release: labels come from the final weights, not
    from the last update; batches are a fresh permutation at each pass over the data, never in file
    order and never empty.
"""


def documented(layers: str, more: str = "") -> Any:
    """Return a class decorator that fills ``{parameters}`` and ``{notes}`` of the docstring."""

    def fill(cls: type) -> type:
        """Fill the docstring of a class."""
        parameters = PARAMETERS.format(layers=layers, more=more)
        text = (cls.__doc__ or "").replace("{parameters}", parameters)
        cls.__doc__ = text.replace("{notes}", NOTES)
        return cls

    return fill
