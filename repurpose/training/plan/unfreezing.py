"""Unfreezing sets which parameters learn in an epoch; in what does not learn, running statistics stand still too.

A part of the network in which no parameter learns is held in evaluation mode, as `ModelHandler.freeze` does it, and so
is normalisation that keeps the statistics of the source.
Gradual unfreezing: Howard and Ruder (2018), arXiv:1801.06146; a linear probe first: Kumar et al. (2022),
arXiv:2202.10054.
"""

from torch import nn

from model_handler.surgery.freezing import Freezing, apply_freezing
from repurpose.training.plan.parameter_groups import GroupTable

__all__ = ["let_learn"]


def let_learn(module: nn.Module, groups: GroupTable, epoch: int) -> None:
    """Let the groups learn that have begun by `epoch`, and nothing else, in place."""
    learning = {name for group in groups if group.from_epoch <= epoch for name in group.parameters}
    own = {id(parameter) for name, parameter in module.named_parameters() if name in learning}
    learns = {name: name in learning for name, _ in module.named_parameters()}
    modules = dict(module.named_modules(remove_duplicate=False))
    stays = _held_paths(module, "", own, parent_is_held=False)
    # a module that stands in two places acts if it does so in one of them
    acting = {modules[path] for path, is_held in stays.items() if not is_held}
    acting -= {modules[path] for path in groups.held}
    apply_freezing(module, Freezing(learns, {path: part not in acting for path, part in modules.items()}))


def _held_paths(module: nn.Module, path: str, learning: set[int], *, parent_is_held: bool) -> dict[str, bool]:
    """Tell for every path whether the module is held: none of its parameters learns or, without any, its parent is."""
    parameters = list(module.parameters())
    stays = all(id(parameter) not in learning for parameter in parameters) if parameters else parent_is_held
    found = {path: stays}
    for name, child in module.named_children():
        inner = f"{path}.{name}".lstrip(".")
        found.update(_held_paths(child, inner, learning, parent_is_held=stays))
    return found
