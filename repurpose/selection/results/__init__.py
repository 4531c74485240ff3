"""What comparisons have in common lives here: paired errors, the folds that all candidates share, and tables.

May import: repurpose.data.
"""
