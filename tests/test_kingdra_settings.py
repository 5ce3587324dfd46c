"""Defaults and configs are the paper's, and what a user sets is what trains (SPEC 2.2, 2.6)."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from clustering_common.backend import to_numpy
from clustering_common.seeds import SeedStream
from kingdra_cluster import KingdraCluster, LadderIM, base, configs, losses
from kingdra_cluster.ladder import LadderNetwork
from kingdra_cluster.members import LadderTrainer, LossSettings
from tests.ladders import member_weights
from tests.reference import naive_ladder_losses

ROOT = Path(__file__).parent.parent
COMMON = {  # SPEC 2.6
    "n_class": 10,
    "batch_size": 64,
    "base_loss": "im",
    "mi_loss_w_init": 0.1,
    "fc_layer_sizes": [1200, 1200, 10],
    "ladder_loss_w_init": 1,
    "noise_kl_w_init": 1,
    "noise_std": 0.3,
    "mi_mu_w_init": 4,
    "lr": 0.002,
    "denoising_cost": [1000, 10, 0.1, 0.1],
    "last_layer_bn": False,
    "precision": "float32",
    "random_state": None,
    "verbose": 0,
}
OF_LADDER_IM = {**COMMON, "n_iter": 15, "n_epochs_per_iter": 3}  # SPEC 2.3
OF_KINGDRA = {
    **COMMON,
    "n_en": 10,
    "n_iter": 40,
    "n_epochs_per_iter0": 5,
    "n_epochs_per_iter": 5,
    "low_th": 1,
    "med_th": 4,
    "high_th": 9,
    "thresh": 0.9,
    "ens_common_mapping": True,
    "use_pseudo_labels": True,
    "mi_loss_w_it2": None,
    "sup_loss_w_init": 0,
}
ENSEMBLE = {"use_pseudo_labels": False, "n_iter": 15} | dict.fromkeys(
    ("n_epochs_per_iter0", "n_epochs_per_iter"), 3
)
# Nowhere a default, and no two alike.
OWN = {
    "n_class": 3,
    "batch_size": 11,
    "base_loss": "dot",
    "mi_loss_w_init": 0.7,
    "fc_layer_sizes": (8, 5, 3),
    "ladder_loss_w_init": 0.6,
    "noise_kl_w_init": 0.5,
    "noise_std": 0.25,
    "mi_mu_w_init": 2.5,
    "lr": 0.03,
    "denoising_cost": (20, 4, 0.8, 0.2),
    "last_layer_bn": True,
    "precision": "tf32",
    "random_state": 0,
    "n_iter": 6,
    "n_epochs_per_iter": 7,
}
OWN_OF_KINGDRA = {
    **OWN,
    "n_en": 4,
    "n_epochs_per_iter0": 9,
    "low_th": 2,
    "high_th": 3,
    "thresh": 0.15,
    "ens_common_mapping": False,
    "mi_loss_w_it2": 0.9,
}


def params_of(estimator):
    params = estimator.get_params()
    lists = {name: list(params[name]) for name in ("fc_layer_sizes", "denoising_cost")}
    return params | lists


@pytest.mark.parametrize(
    ("kind", "wanted"), [(KingdraCluster, OF_KINGDRA), (LadderIM, OF_LADDER_IM)]
)
def test_defaults(kind, wanted):
    assert params_of(kind()) == wanted


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("ladder_im", LadderIM, OF_LADDER_IM),
        ("ladder_dot", LadderIM, OF_LADDER_IM | {"base_loss": "dot"}),
        ("ladder_im_ensemble", KingdraCluster, OF_KINGDRA | ENSEMBLE),
        ("kingdra_ladder_im", KingdraCluster, OF_KINGDRA | {"n_iter": 50}),
        ("kingdra_ladder_dot", KingdraCluster, OF_KINGDRA | {"n_iter": 50, "base_loss": "dot"}),
    ],
)
def test_the_configs_of_mnist(name, kind, wanted):
    config = configs.read_config(ROOT / f"configs/{name}_mnist.json")
    estimator = config.make_estimator()
    assert type(estimator) is kind
    assert params_of(estimator) == wanted
    folder = "ens_cluster_datasets/mnist"
    assert config.training_path == f"{folder}/train_X.npy"
    assert config.ground_truth_path == f"{folder}/train_Y.npy"


@pytest.mark.parametrize("with_labels", [False, True])
def test_the_loss_is_the_weighted_sum_by_hand(with_labels):
    network = LadderNetwork(3, [6, 3], last_layer_bn=False, seeds=SeedStream(0))
    settings = LossSettings(
        base_loss="im",
        base_weight=0.7,
        mi_mu_w=4.0,
        noise_kl_w=3.0,
        ladder_w=0.2,
        denoising_cost=(1.0, 1.0),
        noise_std=0.3,
    )
    trainer = LadderTrainer(network, np.zeros((9, 6), np.float32), settings, 4, SeedStream(0))
    parts = {
        "base_loss": [1.0, 2.0, 4.0],
        "noise_kl": [10.0, 20.0, 40.0],
        "ladder_loss": [100.0, 200.0, 400.0],
    }
    # base 7 * 0.7, divergence 70 * 3, ladder 700 * 0.2; pseudo-labels 7000 * 1
    wanted = 4.9 + 210 + 140
    if with_labels:
        parts["sup_loss"] = [1000.0, 2000.0, 4000.0]
        wanted += 7000

    def loss():
        given = {name: keras.ops.convert_to_tensor(part) for name, part in parts.items()}
        return float(to_numpy(trainer.compute_loss(y_pred=given)))

    assert loss() == pytest.approx(wanted, rel=1e-6)
    for name, part in parts.items():  # the log tells the members' mean, without the weight
        told = float(to_numpy(trainer.parts[name].result()))
        assert told == pytest.approx(np.mean(part), rel=1e-6)
    trainer.base_weight.assign(5.0)
    assert loss() == pytest.approx(wanted + 7 * (5 - 0.7), rel=1e-6)


class Begun(Exception):
    """Training would begin now."""


def begun(model, X, monkeypatch):
    """Return trainer and settings of a fit as they are when its loop begins."""
    seen = []

    def stop(trainer, inference, X, settings, seeds, run, verbose):
        seen.extend([trainer, settings])
        raise Begun

    monkeypatch.setattr(base, "OuterLoop", stop)
    with pytest.raises(Begun):
        model.fit(X)
    return seen


@pytest.mark.parametrize(("kind", "own"), [(KingdraCluster, OWN_OF_KINGDRA), (LadderIM, OWN)])
def test_every_parameter_reaches_what_trains(kind, own, blobs, monkeypatch):
    trainer, loop = begun(kind(**own), blobs, monkeypatch)
    assert trainer.settings == LossSettings(
        base_loss="dot",
        base_weight=0.7,
        mi_mu_w=2.5,
        noise_kl_w=0.5,
        ladder_w=0.6,
        denoising_cost=(20.0, 4.0, 0.8, 0.2),
        noise_std=0.25,
    )
    assert float(to_numpy(trainer.base_weight)) == pytest.approx(0.7)
    assert type(trainer.optimizer) is keras.optimizers.Adam
    assert float(to_numpy(trainer.optimizer.learning_rate)) == pytest.approx(0.03)
    n_members = own.get("n_en", 1)
    for schedule in (trainer.unlabelled, trainer.labelled):
        assert [member.batch_size for member in schedule.members] == [11] * n_members
    network = trainer.network
    assert network.n_members == n_members
    assert network.layer_sizes == [6, 8, 5, 3]
    assert network.normalised == [True, True, True]
    assert [kernel.shape for kernel in network.kernels] == [
        (n_members, 6, 8),
        (n_members, 8, 5),
        (n_members, 5, 3),
    ]
    told = dataclasses.asdict(loop)
    wanted = {name: value for name, value in own.items() if name in told}
    if kind is LadderIM:
        wanted |= {"n_epochs_per_iter0": 7, "use_pseudo_labels": False}
    assert told | wanted == told


@pytest.mark.parametrize("last_layer_bn", [False, True])
def test_the_logits_are_normalised_only_where_asked(last_layer_bn, blobs, monkeypatch):
    model = LadderIM(**{**OWN, "last_layer_bn": last_layer_bn})
    trainer, _ = begun(model, blobs, monkeypatch)
    assert trainer.network.normalised == [True, True, last_layer_bn]


@pytest.mark.parametrize(("base_loss", "last_layer_bn"), [("im", True), ("dot", False)])
@pytest.mark.filterwarnings("ignore:All samples are in one cluster")
@pytest.mark.usefixtures("uncompiled")
def test_a_fit_trains_on_the_loss_that_was_set(base_loss, last_layer_bn, blobs):
    # One step on all samples, no noise: the loss is that of the initial weights.
    model = KingdraCluster(
        3, n_en=2, n_iter=1, n_epochs_per_iter0=1, batch_size=45, base_loss=base_loss,
        use_pseudo_labels=False, fc_layer_sizes=(8, 3), denoising_cost=(10, 1, 0.1),
        mi_loss_w_init=0.7, mi_mu_w_init=2.5, ladder_loss_w_init=0.6, noise_std=0,
        last_layer_bn=last_layer_bn, random_state=0,
    )  # fmt: skip
    (row,) = model.fit(blobs).history_
    network = LadderNetwork(2, [6, 8, 3], last_layer_bn=last_layer_bn, seeds=SeedStream(0))
    plain = {
        "base_loss": base_loss,
        "mi_mu_w": 2.5,
        "denoising_cost": (10, 1, 0.1),
        "noise_std": 0.0,
    }
    zeros = [np.zeros((45, size)) for size in (6, 8, 3)]
    x = blobs.astype(np.float64)
    alone = [
        naive_ladder_losses(
            member_weights(network, member),
            x,
            x,
            np.zeros(45, int),
            plain,
            [zeros, zeros],
            last_layer_bn,
        )
        for member in range(2)
    ]
    # single precision through two layers
    base_losses, costs = ([one[name] for one in alone] for name in ("base_loss", "ladder_loss"))
    assert_allclose(row["base_loss"], np.mean(base_losses), rtol=1e-4)
    assert_allclose(row["ladder_loss"], np.mean(costs), rtol=1e-4)
    assert row["noise_kl"] == pytest.approx(0, abs=1e-6)
    assert_allclose(row["loss"], 0.7 * sum(base_losses) + 0.6 * sum(costs), rtol=1e-4)


def test_the_gradient_of_each_loss_by_hand():
    # one sample: clean p = (0.5, 0.5), noisy q = (0.25, 0.75); by the noisy logits it is q - p
    clean, noisy = (np.log(np.array([[p]], np.float32)) for p in ([0.5, 0.5], [0.25, 0.75]))
    by_clean, by_noisy = gradients(losses.noise_divergence, clean, noisy)
    assert_allclose(by_clean, np.zeros((1, 1, 2)))
    assert_allclose(by_noisy, [[[-0.25, 0.25]]], rtol=1e-5)
    # the mean of two squares: 2 (zhat - z) / 2, and back through z
    estimate, z = np.array([[[3.0, 1.0]]], np.float32), np.array([[[1.0, 2.0]]], np.float32)
    by_estimate, by_z = gradients(losses.reconstruction_cost, estimate, z)
    assert_allclose(by_estimate, [[[2, -1]]])
    assert_allclose(by_z, [[[-2, 1]]])


def gradients(loss, *arrays):
    """Return the gradient of a member's loss by each array."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        variables = [tf.Variable(array) for array in arrays]
        with tf.GradientTape() as tape:
            value = loss(*(tf.convert_to_tensor(variable) for variable in variables))
        return [to_numpy(g) for g in tape.gradient(value, variables, unconnected_gradients="zero")]
    if keras.backend.backend() != "jax":
        pytest.skip("gradients of TensorFlow and of JAX")
    import jax

    slopes = jax.grad(lambda given: keras.ops.sum(loss(*given)))(list(arrays))
    return [to_numpy(slope) for slope in slopes]
