"""Adapters: a few parameters beside frozen weights, put on layers in place, merged into them and taken off.

May import: blocks, errors, extraction, graph, network, surgery.
"""
