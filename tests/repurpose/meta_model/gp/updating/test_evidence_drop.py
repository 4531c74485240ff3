"""The evidence at the held kernel; that it is the density of the targets is tested with `add` and `remove`."""

import numpy as np
import pytest

from repurpose import GpRepurposer
from repurpose.meta_model.gp.updating.evidence_drop import is_refresh_due
from tests.repurpose.examples import blobs, identity_network

X, Y = blobs(48, n_classes=4)


def test_it_is_due_above_the_margin_and_where_nothing_is_known_it_is_not() -> None:
    assert is_refresh_due({"evidence_drop_": 0.03})
    assert not is_refresh_due({"evidence_drop_": 0.019})
    assert not is_refresh_due({})


def test_the_fall_is_from_the_training_on_and_not_from_the_change_before() -> None:
    def trained() -> GpRepurposer:
        repurposer = GpRepurposer(identity_network(), ["0"], random_state=0, max_function_evaluations=3)
        return repurposer.repurpose((X[:40], Y[:40]))

    one_by_one, at_once = trained(), trained().remove([1, 3])
    one_by_one.remove([1]).remove([2])
    assert one_by_one.evidence_drop_ == pytest.approx(at_once.evidence_drop_, abs=1e-9)


def test_inducing_points_and_files_of_earlier_versions_have_none() -> None:
    points = GpRepurposer(identity_network(), ["0"], n_inducing=12, max_function_evaluations=3).repurpose((X, Y))
    exact = GpRepurposer(identity_network(), ["0"], max_function_evaluations=3).repurpose((X, Y))
    del exact.evidence_per_row_
    for repurposer in (points, exact):
        repurposer.remove(np.array([0]))
        assert not hasattr(repurposer, "evidence_drop_")
        assert not repurposer.refresh_due_
