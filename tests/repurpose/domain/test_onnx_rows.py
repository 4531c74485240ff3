from typing import Any

import numpy as np
import pytest
import torch

from repurpose import GpRepurposer
from repurpose.deployment.answers import answers_of
from repurpose.domain import (
    CoralRepurposer,
    DomainRepurposer,
    ImportanceWeightedRepurposer,
    SubspaceAlignmentRepurposer,
    TcaRepurposer,
    TrAdaBoostRepurposer,
)
from tests.repurpose.examples import blobs, identity_network
from tests.repurpose.in_onnxruntime import computed, in_onnxruntime

X, Y = blobs(150)
SOURCE, TARGET, LATER = (1.5 * X[:60] + 3, Y[:60]), (X[60:100], Y[60:100]), X[100:]
METHODS = [
    CoralRepurposer,
    DomainRepurposer,
    ImportanceWeightedRepurposer,
    SubspaceAlignmentRepurposer,
    TcaRepurposer,
    TrAdaBoostRepurposer,
]


def trained(cls: Any, **options: Any) -> Any:
    if cls is TrAdaBoostRepurposer:
        options = {"n_rounds": 3, **options}
    return cls(identity_network(), ["0"], random_state=0, **options).repurpose(TARGET, source_data=SOURCE)


@pytest.mark.parametrize("cls", METHODS)
def test_answers_are_those_of_the_repurposer(cls: type) -> None:
    repurposer = trained(cls)
    with torch.no_grad():
        probabilities, codes, members, p_values = (
            each.numpy() for each in answers_of(repurposer)(torch.from_numpy(LATER))
        )
    assert np.abs(probabilities - repurposer.predict_probability(LATER)).max() < 1e-10
    assert (repurposer.classes_[codes] == repurposer.predict_label(LATER)).all()
    assert (members == repurposer.predict_set(LATER).members).all()
    assert np.abs(p_values - repurposer.unfamiliarity_p_value(LATER)).max() < 1e-10


@pytest.mark.parametrize("cls", [CoralRepurposer, SubspaceAlignmentRepurposer, TcaRepurposer])
def test_rows_are_those_that_the_head_sees(cls: type) -> None:
    repurposer = trained(cls)
    adapted = repurposer._adapt_rows(LATER)
    found = computed(repurposer._onnx_rows(), LATER)
    assert found.dtype == np.float32
    assert np.abs(found - adapted).max() <= 1e-6 * np.abs(adapted).max()


def test_onnxruntime_adapts_rows_by_the_kernel() -> None:
    repurposer = trained(TcaRepurposer)
    (found,) = in_onnxruntime(repurposer._onnx_rows(), LATER)
    assert np.abs(found - repurposer._adapt_rows(LATER)).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("cls", METHODS)
def test_onnxruntime_gives_the_same_answers(cls: type) -> None:
    repurposer = trained(cls)
    probabilities, codes, members, p_values = in_onnxruntime(answers_of(repurposer), LATER)
    assert np.abs(probabilities - repurposer.predict_probability(LATER)).max() < 1e-10
    assert (repurposer.classes_[codes] == repurposer.predict_label(LATER)).all()
    assert (members == repurposer.predict_set(LATER).members).all()
    assert np.abs(p_values - repurposer.unfamiliarity_p_value(LATER)).max() < 1e-10


def test_a_head_of_another_kind_brings_its_own_module() -> None:
    repurposer = trained(CoralRepurposer, head="gp")
    assert answers_of(repurposer, method="variance").method == "variance"
    assert type(repurposer._onnx_head()) is type(GpRepurposer(identity_network(), ["0"]).repurpose(TARGET)._onnx_head())


class Doubled(DomainRepurposer):
    """A method of the user's own, which says nothing of files."""

    def _adapt_rows(self, matrix: np.ndarray) -> np.ndarray:
        return 2 * matrix


class Halved(CoralRepurposer):
    """The same, of a class that does."""

    def _adapt_rows(self, matrix: np.ndarray) -> np.ndarray:
        return super()._adapt_rows(matrix) / 2


@pytest.mark.parametrize("cls", [Doubled, Halved])
def test_a_method_of_ones_own_without_a_module_is_refused(cls: type) -> None:
    with pytest.raises(NotImplementedError, match=rf"{cls.__name__} cannot be exported.*_onnx_rows"):
        answers_of(trained(cls))


def test_without_rows_of_the_target_there_is_nothing_to_judge_by() -> None:
    repurposer = ImportanceWeightedRepurposer(identity_network(), ["0"], random_state=0)
    repurposer.repurpose(TARGET[0], source_data=SOURCE)
    with pytest.raises(ValueError, match="no labelled row of the target"):
        answers_of(repurposer)
