"""Serialization of values: JSON for what JSON holds, safetensors for arrays, skops for scikit-learn's estimators.

`Codec.encode` turns a value into JSON and keeps its arrays and estimators; `Codec.decode` turns it back.
What JSON has no word for becomes an object with a "type" that a table looks up: no file names code to run.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

from model_handler.files.array_files import wastes_memory
from model_handler.network.states import has_channels_last, with_channels_last
from repurpose.persistence.values import heads, layers, parts

__all__ = ["Codec", "Json", "NotInFileError", "UnsavableError"]

_SPARE_WIDTH = 2_500_000  # characters, 10 MB
_SPARE_WIDTH_OF_ALL = 4 * _SPARE_WIDTH
_TEXT_DTYPE = re.compile(r"[<>=]U(\d{1,9})")
_T = TypeVar("_T")
Json = bool | int | float | str | list | dict | None


class UnsavableError(ValueError):
    """A value that a saved repurposer cannot hold."""


class NotInFileError(ValueError):
    """What was learned stands in part elsewhere, and has to be given again when a repurposer is loaded."""


@dataclass
class Codec:
    """Turns values into JSON and back; what JSON cannot hold stands beside it.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Numbers, by the keys that the JSON has for them.
    estimators : dict of str to bytes
        skops files, by file name.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    estimators: dict[str, bytes] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set, init=False, repr=False)  # in decoding
    _spare_width: int = field(default=_SPARE_WIDTH_OF_ALL, init=False, repr=False)  # that is left for further texts

    def encode(self, value: object, key: str) -> Json:
        """Return the value as JSON; `key` names its arrays. Raises UnsavableError naming the type."""
        if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
            return value if value is None or type(value) in (bool, int, str, float) else _as_plain_type(value)
        if isinstance(value, float):  # NaN or infinite, which JSON has no word for
            return {"type": "float", "value": repr(float(value))}
        if isinstance(value, list):
            return [self.encode(item, f"{key}.{i}") for i, item in enumerate(value)]
        # JSON has lists alone, and a parameter that comes back as a list may no longer be equal to itself.
        if isinstance(value, tuple):
            return {"type": "tuple", "items": self.encode(list(value), key)}
        if isinstance(value, dict) and all(isinstance(name, str) for name in value):
            return {"type": "dict", "items": {name: self.encode(item, f"{key}.{name}") for name, item in value.items()}}
        # Keys of JSON are text: labels that are numbers would come back as such.
        if isinstance(value, dict):
            return {"type": "pairs", "items": self.encode([list(pair) for pair in value.items()], key)}
        if isinstance(value, torch.device):
            return {"type": "device", "name": str(value)}
        if isinstance(value, np.random.RandomState):
            return {"type": "random_state", "state": self.encode(value.get_state(legacy=True), key)}
        if isinstance(value, torch.Tensor):
            if value.dtype == torch.bfloat16:  # numpy has no such numbers
                bits = value.detach().cpu().contiguous().view(torch.int16)
                return {"type": "bfloat16", "array": self.encode(bits.numpy(), key)}
            if value.is_complex():
                pairs = torch.view_as_real(value.detach().cpu().resolve_conj())
                return {"type": "complex", "array": self.encode(pairs.numpy(), key)}
            kind = "channels_last" if has_channels_last(value) else "tensor"
            return {"type": kind, "array": self.encode(_from_tensor(value), key)}
        if isinstance(value, (np.ndarray, np.generic)):
            return self._encode_array(value, key)
        if parts.is_storable(value):
            return {
                "type": "part",
                "class": parts.name_in_files(type(value)),
                "fields": self.encode(parts.take_part_apart(value), key),
            }
        return self._encode_head(value, key)

    def decode(self, node: Json) -> Any:
        """Return the value that `encode` made `node` from.

        Raises ValueError for anything it cannot have made.
        """
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return node
        if node.get("type") not in _DECODERS:
            raise ValueError(f"it holds a value of the unknown type {node.get('type')!r}")
        names, decoder = _DECODERS[node["type"]]
        if sorted(node) != sorted(["type", *names]):
            raise ValueError(f"it holds a {node['type']} of {sorted(node)[:9]}, where {['type', *names]} were expected")
        return decoder(self, node)

    def check_all_used(self) -> None:
        """Raise ValueError where arrays or estimators are left that no value named."""
        if left := sorted({*self.arrays, *self.estimators} - self._used):
            raise ValueError(f"it holds {left[0][:60]!r}, which nothing in it names")

    def _encode_array(self, value: np.ndarray | np.generic, key: str) -> dict[str, Any]:
        array = np.asarray(value)
        if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:  # safetensors has no longdouble
            key = f"{key}#{len(self.arrays)}"  # two values may come to the same key: names have dots too
            self.arrays[key] = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
            kind = "scalar" if isinstance(value, np.generic) else "array"
            # The order of memory reaches the last digit of products, and so of predictions.
            fortran = array.flags.f_contiguous and not array.flags.c_contiguous
            return {"type": kind, "key": key, "order": "F" if fortran else "C"}
        # Entry by entry, since pickle, numpy's way with objects, would let a file run code.
        if array.dtype.kind in "UO":
            items = [self.encode(item, f"{key}.{i}") for i, item in enumerate(array.ravel().tolist())]
            dtype = "object" if array.dtype.kind == "O" else array.dtype.str
            if array.dtype.kind == "U":
                self._check_width(array.dtype.itemsize // 4, array.ravel().tolist())
            return {"type": "texts", "dtype": dtype, "shape": list(array.shape), "items": items}
        raise UnsavableError(f"an array of dtype {array.dtype}")

    def _encode_head(self, value: object, key: str) -> dict[str, Any]:
        if heads.is_plain_logistic_regression(value):
            return {"type": "logistic_regression", "parts": self.encode(heads.take_apart(value), key)}
        if heads.is_estimator(value):
            data, untrusted = heads.dump_estimator(value)
            if untrusted:
                raise UnsavableError(f"a {type(value).__name__} with parts that are not loaded from files: {untrusted}")
            file = f"estimator_{len(self.estimators)}.skops"  # not by `key`, which may hold a user's text
            self.estimators[file] = data
            return {"type": "skops", "file": file}
        if layers.is_of_known_layers(value):
            if (n_layers := sum(1 for _ in value.named_modules(remove_duplicate=False))) > layers.MOST_LAYERS:
                raise UnsavableError(f"a network of {n_layers:,} layers, of which a file holds {layers.MOST_LAYERS:,}")
            return {"type": "network", "parts": self.encode(layers.take_layers_apart(value), key)}
        raise UnsavableError(f"an object of type {type(value).__module__}.{type(value).__qualname__}")

    def _decode_array(self, node: dict[str, Any]) -> np.ndarray:
        if node["order"] not in ("C", "F"):
            raise ValueError(f"it holds an array of the order {str(node['order'])[:20]!r}")
        array = self._once(self.arrays, node["key"])
        return np.asfortranarray(array) if node["order"] == "F" else array

    def _decode_scalar(self, node: dict[str, Any]) -> Any:
        array = self._decode_array(node)
        if array.ndim:
            raise ValueError(f"it holds an array of shape {array.shape} in the place of a number")
        return array[()]

    def _decode_tensor(self, node: dict[str, Any]) -> torch.Tensor:
        array, wanted = self.decode(node["array"]), _DTYPES_BEHIND.get(node["type"], "biuf")
        if not isinstance(array, np.ndarray) or (array.dtype.kind not in wanted and array.dtype.name not in wanted):
            raise ValueError(f"it holds a {node['type']} that is no array of its numbers")
        tensor = torch.from_numpy(np.array(array))
        if node["type"] == "channels_last":
            return with_channels_last(tensor)
        if node["type"] == "tensor":
            return tensor
        return tensor.view(torch.bfloat16) if node["type"] == "bfloat16" else torch.view_as_complex(tensor)

    def _decode_texts(self, node: dict[str, Any]) -> np.ndarray:
        items, dtype = _list(self.decode(node["items"])), node["dtype"]
        if dtype != "object":
            width = _TEXT_DTYPE.fullmatch(dtype)
            # numpy gives each text the width of its dtype: one long text, or a lie, would fill the memory
            if not width or not all(isinstance(item, str) for item in items):
                raise ValueError(f"it holds text of the dtype {dtype[:20]!r}")
            self._check_width(int(width[1]), items)
        array = np.empty(len(items), dtype=dtype)
        array[:] = items
        return array.reshape(node["shape"])

    def _check_width(self, width: int, texts: Sequence[str]) -> None:
        """Raise UnsavableError where an array of this width takes 10 MB more than a few times its texts, all 40 MB."""
        if wastes_memory(width, texts, min(_SPARE_WIDTH, self._spare_width)):
            raise UnsavableError(f"an array of {len(texts):,} texts, each with room for {width:,} characters")
        self._spare_width -= max(0, width * len(texts) - 4 * sum(map(len, texts)))

    def _decode_part(self, node: dict[str, Any]) -> Any:
        fields = node["fields"]["items"]
        parts.check_part(node["class"], fields)  # before what is in it is made
        return parts.put_part_together(node["class"], _dict(self, fields))

    def _decode_estimator(self, node: dict[str, Any]) -> Any:
        return heads.load_estimator(self._once(self.estimators, node["file"]))

    def _once(self, held: Mapping[str, _T], name: str) -> _T:
        """Return what the file holds under a name. Raises ValueError where two values name it: none is written so."""
        if name in self._used:
            raise ValueError(f"it names {name[:60]!r} twice")
        self._used.add(name)
        return held[name]

    def _decode_random_state(self, node: dict[str, Any]) -> np.random.RandomState:
        name, keys, position, has_normal, normal = self.decode(node["state"])
        # numpy takes any position, and reads memory that is not its own.
        whole = [type(number) for number in (position, has_normal)] == [int, int] and type(normal) is float
        if not (whole and 0 <= position <= 624 and has_normal in (0, 1) and math.isfinite(normal)):
            raise ValueError("it holds a RandomState in an impossible state")
        if not isinstance(keys, np.ndarray) or keys.dtype != np.uint32 or keys.shape != (624,):
            raise ValueError("it holds a RandomState without its 624 numbers")
        state = np.random.RandomState(0)
        state.set_state((name, keys, position, has_normal, normal))
        return state


def _as_plain_type(value: bool | float | str) -> bool | int | float | str:
    """Convert a value of a subclass of a plain type, such as numpy's float64 and str_, to that plain type."""
    return next(kind(value) for kind in (bool, int, str, float) if isinstance(value, kind))


def _from_tensor(tensor: torch.Tensor) -> np.ndarray:
    try:
        return tensor.detach().cpu().numpy()
    except TypeError as error:  # dtypes and layouts that numpy does not have
        layout = "" if tensor.layout is torch.strided else f" and layout {tensor.layout}"
        raise UnsavableError(f"a tensor of dtype {tensor.dtype}{layout}") from error


def _list(node: Any) -> list[Any]:
    if not isinstance(node, list):
        raise ValueError(f"it holds a {type(node).__name__} in the place of a list")
    return node


def _float(text: Json) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError(f"it holds {str(text)[:20]!r} as a number, which JSON has a word for")
    return float(text)


def _dict(codec: Codec, items: Json) -> dict[str, Any]:
    if not isinstance(items, dict):
        raise ValueError(f"it holds a {type(items).__name__} in the place of a dict")
    return {name: codec.decode(item) for name, item in items.items()}


def _pairs(codec: Codec, items: Json) -> dict[Any, Any]:
    pairs = [_list(pair) for pair in _list(codec.decode(items))]
    if any(len(pair) != 2 or isinstance(pair[0], (list, dict, np.ndarray, torch.Tensor)) for pair in pairs):
        raise ValueError("it holds pairs that are no names and values")
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it holds a dict with a name that comes twice")
    return found


_DTYPES_BEHIND = {"bfloat16": ("int16",), "complex": ("float32", "float64")}

# By the type of a node: its further names, and what makes the value.
_DECODERS: dict[str, tuple[tuple[str, ...], Callable[[Codec, dict[str, Any]], Any]]] = {
    "array": (("key", "order"), Codec._decode_array),
    "bfloat16": (("array",), Codec._decode_tensor),
    "channels_last": (("array",), Codec._decode_tensor),
    "complex": (("array",), Codec._decode_tensor),
    "device": (("name",), lambda codec, node: torch.device(node["name"])),
    "dict": (("items",), lambda codec, node: _dict(codec, node["items"])),
    "float": (("value",), lambda codec, node: _float(node["value"])),
    "logistic_regression": (("parts",), lambda codec, node: heads.put_together(codec.decode(node["parts"]))),
    "network": (("parts",), lambda codec, node: layers.network_of_layers(codec.decode(node["parts"]))),
    "pairs": (("items",), lambda codec, node: _pairs(codec, node["items"])),
    "part": (("class", "fields"), Codec._decode_part),
    "random_state": (("state",), Codec._decode_random_state),
    "scalar": (("key", "order"), Codec._decode_scalar),
    "skops": (("file",), Codec._decode_estimator),
    "tensor": (("array",), Codec._decode_tensor),
    "texts": (("dtype", "shape", "items"), Codec._decode_texts),
    "tuple": (("items",), lambda codec, node: tuple(_list(codec.decode(node["items"])))),
}
