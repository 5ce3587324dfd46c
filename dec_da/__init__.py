"""DEC-DA: autoencoders that learn clusters, each with or without data augmentation.

Guo, Zhu, Liu, Yin. Deep Embedded Clustering with Data Augmentation. ACML 2018.
"""

from dec_da.conv import ConvDEC, ConvIDEC
from dec_da.dense import FcDCN, FcDEC, FcIDEC

__all__ = ["ConvDEC", "ConvIDEC", "FcDCN", "FcDEC", "FcIDEC"]
