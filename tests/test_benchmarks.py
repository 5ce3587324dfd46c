"""The benchmarks measure what they say."""

import pytest

from benchmarks import training_step
from dec_da import presets


@pytest.mark.parametrize("method", ["FcIDEC", "FcDCN"])
def test_a_clustering_step_is_the_method_s_own(method):
    settings = presets.CLASSES[method].settings
    model = training_step.clustering_model(method, False, n_samples=8)
    assert model.reconstruction_weight == settings.reconstruction_weight
    assert hasattr(model, "decoder") == bool(settings.reconstruction_weight)
    assert model.clustering_weight == settings.clustering_weight
    assert type(model.optimizer).__name__.lower() == settings.optimizer
