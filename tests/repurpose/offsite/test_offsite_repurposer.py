"""The data owner's side: what learns, what stays, what leaves, and that everything of fine-tuning works."""

import pickle
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from torch import nn
from torchvision import transforms

from model_handler.errors import CorruptFileError, ModelError
from model_handler.network.states import copied_state
from repurpose import load
from repurpose.neural_network.architecture import as_spec
from repurpose.offsite import OffsiteOwner, OffsitePackage, OffsiteRepurposer
from repurpose.offsite.adapter_files import read_adapter
from repurpose.offsite.package import write_package
from repurpose.persistence.network.preprocessing import describe_transform
from tests.repurpose.offsite.networks import images, vit
from tests.repurpose.offsite.packages import (
    CLASSES,
    Chain,
    contents_of,
    emulator_of,
    exported,
    owners_network,
    rows,
    without_head,
)

OTHERS = ("left", "right")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return exported(tmp_path)


def tuner(package: Path, **options: Any) -> OffsiteRepurposer:
    """A Repurposer whose `source_model` has the owner's architecture and other weights."""
    given = {"source_model": Chain(seed=9), "num_epochs": 3, "random_state": 0, "batch_size": 8}
    return OffsiteRepurposer(package, **{**given, **options})


def is_adapter(name: str) -> bool:
    return name.startswith(("blocks.0.", "blocks.3."))


@pytest.mark.parametrize("options", [{}, {"learning_rates": {"*": 0.01}}, {"ema": 0.9}, {"kind": "lora", "rank": 2}])
def test_only_adapter_and_head_learn_and_all_else_stays_bit_for_bit(package: Path, options: dict[str, Any]) -> None:
    before = copied_state(emulator_of(owners_network()))
    after = tuner(package, **options).repurpose(rows()).target_model_.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    learning = {name for name in before if is_adapter(name) or name.startswith("head.")}
    statistics = {name for name in before if "running" in name or "batches" in name}
    assert changed == ({"head.weight", "head.bias"} if "kind" in options else learning - statistics)


def test_training_is_that_of_a_network_with_a_frozen_middle_step_by_step(tmp_path: Path) -> None:
    """Plain gradient descent on all rows, written out: m = n, nothing distilled."""
    owner, (X, y) = owners_network(), rows()
    package = exported(tmp_path, owner, kept=(1, 2, 3, 4))
    options = {"optimizer": "SGD", "optimizer_params": {"learning_rate": 0.1, "weight_decay": 0.0}}
    options |= {"batch_size": len(X), "scheduler": "ConstantLR", "scheduler_params": {"factor": 1.0}}
    trained = tuner(package, num_epochs=4, **options).repurpose((X, y))
    codes = torch.tensor([CLASSES.index(label) for label in y])
    learning = {
        name: value for name, value in owner.named_parameters() if name.startswith(("blocks.0.", "blocks.5.", "head."))
    }
    for _ in range(4):
        gradients = torch.autograd.grad(nn.functional.cross_entropy(owner(X), codes), [*learning.values()])
        with torch.no_grad():
            for (name, value), gradient in zip(learning.items(), gradients):
                value -= (0.1 if name.startswith("head.") else 0.01) * gradient
    expected = owner.state_dict()
    for name, value in trained.target_model_.state_dict().items():
        assert torch.allclose(value, expected[name], rtol=0, atol=1e-5), name


def test_the_head_learns_ten_times_as_fast_as_the_adapter(package: Path) -> None:
    groups = tuner(package, optimizer_params={"learning_rate": 0.02}).parameter_groups(rows())
    rates = {name: group.learning_rate for group in groups for name in group.parameters}
    assert rates.pop("head.weight") == rates.pop("head.bias") == 0.02
    assert set(rates.values()) == {0.1 * 0.02}
    assert all(map(is_adapter, rates))


def test_a_rate_for_what_is_frozen_is_an_error_and_no_change_of_it(package: Path) -> None:
    with pytest.raises(ValueError, match=r"'blocks\.1' matches no parameter that learns: it has none, or they are fr"):
        tuner(package, learning_rates={"blocks.1": 0.1, "*": 0.1}).repurpose(rows())


