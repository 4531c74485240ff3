"""Gaussian processes for classification: one factorisation for all classes, exact or through inducing points."""
