"""`repurpose train` with images of a neighbouring domain, on a network that takes no time."""

import re
from pathlib import Path
from shutil import copyfile

import numpy as np
import pytest

from repurpose import load
from repurpose.cli import methods
from repurpose.cli.methods import Method
from repurpose.domain import (
    CoralRepurposer,
    DomainRepurposer,
    ImportanceWeightedRepurposer,
    SubspaceAlignmentRepurposer,
    TcaRepurposer,
    TrAdaBoostRepurposer,
)
from tests.repurpose.cli.commands import COLOURS, run, write_images

TINY = ("--source", "tiny/net")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five labelled images of each colour: the neighbouring domain."""
    return write_images(tmp_path_factory.mktemp("domains") / "catalogue", n_per_class=5, seed=7)


@pytest.fixture(scope="module")
def flat(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos in one folder, their labels gone."""
    folder = tmp_path_factory.mktemp("flat") / "new"
    folder.mkdir()
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        copyfile(path, folder / f"{number}.png")
    return folder


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_handler.ModelHandler.extract", None)


@pytest.mark.parametrize(
    ("method", "cls", "its_own"),
    [
        ("pooled", DomainRepurposer, None),
        ("coral", CoralRepurposer, None),
        ("subspace", SubspaceAlignmentRepurposer, None),
        ("tca", TcaRepurposer, None),
        ("kmm", ImportanceWeightedRepurposer, "kmm"),
        ("kliep", ImportanceWeightedRepurposer, "kliep"),
        ("classifier", ImportanceWeightedRepurposer, "classifier"),
    ],
)
def test_a_folder_without_labels_learns_from_a_labelled_one_by_each_method(
    photos: Path, flat: Path, catalogue: Path, tmp_path: Path, method: str, cls: type, its_own: str | None
) -> None:
    out = tmp_path / "saved"
    result = run("train", flat, "--source-data", catalogue, *TINY, "--method", method, "--out", out)
    assert result.code == 0, result.text
    assert (
        "target: 24 images without labels source: 15 images of 3 classes: blue (5), green (5), red (5)" in result.text
    )
    assert "no held-out measurement: no image has a label" in result.text
    assert re.search(r"C = \S+ chosen by cross-validation, trained on all 39 images", result.text)
    repurposer = load(out)
    assert (type(repurposer), getattr(repurposer, "method", None)) == (cls, its_own)
    assert repurposer.source_domains_ == {"source": 15}
    assert "accuracy 1.000 (24 of 24)" in run("predict", out, photos).text


