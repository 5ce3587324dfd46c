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


# --- agreement graph ---


def reference_buckets(member_labels, sure, n_class, low_th, high_th):
    """Return the buckets as lists, from sets of neighbours of every sample."""
    # plain Python numbers: indexing arrays element by element would take most of the time
    labels = [[int(label) for label in member] for member in member_labels]
    samples = range(len(sure))

    def agree(i, j):
        return sum(member[i] == member[j] for member in labels)

    agreement = [[agree(i, j) for j in samples] for i in samples]
    high = [{j for j in samples if sure[i] and agreement[i][j] > high_th} for i in samples]
    low = [{j for j in samples if agreement[i][j] > low_th} for i in samples]

    buckets = []
    while len(buckets) < n_class and any(high):
        largest = max(len(neighbours) for neighbours in high)
        centre = min(i for i in samples if len(high[i]) == largest)
        bucket = sorted(high[centre])
        buckets.append(bucket)
        for t in bucket:
            for j in low[t]:
                high[j] = set()
        empty = {j for j in samples if not high[j]}
        high = [neighbours - empty for neighbours in high]
    while len(buckets) < n_class:
        buckets.append([])
    return buckets


def reference_balanced(buckets, n_samples):
    """Return (sample, class) pairs: one of each class in turn, each bucket cycled."""
    pairs = []
    turn = 0
    while len(pairs) < n_samples:
        for position, bucket in enumerate(buckets):
            if len(pairs) < n_samples:
                pairs.append((int(bucket[turn % len(bucket)]), position))
        turn += 1
    return pairs


# --- ladder network (SPEC 2.1, 2.2), one member, one pass at a time, in double precision ---


def normalised(a):
    return (a - a.mean(axis=0)) / np.sqrt(a.var(axis=0) + 1e-10)


def naive_encode(weights, x, noise_std, draws, last_layer_bn):
    """Return z_0..z_L and the logits of one pass; draws is a list of L + 1 noise arrays."""
    n_layers = len(weights["W"])
    z = [x + noise_std * draws[0]]
    h = z[0]
    for layer in range(n_layers):
        a = h @ weights["W"][layer]
        if layer < n_layers - 1 or last_layer_bn:
            a = normalised(a)
        z.append(a + noise_std * draws[layer + 1])
        h = z[-1] + weights["beta"][layer]
        if layer < n_layers - 1:
            h = np.maximum(h, 0)
    return z, h


def naive_decode(weights, noisy_z, noisy_logits):
    """Return zhat_0..zhat_L."""
    n_layers = len(weights["W"])
    estimates = [None] * (n_layers + 1)
    for layer in range(n_layers, -1, -1):
        u = noisy_logits if layer == n_layers else estimates[layer + 1] @ weights["V"][layer]
        u = normalised(u)
        a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 = weights["a"][layer]
        m = a1 / (1 + np.exp(-(a2 * u + a3))) + a4 * u + a5
        v = a6 / (1 + np.exp(-(a7 * u + a8))) + a9 * u + a10
        estimates[layer] = (noisy_z[layer] - m) * v + m
    return estimates


def naive_softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def naive_im(p, mu):
    conditional = np.mean([-sum(q * np.log(q) for q in row) for row in p])
    mean = p.mean(axis=0)
    return conditional - mu * -np.sum(mean * np.log(mean))


def naive_dot(p):
    unit = [row / np.sqrt(np.sum(row**2)) for row in p]
    total = 0.0
    for i, a in enumerate(unit):
        for j, b in enumerate(unit):
            total += (np.dot(a, b) - (i == j)) ** 2
    return total / len(p) ** 2


def naive_ladder_losses(weights, x, x_labelled, classes, settings, draws, last_layer_bn=False):
    """Return the unweighted losses; draws: noise of the noisy and of the labelled pass."""
    zeros = [np.zeros_like(d) for d in draws[0]]
    z, clean = naive_encode(weights, x, 0.0, zeros, last_layer_bn)
    noisy_z, noisy = naive_encode(weights, x, settings["noise_std"], draws[0], last_layer_bn)
    _, taught = naive_encode(weights, x_labelled, settings["noise_std"], draws[1], last_layer_bn)
    estimates = naive_decode(weights, noisy_z, noisy)
    p, q, t = naive_softmax(clean), naive_softmax(noisy), naive_softmax(taught)
    if settings["base_loss"] == "im":
        base = naive_im(p, settings["mi_mu_w"]) + naive_im(q, settings["mi_mu_w"])
    else:
        base = naive_dot(p) + naive_dot(q)
    costs = [
        cost * np.mean((estimate - layer) ** 2)
        for cost, estimate, layer in zip(settings["denoising_cost"], estimates, z, strict=True)
    ]
    return {
        "base_loss": base,
        "noise_kl": np.mean(np.sum(p * (np.log(p) - np.log(q)), axis=1)),
        "ladder_loss": sum(costs),
        "sup_loss": -np.mean([np.log(t[i, c]) for i, c in enumerate(classes)]),
    }
