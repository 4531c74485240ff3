import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, random_split
from torchvision.datasets import CocoDetection, VOCDetection, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes

from repurpose.detection import CocoData, VocFolderData, detection_rows
from tests.repurpose.detection.data.folders import coco_file, coco_object, voc_folder, voc_object, voc_xml

BOX = [2.0, 4.0, 7.0, 10.0]
TARGET = {"boxes": [BOX], "labels": ["cat"]}


class Pairs(Dataset):
    """What a user writes: (image, target) by number."""

    def __init__(self, *targets: dict[str, Any]) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, dict[str, Any]]:
        return torch.zeros(3, 10, 20), self.targets[number]


@pytest.fixture
def _coco(monkeypatch: pytest.MonkeyPatch) -> None:
    """pycocotools, which torchvision's CocoDetection imports, from the package that serves the tests for it."""
    coco = pytest.importorskip("faster_coco_eval").COCO
    for name in ("pycocotools", "pycocotools.coco"):
        module = ModuleType(name)
        module.COCO = coco  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)


def image() -> Image.Image:
    return Image.new("RGB", (20, 10))


@pytest.mark.parametrize(
    "data",
    [
        Pairs(TARGET, TARGET),
        [(image(), TARGET)] * 2,
        ((image(), TARGET), (image(), TARGET)),
        (np.zeros((2, 3, 10, 20), np.float32), [TARGET] * 2),
        (torch.zeros(2, 3, 10, 20, dtype=torch.uint8), [TARGET] * 2),
        ([np.zeros((10, 20, 3), np.uint8)] * 2, [TARGET] * 2),
        Subset(Pairs(TARGET, {}, TARGET), [0, 2]),
        ConcatDataset([Pairs(TARGET), Pairs(TARGET)]),
    ],
    ids=["Dataset", "list of pairs", "tuple of pairs", "arrays", "tensor", "list of arrays", "Subset", "ConcatDataset"],
)
def test_every_kind_gives_the_same_rows(data: object) -> None:
    rows = detection_rows(data)
    assert len(rows) == 2
    for number in range(2):
        row = rows.row(number)
        assert (row.size, row.boxes.tolist(), row.labels.tolist(), row.ignored.tolist()) == (
            (10, 20),
            [BOX],
            ["cat"],
            [False],
        )
        assert row.boxes.dtype == np.float32
        assert rows.truth(number).boxes.tolist() == [BOX]


def test_torchvision_s_voc_gives_the_rows_of_the_folder(tmp_path: Path) -> None:
    xmls = {
        "a": voc_xml(voc_object(), voc_object("dog", (1, 1, 20, 10), 1)),
        "b": voc_xml(),
        "c": voc_xml(voc_object()),
    }
    root = voc_folder(tmp_path / "VOCdevkit/VOC2007", xmls)
    expected, data = VocFolderData(root, "train"), VOCDetection(tmp_path, year="2007", image_set="train")
    rows = detection_rows(data)
    for number in range(3):
        one, other = expected.row(number), rows.row(number)
        assert one.boxes.tolist() == other.boxes.tolist()
        assert (one.labels.tolist(), one.ignored.tolist()) == (other.labels.tolist(), other.ignored.tolist())
    assert len(detection_rows(Subset(data, [2])).row(0).boxes) == 1


@pytest.mark.usefixtures("_coco")
def test_torchvision_s_coco_gives_the_rows_of_the_file(tmp_path: Path) -> None:
    objects = [
        coco_object(2, 8, (0, 0, 20, 10), iscrowd=1, area=200),
        coco_object(2, 3, area=30, iscrowd=0) | {"id": 8},
    ]
    file = coco_file(tmp_path, objects)
    data = CocoDetection(tmp_path / "photos", str(file))
    expected = CocoData(file, tmp_path / "photos")
    joined = ConcatDataset([Subset(data, [0]), Subset(data, [1])])
    for rows in (detection_rows(data), detection_rows(joined)):
        assert [truth.labels.tolist() for truth in rows.truths()] == [[], ["dog", "cat"]]
        assert rows.row(1).boxes.tolist() == expected.row(1).boxes.tolist()
        assert rows.row(1).ignored.tolist() == [True, False]


