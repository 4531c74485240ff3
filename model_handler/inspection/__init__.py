"""Inspection: what a network is made of, as names, shapes, paths and tables; nothing here changes it.

May import: blocks, data, errors, extraction, graph, network, quantities, sources.
"""
