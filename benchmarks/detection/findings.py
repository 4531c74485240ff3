"""Findings: what the cells of a part say, by kind, and differences and ratios paired by seed."""

from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.adapters.cells import Result
from benchmarks.adapters.methods import TUNING_SEEDS
from benchmarks.quality.findings import Estimate

__all__ = ["Findings", "chosen_rates"]

