"""How the files of a saved repurposer lie on disk: a directory or one zip file, hashed, perhaps encrypted and signed.

May import: advice, version, model_handler.
"""
