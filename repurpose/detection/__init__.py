"""Detection: boxes and their labels in the place of one label an image.

May import: nothing.
"""
