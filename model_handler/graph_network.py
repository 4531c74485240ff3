"""Networks that run a graph: what an edited network is, an ordinary `nn.Module` with the modules that were kept.

The kept modules keep their paths, so the keys of the `state_dict` stay those of the source. Unlike a
`torch.fx.GraphModule`, which is built anew from its graph by each copy and each load, a `GraphNetwork` is copied and
pickled as any module is, attributes, modes and order of modules included.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn

from model_handler.replica import share_weights

__all__ = ["GraphNetwork", "build_network"]

_PLAIN_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class GraphNetwork(nn.Module):
    """A network whose `forward` is the code of a graph; each graph has a class of its own, made by `build_network`."""

    _source: str
    _names: Mapping[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (type(self).__name__, self._source, self._names), self.__getstate__()


class Part(nn.Module):
    """A container of an edited network: it holds modules and weights under their old paths; the graph runs them."""


def build_network(
    network: nn.Module,
    graph: fx.Graph,
    added: Mapping[str, nn.Module] | None = None,
    constants: Mapping[str, Tensor] | None = None,
    replaced: Mapping[str, nn.Module] | None = None,
) -> nn.Module:
    """A network that runs `graph` on modules and weights of `network`, and holds nothing else.

    Structure is copied, weights are shared, aliases stay aliases, and modules keep their order of registration. `added`
    are modules that the graph calls and `network` does not have; they come last, as they are, under their names.
    `constants` are tensors that only the graph knows, no part of the `state_dict`; `replaced` are modules that stand in
    for those at their paths, under every name of these.
    """
    replica = share_weights(network)
    modules = dict(replica.named_modules(remove_duplicate=False))
    attributes: dict[nn.Module, set[str]] = {}
    called = set()
    for node in graph.nodes:
        path = str(node.target)
        if node.op == "call_module" and path in modules:
            called.add(modules[path])
        elif node.op == "get_attr" and path not in (constants or {}) and path.rpartition(".")[0] in modules:
            owner, _, name = path.rpartition(".")
            attributes.setdefault(modules[owner], set()).add(name)
    stand_ins = {modules[path]: module for path, module in (replaced or {}).items()}
    root = _network_like(type(network).__name__, graph)
    _fill(root, replica, called, attributes, {})
    for part in list(root.modules()):
        part._modules.update({name: stand_ins[child] for name, child in part._modules.items() if child in stand_ins})
    for name, module in (added or {}).items():
        root._modules[name] = module
    for name, tensor in (constants or {}).items():
        root.register_buffer(name, tensor, persistent=False)
    return root


def _fill(
    part: nn.Module,
    module: nn.Module,
    called: set[nn.Module],
    attributes: dict[nn.Module, set[str]],
    done: dict[nn.Module, nn.Module | None],
) -> nn.Module | None:
    """Give `part`, in place, what is used of `module`; None where nothing is."""
    part.training = module.training
    for name, child in module._modules.items():
        if child is None:
            continue
        if child in called:
            part._modules[name] = child
            continue
        if child not in done:
            kind = type(child) if type(child) in _PLAIN_CONTAINERS else Part
            done[child] = _fill(kind(), child, called, attributes, done)
        if (kept := done[child]) is not None:
            part._modules[name] = kept
    if not part._modules and module not in attributes:
        return None
    used = attributes.get(module, set())
    order = [*module._parameters, *module._buffers]  # buffers stay: a constant of the graph may have come from one
    for name in [*(name for name in order if name in used or name in module._buffers), *sorted(used - set(order))]:
        _hold(part, module, name)
    return part


def _hold(part: nn.Module, module: nn.Module, name: str) -> None:
    if name in module._parameters:
        part._parameters[name] = module._parameters[name]
        return
    value = getattr(module, name)
    if isinstance(value, Tensor) or value is None:
        persistent = name in module._buffers and name not in module._non_persistent_buffers_set
        part.register_buffer(name, value, persistent=persistent)
    else:
        setattr(part, name, value)


def _network_like(name: str, graph: fx.Graph) -> GraphNetwork:
    code = graph.python_code("self")
    return _blank(name, code.src, {key: _by_name(value) for key, value in code.globals.items()}, initialised=True)


def _blank(name: str, source: str, names: Mapping[str, Any], *, initialised: bool = False) -> GraphNetwork:
    """An instance of a class made for one graph: `source` is its forward, `names` what this refers to."""
    namespace = {key: value.load() if isinstance(value, _Module) else value for key, value in names.items()}
    exec(compile(source, f"<forward of an edited {name}>", "exec"), namespace)
    kind: type[GraphNetwork] = type(
        name, (GraphNetwork,), {"forward": namespace["forward"], "_source": source, "_names": names}
    )
    kind.__module__, kind.__doc__ = __name__, f"An edited {name}: see its `_source` for the forward."
    return kind() if initialised else GraphNetwork.__new__(kind)


class _Module:
    """A Python module by its name: what pickle can hold of one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def load(self) -> ModuleType:
        return torch if self.name == "torch" else __import__(self.name, fromlist=["_"])


def _by_name(value: Any) -> Any:
    return _Module(value.__name__) if isinstance(value, ModuleType) else value
