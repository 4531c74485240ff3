"""The plan of a training: its parameters, learning rates by groups of layers, optimiser, schedule and unfreezing.

May import: model_handler, repurpose.parameters.
"""
