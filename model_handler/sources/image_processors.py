"""Image processors of Hugging Face transformers, as plain callables from an image to a tensor."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from model_handler.sources.fetching import quiet_hubs

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageProcessing", "read_image_processor"]

_OF_FILES = ("_name_or_path", "_processor_class", "image_processor_type", "processor_class")  # no settings of images


class ImageProcessing:
    """What a processor of transformers makes of a PIL image: a tensor (channels, height, width), as its network takes.

    `settings` are those of the processor, as plain data.
    """

    def __init__(self, processor: Any) -> None:
        self.settings = {name: value for name, value in processor.to_dict().items() if name not in _OF_FILES}
        self._processor = processor

    def __call__(self, image: "Image") -> Tensor:
        return self._processor(images=image, return_tensors="pt")["pixel_values"][0]

    def __repr__(self) -> str:
        return f"ImageProcessing({type(self._processor).__name__})"


def read_image_processor(folder: Path, name: str) -> ImageProcessing:
    """Read the processor of a folder. Raises ValueError where there is none that transformers knows."""
    from transformers import AutoImageProcessor

    with quiet_hubs():
        try:
            processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{name!r} takes images and has no image processor that can be read; save one beside the network, "
                f"processor.save_pretrained(folder), or give Source(network, transform) with your own ({error})"
            ) from error
    return ImageProcessing(processor)
