import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model_handler import Features, ImageFolderData
from repurpose import LrRepurposer
from repurpose.data.scaling import BlockScaling
from repurpose.meta_model.outliers import bring_back_outliers
from tests.repurpose.examples import blobs, identity_network


def matrix(n_rows: int = 30, n_features: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_rows, n_features)).astype(np.float32)


def with_cell(value: float, row: int = 4, column: int = 2) -> np.ndarray:
    rows = matrix()
    rows[row, column] = value
    return rows


def brought(rows: np.ndarray, **options: Any) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codes = options.pop("codes", np.zeros(len(rows), int))
        return bring_back_outliers(Features({"a": rows}), codes, **options).values["a"]


@pytest.mark.parametrize("value", [1e3, 1e6, -1e6, 3e38])
def test_a_broken_cell_is_the_most_that_its_column_has_elsewhere_and_all_others_stay(value: float) -> None:
    rows = with_cell(value)
    expected, others = rows.copy(), np.delete(rows[:, 2], 4)
    expected[4, 2] = others.max() if value > 0 else others.min()
    assert np.array_equal(brought(rows), expected)
    assert rows[4, 2] == np.float32(value)  # what was given is left alone


def test_a_row_too_large_as_a_whole_keeps_its_direction_and_gets_an_ordinary_distance() -> None:
    rows = np.abs(matrix(n_features=40))
    rows[:, ::2] *= np.arange(30)[:, None] % 3 > 0  # what is 0 stays in range at any scale
    large = rows.copy()
    large[1] *= 1e5
    away = brought(large)[1] - np.median(large, axis=0)
    cosine = away @ large[1].astype(float) / np.linalg.norm(away) / np.linalg.norm(large[1].astype(float))
    assert cosine == pytest.approx(1, abs=1e-3)
    distances = np.linalg.norm(rows - np.median(rows, axis=0), axis=1)
    assert distances.min() < np.linalg.norm(away) < distances.max()


def test_rows_without_outliers_come_back_themselves() -> None:
    """Heavy tails, clusters, rows that hardly differ, layers that hardly ever fire, amounts among categories."""
    rng = np.random.default_rng(0)
    kinds = [
        matrix(),
        matrix(2),
        rng.lognormal(sigma=1, size=(100, 1)),
        np.repeat([[1.0, 0.0], [0.0, 1.0]], [90, 10], axis=0) + 1e-6 * rng.normal(size=(100, 2)),
        np.full((30, 3), 0.1) + 5 * np.eye(30, 3),
        rng.normal(size=(100, 20)) * (rng.random((100, 1)) < 0.1),
        np.zeros((5, 3)),
        np.array([[1.4], [1.4], [1.5], [5.1]]),
        np.hstack([0.01 * rng.random((300, 5)), rng.random((300, 1)) < 0.1]),
        np.where((np.arange(300) < 23)[:, None] & (np.arange(30) == 3), 200.0, rng.poisson(0.5, (300, 30))),
        np.hstack([np.eye(8)[rng.integers(0, 8, 400)], rng.lognormal(4, 1, (400, 1)) * (rng.random((400, 1)) < 0.15)]),
    ]
    for rows in kinds:
        features = Features({"a": rows})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert bring_back_outliers(features, np.zeros(len(rows), int)) is features


@pytest.mark.parametrize("n_rows", [3, 4, 6])
def test_few_rows_are_enough_to_know_a_broken_cell(n_rows: int) -> None:
    rows = with_cell(1e6, row=1)[:n_rows]
    assert np.abs(brought(rows)).max() < 5


def test_several_outliers_do_not_hide_each_other() -> None:
    rows = matrix()
    rows[:4, 1] = 1e6
    expected = rows.copy()
    expected[:4, 1] = rows[4:, 1].max()
    assert np.array_equal(brought(rows), expected)


def test_what_most_rows_of_a_class_have_is_no_outlier() -> None:
    rows, codes = matrix(), np.repeat([0, 1, 2], [20, 4, 6])
    rows[20:24, 1] = 1e4  # a class by itself
    assert np.array_equal(brought(rows, codes=codes), rows)
    rows[3, 2] = 1e6
    found = brought(rows, codes=codes)
    assert np.array_equal(np.delete(found, 3, axis=0), np.delete(rows, 3, axis=0))
    assert found[3, 2] == np.delete(rows[:, 2], 3).max()
    codes[3] = 3  # the only row of its class
    assert np.array_equal(brought(rows, codes=codes), found)


