from pathlib import Path

import pytest

from repurpose.persistence.container.directory import check_parents, refuse_other_contents


def ours(name: str) -> bool:
    return name in ("plan", "data")


def are_saved(names: set[str]) -> bool:
    return "plan" in names


def test_free_paths_empty_directories_and_saved_ones_are_taken(tmp_path: Path) -> None:
    refuse_other_contents(tmp_path / "new", are_saved, ours)
    refuse_other_contents(tmp_path, are_saved, ours)
    for name in ("plan", "data"):
        (tmp_path / name).touch()
    refuse_other_contents(tmp_path, are_saved, ours)


def test_files_links_and_other_peoples_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    (tmp_path / "mixed").mkdir()
    for name in ("plan", "notes.txt"):
        (tmp_path / "mixed" / name).touch()
    for name, message in (
        ("file", "not a directory"),
        ("link", "not a directory"),
        ("other", r"holds other things \(notes\.txt\)"),
        ("mixed", r"other files besides \(notes\.txt\)"),
    ):
        with pytest.raises(FileExistsError, match=message):
            refuse_other_contents(tmp_path / name, are_saved, ours)


def test_whether_a_folder_takes_files_is_tried_and_leaves_nothing(tmp_path: Path) -> None:
    check_parents(tmp_path / "new" / "deeper")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is not a directory"):
        check_parents(tmp_path / "file" / "x")
    with pytest.raises(OSError, match="/proc does not take new files"):  # `os.access` says yes to root
        check_parents("/proc/x")
    with pytest.raises(OSError, match=r"nothing can be written to .*name too long"):  # the name that writing would make
        check_parents(tmp_path / ("n" * 240))
