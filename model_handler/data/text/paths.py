"""What looks like the path of an image, or like any path, is told from text by its looks."""

import os

__all__ = ["ALWAYS_IMAGES", "HEIF_SUFFIXES", "IMAGES_BY_CODEC", "has_image_suffix", "looks_like_path", "suffix_of"]

# Suffixes in lower case: of what PIL always decodes, of what it decodes by a codec, of what a package of its own does.
ALWAYS_IMAGES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".tif", ".tiff", ".tga", ".qoi"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
IMAGES_BY_CODEC = {".webp": "webp", ".avif": "avif", ".jp2": "jpg_2000", ".j2k": "jpg_2000"}
HEIF_SUFFIXES = (".heic", ".heif")
_LONGEST_NAME = 255  # bytes, on every usual file system


def suffix_of(path: str) -> str:
    """Return the suffix of a path in lower case, with its dot; empty where there is none."""
    return os.path.splitext(path)[1].lower()


def has_image_suffix(path: str) -> bool:
    """Return whether a path ends as some image does, of a kind that can be decoded here or not."""
    return suffix_of(path) in (*ALWAYS_IMAGES, *IMAGES_BY_CODEC, *HEIF_SUFFIXES)


def looks_like_path(text: str) -> bool:
    """Tell whether text that leads nowhere looks like a path: "cats/1.png" does, a sentence or word does not."""
    if "\n" in text or "\0" in text or max(len(os.fsencode(part)) for part in text.split(os.sep)) > _LONGEST_NAME:
        return False
    if has_image_suffix(text):
        return True
    if len(text.split()) > 1:
        return os.path.isdir(os.path.dirname(text))
    return os.sep in text or len(os.path.splitext(text)[1]) > 1
