"""Describing a network as data, and building it from that: the two ends of what is sent instead of code.

A network of Hugging Face is its configuration (`transformers_networks`), any other its graph (`graphs`); one that has
no form as data is "given": whoever builds it has the module already.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.errors import CorruptFileError, ModelError, UnsafeFileError, nearest
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.files.canonical_json import JsonValue, canonical, parse_json
from model_handler.network.inputs import (
    default_input_names,
    example_tensors,
    first_rows,
    named_inputs,
    place,
    with_numbers,
)
from repurpose.neural_network.architecture import as_spec, like_spec
from repurpose.offsite.architecture.agreement import check_agreement
from repurpose.offsite.architecture.graph_building import network_from
from repurpose.offsite.architecture.graphs import graph_of
from repurpose.offsite.architecture.meta_run import check_by_running
from repurpose.offsite.architecture.recording import FIX
from repurpose.offsite.architecture.transformers_networks import config_of, is_of_transformers, network_of_config

__all__ = ["Architecture", "build", "describe"]

_EXAMPLE = "example"
_MOST_ROWS = 2


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network as data.

    Attributes
    ----------
    said : dict
        JSON: its "kind" is "graph", "transformers" or "given".
    constants : dict of str to tensor
        What the graph reads and no `state_dict` has, by name.
    """

    said: dict[str, JsonValue]
    constants: dict[str, Tensor]


def describe(network: nn.Module, example_inputs: Any, *, given: bool = False) -> Architecture:
    """Describe a network as data, from which `build` makes one that agrees with it bit for bit.

    Parameters
    ----------
    network : nn.Module
        The network; it is left as it is.
    example_inputs : tensor, tuple of tensors or dict of tensors
        A batch as its `forward` takes it; both are compared on the first two rows. Shapes, dtypes and the smallest
        integer of each part are written, further numbers are not.
    given : bool
        Whether to describe nothing but names and shapes of its weights: whoever builds it has the module.

    Raises
    ------
    ModelError
        A ValueError that names the module, operation or value that cannot be sent, and the way out:
        ``architecture="given"``.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from repurpose.offsite.architecture import build, describe, fill
    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> sent = describe(network, torch.rand(2, 4))
    >>> sent.said["kind"]
    'graph'
    >>> rebuilt = fill(build(sent.said, sent.constants), network.state_dict())
    >>> rows = torch.rand(5, 4)
    >>> torch.equal(rebuilt(rows), network(rows))
    True
    """
    if given:
        return Architecture(_said_of_given(network), {})
    with NETWORK_LOCK:  # torch.fx changes `nn.Module` while it traces, and seeds are the whole process's
        return _described(network, example_inputs)


def _described(network: nn.Module, example_inputs: Any) -> Architecture:
    inputs = _named_rows(network, example_inputs)
    if is_of_transformers(network):
        said, constants = config_of(network)
    else:
        said, constants = graph_of(network, inputs)
        said[_EXAMPLE] = as_spec({name: part for name, part in inputs.items() if isinstance(part, Tensor)})
    try:
        rebuilt = build(parse_json(canonical(said), "the network as data"), constants)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ModelError(
            f"{type(network).__name__} cannot be sent as data: it cannot be built again: {error}; {FIX}"
        ) from error
    check_agreement(network, rebuilt, inputs, FIX)
    return Architecture(said, constants)


def build(said: Mapping[str, JsonValue], constants: Mapping[str, Tensor], given: nn.Module | None = None) -> nn.Module:
    """Build a network from its description, with weights on torch's "meta": `fill` gives it those.

    Of the kind "given", `given` is the network, which is returned as it is. Raises UnsafeFileError for a description
    that asks for what no network may have (an operation or a class outside the tables, sizes beyond any memory),
    CorruptFileError for one that `describe` cannot have made, and ValueError where the module given is missing, not
    needed, or another one.
    """
    if not isinstance(said, Mapping) or said.get("kind") not in _KINDS:
        raise CorruptFileError(f"it has a network of the unknown kind {str(said)[:60]!r}; known: {_KINDS}")
    if said["kind"] == "given":
        return _checked_given(said, given)
    if given is not None:
        raise ValueError("this package holds its network as data: leave out source_model")
    if said["kind"] == "transformers":
        return network_of_config(said, constants)
    graph = {name: value for name, value in said.items() if name != _EXAMPLE}
    network = network_from(graph, constants)
    _run_on_meta(network, said.get(_EXAMPLE))
    return network


_KINDS = ("given", "graph", "transformers")


def _named_rows(network: nn.Module, example_inputs: Any) -> dict[str, Any]:
    """Return the first two rows of the inputs, by name and in the network's dtype; of one row twice the same."""
    inputs = named_inputs(network, example_tensors(example_inputs), default_input_names(network))
    rows = first_rows({name: with_numbers(part) for name, part in inputs.items()})
    dtype = next((each.dtype for each in network.parameters() if each.is_floating_point()), torch.float32)
    return {name: _two_rows(part, dtype) if isinstance(part, Tensor) else part for name, part in rows.items()}


def _two_rows(part: Tensor, dtype: torch.dtype) -> Tensor:
    placed = place(part.detach(), torch.device("cpu"), dtype, channels_last=False)
    return placed.repeat(_MOST_ROWS, *[1] * (part.ndim - 1)) if part.ndim and len(part) == 1 else placed


def _run_on_meta(network: nn.Module, spec: Any) -> None:
    """Run a network on what it says that it takes, without numbers. Raises CorruptFileError where it fails."""
    try:
        inputs = like_spec(spec)
        if not isinstance(inputs, dict):
            raise ValueError("its inputs have no names")
        check_by_running(network, inputs)
    except (CorruptFileError, UnsafeFileError):
        raise
    except Exception as error:  # any operation may raise anything of what it does not take
        raise CorruptFileError(f"its graph fails on its own inputs: {type(error).__name__}: {error}") from error


def _said_of_given(network: nn.Module) -> dict[str, JsonValue]:
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    return {"kind": "given", "shapes": shapes}


def _checked_given(said: Mapping[str, JsonValue], given: nn.Module | None) -> nn.Module:
    if sorted(said) != ["kind", "shapes"] or not isinstance(said["shapes"], dict):
        raise CorruptFileError(f"it has a network that is given, of {sorted(map(str, said))[:9]}")
    if given is None:
        raise ValueError("this package holds weights alone: give its network as source_model=")
    own = _said_of_given(given)["shapes"]
    for name in (*said["shapes"], *own):
        if own.get(name) != said["shapes"].get(name):
            raise ValueError(
                f"the network given is not that of the package: its {name!r} is "
                f"{own.get(name, 'missing')}, where {said['shapes'].get(name, 'none')} was expected; "
                f"nearest in it: {nearest(name, own)}"
            )
    return given
