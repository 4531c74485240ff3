import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from model_handler import ImageFolderData, ModelError
from repurpose import NeuralNetworkFineTuneRepurposer, NeuralNetworkRepurposer, load
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.neural_network.test_fine_tune_repurposer import fine_tuned, images


class TwoLayersRepurposer(NeuralNetworkRepurposer):
    """Xfer's custom network: two fully connected layers on top, the rest frozen; and a loss with a part of its own."""

    def __init__(self, source_model: Any, n_units: int = 8, **kwargs: Any) -> None:
        super().__init__(source_model, **kwargs)
        self.n_units = n_units

    def _create_target_module(self, example_inputs: Any) -> nn.Module:
        handler = self.source_model_handler
        network = copy.deepcopy(handler._engine.network)[:4].requires_grad_(False)
        self.rotation_ = nn.Linear(3, 4)
        return nn.Sequential(
            network, nn.Linear(5, self.n_units), nn.ReLU(), nn.Linear(self.n_units, len(self.classes_))
        )

    def _training_loss(self, module: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        logits = module(inputs)
        return nn.functional.cross_entropy(logits, targets) + 0.1 * (self.rotation_(logits) - inputs).square().mean()


def two_layers(**options: Any) -> TwoLayersRepurposer:
    return TwoLayersRepurposer(small_network(), **{"num_epochs": 3, "random_state": 0, **options})


def test_a_network_of_ones_own_is_trained_with_the_modules_that_its_loss_uses(tmp_path: Path) -> None:
    X, y = blobs()
    repurposer = two_layers().fit(X, y)
    names = {name for group in repurposer.parameter_groups() for name in group.parameters}
    assert names == {"1.weight", "1.bias", "3.weight", "3.bias", "rotation_.weight", "rotation_.bias"}
    torch.manual_seed(0)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=small_network())
    assert np.array_equal(loaded.predict_proba(X), repurposer.predict_proba(X))
    assert torch.equal(loaded.rotation_.weight, repurposer.rotation_.weight)
    assert loaded.n_units == 8
    assert not torch.equal(repurposer.rotation_.weight, two_layers(num_epochs=1).fit(X, y).rotation_.weight)


def test_a_network_that_shares_weights_with_the_source_is_refused() -> None:
    class Sharing(NeuralNetworkRepurposer):
        def _create_target_module(self, example_inputs: Any) -> nn.Module:
            return self.source_model

    with pytest.raises(ModelError, match=r"shares weights with the source \(0.weight, .*get_module"):
        Sharing(small_network()).fit(*blobs())


def test_what_is_no_module_and_what_has_too_few_logits_is_refused() -> None:
    class Wrong(NeuralNetworkRepurposer):
        made: Any = None

        def _create_target_module(self, example_inputs: Any) -> nn.Module:
            return self.made

    repurposer = Wrong(small_network())
    with pytest.raises(TypeError, match=r"must return a torch.nn.Module, got NoneType"):
        repurposer.fit(*blobs())
    repurposer.made = nn.Linear(4, 2)
    with pytest.raises(ModelError, match="gives 2 logits for 3 classes"):
        repurposer.fit(*blobs())
    with pytest.raises(NotImplementedError, match="must define _create_target_module"):
        NeuralNetworkRepurposer(small_network()).fit(*blobs())


class Items(Dataset):
    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        self.X, self.y = X, y

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        return self.X[row], int(self.y[row])


class Stream(IterableDataset):
    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        self.X, self.y = X, y

    def __iter__(self) -> Any:
        yield from zip(self.X, self.y.tolist())


def test_datasets_give_what_arrays_give_bit_for_bit() -> None:
    X, y = images()
    expected = fine_tuned().fit(X, y).predict_proba(X)
    assert np.array_equal(fine_tuned().fit(Items(X, y)).predict_proba(X), expected)
    assert np.array_equal(fine_tuned(num_workers=1, num_epochs=4).fit(Items(X, y)).predict_proba(X), expected)


def test_streams_and_loaders_are_trained_on_in_their_own_order() -> None:
    X, y = images()
    loader = DataLoader(Items(X, y), batch_size=8)
    expected = fine_tuned().fit(loader).predict_proba(X)
    assert np.array_equal(fine_tuned().fit(Stream(X, y)).predict_proba(X), expected)
    assert np.allclose(fine_tuned(batch_size=3).fit(loader).predict_proba(X), expected, rtol=0, atol=1e-6)


