"""`VocFolderData`: a folder as PASCAL VOC has it, with JPEGImages, Annotations and ImageSets/Main."""

from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path

from model_handler.data.listing import image_suffixes
from model_handler.errors import CorruptFileError, first_few, nearest
from repurpose.detection.data.annotated_images import (
    AnnotatedImages,
    Annotation,
    check_on_error,
    refuse_missing_images,
)
from repurpose.detection.data.voc_xml import read_voc_xml

__all__ = ["VocFolderData", "voc_splits"]

_IMAGES, _ANNOTATIONS, _SPLITS = "JPEGImages", "Annotations", "ImageSets/Main"
_FLAGS = ("-1", "0", "1")  # behind each name in the files of one class


class VocFolderData(AnnotatedImages):
    """The images and objects of one split of a VOC folder: a map-style Dataset of (image, {"boxes", "labels"}).

    The images named in ``ImageSets/Main/SPLIT.txt`` are those of ``JPEGImages``, of any suffix, each with its objects
    in ``Annotations/NAME.xml``. Row i is (PIL image, target): boxes float32 (n, 4), as x1 = xmin - 1, y1 = ymin - 1,
    x2 = xmax, y2 = ymax in pixels, the list of labels, and `ignored`, bool (n,): those that VOC calls difficult, which
    are not trained on and not counted in an evaluation. An image without objects is a row as any other. The files are
    listed at once and read when asked for.

    Parameters
    ----------
    root : str or Path
        Such as "VOCdevkit/VOC2007".
    split : str
        Such as "trainval" or "test".
    on_error : "raise" or "skip"
        What a box that cannot be used (outside the image, empty, reversed) does: it raises an error, or is left out
        with a warning. Broken files always raise one.

    Raises
    ------
    FileNotFoundError
        If a folder, the split, an image or an annotation is missing; names them and the nearest.
    CorruptFileError, UnsafeFileError
        When read: for an XML file that is broken, or defines entities. Both name it, and are ValueErrors.
    ValueError
        If the split names no image or one twice, and when read: for boxes outside, empty or reversed.

    Examples
    --------
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from repurpose.detection import VocFolderData
    >>> for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
    ...     Path("VOC", folder).mkdir(parents=True)
    ...
    >>> Image.new("RGB", (20, 10)).save("VOC/JPEGImages/1.jpg")
    >>> box = "<bndbox><xmin>1</xmin><ymin>3</ymin><xmax>5</xmax><ymax>10</ymax></bndbox>"
    >>> xml = f"<annotation><object><name>cat</name>{box}</object></annotation>"
    >>> n_written = Path("VOC/Annotations/1.xml").write_text(xml), Path("VOC/ImageSets/Main/train.txt").write_text("1")
    >>> data = VocFolderData("VOC", "train")
    >>> image, target = data[0]
    >>> data.classes, image.size, target["boxes"].tolist(), target["labels"]
    (['cat'], (20, 10), [[0.0, 2.0, 5.0, 10.0]], ['cat'])
    """

    def __init__(self, root: str | PathLike, split: str, *, on_error: str = "raise") -> None:
        check_on_error(on_error)
        self.root = Path(root)
        self.split = split
        names = _names(self.root, split)
        images = _by_stem(self.root / _IMAGES, image_suffixes())
        xmls = _by_stem(self.root / _ANNOTATIONS, (".xml",))
        _refuse_list_of_one_class(names, images, self.root / _SPLITS, split)
        missing = {str(self.root / _ANNOTATIONS / f"{name}.xml"): f"{name}.jpg" for name in names if name not in images}
        refuse_missing_images(missing, self.root / _IMAGES, list(images))
        if without := [name for name in names if name not in xmls]:
            raise FileNotFoundError(
                f"{len(without)} of {len(names)} images of the split {split!r} have no annotation in "
                f"{self.root / _ANNOTATIONS}: {first_few([f'{name}.xml' for name in without])}; an image without "
                "objects has one without <object>"
            )
        self._files = [(images[name], xmls[name]) for name in names]
        super().__init__(len(names), on_error)

    @property
    def described(self) -> str:
        """Root and split."""
        return f"{self.root}, {self.split}"

    def annotation(self, number: int) -> Annotation:
        """Read the XML file of one row."""
        image, xml = self._files[number]
        boxes, labels, ignored, size = read_voc_xml(xml)
        return Annotation(image, boxes, labels, ignored, size, str(xml))


def voc_splits(root: Path) -> list[str]:
    """Return the splits of a VOC folder, without VOC's lists of one class. Raises FileNotFoundError for another folder.

    >>> from pathlib import Path
    >>> from repurpose.detection.data import voc_splits
    >>> for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
    ...     Path("VOC", folder).mkdir(parents=True)
    ...
    >>> for split in ("train", "val", "cat_train"):
    ...     Path("VOC/ImageSets/Main", f"{split}.txt").touch()
    ...
    >>> voc_splits(Path("VOC"))
    ['train', 'val']
    """
    return [split for split in _all_splits(root) if "_" not in split]


def _all_splits(root: Path) -> list[str]:
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {str(root)!r}")
    if lacking := [folder for folder in (_IMAGES, _ANNOTATIONS, _SPLITS) if not (root / folder).is_dir()]:
        within = [str(path.parent) for pattern in (f"*/{_IMAGES}", f"*/*/{_IMAGES}") for path in root.glob(pattern)]
        raise FileNotFoundError(
            f"{root} has no folder {' and no folder '.join(lacking)}, so it is no VOC folder"
            f"{f'; give {first_few(sorted(within))}' if within else ''}"
        )
    return sorted(file.stem for file in (root / _SPLITS).glob("*.txt"))


def _names(root: Path, split: str) -> list[str]:
    """Return the names of a split."""
    path, splits = root / _SPLITS / f"{split}.txt", _all_splits(root)
    if split not in splits:
        raise FileNotFoundError(f"there is no split {split!r} in {path.parent}; nearest: {nearest(split, splits)}")
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is no list of names: {error}") from error
    if not names:
        raise ValueError(f"{path} names no image")
    if len(set(names)) < len(names):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        raise ValueError(f"{path} names images twice: {first_few(twice)}; an image counts once")
    return names


def _refuse_list_of_one_class(names: list[str], images: Mapping[str, Path], folder: Path, split: str) -> None:
    if all(name not in images and len(name.split()) == 2 and name.split()[1] in _FLAGS for name in names):
        splits = sorted(file.stem for file in folder.glob("*.txt") if "_" not in file.stem)
        raise ValueError(
            f"{folder / split}.txt is a list of VOC's for one class, with a number behind each name; give a split of "
            f"all classes, such as {nearest('trainval', splits)}"
        )


def _by_stem(folder: Path, suffixes: "tuple[str, ...] | frozenset[str]") -> dict[str, Path]:
    """Return the files of a folder by their names without suffix; a .jpg before others."""
    return dict(sorted(_files(folder, suffixes), key=lambda found: (found[1].suffix.lower() == ".jpg", found[1])))


def _files(folder: Path, suffixes: "tuple[str, ...] | frozenset[str]") -> Iterator[tuple[str, Path]]:
    return ((path.stem, path) for path in folder.iterdir() if path.suffix.lower() in suffixes)