def test_training_begins_from_the_owners_head_in_the_order_of_the_labels(tmp_path: Path) -> None:
    owner = owners_network()
    package = exported(tmp_path, owner, class_names=("pear", "apple", "fig"))
    options = {"optimizer": "SGD", "optimizer_params": {"learning_rate": 1e-12}, "num_epochs": 1}
    head = tuner(package, **options).repurpose(rows()).target_model_.head
    assert torch.allclose(head.weight, owner.head.weight[[1, 2, 0]], rtol=0, atol=1e-9)
    assert torch.allclose(head.bias, owner.head.bias[[1, 2, 0]], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("labels", "options", "width"), [(OTHERS, {}, 2), (CLASSES, {"target_class_count": 5}, 5)])
def test_other_classes_begin_with_a_new_head(
    package: Path, tmp_path: Path, labels: tuple[str, ...], options: dict[str, int], width: int
) -> None:
    repurposer = tuner(package, **options).repurpose(rows(labels=labels))
    assert repurposer.target_model_.head.out_features == width
    assert repurposer.predict_probability(rows()[0]).shape == (24, len(labels))
    repurposer.save_adapter(tmp_path / "adapter")
    contents = read_adapter(tmp_path / "adapter")
    assert (len(contents.head["weight"]), contents.class_names) == (len(labels), labels)


def test_a_package_without_a_head_gets_a_new_one(tmp_path: Path) -> None:
    write_package(tmp_path / "package", without_head(owners_network()))
    repurposer = tuner(tmp_path / "package")
    repurposer.save_adapter(tmp_path / "untouched")
    repurposer.repurpose(rows()).save_adapter(tmp_path / "tuned")
    untouched, tuned = (read_adapter(tmp_path / name) for name in ("untouched", "tuned"))
    assert (dict(untouched.head), untouched.class_names) == ({}, None)
    assert (tuned.head["weight"].shape, tuned.class_names) == ((3, 8), CLASSES)


def test_a_network_without_a_classifier_gets_a_head_on_top(tmp_path: Path) -> None:
    owner, given = owners_network(), Chain(seed=9)
    owner.head, given.head = nn.Identity(), nn.Identity()
    package = exported(tmp_path, owner, classifier=None, class_names=None)
    repurposer = tuner(package, source_model=given).repurpose(rows())
    repurposer.save_adapter(tmp_path / "adapter")
    contents = read_adapter(tmp_path / "adapter")
    assert {name: tuple(value.shape) for name, value in contents.head.items()} == {"weight": (3, 8), "bias": (3,)}
    assert all(map(is_adapter, contents.blocks))


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_an_adapter_file_has_the_blocks_and_the_head_of_the_trained_network(
    package: Path, tmp_path: Path, kind: str
) -> None:
    X, y = rows()
    repurposer = tuner(package, kind=kind, rank=2, optimizer_params={"learning_rate": 0.05}).repurpose((X, y))
    repurposer.save_adapter(tmp_path / "adapter.zip")
    contents = read_adapter(tmp_path / "adapter.zip")
    network = emulator_of(owners_network())
    assert set(contents.blocks) == {name for name, _ in network.named_parameters() if is_adapter(name)}
    network.load_state_dict({**network.state_dict(), **contents.blocks})
    network.head.load_state_dict(dict(contents.head))
    probabilities = network(X).softmax(dim=1).detach().numpy()
    assert np.abs(probabilities - repurposer.predict_probability(X)).max() < 1e-5
    assert contents.package_id == OffsitePackage(package).id


def test_the_untouched_adapter_is_the_owners_bit_for_bit(package: Path, tmp_path: Path) -> None:
    owner = emulator_of(owners_network()).state_dict()
    repurposer = tuner(package)
    repurposer.save_adapter(tmp_path / "adapter")
    contents = read_adapter(tmp_path / "adapter")
    assert all(torch.equal(value, owner[name]) for name, value in contents.blocks.items())
    assert all(torch.equal(value, owner[f"head.{name}"]) for name, value in contents.head.items())
    assert contents.class_names == CLASSES
    repurposer.save_adapter(tmp_path / "adapter", share_class_names=False)
    assert read_adapter(tmp_path / "adapter").class_names == (0, 1, 2)


