from collections.abc import Callable

import numpy as np
import pytest
import torch

from repurpose.meta_model.onnx_heads.linear import LinearHead
from tests.repurpose.examples import lr
from tests.repurpose.hard_rows import HARD, new_rows, thousand_classes
from tests.repurpose.in_onnxruntime import computed, in_onnxruntime


@pytest.mark.parametrize("training", HARD)
def test_it_gives_the_probabilities_of_the_repurposer(training: Callable) -> None:
    X, y = training()
    repurposer, rows = lr().repurpose((X, y)), new_rows(X)
    head = repurposer._onnx_head()
    assert isinstance(head, LinearHead)
    assert np.abs(computed(head, rows) - repurposer.head_probabilities(rows)).max() < 1e-12


@pytest.mark.parametrize("training", [thousand_classes])
def test_so_it_does_for_a_thousand_classes_in_onnxruntime(training: Callable) -> None:
    X, y = training()
    repurposer, rows = lr(c=0.01).repurpose((X, y)), new_rows(X)
    (found,) = in_onnxruntime(repurposer._onnx_head(), rows)
    assert found.dtype == np.float64
    assert np.abs(found - repurposer.head_probabilities(rows)).max() < 1e-12


def test_of_two_classes_the_first_has_nothing_left_where_the_second_is_certain() -> None:
    head = LinearHead(np.array([[1.0]]), np.array([0.0]))
    rows = torch.tensor([[40.0], [-40.0], [1000.0], [-1000.0]])
    assert head(rows)[0].tolist() == [0.0, 1.0]  # as scikit-learn has it
    assert head(rows)[1, 1] == pytest.approx(np.exp(-40), rel=1e-12)
    assert torch.isfinite(head(rows)).all()
