import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from clustering_common import files, weights
from clustering_common.backend import to_numpy
from dec_da import ConvDEC, FcDCN, FcDEC, FcIDEC

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"max_iter": 4, "update_interval": 2, "pretrain_epochs": 1, "random_state": 0}


@pytest.fixture(scope="module")
def dense(images):
    return FcDEC(3, layer_sizes=(8, 3), **SMALL).fit(images.reshape(36, 64))


@pytest.fixture(scope="module")
def conv(images):
    # Not trained: the files are the same.
    params = {**SMALL, "pretrain_epochs": 0, "max_iter": 0}
    return ConvDEC(3, filters=(2, 3, 4), embedding_dim=3, **params).fit(images)


@pytest.fixture(scope="module")
def saved(dense, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.h5"
    dense.save(path)
    return path


def arrays_by_layer(estimator):
    """Return {layer: {weight: array}} of a fitted estimator, encoder, decoder, clustering."""
    return {
        layer.name: {weight.name: np.array(to_numpy(weight)) for weight in layer.weights}
        for layer in estimator._network.layers
    }


def all_weights(estimator):
    return [weight for layer in estimator._network.layers for weight in layer.weights]


def all_arrays(estimator):
    return [np.array(to_numpy(weight)) for weight in all_weights(estimator)]


def set_arrays(estimator, arrays):
    for weight, array in zip(all_weights(estimator), arrays, strict=True):
        weight.assign(array)


def write_classic(path, layers, group="/"):
    """Write a file as Keras 2 did: layers without weights are listed too."""
    with h5py.File(path, "w") as file:
        root = file.require_group(group)
        root.attrs["layer_names"] = [name.encode() for name in layers]
        root.attrs["backend"], root.attrs["keras_version"] = b"tensorflow", b"2.1.4"
        for name, arrays in layers.items():
            layer = root.create_group(name)
            names = [f"{name}/{weight}:0" for weight in arrays]
            layer.attrs["weight_names"] = [weight.encode() for weight in names]
            for weight, array in zip(names, arrays.values(), strict=True):
                layer[weight] = array


def one_line(error):
    return "\n" not in str(error.value)


# --- save and load ---


def test_load_gives_the_same_estimator(dense, saved, images):
    X = images.reshape(36, 64)
    loaded = FcDEC.load(saved)
    assert np.array_equal(loaded.predict_proba(X), dense.predict_proba(X))
    assert np.array_equal(loaded.labels_, dense.labels_)
    assert np.array_equal(loaded.cluster_centers_, dense.cluster_centers_)
    assert loaded.history_ == dense.history_
    assert (loaded.n_iter_, loaded.termination_condition_) == (
        dense.n_iter_, dense.termination_condition_,
    )  # fmt: skip
    assert loaded.n_features_in_ == 64
    assert loaded.get_params() == dense.get_params()
    assert repr(loaded) == repr(dense)


def test_load_of_images(conv, images, tmp_path):
    conv.save(tmp_path / "conv.h5")
    loaded = ConvDEC.load(tmp_path / "conv.h5")
    assert np.array_equal(loaded.transform(images), conv.transform(images))
    assert np.array_equal(
        loaded.inverse_transform([[0, 1, 2]]), conv.inverse_transform([[0, 1, 2]])
    )


def test_load_in_a_new_process(dense, saved, images, tmp_path):
    np.save(tmp_path / "X.npy", images.reshape(36, 64))
    script = (
        "import sys, numpy as np\n"
        "from dec_da import FcDEC\n"
        "model = FcDEC.load(sys.argv[1])\n"
        "np.save(sys.argv[3], model.predict_proba(np.load(sys.argv[2])))\n"
    )
    paths = [saved, tmp_path / "X.npy", tmp_path / "q.npy"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", script, *map(str, paths)], env=environment, check=True, timeout=120
    )
    q = np.load(tmp_path / "q.npy")
    assert np.array_equal(q, dense.predict_proba(images.reshape(36, 64)))


def test_parameters_of_numpy_can_be_saved(images, tmp_path):
    estimator = FcDEC(
        np.int64(2),
        layer_sizes=(4, 2),
        alpha=np.float32(1),
        pretrain_epochs=0,
        max_iter=0,
        random_state=np.int64(3),
    ).fit(images.reshape(36, 64))
    estimator.save(tmp_path / "model.h5")
    assert FcDEC.load(tmp_path / "model.h5").n_clusters == 2


def test_names_of_columns_are_kept(blobs, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(blobs, columns=list("abcdef"))
    estimator = FcDEC(3, layer_sizes=(4, 2), pretrain_epochs=0, max_iter=0, random_state=0)
    estimator.fit(frame).save(tmp_path / "model.h5")
    loaded = FcDEC.load(tmp_path / "model.h5")
    assert loaded.feature_names_in_.tolist() == list("abcdef")
    assert np.array_equal(loaded.predict(frame), estimator.labels_)


def test_load_by_the_wrong_class(saved):
    text = r"^path must be a file that FcIDEC\.save wrote; got .*: it was saved by FcDEC\. Load it"
    with pytest.raises(ValueError, match=text):
        FcIDEC.load(saved)


def test_load_of_weights_alone(dense, tmp_path):
    weights.write_weights(tmp_path / "ae.h5", dense._network.layers)
    with pytest.raises(ValueError, match=r"which holds weights alone\. Use load_weights\(path"):
        FcDEC.load(tmp_path / "ae.h5")


# --- classic files ---


def release_order(layers, last):
    """Return the layers as the authors' model lists them: clustering before the last decoder."""
    clustering = {"clustering": layers["clustering"]}
    names = [name for name in layers if name not in ("clustering", last)]
    return {"input": {}, **{n: layers[n] for n in names}, **clustering, last: layers[last]}


@pytest.mark.parametrize("group", ["/", "model_weights"])
def test_a_dense_file_of_the_release(dense, images, group, tmp_path):
    X = images.reshape(36, 64)
    layers = release_order(arrays_by_layer(dense), "decoder_0")
    assert list(layers)[-2:] == ["clustering", "decoder_0"]
    write_classic(tmp_path / "classic.h5", layers, group)
    loaded = FcDEC(3, layer_sizes=(8, 3)).load_weights(tmp_path / "classic.h5", (64,))
    assert np.array_equal(loaded.predict_proba(X), dense.predict_proba(X))
    z = dense.transform(X)
    assert np.array_equal(loaded.inverse_transform(z), dense.inverse_transform(z))


@pytest.mark.parametrize("name", ["dense", "dense_1", "dense_17"])
def test_a_conv_file_of_the_release(conv, images, name, tmp_path):
    layers = arrays_by_layer(conv)
    renamed = {(name if key == "dense" else key): value for key, value in layers.items()}
    ordered = release_order(renamed, "deconv1")
    ordered = {**ordered, "flatten": {}, "reshape": {}}
    write_classic(tmp_path / "classic.h5", ordered)
    loaded = ConvDEC(3, filters=(2, 3, 4), embedding_dim=3)
    loaded.load_weights(tmp_path / "classic.h5", (8, 8))
    assert np.array_equal(loaded.predict_proba(images), conv.predict_proba(images))
    z = conv.transform(images)
    assert np.array_equal(loaded.inverse_transform(z), conv.inverse_transform(z))


def test_automatic_names_all_through_match_by_order_and_shape(dense, images, tmp_path):
    layers = arrays_by_layer(dense)
    renamed = {f"dense_{i}": arrays for i, arrays in enumerate(layers.values())}
    write_classic(tmp_path / "classic.h5", renamed)
    loaded = FcDEC(3, layer_sizes=(8, 3)).load_weights(tmp_path / "classic.h5", (64,))
    X = images.reshape(36, 64)
    assert np.array_equal(loaded.predict_proba(X), dense.predict_proba(X))


def test_a_file_without_decoder(dense, images, tmp_path):
    layers = arrays_by_layer(dense)
    kept = {n: a for n, a in layers.items() if not n.startswith("decoder")}
    write_classic(tmp_path / "classic.h5", kept)
    loaded = FcDEC(3, layer_sizes=(8, 3)).load_weights(tmp_path / "classic.h5", (64,))
    X = images.reshape(36, 64)
    assert np.array_equal(loaded.predict_proba(X), dense.predict_proba(X))
    # For pretraining it is no use.
    estimator = FcDEC(3, layer_sizes=(8, 3), pretrained_weights=tmp_path / "classic.h5")
    with pytest.raises(
        ValueError, match=r"it has no layer that fits 'decoder_1' with shapes 3x8, 8"
    ):
        estimator.fit(X)


def test_keras_reads_our_files(dense, saved, images, tmp_path):
    X = images.reshape(36, 64)
    layers = dense._network.autoencoder.layers
    weights.write_weights(tmp_path / "ae.h5", layers)
    plain = keras.Sequential([keras.Input((64,))])
    for layer in layers:
        activation = layer.activation.__name__
        plain.add(keras.layers.Dense(layer.units, activation, name=layer.name))
    plain.load_weights(tmp_path / "ae.h5")
    np.testing.assert_allclose(
        to_numpy(plain(X)), dense.inverse_transform(dense.transform(X)), atol=1e-5
    )
    encoder = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(8, "relu", name="encoder_0"),
            keras.layers.Dense(3, name="encoder_1"),
        ]
    )
    encoder.load_weights(saved, by_name=True)
    np.testing.assert_allclose(to_numpy(encoder(X)), dense.transform(X), atol=1e-5)


