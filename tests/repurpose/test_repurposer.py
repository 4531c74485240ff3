import copy
import inspect
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import BaseEstimator
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import Compose, Normalize, ToTensor, v2

from model_handler import Features, ModelHandler
from model_handler.data import RowError
from model_handler.sources import Source
from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer, Repurposer
from tests.repurpose.examples import KnnRepurposer, blob_features, blobs, identity_network, lr, small_network


def test_init_stores_even_nonsense_and_repurpose_lists_every_mistake() -> None:
    repurposer = LrRepurposer(
        identity_network(), [], batch_size=0, num_workers=-1, random_state="dice", transform=3, c=-1, tol=0
    )
    with pytest.raises(ValueError, match="feature_layer_names is empty") as error:
        repurposer.repurpose(blob_features())
    for name in ("batch_size", "num_workers", "random_state", "transform", "c must", "tol"):
        assert name in str(error.value)


@pytest.mark.parametrize("source", [None, 3, nn.Identity, "module"])
def test_a_source_that_is_no_network_is_refused_saying_what_is_accepted(source: Any) -> None:
    repurposer = LrRepurposer([source] if source == "module" else source, ["0"])
    with pytest.raises(TypeError, match=r"torch\.nn\.Module, a Source, or a name such as 'torchvision/resnet50'"):
        repurposer.repurpose(blob_features())


def test_a_class_in_place_of_a_network_is_told_to_be_called() -> None:
    with pytest.raises(TypeError, match="got the class Identity; call the class"):
        LrRepurposer(nn.Identity, ["0"]).repurpose(blob_features())  # type: ignore[arg-type]


def test_a_source_object_serves_as_source() -> None:
    X, y = blobs()
    repurposer = LrRepurposer(Source(small_network(), name="mine"), ["2"], c=1.0)
    same = LrRepurposer(small_network(), ["2"], c=1.0)
    assert np.array_equal(repurposer.fit(X, y).predict_proba(X), same.fit(X, y).predict_proba(X))
    assert "Source('mine')" in repr(repurposer)


def test_the_handler_is_made_lazily_kept_and_made_anew_when_its_parameters_change() -> None:
    repurposer = lr()
    assert not any("handler" in name for name in vars(repurposer))
    first = repurposer.source_model_handler
    assert isinstance(first, ModelHandler)
    assert repurposer.source_model_handler is first
    assert repurposer.set_params(c=2.0).source_model_handler is first
    assert repurposer.set_params(batch_size=5).source_model_handler is not first
    assert repurposer.source_model_handler.batch_size == 5
    second = repurposer.source_model_handler
    assert repurposer.set_params(source_model=small_network()).source_model_handler is not second
    assert "4" in repurposer.source_model_handler.layer_names


def test_the_signature_shows_all_parameters_those_of_the_class_first() -> None:
    names = list(inspect.signature(KnnRepurposer).parameters)
    assert names[:3] == ["source_model", "feature_layer_names", "n_neighbors"]
    assert {"pooling", "device", "random_state"} < set(names)
    assert not {"kwargs", "unknown"} & set(names)


def test_score_counts_an_unseen_label_as_wrong_and_warns_once_with_its_name() -> None:
    X, y = blobs()
    repurposer = lr().repurpose(X, y)
    right = repurposer.predict_label(X)
    strange = right.copy()
    strange[:6] = 9
    with pytest.warns(UserWarning, match=r"6 of 60 rows have labels never seen in training.*9 \(6 rows\)"):
        assert repurposer.score(X, strange) == pytest.approx(54 / 60)


def test_score_of_text_labels_against_numbers_is_zero_with_a_warning() -> None:
    X, y = blobs()
    with pytest.warns(UserWarning, match="'0'"):
        assert lr().repurpose(X, y).score(X, y.astype(str)) == 0.0


def test_score_takes_labels_from_the_data_and_weights() -> None:
    X, y = blobs()
    features = blob_features()
    repurposer = lr().repurpose(features)
    hits = repurposer.predict_label(features) == y
    assert repurposer.score(features) == hits.mean()
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), batch_size=7, shuffle=True)
    assert repurposer.score(loader) == hits.mean()
    weights = np.linspace(0, 1, 60)
    assert repurposer.score(features, sample_weight=weights) == pytest.approx(hits @ weights / weights.sum())
    with pytest.raises(ValueError, match=r"sample_weight must hold 60 finite numbers"):
        repurposer.score(features, sample_weight=[1.0])


