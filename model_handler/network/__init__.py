"""Networks as torch modules, without a graph: copies, devices, modes, inputs and outputs.

May import: errors.
"""
