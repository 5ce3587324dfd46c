"""Naive loops, written from the papers, that the fast ways are compared with."""

import itertools

import numpy as np

# --- metrics ---


def naive_accuracy(labels_true, labels_pred):
    """Best share of matches over every one-to-one map of clusters to classes, one by one."""
    classes = sorted(set(np.asarray(labels_true).tolist()))
    clusters = sorted(set(np.asarray(labels_pred).tolist()))
    # Padding with None lets a cluster stay without a class.
    targets = classes + [None] * max(0, len(clusters) - len(classes))
    best = 0
    for chosen in itertools.permutations(targets, len(clusters)):
        renamed = dict(zip(clusters, chosen, strict=True))
        n_right = sum(renamed[p] == t for t, p in zip(labels_true, labels_pred, strict=True))
        best = max(best, n_right)
    return best / len(labels_true)


# --- dec_da ---


def naive_affine(image, angle, shift):
    """Rotate and shift one (height, width, channels) image, pixel by pixel (SPEC 1.3).

    The output pixel o reads the input at R (o - c + shift) + c, R turning the row axis towards
    the column axis by ``angle`` (radians) about the image centre c; bilinear; a pixel beyond the
    edge is the nearest one inside.
    """
    height, width, _ = image.shape
    center = np.array([(height - 1) / 2, (width - 1) / 2])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    result = np.empty_like(image, dtype=np.float64)
    for row, column in itertools.product(range(height), range(width)):
        y, x = turn @ (np.array([row, column]) - center + shift) + center
        top, left = int(np.floor(y)), int(np.floor(x))
        value = 0
        for i, j in itertools.product((top, top + 1), (left, left + 1)):
            share = (1 - abs(y - i)) * (1 - abs(x - j))
            value = value + share * image[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
        result[row, column] = value
    return result


def naive_soft_assignment(embedding, centers, alpha=1.0):
    """Return q of SPEC 1.4, one pair of sample and centre at a time."""
    q = np.empty((len(embedding), len(centers)))
    for i, z in enumerate(np.asarray(embedding, np.float64)):
        for j, mu in enumerate(np.asarray(centers, np.float64)):
            q[i, j] = (1 + sum((z - mu) ** 2) / alpha) ** (-(alpha + 1) / 2)
        q[i] /= sum(q[i])
    return q


def naive_target(q):
    """Return p of SPEC 1.4 for the q of a whole data set."""
    p = np.empty_like(q)
    for i in range(len(q)):
        for j in range(q.shape[1]):
            p[i, j] = q[i, j] ** 2 / sum(q[:, j])
        p[i] /= sum(p[i])
    return p


def naive_kl(p, q):
    """Return KL(p || q), summed over clusters, averaged over samples."""
    total = 0.0
    for p_row, q_row in zip(p, q, strict=True):
        total += sum(a * np.log(a / b) for a, b in zip(p_row, q_row, strict=True) if a > 0)
    return total / len(p)


def naive_dense(arrays, x):
    """Return what dense layers [kernel, bias, kernel, bias, ...] make of x; the last is linear."""
    x = np.asarray(x, np.float64)
    for i in range(0, len(arrays), 2):
        x = x @ np.asarray(arrays[i], np.float64) + arrays[i + 1]
        x = x if i == len(arrays) - 2 else np.maximum(x, 0)
    return x
