"""Gaussian processes whose rows come and go: the posterior of other rows at the numbers that were learned.

May import: data, gp, persistence, seeding, meta_model.gp, repurpose.
"""
