"""The operations that a network sent as data may use, each by a name that a table looks up.

These compute with tensors: none reads or writes files, none sets anything of the process, none runs code that it is
given. Python's own operators also compute with sizes; these are held to what sizes can be, since a few characters of a
file (`9 ** 9 ** 9`, a list times a billion) could otherwise fill the memory.
"""

import importlib
import inspect
import math
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from model_handler.errors import UnsafeFileError

__all__ = ["ATTRIBUTES", "METHODS", "attribute_of", "check_items", "function_named", "method_of", "name_of_function"]

_TORCH = """
abs absolute acos add addbmm addcdiv addcmul addmm adaptive_avg_pool1d all amax amin aminmax any arange argmax argmin
argsort asin atan atan2 atleast_1d atleast_2d atleast_3d baddbmm batch_norm bernoulli bitwise_and bitwise_not
bitwise_or bmm broadcast_tensors broadcast_to bucketize cat cdist ceil chunk clamp clamp_max clamp_min clone concat
concatenate conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d cos cosh cross cummax cummin
cumprod cumsum deg2rad detach diag diag_embed diagonal diff div divide dot dropout dsplit dstack einsum empty_like eq
erf erfc exp exp2 expm1 eye flatten flip fliplr flipud floor floor_divide fmod frac full full_like gather ge greater
group_norm gt hardshrink heaviside hsplit hstack hypot index_add index_select inner instance_norm isfinite isinf isnan
kron layer_norm le lerp less linspace log log10 log1p log2 log_softmax logaddexp logical_and logical_not logical_or
logical_xor logsumexp lt masked_fill matmul max maximum mean median meshgrid min minimum mm moveaxis movedim mul
multiply mv nan_to_num narrow ne neg norm not_equal numel ones ones_like outer permute pow prelu prod
rad2deg rand rand_like randn randn_like ravel real reciprocal relu remainder repeat_interleave reshape roll rot90
round rsqrt rsub scatter scatter_add select selu sigmoid sign sin sinc sinh softmax sort split sqrt square squeeze
stack std std_mean sub subtract sum swapaxes swapdims t take_along_dim tan tanh tensor_split tensordot tile topk
transpose tril triu true_divide trunc unbind unflatten unsqueeze var var_mean vsplit vstack where zeros zeros_like
_assert
""".split()  # noqa: SIM905