@pytest.mark.parametrize("name", ["adapter", "adapter.zip"])
def test_an_adapter_file_gives_away_no_row_label_path_seed_or_statistic(tmp_path: Path, name: str) -> None:
    package = exported(tmp_path)
    X, y = rows(labels=("anamnesis", "biopsy"))
    options = {"random_state": 987654321, "checkpoint_dir": tmp_path / "checkpoints", "validation_fraction": 0.25}
    repurposer = tuner(package, **options).repurpose((X, y))
    repurposer.save_adapter(tmp_path / name, share_class_names=False)
    written = b"".join(_bytes_of(tmp_path / name))
    texts = ["anamnesis", "biopsy", str(tmp_path), tmp_path.name, "checkpoints", "987654321", "loss", "accuracy"]
    texts += ["history", "running_mean", "running_var", "num_batches", "epoch", "seed"]
    assert not [text for text in texts if text.encode() in written]
    numbers = [*X, *X.double(), X.mean(0), X.std(0), X.var(0)]
    numbers += [value for name, value in repurposer.target_model_.named_buffers() if "running" in name]
    assert not [number for number in numbers if number.numpy().tobytes() in written]
    loss = np.array(repurposer.history_.values("loss"))
    assert not any(kind(value).tobytes() in written for value in loss for kind in (np.float32, np.float64))


def test_the_same_adapter_is_the_same_file_whenever_and_wherever_it_is_written(package: Path, tmp_path: Path) -> None:
    repurposer = tuner(package).repurpose(rows())
    hashes = {repurposer.save_adapter(tmp_path / name) for name in ("a.zip", "b.zip", "c", "d")}
    assert len(hashes) == 1
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert _sizes(tmp_path / "c") == _sizes(tmp_path / "d")
    assert "README.md" not in _sizes(tmp_path / "c")


def test_normalisation_without_statistics_yet_does_not_learn_any(tmp_path: Path) -> None:
    package = exported(tmp_path, Chain().eval())
    module = tuner(package).repurpose(rows()).target_model_
    assert all(torch.equal(part.norm.running_mean, torch.zeros(11)) for part in module.blocks)
    assert all(torch.equal(part.norm.running_var, torch.ones(11)) for part in module.blocks)


