"""Kingdra: clustering by pseudo-semi-supervised learning with ensembles of ladder networks.

Gupta, Ramjee, Kwatra, Sivathanu. Unsupervised Clustering using Pseudo-semi-supervised Learning.
ICLR 2020.
"""
