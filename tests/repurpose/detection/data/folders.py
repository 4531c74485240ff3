"""Small VOC folders and COCO files for tests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (20, 10)  # width, height


def voc_object(name: str = "cat", box: Sequence[object] = (1, 3, 5, 10), difficult: object = 0) -> str:
    edges = "".join(f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{edges}</bndbox></object>"


def voc_xml(*objects: str, size: tuple[int, int] | None = None) -> str:
    stated = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><folder>VOC</folder>{stated}{''.join(objects)}</annotation>"


def voc_folder(root: Path, xmls: Mapping[str, str], split: str = "train") -> Path:
    """Write a folder of one split, with an image of `SIZE` for each XML text."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in xmls.items():
        Image.new("RGB", SIZE, "white").save(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(text)
    (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(xmls))
    return root


def coco_file(root: Path, objects: Sequence[Mapping[str, Any]], n_images: int = 2, **changes: object) -> Path:
    """Write a file of images 1, 2, ... of `SIZE`, with objects, and categories 3 (cat) and 8 (dog)."""
    (root / "photos").mkdir(exist_ok=True)
    images = [
        {"id": 1 + number, "file_name": f"{1 + number}.png", "width": SIZE[0], "height": SIZE[1]}
        for number in range(n_images)
    ]
    for image in images:
        Image.new("RGB", SIZE).save(root / "photos" / str(image["file_name"]))
    categories = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
    given = {"images": images, "annotations": list(objects), "categories": categories} | changes
    (root / "objects.json").write_text(json.dumps(given))
    return root / "objects.json"


def coco_object(image: int = 1, category: int = 3, bbox: Sequence[float] = (2, 4, 5, 6), **more: object) -> dict:
    return {"id": 7, "image_id": image, "category_id": category, "bbox": list(bbox), **more}