class _OwnNorm(nn.Module):
    """Normalises by running statistics, and is of no class of torch's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, training=self.training)


def test_statistics_of_a_class_of_its_own_stay_too(tmp_path: Path) -> None:
    network = owners_network()
    for block in network.blocks:
        block.norm = _OwnNorm(11)
    module = tuner(exported(tmp_path, network), source_model=network).repurpose(rows()).target_model_
    assert all(torch.equal(part.norm.running_mean, torch.zeros(11)) for part in module.blocks)


def test_an_ensemble_has_no_adapter_to_send(package: Path, tmp_path: Path) -> None:
    repurposer = tuner(package, num_members=2, num_epochs=1).repurpose(rows())
    assert repurposer.predict_probability(rows()[0]).shape == (24, 3)
    with pytest.raises(ValueError, match="an ensemble of 2 networks has as many adapters, and plug_in takes one"):
        repurposer.save_adapter(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm_statistics": "batch"}, "running statistics are statistics of the data"),
        ({"kind": "prompt"}, r"kind must be one of \['full', 'lora'\], got 'prompt'"),
        ({"rank": 0}, "rank must be a whole number of at least 1, got 0"),
        ({"target_class_count": 2}, "target_class_count=2 is too small: the labels hold 3 classes"),
        ({"source_model": None}, "holds weights alone .* give the network"),
        ({"source_model": Chain(n_blocks=5)}, "source_model is not of the architecture"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(package: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tuner(**{"package": package, **options}).repurpose(rows())


def test_a_package_is_a_path_or_a_package() -> None:
    with pytest.raises(TypeError, match=r"package must be the path of what OffsiteOwner\.export wrote, .* type int"):
        OffsiteRepurposer(3).repurpose(rows())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source_model must be a network or None, got a str"):
        OffsiteRepurposer("package", source_model="timm/resnet18").repurpose(rows())  # type: ignore[arg-type]


def test_it_is_cloned_pickled_saved_and_loaded_to_the_same_bits(package: Path, tmp_path: Path) -> None:
    X, y = rows()
    repurposer = tuner(package).repurpose((X, y))
    expected = repurposer.predict_probability(X)
    assert np.array_equal(clone(repurposer).repurpose((X, y)).predict_probability(X), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(repurposer)).predict_probability(X), expected)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=Chain(seed=5))
    assert np.array_equal(loaded.predict_probability(X), expected)
    assert loaded.save_adapter(tmp_path / "again") == repurposer.save_adapter(tmp_path / "first")


def test_loading_says_where_the_package_is_missing_or_another(package: Path, tmp_path: Path) -> None:
    repurposer = tuner(package).repurpose(rows())
    repurposer.save_repurposer(tmp_path / "saved")
    package.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"there is not a package at .*package: .*; .* load\(path, package=\.\.\.\)"):
        load(tmp_path / "saved", source_model=Chain())
    loaded = load(tmp_path / "saved", source_model=Chain(), package=tmp_path / "moved")
    assert loaded.package_id_ == repurposer.package_id_
    exported(tmp_path, owners_network(seed=3))
    with pytest.raises(ValueError, match="package is not the one that it was trained on: its id is"):
        load(tmp_path / "saved", source_model=Chain())
    with pytest.raises(ValueError, match="save_source_model=True cannot keep the network of a package"):
        repurposer.save_repurposer(tmp_path / "saved", save_source_model=True)


def test_keys_of_the_package_are_neither_shown_nor_written(tmp_path: Path) -> None:
    secret = b"correct horse battery staple 123"
    write_package(tmp_path / "package", contents_of(owners_network()), encryption_key=secret)
    repurposer = tuner(tmp_path / "package", encryption_key=secret).repurpose(rows())
    assert "battery" not in repr(repurposer) + repurposer._repr_html_()
    repurposer.save_repurposer(tmp_path / "saved")
    assert secret not in b"".join(_bytes_of(tmp_path / "saved"))
    opened = OffsitePackage(tmp_path / "package", encryption_key=secret)
    loaded = load(tmp_path / "saved", source_model=Chain(), package=opened)
    assert np.array_equal(loaded.predict_label(rows()[0]), repurposer.predict_label(rows()[0]))


def test_another_package_than_the_one_expected_is_refused(package: Path, tmp_path: Path) -> None:
    package_id = OffsitePackage(package).id
    repurposer = tuner(package, expected_hash=package_id).repurpose(rows())
    repurposer.save_repurposer(tmp_path / "saved")
    assert load(tmp_path / "saved", source_model=Chain()).package_id_ == package_id
    exported(tmp_path, owners_network(seed=3))
    with pytest.raises(CorruptFileError, match=f"where {package_id[:12]}... was expected"):
        repurposer.repurpose(rows())
    for unheard in ({"expected_hash": package_id}, {"verify_key": b"8" * 32}, {"encryption_key": "words"}):
        with pytest.raises(ValueError, match=rf"OffsitePackage\(path, {next(iter(unheard))}=\.\.\.\)"):
            tuner(OffsitePackage(package), **unheard).repurpose(rows())


def test_a_package_that_was_exported_anew_is_read_anew(package: Path, tmp_path: Path) -> None:
    repurposer = tuner(package).repurpose(rows())
    exported(tmp_path, owners_network(seed=3))
    assert repurposer.repurpose(rows()).package_id_ == OffsitePackage(package).id


def test_checkpoints_early_stopping_and_kept_activations_change_no_bit(package: Path, tmp_path: Path) -> None:
    X, y = rows(48)
    options: dict[str, Any] = {"num_epochs": 6, "validation_fraction": 0.25, "early_stopping": 2}
    whole = tuner(package, **options, cache_frozen={"folded": False}).repurpose((X, y))
    for more in ({"cache_frozen": False}, {"checkpoint_dir": tmp_path / "c"}, {"checkpoint_dir": tmp_path / "c"}):
        other = tuner(package, **options, **more).repurpose((X, y))
        assert np.abs(other.predict_probability(X) - whole.predict_probability(X)).max() < 1e-6
        assert len(other.history_) == len(whole.history_)


def test_only_what_stands_before_the_adapter_is_kept(package: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        tuner(package, cache_frozen=True).repurpose(rows())
    assert re.search(r"the frozen part, 2 layers up to 'stem', is computed once: 24 rows", caplog.text)


def test_preprocessing_that_is_not_made_again_is_asked_for(tmp_path: Path) -> None:
    package = exported(tmp_path, preprocessing={"step": "Compose", "transforms": [{"step": "Darken", "by": 3}]})
    with pytest.warns(UserWarning, match=r"has steps that are not made again from a file \(Darken\): give transform="):
        repurposer = tuner(package, num_epochs=1).repurpose(rows())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repurposer.set_params(transform=nn.Identity()).repurpose(rows())


def test_images_are_preprocessed_as_the_package_says(tmp_path: Path) -> None:
    given = transforms.Compose([transforms.Resize(1), transforms.CenterCrop(1), transforms.ToTensor()])
    owner = owners_network()
    images = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue", "red", "blue")]
    for network in (owner, source := Chain(seed=9)):
        network.stem = nn.Sequential(nn.Flatten(), nn.Linear(3, 8))
    package = exported(
        tmp_path,
        owner,
        preprocessing=describe_transform(given),
        example_inputs=as_spec(torch.zeros(2, 3, 1, 1)),
    )
    labels = ["a", "b", "a", "b"]
    repurposer = tuner(package, source_model=source, num_epochs=2).repurpose(images, labels)
    rows_of_images = torch.stack([given(image) for image in images])
    by_hand = tuner(package, source_model=source, num_epochs=2).repurpose(rows_of_images, labels)
    assert np.array_equal(repurposer.predict_probability(images), by_hand.predict_probability(rows_of_images))


def test_lora_says_where_it_has_nothing_to_adapt(tmp_path: Path) -> None:
    package = exported(tmp_path, first=("blocks.0.norm",), last=("blocks.3.norm",))
    with pytest.raises(ValueError, match="kind='lora' finds no linear layer or convolution in the adapter"):
        tuner(package, kind="lora").repurpose(rows())


def _bytes_of(path: Path) -> Iterator[bytes]:
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        yield file.name.encode() + file.read_bytes()


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in folder.iterdir()}


@pytest.mark.parametrize("architecture", ["auto", "given"])
def test_rows_of_another_size_are_told_that_of_the_package(tmp_path: Path, architecture: str) -> None:
    owner = OffsiteOwner(vit(3), (1, 1), example_inputs=images(2))
    with pytest.warns(UserWarning, match="verbatim"):
        owner.export(tmp_path / "package", architecture=architecture)
    given = {"source_model": vit(3)} if architecture == "given" else {}
    repurposer = OffsiteRepurposer(tmp_path / "package", num_epochs=1, **given)
    said = r"rows of shape \(3, 24, 24\), which the network does not take: {} is expecting rows of shape \(3, 16, 16\)"
    with pytest.raises(ModelError, match=said.format("the package") + ", as in the owner's example_inputs") as raised:
        repurposer.repurpose((images(4, 24), ["cat", "dog"] * 2))
    assert "Proxy" not in str(raised.value)
    repurposer.save_adapter(tmp_path / "adapter")
    plugged_in = owner.plug_in(tmp_path / "adapter")
    with pytest.raises(ModelError, match=said.format("PluggedInRepurposer") + ", as in the owner's example_inputs"):
        plugged_in.predict(images(4, 24))
