import functools
import gc
import http.server
import os
import signal
import threading
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from sklearn.datasets import _base as sklearn_base

from clustering_common import backend, backend_defaults, datasets

# What these look at does not depend on the engine: files, pages, charts, flags, what is said. Once
# is enough; a file that is named on the command line runs in any case.
ENGINE_FREE = (
    "aligned", "data_pass", "datasets", "docs", "docs_run", "examples", "flags", "fuzz",
    "grid_trials", "h5_data", "h5_names", "image_files", "kingdra_data", "make", "metrics",
    "parquet_files", "prepare", "prepare_images", "prepare_text", "prepare_zip", "progress",
    "pseudo_labels",
    "reference_page", "report", "report_charts", "report_files", "report_fuzz", "report_runners",
    "results_page", "select_k", "user_data",
)  # fmt: skip
if keras.backend.backend() != "tensorflow":
    collect_ignore = [f"test_{name}.py" for name in ENGINE_FREE]


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Let JAX compile equal programs once: each fit traces its own, most equal an earlier one's.

    The workers of xdist share what they compile. One that reads what another is writing compiles
    on its own. The processes that tests start do too, but for those that test_kill.py kills.
    """
    if keras.backend.backend() != "jax":
        return
    import jax

    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="session")
def images():
    """36 images of 8x8 in three kinds: a bar across, a bar down, a bright corner."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 0.2, (36, 8, 8))
    X[0::3, 3:5, :] += 0.8
    X[1::3, :, 3:5] += 0.8
    X[2::3, :4, :4] += 0.8
    X = X.astype(np.float32)
    X.setflags(write=False)
    return X


@pytest.fixture(scope="session")
def image_labels():
    return np.arange(36) % 3


@pytest.fixture(scope="session")
def blobs():
    """45 vectors of 6 numbers in about [0, 1], in three well separated groups."""
    rng = np.random.default_rng(1)
    centers = rng.uniform(0, 1, (3, 6))
    X = (centers[np.arange(45) % 3] + rng.normal(0, 0.02, (45, 6))).astype(np.float32)
    X.setflags(write=False)
    return X


@pytest.fixture
def uncompiled(monkeypatch):
    """Run TensorFlow step by step: these fits of a few steps cost more to trace than to run.

    JAX compiles them all the same: a step that it does not compile takes a second. What is compiled
    is tested in test_training.py, test_dec_phases.py and test_main.py.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    monkeypatch.setattr(backend.engine(), "many_steps", backend_defaults.plain_steps)
    tf.config.run_functions_eagerly(True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Even though the `tf.config.*run_functions_eagerly")
        yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def handlers():
    """Let a command line that runs in this process take signals, and give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def caches(tmp_path_factory, monkeypatch):
    """No test reads or writes what the user's downloaders keep."""
    folder = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(folder / "sklearn"))
    monkeypatch.setenv("KERAS_HOME", str(folder / "keras"))
    monkeypatch.setattr(datasets, "SYSTEM_FOLDERS", {})
    monkeypatch.setattr(sklearn_base.time, "sleep", lambda seconds: None)
    get_file = functools.partial(keras.utils.get_file, cache_dir=str(folder / "keras"))
    (folder / "keras").mkdir()
    monkeypatch.setattr(keras.utils, "get_file", get_file)
    return folder


@pytest.fixture
def server(tmp_path):
    """A folder, and the address under which it is served on this computer."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


@pytest.fixture
def open_responses():
    """Collect the answers that urllib leaves open in its errors before another test does."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
