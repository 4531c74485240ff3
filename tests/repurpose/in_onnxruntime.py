"""A torch module as ONNX in memory, run by onnxruntime on the CPU."""

import io
import logging
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn


def in_onnxruntime(module: nn.Module, features: np.ndarray) -> Sequence[np.ndarray]:
    """What the file of a module gives for these rows; it is traced with three of them."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            (torch.from_numpy(features[:3]),),
            dynamo=True,
            input_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("n_rows", min=1)},),
            opset_version=18,
            verbose=False,
        )
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    return session.run(None, {"features": features})


def computed(module: nn.Module, features: np.ndarray) -> np.ndarray:
    """What the module itself gives."""
    with torch.no_grad():
        return module(torch.from_numpy(features)).numpy()