def test_score_extracts_features_once(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    repurposer = lr().repurpose(X, y)
    calls = []
    extract = ModelHandler.extract
    monkeypatch.setattr(ModelHandler, "extract", lambda *args, **options: calls.append(1) or extract(*args, **options))
    repurposer.score(X, y)
    assert len(calls) == 1


def test_score_without_labels_is_refused() -> None:
    X, y = blobs()
    with pytest.raises(ValueError, match="score needs the true labels"):
        lr().repurpose(X, y).score(X)


def test_prediction_ignores_labels_and_warns_of_a_shuffling_loader() -> None:
    X, y = blobs()
    repurposer = lr().repurpose(X, y)
    assert np.array_equal(repurposer.predict_label((X, y[::-1].copy())), repurposer.predict_label(X))
    pairs = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    with pytest.warns(UserWarning, match="shuffle"):
        repurposer.predict_label(DataLoader(pairs, shuffle=True))
    with pytest.raises(ValueError, match="drop_last"):
        repurposer.predict_probability(DataLoader(pairs, batch_size=7, drop_last=True))


def test_no_row_is_dropped_from_a_score_or_from_features_to_predict_from() -> None:
    X, y = blobs()
    repurposer = lr().repurpose(X, y)
    pairs = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    with pytest.raises(ValueError, match="drop_last"):
        repurposer.score(DataLoader(pairs, batch_size=7, drop_last=True))
    rows = torch.from_numpy(X)
    with pytest.raises(ValueError, match="drop_last"):
        repurposer.get_features_from_source_model(DataLoader(rows, batch_size=7, drop_last=True))
    with pytest.warns(UserWarning, match="shuffle"):
        repurposer.get_features_from_source_model(DataLoader(rows, shuffle=True))


def test_a_pooling_and_a_device_that_there_is_not_are_named_together() -> None:
    with pytest.raises(ValueError, match=r"(?s)device must be .*'gpu'.*pooling must be .*'foo'"):
        lr(pooling="foo", device="gpu").repurpose(blob_features())


def test_a_wrong_random_state_or_an_interrupted_training_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repurposer = lr().repurpose(blob_features())
    before = dict(vars(repurposer))

    def interrupted(*args: Any) -> None:
        repurposer.half_done_ = True
        raise KeyboardInterrupt

    monkeypatch.setattr(LrRepurposer, "_train_model_from_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        repurposer.repurpose(blob_features())
    assert vars(repurposer) == before


def test_a_second_repurpose_forgets_what_the_first_learned() -> None:
    features = blob_features()
    repurposer = lr(c="auto", random_state=0).repurpose(features)
    assert repurposer.c_scores_
    repurposer.set_params(c=1.0).repurpose(features)
    assert not hasattr(repurposer, "c_scores_")
    assert repurposer.c_ == 1.0


def test_the_base_alone_cannot_learn() -> None:
    with pytest.raises(NotImplementedError, match="Repurposer cannot learn; use a method such as LrRepurposer"):
        Repurposer(identity_network()).repurpose(blob_features())


def test_an_init_that_alters_a_parameter_is_found_by_clone() -> None:
    class Altering(LrRepurposer):
        def __init__(self, source_model: Any, feature_layer_names: Any, **kwargs: Any) -> None:
            super().__init__(source_model, list(feature_layer_names), **kwargs)

    with pytest.raises(
        RuntimeError, match=r"must store its parameters untouched, but alters \['feature_layer_names'\]"
    ):
        Altering(identity_network(), ["0"]).__sklearn_clone__()


def test_target_model_is_read_only() -> None:
    repurposer = lr().repurpose(blob_features())
    assert isinstance(repurposer.target_model, BaseEstimator)
    assert repurposer.target_model is repurposer.target_model_
    with pytest.raises(AttributeError):
        repurposer.target_model = None  # type: ignore[misc]


def test_empty_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0 sample\(s\) \(shape=\(0, 4\)\)"):
        lr().repurpose(blob_features()).predict_label(Features({"0": np.empty((0, 4))}))


@pytest.mark.parametrize("method", ["head", "network"])
def test_a_table_of_paths_and_labels_is_data(method: str, tmp_path: Path) -> None:
    """Series with an index of their own, as what is left of a table after sorting and filtering."""
    shades = [10, 240, 20, 230, 30, 250]
    for number, shade in enumerate(shades):
        Image.new("RGB", (4, 4), (shade,) * 3).save(tmp_path / f"{number}.png")
    table = pd.DataFrame({"path": [str(tmp_path / f"{number}.png") for number in range(6)]})
    table["label"] = ["light" if shade > 128 else "dark" for shade in shades]
    table = table.iloc[[5, 0, 3, 2, 1]]  # index 5, 0, 3, 2, 1: row 4 is left out
    network, transform = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), Compose([ToTensor(), Normalize(0.5, 0.5)])
    repurposer: Any = LrRepurposer(network, ["0"], transform=transform, c=1.0)
    if method == "network":
        rates = {"optimizer_params": {"learning_rate": 0.02}, "num_epochs": 10, "random_state": 0}
        repurposer = NeuralNetworkFineTuneRepurposer(network, "0", transform=transform, **rates)
    wanted = table.label.tolist()
    for data in ((table.path, table.label), (table.path.map(Path), table.label.astype("category"))):
        repurposer.repurpose(data)
        assert repurposer.classes_.tolist() == ["dark", "light"]
        assert repurposer.predict_label(table.path).tolist() == wanted
        assert repurposer.score(data) == 1.0
    assert repurposer.repurpose(table.path, table.label).predict_label(table.path[::-1]).tolist() == wanted[::-1]


class Pictures(torch.utils.data.Dataset):
    """Grey values by class, through a transform."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 12

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.transform(torch.full((1, 2, 2), float(row % 3))), row % 3


def test_random_transforms_are_told_where_a_head_learns_and_where_anything_predicts(recwarn: Any) -> None:
    steady, random = Pictures(v2.Identity()), Pictures(v2.Compose([v2.RandomHorizontalFlip()]))
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    head = LrRepurposer(network, ["1"], c=1.0).repurpose(steady)
    tuned = NeuralNetworkFineTuneRepurposer(network, "1", num_epochs=1, random_state=0).repurpose(random)
    assert not [found for found in recwarn if "RandomHorizontalFlip" in str(found.message)]
    with pytest.warns(UserWarning, match=r"RandomHorizontalFlip in the data.*single draw of each row.*augmentation="):
        head.repurpose(DataLoader(random, batch_size=4))
    for repurposer in (head, tuned):
        with pytest.warns(UserWarning, match=r"RandomHorizontalFlip in the data.*predictions differ from call to call"):
            repurposer.predict_label(random)
    with pytest.warns(UserWarning, match="RandomHorizontalFlip in the data or the transform"):
        head.set_params(transform=random.transform).repurpose(steady)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta"])
def test_a_device_that_is_not_here_is_among_the_mistakes(device: str) -> None:
    for repurposer in (lr(device=device), NeuralNetworkFineTuneRepurposer(small_network(), "0", device=device)):
        with pytest.raises(ValueError, match=f"device.*{device}"):
            repurposer.repurpose(*blobs())


class Interrupted(nn.Module):
    """Is interrupted once, as torch interrupts whatever runs when a worker is lost."""

    left = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) == 20 and Interrupted.left:
            Interrupted.left = 0
            raise RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed. ")
        return x


@pytest.mark.parametrize("make", [KnnRepurposer, NeuralNetworkFineTuneRepurposer])
def test_a_worker_lost_while_the_network_runs_names_the_data(make: Any) -> None:
    X, y = blobs()
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), batch_size=20)
    network = nn.Sequential(nn.Linear(4, 3), Interrupted(), nn.Linear(3, 3))
    learned = make(network, ["1"] if make is KnnRepurposer else "1").repurpose(X[:19], y[:19])
    for call in (learned.predict_label, learned.repurpose):
        Interrupted.left = 1
        with pytest.raises(RowError, match=r"process of the DataLoader of TensorDataset died.*num_workers=0"):
            call(loader)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize(
    "reparametrise", [nn.utils.weight_norm, partial(prune.l1_unstructured, name="weight", amount=1)]
)
def test_a_deep_copy_holds_networks_whose_weights_are_computed(reparametrise: Any) -> None:
    X, y = blobs()
    network = small_network()
    reparametrise(network[0])
    network(torch.as_tensor(X))
    repurposer = LrRepurposer(network, ["2"], c=1.0).repurpose(X, y)
    copied = copy.deepcopy(repurposer)
    assert copied.source_model is not network
    assert np.array_equal(copied.predict_probability(X), repurposer.predict_probability(X))
    handler = copy.deepcopy(ModelHandler(network))
    rows = torch.as_tensor(X)
    assert torch.equal(handler.get_module()(rows), network(rows))
