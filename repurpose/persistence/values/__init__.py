"""How what was learned is written as plain values and arrays, read again, and checked against a schema of its class.

May import: model_handler.
"""