def test_weights_count_as_repeated_rows_and_the_order_does_not_matter() -> None:
    rows, repeats = with_cell(1e6), np.random.default_rng(1).integers(1, 4, 30)
    weighted = brought(rows, weights=repeats.astype(float))
    assert np.array_equal(weighted.repeat(repeats, axis=0), brought(rows.repeat(repeats, axis=0)))
    order = np.random.default_rng(2).permutation(30)
    assert np.array_equal(brought(rows[order]), brought(rows)[order])
    large = np.where(np.arange(30)[:, None] == 3, 1e5, 1) * matrix()
    weighted = brought(large, weights=repeats.astype(float))
    assert np.allclose(weighted.repeat(repeats, axis=0), brought(large.repeat(repeats, axis=0)))


def test_the_scale_is_that_of_the_ordinary_rows() -> None:
    columns = {"a": np.arange(6)}
    found, right = (BlockScaling.fit(rows, columns) for rows in (brought(with_cell(1e6)), matrix()))
    assert np.allclose(found.factor, right.factor, rtol=0.05)
    assert np.allclose(found.center, right.center, atol=0.15)


def test_the_warning_names_layer_rows_and_values_once_and_says_what_to_do() -> None:
    rows = with_cell(-999)
    rows[7, 0] = 1e6
    features = Features({"a": matrix(), "b": rows}, np.arange(30) % 3)
    with pytest.warns(UserWarning, match="outliers") as said:
        LrRepurposer(identity_network(), random_state=0).repurpose(features).predict_set(features)
    (message,) = {str(warning.message) for warning in said}
    assert len(said) == 1
    distances = np.linalg.norm(rows - np.quantile(rows, 0.5, axis=0, method="lower"), axis=1)
    reach = f"{np.sort(distances)[24]:.3g}"
    assert message.startswith(f"outliers in layer 'b', most rows of which lie within {reach}")
    assert message.endswith(
        "of their median: -999 in row 4, 1e+06 in row 7. Training takes these values brought into the range of the "
        "others; look at these inputs: correct them, or leave them out"
    )


def test_rows_are_called_by_their_number_among_those_of_weight_0_too() -> None:
    X, y = blobs()
    X[5, 0] = 1e6
    weights = np.ones(60)
    weights[:3] = 0
    with pytest.warns(UserWarning, match=r"1e\+06 in row 5\."):
        LrRepurposer(identity_network(), ["0"], c=1.0).repurpose(X, y, sample_weight=weights)
    X[5, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN in 1 of 57 rows \(row 5\)"):
        LrRepurposer(identity_network(), ["0"], c=1.0).repurpose(X, y, sample_weight=weights)


def test_images_are_called_by_their_files_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(100, 200, (2, 2, 3), dtype=np.uint8)).save(folder / f"{number}.png")

    def transform(image: Any) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(image)).float()
        return pixels * (1e6 if pixels[0, 0, 0] == of_fifth else 1)

    of_fifth = np.asarray(Image.open(tmp_path / "b" / "5.png"))[0, 0, 0]
    data = ImageFolderData(tmp_path, transform)
    with pytest.warns(UserWarning, match=r"in row 6 \(.*b.5\.png\)\. Training"):
        LrRepurposer(identity_network(), ["0"], pooling="flatten", c=1.0).repurpose(data)


def test_layers_are_chosen_as_without_the_outlier() -> None:
    X, y = blobs()
    features = Features({"noise": matrix(60), "good": X}, y)
    X = X.copy()
    X[3, 1] = 1e6
    clean, broken = (LrRepurposer(identity_network(), "auto", c=1.0, random_state=0) for _ in range(2))
    clean.repurpose(features)
    with pytest.warns(UserWarning, match="outliers in layer 'good'"):
        broken.repurpose(Features({"noise": matrix(60), "good": X}, y))
    assert broken.feature_layer_names_ == clean.feature_layer_names_ == ["good"]
    for layers, loss in clean.layer_scores_.items():
        assert broken.layer_scores_[layers] == pytest.approx(loss, abs=0.1)