_FUNCTIONAL = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d affine_grid alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm celu conv1d conv2d conv3d
conv_transpose1d conv_transpose2d conv_transpose3d cosine_similarity dropout dropout1d dropout2d dropout3d elu
embedding feature_alpha_dropout fold gelu glu grid_sample group_norm hardshrink hardsigmoid hardswish hardtanh
instance_norm interpolate layer_norm leaky_relu linear local_response_norm log_softmax logsigmoid lp_pool1d lp_pool2d
max_pool1d max_pool2d max_pool3d mish normalize one_hot pad pairwise_distance pixel_shuffle pixel_unshuffle prelu relu
relu6 rms_norm rrelu scaled_dot_product_attention selu sigmoid silu softmax softmin softplus softshrink softsign tanh
tanhshrink threshold unfold upsample
""".split()  # noqa: SIM905

_OPERATOR = """
abs add and_ eq floordiv ge getitem gt iadd iand imul invert ior isub itruediv le lshift lt matmul mod mul ne neg not_
or_ pos pow rshift setitem sub truediv xor
""".split()  # noqa: SIM905

_MATH = ("ceil", "floor", "sqrt", "log", "log2", "exp", "prod")

# Those that torch.fx has as one operation, or cannot follow, of the libraries that networks come from.
_OF_LIBRARIES = {
    "torchvision.models.swin_transformer": (
        "shifted_window_attention",
        "_get_relative_position_bias",
        "_patch_merging_pad",
    ),
    "torchvision.models.maxvit": ("_get_relative_position_index",),
    "torchvision.ops.stochastic_depth": ("stochastic_depth",),
    "timm.layers.pos_embed": ("resample_abs_pos_embed", "resample_abs_pos_embed_nhwc"),
    "timm.layers.attention": ("maybe_add_mask", "resolve_self_attn_mask"),
    "timm.layers.pos_embed_sincos": ("_build_grid", "make_coords_dinov3", "_freq_buffer_dtype"),
    "timm.models.crossvit": ("scale_image",),
    "timm.models.davit": ("window_partition", "window_reverse"),
    "timm.models.gcvit": ("window_partition", "window_reverse"),
    "timm.models.hiera": ("get_resized_mask",),
    "timm.models.maxxvit": (
        *("window_partition", "window_reverse", "grid_partition", "grid_reverse"),
        *("window_partition_nchw", "window_reverse_nchw", "grid_partition_nchw", "grid_reverse_nchw"),
    ),
    "timm.models.mvitv2": ("reshape_pre_pool", "reshape_post_pool", "cal_rel_pos_type"),
    "timm.models.nest": ("blockify", "deblockify"),
    "timm.layers.padding": ("pad_same",),
    "timm.layers.drop": ("drop_path",),
    "timm.models.swin_transformer": ("window_partition", "window_reverse"),
    "timm.models.swin_transformer_v2": ("window_partition", "window_reverse"),
}

METHODS = frozenset(
    """
    abs absolute add add_ addcmul addmm all amax amin any argmax argmin argsort bernoulli bernoulli_ bitwise_and
    bitwise_not bitwise_or bmm bool broadcast_to ceil chunk clamp clamp_ clamp_max clamp_min clone contiguous copy_
    cos cumprod cumsum detach diagonal diff dim div div_ dot double eq erf exp expand expand_as expm1 fill_ flatten
    flip float floor floor_divide fmod gather ge gt half bfloat16 index_add index_select int is_floating_point
    isfinite isinf isnan le lerp log log10 log1p log2 log_softmax logical_and logical_not logical_or logical_xor
    logsumexp long lt masked_fill masked_fill_ matmul max maximum mean median min minimum mm movedim mul mul_ mv
    nan_to_num narrow ndimension ne neg new_empty new_full new_ones new_zeros norm numel outer permute pow prelu prod
    ravel reciprocal relu relu_ remainder repeat repeat_interleave reshape reshape_as roll round rsqrt
    scatter scatter_add select sigmoid sign sin sinh size softmax sort split sqrt square squeeze std sub sub_ sum
    swapaxes swapdims t take_along_dim tan tanh tensor_split tile to topk transpose tril triu true_divide trunc
    type_as unbind unflatten unfold uniform_ unsqueeze unsqueeze_ var view view_as where zero_ __getitem__
    """.split()  # noqa: SIM905
)

ATTRIBUTES = frozenset({"shape", "ndim", "dtype", "device", "T", "mT", "H", "mH", "real", "imag", "is_cuda"})

_MOST_ITEMS, _MOST_DEEP = 100_000, 64  # in a tuple or list of sizes, with those in it
_LARGEST, _MOST_BITS = 2**63 - 1, 6_300


def function_named(name: str) -> Callable[..., Any] | None:
    """Return the function of that name in the table, None where it has none."""
    library, _, own = name.rpartition(".")
    if name in _own_functions():
        return _own_functions()[name]
    if own in _OF_LIBRARIES.get(library, ()):
        try:
            return getattr(importlib.import_module(library), own, None)
        except ImportError as error:
            raise ImportError(f"this network needs {library.partition('.')[0]}: {error}") from error
    return None


def name_of_function(function: Callable[..., Any]) -> str | None:
    """Return the name of a function in the table, None where it is not there."""
    try:
        name = _names().get(function)
    except TypeError:  # what cannot be hashed is no function of the table
        return None
    if name is not None:
        return name
    home, own = getattr(function, "__module__", "") or "", getattr(function, "__name__", "")
    found = function_named(f"{home}.{own}") if own in _OF_LIBRARIES.get(home, ()) else None
    # while torch.fx traces, some stand wrapped in their modules
    return f"{home}.{own}" if found and inspect.unwrap(found) is inspect.unwrap(function) else None


def method_of(receiver: object, name: str) -> Callable[..., Any]:
    """Return a method of the table, of a tensor or its size. Raises TypeError for a receiver of another kind."""
    if not isinstance(receiver, (Tensor, torch.Size, fx.Proxy)):
        raise TypeError(f"the method {name!r} is one of tensors, and was called on a {type(receiver).__name__}")
    return getattr(receiver, name)


def attribute_of(receiver: object, name: str) -> Any:
    """Return an attribute of the table, of a tensor. Raises TypeError for a receiver of another kind."""
    if not isinstance(receiver, (Tensor, fx.Proxy)) or name not in ATTRIBUTES:
        raise TypeError(f"the attribute {str(name)[:40]!r} of a {type(receiver).__name__} is none of tensors")
    return getattr(receiver, name)


def check_items(value: object) -> int:
    """Count what is in a value, in the lists in it too. Raises UnsafeFileError for more, or deeper, than is computed.

    A list that is a million times in another takes no memory until somebody goes through it.
    """
    found, left = 0, [(value, 0)]
    while left:
        item, depth = left.pop()
        if not isinstance(item, (list, tuple, dict)):
            continue
        found += len(item)
        if found > _MOST_ITEMS or depth > _MOST_DEEP:
            raise UnsafeFileError(f"its graph makes a list of more than {_MOST_ITEMS:,} items, or nested too deep")
        left += [(each, depth + 1) for each in (item.values() if isinstance(item, dict) else item)]
    return found


@cache
def _plain_functions() -> dict[str, Callable[..., Any]]:
    """Return the functions of torch and Python by name, as networks call them."""
    found = {f"torch.{name}": getattr(torch, name) for name in _TORCH if hasattr(torch, name)}
    found |= {f"torch.nn.functional.{name}": getattr(functional, name) for name in _FUNCTIONAL}
    found |= {f"operator.{name}": getattr(operator, name) for name in _OPERATOR}
    found |= {f"math.{name}": getattr(math, name) for name in _MATH}
    return {**found, "builtins.getattr": getattr}


@cache
def _own_functions() -> dict[str, Callable[..., Any]]:
    """Return the same as a network from a file calls them: with sizes held to what they can be."""
    guarded = {
        name: _guarded(function)
        for name, function in _plain_functions().items()
        if name.startswith(("operator.", "math.")) and name not in ("operator.getitem", "operator.setitem")
    }
    own: dict[str, Callable[..., Any]] = {"builtins.getattr": attribute_of, "operator.setitem": _set_item}
    return {**_plain_functions(), **guarded, **own}


@cache
def _names() -> dict[Callable[..., Any], str]:
    both = [*_plain_functions().items(), *_own_functions().items()]
    return {function: name for name, function in reversed(both)}


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operator of Python that refuses, of values that are no tensors, what grows beyond any size."""

    def guarded(*values: Any) -> Any:
        if not any(isinstance(value, (Tensor, fx.Proxy)) for value in values):
            _check_sizes(function, values)
        return function(*values)

    guarded.__name__ = function.__name__
    guarded.__module__ = function.__module__
    return guarded


