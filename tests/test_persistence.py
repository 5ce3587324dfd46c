import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from clustering_common import files, h5_files, weights
from clustering_common.backend import to_numpy
from clustering_common.seeds import SeedStream
from dec_da import ConvDEC, FcDCN, FcDEC, FcIDEC
from kingdra_cluster import KingdraCluster

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
    """Damage is refused in one line, or changed nothing that is read."""
    content = saved.read_bytes()
    path = tmp_path / "flipped.h5"
    rng = np.random.default_rng(0)
    offsets = [*range(0, 100, 6), *rng.integers(100, 3000, 40), *rng.integers(0, len(content), 20)]
    before, (config, arrays) = all_arrays(dense), weights.read_extras(saved)
    n_refused, unclear = 0, []
    for offset in map(int, offsets):
        flipped = bytearray(content)
        flipped[offset] ^= 0xFF
        path.write_bytes(bytes(flipped))
        try:
            weights.load_weights(path, dense._network.layers)
            assert str(weights.read_extras(path)) == str((config, arrays))
        except ValueError as error:
            n_refused += 1
            if "\n" in str(error) or "flipped.h5" not in str(error):
                unclear.append((offset, str(error)))
        for array, expected in zip(all_arrays(dense), before, strict=True):
            assert np.array_equal(array, expected)
    assert n_refused > 10
    assert not unclear


def test_one_bit_of_any_dataset(saved, images, tmp_path):
    offsets = []

    def note(name, item):
        # The text of config lies elsewhere, in a heap.
        if isinstance(item, h5py.Dataset) and name != "estimator/config":
            offsets.append(item.id.get_offset())

    with h5py.File(saved) as file:
        file.visititems(note)
    assert len(offsets) == 2 * 4 + 1 + 1  # kernels and biases, centres, labels_
    text = r"^weights must be a whole HDF5 file .*bit\.h5' \(its checksum differs\)\. The file"
    estimator = FcDEC(3, layer_sizes=(8, 3), pretrained_weights=tmp_path / "bit.h5")
    for offset in offsets:
        content = bytearray(saved.read_bytes())
        content[offset + 1] ^= 1
        (tmp_path / "bit.h5").write_bytes(content)
        calls = [
            lambda: FcDEC.load(tmp_path / "bit.h5"),
            lambda: FcDEC(3, layer_sizes=(8, 3)).load_weights(tmp_path / "bit.h5", (64,)),
            lambda: estimator.fit(images.reshape(36, 64)),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=text):
                call()


def test_the_checksum_worked_out_by_hand(tmp_path):
    class Layer:
        name, weights = "a", []

    weights.write_weights(tmp_path / "a.h5", [Layer], arrays={"labels_": np.array([1, 2], "<i8")})
    text = b"labels_\n/estimator/labels_\n<i8\n(2,)\n" + bytes([1, *[0] * 7, 2, *[0] * 7])
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["sha256"] == hashlib.sha256(text).hexdigest().encode()


# --- hostile files, with a checksum of their own ---


@pytest.fixture
def hostile(saved, tmp_path):
    """Return a function that changes a copy of a saved file and signs it."""
    path = tmp_path / "hostile.h5"

    def change(edit, source=saved, signed=True):
        path.write_bytes(source.read_bytes())
        with h5py.File(path, "r+") as file:
            edit(file)
            if signed:
                file.attrs["sha256"] = np.bytes_(h5_files.checksum(file))
        return path

    return change


def set_config(file, **changes):
    config = json.loads(file["estimator/config"][()])
    for key, value in changes.items():
        place = config["params"] if key in config["params"] else config
        place[key] = value
    del file["estimator/config"]
    file["estimator/config"] = np.bytes_(json.dumps(config))


def set_array(file, name, array):
    file.pop(f"estimator/{name}", None)
    file[f"estimator/{name}"] = np.asarray(array)


def test_the_signature_of_the_tests_is_right(hostile, dense):
    loaded = FcDEC.load(hostile(lambda file: set_config(file, n_iter_=7)))
    assert loaded.n_iter_ == 7
    assert np.array_equal(loaded.labels_, dense.labels_)


