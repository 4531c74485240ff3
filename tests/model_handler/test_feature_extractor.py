"""`FeatureExtractor` in scikit-learn: pipelines, searches, clones, data frames, pickles, and what it refuses."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

from model_handler import FeatureExtractor, ModelError, ModelHandler, Source, UnknownLayerError
from tests.model_handler.networks import images

Y = np.arange(24) % 3
X = images(24).numpy() + 0.5 * Y[:, None, None, None]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))


def pipeline(**options: Any) -> Pipeline:
    extractor = FeatureExtractor(network(), **{"layers": ["1", "3"], "pooling": "avg", **options})
    head = LogisticRegression(C=1.0, max_iter=1000)
    return Pipeline([("features", extractor), ("scale", StandardScaler()), ("head", head)])


def by_hand(pooling: str) -> np.ndarray:
    return ModelHandler(network()).extract(X, ["1", "3"], pooling=pooling).matrix


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_a_pipeline_scores_as_its_head_does_on_the_features(pooling: str) -> None:
    plain = Pipeline(pipeline().steps[1:])
    wanted = cross_val_score(plain, by_hand(pooling), Y, cv=3)
    got = cross_val_score(pipeline(pooling=pooling), X, Y, cv=3, error_score="raise")
    assert got.tolist() == wanted.tolist()
    assert 0.4 < got.mean() <= 1


def test_a_search_over_head_and_pooling_finds_what_a_search_by_hand_finds() -> None:
    grid = {"features__pooling": ["avg", "max"], "head__C": [0.01, 1.0]}
    search = GridSearchCV(pipeline(), grid, cv=3, error_score="raise", refit=True).fit(X, Y)
    plain = Pipeline(pipeline().steps[1:])
    by_pooling = [
        GridSearchCV(plain, {"head__C": [0.01, 1.0]}, cv=3).fit(by_hand(pooling), Y) for pooling in ("avg", "max")
    ]
    wanted = np.concatenate([found.cv_results_["mean_test_score"] for found in by_pooling])
    assert np.allclose(search.cv_results_["mean_test_score"], wanted, rtol=0, atol=1e-12)
    assert search.predict(X).shape == Y.shape


def test_a_search_with_a_cache_runs_each_set_of_rows_once(tmp_path: Path) -> None:
    ran: list[int] = []

    def note(module: nn.Module, arguments: object, output: object) -> None:
        if type(module) is nn.Conv2d and isinstance(output, Tensor):
            ran.append(len(output))

    grid = {"head__C": [0.01, 0.1, 1.0, 10.0]}
    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        GridSearchCV(pipeline(cache_dir=tmp_path), grid, cv=3, error_score="raise", refit=False).fit(X, Y)
    finally:
        hook.remove()
    assert len(list(tmp_path.iterdir())) == 6  # training and left-out rows of three folds
    assert [n_rows for n_rows in ran if n_rows > 2] == [16, 8] * 3  # the others verify the graph on two rows


def test_without_layers_it_is_what_the_last_linear_layer_reads() -> None:
    extractor = FeatureExtractor(network()).fit(X)
    assert (extractor.layers, extractor.layer_names_, extractor.n_features_per_layer_) == (None, ["2"], {"2": 4})
    with pytest.raises(ValueError, match=r"does not end in a linear layer.*layers=\['1'\]"):
        FeatureExtractor(network()[:2]).fit(X)


def test_columns_have_the_name_of_layer_and_number_and_the_index_of_the_rows() -> None:
    import pandas

    extractor = FeatureExtractor(network(), ["1", "4"]).set_output(transform="pandas")
    names = [*(f"1_{number}" for number in range(4)), *(f"4_{number}" for number in range(5))]
    frame = extractor.fit_transform(X)
    assert isinstance(frame, pandas.DataFrame)
    assert (frame.columns.tolist(), frame.shape) == (names, (24, 9))
    assert extractor.get_feature_names_out().tolist() == names
    assert clone(extractor).fit(X).transform(X).equals(frame)
    numbers = pandas.DataFrame(np.ones((3, 2), np.float32), index=[7, 8, 9], columns=["a", "b"])
    small = FeatureExtractor(nn.Sequential(nn.Linear(2, 3)), ["0"]).set_output(transform="pandas")
    assert small.fit_transform(numbers).index.tolist() == [7, 8, 9]


def test_rows_are_float32_and_those_of_the_handler_bit_for_bit(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(paths[-1])
    wanted = ModelHandler(network(), transform=to_tensor).extract(paths, ["2"], pooling="auto").matrix
    extractor = FeatureExtractor(network(), preprocessing=to_tensor).fit(paths)
    for data in (paths, list(map(str, paths)), [Image.open(path) for path in paths], tmp_path):
        rows = extractor.transform(data)
        assert rows.dtype == np.float32
        assert np.array_equal(rows, wanted)
    by_source = FeatureExtractor(Source(network(), to_tensor, "mine"))
    assert np.array_equal(by_source.fit(paths).transform(paths), wanted)


def test_fit_reads_the_first_batch_alone() -> None:
    read: list[int] = []

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 24

        def __getitem__(self, row: int) -> Tensor:
            read.append(row)
            return torch.from_numpy(X[row])

    FeatureExtractor(network(), batch_size=2).fit(Rows())
    assert read == [0, 1]


def test_a_clone_shares_network_preprocessing_and_handler() -> None:
    extractor = FeatureExtractor(network(), preprocessing=to_tensor, batch_size=3).fit(X)
    copied = clone(extractor)
    assert copied.source is extractor.source
    assert copied.preprocessing is extractor.preprocessing
    assert copied.handler is extractor.handler is clone(copied).handler
    assert copied.get_params() == extractor.get_params()
    with pytest.raises(NotFittedError):
        copied.transform(X)
    assert copied.set_params(batch_size=4).handler is not extractor.handler


def test_a_source_by_name_is_loaded_once_for_all_clones(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(
        "model_handler.feature_extractor.load_source", lambda name: names.append(name) or Source(network())
    )
    extractor = FeatureExtractor("mine")
    copies = [clone(clone(extractor)), clone(extractor).set_params(batch_size=2), extractor]
    assert all(copied.fit(X).transform(X).shape == (24, 4) for copied in copies)
    assert names == ["mine"]


def test_pickled_it_gives_the_same() -> None:
    extractor = FeatureExtractor(network()).fit(X)
    again = pickle.loads(pickle.dumps(extractor))
    assert np.array_equal(again.transform(X), extractor.transform(X))
    assert "_shared" not in extractor.__getstate__()


def test_errors_are_those_of_the_handler() -> None:
    with pytest.raises(TypeError, match=r"layer_names must be a list of names, got 'fc'"):
        FeatureExtractor(network(), "fc").fit(X)  # type: ignore[arg-type]
    with pytest.raises(UnknownLayerError, match="7"):
        FeatureExtractor(network(), ["7"]).fit(X)
    with pytest.raises(ValueError, match="got 'mean'"):
        FeatureExtractor(network(), pooling="mean").fit(X)
    with pytest.raises(TypeError, match="source must be"):
        FeatureExtractor(3).fit(X)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="'0'"):
        FeatureExtractor(network()).fit(X[:, :2])
    with pytest.raises(NotFittedError):
        FeatureExtractor(network()).get_feature_names_out()


def test_other_widths_than_in_fit_are_refused() -> None:
    extractor = FeatureExtractor(network(), ["1"], pooling="flatten").fit(X)
    with pytest.raises(ValueError, match=r"the layers give \{'1': 196\} features, and gave \{'1': 144\} in fit"):
        extractor.transform(images(3, height=9, width=9))


def test_the_package_does_without_scikit_learn_until_it_is_asked_for() -> None:
    code = "import sys, model_handler; print('sklearn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False"]
