"""Arrays and numbers as tensors in double; a number of Python's own would stand in the file as a float32."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

__all__ = ["double"]


def double(values: ArrayLike) -> Tensor:
    """Copy an array, or one number, into a float64 tensor of the same shape."""
    return torch.from_numpy(np.array(values, dtype=np.float64, order="C"))
