"""The feature cache: features kept on disk, found again by what they were computed of.

May import: data, errors, features, files, network, user_warnings.
"""
