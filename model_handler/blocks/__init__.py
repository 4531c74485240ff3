"""Blocks: the chain of repeated residual blocks of a network, and the projections of attention in one of them.

May import: errors, extraction, graph, network, sources, surgery.
"""
