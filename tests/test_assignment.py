import math

import keras
import numpy as np
import pytest
from keras import ops

from clustering_common import backend, backend_defaults
from clustering_common.backend import to_numpy
from dec_da.assignment import (
    ClusteringLayer,
    kl_divergence,
    log_soft_assignment,
    target_distribution,
)
from tests.reference import naive_kl, naive_soft_assignment, naive_target


def soft(embedding, centers, alpha=1.0):
    arrays = [ops.array(np.asarray(a, np.float32)) for a in (embedding, centers)]
    return np.exp(to_numpy(log_soft_assignment(*arrays, alpha)))


def target(q):
    return to_numpy(target_distribution(ops.array(np.asarray(q, np.float32))))


def divergence(p, q):
    p, q = np.asarray(p, np.float32), np.asarray(q, np.float32)
    return float(to_numpy(kl_divergence(ops.array(p), ops.log(ops.array(q)))))


def gradient(function, x):
    """Return d function / d x with the engine that runs."""
    engine = keras.backend.backend()
    x = ops.array(np.asarray(x, np.float32))
    if engine == "jax":
        import jax

        return to_numpy(jax.grad(function)(x))
    if engine == "torch":
        x.requires_grad_()
        function(x).backward()
        return to_numpy(x.grad)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return to_numpy(tape.gradient(value, x))


def test_q_by_hand():
    # Distances squared 0 and 1, then 9 and 4.
    embedding, centers = [[0.0], [3.0]], [[0.0], [1.0]]
    # 1 : 1/2, then 1/10 : 1/5.
    expected = [[2 / 3, 1 / 3], [1 / 3, 2 / 3]]
    np.testing.assert_allclose(soft(embedding, centers), expected, rtol=1e-6)
    # alpha 2, exponent -3/2: 1 : 1.5^-1.5, then 5.5^-1.5 : 3^-1.5.
    a, b = 1.5**-1.5, (3 / 5.5) ** 1.5
    expected = [[1 / (1 + a), a / (1 + a)], [b / (1 + b), 1 / (1 + b)]]
    np.testing.assert_allclose(soft(embedding, centers, 2.0), expected, rtol=1e-6)


def test_p_by_hand():
    # f = (1, 1): squares 4 : 1 and 1 : 4.
    np.testing.assert_allclose(
        target([[2 / 3, 1 / 3], [1 / 3, 2 / 3]]), [[0.8, 0.2], [0.2, 0.8]], rtol=1e-6
    )
    # f = (7/6, 5/6): 8/21 : 2/15 = 20 : 7, and 3/14 : 3/10 = 5 : 7.
    np.testing.assert_allclose(
        target([[2 / 3, 1 / 3], [1 / 2, 1 / 2]]), [[20 / 27, 7 / 27], [5 / 12, 7 / 12]], rtol=1e-6
    )


def test_kl_by_hand():
    one = 0.8 * math.log(0.8 / (2 / 3)) + 0.2 * math.log(0.2 / (1 / 3))
    assert divergence([[0.8, 0.2]], [[2 / 3, 1 / 3]]) == pytest.approx(one, abs=1e-6)
    # Averaged over the samples, summed over the clusters; not symmetric; 0 log 0 = 0.
    p, q = [[0.8, 0.2], [0.5, 0.5]], [[2 / 3, 1 / 3], [0.5, 0.5]]
    assert divergence(p, q) == pytest.approx(one / 2, abs=1e-6)
    assert divergence([[1.0, 0.0]], [[0.25, 0.75]]) == pytest.approx(math.log(4), rel=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 7.0])
def test_equal_to_naive_loops(alpha):
    rng = np.random.default_rng(0)
    embedding, centers = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    q, naive_q = soft(embedding, centers, alpha), naive_soft_assignment(embedding, centers, alpha)
    np.testing.assert_allclose(q, naive_q, rtol=1e-5)
    np.testing.assert_allclose(target(q), naive_target(naive_q), rtol=1e-5)
    assert divergence(target(q), q) == pytest.approx(
        naive_kl(naive_target(naive_q), naive_q), rel=1e-4
    )
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(target(q).sum(axis=1), 1, atol=1e-6)


def test_squared_distances():
    points, centers = ops.array([[0.0, 0], [3, 4]]), ops.array([[0.0, 0]])
    assert to_numpy(backend.squared_distances(points, centers)).tolist() == [[0.0], [25.0]]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others have one way alone")
