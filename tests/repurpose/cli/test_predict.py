"""`repurpose predict`, on a network that takes no time."""

import csv
import io
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repurpose import NeuralNetworkFineTuneRepurposer, load
from repurpose.cli import predict as command
from tests.repurpose.cli.commands import COLOURS, run


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_standard_output_holds_the_csv_and_nothing_else(saved: Path, photos: Path) -> None:
    result = run("predict", saved, photos, "--csv", "-", "--abstain-below", 0.9, "--coverage", 0.99)
    assert result.code == 0, result.text
    rows = rows_of(result.stdout)
    repurposer = load(saved)
    assert list(rows[0]) == ["path", "label", "blue", "green", "red", "set (0.99)"]
    assert [row["label"] or None for row in rows] == repurposer.predict_label(photos, abstain_below=0.9).tolist()
    assert "accuracy" in result.stderr
    assert "Warning: a coverage of 0.99 needs at least 99 rows" in result.stderr
    assert "Ask for at most --coverage 0.960, or train with more images" in result.stderr


def test_several_images_keep_their_order_and_names(saved: Path, photos: Path) -> None:
    files = [photos / "red" / "1.png", photos / "blue" / "0.png"]
    rows = rows_of(run("predict", saved, *files, "--csv", "-").stdout)
    assert [row["path"] for row in rows] == [str(file) for file in files]
    found = np.array([[row[name] for name in COLOURS] for row in rows], dtype=float)
    assert np.array_equal(found, load(saved).predict_probability(files))


def test_a_folder_beside_other_things_and_images_beside_a_table_are_mistakes_of_use(saved: Path, photos: Path) -> None:
    beside = run("predict", saved, photos / "red", photos / "red" / "0.png")
    assert (beside.code, "give one folder, or any number of images" in beside.text) == (2, True)
    both = run("predict", saved, photos, "--table", "labels.csv")
    assert (both.code, both.text.strip()) == (2, "Error: give images, or a --table of them, not both")
    assert run("predict", saved).code == 2


def test_missing_and_unreadable_images_of_a_list_are_named_and_can_be_skipped(
    saved: Path, photos: Path, tmp_path: Path
) -> None:
    good, missing, broken = photos / "red" / "0.png", tmp_path / "missing.png", tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    refused = run("predict", saved, missing)
    assert (refused.code, refused.text.strip()) == (1, f"Error: there is no file or folder {str(missing)!r}")
    refused = run("predict", saved, good, missing)
    assert (refused.code, f"1 of 2 images are not there: {missing}" in refused.text) == (1, True)
    refused = run("predict", saved, good, broken)
    assert (refused.code, refused.text.strip().endswith("; leave it out: --on-error skip")) == (1, True)
    result = run("predict", saved, broken, good, missing, "--csv", "-", "--on-error", "skip")
    assert [row["path"] for row in rows_of(result.stdout)] == [str(good)]
    assert result.stderr.startswith("Warning: 2 of 3 images were skipped:")
    assert result.stderr.count("cannot be read as an image") == 2
    none = run("predict", saved, broken, "--on-error", "skip")
    assert (none.code, "none of the 1 images can be read" in none.text) == (1, True)


def test_folders_that_are_no_classes_do_not_count_as_wrong_answers(saved: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "2024").symlink_to(photos / "red")
    result = run("predict", saved, tmp_path)
    assert result.code == 0, result.text
    assert "accuracy 0" not in result.text
    assert "no accuracy: the names of the sub-folders are no classes of the training: 2024" in result.text


def test_what_is_piped_is_neither_cut_nor_folded(saved: Path, photos: Path, tmp_path: Path) -> None:
    long = tmp_path / ("a" * 100) / ("b c" * 40)
    long.mkdir(parents=True)
    (long / "0.png").symlink_to(photos / "red" / "0.png")
    result = run("predict", saved, long / "0.png")
    assert f" {long / '0.png'} " in result.stdout
    assert len(result.stdout.splitlines()) == 5  # a frame, titles, a rule, the row and the frame


@pytest.mark.parametrize("target", ["/proc/x.csv", "/proc", "file/x.csv"])
def test_a_csv_that_cannot_be_written_is_refused_before_anything_is_loaded(
    photos: Path, tmp_path: Path, target: str
) -> None:
    (tmp_path / "file").touch()
    result = run("predict", tmp_path / "nothing", photos, "--csv", tmp_path / target)
    assert result.code == 1
    assert str(tmp_path / target) in result.text
    assert "no saved repurposer" not in result.text


