"""Targets of detection datasets: the boxes and labels of one image, in each of the forms that torchvision knows.

Those are a dict of boxes and labels, the tree of an XML file that `VOCDetection` gives, and the list of annotations
that `CocoDetection` gives.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_handler.errors import nearest
from repurpose.detection.data.boxes import box_array, label_objects

__all__ = ["Objects", "objects_of"]

Objects = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes float64 (n, 4), labels object (n,), ignored bool (n,)
_IGNORED = ("ignored", "iscrowd", "difficult")
_WANTED = "a dict with 'boxes', (n, 4) as x1, y1, x2, y2 in pixels, and 'labels', one a box"


def objects_of(target: object, name: str, names: Mapping[Any, str]) -> Objects:
    """Return boxes, labels and which are ignored of a target in any form; `names` are those of COCO's categories.

    Raises TypeError for another form, and ValueError for wrong shapes, both with the row's name.
    """
    if isinstance(target, Mapping) and "boxes" not in target and "annotation" in target:
        return _of_voc(target["annotation"], name)
    if isinstance(target, (list, tuple)) and all(isinstance(each, Mapping) for each in target):
        return _of_coco(target, name, names)
    if names and isinstance(target, Mapping) and target.keys() <= {"image_id"}:  # CocoDetection, wrapped, of no object
        return _of_coco([], name, names)
    _refuse_no_target(target, name)
    return _of_dict(target, name, names)  # type: ignore[arg-type]


def _refuse_no_target(target: object, name: str) -> None:
    """Raise TypeError for what is no target of boxes, and ValueError for a dict without them, naming what is near."""
    if not isinstance(target, Mapping):
        advice = "; a detector learns from boxes, and a label alone has none" if isinstance(target, (int, str)) else ""
        raise TypeError(f"{name}: the target must be {_WANTED}, got {type(target).__name__}{advice}")
    keys = [str(key) for key in target]
    for key in ("boxes", "labels"):
        if key not in target:
            raise ValueError(
                f"{name}: the target has no {key!r} but {keys}; nearest: {nearest(key, keys, 1)}. Give {_WANTED}"
            )


def _of_dict(target: Mapping[str, Any], name: str, names: Mapping[Any, str]) -> Objects:
    boxes = box_array(target["boxes"], name)
    labels = label_objects(target["labels"], len(boxes), name)
    if names and all(label in names for label in labels.tolist()):  # of CocoDetection, wrapped for transforms
        labels = np.array([names[label] for label in labels.tolist()], dtype=object)
    key = next((key for key in _IGNORED if target.get(key) is not None), None)
    ignored = np.zeros(len(boxes), dtype=bool) if key is None else np.asarray(target[key])
    if ignored.size == 0:
        ignored = np.zeros(0, dtype=bool)
    if ignored.shape != (len(boxes),) or not np.isin(ignored, (0, 1)).all():
        raise ValueError(f"{name}: {key!r} must be True or False for each of the {len(boxes)} boxes")
    return boxes, labels, ignored.astype(bool)


def _of_voc(tree: Any, name: str) -> Objects:
    """Take the objects of a VOC tree; edges as in `voc_xml`."""
    try:
        objects = tree.get("object", [])
        edges = [[float(each["bndbox"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax")] for each in objects]
        labels = [each["name"] for each in objects]
        ignored = [each.get("difficult", "0") == "1" for each in objects]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: the target is no annotation of VOC: {type(error).__name__}: {error}") from error
    boxes = box_array(edges, name)
    boxes[:, :2] -= 1
    return boxes, label_objects(labels, len(boxes), name), np.array(ignored, dtype=bool)


def _of_coco(annotations: Sequence[Mapping[str, Any]], name: str, names: Mapping[Any, str]) -> Objects:
    try:
        boxes = box_array([each["bbox"] for each in annotations], name)
        labels = [names.get(each["category_id"], each["category_id"]) for each in annotations]
    except KeyError as error:
        raise ValueError(
            f"{name}: an annotation of COCO has 'bbox' and 'category_id', and one lacks {error}"
        ) from error
    boxes[:, 2:] += boxes[:, :2]
    ignored = np.array([each.get("iscrowd", 0) == 1 for each in annotations], dtype=bool)
    return boxes, label_objects(labels, len(boxes), name), ignored
