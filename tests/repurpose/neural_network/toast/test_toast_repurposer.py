import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from sklearn.base import clone
from torch import nn

from model_handler import CorruptFileError, ModelError, NoBlocksError
from repurpose import ToastPretuning, ToastRepurposer, load
from tests.repurpose.neural_network.toast.networks import (
    Texts,
    drawn_pretuning,
    fused_vit,
    images,
    multi_head_vit,
    steered_by_hand,
    tiny_bert,
    tiny_resnet,
)

QUICK = {"num_epochs": 1, "random_state": 0, "batch_size": 4}


def toast(network: nn.Module, **options: Any) -> ToastRepurposer:
    return ToastRepurposer(network, **{**QUICK, **options})


TEXTS = [[4, 3, 3, 0, 0], [5, 3, 3, 3, 0], [4, 3, 3, 3, 3], [5, 3, 3, 0, 0]] * 2


@pytest.mark.parametrize("lite", [False, True])
@pytest.mark.parametrize("make", [fused_vit, multi_head_vit, tiny_resnet])
def test_a_task_is_learned_and_comes_back_from_a_file_to_the_last_bit(make: Any, lite: bool, tmp_path: Path) -> None:
    network, (X, y) = make(), images()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    repurposer = toast(network, lite=lite, num_epochs=12, optimizer_params={"learning_rate": 0.05}).repurpose((X, y))
    losses = repurposer.history_.values("loss")
    assert losses[-1] < 0.9 * losses[0]
    assert repurposer.score((X, y)) > 0.6
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))


def test_what_is_trained_is_what_the_equations_say() -> None:
    network, (X, y) = fused_vit(), images()
    repurposer = toast(network).repurpose((X, y))
    module: Any = repurposer.target_model_
    expected = steered_by_hand(module, network, X).softmax(dim=1).detach().numpy()
    assert np.allclose(repurposer.predict_probability(X), expected, atol=1e-5)
    learned = {name.partition(".")[0] for group in repurposer.parameter_groups_ for name in group.parameters}
    assert learned == {"selection", "feedback", "head"}
    assert not torch.equal(module.selection.P, torch.eye(16))


def test_the_first_pass_is_computed_once_and_the_result_is_the_same(caplog: Any) -> None:
    network, (X, y) = fused_vit(), images()
    with caplog.at_level(logging.INFO):
        cached = toast(network, num_epochs=2, cache_frozen=True).repurpose((X, y)).predict_probability(X)
    assert "up to 'norm', is computed once: 8 rows" in caplog.text
    whole = toast(network, num_epochs=2, cache_frozen=False).repurpose((X, y)).predict_probability(X)
    assert np.allclose(cached, whole, atol=1e-6)


def test_texts_are_steered_and_their_padding_is_left_out() -> None:
    network, data = tiny_bert(), Texts(TEXTS)
    repurposer = toast(network, cache_frozen=True, num_epochs=8, optimizer_params={"learning_rate": 0.02})
    repurposer.repurpose(data)
    assert repurposer.score(data) > 0.6
    first: Any = data[0][0]
    alone = {name: part[None, :3] for name, part in first.items()}
    with torch.no_grad():
        logits = repurposer.target_model_(**alone)
        padded = repurposer.target_model_(**{name: part[None] for name, part in first.items()})
    assert torch.allclose(logits, padded, atol=1e-6)


def test_a_layer_behind_the_blocks_may_be_named() -> None:
    network, (X, y) = fused_vit(), images()
    repurposer = toast(network, transfer_layer_name="norm", pooling="cls").repurpose((X, y))
    module: Any = repurposer.target_model_
    expected = steered_by_hand(module, network, X)
    assert torch.allclose(module(X), expected, atol=1e-5)
    # 16 channels, since with 4 torch aborts in a backward pass where oneDNN is held to AVX2
    maps = toast(tiny_resnet(width=16), transfer_layer_name="blocks.2").repurpose((X, y))
    assert maps.target_model_.head.in_features == 32


