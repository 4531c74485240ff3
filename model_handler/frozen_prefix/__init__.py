"""Frozen prefix: a traced network split where its frozen part ends, for training that computes that part once.

May import: errors, extraction, graph, network.
"""
