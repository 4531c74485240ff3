"""A stream of rows is watched here: an alarm tells when it is no longer like the rows that it is compared with.

May import: axes, data, seeding, uncertainty, version, model_handler.
"""
