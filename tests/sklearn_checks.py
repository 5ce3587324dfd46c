"""scikit-learn's estimator checks, chosen by what they test."""

import warnings

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

# What training, constructor or saving of the class decide; the rest is the shared base's.
OF_THE_CLASS = {
    "check_clustering",
    "check_dict_unchanged",
    "check_do_not_raise_errors_in_init_or_set_param",
    "check_estimators_pickle",
    "check_fit_idempotent",
    "check_get_params_invariance",
    "check_methods_subset_invariance",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_transformer_general",
}


def checks(estimator, names=None):
    with warnings.catch_warnings():
        # Which checks can't be run on 3-d input.
        warnings.simplefilter("ignore")
        pairs = list(estimator_checks_generator(estimator))
    for one, check in pairs:
        name = check.func.__name__
        if names is None or name in names:
            yield pytest.param(one, check, id=f"{type(one).__name__}-{name}")
