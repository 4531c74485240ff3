"""Bayesian neural networks by variational inference live here: rows, program and guide, training, the posterior.

May import: data, persistence, threads.
"""
