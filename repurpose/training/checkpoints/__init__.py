"""Checkpoints of a training, and the configuration that one has to match.

May import: data, plan, model_handler, repurpose.persistence.
"""
