"""The frozen part of a network: its activations computed once, cached, and read again in each epoch.

May import: data, plan, distributed, model_handler, repurpose.data.
"""