def unpacked_zeros(file):
    del file["estimator/labels_"]
    file.create_dataset("estimator/labels_", (600_000_000,), "i8", chunks=(10**6,))


def declared(file):
    del file["estimator/labels_"]
    file.create_dataset("estimator/labels_", (10**13,), "i8", chunks=(10**6,))


def packed(file):
    del file["estimator/labels_"]
    file.create_dataset("estimator/labels_", data=np.zeros(10**6, int), compression="gzip")


def virtual(file):
    del file["encoder_0/encoder_0/bias:0"]
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (8,))
    file["encoder_0"].create_virtual_dataset("encoder_0/bias:0", layout)


def external(file):
    del file["encoder_0/encoder_0/bias:0"]
    file["encoder_0"].create_dataset(
        "encoder_0/bias:0", (8,), "f4", external=[("/etc/passwd", 0, 32)]
    )


def linked(file):
    del file["encoder_0"]
    file["encoder_0"] = h5py.ExternalLink("other.h5", "/")


def soft(file):
    file["estimator/pseudo_labels_"] = h5py.SoftLink("/estimator/labels_")


def shared(file):
    file["estimator/many"] = np.zeros(5000)
    for i in range(20):
        file[f"estimator/many_{i}"] = file["estimator/many"]


def deep(file):
    del file["estimator/config"]
    file["estimator/config"] = np.bytes_("[" * 100_000)


def long_text(file):
    text = file["estimator/config"][()].decode()
    del file["estimator/config"]
    file["estimator/config"] = text


def no_text(file):
    del file["estimator/config"]
    file["estimator/config"] = np.arange(3)


def many_names(file):
    file.attrs["layer_names"] = [b"encoder_0"] * 1001


def no_names(file):
    file.attrs["layer_names"] = np.arange(3)


HOSTILE = {
    "zeros that are not there": (unpacked_zeros, "declares 4800000000 bytes and has fewer"),
    "absurd size": (declared, "declares 80000000000000 bytes and has fewer"),
    "packed": (packed, "'/estimator/labels_' is packed; unpack it with h5repack"),
    "virtual": (virtual, "lies in another file"),
    "external": (external, "lies in another file"),
    "link to another file": (linked, "'encoder_0' is missing or a link"),
    "soft link": (soft, "'pseudo_labels_' is missing or a link"),
    "one dataset by many names": (shared, "bytes declared in a file of"),
    "deep settings": (deep, "no JSON"),
    "settings of variable length": (long_text, "'/estimator/config' has the type object"),
    "settings that are no text": (no_text, "'/estimator/config' has the type int64"),
    "many names": (many_names, r"the attribute 'layer_names' has the shape \(1001,\)"),
    "no names": (no_names, "the attribute 'layer_names' is no list of names"),
}


