import functools
import gc
import logging
import weakref

import keras
import numpy as np
import pytest
import scipy.sparse
from keras import ops

from clustering_common import backend, training
from clustering_common.seeds import SeedStream
from clustering_common.training import BatchSchedule, SteppedModel, apply_in_chunks
from dec_da import FcDEC, models
from dec_da.autoencoders import conv_autoencoder, dense_autoencoder
from dec_da.models import ReconstructionModel

RATE = 0.1
calls = []  # one entry each time Python runs `call`, which is when something is traced


class LeastSquares(SteppedModel):
    """Mean (x w - y)^2; fed with indices of the resident data, or with rows."""

    def __init__(self, data, goal):
        super().__init__()
        self.data = self.add_resident(data, "data")
        self.goal = self.add_resident(goal, "goal")
        self.w = self.add_weight(shape=(data.shape[1],), initializer="zeros", name="w")

    def call(self, batch):
        calls.append(1)
        if isinstance(batch, list | tuple):
            x, y = batch
        else:
            x, y = ops.take(self.data, batch, axis=0), ops.take(self.goal, batch, axis=0)
        return ops.sum(x * self.w, axis=1) - y

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.square(y_pred))


class Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.values, self.epochs = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        self.values.append(logs["loss"])


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(10, 3)).astype(np.float32)
    return data, (data @ [1.0, -2.0, 0.5] + rng.normal(0, 0.1, 10)).astype(np.float32)


def plain_loop(problem, n_steps, batch_size=3, seed=5):
    """Return weights and losses of SGD, one step at a time."""
    data, goal = (array.astype(np.float64) for array in problem)
    w, losses = np.zeros(3), []
    for rows in BatchSchedule(len(data), batch_size, seed).batches(0, n_steps):
        error = data[rows] @ w - goal[rows]
        losses.append(np.mean(error**2))
        w = w - RATE * 2 * data[rows].T @ error / len(rows)
    return w, losses


def fit(problem, n_steps, steps_per_epoch, feed="indices", batch_size=3, seed=5, **options):
    model = LeastSquares(*problem)
    model.prepare(keras.optimizers.SGD(RATE))
    schedule = BatchSchedule(len(problem[0]), batch_size, seed)

    def rows(start, stop):
        indices = schedule.batches(start, stop)
        return problem[0][indices], problem[1][indices]

    losses = Losses()
    model.fit_steps(
        schedule.batches if feed == "indices" else rows,
        steps_per_epoch=steps_per_epoch,
        n_steps=n_steps,
        callbacks=[losses],
        **options,
    )
    return model, losses


# --- BatchSchedule ---


def test_a_pass_is_full_batches_of_a_fresh_permutation():
    schedule = BatchSchedule(11, 4, seed=0)
    assert schedule.steps_per_pass == 2
    batches = schedule.batches(0, 40)
    assert batches.shape == (40, 4)
    assert batches.dtype == np.int32
    passes = batches.reshape(20, 8)
    for one in passes:
        assert len(set(one.tolist())) == 8
    assert len({tuple(one) for one in passes.tolist()}) == 20
    # Which three are left out changes too: everybody is drawn in the end.
    assert set(batches.ravel().tolist()) == set(range(11))
    left_out = [tuple(sorted(set(range(11)) - set(one.tolist()))) for one in passes]
    assert len(set(left_out)) > 10


@pytest.mark.parametrize(
    ("n_samples", "batch_size", "shape", "steps"),
    [(3, 256, (3, 3), 1), (8, 4, (3, 4), 2), (4, 4, (3, 4), 1), (1, 1, (3, 1), 1)],
)
def test_limits_of_the_schedule(n_samples, batch_size, shape, steps):
    schedule = BatchSchedule(n_samples, batch_size, seed=0)
    assert schedule.steps_per_pass == steps
    batches = schedule.batches(0, 3)
    assert batches.shape == shape
    one_pass = batches[:steps].ravel().tolist()
    assert sorted(one_pass) == list(range(n_samples))


def test_batches_are_a_pure_function_of_the_step():
    whole = BatchSchedule(10, 3, seed=4).batches(0, 9)
    schedule = BatchSchedule(10, 3, seed=4)
    assert np.array_equal(schedule.batches(5, 9), whole[5:])
    assert np.array_equal(schedule.batches(0, 2), whole[:2])
    assert schedule.batches(3, 3).shape == (0, 3)
    assert not np.array_equal(BatchSchedule(10, 3, seed=5).batches(0, 9), whole)


