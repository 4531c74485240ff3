"""What is plugged in is a Repurposer like any other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from model_handler import ModelError
from repurpose import load
from repurpose.offsite import PluggedInRepurposer
from tests.repurpose.offsite.exports import Exported, exported
from tests.repurpose.offsite.networks import bert, images, tokens, vit


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exported, PluggedInRepurposer]:
    sent = exported(tmp_path_factory.mktemp("owner"), vit(), images())
    torch.manual_seed(8)
    blocks = {name: value + 0.1 * torch.randn_like(value) for name, value in sent.untouched.items()}
    head = {"weight": torch.randn(2, 16), "bias": torch.randn(2)}
    return sent, sent.owner.plug_in(sent.adapter(blocks, head, ["cat", "dog"]))


def test_it_predicts_is_evaluated_and_is_uncertain(tuned: tuple[Exported, PluggedInRepurposer]) -> None:
    _, plugged = tuned
    X, labels = images(8), plugged.predict_label(images(8))
    logits = plugged.target_model_(X).detach()
    assert np.allclose(plugged.predict_probability(X), logits.softmax(1).numpy(), atol=1e-6)
    assert plugged.score(X, labels) == 1.0
    assert plugged.evaluate((X, labels)).accuracy == 1.0
    assert plugged.predict_uncertainty(X, n_draws=4).total.shape == (8,)
    assert plugged.class_names_.tolist() == ["cat", "dog"]
    with pytest.raises(ValueError, match=r"expecting rows of shape \(3, 16, 16\)"):
        plugged.predict_label(torch.rand(4, 16))


def test_its_file_holds_the_adapter_and_the_head_alone_and_gives_it_back(
    tuned: tuple[Exported, PluggedInRepurposer], tmp_path: Path
) -> None:
    sent, plugged = tuned
    plugged.save_repurposer(tmp_path / "plugged")
    loaded = load(tmp_path / "plugged", source_model=sent.owner.network)
    assert np.array_equal(loaded.predict_probability(images()), plugged.predict_probability(images()))
    draws = [one.predict_uncertainty(images(), n_draws=3).epistemic for one in (plugged, loaded)]
    assert np.array_equal(*draws)
    (arrays,) = (tmp_path / "plugged").glob("arrays-*.safetensors")
    n_tuned = sum(value.numel() for value in sent.untouched.values()) + 2 * 16 + 2
    assert 4 * n_tuned < arrays.stat().st_size < 4 * n_tuned + 5_000
    with pytest.raises(ValueError, match="source_model is not the network that"):
        load(tmp_path / "plugged", source_model=vit(depth=5))


def test_a_head_on_top_is_loaded_too(tmp_path: Path) -> None:
    sent = exported(tmp_path, bert(classes=False), tokens(), head="none")
    head = {"weight": torch.randn(3, 16), "bias": torch.randn(3)}
    plugged = sent.owner.plug_in(sent.adapter(head=head, classes=[3, 5, 8]))
    plugged.save_repurposer(tmp_path / "plugged")
    loaded = load(tmp_path / "plugged", source_model=sent.owner.network)
    assert np.array_equal(loaded.predict_probability(tokens()), plugged.predict_probability(tokens()))
    assert loaded.predict_label(tokens()).dtype.kind == "i"


def test_its_parameters_are_told_by_group(tuned: tuple[Exported, PluggedInRepurposer]) -> None:
    sent, plugged = tuned
    (group,) = plugged.parameter_groups()
    assert set(group.parameters) == set(plugged.adapter_names_)
    assert len(group.parameters) == len(sent.untouched) + 2
    total = sum(weight.numel() for weight in plugged.target_model_.parameters())
    assert group.n_elements + plugged.parameter_groups_.n_frozen == total


def test_it_is_not_trained_and_stays_as_it_is(tuned: tuple[Exported, PluggedInRepurposer]) -> None:
    _, plugged = tuned
    before = plugged.predict_probability(images())
    with pytest.raises(ModelError, match="was tuned elsewhere and is not trained"):
        plugged.repurpose((images(), ["cat", "dog"] * 2))
    assert np.array_equal(plugged.predict_probability(images()), before)
    with pytest.raises(NotFittedError):
        clone(plugged).predict_label(images())


def test_a_file_that_asks_for_another_head_is_refused(tuned: tuple[Exported, PluggedInRepurposer]) -> None:
    sent, plugged = tuned
    learned = plugged._learned_for_file()
    parameters = {"source_model": sent.owner.network}
    for changes, message in [
        ({"head_width_": 10**12}, "it has no head of 1000000000000 outputs"),
        ({"head_path_": "encoder"}, "no linear layer 'encoder' to be its head"),
        ({"head_width_": 16}, "is not the one that was saved"),
    ]:
        with pytest.raises(ValueError, match=message):
            PluggedInRepurposer.restored(parameters, {**learned, **changes})
    assert PluggedInRepurposer.restored(parameters, learned).predict_label(images()).shape == (4,)
