"""A trained Repurposer leaves this library: as one file that runs anywhere, or as a predictor of other engines.

May import: nothing.
"""
