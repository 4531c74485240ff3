"""Texts of padding alone are refused by their row in the data, before a network learns of them or judges them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from repurpose import AdapterRepurposer, NeuralNetworkFineTuneRepurposer, ToastRepurposer
from repurpose.data.padding import refuse_padding_alone
from tests.repurpose.neural_network.toast.networks import Texts, tiny_bert

WHOLE = [[4, 3, 3, 0, 0], [5, 3, 3, 3, 0], [4, 3, 3, 3, 3], [5, 3, 3, 0, 0]] * 2
WITH_EMPTY = [*WHOLE[:5], [0] * 5, *WHOLE[6:]]


def inputs(texts: list[list[int]]) -> dict[str, np.ndarray]:
    ids = np.array(texts)
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}


def repurposer_of(kind: Any, **options: Any) -> Any:
    end = {"transfer_layer_name": "encoder.layer.1"} if kind is NeuralNetworkFineTuneRepurposer else {}
    return kind(tiny_bert(), num_epochs=1, batch_size=2, random_state=0, **end, **options)


@pytest.mark.parametrize("kind", [AdapterRepurposer, ToastRepurposer, NeuralNetworkFineTuneRepurposer])
def test_a_text_of_padding_alone_is_refused_by_its_row_in_training_and_in_prediction(kind: Any) -> None:
    repurposer, labels = repurposer_of(kind), [0, 1] * 4
    for data in (Texts(WITH_EMPTY), DataLoader(Texts(WITH_EMPTY), batch_size=2), (inputs(WITH_EMPTY), labels)):
        with pytest.raises(ValueError, match=r"^row 5 of the data has no token: its attention_mask is 0 everywhere"):
            repurposer.repurpose(data)
        assert not hasattr(repurposer, "classes_")
    with pytest.raises(ValueError, match=r"^row 1 of the data has no token"):
        repurposer.repurpose((inputs(WITH_EMPTY[4:]), labels[:4]))
    repurposer.repurpose(Texts(WHOLE))
    with pytest.raises(ValueError, match=r"^row 5 of the data has no token"):
        repurposer.repurpose(Texts(WHOLE), validation_data=Texts(WITH_EMPTY))
    asked = [
        repurposer.predict_probability,
        repurposer.predict_uncertainty,
        getattr(repurposer, "attention_maps", None),
    ]
    for ask in filter(None, asked):
        for given in (inputs(WITH_EMPTY), DataLoader(Texts(WITH_EMPTY), batch_size=2)):
            with pytest.raises(ValueError, match=r"^row 5 of the data has no token"):
                ask(given)


def test_what_is_no_mask_of_tokens_is_not_judged() -> None:
    pairs, other = torch.zeros(2, 3, 3), torch.zeros(2, 3)
    for given in ({"attention_mask": pairs}, {"ids": other}, other, (other, other)):
        refuse_padding_alone(given)
    with pytest.raises(ValueError, match=r"^row 7 of the data"):
        refuse_padding_alone({"attention_mask": torch.tensor([[1, 0], [0, 0]])}, np.array([3, 7]))
    with pytest.raises(ValueError, match=r"^row 11 of the data"):
        refuse_padding_alone({"attention_mask": torch.tensor([[1, 0], [0, 0]])}, n_before=10)
