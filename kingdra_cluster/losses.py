"""The losses of a ladder network's member (SPEC 2.2); all return one number per member."""

from typing import Any

from keras import ops


def entropy(log_proba: Any) -> Any:
    """Return -sum p log p over the last axis, from log p."""
    return -ops.sum(ops.exp(log_proba) * log_proba, axis=-1)


def softmax(logits: Any) -> Any:
    """Return the softmax over the last axis; for one cluster, 1, of which Keras would warn."""
    return ops.softmax(logits, axis=-1) if logits.shape[-1] > 1 else ops.ones_like(logits)


def information_maximisation(logits: Any, mi_mu_w: float) -> Any:
    """Return mean_i H(p_i) - mi_mu_w * H(mean_i p_i): sure samples, balanced clusters (IMSAT).

    Parameters
    ----------
    logits : tensor of shape (..., batch, n_clusters)
    mi_mu_w : float
        Weight of the balance.

    Returns
    -------
    tensor of shape (...)
    """
    conditional = ops.mean(entropy(ops.log_softmax(logits, axis=-1)), axis=-1)
    mean_proba = ops.mean(softmax(logits), axis=-2)
    # A cluster that no sample uses has p log p = 0, and a finite gradient.
    marginal = -ops.sum(mean_proba * ops.log(ops.maximum(mean_proba, 1e-30)), axis=-1)
    return conditional - mi_mu_w * marginal


def dot_product(logits: Any) -> Any:
    """Return the mean squared difference of P P^T and the identity, rows of P at unit length.

    Different samples of a batch should have orthogonal class probabilities (Kingdra, "Dot").
    """
    proba = softmax(logits)
    unit = proba * ops.rsqrt(ops.sum(ops.square(proba), axis=-1, keepdims=True))
    gram = ops.matmul(unit, ops.swapaxes(unit, -1, -2))
    return ops.mean(ops.square(gram - ops.eye(logits.shape[-2])), axis=(-1, -2))


def noise_divergence(clean_logits: Any, noisy_logits: Any) -> Any:
    """Return mean_i KL(p_i || p~_i); no gradient flows through the clean p."""
    log_clean = ops.log_softmax(ops.stop_gradient(clean_logits), axis=-1)
    log_noisy = ops.log_softmax(noisy_logits, axis=-1)
    divergence = ops.sum(ops.exp(log_clean) * (log_clean - log_noisy), axis=-1)
    return ops.mean(divergence, axis=-1)


def cross_entropy(logits: Any, classes: Any) -> Any:
    """Return mean_i -log p_i[class of i].

    Parameters
    ----------
    logits : tensor of shape (..., batch, n_clusters)
    classes : tensor of shape (..., batch), int
    """
    targets = ops.one_hot(classes, logits.shape[-1])
    return -ops.mean(ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1), axis=-1)


def reconstruction_cost(estimate: Any, clean: Any) -> Any:
    """Return the mean over batch and units of (zhat - z)^2; gradient through both."""
    return ops.mean(ops.square(estimate - clean), axis=(-1, -2))
