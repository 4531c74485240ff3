"""CSV files are read as spreadsheets write them; what is wrong with one is said by line."""

import csv
from pathlib import Path

import pytest

from model_handler import TableData


def texts_of(file: Path, content: str | bytes, **options: str) -> list[str]:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return TableData(file, input="text", **options).texts()


@pytest.mark.parametrize(
    "content",
    [
        'text,label\n"a, b",x\n"two\nlines",y\n',
        '\ufefftext;label\r\na, b;x\r\n"two\nlines";y\r\n',
        'label\ttext\nx\ta, b\n\ny\t"two\nlines"\n',
    ],
)
def test_separators_and_marks_of_spreadsheets_are_known(tmp_path: Path, content: str) -> None:
    assert texts_of(tmp_path / "t.csv", content) == ["a, b", "two\nlines"]
    assert TableData(tmp_path / "t.csv", input="text", label="label").labels.tolist() == ["x", "y"]


def test_empty_cells_are_empty_texts_and_no_labels(tmp_path: Path) -> None:
    assert texts_of(tmp_path / "t.csv", 'text,label\n"",1\n NaN ,2\n') == ["", " NaN "]
    (tmp_path / "t.csv").write_text("text,label\na,1\nb,\n\nc\n")
    with pytest.raises(ValueError, match=r"has 2 rows without a label \(line 3, line 5\)"):
        TableData(tmp_path / "t.csv", input="text", label="label")


def test_a_text_of_a_hundred_thousand_words_is_a_cell_and_the_limit_is_left_as_it_was(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    assert len(texts_of(tmp_path / "t.csv", f"text\n{'word ' * 100_000}\n")[0]) == 500_000
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_refused_unless_named(tmp_path: Path, encoding: str) -> None:
    content = "text\ncaf\xe9\n".encode(encoding)
    with pytest.raises(ValueError, match=rf"is not text in UTF-8; save it .*, or give .*encoding='{encoding}'"):
        texts_of(tmp_path / "t.csv", content)
    assert texts_of(tmp_path / "t.csv", content, encoding=encoding) == ["caf\xe9"]
    with pytest.raises(ValueError, match="there is no encoding 'latin1x'"):
        texts_of(tmp_path / "t.csv", content, encoding="latin1x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"has no column 'text'; it has no columns"),
        ("text,label\n", "has no rows below its header"),
        ("text,text\na,b\n", "more than one column 'text'; its columns are text, text"),
        (
            "text,label\ngood, but long,x\n",
            "1 rows with more cells than its 2 columns, the first at line 2",
        ),
        ('text\n"a\n', "cannot be read as CSV"),
        ("text,label\na,x\n\n", None),
        ("text,label\na,x,,\n", None),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, content: str, message: str | None) -> None:
    if message is None:
        assert texts_of(tmp_path / "t.csv", content) == ["a"]
        return
    with pytest.raises(ValueError, match=message):
        texts_of(tmp_path / "t.csv", content)
