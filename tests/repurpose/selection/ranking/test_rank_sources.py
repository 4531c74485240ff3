"""Rankings of small networks on small data, beside what scikit-learn and refits say."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms.functional import to_tensor

from model_handler import Features, ImageFolderData, ModelHandler, Source, TableData
from repurpose.data.scaling import BlockScaling
from repurpose.selection import rank_sources
from repurpose.selection.results.tables import ResultTable

pandas = pytest.importorskip("pandas")

DIGITS = load_digits()
ROWS = np.random.RandomState(0).permutation(1797)[:90]
X = DIGITS.data[ROWS].astype(np.float32) / 16
Y = np.array(list("abcdefghij"))[DIGITS.target[ROWS]]


def network(width: int, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))


def features(name: str, noise: float) -> Features:
    return Features({name: X + noise * np.random.RandomState(1).standard_normal(X.shape)}, Y)


@pytest.fixture(scope="module")
def table() -> Any:
    candidates = {"narrow": network(4), "wide": network(64), "missing": "efficientnet-lite7", "none": 3}
    return rank_sources(candidates, (X, Y), layers=["1", "3"], random_state=0)


def test_rows_come_best_first_each_with_its_best_layer(table: Any) -> None:
    assert table["source"].tolist() == ["wide", "narrow", "missing", "none"]
    assert table["gp_log_loss"][0] < table["gp_log_loss"][1]
    every = rank_sources({"wide": network(64)}, (X, Y), every_layer=True, lr=None, random_state=0)
    assert set(every["layer"]) == set(ModelHandler(network(64)).candidate_layers(data=X))
    assert every["gp_log_loss"].is_monotonic_increasing
    best = rank_sources({"wide": network(64)}, (X, Y), lr=None, random_state=0)
    columns = ["layer", "gp_log_loss", "class_mean_accuracy", "logme", "h_score"]
    assert best[columns].iloc[0].tolist() == every[columns].iloc[0].tolist()


def test_a_candidate_that_cannot_be_loaded_or_run_is_a_row_that_says_why(table: Any) -> None:
    failed = table[table["error"].notna()]
    assert failed["source"].tolist() == ["missing", "none"]
    assert "efficientnet-lite0" in failed["error"].iloc[0]  # the nearest name
    assert failed["error"].iloc[1].startswith("TypeError")
    assert failed["gp_log_loss"].isna().all()


def test_a_network_that_fails_on_the_data_is_left_as_it_was_and_the_others_are_ranked() -> None:
    broken = nn.Sequential(nn.Linear(7, 3), nn.BatchNorm1d(3)).train()
    before = {name: value.clone() for name, value in broken.state_dict().items()}
    table = rank_sources({"broken": broken, "right": network(8)}, (X, Y), random_state=0)
    assert table["source"].tolist() == ["right", "broken"]
    assert "64" in table["error"][1]
    assert broken.training
    assert all(torch.equal(before[name], value) for name, value in broken.state_dict().items())


def test_the_loss_of_five_folds_is_that_of_scikit_learn_on_the_same_folds() -> None:
    table = rank_sources({"x": features("x", 0.1)}, random_state=0)
    rows = BlockScaling.fit(features("x", 0.1).matrix, {"x": np.arange(64)}).transform(features("x", 0.1).matrix)
    probabilities = cross_val_predict(LogisticRegression(max_iter=5000), rows, Y, cv=5, method="predict_proba")
    of_truth = probabilities[np.arange(90), np.searchsorted(np.unique(Y), Y)]
    assert table["lr_log_loss_5fold"][0] == pytest.approx(-np.log(of_truth).mean(), abs=0.08)  # other folds
    alo = rank_sources({"x": features("x", 0.1)}, lr="alo", random_state=0)
    assert alo["lr_log_loss_alo"][0] == pytest.approx(table["lr_log_loss_5fold"][0], abs=0.1)
    assert "lr_log_loss_5fold" not in alo


def test_where_one_step_takes_too_large_a_matrix_its_column_alone_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repurpose.selection.ranking.lr_loss._MOST_COEFFICIENTS", 300)
    with pytest.warns(UserWarning, match=r'wide: .*lr="five-fold"'):
        table = rank_sources({"wide": features("x", 0.1)}, lr="alo", random_state=0)
    assert table["lr_log_loss_alo"].isna().all()
    assert table["error"].isna().all()


def test_features_stand_for_networks_and_need_no_data() -> None:
    given = {"clear": features("x", 0.05), "noisy": features("x", 1.0)}
    table = rank_sources(given, random_state=0)
    assert table["source"].tolist() == ["clear", "noisy"]
    assert table["extraction_seconds"].isna().all()
    assert table["difference"][1] == pytest.approx(table["gp_log_loss"][1] - table["gp_log_loss"][0])
    assert table["difference"][1] > 4 * table["difference_error"][1] > 0
    unlabelled = {name: Features(each.values) for name, each in given.items()}
    assert rank_sources(unlabelled, y=Y, random_state=0)["gp_log_loss"].equals(table["gp_log_loss"])


def test_other_rows_than_those_of_the_first_candidate_are_no_comparison() -> None:
    shuffled = features("x", 0.1)[np.arange(90)[::-1]]
    table = rank_sources({"first": features("x", 0.1), "turned": shuffled}, random_state=0)
    assert "same rows" in table["error"][1]


def test_neither_the_order_of_rows_nor_the_names_of_classes_changes_a_score() -> None:
    order = np.random.RandomState(3).permutation(90)
    names = dict(zip("abcdefghij", "qzpwxvutsr"))
    renamed = np.array([names[label] for label in Y])
    one, other = (
        rank_sources({"a": network(16), "b": network(8)}, data, layers=["1"], random_state=0)
        for data in ((X, Y), (X[order], renamed[order]))
    )
    scores = ["gp_log_loss", "difference_error", "lr_log_loss_5fold", "class_mean_accuracy", "logme", "h_score"]
    assert one[["source", "layer"]].equals(other[["source", "layer"]])
    np.testing.assert_allclose(one[scores], other[scores], rtol=1e-3)


def test_one_pass_through_a_network_serves_all_layers_and_poolings() -> None:
    calls = []
    counted = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    counted[0].register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    images = X.reshape(-1, 1, 8, 8)
    table = rank_sources([counted], (images, Y), layers=["0", "1"], pooling=("avg", "max"), every_layer=True, lr=None)
    assert sum(number for number in calls if number > 2) == 90  # two rows at most are for the shapes
    assert sorted(zip(table["layer"], table["pooling"])) == [(n, p) for n in "01" for p in ("avg", "max")]
    assert table["source"].unique().tolist() == ["Sequential"]


@pytest.mark.parametrize(("max_rows", "key"), [(90, None), (40, "digits")])
def test_with_a_cache_a_second_ranking_runs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_rows: int, key: str | None
) -> None:
    computed, compute = [], ModelHandler._computed

    def noting(handler: ModelHandler, *arguments: Any) -> list[Features]:
        computed.append(handler)
        return compute(handler, *arguments)

    monkeypatch.setattr(ModelHandler, "_computed", noting)
    options = {"layers": ["1"], "max_rows": max_rows, "lr": None, "cache_dir": tmp_path, "cache_key": key}
    first, second = (rank_sources([network(8)], (X, Y), random_state=0, **options) for _ in range(2))
    assert len(computed) == 1
    assert second["gp_log_loss"].equals(first["gp_log_loss"])
    other = rank_sources([network(8)], (X, Y), random_state=1, **options)
    assert len(computed) == (2 if max_rows < 90 else 1)  # another subset is other data
    assert other["gp_log_loss"][0] != first["gp_log_loss"][0]


def test_many_rows_are_judged_by_a_stratified_part_and_the_table_says_so() -> None:
    read = []
    noting = network(8)
    noting[0].register_forward_hook(lambda module, inputs, output: read.append(len(output)))
    table = rank_sources([noting], (X, Y), layers=["1"], max_rows=40, random_state=0)
    assert table.attrs["n_rows_read"] == sum(read[-2:]) <= 40
    assert table.attrs["n_rows"] <= 40
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(DIGITS.target[ROWS])), batch_size=30)
    of_loader = rank_sources([network(8)], loader, layers=["1"], max_rows=40, random_state=0)
    assert (of_loader.attrs["n_rows_read"], of_loader.attrs["n_rows"] <= 40) == (90, True)


def test_the_first_score_is_optimistic_among_features_of_noise_and_the_nested_one_is_not() -> None:
    codes, rng = np.arange(24) % 2, np.random.RandomState(0)
    noise = {f"noise {n}": Features({"x": rng.standard_normal((24, 2))}, codes) for n in range(4)}
    table = rank_sources(noise, nested=True, lr=None, random_state=0)
    notes = table.attrs
    assert notes["nested_log_loss"] > table["gp_log_loss"][0]  # the best of four, by the rows that chose it
    assert notes["nested_log_loss"] > np.log(2) - notes["nested_log_loss_error"]  # nothing can be known of these labels
    assert [source for source, _, _ in notes["nested_choices"]] != ["noise 0"] * 5
    assert len(notes["nested_choices"]) == 5


def test_rows_of_a_group_are_left_out_together() -> None:
    rng = np.random.RandomState(0)
    groups = np.repeat(np.arange(20), 5)
    codes = np.arange(20)[groups] % 2
    known_by_group = Features({"x": rng.standard_normal((20, 6))[groups] + 0.01 * rng.standard_normal((100, 6))}, codes)
    alone = rank_sources({"x": known_by_group}, random_state=0)
    grouped = rank_sources({"x": known_by_group}, groups=groups, random_state=0)
    assert alone["gp_log_loss"][0] < 0.01 < np.log(2) < grouped["gp_log_loss"][0]
    assert alone["lr_log_loss_5fold"][0] < 0.5 < np.log(2) < grouped["lr_log_loss_5fold"][0]
    assert alone["class_mean_accuracy"][0] > grouped["class_mean_accuracy"][0]


def test_simple_rankings_are_columns(table: Any) -> None:
    assert table["size_rank"][:2].tolist() == [1, 2]
    assert table["parameters"][0] == sum(parameter.numel() for parameter in network(64).parameters())
    assert table["imagenet_accuracy"].isna().all()


def test_images_of_a_folder_go_through_the_preprocessing_of_each_source(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    for number in range(12):
        name = "red" if number % 2 else "blue"
        pixels = rng.randint(0, 90, size=(8, 8, 3), dtype=np.uint8)
        pixels[..., 0 if number % 2 else 2] += 120
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    source = Source(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), to_tensor, "mine")
    table = rank_sources([source, nn.Sequential(nn.Conv2d(3, 2, 1))], tmp_path, random_state=0)
    assert table["source"].tolist() == ["mine", "Sequential"]
    assert table["class_mean_accuracy"][0] == 1
    assert "transform" in table["error"][1]
    part = rank_sources([source], tmp_path, max_rows=8, random_state=0)
    assert part.attrs["n_rows_read"] == 8


def test_texts_given_to_a_network_of_images_are_the_row_of_that_network() -> None:
    texts = ["good thing", "bad thing"] * 6
    image = Source(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), to_tensor, "image")
    known = Features({"x": np.eye(2)[[0, 1] * 6]}, [0, 1] * 6)
    table = rank_sources({"image": image, "known": known}, (texts, [0, 1] * 6), random_state=0)
    assert table["source"].tolist() == ["known", "image"]
    assert "text" in table["error"][1]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"candidates": "efficientnet-lite0"}, TypeError, "a list of sources"),
        ({"candidates": []}, ValueError, "no candidate"),
        ({"layers": "1"}, ValueError, r"layers.*\['1'\]"),
        ({"layers": {"b": ["1"]}}, ValueError, "'b', which is no candidate"),
        ({"pooling": "mean"}, ValueError, "pooling"),
        ({"pooling": ()}, ValueError, "pooling"),
        ({"pooling": (lambda x: x, lambda x: x)}, ValueError, "different names"),
        ({"lr": "loo"}, ValueError, "lr must be one of"),
        ({"max_rows": 0}, ValueError, "max_rows"),
        ({"data": (X, np.zeros(90))}, ValueError, "at least two classes"),
        ({"data": X}, ValueError, "labels"),
        ({"groups": np.zeros(3)}, ValueError, "groups"),
        ({"groups": np.arange(5)}, ValueError, "90 rows"),
        ({"data": (X[:3], ["a", "b", "c"])}, ValueError, "two"),
        ({"data": DataLoader(TensorDataset(torch.from_numpy(X)), shuffle=True)}, ValueError, "shuffle=False"),
    ],
)
def test_bad_input_is_refused_with_the_way_out(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    given = {"candidates": {"a": network(4)}, "data": (X, Y), **arguments}
    with pytest.raises(error, match=words):
        rank_sources(**given)


def test_a_layer_that_a_network_has_not_is_its_row(table: Any) -> None:
    found = rank_sources({"a": network(4)}, (X, Y), layers=["9"])
    assert "UnknownLayerError" in found["error"][0]


def test_without_pandas_there_is_a_table_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repurpose.selection.ranking.rank_sources.as_table", ResultTable)
    found = rank_sources({"noisy": features("x", 1.0), "clear": features("x", 0.05)}, lr=None, random_state=0)
    assert found["source"] == ["clear", "noisy"]
    assert found.attrs["n_dealings"] == 5


def test_modes_of_torch_around_the_call_change_nothing() -> None:
    given = {"clear": features("x", 0.05), "noisy": features("x", 1.0)}
    plain = rank_sources(given, nested=False, random_state=0)
    with torch.inference_mode(), torch.autocast("cpu"), torch.device("meta"):
        inside = rank_sources(given, nested=False, random_state=0)
    columns = ["gp_log_loss", "difference_error", "lr_log_loss_5fold", "logme"]
    assert inside[columns].equals(plain[columns])


def test_images_that_a_folder_skipped_before_are_not_read_again(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    for number in range(14):
        folder = tmp_path / ("a" if number < 7 else "b")
        folder.mkdir(exist_ok=True)
        pixels = rng.randint(0, 256, size=(4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (tmp_path / "a" / "00.png").write_bytes(b"no image")
    source = Source(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), to_tensor, "mine")
    data = ImageFolderData(tmp_path, on_error="skip")
    with pytest.warns(UserWarning, match="skipped"):
        whole = rank_sources([source], data, layers=["1"], lr=None, random_state=0)
    assert whole.attrs["n_rows_read"] == 13
    part = rank_sources([source, source], data, layers=["1"], lr=None, max_rows=9, random_state=0)
    assert part.attrs["n_rows_read"] <= 9
    assert part["error"].isna().all()


def test_groups_of_a_table_are_taken(tmp_path: Path) -> None:
    """As `groups=` gives them: without either, near-duplicates of a patient are left out one by one."""
    rng, source = np.random.RandomState(0), Source(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), to_tensor, "mine")
    lines = ["image,label,patient"]
    for number in range(24):
        patient = number // 4
        pixels = np.random.RandomState(patient).randint(0, 256, (2, 2, 3)) + rng.randint(0, 3, size=(2, 2, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[patient % 2]},{patient}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    losses = []
    for group, groups in (("patient", None), (None, np.arange(24) // 4), (None, None)):
        table = TableData(tmp_path / "table.csv", input="image", label="label", group=group)
        losses.append(rank_sources([source], table, groups=groups, lr=None, random_state=0)["gp_log_loss"][0])
    assert losses[0] == losses[1] > 2 * losses[2]


def test_the_same_seed_gives_the_same_table_and_torchs_generator_stays() -> None:
    state = torch.get_rng_state()
    columns = ["gp_log_loss", "difference", "difference_error", "logme"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, two = (rank_sources([network(4), network(6)], (X, Y), layers=["1"], random_state=5) for _ in range(2))
    assert one["source"].tolist() == ["Sequential (2)", "Sequential"]
    assert one[columns].equals(two[columns])
    assert torch.equal(state, torch.get_rng_state())
