"""Offsite-Tuning: two parties adapt a network, one that may not give it away and one that may not give its data away.

May import: nothing.
"""