def test_permutations_are_uniform():
    first = BatchSchedule(4, 4, seed=0).batches(0, 4000)[:, 0]
    # Binomial, 4000 x 1/4: 5 sigma are 137.
    assert np.abs(np.bincount(first, minlength=4) - 1000).max() < 137


# --- fit_steps ---


@pytest.mark.parametrize("feed", ["indices", "rows"])
@pytest.mark.parametrize(
    ("n_steps", "steps_per_epoch", "block_steps"),
    [(17, 7, 3), (17, 7, 128), (5, 7, 2), (14, 7, 7), (1, 1, 128)],
)
def test_steps_equal_a_plain_loop(
    problem, feed, n_steps, steps_per_epoch, block_steps, monkeypatch
):
    monkeypatch.setattr(training, "BLOCK_STEPS", block_steps)
    model, losses = fit(problem, n_steps, steps_per_epoch, feed)
    w, expected = plain_loop(problem, n_steps)
    # float32 over at most 17 steps.
    np.testing.assert_allclose(backend.to_numpy(model.w), w, atol=1e-5)
    assert int(backend.to_numpy(model.optimizer.iterations)) == n_steps
    starts = range(0, n_steps, steps_per_epoch)
    means = [np.mean(expected[start : start + steps_per_epoch]) for start in starts]
    assert losses.epochs == list(range(len(means)))
    np.testing.assert_allclose(losses.values, means, rtol=1e-5, atol=1e-6)


def test_steps_equal_train_on_batch(problem):
    data, goal = problem
    dense = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    dense.layers[0].bias.trainable = False
    dense.compile(keras.optimizers.SGD(RATE, momentum=0.9), "mse")
    for rows in BatchSchedule(10, 3, 5).batches(0, 8):
        dense.train_on_batch(data[rows], goal[rows][:, None])
    model = LeastSquares(*problem)
    model.prepare(keras.optimizers.SGD(RATE, momentum=0.9))
    model.fit_steps(BatchSchedule(10, 3, 5).batches, steps_per_epoch=5, n_steps=8)
    np.testing.assert_allclose(
        backend.to_numpy(model.w), backend.to_numpy(dense.layers[0].kernel)[:, 0], atol=1e-5
    )


def test_a_short_block_compiles_nothing_anew(problem, monkeypatch):
    monkeypatch.setattr(training, "BLOCK_STEPS", 3)
    counts = []
    for n_steps in (12, 17):  # blocks of 3 3 | 3 3, and 3 3 | 3 3 | 3 2: two epochs or three
        calls.clear()
        fit(problem, n_steps, 6)
        counts.append(len(calls))
    if keras.backend.backend() != "torch":
        assert counts[0] == counts[1]


def test_a_block_by_itself_compiles_nothing_anew(problem):
    model, schedule = LeastSquares(*problem), BatchSchedule(10, 3, 5)
    model.prepare(keras.optimizers.SGD(RATE))
    traces = []
    for start in (0, 4, 8):
        calls.clear()
        model.train_on_batch((np.array([4], np.int32), schedule.batches(start, start + 4)))
        traces.append(len(calls))
    assert traces[1:] == ([0, 0] if keras.backend.backend() != "torch" else [4, 4])
    np.testing.assert_allclose(backend.to_numpy(model.w), plain_loop(problem, 12)[0], atol=1e-5)


on_jax_and_cpu = pytest.mark.skipif(
    keras.backend.backend() != "jax" or not backend.is_cpu(), reason="others have one way"
)
IMAGES = np.random.default_rng(0).random((20, 8, 8, 1)).astype(np.float32)


def conv_model():
    """Return a compiled model of convolutions, and its mini-batches."""
    autoencoder = conv_autoencoder((8, 8, 1), (4, 5, 6), 2, SeedStream(0))
    model = ReconstructionModel(autoencoder, IMAGES, image_shape=(8, 8, 1), augment_seed=3)
    model.prepare(keras.optimizers.SGD(RATE, momentum=0.9))
    return model, model.fed(BatchSchedule(20, 6, 5).batches)


