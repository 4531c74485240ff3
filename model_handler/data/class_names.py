"""Class names: what a dataset calls its classes, by the attribute `classes` that torchvision's datasets have.

A label is the place of its name there.
"""

from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from model_handler.data.tables.table_data import TableData

__all__ = ["named_classes"]


def named_classes(data: object) -> tuple[str, ...] | None:
    """Return the names of the labels 0, 1, ... of a dataset, also behind torch's own wrappers; None where it has none.

    None too where a `target_transform` makes other labels, or joined datasets differ in their names.
    """
    if isinstance(data, DataLoader):
        return named_classes(data.dataset)
    if isinstance(data, TableData):
        return _as_names(data.classes)
    if not isinstance(data, Dataset) or getattr(data, "target_transform", None) is not None:
        return None
    if (names := _as_names(getattr(data, "classes", None))) is not None:
        return names
    if isinstance(data, Subset):  # random_split gives such
        return named_classes(data.dataset)
    if isinstance(data, ConcatDataset):
        found = {named_classes(part) for part in data.datasets}
        return found.pop() if len(found) == 1 else None
    return None


def _as_names(names: object) -> tuple[str, ...] | None:
    if not isinstance(names, (list, tuple)) or not names:
        return None
    joined = [
        ", ".join(name) if isinstance(name, tuple) and all(isinstance(word, str) for word in name) else name
        for name in names
    ]  # ImageNet's are tuples of words for the same
    return tuple(joined) if all(isinstance(name, str) for name in joined) else None
