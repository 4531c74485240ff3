"""Distillation: a network learns labels, and beside them what a frozen network says of the same rows.

May import: neural_network, training, model_handler.
"""
