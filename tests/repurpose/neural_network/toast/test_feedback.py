import pytest
import torch
from torch import nn

from repurpose.neural_network.toast.feedback import Feedback, StageSize
from repurpose.neural_network.toast.selection import Selection


def n_learning(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(("rank", "without_P"), [(None, 14_156_544), (4, 148_224)])
def test_the_parameters_on_vit_b_are_as_many_as_counted_by_hand(rank: int | None, without_P: int) -> None:
    """Of 12 blocks of width 768; P has 768 x 768 more, which figures of about 14 million leave out."""
    with torch.device("meta"):
        feedback, selection = Feedback([StageSize(768, 768)] * 12, rank=rank), Selection(768)
    assert n_learning(feedback, selection) == without_P + 589_824
    assert n_learning(selection) == 768 + 768 * 768


def test_signals_go_down_from_the_last_block() -> None:
    feedback = Feedback([StageSize(4, 4)] * 3)
    u = torch.rand(2, 5, 4)
    top_down = feedback(u)
    for number in (2, 1, 0):
        u = u @ feedback.A[number].weight.T
        assert torch.allclose(top_down[number], u @ feedback.B[number].weight.T, atol=1e-6)


@pytest.mark.parametrize("n_tokens", [1, 40])  # fewer and more than channels: multiplied in another order
def test_signals_are_projected_as_values_are(n_tokens: int) -> None:
    feedback, weights = Feedback([StageSize(4, 4)] * 2, rank=2), list(torch.rand(2, 3, 4))
    u = torch.rand(2, n_tokens, 4)
    for found, td, weight in zip(feedback.projected(u, weights), feedback(u), weights, strict=True):
        assert torch.allclose(found, td @ weight.T, atol=1e-6)


def test_maps_are_drawn_so_that_toast_does_not_start_as_the_identity() -> None:
    torch.manual_seed(0)
    for width in (48, 192):
        weight = Feedback([StageSize(width, width)] * 2).A[1].weight
        wanted = 0.02 * (768 / width) ** 0.5
        assert abs(weight.std().item() - wanted) < 0.05 * wanted


def test_lite_begins_where_its_maps_are_and_learns_products_alone() -> None:
    torch.manual_seed(0)
    sizes = [StageSize(3, 8, 4), StageSize(8, 16, 2)]
    lite = Feedback(sizes, of_maps=True, rank=4)
    whole = Feedback(sizes, of_maps=True)
    whole.load_state_dict({name: value for name, value in lite.state_dict().items() if name.endswith("weight")})
    u = torch.rand(2, 16, 3, 3)
    assert all(torch.equal(one, other) for one, other in zip(lite(u), whole(u), strict=True))
    assert {name.rpartition(".")[2] for name, p in lite.named_parameters() if p.requires_grad} == {"U", "V"}
    nn.init.ones_(lite.A[1].U)
    expected = whole.A[1].weight + (torch.ones(16, 4) @ lite.A[1].V).view(16, 8, 2, 2)
    assert torch.allclose(lite.A[1].full_weight(), expected)
    assert lite.B[0].U.shape == (3, 3)  # an image has three channels, and no product of rank 4


def test_a_stage_is_mirrored_to_the_size_that_it_read() -> None:
    feedback = Feedback([StageSize(3, 8, 4), StageSize(8, 16, 2)], of_maps=True)
    shapes = [tuple(td.shape) for td in feedback(torch.rand(2, 16, 3, 3))]
    assert shapes == [(2, 3, 24, 24), (2, 8, 6, 6)]
