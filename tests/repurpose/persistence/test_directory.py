from pathlib import Path

import pytest

from repurpose.persistence.directory import check_parents, refuse_other_contents, replace_directory


def ours(name: str) -> bool:
    return name in ("plan", "data")


def put(path: Path, text: str) -> None:
    def write(folder: Path) -> None:
        (folder / "data").write_text(text)
        (folder / "plan").touch()

    replace_directory(path, write, marker="plan", may_hold=ours)


def test_parents_are_made_and_nothing_else_is_left_behind(tmp_path: Path) -> None:
    put(tmp_path / "a" / "b", "one")
    assert (tmp_path / "a" / "b" / "data").read_text() == "one"
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["b"]


def test_an_empty_directory_and_an_older_one_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    put(tmp_path / "a", "one")
    put(tmp_path / "a", "two")
    assert (tmp_path / "a" / "data").read_text() == "two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_the_old_directory(tmp_path: Path) -> None:
    put(tmp_path / "a", "one")

    def fail(folder: Path) -> None:
        (folder / "data").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_directory(tmp_path / "a", fail, marker="plan", may_hold=ours)
    assert (tmp_path / "a" / "data").read_text() == "one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_files_links_and_other_peoples_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    put(tmp_path / "mixed", "one")
    (tmp_path / "mixed" / "notes.txt").touch()
    for name, message in (
        ("file", "not a directory"),
        ("link", "not a directory"),
        ("other", r"holds other things \(notes\.txt\)"),
        ("mixed", r"other files besides \(notes\.txt\)"),
    ):
        with pytest.raises(FileExistsError, match=message):
            put(tmp_path / name, "two")
    assert (tmp_path / "mixed" / "data").read_text() == "one"


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


def test_a_mount_point_cannot_be_exchanged_and_that_is_said_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == tmp_path)
    with pytest.raises(FileExistsError, match=f"is a mount point.*give one in it: {tmp_path}/saved"):
        refuse_other_contents(tmp_path, "plan", ours)
    put(tmp_path / "saved", "one")
