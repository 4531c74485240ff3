"""The score of a choice beside trainings by hand, where a row that is held out is far from all others."""

import numpy as np
import pytest
from torch import nn

from model_handler import Features
from repurpose import GpRepurposer
from repurpose.seeding import draw_seed
from repurpose.selection import rank_sources
from repurpose.selection.ranking.nested import Nest
from repurpose.selection.ranking.task import Task


@pytest.mark.filterwarnings("ignore:outliers")
def test_a_fold_is_predicted_as_its_rows_came_by_a_process_that_never_saw_them() -> None:
    """Outliers were brought back beforehand, in the rows of a fold too: by other rows, and with the labels of all."""
    labels = np.arange(24) % 2
    rows = np.random.RandomState(0).standard_normal((24, 4)).astype(np.float32) + 2 * labels[:, None]
    rows[5, 1] = 1e6
    both = Features({"noise": rows[np.random.RandomState(1).permutation(24)], "clear": rows}, labels)
    table = rank_sources({"x": both}, nested=True, lr=None, random_state=0)
    assert {layer for _, layer, _ in table.attrs["nested_choices"]} == {"clear"}

    seed = draw_seed(0)
    task = Task.of(both.matrix, labels, None, 100, np.random.RandomState(seed))
    rows, losses = rows[task.order], []
    for training, held_out, _ in Nest.of(task, seed).inner:
        gp = GpRepurposer(nn.Identity(), ["features"], random_state=seed)
        gp.repurpose(Features({"features": rows[training]}, task.codes[training]))
        probabilities = gp.predict_probability(Features({"features": rows[held_out]}))
        losses += (-np.log(probabilities[np.arange(len(held_out)), task.codes[held_out]])).tolist()
    assert table.attrs["nested_log_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
