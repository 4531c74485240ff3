"""DANN's classifier of domains learns to tell them apart, and the network by minus its gradient."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from repurpose.domain import DannRepurposer
from tests.repurpose.domain.networks.adaptation import AdaptationContract, made, network

CLASSIFIER = ("domain.0.1.weight", "domain.0.1.bias", "domain.0.3.weight", "domain.0.3.bias")


class TestDannRepurposer(AdaptationContract):
    make = DannRepurposer
    options: ClassVar[dict[str, Any]] = {"hidden_widths": (7,)}

    def step(self, parts: dict[str, Tensor], loss: Tensor, source: Tensor, target: Tensor, strength: float) -> None:
        """The classifier goes down its loss, the network up: two losses, and no layer that reverses."""
        weights = {name: parts[name] for name in CLASSIFIER}
        others = {name: part for name, part in parts.items() if name not in weights}
        first, first_bias, last, last_bias = weights.values()

        def logits(rows: Tensor) -> Tensor:
            return functional.linear(functional.linear(rows, first, first_bias).relu(), last, last_bias)

        told_apart = sum(
            functional.binary_cross_entropy_with_logits(found, torch.full_like(found, is_source))
            for found, is_source in ((logits(source), 1.0), (logits(target), 0.0))
        )
        down = torch.autograd.grad(told_apart, [*weights.values()], retain_graph=True)
        up = torch.autograd.grad(loss - strength * told_apart, [*others.values()])
        self.descend(parts, {**dict(zip(weights, down)), **dict(zip(others, up))})

    @pytest.mark.parametrize("widths", [(0,), "12", (3.5,), 7, None, (True,)])
    def test_widths_that_are_none_are_refused(self, widths: object) -> None:
        with pytest.raises(ValueError, match="hidden_widths must be a sequence of whole numbers of at least 1, got"):
            self.learned(hidden_widths=widths)

    def test_no_hidden_layer_is_a_linear_classifier(self) -> None:
        parts = dict(self.learned(hidden_widths=()).target_model_.named_parameters())
        assert [tuple(part.shape) for name, part in parts.items() if "domain" in name] == [(1, 6), (1,)]

    def test_each_layer_has_a_classifier_of_its_own_which_is_new(self) -> None:
        repurposer = self.learned(adaptation_layer_names=["1", "head"])
        parts = dict(repurposer.target_model_.named_parameters())
        assert parts["domain.0.1.weight"].shape == (7, 8)
        assert parts["domain.1.1.weight"].shape == (7, 2)
        (new,) = [group for group in repurposer.parameter_groups_ if group.name == "new"]
        assert {name for name in parts if name.startswith("domain")} <= set(new.parameters)

    def test_by_default_it_is_the_classifier_of_the_paper(self) -> None:
        module = made(DannRepurposer)._domain_module(6)
        assert [layer.out_features for layer in module if hasattr(layer, "out_features")] == [1024, 1024, 1]
        assert network()[0].out_features == 8
