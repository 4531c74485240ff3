"""Checkpoints of a training run, and the configuration that one has to match.

May import: data, plan, model_handler, repurpose.persistence.
"""
