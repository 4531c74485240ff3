"""Bayesian neural networks by variational inference live here: rows, the program and its guide, training, the posterior.

May import: data, persistence, threads.
"""
