from pathlib import Path

import pytest

from model_handler import CorruptFileError, UnsafeFileError
from repurpose.detection import CocoData
from tests.repurpose.detection.data.folders import coco_file, coco_object


def test_rows_are_all_images_with_the_names_of_categories_and_crowds_marked(tmp_path: Path) -> None:
    objects = [coco_object(2, 8, (0, 0, 20, 10), iscrowd=1), coco_object(2, 3, (2.5, 4, 5, 6), iscrowd=0)]
    data = CocoData(coco_file(tmp_path, objects, n_images=3), tmp_path / "photos")
    assert [truth.labels.tolist() for truth in data.truths()] == [[], ["dog", "cat"], []]
    image, target = data[1]
    assert image.size == (20, 10)
    assert target["boxes"].tolist() == [[0, 0, 20, 10], [2.5, 4, 7.5, 10]]
    assert target["ignored"].tolist() == [True, False]
    assert data.classes == ["cat"]
    assert repr(data) == f"CocoData({tmp_path / 'objects.json'}: 3 images)"


def test_names_may_lead_into_folders_and_sizes_may_be_absent(tmp_path: Path) -> None:
    file = coco_file(tmp_path, [coco_object()], images=[{"id": 1, "file_name": "day/1.png"}])
    (tmp_path / "photos/day").mkdir()
    (tmp_path / "photos/1.png").rename(tmp_path / "photos/day/1.png")
    assert CocoData(file, tmp_path / "photos").truth(0).size == (10, 20)


@pytest.mark.parametrize(
    ("bbox", "said"),
    [
        ((2, 4, 0, 3), "is empty"),
        ((2, 4, -1, 3), r"is reversed\. Boxes are"),
        ((15, 4, 10, 3), "lies outside"),
    ],
)
def test_a_box_that_cannot_be_is_refused_by_image_and_number(tmp_path: Path, bbox: tuple, said: str) -> None:
    file = coco_file(tmp_path, [coco_object(), coco_object(bbox=bbox)])
    with pytest.raises(ValueError, match=rf"objects.json, image 1 \(1.png\), .*box 1, \[.*\], {said}"):
        CocoData(file, tmp_path / "photos")[0]
    with pytest.warns(UserWarning, match="left out"):
        assert len(CocoData(file, tmp_path / "photos", on_error="skip").truth(0).boxes) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"categories": None}, "must have the lists 'images', 'annotations', 'categories'"),
        ({"images": [{"id": 1}]}, "entry 0 of 'images' has no 'file_name'"),
        ({"annotations": [{"id": 1, "image_id": 1}]}, "entry 0 of 'annotations' has no 'category_id' and no 'bbox'"),
        ({"annotations": [coco_object(image=9)]}, "annotation 7, has image_id 9, which the file does not describe"),
        ({"annotations": [coco_object(category=1)]}, "annotation 7, has category_id 1, which"),
        ({"annotations": [coco_object(bbox=(1, 2, 3))]}, r"annotation 7, has the bbox \[1, 2, 3\]"),
        ({"annotations": [coco_object(bbox=(1, 2, 3, "4"))]}, "annotation 7, has the bbox"),
        ({"annotations": [coco_object(bbox=(1, 2, 3, 10**400))]}, "annotation 7, has the bbox"),
        ({"annotations": [coco_object(bbox=(1, 2, 3, float("nan")))]}, "NaN is no number of JSON"),
        ({"annotations": [coco_object(iscrowd="yes")]}, "has iscrowd 'yes'"),
        ({"annotations": [coco_object() | {"image_id": [1]}]}, r"has image_id \[1\]"),
        ({"categories": [{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}]}, "several categories have the id 3"),
        ({"categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "cat"}]}, "several categories are called 'cat'"),
        ({"categories": [{"id": 3, "name": 5}]}, "the name of a category must be a text, got 5"),
        ({"images": [{"id": 1, "file_name": "1.png"}] * 2}, "several images have the id 1"),
        ({"images": [{"id": [1], "file_name": "1.png"}]}, r"ids of images must be numbers or texts, got \[1\]"),
    ],
)
def test_a_file_that_lacks_something_is_told_where(tmp_path: Path, changes: dict, said: str) -> None:
    file = coco_file(tmp_path, [], **changes)
    with pytest.raises(CorruptFileError, match=said) as error:
        CocoData(file, tmp_path / "photos")
    assert "objects.json" in str(error.value)


def test_what_is_no_json_or_no_file_is_told(tmp_path: Path) -> None:
    for content in (b"{", b"[]", b"\xff\xfe", b""):
        (tmp_path / "objects.json").write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"objects\.json"):
            CocoData(tmp_path / "objects.json", tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        CocoData(tmp_path / "object.json", tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        CocoData(coco_file(tmp_path, []), tmp_path / "fotos")
    with pytest.raises(ValueError, match="has no image"):
        CocoData(coco_file(tmp_path, [], n_images=0), tmp_path / "photos")


def test_a_missing_image_is_named_at_once_with_the_nearest(tmp_path: Path) -> None:
    file = coco_file(tmp_path, [])
    (tmp_path / "photos/2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 image is missing in .*photos: 2\.png \(named by image 2 of"):
        CocoData(file, tmp_path / "photos")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png", "", 3])
def test_a_file_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: object) -> None:
    file = coco_file(tmp_path, [], images=[{"id": 1, "file_name": name}])
    with pytest.raises(UnsafeFileError, match="leads out of"):
        CocoData(file, tmp_path / "photos")
