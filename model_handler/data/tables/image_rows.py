"""Rows of images in Hugging Face `datasets`, decoded when they are asked for, or as a stream gives them."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import Dataset, IterableDataset

__all__ = ["ImageRows", "RowStream", "image_rows"]

_LABELS = ("label", "labels")  # what columns of labels are called


class ImageRows(Dataset):
    """Images, and labels where there are such, of a `datasets.Dataset`; `classes` are the names of its labels."""

    def __init__(self, dataset: Any, image: str, label: str | None) -> None:
        self._rows = dataset.select_columns([name for name in (image, label) if name is not None])
        self._image, self._label = image, label
        self.classes = None if label is None else getattr(dataset.features[label], "names", None)
        self.known_by = f"{dataset._fingerprint} {len(dataset)} {image} {label}"

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Any:
        return _of_row(self._rows[row], self._image, self._label)

    def __repr__(self) -> str:
        return f"ImageRows({len(self)} rows; image {self._image!r}, label {self._label!r})"


class RowStream(IterableDataset):
    """Inputs, and labels where there are such, of a `datasets.IterableDataset`, in its order."""

    def __init__(self, dataset: Any, name: str, label: str | None) -> None:
        self._rows, self._input, self._label = dataset, name, label
        self.known_by = f"stream {dataset.info.dataset_name} {dataset.split} {dataset.features} {name} {label}"
        self.classes = None if label is None else getattr(dataset.features[label], "names", None)

    def __iter__(self) -> Iterator[Any]:
        return (_of_row(row, self._input, self._label) for row in self._rows)

    def skip(self, n_rows: int) -> "RowStream":
        """Return the stream without its first rows, which are not decoded."""
        return RowStream(self._rows.skip(n_rows), self._input, self._label)


def image_rows(dataset: object) -> Dataset | None:
    """Return the rows of a Hugging Face dataset of images, or of any that is a stream; None for other data.

    Raises TypeError where it is left open which column is meant.
    """
    module = sys.modules.get("datasets")
    if module is None:
        return None
    is_stream = isinstance(dataset, getattr(module, "IterableDataset", ()))
    if not is_stream and not isinstance(dataset, getattr(module, "Dataset", ())):
        return None
    given: Any = dataset
    features: dict[str, Any] | None = given.features
    if features is None:
        raise TypeError("the stream does not say which columns it has: give dataset._resolve_features(), or cast it")
    images = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    label = next((name for name in _LABELS if name in features), None)
    if len(images) > 1:
        raise TypeError(f"the dataset has several columns of images, {images}: take one by dataset.select_columns")
    if images:
        return RowStream(given, images[0], label) if is_stream else ImageRows(given, images[0], label)
    if not is_stream:
        return None
    texts = [name for name, kind in features.items() if getattr(kind, "dtype", "") == "string" and name != label]
    if len(texts) != 1:
        raise TypeError(f"the stream has {len(texts)} columns of text, of {list(features)}: take one by select_columns")
    return RowStream(given, texts[0], label)


def _of_row(row: Mapping[str, Any], name: str, label: str | None) -> Any:
    return (row[name],) if label is None else (row[name], row[label])
