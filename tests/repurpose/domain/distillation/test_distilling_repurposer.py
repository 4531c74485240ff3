"""A user's own method on the base class, and what the base class does for all of them."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from repurpose.domain.distillation.distilling_repurposer import DistillingRepurposer
from repurpose.training.steps.losses import cross_entropy
from tests.repurpose.examples import blobs, small_network


class LogitMatching(DistillingRepurposer):
    """Logits are drawn to those that the source network gives."""

    _instead_of_source_data = "it has what it needs"

    def _create_target_module(self, example_inputs: Any) -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))

    def _frozen_network(self, module: nn.Module) -> nn.Module:
        return self.source_model

    def _distillation_loss(self, output: Any, answers: Tensor, weights: Tensor) -> Tensor:
        return functional.mse_loss(output, answers)


class OnlyMatching(LogitMatching):
    """Labels count for nothing: the hook of every network's loss is asked here too."""

    def _training_loss(self, module: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        return 0 * cross_entropy(module(inputs), targets)


def matched(method: type[LogitMatching], **options: Any) -> LogitMatching:
    quick = {"num_epochs": 30, "learning_rates": {"*": 0.02}, "random_state": 0}
    return method(small_network(), **{**quick, **options}).repurpose(*blobs())


def test_a_method_of_ones_own_is_three_hooks() -> None:
    inputs = torch.from_numpy(blobs()[0])
    before, after = (
        matched(LogitMatching, learning_rates={"*": rate}).target_model_(inputs).detach() for rate in (1e-30, 0.02)
    )
    wanted = small_network()(inputs).detach()
    assert functional.mse_loss(after, wanted) < 0.5 * functional.mse_loss(before, wanted)


def test_a_loss_of_labels_of_ones_own_takes_the_place_of_the_usual_one() -> None:
    inputs = torch.from_numpy(blobs()[0])
    wanted = small_network()(inputs)
    of_both, alone = (
        functional.mse_loss(matched(method).target_model_(inputs), wanted) for method in (LogitMatching, OnlyMatching)
    )
    assert alone < 0.8 * of_both


@pytest.mark.parametrize("hook", ["_frozen_network", "_distillation_loss"])
def test_a_hook_that_is_missing_is_named(hook: str) -> None:
    made = {name: value for name, value in vars(LogitMatching).items() if name != hook and name.startswith("_")}
    method = type("Unfinished", (DistillingRepurposer,), {**made, "__module__": __name__})
    with pytest.raises(NotImplementedError, match=f"Unfinished must define {hook}"):
        matched(method)


def test_a_look_at_the_groups_asks_the_frozen_network_nothing() -> None:
    class Counting(LogitMatching):
        n_passes = 0

        def _frozen_network(self, module: nn.Module) -> nn.Module:
            network = deepcopy(super()._frozen_network(module))
            network.register_forward_hook(lambda *_: setattr(Counting, "n_passes", Counting.n_passes + 1))
            return network

    repurposer = Counting(small_network(), num_epochs=1, batch_size=20, random_state=0)
    repurposer.parameter_groups(*blobs())
    assert Counting.n_passes == 0
    repurposer.repurpose(*blobs())
    assert Counting.n_passes == 3
    assert np.isfinite(repurposer.history_.values("loss")).all()


def test_rows_of_a_source_are_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'source_data': it has what it needs"):
        LogitMatching(small_network()).fit(*blobs(), source_data=blobs())
