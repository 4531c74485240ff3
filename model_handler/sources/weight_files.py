"""Weights of one's own for an architecture that has a name: "torchvision/resnet50=FILE.safetensors"."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError

from torch import Tensor

from model_handler.errors import CorruptFileError, UnsafeFileError, first_few
from model_handler.sources.source import Source, UnknownSourceError

__all__ = ["SUFFIX", "load_with_weights", "reading_weights"]

SUFFIX = ".safetensors"

Build = Callable[[int | None], Source]  # of a number of classes; None for that of the architecture


def load_with_weights(file: str, name: str, build: Build) -> Source:
    """Build an architecture with the weights of a file; the last layer gets as many classes as the file has.

    Raises UnknownSourceError where there is no such file, CorruptFileError for a damaged one, ValueError, naming the
    tensors, where it does not fit.
    """
    from safetensors.torch import load_file

    if not Path(file).is_file():
        raise UnknownSourceError(f"there is no file {file!r}, of which {name!r} is to have its weights")
    with reading_weights(name):
        weights = load_file(file)
    source = build(None)
    state = source.network.state_dict()
    if (n_classes := _other_number_of_classes(weights, state)) is not None:
        source = build(n_classes)
        state = source.network.state_dict()
    if said := _differences(weights, state):
        raise ValueError(f"the weights in {file!r} are not those of {name.partition('=')[0]!r}: {'; '.join(said)}")
    source.network.load_state_dict(weights, strict=False)  # what is counted alone may lack: `_differences`
    # Of the Hugging Face Hub, the name of the architecture has a commit: for its configuration and preprocessing.
    return replace(source, name=f"{source.name or name.partition('=')[0]}={file}")


@contextmanager
def reading_weights(name: str) -> Iterator[None]:
    """Turn what reading a file of weights raises into UnsafeFileError, CorruptFileError or ValueError with its name."""
    from safetensors import SafetensorError

    try:
        yield
    except UnpicklingError as error:
        raise UnsafeFileError(
            f"the weights of {name!r} are a pickle that asks for more than tensors, which may run code, so they were "
            "not read; where you trust them, load them yourself and save them as safetensors"
        ) from error
    except (SafetensorError, EOFError) as error:
        raise CorruptFileError(f"the weights of {name!r} are damaged ({error}); fetch or write them again") from error
    except (OSError, RuntimeError, ValueError) as error:
        why = str(error).strip().partition("\n")[0][:300]
        raise ValueError(f"the weights of {name!r} cannot be read: {why}") from error


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
