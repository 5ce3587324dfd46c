"""The metrics under the names that users of the release know."""

from clustering_common.metrics import accuracy as ACC
from clustering_common.metrics import ari as ARI
from clustering_common.metrics import nmi as NMI

__all__ = ["ACC", "ARI", "NMI"]