def test_tradaboost_learns_where_the_target_has_labels(
    photos: Path, catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(methods._OF_TWO_DOMAINS, Method.TRADABOOST, ("TrAdaBoostRepurposer", {"n_rounds": 2}))
    train = ["train", photos, "--source-data", catalogue, *TINY, "--method", "tradaboost", "--holdout", 0]
    result = run(*train, "--out", tmp_path / "saved")
    assert result.code == 0, result.text
    assert "no held-out measurement: --holdout 0 trained on all 39 images" in result.text
    repurposer = load(tmp_path / "saved")
    assert (type(repurposer), repurposer.n_target_labels_) == (TrAdaBoostRepurposer, 24)


def test_the_head_of_a_method_is_chosen(photos: Path, catalogue: Path, tmp_path: Path) -> None:
    train = ["train", photos, "--source-data", catalogue, *TINY, "--method", "coral", "--head", "laplace"]
    result = run(*train, "--out", tmp_path / "saved")
    assert re.search(r"held-out 5 images: accuracy \d\.\d{3}, log loss \d\.\d{3}", result.text)  # a fifth of the target
    assert load(tmp_path / "saved").head == "laplace"


def test_a_table_may_leave_labels_out_and_another_be_the_source(photos: Path, catalogue: Path, tmp_path: Path) -> None:
    files = {"target": sorted(photos.rglob("*.png")), "source": sorted(catalogue.rglob("*.png"))}
    for name, paths in files.items():
        labels = ["" if name == "target" and path.stem in "123" else path.parent.name for path in paths]
        rows = [f"{path},{label}" for path, label in zip(paths, labels)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label", *rows]))
    train = ["train", "--table", tmp_path / "target.csv", "--source-data", tmp_path / "source.csv", *TINY]
    result = run(*train, "--method", "pooled", "--out", tmp_path / "saved")
    assert result.code == 0, result.text
    assert "target: 24 images, 15 of them labelled, of 3 classes: blue (5), green (5), red (5)" in result.text
    assert "held-out 3 images" in result.text  # a fifth of those with a label
    repurposer = load(tmp_path / "saved")
    assert (repurposer.n_target_rows_, repurposer.n_target_labels_) == (24, 15)


def test_several_source_domains_have_names(flat: Path, catalogue: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "saved"
    train = ["train", flat, *TINY, "--method", "coral", "--out", out, "--source-data", catalogue]
    result = run(*train, "--source-data", f"last year={photos}")
    assert result.code == 0, result.text
    assert load(out).source_domains_ == {"catalogue": 15, "last year": 24}
    twice = run(*train, "--source-data", catalogue)
    assert (twice.code, "need names that differ, none of them 'target', got catalogue, catalogue" in twice.text) == (
        2,
        True,
    )


def test_a_path_with_an_equals_sign_is_a_path(flat: Path, catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "size=24").symlink_to(catalogue)
    train = ["train", flat, *TINY, "--method", "pooled", "--out", tmp_path / "saved"]
    assert run(*train, "--source-data", tmp_path / "size=24").code == 0
    assert load(tmp_path / "saved").source_domains_ == {"source": 15}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "coral"], "--method coral needs --source-data FOLDER"),
        (["--method", "coral", "--head", "gp"], "--method gp learns from the target alone"),
        (["--source-data", "x"], "--method lr learns from one folder and takes no --source-data"),
        (
            ["--source-data", "x", "--method", "gp"],
            "coral, subspace, tca, kmm, kliep, classifier, tradaboost (--head gp)",
        ),
        (["--head", "gp"], "--head is for methods with --source-data; without any, give --method gp"),
        (["--source-data", "x", "--method", "tca", "--layer", "auto"], "leave it out, or give --layer NAME"),
        (["--source-data", "target=x", "--method", "tca"], "none of them 'target', got target"),
        (["--source-data", "x", "--method", "dann"], "'kmm', 'kliep', 'classifier', 'tradaboost'"),
    ],
)
def test_options_that_do_not_go_together_end_with_2(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    no_network(monkeypatch)
    result = run("train", photos, *TINY, "--out", tmp_path / "saved", *options)
    assert (result.code, words in re.sub(r" │ │ ", " ", result.text)) == (2, True), result.text


def test_domains_that_cannot_be_learned_from_are_refused_before_the_network_runs(
    photos: Path, flat: Path, catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_network(monkeypatch)
    other = write_images(tmp_path / "other", n_per_class=1, seed=0)
    for name in COLOURS:
        (other / name).rename(other / f"dark {name}")
    (tmp_path / "one" / "red").mkdir(parents=True)
    (tmp_path / "one" / "red" / "0.png").symlink_to(flat / "0.png")
    cases = [
        (flat, catalogue, "tradaboost", "--method tradaboost needs labels in the target"),
        (
            flat,
            flat,
            "coral",
            "must have one sub-folder a class, at least two of them; it has images and no sub-folders",
        ),
        (flat, tmp_path / "gone", "coral", "there is no folder"),
        (tmp_path / "gone", catalogue, "coral", "there is no folder"),
        (photos, other, "coral", "the source has 'dark blue', 'dark green', 'dark red', the target 'blue', 'green'"),
        (tmp_path / "one", catalogue, "coral", "the labels hold 1 class: 'red'"),
    ]
    for target, source, method, words in cases:
        result = run("train", target, "--source-data", source, *TINY, "--method", method, "--out", tmp_path / "saved")
        assert (result.code, words in result.text) == (1, True), result.text
        assert not (tmp_path / "saved").exists()


def test_source_images_of_other_classes_are_left_out_and_told_of_once(
    photos: Path, catalogue: Path, tmp_path: Path
) -> None:
    (tmp_path / "two").mkdir()
    for name in ("blue", "red"):
        (tmp_path / "two" / name).symlink_to(photos / name)
    train = ["train", tmp_path / "two", "--source-data", catalogue, *TINY, "--method", "coral"]
    result = run(*train, "--out", tmp_path / "saved")
    assert "held-out 4 images" in result.text
    assert result.stderr.count("5 of 15 source rows are left out") == 1
    assert load(tmp_path / "saved").classes_.tolist() == ["blue", "red"]


def test_unreadable_images_of_either_domain_can_be_skipped(flat: Path, catalogue: Path, tmp_path: Path) -> None:
    for name, folder in (("target", flat), ("source", catalogue)):
        (tmp_path / name).mkdir()
        for path in folder.iterdir():
            (tmp_path / name / path.name).symlink_to(path)
    (tmp_path / "target" / "broken.png").write_bytes(b"no image")
    (tmp_path / "source" / "violet").mkdir()
    (tmp_path / "source" / "violet" / "broken.png").write_bytes(b"no image")
    train = ["train", tmp_path / "target", "--source-data", tmp_path / "source", *TINY, "--method", "coral"]
    train += ["--out", tmp_path / "saved"]
    assert "remove it, or leave such files out: --on-error skip" in run(*train).text
    result = run(*train, "--on-error", "skip")
    assert result.code == 0, result.text
    assert "target: 24 images without labels\nsource: 15 images of 3 classes" in result.stdout
    assert np.array_equal(load(tmp_path / "saved").classes_, [*COLOURS])
