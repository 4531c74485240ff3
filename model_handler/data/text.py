"""Text, which is not yet data: telling it from paths, so that nobody is told of missing files who gave sentences."""

import os

from model_handler.data.listing import has_image_suffix

__all__ = ["TEXT", "looks_like_path", "shortened"]

TEXT = (
    "text is not yet data: tokenize it and give what the tokenizer returns, a dict of arrays such as "
    "{'input_ids': ..., 'attention_mask': ...}, for training with the labels under the key 'labels'"
)
_LONGEST_NAME = 255  # bytes, on every usual file system


def looks_like_path(text: str) -> bool:
    """Whether text that leads nowhere may be meant as a path, by its looks: "cats/1.png", but no sentence or word."""
    if "\n" in text or "\0" in text or max(len(os.fsencode(part)) for part in text.split(os.sep)) > _LONGEST_NAME:
        return False
    if has_image_suffix(text):
        return True
    if len(text.split()) > 1:
        return os.path.isdir(os.path.dirname(text))
    return os.sep in text or len(os.path.splitext(text)[1]) > 1


def shortened(text: str, n: int = 40) -> str:
    """Text in quotation marks, of which no more than a beginning is shown."""
    return repr(text if len(text) <= n else text[:n] + "...")
