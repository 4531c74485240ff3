"""Gaussian processes whose rows come and go: the posterior of other rows at the numbers that were learned.

May import: data, meta_model.gp.
"""
