"""Unknown layers: the error for names that a network does not have, with those that may have been meant."""

from collections.abc import Sequence

from torch import nn

from model_handler.errors import UnknownLayerError, nearest, with_fix
from model_handler.network.tensors import named_tensors

__all__ = ["unknown_layers"]


def unknown_layers(network: nn.Module, unknown: Sequence[str], known: Sequence[str]) -> UnknownLayerError:
    """Return the error that lists every unknown name with the nearest known ones; of a tensor's name its layer."""
    tensors = {name: name.rpartition(".")[0] for name, _ in named_tensors(network)}
    near = [[owner] if (owner := tensors.get(str(name))) else nearest(str(name), known) for name in unknown]
    hints = [f"no layer is named {name!r}; nearest: {found}" for name, found in zip(unknown, near, strict=True)]
    return with_fix(
        UnknownLayerError,
        "\n".join(hints),
        python="all names: ModelHandler(...).layer_names",
        shell="all names: repurpose layers SOURCE",
        between="\n",
    )