def test_a_layer_before_the_end_of_the_blocks_is_refused_and_nothing_is_learned() -> None:
    repurposer = toast(fused_vit(), transfer_layer_name="blocks.0")
    with pytest.raises(ModelError, match=r"lies before the end of the last block, 'blocks\.1'"):
        repurposer.repurpose(images())
    assert not hasattr(repurposer, "classes_")


def test_networks_that_cannot_be_steered_are_refused_with_what_was_looked_for() -> None:
    X, y = images()
    plain = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(NoBlocksError, match=r"no chain of residual blocks.*use AdapterRepurposer"):
        toast(plain).repurpose((X, y))


def test_every_parameter_that_cannot_be_is_named_at_once() -> None:
    wrong = toast(fused_vit(), lite="yes", rank=0, pretuned=3, transfer_layer_name=4, target_class_count=1)
    with pytest.raises(ValueError, match="lite must be True or False") as refusal:
        wrong.repurpose(images())
    for name in ("rank must", "pretuned must", "transfer_layer_name must", "target_class_count must"):
        assert name in str(refusal.value)
    with pytest.raises(ValueError, match="rank must be at most the 16 channels of the network, got 17"):
        toast(fused_vit(), lite=True, rank=17).repurpose(images())


def test_it_is_cloned_with_all_its_parameters() -> None:
    copied = clone(toast(fused_vit(), lite=True, rank=2, transfer_layer_name="norm"))
    assert (copied.lite, copied.rank, copied.transfer_layer_name) == (True, 2, "norm")


def test_an_ensemble_is_saved_without_the_network_too(tmp_path: Path) -> None:
    network, (X, y) = fused_vit(), images()
    repurposer = toast(network, num_members=2).repurpose((X, y))
    learned = repurposer._learned_for_file()["target_state_"]
    assert "members.1.selection.xi" in learned
    assert not any(".network." in name for name in learned)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    assert loaded.attention_maps(X).shape == (8, 2, 2)


def test_files_of_toast_are_small_beside_a_vit_ti_of_ten_classes(tmp_path: Path) -> None:
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10)
    data = torch.rand(10, 3, 32, 32), [*range(10)]
    drawn_pretuning(network, 192, 12).save(tmp_path / "generic.safetensors")
    n_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
    for lite, share in ((False, 0.2), (True, 0.05)):
        repurposer = toast(network, lite=lite, pretuned=str(tmp_path / "generic.safetensors"), cache_frozen=False)
        repurposer.repurpose(data).save_repurposer(tmp_path / f"saved_{lite}")
        saved = sum(path.stat().st_size for path in (tmp_path / f"saved_{lite}").iterdir())
        assert saved < share * n_bytes


