"""The feature cache: features kept on disk, found again by what they were computed of.

May import: data, errors, extraction, features, files, graph, network, user_warnings.
"""