def test_pretrained_weights_are_the_start(dense, images, tmp_path):
    X = images.reshape(36, 64)
    for path, layers in (("ae.h5", dense._network.autoencoder.layers), ("all.h5", None)):
        weights.write_weights(tmp_path / path, layers or dense._network.layers)
        params = {"pretrained_weights": tmp_path / path, "max_iter": 0, "random_state": 1}
        estimator = FcDCN(3, layer_sizes=(8, 3), **params).fit(X)
        assert np.array_equal(estimator.transform(X), dense.transform(X))
        assert estimator.history_["pretrain"] == []


# --- what does not fit, and damage ---


def refused(path, error=ValueError, text=None, layers=(8, 3), shape=(64,)):
    """Load into a fitted estimator; return the error; the estimator is as it was."""
    estimator = FcDEC(3, layer_sizes=layers, pretrain_epochs=0, max_iter=0, random_state=0)
    X = np.random.default_rng(0).random((9, 64)).astype(np.float32)
    before = estimator.fit(X).predict_proba(X)
    with pytest.raises(error, match=text) as caught:
        estimator.load_weights(path, shape)
    assert one_line(caught)
    assert np.array_equal(estimator.predict_proba(X), before)
    assert estimator.n_features_in_ == 64


def test_another_architecture_names_the_layer(saved, conv, tmp_path):
    refused(saved, text=r"layer 'encoder_0' has shapes 64x8, 8 where .* 64x7, 7", layers=(7, 3))
    refused(saved, text=r"it has no layer that fits 'encoder_2' with shapes", layers=(8, 3, 2))
    conv.save(tmp_path / "conv.h5")
    refused(tmp_path / "conv.h5", text=r"it has no layer that fits 'encoder_0' with shapes 64x8, 8")
    refused(saved, text=r"layer 'encoder_0' has shapes 64x8, 8 where .* 100x8, 8", shape=(100,))


