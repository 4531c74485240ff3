"""`repurpose suggest` on tiny folders, with a network that takes no time."""

import csv
import json
from pathlib import Path

import pytest

from repurpose import load
from tests.repurpose.cli.commands import run, write_images


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of each of three colours, in sub-folders that say nothing of their labels to the command."""
    return write_images(tmp_path_factory.mktemp("pool"), n_per_class=4, seed=1)


def test_the_images_suggested_are_shown_and_copied_in_their_order(saved: Path, pool: Path, tmp_path: Path) -> None:
    target = tmp_path / "to-label"
    result = run("suggest", saved, pool, "-n", 3, "--copy-to", target)
    assert result.code == 0, result.text
    files = sorted(pool.rglob("*.png"))
    expected = [files[position] for position in load(saved).suggest_labels(files, 3)["position"]]
    copies = sorted(target.iterdir())
    assert [copy.name for copy in copies] == [f"{rank}-{file.name}" for rank, file in enumerate(expected, start=1)]
    assert [copy.read_bytes() for copy in copies] == [file.read_bytes() for file in expected]
    assert all(str(file) in result.text for file in expected)
    assert "over the 12 images a log loss of" in result.text


def test_a_directory_with_files_is_left_alone(saved: Path, pool: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = run("suggest", saved, pool, "-n", 3, "--copy-to", tmp_path)
    assert result.code == 1
    assert "is not empty; give a new or empty directory" in result.text
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_more_than_there_are_cannot_be_suggested(saved: Path, pool: Path) -> None:
    result = run("suggest", saved, pool, "-n", 13)
    assert result.code == 1
    assert "the pool has only 12 rows" in result.text


def test_a_method_that_is_for_another_head_is_refused(saved: Path, pool: Path) -> None:
    result = run("suggest", saved, pool, "-n", 2, "--method", "epig")
    assert result.code == 1
    assert "method 'epig' needs the Gaussian process of a GpRepurposer" in result.text


def write_table(file: Path, rows: list[tuple[object, ...]], *columns: str) -> Path:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([columns, *rows])
    return file


def test_rows_of_a_table_that_have_a_label_are_not_suggested(saved: Path, pool: Path, tmp_path: Path) -> None:
    files = sorted(pool.rglob("*.png"))
    rows = [(file, file.parent.name if number % 3 else "") for number, file in enumerate(files)]
    table = write_table(tmp_path / "pool.csv", rows, "path", "label")
    result = run("suggest", saved, "--table", table, "-n", 4, "--csv", tmp_path / "out.csv")
    assert result.code == 0, result.text
    assert "over the 4 images" in result.text
    with (tmp_path / "out.csv").open(newline="") as opened:
        written = list(csv.DictReader(opened))
    assert {row["path"] for row in written} == {str(file) for file in files[::3]}
    assert list(written[0]) == ["path", "position", "score", "label", "nearest"]


def test_json_has_what_python_says(saved: Path, pool: Path) -> None:
    result = run("suggest", saved, pool, "-n", 3, "--json")
    assert result.code == 0, result.text
    told, files = json.loads(result.stdout), sorted(pool.rglob("*.png"))
    expected = load(saved).suggest_labels(files, 3)
    assert [row["path"] for row in told["rows"]] == [str(files[position]) for position in expected["position"]]
    assert told["n_rows"] == 12
    assert told["expected_log_loss"] == pytest.approx(expected.attrs["expected_log_loss"])


def test_a_file_of_features_is_a_pool_too(saved: Path, pool: Path, tmp_path: Path) -> None:
    head, files = load(saved), sorted(pool.rglob("*.png"))
    head.get_features_from_source_model(files).save(tmp_path / "pool.safetensors")
    result = run("suggest", saved, tmp_path / "pool.safetensors", "-n", 3, "--json")
    assert result.code == 0, result.text
    positions = [row["row"] for row in json.loads(result.stdout)["rows"]]
    assert positions == list(head.suggest_labels(files, 3)["position"])
    refused = run("suggest", saved, tmp_path / "pool.safetensors", "-n", 3, "--copy-to", tmp_path / "copies")
    assert refused.code == 2
    assert "--copy-to copies images, and the pool has rows" in refused.text
    assert not (tmp_path / "copies").exists()


def test_what_came_of_the_last_labels_is_told_beside_what_was_expected(
    saved: Path, photos: Path, pool: Path, tmp_path: Path
) -> None:
    trained = run("train", photos, "--source", "tiny/net", "--method", "gp", "--out", tmp_path / "gp", "--holdout", 0)
    assert trained.code == 0, trained.text
    first = run("suggest", tmp_path / "gp", pool, "-n", 3, "--json")
    (tmp_path / "first.json").write_text(first.stdout)
    told = json.loads(first.stdout)
    table = write_table(
        tmp_path / "left.csv",
        [(file,) for file in set(pool.rglob("*.png")) - {Path(row["path"]) for row in told["rows"]}],
        "path",
    )
    # The same model asked again, so that nothing came but rounding.
    again = run("suggest", tmp_path / "gp", "--table", table, "-n", 3, "--since", tmp_path / "first.json")
    assert again.code == 0, again.text
    was = f"{told['expected_drop']:.4f} ± {told['expected_drop_error']:.4f} was expected, and "
    assert was + "0.0000 came" in again.text.replace("-0.0000", "0.0000")
    assert "Warning" not in again.text
    whole = run("suggest", tmp_path / "gp", pool, "-n", 3, "--since", tmp_path / "first.json")
    assert "of that pool 9 images would be left, and this one has 12" in whole.text


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--table", "a.csv", "POOL"], 2, "give a pool of images, or a --table of them, not both"),
        ([], 2, "give a pool of images, or a --table of them"),
        (["POOL", "--json", "--csv", "-"], 2, "both write to standard output"),
        (["POOL", "-n", "0"], 2, "greater than or equal to 1"),
        (["POOL", "--method", "typical"], 2, "typicality"),
        (["POOL", "--since", "POOL/blue/0.png"], 1, "is not what `repurpose suggest --json` wrote"),
        (["nowhere"], 1, "there is no file or folder 'nowhere'"),
    ],
)
def test_what_cannot_be_is_refused(saved: Path, pool: Path, options: list[str], code: int, message: str) -> None:
    result = run("suggest", saved, *(option.replace("POOL", str(pool)) for option in options))
    assert (result.code, message in result.text) == (code, True), result.text
