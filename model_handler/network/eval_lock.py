"""Evaluation lock: a module that stays in evaluation mode through `.train()`, copies and files.

An object stands in place of the module's `train` method. It is part of the module, so `deepcopy` and `torch.save` take
it along, and `load_state_dict` does not touch it; `module.training` tells the truth at every moment, and no hook runs
in `forward`.
"""

from torch import nn

__all__ = ["hold", "release"]


def hold(module: nn.Module) -> None:
    """Keep a module in evaluation mode whatever `train` is called, in place; what is inside decides for itself."""
    if not _is_held(module):
        # an attribute of the object hides the method of its class, and goes along into copies and files
        module.__dict__["train"] = _Held(module)
    module.training = False
    if type(module).train is not nn.Module.train:
        module.train()  # its own method may do more than set the mode, such as merging adapters


def release(module: nn.Module, *, training: bool) -> None:
    """Let a module that may be held switch modes again, in place, and put it into the mode given."""
    if _is_held(module):
        del module.__dict__["train"]
        module.training = training


class _Held:
    """Stands in for `train` on a module that stays in evaluation mode; what is inside decides for itself."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        if type(self.module).train is not nn.Module.train:
            return type(self.module).train(self.module, False)
        self.module.training = False
        for child in self.module.children():
            child.train(mode)
        return self.module


def _is_held(module: nn.Module) -> bool:
    return isinstance(vars(module).get("train"), _Held)
