"""`repurpose suggest` on tiny folders, with a network that takes no time."""

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