def test_a_csv_goes_through_links_and_pipes_and_replaces_as_a_whole(
    saved: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, real, link = photos / "red" / "0.png", tmp_path / "real.csv", tmp_path / "link.csv"
    link.symlink_to(real)
    real.write_text("old")
    before = os.umask(0o022)
    try:
        result = run("predict", saved, image, "--csv", link)
    finally:
        os.umask(before)
    assert f"1 predictions written to {link}" in result.text
    assert link.is_symlink()
    assert len(rows_of(real.read_text())) == 1
    assert stat.S_IMODE(real.stat().st_mode) == 0o644
    assert run("predict", saved, image, "--csv", "/dev/null").code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    kept = real.read_bytes()

    def fail(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fail)  # when it is half done
    result = run("predict", saved, image, "--csv", real)
    assert (result.code, result.stderr.strip()) == (130, f"Interrupted: {real} is as it was before")
    assert real.read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.csv", "real.csv"]


def test_a_name_that_is_no_text_is_shown_and_comes_back_as_it_is(saved: Path, photos: Path, tmp_path: Path) -> None:
    name = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.png")
    Path(name).symlink_to(photos / "red" / "0.png")
    assert "caf?.png" in run("predict", saved, name).text
    assert run("predict", saved, tmp_path, "--csv", tmp_path / "out.csv").code == 0
    assert b"/caf\xe9.png,red," in (tmp_path / "out.csv").read_bytes()


def test_classes_called_as_other_columns_are_told_apart(photos: Path, tmp_path: Path) -> None:
    names = ["path", "label", "p-value", "set (0.8)", "probability (path)", "plain"]
    for number, name in enumerate(names):
        (tmp_path / "in" / name).mkdir(parents=True)
        for image in range(4):
            colour = list(COLOURS)[number % 3]
            (tmp_path / "in" / name / f"{image}.png").symlink_to(photos / colour / f"{image}.png")
    quick = ["--source", "tiny/net", "--method", "svm", "--holdout", 0]
    trained = run("train", tmp_path / "in", *quick, "--out", tmp_path / "saved")
    assert trained.code == 0, trained.text
    rows = rows_of(
        run("predict", tmp_path / "saved", tmp_path / "in", "--csv", "-", "--coverage", 0.8, "--p-values").stdout
    )
    repurposer = load(tmp_path / "saved")
    assert list(rows[0]) == [
        "path",
        "label",
        "probability (label)",
        "probability (p-value)",
        "probability (probability (path))",
        "plain",
        "probability (path)",  # a class of its own
        "probability (set (0.8))",
        "set (0.8)",
        "p-value",
    ]
    assert [row["label"] for row in rows] == repurposer.predict_label(str(tmp_path / "in")).tolist()
    label_column = repurposer.classes_.tolist().index("label")
    expected = repurposer.predict_probability(str(tmp_path / "in"))[:, label_column]
    assert [float(row["probability (label)"]) for row in rows] == expected.tolist()


def test_a_fine_tuned_network_predicts_too(photos: Path, tmp_path: Path) -> None:
    tuned = NeuralNetworkFineTuneRepurposer("tiny/net", "pool", num_epochs=1, random_state=0)
    tuned.repurpose(str(photos)).save_repurposer(tmp_path / "tuned")
    result = run("predict", tmp_path / "tuned", photos, "--csv", "-")
    assert result.code == 0, result.text
    assert [row["label"] for row in rows_of(result.stdout)] == tuned.predict_label(str(photos)).tolist()


def test_what_only_python_can_load_says_so(photos: Path, tmp_path: Path) -> None:
    from model_handler import load_source
    from repurpose import LrRepurposer

    source = load_source("tiny/net")
    LrRepurposer(source, c=1.0).repurpose(str(photos)).save_repurposer(tmp_path / "saved")
    result = run("predict", tmp_path / "saved", photos)
    assert result.code == 1
    assert "it cannot be used on the command line; use it in Python, by repurpose.load" in result.text
    assert "source_model=" not in result.text


def test_what_is_encrypted_says_that_python_can_load_it(saved: Path, photos: Path, tmp_path: Path) -> None:
    load(saved).save_repurposer(tmp_path / "sealed.zip", encryption_key=bytes(32))
    result = run("predict", tmp_path / "sealed.zip", photos)
    assert (result.code, "sealed.zip is encrypted with the key" in result.text) == (1, True)
    assert "use it in Python, by repurpose.load" in result.text
    assert "encryption_key" not in result.text


def test_weights_are_fetched_only_where_that_is_asked_for(
    saved: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repurpose.source.missing_weights", lambda name: f"a file of {name}")
    result = run("predict", saved, photos)
    assert result.code == 1
    assert "not on this machine, and nothing was fetched" in " ".join(result.text.split())
    assert "repurpose predict --download fetches them" in " ".join(result.text.split())
    assert "load(path" not in result.text
    assert run("predict", saved, photos, "--download").code == 0


def test_an_interruption_says_that_nothing_was_saved_where_nothing_was_to_be(
    saved: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_predict", interrupt)
    result = run("predict", saved, photos)
    assert (result.code, result.stderr.strip()) == (130, "Interrupted: nothing was saved")
