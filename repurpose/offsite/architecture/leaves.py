"""Leaves: the layers that a network sent as data is made of, by class and the values of their constructors.

The classes stand in tables: those of torch here, those of torchvision, timm and the embedded source by the names of
their modules. A layer of any other class is no leaf: what its `forward` does is recorded.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.canonical_json import JsonValue
from repurpose.offsite.architecture.arguments import UnsendableError, as_json, from_json

__all__ = ["has_own_children", "is_leaf", "leaf_as_json", "leaf_from_json"]

_TORCH = """
AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
AlphaDropout AvgPool1d AvgPool2d AvgPool3d BatchNorm1d BatchNorm2d BatchNorm3d Bilinear CELU ChannelShuffle
CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d
ConvTranspose1d ConvTranspose2d ConvTranspose3d CosineSimilarity Dropout Dropout1d Dropout2d Dropout3d
ELU Embedding EmbeddingBag FeatureAlphaDropout Flatten Fold GELU GLU GRU GRUCell GroupNorm Hardshrink Hardsigmoid
Hardswish Hardtanh Identity InstanceNorm1d InstanceNorm2d InstanceNorm3d LPPool1d LPPool2d LPPool3d LSTM LSTMCell
LayerNorm LeakyReLU Linear LocalResponseNorm LogSigmoid LogSoftmax MaxPool1d MaxPool2d MaxPool3d Mish
MultiheadAttention PReLU PairwiseDistance PixelShuffle PixelUnshuffle RMSNorm RNN RNNCell RReLU ReLU ReLU6
ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d SELU SiLU Sigmoid
Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold TransformerEncoderLayer Unflatten
Unfold Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d
""".split()  # noqa: SIM905

# By module, which a table names and no file.
_OF_LIBRARIES = {
    "efficientnet_lite_pytorch.utils": ("Conv2dStaticSamePadding", "Identity"),
    "torchvision.ops.misc": ("FrozenBatchNorm2d", "Permute"),
    "torchvision.ops.stochastic_depth": ("StochasticDepth",),
    "torchvision.models.convnext": ("LayerNorm2d",),
    "timm.layers.drop": ("DropPath",),
    "timm.layers.linear": ("Linear",),
    "timm.layers.norm": (
        *("GroupNorm", "GroupNorm1", "LayerNorm", "LayerNorm2d", "LayerNormFp32", "LayerNorm2dFp32", "RmsNorm"),
        *("RmsNorm2d", "SimpleNorm", "SimpleNorm2d"),
    ),
    "timm.layers.norm_act": ("BatchNormAct2d",),
    "timm.layers.conv2d_same": ("Conv2dSame",),
    "timm.layers.pool2d_same": ("AvgPool2dSame", "MaxPool2dSame"),
    "timm.layers.std_conv": ("StdConv2d", "StdConv2dSame"),
    "timm.layers.activations": (
        *("Swish", "Mish", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "HardMish", "PReLU", "GELU", "GELUTanh"),
        "QuickGELU",
    ),
}

_PASSING_ON = (nn.RNNBase, nn.Conv2d)  # norms of timm set what the class above takes by options of their own
_WITH_CHILDREN = ("timm.layers.norm_act.BatchNormAct2d", "efficientnet_lite_pytorch.utils.Conv2dStaticSamePadding")
_WHERE = ("device", "dtype")  # options that the state has
_LARGEST_OPTION, _MOST_LAYERS = 2**31, 1_000
_PLAIN = (bool, int, float, str, tuple, list, type(None))


def is_leaf(module: nn.Module) -> bool:
    """Tell whether a module is of a class of the tables, and not of one derived from it."""
    return _name_of(type(module)) is not None


def has_own_children(module: nn.Module) -> bool:
    """Tell whether a leaf has children of any kind, which are sent one by one, as the activation of a norm is."""
    return _name_of(type(module)) in _WITH_CHILDREN


def leaf_as_json(module: nn.Module) -> JsonValue:
    """Return class and options of a leaf, and its dtype unless that is torch's own.

    Raises UnsendableError where a leaf made of these would be another one.
    """
    name = _name_of(type(module))
    options = {option: as_json(_value_of(name, module, option)) for option in _sent_options(type(module))}
    said: dict[str, JsonValue] = {"leaf": name, "options": options}
    dtype = next((tensor.dtype for tensor in _tensors_of(module).values() if tensor.is_floating_point()), torch.float32)
    if dtype != torch.float32:
        said["dtype"] = as_json(dtype)
    if difference := _difference(leaf_from_json(said), module):
        raise UnsendableError(f"a {type(module).__name__} whose {difference} is not as its constructor makes it")
    return said


def leaf_from_json(said: JsonValue) -> nn.Module:
    """Make a leaf on torch's "meta", where sizes that are lies take no memory.

    Raises UnsafeFileError for a class outside the tables, CorruptFileError for options that it does not take.
    """
    name, options = said["leaf"], said["options"]
    if (cls := _class_named(name)) is None:
        raise UnsafeFileError(f"its graph has a layer of the class {str(name)[:60]!r}, which is none that is made")
    if type(options) is not dict or not set(options).issubset(_sent_options(cls)):
        raise UnsafeFileError(f"its graph gives {name} the options {str(options)[:60]}")
    values = {option: _checked(name, option, from_json(value)) for option, value in options.items()}
    dtype = from_json(said.get("dtype", {"dtype": "float32"}))
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise CorruptFileError(f"its graph has a {name} of the dtype {str(dtype)[:40]}")
    try:
        with torch.device("meta"):
            return cls(**values).to(dtype)
    except Exception as error:  # whatever a constructor raises of values that it does not take
        raise CorruptFileError(f"its graph has a {name} that cannot be made: {error}") from error


def _exceptions(name: str | None) -> dict[str, Callable[[Any], Any]]:
    return {**_COMMON, **_EXCEPTIONS.get(str(name), {})}


def _sent_options(cls: type) -> list[str]:
    """Return the options of a class but for those that the state has, or a device where memory would be taken."""
    exceptions = _exceptions(_name_of(cls))
    return [option for option in _options(cls) if exceptions.get(option) is not _nothing]


def _value_of(name: str | None, module: nn.Module, option: str) -> Any:
    exceptions = _exceptions(name)
    if option in exceptions:
        return exceptions[option](module)
    if not hasattr(module, option):
        raise UnsendableError(f"a {type(module).__name__}, of which {option!r} is not known")
    return getattr(module, option)


def _has(name: str) -> Callable[[Any], Any]:
    return lambda module: getattr(module, name) is not None


def _is(name: str) -> Callable[[Any], Any]:
    return lambda module: getattr(module, name)


def _nothing(module: Any) -> Any:
    """Mark an option that is not sent."""
    return None


def _bias(module: Any) -> Any:
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return module.bias
    return module.bias is not None


_COMMON: dict[str, Callable[[Any], Any]] = {"bias": _bias, **dict.fromkeys(_WHERE, _nothing)}
_OF_CHANNELS = {
    "num_channels": lambda module: module.normalized_shape[0],
    "affine": _is("elementwise_affine"),
}
_OF_RMS = {"channels": lambda module: module.normalized_shape[0], "affine": _is("elementwise_affine")}


def _activation(module: Any) -> Any:
    """Return the activation of a layer of `nn.TransformerEncoder`, which its constructor takes by name."""
    found = {torch.nn.functional.relu: "relu", torch.nn.functional.gelu: "gelu"}.get(module.activation)
    if found is None:
        raise UnsendableError("a TransformerEncoderLayer with another activation than relu or gelu")
    return found


_EXCEPTIONS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "torch.nn.Embedding": {"_weight": _nothing, "_freeze": _nothing},
    "torch.nn.EmbeddingBag": {"_weight": _nothing},
    "torch.nn.MultiheadAttention": {
        "bias": _has("in_proj_bias"),
        "add_bias_kv": _has("bias_k"),
    },
    "torch.nn.PReLU": {"init": _nothing},
    "torch.nn.Hardtanh": {"min_value": _nothing, "max_value": _nothing},
    "torch.nn.PairwiseDistance": {"p": _is("norm")},
    "torch.nn.GRU": {"proj_size": _nothing},
    "torch.nn.RNN": {"proj_size": _nothing},
    "torch.nn.TransformerEncoderLayer": {
        "d_model": lambda module: module.self_attn.embed_dim,
        "nhead": lambda module: module.self_attn.num_heads,
        "dim_feedforward": lambda module: module.linear1.out_features,
        "dropout": lambda module: module.dropout.p,
        "activation": _activation,
        "layer_norm_eps": lambda module: module.norm1.eps,
        "batch_first": lambda module: module.self_attn.batch_first,
        "bias": lambda module: module.linear1.bias is not None,
    },
    # the padding that it makes of a size of images is a child, and is sent as that
    "efficientnet_lite_pytorch.utils.Conv2dStaticSamePadding": {
        "image_size": lambda module: 1,
        "stride": lambda module: module.stride[:1] if isinstance(module.stride, list) else module.stride,
    },
    "torchvision.ops.misc.FrozenBatchNorm2d": {"num_features": lambda module: module.weight.shape[0]},
    **{
        f"timm.layers.norm.{name}": _OF_CHANNELS
        for name in ("LayerNorm", "LayerNorm2d", "LayerNormFp32", "LayerNorm2dFp32")
    },
    **{f"timm.layers.norm.{name}": _OF_RMS for name in ("RmsNorm", "RmsNorm2d", "SimpleNorm", "SimpleNorm2d")},
    "timm.layers.norm_act.BatchNormAct2d": {
        **dict.fromkeys(("act_layer", "act_kwargs", "inplace", "drop_layer"), _nothing),  # its children are sent
        "apply_act": lambda module: False,
    },
    **{
        f"timm.layers.activations.{name}": {"inplace": _nothing, "init": _nothing}
        for name in ("Mish", "PReLU", "GELU", "GELUTanh", "QuickGELU")
    },
    **{
        f"timm.layers.std_conv.{name}": {"in_channel": _is("in_channels"), "out_channels": _is("out_channels")}
        for name in ("StdConv2d", "StdConv2dSame")
    },
}


@cache
def _torch_classes() -> dict[type, str]:
    return {getattr(nn, name): f"torch.nn.{name}" for name in _TORCH}


def _name_of(cls: type) -> str | None:
    if cls in _torch_classes():
        return _torch_classes()[cls]
    home, own = cls.__module__, cls.__qualname__
    return f"{home}.{own}" if own in _OF_LIBRARIES.get(home, ()) else None


def _class_named(name: object) -> type[nn.Module] | None:
    if not isinstance(name, str):
        return None
    library, _, own = name.rpartition(".")
    if library == "torch.nn" and own in _TORCH:
        return getattr(nn, own)
    if own not in _OF_LIBRARIES.get(library, ()):
        return None
    try:
        return getattr(importlib.import_module(library), own, None)
    except ImportError as error:
        raise ImportError(f"this network needs {library.partition('.')[0]}: {error}") from error


def _options(cls: type) -> tuple[str, ...]:
    """Return the options of a class, and where it passes on any further ones, those of the class above it too."""
    found: list[str] = []
    for above in cls.__mro__:
        if "__init__" not in vars(above) or above is nn.Module:
            continue
        parameters = list(inspect.signature(vars(above)["__init__"]).parameters.values())[1:]
        found += [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        passes_on = any(each.kind is each.VAR_KEYWORD for each in parameters)
        if not (passes_on and issubclass(cls, _PASSING_ON)):
            break
    if issubclass(cls, nn.RNNBase):  # which says itself of which kind it is
        found.remove("mode")
    return tuple(dict.fromkeys([*found, "nonlinearity"] if cls is nn.RNN else found))


def _checked(name: str, option: str, value: Any) -> Any:
    """Return a value of an option. Raises UnsafeFileError for numbers by which a constructor would count for long."""
    numbers = list(value) if isinstance(value, (tuple, list)) else [value]
    most = _MOST_LAYERS if option == "num_layers" else _LARGEST_OPTION
    if any(type(number) is int and abs(number) > most for number in numbers) or len(numbers) > _MOST_LAYERS:
        raise UnsafeFileError(f"its graph gives {name} the {option} {str(value)[:60]}")
    return value


def _difference(made: nn.Module, module: nn.Module) -> str:
    """Return in what a leaf differs that was made of the options of another, "" where in nothing."""
    if has_own_children(module):
        made._modules.update(module._modules)
    shapes = [
        {name: (tensor.shape, isinstance(tensor, nn.Parameter)) for name, tensor in _tensors_of(each).items()}
        for each in (made, module)
    ]
    if shapes[0] != shapes[1]:
        return "weights"
    if [path for path, _ in made.named_modules()] != [path for path, _ in module.named_modules()]:
        return "children"
    for path, own in made.named_modules():
        other = module.get_submodule(path)
        if type(own) is not type(other):
            return f"{path or 'class'}"
        values = [
            {key: value for key, value in vars(each).items() if key != "training" and isinstance(value, _PLAIN)}
            for each in (own, other)
        ]
        for key in sorted({*values[0], *values[1]}):
            if key not in _BESIDE and repr(values[0].get(key)) != repr(values[1].get(key)):
                return key
    return ""


_BESIDE = ("_is_full_backward_hook", "_flat_weights", "_flat_weight_refs", "_forward_hooks")


def _tensors_of(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}
