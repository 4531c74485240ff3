"""Frozen, adapter or fine-tuned: methods of transfer from one source, judged on the same folds within a budget.

May import: data, selection.results, meta_model, neural_network, training, repurposer, parameters,
uncertainty, model_handler.
"""

from repurpose.selection.comparing.comparison import compare_methods

__all__ = ["compare_methods"]
