"""A deployment that is damaged anywhere is noticed by the answers that were saved with the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from torch import nn

from repurpose import BnnRepurposer, CorruptFileError, GpRepurposer, LrRepurposer, load
from repurpose import NeuralNetworkFineTuneRepurposer as FineTune
from repurpose.serving import ChangedAnswersError
from tests.repurpose.examples import CentroidRepurposer, blobs, identity_network, lr, small_network
from tests.repurpose.saved_files import edit

X, Y = blobs()
NAMES = np.array(["pear", "apple", "fig"])[Y]
PIXELS = np.random.default_rng(0).integers(0, 255, size=(8, 6, 6, 3), dtype=np.uint8)
BNN = {"c": 1.0, "num_epochs": 3, "num_samples_mc": 2, "num_samples_mc_prediction": 4, "n_hidden": 3}


def exchange_codes_and_probabilities(plan: dict[str, Any]) -> None:
    answers = plan["fitted"]["reference_answers_"]["fields"]["items"]
    answers["codes"], answers["probabilities"] = answers["probabilities"], answers["codes"]


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.resize((6, 6)))).permute(2, 0, 1) / 255


def as_darker_tensor(image: Image.Image) -> torch.Tensor:
    return as_tensor(image) * 0.9


@pytest.mark.parametrize(
    "make",
    [
        lambda network: LrRepurposer(network, ["2"], c=1.0),
        lambda network: GpRepurposer(network, ["2"]),
        lambda network: BnnRepurposer(network, ["2"], **BNN),
        lambda network: CentroidRepurposer(network, ["2"]),
        lambda network: FineTune(network, "2", num_epochs=1),
    ],
    ids=["lr", "gp", "bnn", "centroids", "fine_tune"],
)
def test_what_was_saved_is_loaded_with_its_answers_and_gives_the_same_bits(make: Any, tmp_path: Path) -> None:
    network = small_network()
    repurposer = make(network).repurpose((X, NAMES)).remember_answers(X[:10])
    assert (
        repurposer.classes_[repurposer.reference_answers_.codes].tolist() == repurposer.predict_label(X[:10]).tolist()
    )
    repurposer.save_repurposer(tmp_path / "saved")
    report = load(tmp_path / "saved", source_model=network).validate(tolerance=0.0)
    assert (report.n_rows, report.is_identical, report.changed_rows) == (10, True, ())


def flip_a_bit(tensor: torch.Tensor, bit: int = 30) -> None:
    """Flip a high bit of the first number, in place: its exponent changes."""
    with torch.no_grad():
        tensor.view(-1)[:1].view(torch.int32).bitwise_xor_(1 << bit)


@pytest.mark.parametrize("where", ["source", "head", "target"])
def test_a_flipped_weight_is_noticed(where: str, tmp_path: Path) -> None:
    network = small_network()
    made = FineTune(network, "2", num_epochs=1) if where == "target" else LrRepurposer(network, ["2"], c=1.0)
    made.repurpose((X, NAMES)).remember_answers(X[:20]).save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert loaded.validate().is_identical
    if where == "head":
        loaded.target_model_.coef_[0, 0] += 0.5
    else:
        flip_a_bit(network[2].weight if where == "source" else next(loaded.target_model_.parameters()))
    with pytest.raises(ChangedAnswersError, match=r"of 20 answers are not as expected") as caught:
        loaded.validate()
    report = caught.value.report
    assert report.largest_difference > 1e-3
    assert 0 < len(report.changed_rows) <= 20


def test_a_source_with_other_weights_is_noticed_where_no_fingerprint_is(tmp_path: Path) -> None:
    """As where the weights of a source by name were not on the machine that saved."""
    network, other = small_network(0), small_network(1)
    repurposer = LrRepurposer(network, ["2"], c=1.0).repurpose((X, NAMES)).remember_answers(X[:20])
    repurposer.save_repurposer(tmp_path / "saved")
    edit(tmp_path / "saved", lambda plan: plan["source"].update(fingerprint=None))
    with pytest.raises(ChangedAnswersError):
        load(tmp_path / "saved", source_model=other).validate()


def test_another_preprocessing_is_noticed(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    repurposer = LrRepurposer(network, ["2"], c=100.0, transform=as_tensor).repurpose((list(PIXELS), [0, 1] * 4))
    images = [Image.fromarray(PIXELS[0]), PIXELS[1][:5]]  # of two sizes
    repurposer.remember_answers(images).save_repurposer(tmp_path / "saved")
    report = load(tmp_path / "saved", source_model=network, transform=as_tensor).validate()
    assert (report.n_rows, report.is_identical) == (2, True)
    with pytest.raises(ChangedAnswersError):
        load(tmp_path / "saved", source_model=network, transform=as_darker_tensor).validate(tolerance=1e-6)


def test_answers_that_are_given_are_compared() -> None:
    repurposer = lr().repurpose((X, NAMES))
    labels, probabilities = repurposer.predict_label(X), repurposer.predict_probability(X)
    assert repurposer.validate(X, labels).is_identical
    assert repurposer.validate(X, probabilities).is_identical
    assert repurposer.validate(X, probabilities + 1e-4).largest_difference == pytest.approx(1e-4, abs=1e-9)
    wrong = labels.copy()
    wrong[7] = "other"
    with pytest.raises(ChangedAnswersError, match=r"1 of 60 answers are not as expected \(rows 7\): 1 labels differ\."):
        repurposer.validate(X, wrong)
    with pytest.raises(ChangedAnswersError, match=r"60 of 60 .* probabilities by up to 0.01 \(tolerance 0.001\)"):
        repurposer.validate(X, probabilities + 0.01)


def test_answers_are_forgotten_by_what_changes_them_and_by_clones() -> None:
    repurposer = lr().repurpose((X, NAMES)).remember_answers(X[:5])
    repurposer.conformalize(X, NAMES)
    assert repurposer.validate().is_identical
    assert not hasattr(clone(repurposer).repurpose((X, NAMES)), "reference_answers_")
    repurposer.calibrate(*blobs(seed=1)) if False else repurposer.calibrate(X, NAMES)
    for changed in (repurposer, repurposer.remember_answers(X[:5]).repurpose((X, NAMES))):
        with pytest.raises(
            ValueError, match=r"no answers to compare with: call remember_answers\(data\) before saving"
        ):
            changed.validate()


def test_data_and_expected_go_together() -> None:
    repurposer = lr().repurpose((X, NAMES)).remember_answers(X[:5])
    for arguments in ({"data": X}, {"expected": NAMES}):
        with pytest.raises(ValueError, match="data and expected go together"):
            repurposer.validate(**arguments)
    with pytest.raises(ValueError, match="tolerance is by how much"):
        repurposer.validate(tolerance=-1)


def test_answers_in_a_file_that_are_none_are_refused_when_it_is_loaded(tmp_path: Path) -> None:
    network = identity_network()
    repurposer = LrRepurposer(network, ["0"], c=1.0).repurpose((X, NAMES)).remember_answers(X[:3])
    repurposer.save_repurposer(tmp_path / "saved")
    edit(tmp_path / "saved", exchange_codes_and_probabilities)
    with pytest.raises(CorruptFileError, match=r"its reference_answers_\.codes is ndarray of dtype float64"):
        load(tmp_path / "saved", source_model=network)
