"""How the rows of two domains are distributed: scales, kernels, and the ratio of their densities.

May import: meta_model, seeding, model_handler.
"""
