"""A selection that has closed is told at the end of training."""

import warnings
from typing import Any

import pytest
import torch

from repurpose import ToastRepurposer
from tests.repurpose.neural_network.toast.networks import Texts, fused_vit, images, tiny_bert, tiny_resnet

TEXTS = Texts([[4, 3, 3, 0, 0], [5, 3, 3, 3, 0], [4, 3, 3, 3, 3], [5, 3, 3, 0, 0]] * 2)


def toast(make: Any, rate: float, **options: Any) -> ToastRepurposer:
    params = {"num_epochs": 10, "batch_size": 4, "random_state": 0, "optimizer_params": {"learning_rate": rate}}
    return ToastRepurposer(make(), **params, **options)


@pytest.mark.parametrize(("make", "data", "rate"), [(fused_vit, images(), 2.0), (tiny_bert, TEXTS, 0.5)])
def test_a_selection_that_steps_too_large_have_closed_is_told_with_a_lower_rate(
    make: Any, data: Any, rate: float
) -> None:
    with pytest.warns(
        UserWarning, match=rf"selection has closed while.*none of 4 .*{rate / 10:g} in place of {rate:g}"
    ):
        repurposer = toast(make, rate).repurpose(data)
    module: Any = repurposer.target_model_
    X = data[0] if make is fused_vit else {"input_ids": TEXTS.ids, "attention_mask": (TEXTS.ids > 0).long()}
    with torch.no_grad():  # what the warning says: as with a signal of zeros
        answers = module(X) if make is fused_vit else module(**X)
        module.selection.xi.zero_()
        assert torch.equal(module(X) if make is fused_vit else module(**X), answers)


def test_members_that_have_closed_are_counted() -> None:
    with pytest.warns(UserWarning, match="selection has closed in 1 of 2 members while"):
        toast(fused_vit, 2.0, num_members=2).repurpose(images())


@pytest.mark.parametrize(("make", "data"), [(fused_vit, images()), (tiny_resnet, images()), (tiny_bert, TEXTS)])
def test_an_open_selection_is_no_matter_for_a_warning_and_generators_stay(make: Any, data: Any) -> None:
    repurposer = toast(make, 0.001)
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        repurposer.repurpose(data)
    assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(3)))
    module: Any = repurposer.target_model_
    inputs = {"input_ids": TEXTS.ids, "attention_mask": (TEXTS.ids > 0).long()} if make is tiny_bert else data[0]
    assert 0 < module.share_selected(inputs) <= 1


def test_the_share_counts_tokens_and_no_padding() -> None:
    inputs = {"input_ids": TEXTS.ids, "attention_mask": (TEXTS.ids > 0).long()}
    module: Any = toast(tiny_bert, 0.001).repurpose(TEXTS).target_model_
    with torch.no_grad():
        module.selection.xi.copy_(module.first_pass(**inputs)[0, 0])
        z = torch.nn.functional.normalize(module.first_pass(**inputs), dim=-1)
    cosines = z @ torch.nn.functional.normalize(module.selection.xi.detach(), dim=0)
    counted = TEXTS.ids > 0
    assert module.share_selected(inputs) == pytest.approx(float((cosines[counted] > 0).float().mean()))
