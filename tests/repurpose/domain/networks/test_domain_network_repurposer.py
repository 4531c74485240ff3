from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from repurpose import load
from repurpose.domain import DomainNetworkRepurposer
from tests.repurpose.domain.networks.examples import quick, small_network, two_domains


def test_it_learns_without_a_label_of_the_target_and_answers_the_same_once_loaded(tmp_path: Any) -> None:
    source, (X, y) = two_domains()
    repurposer = quick(DomainNetworkRepurposer, num_epochs=10, learning_rates={"*": 0.03})
    assert repurposer.repurpose(X, source_data=source) is repurposer
    assert (repurposer.n_target_rows_, repurposer.n_target_labels_) == (40, 0)
    assert repurposer.source_domains_ == {"source": 24}
    assert repurposer.score(X, y) > 0.9
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=small_network())
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))


def test_its_weights_are_those_of_a_plain_loop_over_the_same_batches() -> None:
    source, (X, y) = two_domains()
    labels = [int(label) if place < 10 else None for place, label in enumerate(y)]
    options = {"optimizer": "SGD", "optimizer_params": {"lr": 0.1}, "scheduler": None, "norm_statistics": "batch"}
    repurposer = quick(DomainNetworkRepurposer, learning_rates={"*": 0.1, "new": 0.1}, **options)
    task = repurposer._prepare_task((X, np.arange(40)), source_data=source, labels=np.array(labels, object), seed=1)
    module = small_network()
    module[7] = nn.Linear(8, 3)
    for own, given in zip(module.parameters(), task.module.parameters()):
        own.data.copy_(given)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for epoch in range(2):
        for batch in task.batches.epoch(epoch):
            known = batch.targets["codes"] >= 0
            loss = cross_entropy(module(batch.inputs)[known], batch.targets["codes"][known])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    from repurpose.training import train

    train(task)
    for own, given in zip(module.parameters(), task.module.parameters()):
        assert torch.allclose(own, given, atol=1e-5)