@on_jax_and_cpu
@pytest.mark.parametrize("is_in_file", [False, True])
def test_convolutions_train_alike_in_dispatches_and_in_a_loop(is_in_file, monkeypatch):
    monkeypatch.setattr(models, "stays_in_file", lambda X: is_in_file)
    engine, trained, ways = backend.engine(), [], []
    chosen = engine.own_train_function
    for name in ("single_steps", "loop_of_steps"):
        way = getattr(engine, name)
        monkeypatch.setattr(engine, name, lambda *args, way=way: ways.append(way) or way(*args))
        monkeypatch.setattr(engine, "own_train_function", way)
        model, batches = conv_model()
        losses = Losses()
        model.fit_steps(batches, steps_per_epoch=3, n_steps=8, callbacks=[losses])
        assert int(model.optimizer.iterations) == 8
        weights = [ops.convert_to_numpy(v) for v in model.trainable_variables]
        trained.append([losses.values, *weights])
        made = model.train_function
        model.make_train_function()
        assert model.train_function is made
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)  # float32 over 8 steps
    dense = dense_autoencoder(64, (5, 2), SeedStream(0))
    model = ReconstructionModel(dense, IMAGES.reshape(20, 64), image_shape=None, augment_seed=None)
    for each in (conv_model()[0], model):
        chosen(each, each.train_step)
    assert [way.__name__ for way in ways] == ["single_steps", "loop_of_steps"]


@on_jax_and_cpu
@pytest.mark.parametrize(
    ("place", "call", "n_done"),
    [("host_entry", 6, 5), ("jax.block_until_ready", 6, 6), ("_logs", 2, 8), ("_logs", 1, 4)],
)
def test_an_interrupted_block_keeps_the_steps_that_were_done(place, call, n_done, monkeypatch):
    *names, name = place.split(".")
    holder = functools.reduce(getattr, names, backend.engine())
    original, calls_ = getattr(holder, name), []

    def interrupting(*args):
        calls_.append(1)
        if len(calls_) == call:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(holder, name, interrupting)
    monkeypatch.setattr(training, "BLOCK_STEPS", 4)
    model, batches = conv_model()
    with pytest.raises(KeyboardInterrupt):
        model.fit_steps(batches, steps_per_epoch=8, n_steps=8)
    assert int(model.optimizer.iterations) == n_done
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in model.trainable_variables)
    assert np.array_equal(ops.convert_to_numpy(model.samples.variables[0]), IMAGES)


def test_a_run_goes_on_where_it_stopped(problem):
    whole, _ = fit(problem, 9, 3)
    model, _ = fit(problem, 3, 3)
    model.fit_steps(BatchSchedule(10, 3, 5).batches, steps_per_epoch=3, n_steps=9, first_step=3)
    assert int(backend.to_numpy(model.optimizer.iterations)) == 9
    np.testing.assert_allclose(backend.to_numpy(model.w), backend.to_numpy(whole.w), atol=1e-6)


def test_resident_data_stays_as_it_is(problem):
    model, _ = fit(problem, 4, 2)
    assert np.array_equal(backend.to_numpy(model.data), problem[0])
    assert [variable.trainable for variable in model.resident] == [False, False]
    assert len(model.trainable_variables) == 1


