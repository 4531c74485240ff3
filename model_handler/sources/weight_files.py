"""Weights of one's own for an architecture that has a name: "torchvision/resnet50=FILE.safetensors"."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from model_handler.errors import CorruptFileError, first_few
from model_handler.sources.source import Source, UnknownSourceError

__all__ = ["SUFFIX", "load_with_weights"]

SUFFIX = ".safetensors"

Build = Callable[[int | None], Source]  # of a number of classes; None for that of the architecture


def load_with_weights(file: str, name: str, build: Build) -> Source:
    """Build an architecture with the weights of a file; the last layer gets as many classes as the file has.

    Raises UnknownSourceError where there is no such file, CorruptFileError for a damaged one, ValueError, naming the
    tensors, where it does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(file).is_file():
        raise UnknownSourceError(f"there is no file {file!r}, of which {name!r} is to have its weights")
    try:
        weights = load_file(file)
    except SafetensorError as error:
        raise CorruptFileError(f"{file} is no safetensors file, or a damaged one ({error})") from error
    source = build(None)
    state = source.network.state_dict()
    if (n_classes := _other_number_of_classes(weights, state)) is not None:
        source = build(n_classes)
        state = source.network.state_dict()
    if said := _differences(weights, state):
        raise ValueError(f"the weights in {file!r} are not those of {name.partition('=')[0]!r}: {'; '.join(said)}")
    source.network.load_state_dict(weights, strict=False)  # what is counted alone may lack: `_differences`
    return source


def _other_number_of_classes(weights: dict[str, Tensor], state: dict[str, Tensor]) -> int | None:
    """Return how many classes the last layer has in a file, where that layer alone has another shape."""
    differ = [name for name, tensor in state.items() if name in weights and weights[name].shape != tensor.shape]
    stems = {name.rpartition(".")[0] for name in differ}
    if len(stems) != 1 or not differ or weights[differ[0]].ndim == 0:
        return None
    sizes = {len(weights[name]) for name in differ}
    rest = all(weights[name].shape[1:] == state[name].shape[1:] for name in differ)
    return sizes.pop() if len(sizes) == 1 and rest else None


def _differences(weights: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    """Say which tensors lack in a file, are too many, or have other shapes; counters of BatchNorm may lack."""
    lacking = [name for name in state if name not in weights and not name.endswith("num_batches_tracked")]
    others = [name for name in weights if name not in state]
    shapes = [
        f"{name} is {tuple(weights[name].shape)} and not {tuple(tensor.shape)}"
        for name, tensor in state.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    return (
        [f"it lacks {first_few(lacking)}"] * bool(lacking)
        + [f"it has {first_few(others)} besides"] * bool(others)
        + [first_few(shapes)] * bool(shapes)
    )
