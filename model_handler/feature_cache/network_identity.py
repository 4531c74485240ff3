"""What computes features is known by the weights, settings and code of the network, its layers and the precision."""

from typing import Any

from torch import fx, jit, nn

from model_handler.feature_cache.identity import Identity, UnknownIdentity
from model_handler.graph.graph_network import GraphNetwork

__all__ = ["NetworkIdentity"]

_SLOTS = frozenset(vars(nn.Module()))  # of every module; those that count are asked for by name
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class NetworkIdentity(Identity):
    """The identity of networks: every parameter and buffer, and of each module its class, its settings and its hooks.

    Hooks that torch calls for all modules of the process are left out: they see what is computed and are for debugging.
    """

    def __init__(self, *, own_code: bool = True) -> None:
        super().__init__(own_code=own_code)

    def _rules(self) -> list[Any]:
        return [(nn.Module, NetworkIdentity._network), *super()._rules()]

    def _network(self, module: nn.Module) -> None:
        if isinstance(module, jit.ScriptModule):
            raise UnknownIdentity("a TorchScript module")
        self._class_of_module(module)
        self._mapping({name: value for name, value in vars(module).items() if name not in _SLOTS and name != "_graph"})
        self._mapping({name: list(getattr(module, name).values()) for name in _HOOKS})
        for held in (module._parameters, module._buffers, module._modules):
            self._mapping(dict(held))

    def _class_of_module(self, module: nn.Module) -> None:
        if isinstance(module, fx.GraphModule):
            self.say("graph", module.code)
            self._sequence([node.target for node in module.graph.nodes if node.op == "call_function"])
        elif isinstance(module, GraphNetwork):
            self.say("graph", module._source)
            self._mapping(module._names)
        else:
            self.take(type(module))