@pytest.mark.parametrize(
    ("operations", "on_cpu", "n_blocks"),
    [(1, True, 1), (30, True, 3), (999, True, 7), (30, False, 1)],
)
def test_costly_steps_make_short_blocks(problem, operations, on_cpu, n_blocks, monkeypatch):
    monkeypatch.setattr(training, "BLOCK_OPERATIONS", 100)
    monkeypatch.setattr(backend, "is_cpu", lambda: on_cpu)
    model = LeastSquares(*problem)
    model.step_operations = operations
    plan = model._planned(BatchSchedule(10, 3, 5).batches, 7, 14)
    assert (plan.blocks_per_epoch, plan.block_steps) == (n_blocks, -(-7 // n_blocks))


# --- apply_in_chunks ---


@pytest.fixture(scope="module")
def encode():
    encoder = dense_autoencoder(64, (50, 10), SeedStream(0)).encoder
    return backend.compiled(encoder, encoder.variables)


@pytest.mark.parametrize("n_samples", [1, 3, 8, 9, 16, 20])
def test_chunks_of_every_size(n_samples, monkeypatch):
    monkeypatch.setattr(training, "ROWS_PER_CALL", 8)
    shapes = []

    def double(rows):
        shapes.append(rows.shape)
        assert rows.dtype == np.float32
        return ops.array(rows) * 2

    X = np.random.default_rng(0).random((n_samples, 2, 3))
    out = apply_in_chunks(double, X)
    np.testing.assert_allclose(out, 2 * X, rtol=1e-6)
    assert shapes == [(8, 2, 3)] * -(-n_samples // 8)


def test_a_row_does_not_depend_on_its_neighbours(encode):
    X = np.random.default_rng(0).random((1100, 64)).astype(np.float32)
    whole = apply_in_chunks(encode, X)
    assert whole.shape == (1100, 10)
    other = X.copy()
    other[1:] = 1e3 * X[1:][::-1]
    assert np.array_equal(apply_in_chunks(encode, other)[0], whole[0])
    for rows in ([0], [700], range(100, 612), range(100, 613), range(1099, -1, -7)):
        rows = list(rows)
        assert np.array_equal(apply_in_chunks(encode, X[rows]), whole[rows])


def test_sparse_rows_equal_dense_rows(encode):
    X = scipy.sparse.random(600, 64, density=0.1, format="csr", random_state=0)
    assert np.array_equal(apply_in_chunks(encode, X), apply_in_chunks(encode, X.toarray()))


def test_compiled_reads_the_weights_of_the_moment():
    variable = keras.Variable(np.ones(2, np.float32))
    double = backend.compiled(lambda x: x * 2 * variable, [variable])
    x = np.array([1.0, 3.0], np.float32)
    assert backend.to_numpy(double(x)).tolist() == [2, 6]
    variable.assign([10.0, 0.0])
    assert backend.to_numpy(double(x)).tolist() == [20, 0]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others fuse on their own")
@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(RATE, beta_1=0.8, epsilon=1e-3),
        lambda: keras.optimizers.AdamW(RATE, weight_decay=0.1),
        lambda: keras.optimizers.SGD(RATE, momentum=0.9),
        lambda: keras.optimizers.SGD(RATE, momentum=0.9, nesterov=True),
        lambda: keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(RATE, 2, 0.5), momentum=0.9
        ),
    ],
)
def test_native_updates_equal_keras_updates(problem, make, monkeypatch):
    trained = []
    for is_native in (True, False):
        if not is_native:
            monkeypatch.setattr(backend.engine(), "prepare_optimizer", lambda optimizer: None)
        model = LeastSquares(*problem)
        model.prepare(make())
        assert ("update_step" in vars(model.optimizer)) == is_native
        model.fit_steps(BatchSchedule(10, 3, 5).batches, steps_per_epoch=3, n_steps=12)
        trained.append([ops.convert_to_numpy(v) for v in model.optimizer.variables])
        trained[-1].append(ops.convert_to_numpy(model.w))
        assert int(model.optimizer.iterations) == 12
    for native, plain in zip(*trained, strict=True):
        # 1 - beta_2 is rounded in single precision by the one, in double by the other
        np.testing.assert_allclose(native, plain, rtol=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others fuse on their own")
def test_other_optimizers_stay_keras_own():
    for optimizer in (keras.optimizers.Adam(amsgrad=True), keras.optimizers.SGD()):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        optimizer.build(model.trainable_variables)
        backend.prepare_optimizer(optimizer)
        assert "update_step" not in vars(optimizer)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data feeds it alone")
def test_the_tuner_of_tf_data_is_off():
    blocks = (np.full((2,), i, np.int32) for i in range(3))
    dataset = backend.feed(blocks)
    assert not dataset.options().autotune.enabled
    assert [int(block[0]) for block in dataset] == [0, 1, 2]


class StopAtOnce(keras.callbacks.Callback):
    """Stop after the first epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def test_who_makes_the_batches_is_forgotten(problem):
    model, schedule = LeastSquares(*problem), BatchSchedule(10, 3, seed=5)
    model.prepare(keras.optimizers.SGD(RATE))
    model.fit_steps(schedule.batches, steps_per_epoch=1, n_steps=9, callbacks=[StopAtOnce()])
    seen = weakref.ref(schedule)
    del schedule
    gc.collect()
    assert seen() is None


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a registry of TensorFlow's")
@pytest.mark.filterwarnings("ignore:After fit, ")
def test_a_trained_graph_is_forgotten(blobs):
    from tensorflow.python.framework import ops

    before = set(ops.gradient_registry.list())
    FcDEC(
        2, layer_sizes=(4, 2), pretrain_epochs=1, max_iter=2, update_interval=1, random_state=0
    ).fit(blobs)
    assert set(ops.gradient_registry.list()) == before


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's AutoGraph")
def test_compiled_functions_are_taken_as_they_are_without_a_warning():
    import tensorflow as tf

    said, handler = [], logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    without_source = {}  # of a file, as AutoGraph says nothing of what is typed in
    exec(compile("def double(x):\n    return 2 * x", "no file", "exec"), without_source)
    tf.get_logger().addHandler(handler)
    try:
        double = backend.compiled(without_source["double"], [])
        np.testing.assert_array_equal(backend.to_numpy(double(np.arange(3.0))), [0, 2, 4])
    finally:
        tf.get_logger().removeHandler(handler)
    assert said == []
