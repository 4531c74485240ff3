"""Which answers of a file are taken for those of the library: those that rounding could have made others."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from repurpose import LrRepurposer
from repurpose.deployment.answers import answers_of
from repurpose.deployment.onnx_file.comparing import FileAnswers, compared, library_answers
from repurpose.deployment.onnx_file.parity import END_TO_END, FileDiffersError
from tests.repurpose.examples import blobs, small_network


@pytest.fixture(scope="module")
def answered() -> Any:
    """A Repurposer with rows of `conformalize`, its answers as a module, and those of the library to other rows."""
    X, y = blobs()
    repurposer = LrRepurposer(small_network(), ["2"], random_state=0).repurpose((X[::2], y[::2]))
    repurposer.conformalize(X[1::2], y[1::2])
    answers = answers_of(repurposer, 0.8)
    rows = repurposer.features_to_judge(X[:12] + np.float32(0.1))
    return repurposer, answers, library_answers(repurposer, rows, answers)


def test_equal_answers_are_equal(answered: Any) -> None:
    _, answers, library = answered
    found = compared(library, library, answers, within=END_TO_END, what="here")
    assert (found.difference, found.feature_difference) == (0, 0)
    assert (found.other_labels, found.other_sets, found.other_p_values) == ((), (), ())


def test_other_probabilities_are_refused(answered: Any) -> None:
    _, answers, library = answered
    near = replace(library, probabilities=library.probabilities + 0.9e-4)
    assert compared(near, library, answers, within=END_TO_END, what="here").difference == pytest.approx(0.9e-4)
    for shift in (1.1e-4, np.nan):
        far = replace(library, probabilities=library.probabilities + shift)
        with pytest.raises(FileDiffersError, match="probabilities differ from those of the library"):
            compared(far, library, answers, within=END_TO_END, what="here")


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("labels", lambda answers: replace(answers, label_index=(answers.label_index + 1) % 3)),
        ("sets", lambda answers: replace(answers, in_set=~answers.in_set)),
        ("p-values", lambda answers: replace(answers, p_value=answers.p_value + 1 / 31)),
        ("p-values", lambda answers: replace(answers, p_value=answers.p_value * np.nan)),
    ],
)
def test_other_answers_of_clear_rows_are_refused(answered: Any, name: str, changed: Any) -> None:
    _, answers, library = answered
    with pytest.raises(FileDiffersError, match=f"{name} in rows 0, 1"):
        compared(changed(library), library, answers, within=END_TO_END, what="here")


def test_a_row_that_is_as_strange_as_a_reference_row_may_be_one_step_away(answered: Any) -> None:
    repurposer, answers, _ = answered
    X, _ = blobs()
    own = repurposer.features_to_judge(X[1:9:2])  # of `conformalize`: each is as strange as itself
    library = library_answers(repurposer, own, answers)
    step = 1 / 31
    file: FileAnswers = replace(library, p_value=library.p_value - np.array([step, 0, 0, 0]))
    found = compared(file, library, answers, within=END_TO_END, what="here")
    assert found.other_p_values == (0,)
    assert found.n_close == 4
    two_steps = replace(library, p_value=library.p_value - 2 * step)
    with pytest.raises(FileDiffersError, match="p-values in rows"):
        compared(two_steps, library, answers, within=END_TO_END, what="here")


class _Shifted(nn.Module):
    """A judge whose scores are a little too large."""

    def __init__(self, judge: nn.Module, shift: float) -> None:
        super().__init__()
        self.judge, self.shift = judge, shift

    def forward(self, rows: Any) -> Any:
        return self.judge(rows) + self.shift


def test_a_module_that_is_wrong_itself_is_found_by_the_answers_of_the_library(answered: Any) -> None:
    """What rounding may do is taken from the module, which the file agrees with; the library does not."""
    repurposer, _, library = answered
    clear = np.arange(len(library.p_value))

    def judged_by(answers: Any) -> Any:
        with torch.no_grad():
            found = [part.numpy() for part in answers(torch.from_numpy(library.features))]
        return compared(FileAnswers(*found, library.features), library, answers, within=END_TO_END, what="here")

    judged_by(answers_of(repurposer, 0.8))
    strange = answers_of(repurposer, 0.8)
    scores = np.sort(strange.p_values.judges[0](torch.from_numpy(library.features)).numpy())
    strange.p_values.judges = nn.ModuleList([_Shifted(strange.p_values.judges[0], float(np.ptp(scores)) / 3)])
    with pytest.raises(FileDiffersError, match="p-values in rows"):
        judged_by(strange)
    sets = answers_of(repurposer, 0.8)
    others = library.probabilities[clear, library.label_index].min()  # of the row that is least certain
    sets.sets.largest.fill_(1 - others - 1e-4)
    with pytest.raises(FileDiffersError, match="sets in rows"):
        judged_by(sets)


def test_a_label_that_rounding_may_decide_leaves_the_others_of_its_row_no_choice(answered: Any) -> None:
    _, answers, library = answered
    on_edge = library.probabilities[0].argmin()
    at_edge = deepcopy(answers)
    at_edge.sets.largest.fill_(1 - float(library.probabilities[0, on_edge]))
    with torch.no_grad():
        in_set = at_edge(torch.from_numpy(library.features))[2].numpy()
    there, within = replace(library, in_set=in_set), {"within": END_TO_END, "what": "here"}
    for label in range(3):
        changed = in_set.copy()
        changed[0, label] ^= True
        file = replace(there, in_set=changed)
        if label == on_edge:
            assert compared(file, there, at_edge, **within).other_sets == (0,)
        else:
            with pytest.raises(FileDiffersError, match="sets in rows 0"):
                compared(file, there, at_edge, **within)
