import torch

from repurpose.neural_network.toast.selection import Selection


def test_what_points_along_the_task_is_selected_and_what_points_away_is_not() -> None:
    selection = Selection(2)
    selection.xi.data.copy_(torch.tensor([2.0, 0.0]))
    z = torch.tensor([[[3.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.5]]])
    scores = selection.scores(z)
    assert torch.allclose(scores, torch.tensor([[1.0, 0.5**0.5, 0.0, 0.0]]))
    assert torch.allclose(selection(z, scores), scores.unsqueeze(-1) * z)  # P is the identity at first


def test_padding_is_not_selected() -> None:
    selection = Selection(2)
    z = selection.xi.detach().expand(1, 3, 2)
    assert selection.scores(z, torch.tensor([[True, True, False]])).round(decimals=5).tolist() == [[1, 1, 0]]


def test_channels_are_mixed_by_P() -> None:
    selection = Selection(2)
    selection.P.data.copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
    z = torch.tensor([[[3.0, 5.0]]])
    assert selection(z, torch.ones(1, 1)).tolist() == [[[5.0, 6.0]]]