def test_too_many_clusters_or_layers(saved, dense, tmp_path):
    with pytest.raises(ValueError, match=r"layer 'clustering' has shapes 3x3 where .* 4x3\. Use"):
        FcDEC(4, layer_sizes=(8, 3)).load_weights(saved, (64,))
    layers = arrays_by_layer(dense)
    layers["encoder_9"] = {"kernel": np.zeros((9, 9))}
    write_classic(tmp_path / "more.h5", layers)
    with pytest.raises(
        ValueError, match=r"it has a layer 'encoder_9' that this network lacks\. Use"
    ):
        FcDEC(3, layer_sizes=(8, 3)).load_weights(tmp_path / "more.h5", (64,))


def test_nan_weights(dense, tmp_path):
    layers = arrays_by_layer(dense)
    layers["decoder_0"]["bias"][3] = np.nan
    write_classic(tmp_path / "nan.h5", layers)
    refused(tmp_path / "nan.h5", text=r"^weights must be finite; .* in layer 'decoder_0' of ")


def test_files_of_another_kind(tmp_path):
    path = tmp_path / "model.h5"
    refused(path, FileNotFoundError, r"^weights must be an existing \.h5 file; got .*model\.h5'\.")
    refused(tmp_path, FileNotFoundError, r"^weights must be an existing \.h5 file")
    path.write_bytes(b"")
    refused(path, text=r"^weights must be a whole HDF5 file of Keras weights; got .*model\.h5'")
    path.write_text("not weights\nat all\n")
    refused(path, text=r"^weights must be a whole HDF5 file")
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)
    refused(path, text=r"\(\"?'?no attribute 'layer_names'")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"encoder_0"]
        file.create_group("encoder_0").attrs["weight_names"] = [b"kernel"]
        file["encoder_0/kernel"] = "a text"
    refused(path)