@pytest.mark.usefixtures("_coco")
def test_torchvision_s_datasets_may_be_wrapped_for_transforms(tmp_path: Path) -> None:
    data = CocoDetection(
        tmp_path / "photos",
        str(coco_file(tmp_path, [coco_object(area=30, iscrowd=0)])),
        transforms=v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(p=1)]),
    )
    rows = detection_rows(wrap_dataset_for_transforms_v2(data))
    assert rows.row(0).boxes.tolist() == [[13, 4, 18, 10]]
    assert rows.row(0).labels.tolist() == ["cat"]
    assert rows.row(1).boxes.shape == (0, 4)


def test_boxes_of_torchvision_say_in_which_format_they_are() -> None:
    formats = {"XYWH": [2, 4, 5, 6], "CXCYWH": [4.5, 7, 5, 6], "XYXY": BOX}
    for name, box in formats.items():
        boxes = BoundingBoxes(torch.tensor([box]), format=name, canvas_size=(10, 20))
        assert detection_rows([(image(), TARGET | {"boxes": boxes})]).row(0).boxes.tolist() == [BOX]
    turned = BoundingBoxes(torch.tensor([[4.5, 7, 5, 6, 30]]), format="CXCYWHR", canvas_size=(10, 20))
    with pytest.raises(ValueError, match="must be upright rectangles, got boxes in the format CXCYWHR"):
        detection_rows([(image(), TARGET | {"boxes": turned})]).row(0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (DataLoader(Pairs(TARGET)), "give its dataset, loader.dataset"),
        (type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(())})(), "no rows by number"),
        ("VOC2007", r"a path alone, 'VOC2007'.*VocFolderData"),
        (Path("VOC2007"), "VocFolderData"),
        (None, "boxes cannot be read from NoneType; give VocFolderData"),
        ({"boxes": []}, "boxes cannot be read from dict"),
        (5, "boxes cannot be read from int"),
        ((row for row in ()), "boxes cannot be read from generator"),
        (type("Endless", (Dataset,), {})(), "Endless has no length"),
    ],
)
def test_data_of_another_kind_are_told_what_to_give(data: object, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        detection_rows(data)


def test_no_rows_and_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="the list is empty"):
        detection_rows([])
    with pytest.raises(ValueError, match="3 images need as many targets, got 1"):
        detection_rows((np.zeros((3, 3, 8, 8)), [TARGET]))
    for number in (-1, 1):
        with pytest.raises(IndexError, match=f"there is no row {number}: the list has 1"):
            detection_rows([(image(), TARGET)]).row(number)


def test_a_split_by_chance_reads_boxes_without_images(tmp_path: Path) -> None:
    root = voc_folder(tmp_path, {name: voc_xml(voc_object(), size=(20, 10)) for name in "abc"})
    part, _ = random_split(VocFolderData(root, "train"), [2, 1])
    (root / f"JPEGImages/{'abc'[part.indices[1]]}.jpg").write_bytes(b"")
    rows = detection_rows(part)
    assert (len(rows), rows.described) == (2, f"a Subset of {root}, train")
    assert rows.truth(1).labels.tolist() == rows.row(0).labels.tolist() == ["cat"]
    with pytest.raises(ValueError, match="cannot be read"):
        rows.row(1)
    with pytest.raises(ValueError, match=r"a Subset of .* is empty"):
        detection_rows(Subset(part, []))


def test_a_row_that_is_no_pair_is_told() -> None:
    for row in (image(), (image(), TARGET, 1), [image()]):
        with pytest.raises(TypeError, match=r"row 0 of the list must be \(image, target\)"):
            detection_rows([row]).row(0)