@pytest.mark.parametrize("n_points", [256, 1, None])
@pytest.mark.parametrize(("n_centers", "n_dims"), [(10, 10), (3, 7), (1, 1), (25, 25), (65, 64)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quick_distances_have_the_bits_of_plain_ones(n_points, n_centers, n_dims, dtype):
    import tensorflow as tf

    rng = np.random.default_rng(n_dims)
    # Far from zero beside their distances: what expands the square would lose them.
    points = 1e3 + rng.normal(size=(n_points or 256, n_dims))
    centers = keras.Variable(1e3 + rng.normal(size=(n_centers, n_dims)), dtype=dtype)
    upstream = tf.constant(rng.normal(size=(n_points or 256, n_centers)), dtype)

    def of(distances):
        @tf.function(autograph=False, input_signature=[tf.TensorSpec((n_points, n_dims), dtype)])
        def traced(points):
            with tf.GradientTape() as tape:
                tape.watch(points)
                found = distances(points, centers)
            sources = [points, centers.value]
            return found, *tape.gradient(found, sources, output_gradients=upstream)

        kinds.append({op.type for op in traced.get_concrete_function().graph.get_operations()})
        return traced(tf.constant(points, dtype))

    kinds = []
    ours, plain = of(backend.squared_distances), of(backend_defaults.squared_distances)
    for mine, theirs in zip(ours, plain, strict=True):
        np.testing.assert_array_equal(to_numpy(mine), to_numpy(theirs))
    # Many centres of many dimensions would take longer so.
    assert ["MatMul" in kind for kind in kinds] == [backend.is_cpu() and n_dims < 64, False]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others have one way alone")
def test_quick_distances_have_second_derivatives():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    points, centers = (tf.constant(rng.normal(size=(n, 3)), tf.float32) for n in (5, 4))

    def second(distances):
        with tf.GradientTape() as outer:
            outer.watch([points, centers])
            with tf.GradientTape() as inner:
                inner.watch(points)
                loss = tf.reduce_sum(tf.math.log1p(distances(points, centers)))
            slope = tf.reduce_sum(inner.gradient(loss, points) ** 2)
        return outer.gradient(slope, [points, centers])

    ours, plain = second(backend.squared_distances), second(backend_defaults.squared_distances)
    for mine, theirs in zip(ours, plain, strict=True):
        # Sums of some ten terms of about 1, in another order.
        np.testing.assert_allclose(to_numpy(mine), to_numpy(theirs), rtol=1e-4, atol=1e-5)


def test_f_runs_over_the_whole_data_set():
    q = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    np.testing.assert_allclose(target(q)[:5], naive_target(q)[:5], rtol=1e-5)
    assert np.abs(target(q)[:5] - target(q[:5])).max() > 1e-2


def test_gradients_are_finite_at_zero_distance():
    centers = np.array([[0.0, 0.0], [1.0, 2.0]])

    def of_embedding(z):
        log_q = log_soft_assignment(z, ops.array(centers, "float32"))
        return kl_divergence(ops.array([[1.0, 0.0], [0.5, 0.5]]), log_q)

    def of_centers(mu):
        log_q = log_soft_assignment(ops.array(centers, "float32"), mu)
        return kl_divergence(ops.array([[1.0, 0.0], [0.5, 0.5]]), log_q)

    for function in (of_embedding, of_centers):
        slope = gradient(function, centers)
        assert np.isfinite(slope).all()
        # Against a central difference in float32: five digits lost.
        for index in np.ndindex(centers.shape):
            step = np.zeros_like(centers)
            step[index] = 0.01
            values = [
                float(to_numpy(function(ops.array(centers + s, "float32")))) for s in (step, -step)
            ]
            assert slope[index] == pytest.approx((values[0] - values[1]) / 0.02, abs=2e-3)


def test_far_samples_do_not_underflow():
    log_q = to_numpy(
        log_soft_assignment(
            ops.array([[1e15], [1e6]], "float32"), ops.array([[0.0], [-1e6], [1e6]]), 50.0
        )
    )
    assert np.isfinite(log_q).all()
    np.testing.assert_allclose(np.exp(log_q).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.exp(log_q[0]), 1 / 3, rtol=1e-4)
    assert log_q[1].argmax() == 2
    # 51/2 ln((1 + 1e12/50) / (1 + 4e12/50)) = 51/2 ln(1/4).
    assert log_q[1, 1] - log_q[1, 0] == pytest.approx(-25.5 * math.log(4), rel=1e-4)


def test_an_empty_cluster_gets_no_target():
    q = np.array([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]])
    p = target(q)
    assert np.isfinite(p).all()
    assert p[:, 2].tolist() == [0, 0]
    np.testing.assert_allclose(p[:, :2], naive_target(q[:, :2]), rtol=1e-6)
    # Where every sample's share is tiny, squares of it would underflow.
    q = np.array([[1.0, 1e-25], [1.0, 3e-25]])
    np.testing.assert_allclose(target(q)[:, 1], [2.5e-26 * 2, 4.5e-25], rtol=1e-4)


def test_layer():
    layer = ClusteringLayer(2, alpha=2.0, name="clustering")
    layer.build((None, 1))
    assert [weight.name for weight in layer.weights] == ["clusters"]
    layer.clusters.assign([[0.0], [1.0]])
    z = ops.array([[0.0], [3.0]])
    np.testing.assert_allclose(to_numpy(layer(z)), soft(z, [[0.0], [1.0]], 2.0), rtol=1e-6)
    again = ClusteringLayer.from_config(layer.get_config())
    assert (again.n_clusters, again.alpha, again.name) == (2, 2.0, "clustering")