@pytest.mark.parametrize("kept", [1, 8, 40, 96, 600, 2048, 0.5, 0.9, -1])
def test_truncated_files(kept, saved, tmp_path):
    content = saved.read_bytes()
    n_bytes = int(kept * len(content)) if isinstance(kept, float) else kept
    path = tmp_path / "cut.h5"
    path.write_bytes(content[:n_bytes])
    refused(path, text=r"^weights must be a whole HDF5 file of Keras weights; got .*cut\.h5'")
    with pytest.raises(ValueError, match=r"^weights must be a whole HDF5 file") as caught:
        FcDEC.load(path)
    assert one_line(caught)


def test_flipped_bytes(dense, saved, tmp_path):
    """Damage is refused in one line, or only changed a number that no check can know."""
    content = saved.read_bytes()
    path = tmp_path / "flipped.h5"
    rng = np.random.default_rng(0)
    offsets = [*range(0, 100, 6), *rng.integers(100, 3000, 40), *rng.integers(0, len(content), 20)]
    before, n_refused, unclear = all_arrays(dense), 0, []
    for offset in map(int, offsets):
        flipped = bytearray(content)
        flipped[offset] ^= 0xFF
        path.write_bytes(bytes(flipped))
        try:
            weights.load_weights(path, dense._network.layers)
            weights.read_extras(path)
        except ValueError as error:
            n_refused += 1
            if "\n" in str(error) or "flipped.h5" not in str(error):
                unclear.append((offset, str(error)))
    set_arrays(dense, before)
    assert n_refused > 10
    assert not unclear


