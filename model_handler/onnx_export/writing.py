"""Files of ONNX are written here: one graph of standard operators, checked, and on the disk as a whole or not at all.

A module is captured by torch.export and translated by torch.onnx. What torch notes beside the operators, such as the
lines of code that they come from, is left out: it names directories of the machine.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.files.whole_files import remove_left_behind, write_whole
from model_handler.onnx_export.quiet import quiet_exporter

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OPSET", "add_metadata", "check_extra", "onnx_model", "save_onnx", "write_onnx"]

OPSET = 18
INLINE_BYTES = 256 * 2**20  # above it, weights go into a file beside
_MOST_BYTES = 2**31 - 1  # of a message of protobuf
_SMALL = 1024  # bytes of a tensor that stays in the file in any case
_ALIGNED = 4096  # where tensors of the file beside begin, so that it can be mapped into memory
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write_onnx(
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    output_names: Sequence[str],
    metadata: Mapping[str, str],
    axes: Mapping[str, Mapping[int, str]] | None = None,
    name: str = "",
    inline_bytes: int = INLINE_BYTES,
) -> list[Path]:
    """Write a module as a file of ONNX, whole or not at all, and return the paths of what was written.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode; it is called with the inputs by position. It is not changed.
    example_inputs : dict of str to tensor
        A few rows, 2 at least, by the names that inputs have in the file.
    path : str or path
        Where to write; of weights of more than `inline_bytes`, a second file stands beside it.
    output_names : sequence of str
        The names of what the module returns.
    metadata : dict of str to str
        Kept in the file.
    axes : dict of str to dict of int to str, optional
        The axes of each input whose size may differ; by default the first, "rows".
    name : str
        What errors call the network.

    Raises
    ------
    ImportError
        Without the packages of the extra onnx.
    ModelError
        Where the module cannot be captured, as its forward goes other ways for other numbers, or an operator has no
        counterpart; it says which.
    OSError
        Where it cannot be written; what was there stays.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from model_handler.onnx_export.writing import write_onnx
    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> rows = {"inputs": torch.rand(2, 4)}
    >>> [path.name for path in write_onnx(network, rows, "net.onnx", output_names=["logits"], metadata={})]
    ['net.onnx']
    """
    model = onnx_model(module, example_inputs, output_names=output_names, axes=axes, name=name)
    add_metadata(model, metadata)
    return save_onnx(model, path, inline_bytes=inline_bytes)


def check_extra() -> None:
    """Raise ImportError, saying what to install, where a package of the extra onnx is missing."""
    for package in _PACKAGES:
        try:
            import_module(package)
        except ImportError as error:
            raise ImportError(
                f"files of ONNX need the extra onnx: pip install 'repurpose-torch[onnx]' ({error})"
            ) from error


def onnx_model(
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    *,
    output_names: Sequence[str],
    axes: Mapping[str, Mapping[int, str]] | None = None,
    name: str = "",
) -> "ModelProto":
    """Capture a module as a model of ONNX in memory, as `write_onnx` writes it."""
    check_extra()
    import onnx

    name = name or type(module).__name__
    axes = axes or {part: {0: "rows"} for part in example_inputs}
    shapes = tuple(dict.fromkeys(axes[part], torch.export.Dim.DYNAMIC) for part in example_inputs)
    with NETWORK_LOCK, torch.no_grad(), quiet_exporter(), _explained(name):
        captured = torch.export.export(
            _ByPosition(module), tuple(example_inputs.values()), dynamic_shapes={"inputs": shapes}, strict=False
        )
        made = torch.onnx.export(
            captured,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(example_inputs),
            output_names=list(output_names),
            verbose=False,
        )
        model = made.model_proto  # type: ignore[union-attr]
    _forget_origin(model)
    _name_axes(model, axes)
    if model.ByteSize() < _MOST_BYTES:  # the checker takes no more from memory
        onnx.checker.check_model(model, full_check=True)
    return model


def add_metadata(model: "ModelProto", metadata: Mapping[str, str]) -> None:
    """Add metadata to a model, in place."""
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def save_onnx(model: "ModelProto", path: str | os.PathLike[str], *, inline_bytes: int = INLINE_BYTES) -> list[Path]:
    """Write a model, whole or not at all, with its weights beside it where they are many, and return the paths.

    The file of weights is named after its content, so that it replaces none that another file refers to. Raises
    OSError as `write_whole` does.
    """
    target = Path(path)
    if model.ByteSize() <= inline_bytes:
        write_whole(target, [model.SerializeToString()])
        _remove_others(target, None)
        return [target]
    beside, pieces = _moved_out(model, target)
    is_new = not beside.exists()
    write_whole(beside, pieces)
    try:
        write_whole(target, [model.SerializeToString()])
    except BaseException:
        if is_new:
            with suppress(OSError):
                beside.unlink()
        raise
    _remove_others(target, beside)
    return [target, beside]


class _ByPosition(nn.Module):
    """Calls a module with inputs by position, whatever its `forward` names them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)


