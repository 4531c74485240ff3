"""What a file gave for a network is set, or refused where it is not of that network."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.errors import first_few
from model_handler.network.states import load_state, state_of
from repurpose.training.plan.parameter_groups import GroupTable

__all__ = ["check_groups", "check_n_members", "set_saved_state"]


def check_n_members(n_members: int, n_of_each: int, state: Mapping[str, Any]) -> None:
    """Raise ValueError unless a state is of so many networks, of each so many weights: before as many are made."""
    if len(state) != n_members * n_of_each:
        raise ValueError(
            f"its target_state_ has {len(state):,} weights and buffers, where {n_members:,} times {n_of_each:,} were "
            "expected"
        )


def set_saved_state(module: nn.Module, state: Mapping[str, Any], class_name: str) -> None:
    """Set the weights and buffers of a file. Raises ValueError for those of another network, or that are no numbers."""
    dtypes = {name: value.dtype for name, value in state_of(module).items() if isinstance(value, Tensor)}
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dtype != dtypes.get(name, value.dtype):  # which torch would convert
            raise ValueError(f"its target_state_ has a {name} of {value.dtype}, where {dtypes[name]} was expected")
    try:
        load_state(module, state)
    except RuntimeError as error:
        raise ValueError(f"the network that {class_name} makes is not the one that was saved: {error}") from error
    broken = [name for name, weight in module.named_parameters() if not torch.isfinite(weight).all()]
    broken += [name for name, buffer in module.named_buffers() if torch.isnan(buffer).any()]  # masks hold infinity
    if broken:
        raise ValueError(f"its target_state_ has no numbers in {first_few(broken)}")


def check_groups(table: GroupTable, module: nn.Module) -> None:
    """Raise ValueError, for a table from a file, unless it groups parameters of the module, each once."""
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters(remove_duplicate=False)}
    names = [name for group in table for name in group.parameters] + list(table.frozen)
    if len(set(names)) < len(names) or not set(names) <= set(sizes):
        raise ValueError("its parameter_groups_ are not of the parameters of its network, each once")
    counts = [(group.parameters, group.n_elements) for group in table] + [(table.frozen, table.n_frozen)]
    if any(sum(sizes[name] for name in group) != n_elements for group, n_elements in counts):
        raise ValueError("its parameter_groups_ have other numbers of elements than the parameters of its network")
