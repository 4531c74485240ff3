"""Gaussian processes for classification: an exact posterior for all classes from one factorisation, or inducing points."""
