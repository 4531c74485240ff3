"""How a saved repurposer knows its source network: by name or fingerprint, by preprocessing, by weights in the file.

May import: advice, source, model_handler.
"""
