"""Inspection: the methods of `ModelHandler` that show what a network is made of, as the edits so far have left it.

Shapes and FLOPs come from `extraction.shape_propagation`, the ways through the graph from `graph.paths`; `summary`
makes a table of it all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from model_handler.data import Batches
from model_handler.errors import ModelError
from model_handler.extraction.backends import DryRun, HookBackend, TracedBackend
from model_handler.extraction.channel_layout import Layout, layout_of_modules, layout_of_node
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.graph.naming import layer_nodes, module_path, split_index
from model_handler.graph.nodes import nodes_in, output_node
from model_handler.graph.paths import layers_on_paths, nodes_of_module
from model_handler.inspection.candidates import spread_candidates
from model_handler.inspection.classifier import ClassifierMixin, type_name
from model_handler.inspection.summary import LayerInfo, NetworkDescription, Summary, summarize
from model_handler.network.ambient_modes import undisturbed
from model_handler.network.inputs import first_rows
from model_handler.network.layer_types import is_of_type, known_types
from model_handler.sources import blank_input

__all__ = ["InspectionMixin"]


@dataclass(frozen=True, eq=False)
class _Profile:
    """What propagation found for a backend, or why it found nothing."""

    backend: TracedBackend | HookBackend
    found: DryRun | None = None
    reason: str = ""


class InspectionMixin(ClassifierMixin):
    """What a network is made of. Nothing here changes it, or computes on it where shapes are enough."""

    batches: Callable[[Any], Batches]
    _profile: _Profile | None = None

    @property
    def layer_names(self) -> list[str]:
        """All layers in order of execution: modules by their path, functional operations by path and operation.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        >>> ModelHandler(nn.Sequential(block, nn.Linear(4, 3))).layer_names
        ['0.0', '0.1', '1']
        """
        return list(self._engine.backend.layers)

    def __contains__(self, name: object) -> bool:
        """Return whether a layer or a container has this name."""
        return isinstance(name, str) and self._engine.backend.knows(name)

    @property
    def network(self) -> nn.Module:
        """The network as it is now, with the weights of the source, to be looked at; `get_module` hands one out."""
        return self._engine.network

    @property
    def input_names(self) -> tuple[str, ...]:
        """The arguments of `forward` that are inputs."""
        return tuple(self._engine.backend.input_names)

    @undisturbed()
    def example_output(self) -> Any:
        """Return what the network returns for the example inputs, in evaluation mode; on `meta` where they are.

        Raises ModelError if there are none.
        """
        if self._state.example_inputs is None:
            raise ModelError("there are no example inputs: give ModelHandler(network, example_inputs)")
        return self._engine.output(self._state.example_inputs)

    @property
    def layers(self) -> list[LayerInfo]:
        """What is known of each layer, in order of execution.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> [layer.n_parameters for layer in ModelHandler(nn.Sequential(nn.Linear(4, 3), nn.ReLU())).layers]
        [15, 0]
        """
        return [self._describe(name, layer) for name, layer in self._engine.backend.layers.items()]

    @property
    def shared_modules(self) -> tuple[tuple[str, ...], ...]:
        """The names of each module that has several: other paths to it, and its calls after the first ("relu@1").

        What is inside a module with several paths has as many, and is not listed for these.
        """
        names: dict[nn.Module, list[str]] = {}
        for path, module in _outermost_paths(self._engine.network):
            names.setdefault(module, []).append(path)
        for name, layer in self._engine.backend.layers.items():
            if isinstance(layer, nn.Module) and name not in names.setdefault(layer, []):
                names[layer].append(name)
        return tuple(tuple(known) for known in names.values() if len(known) > 1)

    @property
    def tied_weights(self) -> tuple[tuple[str, ...], ...]:
        """The names, as in the `state_dict`, of each parameter or buffer that has several."""
        names: dict[int, list[str]] = {}
        for name, tensor in self._engine.network.state_dict(keep_vars=True).items():
            names.setdefault(id(tensor), []).append(name)
        return tuple(tuple(known) for known in names.values() if len(known) > 1)

    def get_layer_type(self, layer_name: str) -> str:
        """Return the class name of a layer's module, or the name of its operation. Raises UnknownLayerError.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> ModelHandler(nn.Sequential(nn.Linear(4, 3), nn.ReLU())).get_layer_type("1")
        'ReLU'
        """
        return type_name(self._layer_or_module(layer_name))

    def get_layer_names_matching_type(self, layer_type: str | type[nn.Module]) -> list[str]:
        """Return the layers of a type: a class, a class name in any case, or a family such as "convolution".

        An absent type gives an empty list; one that does not exist raises ModelError naming the nearest.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        >>> handler.get_layer_names_matching_type("fullyconnected"), handler.get_layer_names_matching_type(nn.Tanh)
        (['0', '2'], [])
        """
        layers = self._engine.backend.layers
        known_types({type_name(layer) for layer in layers.values()}, layer_type)
        return [name for name, layer in layers.items() if is_of_type(layer, layer_type)]

    def get_layer_parameters(self, layer_names: str | Sequence[str]) -> list[str]:
        """Return the names of the parameters and buffers of layers, as in the `state_dict` of the network.

        A container's name stands for everything inside it. Raises UnknownLayerError listing every unknown name.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))).get_layer_parameters("2")
        ['2.weight', '2.bias']
        """
        names = [layer_names] if isinstance(layer_names, str) else list(layer_names)
        self._engine.refuse_unknown(names)
        modules = [(module_path(name), self._layer_or_module(name)) for name in names]
        found = [
            f"{path}.{key}" for path, module in modules if isinstance(module, nn.Module) for key in module.state_dict()
        ]
        return list(dict.fromkeys(found))

    def layers_between(self, first: str, last: str) -> list[str]:
        """Return the layers on any path of data from one layer to another, both included, in order of execution.

        A container stands for all layers inside it, a module that runs more than once for its first call, as in
        `layer_names`. Raises UnknownLayerError, UntraceableModelError where there is no graph, and ModelError where no
        data goes from `first` to `last`, or one of them is inside another layer.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        >>> handler.layers_between("1", "3")
        ['1', '2', '3']
        """
        network, trace = self._traced_network("layers_between", edits=False)
        self._engine.refuse_unknown([first, last])
        nodes = layer_nodes(trace, self._engine.backend.modules)
        starts, ends = self._nodes_of_layers(first, nodes), self._nodes_of_layers(last, nodes)
        if found := layers_on_paths(network, trace, nodes, starts, ends):
            return found
        back = layers_on_paths(network, trace, nodes, ends, starts)
        hint = f"it goes the other way, as layers_between({last!r}, {first!r}) shows" if back else "nor the other way"
        raise ModelError(f"no data goes from {first!r} to {last!r}; {hint}")

    @property
    def output_layout(self) -> Layout | None:
        """Which axis of the network's output has the channels, "first" (behind the rows) or "last"; None if unknown."""
        backend = self._engine.backend
        if isinstance(backend, TracedBackend):
            nodes = nodes_in(output_node(backend.trace.graph).args[0])
            return layout_of_node(nodes[0], dict(backend.modules)) if nodes else None
        return layout_of_modules(backend.modules[path] for path in reversed(backend.calls))

    @undisturbed()
    def candidate_layers(self, n: int = 8, data: object = None) -> list[str]:
        """Return up to `n` layers that are worth trying as features, in order of execution.

        Ends of stages and blocks where there are such, evenly spread over the depth of the network; the last one is
        the `default_layer`, or else the last layer. Each gives one tensor with a row for
        each input, so that one `extract` takes them all.

        Parameters
        ----------
        n : int
            The largest number of layers; a network of few parts has fewer.
        data : as in `extract`, optional
            Up to two rows of its first batch run through the network where the shapes of the layers are not known.

        Raises
        ------
        ModelError
            For an `n` that is no positive whole number, and where the shapes are not known and there are no data.

        Examples
        --------
        >>> import torch
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)))
        >>> handler.candidate_layers(data=torch.rand(6, 4))
        ['0', '1']
        """
        if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
            raise ModelError(f"n must be a whole number of at least 1, got {n!r}")
        with NETWORK_LOCK:
            shapes, rows = self._known_shapes(), None
            if not shapes and data is not None:
                rows = _few_rows(next(iter(self.batches(data))).inputs)
                shapes = self._engine.shapes(rows)
            if not shapes:
                raise ModelError(
                    f"candidate_layers needs data or example inputs: {self._profiled().reason or 'no layer has run'}"
                )
            backend = self._engine.backend
            layers = list(backend.layers)
            containers = {path for path in backend.modules if path} - set(layers)
            whole = self._blocks_or_none(rows)
            last = self.default_layer if self.default_layer in layers else layers[-1]
            return spread_candidates(layers, containers, shapes, last, n, whole)

    def _blocks_or_none(self, inputs: object) -> set[str]:
        """Return the names of the blocks, for `inputs` or what else is known of them; empty where there is no chain."""
        try:
            return {block.name for block in (self.blocks if inputs is None else self._blocks_on(inputs))}
        except ModelError:
            return set()

    @undisturbed()
    def summary(self, depth: int | None = None) -> Summary:
        """Return a table of the layers, with totals and notes: `print` it, or let a notebook show it.

        With a `depth` the layers inside a container are summed up in one row: 1 leaves the network's own parts, 2 the
        parts of these, and so on. Raises ModelError for a `depth` that is no positive whole number.

        >>> import torch
        >>> from model_handler import ModelHandler
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        >>> print(ModelHandler(network, torch.rand(2, 4)).freeze("0").summary())
        Sequential
        ---------------------------------------------------------
        layer  type    output shape  parameters  FLOPs  state
        ---------------------------------------------------------
        0      Linear  2 x 8                 40     64  frozen
        1      ReLU    2 x 8
        2      Linear  2 x 3                 27     48  trainable
        ---------------------------------------------------------
        67 parameters, 27 of them trainable; 268 B; 112 FLOPs
        ...
        """
        if depth is not None and (isinstance(depth, bool) or not hasattr(depth, "__index__") or depth < 1):
            raise ModelError(f"depth must be a whole number from 1 on, or None for every layer; got {depth!r}")
        profile, backend, original = self._profiled(), self._engine.backend, self._states[0].engine.backend
        network = NetworkDescription(
            name=self.name,
            module=self._engine.network,
            layers=backend.layers,
            modules=backend.modules,
            original_layers={self._name_now(name): layer for name, layer in original.layers.items()},
            original_modules={self._name_now(path): module for path, module in original.modules.items()},
            learns=self._learns,
            shapes=self._known_shapes(),
            outside=profile.found.outside if profile.found else {},
            shared=self.shared_modules,
            tied=self.tied_weights,
            edits=self.edits,
            remarks=self._remarks(profile),
        )
        return summarize(network, self.layers, depth)

    def _known_shapes(self) -> dict[str, tuple[int, ...]]:
        found = self._profiled().found
        return self._shapes or (found.shapes if found else {})

    def _profiled(self) -> _Profile:
        """Return shapes and FLOPs of one row, found when first asked for, and again after an edit of the structure."""
        with NETWORK_LOCK:
            if self._profile is None or self._profile.backend is not self._engine.backend:
                self._profile = self._new_profile()
            return self._profile

    def _new_profile(self) -> _Profile:
        inputs = self._state.example_inputs
        inputs = blank_input(self.transform) if inputs is None else inputs
        if inputs is None:
            sizes = 'ModelHandler(network, torch.empty(1, 3, 224, 224, device="meta"))'
            reason = f"Shapes and FLOPs need example inputs, of which the sizes are enough: {sizes}"
            return _Profile(self._engine.backend, reason=reason)
        try:
            found = self._engine.profile(inputs)
        except ModelError as error:
            unknown = "FLOPs are" if self._shapes else "Shapes and FLOPs are"
            return _Profile(self._engine.backend, reason=f"{unknown} not known: {error}")
        return _Profile(self._engine.backend, replace(found, output=None))

    def _describe(self, name: str, layer: nn.Module | str) -> LayerInfo:
        parameters = dict(layer.named_parameters()) if isinstance(layer, nn.Module) else {}
        found = self._profiled().found
        return LayerInfo(
            name=name,
            type=type_name(layer),
            output_shape=self._known_shapes().get(name),
            n_parameters=sum(parameter.numel() for parameter in parameters.values()),
            trainable=any(self._learns(f"{module_path(name)}.{key}", value) for key, value in parameters.items()),
            flops=found.flops.get(name) if found else None,
        )

    def _remarks(self, profile: _Profile) -> list[str]:
        remarks = [profile.reason] if profile.reason else []
        if isinstance(self._engine.backend, HookBackend):
            remarks.append(f"Operations that are no modules are not listed: {self._engine.untraceable}")
        return remarks

    def _layer_or_module(self, name: str) -> nn.Module | str:
        layers = self._engine.backend.layers
        if name not in layers:
            self._engine.refuse_unknown([name])
            name = split_index(name)[0]
        return layers[name] if name in layers else self._engine.backend.modules[module_path(name)]

    def _nodes_of_layers(self, name: str, nodes: dict[str, fx.Node]) -> set[fx.Node]:
        """Return the layers that a name stands for, by their nodes."""
        stem = name if name in nodes else split_index(name)[0]
        if stem in nodes:
            return {nodes[stem]}
        backend = self._engine.backend
        if isinstance(backend, TracedBackend):
            found = nodes_of_module(self._engine.network, backend.trace, backend.modules[module_path(stem)])
            if found := found.intersection(nodes.values()):
                return found
        raise ModelError(f"{name!r} is inside another layer, or does not run: name one of layer_names, or a container")


def _few_rows(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return first_rows(inputs)
    if isinstance(inputs, tuple):
        return tuple(first_rows({str(number): part for number, part in enumerate(inputs)}).values())
    return inputs[:2]


def _outermost_paths(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Return every module under every path, but those inside a module that came before under another path."""
    seen: set[nn.Module] = set()

    def below(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        for name, child in module._modules.items():
            if child is not None:
                yield f"{prefix}{name}", child
                if child not in seen:
                    seen.add(child)
                    yield from below(child, f"{prefix}{name}.")

    return below(network, "")
