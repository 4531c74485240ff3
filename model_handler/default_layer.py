"""Where no layer is named, the one that the source names is taken, or what the last linear layer reads."""

from shlex import quote

from model_handler.errors import with_fix
from model_handler.handler import ModelHandler

__all__ = ["default_layer"]


def default_layer(handler: ModelHandler, parameter: str = "feature_layer_names") -> str:
    """Find the name of that layer. Raises ValueError, listing layers, for a network that ends in no linear one.

    `parameter` is the name of the one by which layers are named instead.
    """
    if (name := handler.default_layer) is not None:
        return name
    if not (layers := handler.layer_names):
        raise ValueError(
            f"{handler.name} has no layers, so there is none whose output could be the features; put it into an "
            "nn.Sequential, whose parts are layers: nn.Sequential(network)"
        )
    raise with_fix(
        ValueError,
        f"{handler.name} does not end in a linear layer, whose input would be the features; its last layers are "
        f"{layers[-5:]}",
        python=f"name one or several: {parameter}=[{layers[-1]!r}] (ModelHandler(...).layer_names lists all)",
        shell=f"name one or several: --layer {quote(layers[-1])} (`repurpose layers {quote(handler.name)}` lists all)",
    )
