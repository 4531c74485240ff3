"""Distillation: a network learns labels, and beside them what a frozen network says of the same rows.

May import: networks, repurpose.data, neural_network, parameters, persistence, source, training, model_handler.
"""
