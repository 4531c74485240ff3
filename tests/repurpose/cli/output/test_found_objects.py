"""Where found objects are drawn; what `repurpose detect predict` writes is in `test_detect`."""

from pathlib import Path

import pytest
from PIL import Image

from repurpose.cli.output.found_objects import FoundObjects, check_new_folder
from repurpose.detection import Detections

FOUND = Detections([[4, 4, 20, 20]], ["cat"], [0.9])


def images_at(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24)).save(folder / name)
    return [folder / name for name in names]


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = images_at(tmp_path / "in", "a/1.jpg", "b/1.jpg", "b/1.png", "b/c/1.gif")
    FoundObjects(paths, [FOUND] * 4).draw_into(tmp_path / "out")
    drawn = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert drawn == ["a/1.jpg", "b/1.jpg", "b/1.png", "b/c/1.gif.png"]


def test_an_image_that_is_gone_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    paths = images_at(tmp_path / "in", "1.png", "2.png")
    paths[1].unlink()
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new"):
        with pytest.raises(ValueError, match=r"2\.png cannot be read"):
            FoundObjects(paths, [FOUND] * 2).draw_into(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "in"]
    assert not [*(tmp_path / "empty").iterdir()]
    FoundObjects(paths[:1], [FOUND]).draw_into(tmp_path / "empty")
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["1.png"]


def test_a_new_folder_is_neither_among_the_images_nor_one_that_holds_something(tmp_path: Path) -> None:
    paths = images_at(tmp_path / "in", "1.png")
    check_new_folder(tmp_path / "out", [tmp_path / "in"])
    check_new_folder(tmp_path / "in" / "out", paths)  # the images are named one by one, so that none is read there
    with pytest.raises(ValueError, match="out lies inside"):
        check_new_folder(tmp_path / "in" / "out", [tmp_path / "in"])
    with pytest.raises(FileExistsError, match="in holds other things"):
        check_new_folder(tmp_path / "in", paths)
    with pytest.raises(NotADirectoryError):
        check_new_folder(paths[0] / "out", paths)
