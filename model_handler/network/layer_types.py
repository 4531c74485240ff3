"""Layer types: the class of a module, the name of an operation, and Xfer's families over both.

MXNet called layers by what they do (`Convolution`, `FullyConnected`); those names keep working beside class names.
"""

from torch import nn

from model_handler.errors import ModelError, nearest

__all__ = ["is_of_type", "known_types"]

_SOFTMAX = ((nn.Softmax, nn.LogSoftmax, nn.Softmax2d), ("softmax", "log_softmax"))
_FAMILIES: dict[str, tuple[tuple[type[nn.Module], ...], tuple[str, ...]]] = {
    "convolution": ((nn.modules.conv._ConvNd,), ("conv1d", "conv2d", "conv3d")),
    "fullyconnected": ((nn.Linear, nn.Bilinear, nn.LazyLinear), ("linear",)),
    "activation": (
        tuple(
            getattr(nn, name)
            for name in nn.modules.activation.__all__
            if name not in ("MultiheadAttention", "Softmax", "Softmax2d", "LogSoftmax", "Softmin")
        ),
        ("relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "elu", "leaky_relu", "hardswish", "hardsigmoid", "mish"),
    ),
    "pooling": (
        (
            nn.modules.pooling._MaxPoolNd,
            nn.modules.pooling._AvgPoolNd,
            nn.modules.pooling._AdaptiveAvgPoolNd,
            nn.modules.pooling._AdaptiveMaxPoolNd,
            nn.modules.pooling._LPPoolNd,
        ),
        ("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d")
        + ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
    ),
    "batchnorm": ((nn.modules.batchnorm._BatchNorm,), ("batch_norm",)),
    "normalization": (
        (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
        + (nn.LocalResponseNorm, nn.CrossMapLRN2d),
        ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm"),
    ),
    "lrn": ((nn.LocalResponseNorm, nn.CrossMapLRN2d), ("local_response_norm",)),
    "dropout": ((nn.modules.dropout._DropoutNd,), ("dropout", "dropout1d", "dropout2d", "dropout3d")),
    "flatten": ((nn.Flatten,), ("flatten",)),
    "softmax": _SOFTMAX,
    "softmaxoutput": _SOFTMAX,  # MXNet's had the loss in it
    "concat": ((), ("cat", "concat", "concatenate")),
    "plus": ((), ("add",)),  # `_Plus`
    "mean": ((), ("mean",)),
    "embedding": ((nn.Embedding, nn.EmbeddingBag), ("embedding",)),
    "attention": ((nn.MultiheadAttention,), ("scaled_dot_product_attention",)),
    "recurrent": ((nn.RNNBase, nn.RNNCellBase), ()),
}


def is_of_type(layer: nn.Module | str, layer_type: str | type) -> bool:
    """Return whether a layer, a module or the name of an operation, is of a type: a class, a class name or a family."""
    if isinstance(layer_type, type):
        return isinstance(layer, layer_type)
    wanted = _normalised(layer_type)
    classes, operations = _FAMILIES.get(wanted, ((), ()))
    if isinstance(layer, str):
        return _normalised(layer) == wanted or layer in operations
    names = {_normalised(base.__name__) for base in type(layer).__mro__[: type(layer).__mro__.index(nn.Module)]}
    return wanted in names or isinstance(layer, classes)


def known_types(present: set[str], layer_type: str | type) -> None:
    """Raise ModelError, naming the nearest types, for a type that no layer could have.

    `present` are the type names of the network at hand, operations included.
    """
    if isinstance(layer_type, type):
        if not issubclass(layer_type, nn.Module):
            raise ModelError(f"a layer type is a torch.nn.Module class or a name, got {layer_type!r}")
        return
    if not isinstance(layer_type, str):
        raise ModelError(f"a layer type is a torch.nn.Module class or a name, got {layer_type!r}")
    known = {*_FAMILIES, *present, *(name for name in dir(nn) if isinstance(getattr(nn, name), type))}
    known.update(operation for _, operations in _FAMILIES.values() for operation in operations)
    if _normalised(layer_type) not in {_normalised(name) for name in known}:
        raise ModelError(f"there is no layer type {layer_type!r}; nearest: {nearest(layer_type, sorted(known))}")


def _normalised(name: str) -> str:
    return name.replace("_", "").lower()
