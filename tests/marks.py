"""What files of tests have in common: marks of fits too small to learn much."""

import pytest

LEARNS_LITTLE = [
    pytest.mark.filterwarnings("ignore:After fit, "),
    pytest.mark.filterwarnings("ignore:All samples are in one cluster"),
    pytest.mark.filterwarnings("ignore:No round found pseudo-labels"),
]
