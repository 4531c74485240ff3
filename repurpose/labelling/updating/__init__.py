"""Rows and classes are added to and removed from trained heads here, without a new training.

May import: data, persistence, threads, uncertainty, model_handler.
"""
