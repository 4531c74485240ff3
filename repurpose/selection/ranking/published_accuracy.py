"""What is published of sources: their accuracy on ImageNet, the simplest ranking that there is for images."""

from importlib.util import find_spec

__all__ = ["imagenet_accuracy"]

# Top-1 accuracy in %, as the TensorFlow repository of EfficientNet-Lite publishes it (tensorflow/tpu,
# models/official/efficientnet/lite); not measured here.
_OF_LITE = {"efficientnet-lite0": 75.1, "efficientnet-lite1": 76.7, "efficientnet-lite2": 77.6}
_BICUBIC = "-bicubic"  # another resize of the same network


def imagenet_accuracy(name: str) -> float:
    """Return the published top-1 accuracy (%) of a source by its name; NaN where none is known on this machine.

    torchvision publishes it with its weights. timm and Hugging Face do not bring theirs along.

    >>> from repurpose.selection.ranking.published_accuracy import imagenet_accuracy
    >>> imagenet_accuracy("efficientnet-lite0")
    75.1
    """
    library, _, model = name.partition("/")
    if library == "torchvision" and find_spec("torchvision") is not None:
        return _of_torchvision(model)
    return _OF_LITE.get(name.removesuffix(_BICUBIC), float("nan"))


def _of_torchvision(model: str) -> float:
    from torchvision import models

    architecture, _, tag = model.partition(":")
    try:
        weights = models.get_model_weights(architecture)
        chosen = weights[tag] if tag else weights.DEFAULT
    except (KeyError, ValueError):  # no such network, or no such weights: who loads it says so
        return float("nan")
    return float(chosen.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1", float("nan")))
