"""Rows and classes are added to and removed from trained heads here, without a new training.

May import: nothing.
"""
