"""Bayesian neural networks by variational inference: rows, the program and its guide, training, the posterior."""
