"""`repurpose train`, on a network that takes no time."""

import re
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pytest

from repurpose import LrRepurposer, load
from tests.repurpose.cli.commands import COLOURS, run, write_image, write_images
from tests.repurpose.saved_files import plan_of

TINY = ("--source", "tiny/net")


def test_the_default_layer_is_that_of_the_library(saved: Path) -> None:
    repurposer = load(saved)
    assert (repurposer.feature_layer_names, repurposer.feature_layer_names_) == (None, ["pool"])


def test_a_network_without_a_default_names_the_option_and_the_command(photos: Path, tmp_path: Path) -> None:
    result = run("train", photos, "--source", "tiny/headless", "--out", tmp_path / "saved")
    assert result.code == 1
    assert "its last layers are ['conv', 'relu', 'pool', 'flat']" in result.text
    assert "--layer flat (`repurpose layers tiny/headless` lists all)" in result.text
    assert "feature_layer_names" not in result.text
    assert "train needs a --layer here" in run("layers", "tiny/headless").text


def test_a_second_training_says_that_it_replaced_the_first(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "my saved"
    first = run("train", photos, *TINY, "--out", out, "--holdout", 0)
    second = run("train", photos, *TINY, "--out", out, "--holdout", 0, "--method", "svm")
    following = f"; next: repurpose predict {quote(str(out))} FOLDER"
    assert f"saved to {out}{following}" in first.text
    assert f"saved to {out}, in place of the one that was there{following}" in second.text
    assert "'" in following
    assert type(load(out)).__name__ == "SvmRepurposer"


def test_one_file_is_written_where_the_name_says_so(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "saved.zip"
    first = run("train", photos, *TINY, "--out", out, "--holdout", 0)
    second = run("train", photos, *TINY, "--out", out, "--holdout", 0)
    assert f"saved to {out}; next: repurpose predict {out} FOLDER" in first.text
    assert f"saved to {out}, in place of the one that was there" in second.text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("saved")] == ["saved.zip"]
    predicted = run("predict", out, photos)
    assert (predicted.code, "accuracy" in predicted.text) == (0, True)
    out.write_text("something else")
    refused = run("train", photos, *TINY, "--out", out)
    assert (refused.code, "saved.zip is a link, or no saved repurposer" in refused.text) == (1, True)
    assert out.read_text() == "something else"


def test_a_class_of_one_image_does_not_end_the_measurement_of_the_others(photos: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    (tmp_path / "in").mkdir()
    for name in COLOURS:
        (tmp_path / "in" / name).symlink_to(photos / name)
    write_image(tmp_path / "in" / "violet" / "0.png", (150, 30, 200), rng)
    result = run("train", tmp_path / "in", *TINY, "--out", tmp_path / "saved")
    assert result.code == 0, result.text
    assert re.search(r"held-out 5 images: accuracy \d\.\d{3}, log loss \d\.\d{3}", result.text)  # a fifth of 24
    assert "not measured, as no images could be held out: violet (1)" in result.text
    assert load(tmp_path / "saved").classes_.tolist() == ["blue", "green", "red", "violet"]


@pytest.mark.parametrize("target", ["/proc/saved", "/dev/null", "file/saved"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    photos: Path, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("repurpose.load", None)
    monkeypatch.setattr("model_handler.ModelHandler.__init__", None)
    for command in (["train", photos, *TINY], ["demo"]):
        result = run(*command, "--out", tmp_path / target)  # an absolute target stands for itself
        assert result.code == 1
        assert str(tmp_path / target) in result.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--holdout", "1"], "--holdout must be a part between 0 and 1, got 1.0"),
        (["--layer", "conv", "--layer", "conv"], "--layer conv was given more than once"),
        (["--layer", "auto", "--layer", "a b"], "leave it out, or --layer 'a b'"),
        (["--layer", "poool"], "no layer is named 'poool'; nearest: ['pool'] all names: repurpose layers SOURCE"),
        (["--source", "tiny2/net"], "there is no source named 'tiny2/net'"),
        (["--source", "net.pt"], "weights of your own need Python"),
        (["--method", "lrr"], "'lr', 'gp', 'svm', 'laplace', 'bnn'"),
        (["--on-error", "ignore"], "'raise', 'skip'"),
        (["--batch-size", "0"], "--batch-size"),
        (["--seed", "-1"], "--seed"),
        (["--table", "labels.csv"], "give a folder of images, or a --table of them, not both"),
        (["--colour"], "--colour"),
    ],
)
def test_a_mistake_of_use_ends_with_2_and_speaks_of_options(
    photos: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    result = run("train", photos, *TINY, "--out", tmp_path / "saved", *options)
    assert result.code == 2
    assert words in re.sub(r" │ │ ", " ", result.text)
    assert not re.search(
        r"ModelHandler|feature_layer_names|load_state_dict|random_state|on_error|Traceback", result.text
    )
    assert not (tmp_path / "saved").exists()


def test_neither_a_folder_nor_a_table_is_a_mistake_of_use(tmp_path: Path) -> None:
    result = run("train", "--out", tmp_path / "saved")
    assert (result.code, result.text.strip()) == (2, "Error: give a folder of images, or a --table of them")


def test_a_file_in_place_of_a_folder_is_told_of_tables(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").touch()
    result = run("train", tmp_path / "labels.csv", "--out", tmp_path / "saved")
    assert result.code == 1
    assert "one sub-folder a class, or a table of images: --table FILE" in result.text


def test_methods_and_what_errors_do_are_shown_as_choices() -> None:
    text = run("train", "--help").text
    assert re.search(r"lr\W+gp\W+svm\W+laplace\W+bnn", text)
    assert re.search(r"raise\W+skip", text)


@pytest.mark.parametrize("at", ["reading", "training", "saving"])
def test_an_interruption_says_what_is_left_and_ends_with_130(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    where = {
        "reading": "model_handler.ModelHandler.extract",
        "training": "repurpose.LrRepurposer._train_model_from_features",
        "saving": "repurpose.persistence.saving.write_generation",
    }
    monkeypatch.setattr(where[at], interrupt)
    train = ["train", photos, *TINY, "--out", tmp_path / "saved", "--holdout", 0]
    result = run(*train)
    assert result.code == 130
    assert "Interrupted: nothing was saved" in result.stderr
    monkeypatch.undo()
    LrRepurposer("tiny/net", c=1.0).repurpose(str(photos)).save_repurposer(tmp_path / "saved")
    before = plan_of(tmp_path / "saved")
    monkeypatch.setattr(where[at], interrupt)
    result = run(*train)
    assert result.code == 130
    assert f"Interrupted: {tmp_path / 'saved'} is as it was before" in result.stderr
    assert plan_of(tmp_path / "saved") == before


def test_an_interruption_after_saving_says_that_it_is_saved(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("repurpose.cli.train._chosen_layers_text", interrupt)
    result = run("train", photos, *TINY, "--out", tmp_path / "saved", "--holdout", 0)
    assert (result.code, result.stderr.strip()) == (130, f"Interrupted: {tmp_path / 'saved'} is written, and whole")
    assert load(tmp_path / "saved").classes_.tolist() == list(COLOURS)


def test_unreadable_images_are_told_of_once(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in COLOURS:
        (tmp_path / "in" / name).symlink_to(photos / name)
    (tmp_path / "in" / "violet").mkdir()
    for number in range(2):
        (tmp_path / "in" / "violet" / f"broken{number}.png").write_bytes(b"no image")
    train = ["train", tmp_path / "in", *TINY, "--out", tmp_path / "saved", "--holdout", 0]
    refused = run(*train)
    assert refused.code == 1
    assert refused.text.strip().endswith("remove it, or leave such files out: --on-error skip")
    result = run(*train, "--on-error", "skip")
    assert result.code == 0, result.text
    assert result.text.count("violet/broken0.png cannot be read") == 1
    assert result.stderr.startswith("Warning: 2 of 26 images in")
    assert "image_folder.py" not in result.text


def test_one_image_a_class_warns_without_a_line_of_code_or_of_python(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name, colour in COLOURS.items():
        write_image(tmp_path / "in" / name / "0.png", colour, rng)
    train = ["train", tmp_path / "in", *TINY, "--out", tmp_path / "saved"]
    result = run(*train)
    assert result.code == 0, result.text
    assert result.stderr == (
        "Warning: no class has two examples, so that C cannot be chosen and falls back to c=1.0; give more examples of "
        "a class\n"
    )
    assert "--layer NAME instead of --layer auto" in run(*train, "--layer", "auto").stderr
    refused = run("predict", tmp_path / "saved", tmp_path / "in", "--coverage", 0.9)
    assert refused.code == 1
    assert "train again with two images or more of a class" in refused.text


def test_images_of_a_group_are_held_out_together(tmp_path: Path) -> None:
    write_images(tmp_path, n_per_class=8, seed=0)
    rows = [(f"{name}/{number}.png", name, f"{name} {number // 2}") for name in COLOURS for number in range(8)]
    table = tmp_path / "images.csv"
    table.write_text("\n".join(["path,label,camera", *map(",".join, rows), "red/gone.png,red,red 0"]))
    given = ("train", "--table", table, *TINY, "--out", tmp_path / "saved", "--on-error", "skip")
    result = run(*given, "--group-column", "camera")
    assert result.code == 0, result.text
    held, of_groups = map(int, re.search(r"held-out (\d+) images of (\d+) groups:", result.text).groups())  # type: ignore[union-attr]
    assert held == 2 * of_groups
    groups = load(tmp_path / "saved").training_groups_
    assert groups.tolist() == np.repeat(np.arange(4 * len(COLOURS)), 2).tolist()
    assert "nearest" in run(*given, "--group-column", "camra").text
    table.write_text(table.read_text().replace("red 1", ""))
    assert "2 of 24 rows have no group" in run(*given, "--group-column", "camera").text
    folder = run("train", tmp_path / "in", *TINY, "--out", tmp_path / "other", "--group-column", "camera")
    assert folder.code != 0