@contextmanager
def _explained(name: str) -> Any:
    """Raise ModelError, naming the network and the cause, for what torch cannot capture or translate."""
    try:
        yield
    except (ImportError, MemoryError, KeyboardInterrupt):
        raise
    except ModelError as error:
        raise ModelError(f"{name} cannot be exported: {error}") from error
    except Exception as error:
        raise ModelError(f"{name} cannot be exported: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
    if "GuardOnDataDependentSymNode" in kinds or "data-dependent" in str(error):
        return (
            "its forward goes other ways for other numbers (control flow that depends on the data), and a graph of "
            f"ONNX has one way; take features of a layer before that, or write it with torch.where ({said})"
        )
    if "specialized it to be a constant" in str(error):
        return (
            "its forward makes a constant of the number of rows, as len(x) or int(x.shape[0]) do, so that the file "
            "would take no other number; write x.shape[0], or x.flatten(1)"
        )
    return f"{type(error).__name__}: {said}"


def _forget_origin(model: "ModelProto") -> None:
    """Leave out what torch notes of the code that operators come from, in place."""
    model.graph.doc_string = ""
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
        for value in graph.value_info:
            del value.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]


def _name_axes(model: "ModelProto", axes: Mapping[str, Mapping[int, str]]) -> None:
    """Give the axes that may differ their names, in place. Raises ModelError where one came out fixed."""
    names: dict[str, str] = {}
    for value in model.graph.input:
        for axis, wanted in axes.get(value.name, {}).items():
            dim = value.type.tensor_type.shape.dim[axis]
            if not dim.dim_param:
                raise ModelError(f"the file would take {dim.dim_value} {wanted} alone, as the network makes them fixed")
            names[dim.dim_param] = wanted
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def _moved_out(model: "ModelProto", target: Path) -> tuple[Path, list[bytes]]:
    """Move the large weights out of a model, in place; return the file that is to hold them, and its content."""
    from onnx.external_data_helper import set_external_data

    large = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= _SMALL]
    digest = sha256()
    for tensor in large:
        digest.update(tensor.raw_data)
    beside = target.with_name(f"{target.name}.{digest.hexdigest()[:12]}.data")
    pieces: list[bytes] = []
    offset = 0
    for tensor in large:
        raw = tensor.raw_data
        set_external_data(tensor, beside.name, offset=offset, length=len(raw))
        tensor.ClearField("raw_data")
        filled = -len(raw) % _ALIGNED
        pieces += [raw, bytes(filled)]
        offset += len(raw) + filled
    return beside, pieces


def _remove_others(target: Path, beside: Path | None) -> None:
    """Remove the weights of files that stood at `target` before."""
    remove_left_behind(target.parent, target.name)
    with suppress(OSError):
        for file in target.parent.glob(f"{target.name}.{'[0-9a-f]' * 12}.data"):
            if file != beside:
                file.unlink()
