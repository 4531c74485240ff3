"""Labelled batches of each epoch, their augmentation, and the seeds of everything random in a training.

May import: model_handler, repurpose.data.
"""
