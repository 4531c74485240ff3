"""`repurpose check` on tiny folders with planted mistakes, by a network that takes no time."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from repurpose import GpRepurposer, LrRepurposer
from tests.repurpose.cli.commands import run

TINY = ("--source", "tiny/net")


@pytest.fixture
def mixed_up(photos: Path, tmp_path: Path) -> Path:
    """The photos, with a red one among the blue and a green one among the red."""
    folder = tmp_path / "mixed up"
    shutil.copytree(photos, folder)
    (folder / "red" / "3.png").rename(folder / "blue" / "was red.png")
    (folder / "green" / "5.png").rename(folder / "red" / "was green.png")
    return folder


def test_images_in_the_wrong_folder_are_shown_with_the_right_one(mixed_up: Path) -> None:
    result = run("check", mixed_up, *TINY)
    assert result.code == 0, result.text
    lines = [line for line in result.stdout.splitlines() if ".png" in line]
    assert sorted(line.split("│")[1].strip() for line in lines[:2]) == [
        str(mixed_up / "blue" / "was red.png"),
        str(mixed_up / "red" / "was green.png"),
    ]
    found = {line.split("│")[1].strip().split("was ")[-1]: line.split("│")[2:4] for line in lines[:2]}
    assert [cell.strip() for cell in found["red.png"]] == ["blue", "red"]
    assert [cell.strip() for cell in found["green.png"]] == ["red", "green"]
    assert "of 24 images, each left out of the Gaussian process in closed form" in result.text
    assert "are expected to be right all the same" in result.text


@pytest.mark.parametrize(("method", "kind"), [("gp", GpRepurposer), ("lr", LrRepurposer)])
def test_json_is_the_table_of_find_label_errors(
    mixed_up: Path, method: str, kind: type[GpRepurposer | LrRepurposer]
) -> None:
    result = run("check", mixed_up, *TINY, "--method", method, "--json", "--seed", 3)
    assert result.code == 0, result.text
    written = json.loads(result.stdout)
    table = kind("tiny/net", random_state=3).repurpose(mixed_up).find_label_errors()
    files = sorted(mixed_up.rglob("*.png"))
    assert [row["path"] for row in written["rows"]] == [str(files[row]) for row in table["row"]]
    for column in ("given", "suggested", "probability", "estimated_false_alarms"):
        assert [row[column] for row in written["rows"]] == table[column].tolist()
    assert written["judged_by"] == table.attrs["judged_by"]
    assert written["not_judged"] == []


def test_csv_has_every_image_the_worst_first(mixed_up: Path, tmp_path: Path) -> None:
    result = run("check", mixed_up, *TINY, "--csv", tmp_path / "all.csv", "--top", 1)
    assert result.code == 0, result.text
    rows = list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text())))
    assert list(rows[0]) == ["path", "given", "suggested", "probability", "estimated_false_alarms"]
    assert len(rows) == 24
    assert {Path(row["path"]).name for row in rows[:2]} == {"was red.png", "was green.png"}
    assert f"24 rows written to {tmp_path / 'all.csv'}" in result.text
    assert len([line for line in result.stdout.splitlines() if ".png" in line]) == 1
    to_stdout = run("check", mixed_up, *TINY, "--csv", "-")
    assert list(csv.DictReader(io.StringIO(to_stdout.stdout))) == rows


def test_the_only_image_of_a_class_is_named_and_not_judged(mixed_up: Path) -> None:
    (mixed_up / "black").mkdir()
    (mixed_up / "red" / "0.png").rename(mixed_up / "black" / "0.png")
    result = run("check", mixed_up, *TINY, "--json")
    assert result.code == 0, result.text
    assert json.loads(result.stdout)["not_judged"] == [str(mixed_up / "black" / "0.png")]
    assert "cannot be judged" in result.stderr
    assert "(black)" in result.stderr


def test_a_table_may_have_groups_that_are_left_out_together(mixed_up: Path, tmp_path: Path) -> None:
    files = sorted(mixed_up.rglob("*.png"))
    lines = [f"{file},{file.parent.name},{number // 2}" for number, file in enumerate(files)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,scene", *lines]))
    given = ("check", "--table", tmp_path / "table.csv", *TINY, "--json")
    alone, grouped = (run(*given, *more) for more in ((), ("--group-column", "scene")))
    assert (alone.code, grouped.code) == (0, 0), grouped.text
    data = ([str(file) for file in files], [file.parent.name for file in files])
    groups = [number // 2 for number in range(24)]
    for result, of_rows in ((alone, None), (grouped, groups)):
        table = GpRepurposer("tiny/net", random_state=0).repurpose(data, groups=of_rows).find_label_errors()
        written = [row["probability"] for row in json.loads(result.stdout)["rows"]]
        assert written == pytest.approx(table["probability"].tolist())


def test_unreadable_images_may_be_skipped(mixed_up: Path) -> None:
    (mixed_up / "blue" / "0.png").write_bytes(b"no image")
    assert run("check", mixed_up, *TINY).code == 1
    result = run("check", mixed_up, *TINY, "--on-error", "skip", "--json")
    assert result.code == 0, result.text
    written = json.loads(result.stdout)["rows"]
    assert len(written) == 23
    assert {Path(row["path"]).name for row in written[:2]} == {"was red.png", "was green.png"}


def test_mistakes_of_use_end_with_2_and_data_that_cannot_be_judged_with_1(photos: Path, tmp_path: Path) -> None:
    assert run("check", *TINY).code == 2
    assert run("check", photos, *TINY, "--method", "knn").code == 2
    assert run("check", photos, *TINY, "--json", "--csv", "-").code == 2
    assert run("check", photos, *TINY, "--layer", "nothing").code == 2
    assert run("check", photos, *TINY, "--group-column", "scene").code == 2
    assert run("check", tmp_path / "absent", *TINY).code == 1
    for name in ("blue", "red"):
        (tmp_path / "few" / name).mkdir(parents=True)
        shutil.copy(photos / name / "0.png", tmp_path / "few" / name)
    result = run("check", tmp_path / "few", *TINY)
    assert result.code == 1
    assert (
        "no class has two examples, so that no label can be judged; give two images or more of a class" in result.text
    )
