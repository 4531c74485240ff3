"""How the rows of two domains are distributed: scales, kernels, and the ratio of their densities.

May import: data, meta_model, persistence, seeding, model_handler.
"""