def test_a_network_that_is_not_in_the_file_must_be_that_of_training(tmp_path: Path, monkeypatch: Any) -> None:
    network, (X, y) = fused_vit(), images()
    monkeypatch.setattr("repurpose.source._load_once", lambda name: network)
    repurposer = toast("a/name").repurpose((X, y))  # type: ignore[arg-type]
    repurposer.save_repurposer(tmp_path / "saved")
    expected = repurposer.predict_probability(X)
    assert np.array_equal(load(tmp_path / "saved").predict_probability(X), expected)
    network.norm.weight.data.mul_(2)  # type: ignore[union-attr, operator]
    with pytest.raises(ValueError, match=r"is not the network that .*other numbers in norm\.weight"):
        load(tmp_path / "saved")
    with pytest.raises(ValueError, match="source_model was changed after training"):
        repurposer.save_repurposer(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert np.array_equal(repurposer.predict_probability(X), expected)


def test_lite_on_a_pretuning_finds_it_again_by_its_fingerprint(tmp_path: Path) -> None:
    network, (X, y) = fused_vit(), images()
    pretuned = drawn_pretuning(network)
    repurposer = toast(network, lite=True, pretuned=pretuned).repurpose((X, y))
    weight = repurposer.target_model_.feedback.A[1].weight
    assert np.array_equal(weight.detach().numpy(), pretuned.arrays["feedback.A.1.weight"])
    repurposer.save_repurposer(tmp_path / "saved")
    expected = repurposer.predict_probability(X)
    with pytest.raises(ValueError, match=f"pre-tuning of the fingerprint {pretuned.fingerprint[:12]}, which is not in"):
        load(tmp_path / "saved", source_model=network)
    assert np.array_equal(
        load(tmp_path / "saved", source_model=network, pretuned=pretuned).predict_probability(X), expected
    )
    other = drawn_pretuning(network, seed=1)
    with pytest.raises(ValueError, match="pretuned is not the pre-tuning that it was trained on"):
        load(tmp_path / "saved", source_model=network, pretuned=other)


def test_a_path_of_a_pretuning_is_followed_when_loading(tmp_path: Path) -> None:
    network, (X, y) = fused_vit(), images()
    file = tmp_path / "generic.safetensors"
    drawn_pretuning(network).save(file)
    repurposer = toast(network, lite=True, pretuned=str(file)).repurpose((X, y))
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CorruptFileError):
        load(tmp_path / "saved", source_model=network)
    file.unlink()
    with pytest.raises(ValueError, match="and there is none at"):
        load(tmp_path / "saved", source_model=network)


def test_all_of_toast_is_in_its_own_file_though_it_was_pretuned(tmp_path: Path) -> None:
    network, (X, y) = fused_vit(), images()
    repurposer = toast(network, pretuned=drawn_pretuning(network)).repurpose((X, y))
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))


def test_a_pretuning_of_another_network_or_width_is_refused_naming_both() -> None:
    X, y = images()
    pretuned = drawn_pretuning(fused_vit())
    fingerprint = pretuned.source_fingerprint[:12]
    with pytest.raises(ValueError, match=rf"a VisionTransformer of the fingerprint {fingerprint}, and this Vision.*"):
        toast(fused_vit(seed=1), pretuned=pretuned).repurpose((X, y))
    with pytest.raises(ValueError, match="of 2 blocks and 16 channels, and this VisionTransformer has 3 and 8"):
        toast(fused_vit(embed_dim=8, depth=3), pretuned=pretuned).repurpose((X, y))


def test_without_pretuning_the_log_says_that_the_paper_found_it_weaker(caplog: Any) -> None:
    network, (X, y) = fused_vit(), images()
    with caplog.at_level(logging.INFO):
        pretuned = toast(network).pretune((X, y))
        toast(network, pretuned=pretuned).repurpose((X, y))
        assert "without pre-tuning" not in caplog.text
        toast(network).repurpose((X, y))
    assert caplog.text.count("without pre-tuning, which the paper found weaker") == 1
    assert isinstance(pretuned, ToastPretuning)


@pytest.mark.parametrize("make", [fused_vit, tiny_resnet, tiny_bert])
def test_the_trained_network_is_exported_with_both_passes(make: Any) -> None:
    is_text = make is tiny_bert
    repurposer = toast(make()).repurpose(Texts(TEXTS) if is_text else images())
    ids, (X, _) = torch.tensor(TEXTS), images()
    args, named = ((), {"input_ids": ids, "attention_mask": (ids > 0).long()}) if is_text else ((X,), {})
    exported = torch.export.export(repurposer.target_model_, args, named).module()
    with torch.no_grad():
        if is_text:
            named = {"input_ids": ids.flip(0), "attention_mask": (ids.flip(0) > 0).long()}
        else:
            args = (X.flip(3),)
        expected = repurposer.target_model_(*args, **named)
        assert torch.allclose(exported(*args, **named), expected, atol=1e-6)


def test_merging_is_refused_with_the_reason() -> None:
    with pytest.raises(ModelError, match="made of each input in a first pass, and is no change of weights"):
        toast(fused_vit()).merged_module()
