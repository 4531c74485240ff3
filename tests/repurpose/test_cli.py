"""The command line on tiny folders of flat-coloured noisy images, with the embedded EfficientNet-Lite0.

What does not depend on the network is tested in `cli`, on one that takes no time.
"""

import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from model_handler.sources import loading
from repurpose import ImageFolderData, load
from repurpose.cli.demo import _affordable
from tests.repurpose.cli.commands import COLOURS, run, tiny_source, write_images


@pytest.fixture(scope="module")
def tiny() -> Iterator[tuple[str, str]]:
    """The options that choose a network that takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loading.LIBRARIES, "tiny", tiny_source)
        yield "--source", "tiny/net"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("photos") / "train", n_per_class=6, seed=0)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("photos") / "others", n_per_class=2, seed=1)


@pytest.fixture(scope="module")
def trained(photos: Path) -> SimpleNamespace:
    saved = photos.parent / "saved"
    return SimpleNamespace(saved=saved, result=run("train", photos, "--out", saved, "--holdout", 0.34))


@pytest.fixture(scope="module")
def quick(photos: Path, tiny: tuple[str, str]) -> SimpleNamespace:
    saved = photos.parent / "quick"
    return SimpleNamespace(saved=saved, result=run("train", photos, *tiny, "--out", saved, "--holdout", 0))


def test_train_says_what_was_learned(trained: SimpleNamespace) -> None:
    assert trained.result.code == 0, trained.result.text
    assert "efficientnet-lite0: features of _avg_pooling, the default" in trained.result.text
    assert "18 images of 3 classes: blue (6), green (6), red (6)" in trained.result.text
    assert re.search(r"held-out 7 images: accuracy \d\.\d{3}, log loss \d\.\d{3}", trained.result.text)
    assert f"C = {load(trained.saved).c_:g} chosen by cross-validation, trained on all 18 images" in trained.result.text
    assert str(trained.saved) in trained.result.text


def test_predict_shows_the_most_likely_classes_of_a_class_folder_and_its_accuracy(
    quick: SimpleNamespace, others: Path
) -> None:
    result = run("predict", quick.saved, others, "--top", 2)
    assert result.code == 0, result.text
    assert re.search(r"red/1\.png . red . [01]\.\d{3} . (blue|green) 0\.\d{3} ", result.text)
    accuracy = load(quick.saved).score(others)
    assert f"accuracy {accuracy:.3f} ({round(6 * accuracy)} of 6)" in result.text


def test_the_csv_holds_the_predictions_of_the_library_digit_for_digit(trained: SimpleNamespace, others: Path) -> None:
    file = others.parent / "predictions.csv"
    result = run("predict", trained.saved, others, "--csv", file)
    assert result.code == 0, result.text
    with open(file, newline="") as opened:
        header, *rows = csv.reader(opened)
    repurposer, folder = load(trained.saved), ImageFolderData(others)
    assert header == ["path", "label", "blue", "green", "red"]
    assert [row[0] for row in rows] == [str(path) for path in folder.paths]
    assert [row[1] for row in rows] == repurposer.predict_label(folder).tolist()
    assert np.array_equal(np.array([row[2:] for row in rows], dtype=float), repurposer.predict_probability(folder))


def test_predict_takes_a_flat_folder_and_a_single_image(quick: SimpleNamespace, others: Path) -> None:
    flat = run("predict", quick.saved, others / "green")
    single = run("predict", quick.saved, others / "green" / "0.png")
    assert (flat.code, single.code) == (0, 0)
    assert "0.png" in flat.text
    assert "1.png" in flat.text
    assert "accuracy" not in flat.text
    assert re.search(r"0\.png . green . [01]\.\d{3}", single.text)


def test_predict_counts_a_class_never_seen_as_wrong_and_says_so(
    quick: SimpleNamespace, others: Path, tmp_path: Path
) -> None:
    (tmp_path / "new" / "violet").mkdir(parents=True)
    (tmp_path / "new" / "red").mkdir()
    for name in ("violet", "red"):
        Image.open(others / "red" / "0.png").save(tmp_path / "new" / name / "0.png")
    result = run("predict", quick.saved, tmp_path / "new")
    assert "never seen in training, so counted as wrong: violet" in result.text
    assert "of 2), by the names of the sub-folders" in result.text


def test_train_takes_several_layers_by_name(photos: Path, tmp_path: Path) -> None:
    result = run(
        "train", photos, "--out", tmp_path / "saved", "--layer", "_bn0", "--layer", "_avg_pooling", "--holdout", 0
    )
    assert result.code == 0, result.text
    assert "features of _bn0, _avg_pooling" in result.text
    assert "the default" not in result.text
    assert "no held-out measurement: --holdout 0" in result.text
    assert load(tmp_path / "saved").feature_layer_names_ == ["_bn0", "_avg_pooling"]


@pytest.mark.parametrize(
    ("method", "head"),
    [("gp", "GpRepurposer"), ("svm", "SvmRepurposer"), ("laplace", "LaplaceRepurposer")],
)
def test_train_takes_every_head_and_predict_adds_what_is_asked(
    photos: Path, others: Path, tmp_path: Path, tiny: tuple[str, str], method: str, head: str
) -> None:
    result = run("train", photos, *tiny, "--out", tmp_path / "saved", "--method", method, "--holdout", 0)
    assert result.code == 0, result.text
    repurposer, folder, file = load(tmp_path / "saved"), ImageFolderData(others), tmp_path / "predictions.csv"
    assert type(repurposer).__name__ == head
    asked = ["--coverage", 0.8, "--p-values", "--abstain-below", 0.9]
    result = run("predict", tmp_path / "saved", others, *asked, "--csv", file)
    assert result.code == 0, result.text
    with open(file, newline="") as opened:
        header, *rows = csv.reader(opened)
    features = repurposer.get_features_from_source_model(folder)
    assert header == ["path", "label", "blue", "green", "red", "set (0.8)", "p-value"]
    assert [row[1] or None for row in rows] == repurposer.predict_label(features, abstain_below=0.9).tolist()
    assert [row[5].split(", ") for row in rows] == [labels.tolist() for labels in repurposer.predict_set(features, 0.8)]
    found = np.array([float(row[6]) for row in rows])
    assert np.allclose(found, repurposer.unfamiliarity_p_value(features), rtol=0.01)


def test_train_takes_a_bayesian_neural_network(photos: Path, tmp_path: Path, tiny: tuple[str, str]) -> None:
    result = run("train", photos, *tiny, "--out", tmp_path / "saved", "--method", "bnn", "--holdout", 0)
    assert result.code == 0, result.text
    assert type(load(tmp_path / "saved")).__name__ == "BnnRepurposer"


def test_images_without_a_likely_enough_class_get_no_answer_and_do_not_count(
    quick: SimpleNamespace, others: Path
) -> None:
    repurposer = load(quick.saved)
    sure = repurposer.predict_probability(others).max(axis=1)
    result = run("predict", quick.saved, others, "--abstain-below", (sure.min() + sure.max()) / 2)
    assert result.code == 0, result.text
    n_given = int((sure >= (sure.min() + sure.max()) / 2).sum())
    codes = repurposer.predict_probability(others).argmax(axis=1)[sure < (sure.min() + sure.max()) / 2]
    assert result.text.count("no answer") == 6 - n_given > 0
    for name in set(repurposer.classes_[codes]):  # the class whose probability stands beside
        assert result.text.count(f"no answer ({name})") == (repurposer.classes_[codes] == name).sum()
    assert f"{n_given} of 6 images have a likely enough class" in result.text
    assert f"of {n_given}), by the names of the sub-folders" in result.text
    assert "accuracy" not in run("predict", quick.saved, others, "--abstain-below", 1).text


def test_a_coverage_that_needs_more_images_is_told_without_a_line_of_code(quick: SimpleNamespace, others: Path) -> None:
    result = run("predict", quick.saved, others / "red" / "0.png", "--coverage", 0.99)
    assert result.code == 0, result.text
    assert "a coverage of 0.99 needs at least 99 rows to judge by, and there are 18: every set" in result.text
    assert "predict.py" not in result.text
    assert all(result.text.count(name) >= 2 for name in COLOURS)  # in the set, and among the likeliest


def test_layers_chosen_by_the_labels_are_named_and_saved(photos: Path, tmp_path: Path) -> None:
    result = run("train", photos, "--out", tmp_path / "saved", "--layer", "auto", "--holdout", 0.34)
    assert result.code == 0, result.text
    assert "efficientnet-lite0: features of layers over its depth, to choose from " in result.text
    assert "held-out 7 images" in result.text
    assert f"layers chosen: {', '.join(load(tmp_path / 'saved').feature_layer_names_)} " in result.text
    assert run("predict", tmp_path / "saved", photos / "red" / "0.png").code == 0


def test_a_coverage_that_cannot_be_is_refused_before_the_network_runs(others: Path, tmp_path: Path) -> None:
    result = run("predict", tmp_path / "nothing", others, "--coverage", 90)
    assert (result.code, result.text.strip()) == (
        2,
        "Error: --coverage must be above 0 and below 1, such as 0.9, got 90",
    )


def test_too_few_images_are_all_trained_on_with_the_reason_given(tmp_path: Path, tiny: tuple[str, str]) -> None:
    folder = write_images(tmp_path / "few", n_per_class=2, seed=2)
    result = run("train", folder, *tiny, "--out", tmp_path / "saved")
    assert result.code == 0, result.text
    assert re.search("no held-out measurement: too few images, 2 in class '(blue|green|red)' and 2 to", result.text)


def test_an_unreadable_image_is_named_and_can_be_skipped(tmp_path: Path, tiny: tuple[str, str]) -> None:
    folder = write_images(tmp_path / "few", n_per_class=2, seed=3)
    broken = folder / "green" / "broken.png"
    broken.write_bytes(b"no image")
    refused = run("train", folder, *tiny, "--out", tmp_path / "saved")
    assert refused.code == 1
    assert str(broken) in refused.text
    assert not (tmp_path / "saved").exists()
    skipped = run("train", folder, *tiny, "--out", tmp_path / "saved", "--on-error", "skip")
    assert skipped.code == 0, skipped.text
    assert skipped.text.count(f"{broken} cannot be read as an image") == 1
    assert "6 images of 3 classes" in skipped.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--source", "eficientnet-lite0"], "efficientnet-lite0"),
        (["--source", "torchvision/resnet5"], "resnet50"),
        (["--layer", "_avg_poling"], "_avg_pooling"),
        (["--layer", "auto", "--layer", "_fc"], "--layer auto chooses among all layers; leave it out, or --layer _fc"),
        (["--holdout", "1.5"], "--holdout must be a part between 0 and 1, got 1.5"),
    ],
)
def test_a_misspelt_option_is_one_message_that_names_what_was_meant(
    photos: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    result = run("train", photos, "--out", tmp_path / "saved", *options)
    assert result.code == 2
    assert words in result.text
    assert result.text.startswith("Error: ")
    assert "Traceback" not in result.text
    assert not (tmp_path / "saved").exists()


def test_a_missing_folder_is_named_and_debug_shows_where(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    result = run("train", missing, "--out", tmp_path / "saved")
    assert (result.code, result.text.strip()) == (1, f"Error: there is no folder {str(missing)!r}")
    assert isinstance(run("--debug", "train", missing, "--out", tmp_path / "saved").exception, FileNotFoundError)


def test_predict_without_a_saved_repurposer_is_a_clear_error(others: Path, tmp_path: Path) -> None:
    result = run("predict", tmp_path / "nothing", others)
    assert result.code == 1
    assert str(tmp_path / "nothing") in result.text


def test_a_folder_with_other_things_is_not_saved_to_and_that_is_said_at_once(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    result = run("train", photos, "--out", tmp_path)
    assert result.code == 1
    assert "holds other things (thesis.txt); give the path of a new directory" in result.text
    assert "features of" not in result.text


def test_a_folder_without_classes_cannot_be_trained_on(photos: Path, tmp_path: Path) -> None:
    result = run("train", photos / "red", "--out", tmp_path / "saved")
    assert result.code == 1
    assert "must have one sub-folder a class, at least two of them; it has images and no sub-folders" in result.text


def test_one_class_is_refused_before_the_network_runs(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "red").symlink_to(photos / "red")
    result = run("train", tmp_path, "--out", tmp_path / "saved")
    assert result.code == 1
    assert "at least two of them; it has only one, 'red'" in result.text
    assert "features of" not in result.text


def test_layers_lists_names_types_shapes_and_the_default() -> None:
    result = run("layers", "efficientnet-lite0")
    assert result.code == 0, result.text
    assert re.search(r"_avg_pooling . AdaptiveAvgPool2d . 1280 x 1 x 1 ", result.text)
    assert re.search(r"_fc . Linear . 1000 . 1,281,000 ", result.text)
    assert "train takes _avg_pooling where no --layer is given" in result.text


def test_demo_learns_digits_and_the_saved_repurposer_agrees(tmp_path: Path) -> None:
    result = run("demo", "--train", 40, "--test", 30, "--out", tmp_path / "digits")
    assert result.code == 0, result.text
    assert re.search(r"30 other digits: accuracy 0\.\d{3}, log loss \d\.\d{3}", result.text)
    assert "Confusion table" in result.text
    assert ", loaded again: the predictions agree exactly." in result.text
    assert "repurpose train PHOTOS" in result.text
    assert load(tmp_path / "digits").classes_.tolist() == list(range(10))


def test_demo_refuses_more_digits_than_there_are() -> None:
    result = run("demo", "--train", 1000, "--test", 1000)
    assert result.code == 2
    assert "there are 1797 digits: --train must be at most 797 beside --test 1000, got 1000" in result.text


def test_demo_predicts_as_many_digits_as_the_time_allows() -> None:
    assert _affordable(20, n_done=300, n_left=1497) == 400
    assert _affordable(1, n_done=300, n_left=1497) == 1497
    assert _affordable(60, n_done=300, n_left=1497) == 100


def test_version_is_that_of_the_installed_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: {"repurpose-torch": "1.2.3"}[name])
    result = run("--version")
    assert (result.code, result.text.strip()) == (0, "repurpose-torch 1.2.3")


def test_predict_shows_the_names_of_classes_and_knows_folders_by_names_and_by_labels(
    trained: SimpleNamespace, others: Path, tmp_path: Path
) -> None:
    named = load(trained.saved)
    named.classes_, named.class_names_ = np.arange(3), np.array(["blue jay", "green frog", "red fox"])
    named.save_repurposer(tmp_path / "named")
    folder = tmp_path / "photos"
    for old, new in [("blue", "blue jay"), ("green", "1"), ("red", "red fox")]:
        shutil.copytree(others / old, folder / new)
    result = run("predict", tmp_path / "named", folder, "--csv", tmp_path / "x.csv", "--coverage", 0.5)
    assert result.code == 0, result.text
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert list(rows[0])[2:5] == ["blue jay", "green frog", "red fox"]
    assert {row["label"] for row in rows} | {row["set (0.5)"] for row in rows} == set(named.class_names_)
    assert "accuracy 1.000 (6 of 6)" in result.text
    assert "never seen" not in result.text
    assert "blue jay" in run("predict", tmp_path / "named", folder / "blue jay" / "0.png").text