def test_nothing_is_loaded_from_a_file_that_is_refused(dense, tmp_path):
    layers = arrays_by_layer(dense)
    layers["encoder_0"]["kernel"] += 1
    layers["decoder_0"]["bias"] = np.zeros(65)
    write_classic(tmp_path / "half.h5", layers)
    before = all_arrays(dense)
    with pytest.raises(ValueError, match="layer 'decoder_0' has shapes"):
        weights.load_weights(tmp_path / "half.h5", dense._network.layers)
    for a, b in zip(before, all_arrays(dense), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_the_old_file(error, dense, tmp_path, monkeypatch):
    path = tmp_path / "model.h5"
    dense.save(path)
    before, n_calls = path.read_bytes(), []

    def interrupted(tensor):
        n_calls.append(1)
        if len(n_calls) > 3:
            raise error
        return to_numpy(tensor)

    monkeypatch.setattr(weights.backend, "to_numpy", interrupted)
    with pytest.raises((KeyboardInterrupt, OSError)):
        dense.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.h5"]


WRITERS = {
    "save": lambda dense, path: dense.save(path),
    "write_weights": lambda dense, path: weights.write_weights(path, dense._network.layers),
    "write_json": lambda dense, path: files.write_json(path, {}),
    "write_csv": lambda dense, path: files.write_csv(path, ["a"], []),
    "write_array": lambda dense, path: files.write_array(path, np.zeros(1)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_path_that_cannot_be_written_is_named(name, dense, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (
        r"^path must be in a folder that exists; got 'nodir/x\.h5', and 'nodir' does not exist\. "
        r"Make that folder first\.$"
    )
    with pytest.raises(FileNotFoundError, match=text):
        WRITERS[name](dense, "nodir/x.h5")
    Path("dir.h5").mkdir()
    text = r"^path must be a file that can be written; got 'dir\.h5' \(Is a directory\)\. Choose"
    with pytest.raises(IsADirectoryError, match=text):
        WRITERS[name](dense, Path("dir.h5"))
    Path("file").write_text("in the way")
    text = r"^path must be a file .*; got 'file/x\.h5' \(Not a directory\)\. Choose"
    with pytest.raises(NotADirectoryError, match=text):
        WRITERS[name](dense, "file/x.h5")
    assert sorted(os.listdir()) == ["dir.h5", "file"]
    assert not os.listdir("dir.h5")


def test_an_error_while_writing_names_the_path(tmp_path):
    with pytest.raises(OSError, match=r"got '.*/x\.h5' \(no space for .*/x\.h5\)\. Choose"):
        with files.replacing(tmp_path / "x.h5") as temporary:
            raise OSError(f"no space for {temporary}")
    # Another file's error is not this one's.
    with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] .*other"):
        with files.replacing(tmp_path / "x.h5"):
            (tmp_path / "other").read_text()
    assert os.listdir(tmp_path) == []


def test_a_copy_of_some_layers(dense, saved, images, tmp_path):
    path = tmp_path / "copy.h5"
    weights.copy_weights(saved, path, without=["clustering"])
    with h5py.File(path) as file:
        assert set(file) == {"encoder_0", "encoder_1", "decoder_1", "decoder_0"}
    estimator = FcDEC(3, layer_sizes=(8, 3), pretrained_weights=path, max_iter=0, random_state=1)
    X = images.reshape(36, 64)
    assert np.array_equal(estimator.fit(X).transform(X), dense.transform(X))
    weights.copy_weights(path, path, without=["decoder_0"])
    with h5py.File(path) as file:
        assert set(file) == {"encoder_0", "encoder_1", "decoder_1"}
    with pytest.raises(FileNotFoundError, match=r"^weights must be an existing \.h5 file"):
        weights.copy_weights(tmp_path / "none.h5", path)


def test_a_copy_of_a_keras_2_model(dense, tmp_path):
    arrays = arrays_by_layer(dense)
    write_classic(tmp_path / "classic.h5", {"input": {}, **arrays}, "model_weights")
    weights.copy_weights(tmp_path / "classic.h5", tmp_path / "copy.h5")
    before = all_arrays(dense)
    assert weights.load_weights(tmp_path / "copy.h5", dense._network.layers) == list(arrays)
    for a, b in zip(before, all_arrays(dense), strict=True):
        assert np.array_equal(a, b)


def test_a_new_file_is_as_readable_as_others(saved, tmp_path):
    (tmp_path / "other").write_text("")
    assert saved.stat().st_mode == (tmp_path / "other").stat().st_mode
