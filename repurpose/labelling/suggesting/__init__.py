"""Rows whose labels would teach most are suggested here.

May import: nothing.
"""
