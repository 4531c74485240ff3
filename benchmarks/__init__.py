"""Measurements beside what a user would pick instead: `python -m benchmarks NAME`, from the root of the checkout."""