def test_a_shuffling_loader_is_seeded_and_its_own_generator_is_not_used_up_by_looking() -> None:
    X, y = images()

    def loader(generator: torch.Generator | None) -> DataLoader:
        return DataLoader(TensorDataset(*map(torch.from_numpy, (X, y))), 8, shuffle=True, generator=generator)

    first, second = (fine_tuned().fit(loader(None)).predict_proba(X) for _ in range(2))
    assert np.array_equal(first, second)
    own = torch.Generator().manual_seed(3)
    repurposer = fine_tuned(num_epochs=1)
    repurposer.parameter_groups(loader(own))
    assert torch.equal(own.get_state(), torch.Generator().manual_seed(3).get_state())


def test_a_folder_of_images_is_trained_from_and_bad_files_are_skipped(tmp_path: Path) -> None:
    from PIL import Image
    from torchvision.transforms import v2

    for number, (pixels, label) in enumerate(zip(*images())):
        (tmp_path / f"class{label}").mkdir(exist_ok=True)
        grey = np.clip(128 + 60 * pixels[0], 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"class{label}" / f"{number:02}.png")
    transform = v2.Compose([v2.Grayscale(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    repurposer = fine_tuned(transform=transform, num_epochs=6, validation_fraction=0.2).fit(str(tmp_path))
    assert repurposer.classes_.tolist() == ["class0", "class1"]
    assert repurposer.score(str(tmp_path)) > 0.9
    assert len(repurposer.history_.values("validation_loss")) == 6
    (tmp_path / "class0" / "00.png").write_bytes(b"no image")
    (tmp_path / "class1" / "39.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="2 of 40 images"):
        skipping = fine_tuned(transform=transform).fit(ImageFolderData(tmp_path, on_error="skip"))
    assert skipping.score(ImageFolderData(tmp_path, on_error="skip")) > 0.5
    with pytest.raises(ValueError, match="cannot be read"):
        fine_tuned(transform=transform).fit(str(tmp_path))


def test_inputs_of_several_parts_go_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(2, 4), nn.Linear(2, 4)
            self.fc = nn.Linear(4, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.fc((self.left(a) + self.right(b)).relu())

    X, y = blobs()
    repurposer = NeuralNetworkFineTuneRepurposer(
        Two(), "relu", num_epochs=3, optimizer_params={"learning_rate": 0.05}, random_state=0
    )
    by_name = repurposer.fit({"a": X[:, :2], "b": X[:, 2:]}, y).predict_proba({"a": X[:, :2], "b": X[:, 2:]})
    by_place = repurposer.fit(((X[:, :2], X[:, 2:]), y)).predict_proba(((X[:, :2], X[:, 2:]),))
    assert np.array_equal(by_name, by_place)


def test_validation_data_and_early_stopping_keep_the_best_weights() -> None:
    X, y = images()
    repurposer = fine_tuned(num_epochs=30, early_stopping=2).fit(X[:24], y[:24], validation_data=(X[24:], y[24:]))
    losses = repurposer.history_.values("validation_loss")
    assert repurposer.history_.best_epoch == int(np.argmin(losses))
    probabilities = repurposer.predict_proba(X[24:])
    loss = -np.log(probabilities[np.arange(16), y[24:]]).mean()
    assert loss == pytest.approx(min(losses), abs=1e-5)


def test_validation_that_cannot_be_is_refused_with_the_fix() -> None:
    X, y = images()
    with pytest.raises(ValueError, match="early_stopping needs something to judge by"):
        fine_tuned(early_stopping=2).fit(X, y)
    with pytest.raises(ValueError, match="give one of them"):
        fine_tuned(validation_fraction=0.2).fit(X, y, validation_data=(X, y))
    with pytest.raises(ValueError, match=r"cannot split a DataLoader, .* validation_data, or its dataset"):
        fine_tuned(validation_fraction=0.2).fit(DataLoader(Items(X, y), batch_size=8))
    with pytest.raises(ValueError, match="validation_data needs one label a row"):
        fine_tuned().fit(X, y, validation_data=X)


def test_a_loader_that_yields_nothing_is_refused() -> None:
    X, y = images()
    with pytest.raises(ValueError, match="is empty"):
        fine_tuned().fit(DataLoader(Stream(X[:0], y[:0]), batch_size=8))

    class Once(IterableDataset):
        left = 1

        def __iter__(self) -> Any:
            self.left -= 1
            return iter(zip(X, y.tolist()) if self.left >= 0 else ())

    with pytest.raises(ValueError, match="is empty: it gave no row"):
        fine_tuned().fit(DataLoader(Once(), batch_size=8))


def test_data_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="requires y to be passed"):
        fine_tuned().fit(images()[0])


def test_class_weights_go_by_label() -> None:
    X, y = images()
    names = np.array(["left", "right"])[y]
    heavy = fine_tuned(class_weight={"left": 50.0}, num_epochs=1).fit(X, names).predict_proba(X)[:, 0].mean()
    light = fine_tuned(class_weight={"right": 50.0}, num_epochs=1).fit(X, names).predict_proba(X)[:, 0].mean()
    assert heavy > light
    with pytest.raises(ValueError, match="class_weight names classes that are not among the labels: 'lft'"):
        fine_tuned(class_weight={"lft": 1.0}).fit(X, names)


def test_mixing_and_smoothing_run_together_with_all_else() -> None:
    X, y = images()
    everything = {"mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1, "ema": 0.9, "clip_norm": 1.0, "accumulation": 2}
    everything.update(class_weight="balanced", precision="bfloat16", l2_sp=0.01, validation_fraction=0.2)
    repurposer = fine_tuned(**everything, target_class_count=3, num_epochs=6).fit(X, y)
    again = fine_tuned(**everything, target_class_count=3, num_epochs=6).fit(X, y)
    assert np.array_equal(repurposer.predict_proba(X), again.predict_proba(X))
    assert np.isfinite(repurposer.history_.values("validation_loss")).all()


def test_augmentation_changes_what_is_trained_on_and_not_what_is_predicted() -> None:
    X, y = images()
    seen: list[Tensor] = []

    def noted(image: Tensor) -> Tensor:
        seen.append(image.clone())
        return image

    plain = fine_tuned().fit(X, y).predict_proba(X)
    assert np.array_equal(fine_tuned(augmentation=noted).fit(X, y).predict_proba(X), plain)
    assert {tuple(image.shape) for image in seen} == {(1, 8, 8)}
    assert len(seen) == 4 * 40
    repurposer = fine_tuned(augmentation="auto").fit(X, y)
    assert not np.array_equal(repurposer.predict_proba(X), plain)
    assert np.array_equal(fine_tuned(augmentation="auto").fit(X, y).predict_proba(X), repurposer.predict_proba(X))
    with pytest.raises(ModelError, match='augmentation="auto" is for images'):
        two_layers(augmentation="auto").fit(*blobs())


def test_what_only_training_needs_is_left_out_of_a_file_and_the_rest_comes_back(tmp_path: Path) -> None:
    X, y = images()
    repurposer = fine_tuned(
        callbacks=[lambda state, record: None],
        augmentation=lambda image: image,
        optimizer=torch.optim.SGD,
        learning_rates={nn.Conv2d: 0.1, "*": 0.01},
        optimizer_params={"momentum": 0.9},
    ).fit(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=repurposer.source_model)
    assert np.array_equal(loaded.predict_proba(X), repurposer.predict_proba(X))
    assert loaded.callbacks == ()
    assert loaded.optimizer_params == {"momentum": 0.9}
    assert loaded.history_.records == repurposer.history_.records
    assert str(loaded.parameter_groups()) == str(repurposer.parameter_groups())


def test_a_file_is_refused_for_another_network(tmp_path: Path) -> None:
    repurposer = two_layers().fit(*blobs())
    repurposer.save_repurposer(tmp_path / "saved")
    with pytest.raises(ValueError, match="is not the network that"):
        load(tmp_path / "saved", source_model=small_network(seed=1))
    with pytest.raises(ValueError, match="is not the one that was saved"):
        load(tmp_path / "saved", source_model=small_network(), n_units=9)


def test_weights_of_bfloat16_survive_a_file(tmp_path: Path) -> None:
    X, y = blobs()
    network = small_network().bfloat16()
    repurposer = NeuralNetworkFineTuneRepurposer(network, "2", num_epochs=1, random_state=0).fit(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert next(loaded.target_model_.parameters()).dtype == torch.bfloat16
    assert np.array_equal(loaded.predict_proba(X), repurposer.predict_proba(X))


def test_a_change_of_what_makes_the_inputs_after_training_is_refused() -> None:
    X, y = blobs()
    repurposer = two_layers().fit(X, y).set_params(source_model=small_network(1))
    with pytest.raises(ValueError, match="source_model changed after training"):
        repurposer.predict(X)


def test_training_with_a_seed_leaves_the_users_generators_alone() -> None:
    repurposer = two_layers()
    torch.manual_seed(4)
    before = torch.get_rng_state()
    repurposer.fit(*blobs()).predict(blobs()[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_progress_bar_says_epoch_loss_accuracy_and_rates(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    fine_tuned(verbose=True, num_epochs=2).fit(*images())
    shown = " ".join(capsys.readouterr().err.split())
    for word in ("Training", "80/80", "epoch 2/2", "loss", "accuracy", "new"):
        assert word in shown, shown


@pytest.mark.parametrize(
    ("options", "n_epochs"),
    [
        ({"batch_size": 32}, 50),  # one step an epoch
        ({"batch_size": 8}, 20),
        ({"batch_size": 8, "accumulation": 2}, 34),
        ({"batch_size": 1}, 5),
        ({"batch_size": 1, "unfreeze": {"1": 9}}, 10),
    ],
)
def test_without_a_number_of_epochs_few_rows_are_seen_more_often(options: dict[str, Any], n_epochs: int) -> None:
    n_rows = 40 if options["batch_size"] < 32 else 32
    X, y = blobs(n_rows)
    repurposer = two_layers(**{"num_epochs": None, **options})
    assert len(repurposer.fit(X, y).history_.records) == n_epochs


def test_a_loader_whose_last_batch_is_one_row_is_told_what_to_do() -> None:
    X, y = map(torch.from_numpy, blobs(n_samples=41))
    normalised = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
    with pytest.raises(ModelError, match=r"a batch has a single row.*drop_last=True"):
        NeuralNetworkFineTuneRepurposer(normalised, "2").repurpose(DataLoader(TensorDataset(X, y), batch_size=20))


class Squeeze(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(2).squeeze()


def test_a_network_that_squeezes_predicts_a_last_row_alone_and_says_what_its_training_needs() -> None:
    X, y = blobs(n_samples=17)
    plain, squeezing = small_network(), small_network()
    plain[3], squeezing[3] = nn.Identity(), Squeeze()
    options = {"num_epochs": 1, "batch_size": 16, "random_state": 0, "cache_frozen": False}
    known = NeuralNetworkFineTuneRepurposer(plain, "3", **options).repurpose(X, y).predict_probability(X)
    repurposer = NeuralNetworkFineTuneRepurposer(squeezing, "3", **options).repurpose(X, y)
    assert np.abs(repurposer.predict_probability(X) - known).max() < 1e-6
    assert np.abs(repurposer.predict_probability(X[16:]) - known[16:]).max() < 1e-6
    with pytest.raises(ModelError, match=r"A network that squeezes.*drop_last=True"):
        repurposer.repurpose(DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), batch_size=16))
    with pytest.raises(ModelError, match=r"A network that squeezes.*another batch_size"):
        repurposer.set_params(batch_size=1).repurpose(X, y)


def test_validation_rows_of_another_width_are_refused() -> None:
    X, y = blobs()
    with pytest.raises(
        ValueError, match="X has 3 features, but NeuralNetworkFineTuneRepurposer is expecting 4 features"
    ):
        NeuralNetworkFineTuneRepurposer(small_network(), "2").repurpose(X, y, validation_data=(X[:, :3], y))


def test_looking_without_a_seed_leaves_the_users_generators_alone() -> None:
    before = np.random.get_state()[2]  # noqa: NPY002
    repurposer = NeuralNetworkFineTuneRepurposer(small_network(), "2")
    repurposer.parameter_groups(*blobs())
    repurposer.find_learning_rate(*blobs(), n_steps=5)
    assert np.random.get_state()[2] == before  # noqa: NPY002


def test_a_class_in_the_place_of_a_transform_is_refused() -> None:
    from torchvision.transforms import v2

    with pytest.raises(ValueError, match=r"got its class; write RandomHorizontalFlip\(...\)"):
        NeuralNetworkFineTuneRepurposer(small_network(), "2", augmentation=v2.RandomHorizontalFlip).repurpose(*blobs())


class Skip(nn.Module):
    """Adds what two layers compute of its input to it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x))


class OtherSkip(Skip):
    """The same under a name of its own."""


def test_layer_decay_counts_the_blocks_of_the_source_whatever_their_classes() -> None:
    network = nn.Sequential(nn.Linear(4, 4), OtherSkip(), Skip(), Skip(), nn.Linear(4, 3))
    repurposer = NeuralNetworkFineTuneRepurposer(
        network, "3", layer_decay=0.5, optimizer_params={"learning_rate": 1.0}, random_state=0
    )
    rate = {name: group.learning_rate for group in repurposer.parameter_groups(*blobs()) for name in group.parameters}
    assert [rate[f"{block}.{layer}.weight"] for block in "321" for layer in ("first", "second")] == [
        *(0.5, 0.5),
        *(0.25, 0.25),
        *(0.125, 0.125),
    ]
    assert rate["0.weight"] == 0.0625
