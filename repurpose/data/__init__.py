"""What transfer has to know about data lives here: kinds, labels, weights, folds, and the names and shapes of rows.

May import: parameters, model_handler.
"""
