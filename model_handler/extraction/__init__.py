"""Extraction: features of a network's layers for batches of data, by its graph or by hooks.

May import: data, errors, features, graph, network.
"""
