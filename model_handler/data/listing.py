"""A folder of images is listed: which files are images by suffix, of which sub-folder each is, what is left out.

Links to folders are followed, but no folder is read twice: a link to a parent, or to a sibling, would multiply images
under labels that are not theirs.
"""

import os
import warnings
from collections import Counter
from heapq import heappop, heappush
from pathlib import Path

from model_handler.data.decoding import can_read_heif
from model_handler.data.text.paths import ALWAYS_IMAGES, HEIF_SUFFIXES, IMAGES_BY_CODEC, suffix_of
from model_handler.errors import first_few

__all__ = ["FolderListing", "image_suffixes"]

# What archives, file servers and disks leave behind, hidden on the systems that make it.
_OF_THE_SYSTEM = frozenset(
    ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini")
)


def image_suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of files taken for images: those that PIL can decode here, by itself."""
    from PIL import features

    known = {*features.modules, *features.codecs}  # an older PIL knows fewer
    decoded = (suffix for suffix, codec in IMAGES_BY_CODEC.items() if codec in known and features.check(codec))
    return frozenset((*ALWAYS_IMAGES, *decoded, *(HEIF_SUFFIXES if can_read_heif() else ())))


class FolderListing:
    """The images of a folder by its sub-folders, at any depth, without hidden entries.

    A link to a folder is followed unless it leads to a parent of its own, or to a folder that is listed already: that
    one is read once, under its own name where it has one below `root`, else under the link that is nearest to `root`,
    the first by name.

    Attributes
    ----------
    beside : list of Path
        Images directly in `root`, by name.
    below : dict of str to list of Path
        The images of each sub-folder, by name.
    left_out : dict of str to int
        How many files are no images, by their suffix.
    twice : dict of Path to Path
        Links and folders that were not followed, and where they lead.

    Raises
    ------
    OSError
        Of the kind met, if a folder cannot be listed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: Counter[str] = Counter()
        self.twice: dict[Path, Path] = {}
        self._suffixes = image_suffixes()
        self._images: dict[str, list[Path]] = {}
        self._seen: set[str] = set()
        self._links: list[tuple[int, str, str, str]] = []  # depth, link, real path of its folder, sub-folder
        real_root = os.path.realpath(root)
        self._list(root, real_root, "")
        while self._links:  # after all folders that have a name of their own here
            _, link, holder, name = heappop(self._links)
            real = os.path.realpath(link)
            if _is_within(holder, real) or _is_within(real_root, real):
                self.twice[Path(link)] = Path(real)
            else:
                self._enter(Path(link), real, name)
        self.beside = sorted(self._images.pop(""))
        self.below = {name: sorted(self._images[name]) for name in sorted(self._images)}

    def tell(self, stacklevel: int) -> None:
        """Warn (UserWarning) of what is left out, and of folders not read again, each in one warning."""
        if self.left_out:
            message = f"{self.root}: left out, as no images by their suffix: {self.describe_left_out()}"
            warnings.warn(message, stacklevel=stacklevel + 1)
        if self.twice:
            leads = [f"{link.relative_to(self.root)} leads to {target}" for link, target in self.twice.items()]
            message = (
                f"{self.root}: each folder is read once, under its own name, so that these were not followed: "
                f"{first_few(leads)}"
            )
            warnings.warn(message, stacklevel=stacklevel + 1)

    def describe_left_out(self) -> str:
        """Say what was left out, such as "3 .heic, 1 .txt (.heic: pip install pillow-heif)"."""
        counts = ", ".join(f"{n} {suffix}" for suffix, n in self.left_out.most_common())
        return counts + (
            " (for HEIC: pip install pillow-heif)" if not self.left_out.keys().isdisjoint(HEIF_SUFFIXES) else ""
        )

    def _list(self, folder: Path, real: str, name: str) -> None:
        """Note what is in a folder, whose real path is `real`, below the sub-folder `name` of the root."""
        self._seen.add(real)
        images = self._images.setdefault(name, [])
        for entry in self._entries(folder):
            here, below = folder / entry.name, name or entry.name
            if entry.is_dir(follow_symlinks=False):
                self._enter(here, os.path.join(real, entry.name), below)
            elif entry.is_symlink() and os.path.isdir(entry):
                heappush(self._links, (len(here.parts), str(here), real, below))
            elif (reason := self._why_no_image(entry)) is None:
                images.append(here)
            else:
                self.left_out[reason] += 1

    def _enter(self, folder: Path, real: str, name: str) -> None:
        if real in self._seen:
            self.twice[folder] = Path(real)
        else:
            self._list(folder, real, name)

    def _entries(self, folder: Path) -> list[os.DirEntry]:
        """Return what is in a folder, by name, but for what is hidden."""
        try:
            with os.scandir(folder) as entries:
                found = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:  # left out in silence, its images would be missing
            raise type(error)(
                f"the folder {str(folder)!r} cannot be listed ({error.strerror or error}); allow this process to read "
                "it, or move it elsewhere"
            ) from error
        return sorted(
            (entry for entry in found if entry.name.lower() not in _OF_THE_SYSTEM), key=lambda entry: entry.name
        )

    def _why_no_image(self, entry: os.DirEntry) -> str | None:
        """Return what an entry that is no folder is instead of an image, such as its suffix; None for an image."""
        suffix = suffix_of(entry.name)
        if os.path.isfile(entry) if entry.is_symlink() else entry.is_file(follow_symlinks=False):
            return None if suffix in self._suffixes else suffix or "without suffix"
        if os.path.exists(entry):
            return "pipe or device"  # reading it would wait for ever
        return None if suffix in self._suffixes else "broken link"  # reading an image that is none says so


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