def _set_item(receiver: object, place: Any, value: Any) -> None:
    """Set a part of a tensor: a list could be put into itself."""
    if not isinstance(receiver, (Tensor, fx.Proxy)):
        raise UnsafeFileError(f"its graph sets an item of a {type(receiver).__name__}, which is no tensor")
    operator.setitem(receiver, place, value)  # type: ignore[call-overload]


def _check_sizes(function: Callable[..., Any], values: tuple[Any, ...]) -> None:
    """Raise UnsafeFileError where the result could be more than a size or a list of sizes is."""
    name, wholes = function.__name__, [value for value in values if isinstance(value, int)]
    lists = [value for value in values if isinstance(value, (tuple, list))]
    others = [value for value in values if not isinstance(value, (int, float, tuple, list))]
    if others and function not in (operator.eq, operator.ne, operator.not_):
        raise UnsafeFileError(f"its graph takes {name} of a {type(others[0]).__name__}, which is no size")
    if any(abs(number) > _LARGEST for number in wholes):
        raise UnsafeFileError(f"its graph takes {name} of a number of more than 63 bits, which is no size")
    if function in (operator.pow, operator.lshift) and len(wholes) == 2 and abs(wholes[1]) > 64:
        raise UnsafeFileError(f"its graph takes {name} by {wholes[1]}, which makes no size")
    n_bits = sum(number.bit_length() for each in lists for number in each if isinstance(number, int))
    if name == "prod" and n_bits > _MOST_BITS:  # by name: while torch.fx traces, it stands wrapped in its module
        raise UnsafeFileError("its graph takes prod of numbers whose product is no size")
    if lists and sum(map(check_items, lists)) * max(1, *wholes, 1) > _MOST_ITEMS:
        raise UnsafeFileError(f"its graph makes a list of more than {_MOST_ITEMS:,} items by {name}")