@pytest.mark.parametrize(("edit", "text"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_datasets(edit, text, hostile):
    # Where the file can't even be signed, any signature will do.
    unsigned = edit in (unpacked_zeros, declared, packed, virtual, external, linked, soft,
                        no_text, long_text, many_names, no_names)  # fmt: skip
    path = hostile(edit, signed=not unsigned)
    for call in (FcDEC.load, lambda p: FcDEC(3, layer_sizes=(8, 3)).load_weights(p, (64,))):
        if edit is deep and call is not FcDEC.load:
            continue  # weights alone need no settings
        with pytest.raises(ValueError, match=r"^weights must be a whole .*" + text) as caught:
            call(path)
        assert one_line(caught)
        assert len(str(caught.value)) < 1000


def test_a_saved_estimator_without_checksum(hostile):
    path = hostile(lambda file: file.attrs.pop("sha256"), signed=False)
    with pytest.raises(ValueError, match=r"\(a saved estimator without its checksum\)"):
        FcDEC.load(path)
    path = hostile(lambda file: file.attrs.__setitem__("sha256", "x"), signed=False)
    with pytest.raises(ValueError, match=r"\(its checksum is damaged\)"):
        FcDEC.load(path)


def test_settings_too_long(hostile, monkeypatch):
    path = hostile(lambda file: None)
    monkeypatch.setattr(weights, "MAX_CONFIG_BYTES", 10)
    with pytest.raises(ValueError, match=r"\(estimator/config has \d+ bytes\)"):
        FcDEC.load(path)


BAD_STATES = {
    "layers": ({"layer_sizes": "abc"}, "layer_sizes must be a list or tuple"),
    "no layers": ({"layer_sizes": [0]}, "each of layer_sizes must be an integer >= 1; got 0"),
    "clusters": ({"n_clusters": "3"}, "n_clusters must be an integer"),
    "large number": ({"n_clusters": 10**400}, "n_clusters must be an integer"),
    "flag": ({"aug_cluster": 0}, "aug_cluster must be True or False; got 0"),
    "seed": ({"random_state": "x"}, "random_state is 'x'"),
    "path": ({"pretrained_weights": 3}, "pretrained_weights is 3"),
    "format": ({"format": 99}, "it has format 99, this version reads"),
    "params": ({"params": []}, "it has settings that this version does not know"),
    "shape": ({"sample_shape": 64}, "sample_shape must be a list or tuple"),
    "no shape": ({"sample_shape": []}, "sample_shape must be a list or tuple"),
    "negative shape": ({"sample_shape": [-64]}, "each of sample_shape must be an integer >= 1"),
    "half shape": ({"sample_shape": [6.4]}, "each of sample_shape must be an integer"),
    "huge shape": ({"sample_shape": [2**31, 2**31]}, "sample_shape must be of at most"),
    "names": ({"feature_names": ["a"]}, "feature_names are no list of 64 texts"),
    "kinds of names": ({"feature_names": [1] * 64}, "feature_names are no list of 64 texts"),
    "history": ({"history_": []}, "history_ has other phases"),
    "phases": ({"history_": {"pretrain": []}}, "history_ has other phases"),
    "rows": ({"history_": {"pretrain": [], "cluster": [1]}}, "history_ is no list of rows"),
    "steps": ({"n_iter_": -1}, "n_iter_ is -1"),
    "reason": ({"termination_condition_": 3}, "termination_condition_ is no text"),
    "seconds": ({"seconds_": {"a": "b"}}, "seconds_ are no numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "text"), BAD_STATES.values(), ids=BAD_STATES)
def test_bad_states(changes, text, hostile):
    path = hostile(lambda file: set_config(file, **changes))
    with pytest.raises(ValueError, match=r"^path must be a file that FcDEC\.save wrote") as caught:
        FcDEC.load(path)
    assert re.search(rf"hostile\.h5': (its )?{text}.*\. Load it with", str(caught.value))
    assert one_line(caught)
    assert len(str(caught.value)) < 1000


def test_bad_labels(hostile):
    for array, text in (
        (np.zeros((2, 2), int), r"its labels_ are int64 of shape \(2, 2\)"),
        (np.zeros(3), r"its labels_ are float64 of shape \(3,\)"),
        ([0, 3], r"its labels_ are not all in 0\.\.2"),
        ([-1, 0], r"its labels_ are not all in 0\.\.2"),
    ):
        path = hostile(lambda file, array=array: set_array(file, "labels_", array))
        with pytest.raises(ValueError, match=text):
            FcDEC.load(path)


@pytest.mark.filterwarnings("ignore:All samples are in one cluster")
def test_bad_arrays_of_kingdra(hostile, images, tmp_path):
    model = KingdraCluster(
        2,
        n_en=2,
        high_th=1,
        low_th=0,
        n_iter=1,
        n_epochs_per_iter0=1,
        fc_layer_sizes=(4, 2),
        denoising_cost=(1, 1, 1),
        use_pseudo_labels=False,
        random_state=0,
    )
    model.fit(images.reshape(36, 64)).save(tmp_path / "model.h5")
    source = tmp_path / "model.h5"
    assert np.array_equal(KingdraCluster.load(source).labels_, model.labels_)
    for name, array, text in (
        ("member_mapping_", [[0, 1]], r"member_mapping_ is int64 of shape \(1, 2\)"),
        ("member_mapping_", [[0, 1], [1, 1]], "member_mapping_ does not rename each"),
        ("pseudo_labels_", [-2] * 36, r"pseudo_labels_ are not all in -1\.\.1"),
        ("pseudo_labels_", [-1] * 35, "labels_ and pseudo_labels_ are not equally many"),
    ):
        path = hostile(lambda file, n=name, a=array: set_array(file, n, a), source)
        with pytest.raises(ValueError, match=text):
            KingdraCluster.load(path)
    path = hostile(lambda file: set_config(file, history_={}), source)
    with pytest.raises(ValueError, match="its history_ is no list of rows"):
        KingdraCluster.load(path)
    # Too large a network for its file is never built.
    sizes = {"fc_layer_sizes": [30000, 30000, 2], "denoising_cost": [1, 1, 1, 1]}
    path = hostile(lambda file: set_config(file, **sizes), source)
    with pytest.raises(ValueError, match="numbers where this network has at least 180"):
        KingdraCluster.load(path)


def never(*args, **kwargs):
    raise AssertionError("a network was built")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"layer_sizes": [30000, 30000, 2]}, "numbers where this network has at least 901980006"),
        ({"sample_shape": [500_000_000]}, "numbers where this network has at least 4000000033"),
        ({"n_clusters": 10**9}, "numbers where this network has at least 3000000536"),
        ({"layer_sizes": [1] * 101}, r"it has 9 arrays for at least 101 layers"),
    ],
)
def test_a_network_too_large_for_its_file_is_not_built(changes, text, hostile, monkeypatch):
    path = hostile(lambda file: set_config(file, **changes))
    monkeypatch.setattr(FcDEC, "_make_network", never)
    with pytest.raises(ValueError, match=rf"^weights must fit this architecture; .*{text}"):
        FcDEC.load(path)


