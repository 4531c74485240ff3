import torch

from repurpose.training.data.batches import TrainingBatch


def cut(inputs: object, targets: object, n_rows: int, size: int | None) -> list[TrainingBatch]:
    return TrainingBatch(inputs, targets, n_rows).pieces(size)


def test_pieces_hold_all_rows_in_order() -> None:
    inputs, codes = {"a": torch.arange(5), "b": (torch.arange(5), torch.ones(5, 2))}, torch.arange(5)
    pieces = cut(inputs, codes, 5, 2)
    assert [(piece.n_rows, len(piece.targets), len(piece.inputs["b"][1])) for piece in pieces] == [
        (1, 1, 1),
        (2, 2, 2),
        (2, 2, 2),
    ]
    assert torch.cat([piece.inputs["a"] for piece in pieces]).tolist() == list(range(5))
    assert torch.cat([piece.inputs["b"][0] for piece in pieces]).tolist() == list(range(5))
    assert cut(inputs, codes, 5, None)[0].inputs is inputs


def test_pieces_are_nearly_as_large_as_each_other() -> None:
    sizes = [[piece.n_rows for piece in cut(torch.arange(n), torch.arange(n), n, 8)] for n in (17, 16)]
    assert sizes == [[5, 6, 6], [8, 8]]  # and no row is left alone


def test_targets_that_are_a_list_are_cut_by_rows_too() -> None:
    boxes = [torch.ones(number, 4) for number in range(4)]
    pieces = cut(torch.arange(4), boxes, 4, 3)
    assert [[len(each) for each in piece.targets] for piece in pieces] == [[0, 1], [2, 3]]
