"""Sources are ranked here before anything is trained on them, by one extraction each.

May import: repurpose.data, repurpose.meta_model, model_handler.
"""
