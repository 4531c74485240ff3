import logging
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repurpose import ToastRepurposer
from repurpose.neural_network.toast.pretuner import _PretuningRepurposer, _Reconstructing
from tests.repurpose.neural_network.toast.networks import Texts, fused_vit, images, tiny_bert, tiny_resnet

QUICK = {"num_epochs": 1, "random_state": 0, "batch_size": 4}


def module_and_example(network: nn.Module, **options: Any) -> tuple[Any, torch.Tensor]:
    X, y = images(**options)
    learner = _PretuningRepurposer(network, **QUICK).repurpose((X, y))
    module = learner.target_model_
    assert isinstance(module, _Reconstructing)
    return module.train(), X


def test_the_reconstruction_of_blocks_is_that_of_their_second_pass() -> None:
    module, X = module_and_example(fused_vit())
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    for block in module.network.blocks:
        block.register_forward_hook(lambda block, inputs, output: calls.append((inputs[0], output)))
    made = module(X)["reconstruction"]
    second_pass = calls[2:]
    expected = sum(
        ((output @ A.weight.T - read) ** 2).mean() for A, (read, output) in zip(module.feedback.A, second_pass)
    )
    assert torch.allclose(made, 0.1 * expected, rtol=1e-4)


def test_the_reconstruction_moves_the_upward_maps_alone() -> None:
    module, X = module_and_example(fused_vit())
    module.zero_grad()
    module(X)["reconstruction"].backward()
    reached = {name.rsplit(".", 2)[0] for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"feedback.A"}


def test_the_reconstruction_of_stages_begins_at_the_image() -> None:
    network: Any = tiny_resnet()
    module, X = module_and_example(network, size=9)
    made = module(X)["reconstruction"]
    with module.steered(module.first_pass(X), None) as top_down:
        pass
    image, second = (F.interpolate(td, size=(9, 9), mode="bilinear") for td in top_down)
    first_read = X + image
    first_given = network.blocks[0](network.stem(first_read))
    second_read = first_given + second
    A = module.feedback.A
    second_made = F.conv_transpose2d(network.blocks[1:](second_read), A[1].weight, stride=2)
    second_made = F.interpolate(second_made, size=(9, 9), mode="bilinear")
    first_made = torch.einsum("nchw,cd->ndhw", first_given, A[0].weight[:, :, 0, 0])
    expected = F.mse_loss(first_made, first_read) + F.mse_loss(second_made, second_read)
    assert torch.allclose(made, 0.01 * expected, rtol=1e-4)


@pytest.mark.parametrize("make", [fused_vit, tiny_resnet, tiny_bert])
def test_the_first_pass_is_computed_once_and_what_is_learned_is_the_same(make: Any, caplog: Any) -> None:
    data = Texts([[3, 4, 5, 6], [3, 7, 8, 0]] * 4) if make is tiny_bert else images()
    network, found = make(), {}
    for cached in (True, False):
        with caplog.at_level(logging.INFO):
            learner = ToastRepurposer(network, **{**QUICK, "num_epochs": 2}, cache_frozen=cached)
            found[cached] = learner.pretune(data).arrays
    assert caplog.text.count("is computed once: 8 rows") == 1
    for name, array in found[True].items():
        assert np.allclose(array, found[False][name], atol=1e-5), name


def test_padding_is_not_reconstructed() -> None:
    data = Texts([[3, 4, 5, 6], [3, 7, 8, 0]] * 2)
    module: Any = _PretuningRepurposer(tiny_bert(), **QUICK).repurpose(data).target_model_.train()
    inputs = {name: part[None] for name, part in data[1][0].items()}
    alone = {name: part[:, :3] for name, part in inputs.items()}
    assert torch.allclose(module(**inputs)["reconstruction"], module(**alone)["reconstruction"], rtol=1e-4)


def test_labels_that_are_outputs_are_told_apart_by_the_networks_own_layer(caplog: Any) -> None:
    network, (X, _) = fused_vit(), images()
    labels = [3, 1] * 4
    with caplog.at_level(logging.INFO):
        learner = _PretuningRepurposer(network, **QUICK).repurpose((X, labels))
    assert "the labels are their numbers" in caplog.text
    module = learner.target_model_
    module.selection.xi.data.zero_()
    with torch.no_grad():
        assert torch.equal(module(X), network(X)[:, [1, 3, 0, 2, 4]])
    assert not any("head" in name for group in learner.parameter_groups_ for name in group.parameters)


@pytest.mark.parametrize("labels", [["cat", "dog"] * 4, [2, 5] * 4, [-1, 1] * 4])
def test_other_labels_get_a_new_layer(labels: list[Any]) -> None:
    learner = _PretuningRepurposer(fused_vit(), **QUICK).repurpose((images()[0], labels))
    assert isinstance(learner.target_model_.head, nn.Linear)
    assert learner.target_model_.head.out_features == 2


def test_the_outputs_of_a_network_without_a_classifier_are_no_labels() -> None:
    network = fused_vit(num_classes=0)  # its output are 16 features
    learner = _PretuningRepurposer(network, **QUICK).repurpose(images())
    assert learner.target_model_.head.out_features == 2


def test_pretuning_leaves_the_repurposer_and_learns_what_is_to_be_given_on() -> None:
    network, (X, y) = fused_vit(), images()
    repurposer = ToastRepurposer(network, lite=True, class_weight={"left": 1, "right": 2}, num_members=2, **QUICK)
    before = repurposer.get_params()
    pretuned = repurposer.pretune((X, y), reconstruction=0.5)
    assert repurposer.get_params() == before
    assert not hasattr(repurposer, "classes_")
    names = {"selection.xi", "selection.P", *(f"feedback.{kind}.{n}.weight" for kind in "AB" for n in range(2))}
    assert set(pretuned.arrays) == names
    again = repurposer.pretune((X, y), reconstruction=0.5)
    assert again.fingerprint == pretuned.fingerprint
    assert repurposer.pretune((X, y)).fingerprint != pretuned.fingerprint
    assert not np.array_equal(pretuned.arrays["selection.P"], np.eye(16))


def test_a_reconstruction_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="reconstruction must be a number of at least 0, or None, got -1"):
        ToastRepurposer(fused_vit(), **QUICK).pretune(images(), reconstruction=-1)