def test_a_conv_network_too_large_for_its_file_is_not_built(conv, hostile, tmp_path, monkeypatch):
    conv.save(tmp_path / "conv.h5")
    monkeypatch.setattr(ConvDEC, "_make_network", never)
    for changes in ({"filters": [3000, 3000, 4]}, {"sample_shape": [80_000, 8_000]},
                    {"embedding_dim": 10**7}):  # fmt: skip
        path = hostile(lambda file, c=changes: set_config(file, **c), tmp_path / "conv.h5")
        with pytest.raises(ValueError, match="numbers where this network has at least"):
            ConvDEC.load(path)


@pytest.mark.parametrize(
    ("shape", "error"),
    [(64, TypeError), ("64", TypeError), ((), TypeError), ((0,), ValueError), ((6.4,), TypeError),
     ((2**40,), ValueError)],
)  # fmt: skip
def test_bad_sample_shapes(saved, shape, error):
    with pytest.raises(error, match=r"sample_shape must be .*; got .*\. [A-Z].*\.$"):
        FcDEC(3, layer_sizes=(8, 3)).load_weights(saved, shape)


@pytest.mark.parametrize("params", [
    (FcDEC(4, layer_sizes=(8, 3)), (64,)),
    (FcDEC(4, layer_sizes=(5,)), (7,)),
    (ConvDEC(3, filters=(2, 3, 4), embedding_dim=3), (8, 12, 1)),
    (KingdraCluster(2, n_en=3, fc_layer_sizes=(5, 2)), (7,)),
])  # fmt: skip
def test_the_least_size_is_no_more_than_the_network(params):
    estimator, shape = params
    network = estimator._make_network(shape, SeedStream(0))
    needed = [layer for layer in network.layers if layer.name not in network.optional_layers]
    shapes = [weight.shape for layer in needed for weight in layer.weights]
    n_weights = sum(int(np.prod(shape)) for shape in shapes)
    kernels, n_layers = estimator._least_size(shape)
    assert n_weights / 10 < kernels < n_weights
    assert n_layers <= len(shapes)


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
