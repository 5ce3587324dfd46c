"""Kingdra: clustering by pseudo-semi-supervised learning with ensembles of ladder networks.

Gupta, Ramjee, Kwatra, Sivathanu. Unsupervised Clustering using Pseudo-semi-supervised Learning.
ICLR 2020.
"""

from kingdra_cluster.kingdra_cluster import KingdraCluster
from kingdra_cluster.ladder_im import LadderIM

__all__ = ["KingdraCluster", "LadderIM"]
