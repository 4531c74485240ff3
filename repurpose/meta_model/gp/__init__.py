"""Gaussian processes for classification live here: one factorisation for all classes, exact or by inducing points.

May import: data, persistence, parameters, model_handler.
"""
