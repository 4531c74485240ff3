"""What is compared, by name: the module of each part, whose `collect` adds to the results."""

__all__ = ["PARTS"]

PARTS = {
    "networks": "benchmarks.compare.networks",
    "surgery": "benchmarks.compare.surgery",
    "heads": "benchmarks.compare.heads",
    "training": "benchmarks.compare.training",
}
