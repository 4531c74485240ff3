"""Clones share the network and its handler, and the handler has every parameter of the network."""

from typing import Any

import pytest
import torch
from sklearn.base import clone

from tests.repurpose.examples import blob_features, lr


def test_the_handler_gets_every_parameter_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("repurpose.estimator.ModelHandler", lambda network, **options: given.update(options))
    options = {"device": "cpu", "batch_size": 5, "num_workers": 3, "verbose": False, "precision": "bfloat16"}
    options["transform"] = torch.nn.Identity()
    _ = lr(**options).source_model_handler
    assert given == options


def test_a_clone_shares_the_network_and_its_handler_and_pickles_neither_handler_nor_detectors() -> None:
    repurposer = lr(random_state=0).repurpose(blob_features())
    handler = repurposer.source_model_handler
    copied = clone(repurposer)
    assert copied.source_model is repurposer.source_model
    assert copied.source_model_handler is handler
    repurposer.unfamiliarity(blob_features())
    assert not {"_cached_handler", "_cached_detectors"} & set(repurposer.__getstate__())
