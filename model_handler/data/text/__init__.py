"""Text as data: what a tokenizer makes of strings, how these are told from paths, and where they are refused.

May import: errors, missing_values.
"""
