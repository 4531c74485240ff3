"""Tables of images: read from CSV, and used by both commands."""

import csv
import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model_handler.sources import loading
from repurpose import LrRepurposer, load
from repurpose.cli.reading.table import read_table
from tests.model_handler.data.text.networks import reviews, text_source
from tests.repurpose.cli.commands import COLOURS, run


@pytest.fixture
def table(photos: Path, tmp_path: Path) -> Path:
    """Three images of each colour, mixed, beside the images: `files/...` and its label."""
    shutil.copytree(photos, tmp_path / "files")
    rows = [f"files/{name}/{number}.png,{name.title()}" for number in range(3) for name in COLOURS]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    return tmp_path / "labels.csv"


def test_a_table_trains_as_the_same_rows_do_in_python(table: Path, tmp_path: Path) -> None:
    result = run("train", "--table", table, "--source", "tiny/net", "--out", tmp_path / "saved", "--holdout", 0)
    assert result.code == 0, result.text
    assert "9 images of 3 classes: Blue (3), Green (3), Red (3)" in result.text
    frame = pd.read_csv(table)
    paths = str(tmp_path) + "/" + frame.path
    ours = LrRepurposer("tiny/net", random_state=0).repurpose((paths, frame.label))
    assert np.array_equal(load(tmp_path / "saved").predict_probability(paths), ours.predict_probability(paths))


def test_a_table_is_predicted_with_its_accuracy_and_its_own_paths(saved: Path, table: Path) -> None:
    table.write_text(table.read_text().lower() + "files/red/5.png,\n")
    result = run("predict", saved, "--table", table, "--csv", "-")
    assert result.code == 0, result.text
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["path"] for row in rows] == [row["path"] for row in csv.DictReader(io.StringIO(table.read_text()))]
    frame = pd.read_csv(table)[:9]
    right = (load(saved).predict_label([str(table.parent / path) for path in frame.path]) == frame.label).sum()
    assert f"accuracy {right / 9:.3f} ({right} of 9), by the labels of the table" in result.stderr


def test_labels_are_taken_at_prediction_only_where_there_are_any(saved: Path, table: Path) -> None:
    table.write_text("name;class\nfiles/red/0.png;red\n")
    unlabelled = run("predict", saved, "--table", table, "--path-column", "name")
    assert unlabelled.code == 0, unlabelled.text
    assert "accuracy" not in unlabelled.text
    named = run("predict", saved, "--table", table, "--path-column", "name", "--label-column", "class")
    assert "by the labels of the table" in named.text
    missing = run("predict", saved, "--table", table, "--path-column", "name", "--label-column", "label")
    assert missing.code == 1
    assert (
        "has no column 'label' (nearest: 'name'); its columns are name, class; name them by --input-column"
        in missing.text
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,class\na,b\n",
            r"no column 'path' \(nearest: 'file'\), nor 'label' .*; its columns are file, class; name them by input=",
        ),
        ("", "has no column 'path'"),
        ("path,label\n", "has no rows below its header"),
        ("path,label,path\na,b,c\n", "more than one column 'path'"),
        ("path,label\na,b\n\n,c\n", r"has 1 rows without a path \(line 4\)"),
        ("path,label\na,\nb\nc,d\n", r"has 2 rows without a label \(line 2, line 3\)"),
        ('path,label\n"a,b\n', "cannot be read as CSV"),
        ("path,label\ncaf\xe9,b\n".encode("latin-1"), "is not text in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, text: str | bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "t.csv", "path", None, labelled=True)


def test_tables_as_spreadsheets_write_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes('\ufeffpath;label\r\n"a;b.png";"red ""one"""\r\n/c/d.png; blue \r\n\r\n'.encode())
    table = read_table(tmp_path / "t.csv", "path", None, labelled=True)
    assert table.written == ["a;b.png", "/c/d.png"]
    assert table.files == [tmp_path / "a;b.png", Path("/c/d.png")]
    assert table.labels == ['red "one"', "blue"]


def test_missing_tables_images_and_classes_end_with_1(table: Path, tmp_path: Path) -> None:
    train = ["train", "--source", "tiny/net", "--out", tmp_path / "saved", "--table"]
    absent = run(*train, tmp_path / "none.csv")
    assert (absent.code, "there is no table" in absent.text) == (1, True)
    table.write_text("path,label\nfiles/red/0.png,red\nfiles/red/99.png,blue\n")
    gone = run(*train, table)
    assert (gone.code, "1 of 2 images are not there: files/red/99.png" in gone.text) == (1, True)
    alone = run(*train, table, "--on-error", "skip")
    assert alone.code == 1
    assert "at least two classes; it has only one, 'red'" in alone.text


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_texts_of_a_table_are_trained_on_and_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setitem(loading.LIBRARIES, "tinytext", lambda name, pretrained: replace(text_source(), name=None))
    texts, labels = reviews(24)
    frame, table = pd.DataFrame({"review": texts, "label": labels}), tmp_path / f"reviews.{suffix}"
    frame.to_csv(table, index=False) if suffix == "csv" else frame.to_parquet(table)
    saved = tmp_path / "saved"
    options = ["--source", "tinytext/bert", "--layer", "pooler.activation", "--table", table, "--out", saved]
    trained = run("train", *options, "--input-column", "review")
    assert trained.code == 0, trained.text
    assert "24 texts of 2 classes: pos (12), neg (12)" in trained.text
    assert "held-out 5 texts:" in trained.text
    assert "--table FILE" in trained.text
    predicted = run("predict", saved, "--table", table, "--input-column", "review", "--csv", "-")
    assert predicted.code == 0, predicted.text
    rows = list(csv.DictReader(io.StringIO(predicted.stdout)))
    assert [row["text"] for row in rows] == texts
    assert "accuracy 1.000 (24 of 24), by the labels of the table" in predicted.stderr
    frame[["review"]].to_csv(tmp_path / "pool.csv")
    pool = ["suggest", saved, "--table", tmp_path / "pool.csv", "--input-column", "review"]
    suggested = run(*pool, "-n", 2, "--csv", "-")
    assert suggested.code == 0, suggested.text
    assert {row["text"] for row in csv.DictReader(io.StringIO(suggested.stdout))} < set(texts)
    copied = run(*pool, "-n", 2, "--copy-to", tmp_path / "copies")
    assert (copied.code, "--copy-to copies images, and the pool has texts" in copied.text) == (2, True)
    as_images = run(
        "train", "--table", table, "--out", tmp_path / "images", "--source", "tiny/net", "--label-column", "l"
    )
    assert "--label-column and --group-column" in as_images.text
    unnamed = run("train", *options)
    assert (unnamed.code, "has no column 'text' (nearest: " in unnamed.text) == (1, True)
    alone = run("predict", saved, table)
    assert (alone.code, "was trained on texts: give a --table of them" in alone.text) == (2, True)
