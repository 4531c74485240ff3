"""Labels themselves are the question here: which are wrong, which to ask for next, and rows that come and go.

May import: nothing.
"""
