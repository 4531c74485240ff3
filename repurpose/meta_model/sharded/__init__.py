"""Heads learn here from rows that do not fit in memory: shards read block by block, and minibatches that come in turn.

May import: gp, data, fitted, persistence, model_handler.
"""
