"""What errors of several rooms advise, in the same words."""

__all__ = ["IN_PYTHON"]

IN_PYTHON = "it cannot be used on the command line; use it in Python, by repurpose.load"
