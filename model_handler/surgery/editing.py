"""Editing: the methods of `ModelHandler` that change what network it stands for, never the user's module.

Graphs are edited in `cutting`, `joining` and `renaming`, networks without one in `hooked_surgery`; what may join a
network is judged in `additions`, and `edit_history` checks the result and takes it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from torch import nn

from model_handler.errors import ModelError
from model_handler.extraction.backends import HookBackend
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.graph.naming import split_index
from model_handler.network.ambient_modes import undisturbed
from model_handler.network.inputs import example_tensors
from model_handler.surgery.additions import (
    Modules,
    is_lazy_module,
    materialised,
    named_modules,
    pairs_of,
    refuse_familiar,
    refuse_other_device,
)
from model_handler.surgery.cutting import drop_layer_bottom, drop_layer_top, truncate
from model_handler.surgery.draft import Edited, Site
from model_handler.surgery.edit_history import EditHistory
from model_handler.surgery.hooked_surgery import add_head, output_tensor, truncate_hooked
from model_handler.surgery.joining import insertion_site, join, replace_layer, top_site
from model_handler.surgery.renaming import rename_module

__all__ = ["EditingMixin"]


class EditingMixin(EditHistory):
    """Edits of a network, each one undone by `undo`. An edit that raises leaves everything as it was."""

    @undisturbed()
    def truncate(self, at: str | Sequence[str]) -> Self:
        """End the network at a layer, or at the last output of a container such as "layer3" or a list of modules.

        With a list of names, ``at=["layer2", "layer3"]``, it returns a tuple of their outputs, in this order.

        What the network computed in training mode only (the auxiliary heads of Inception) is gone: the graph that is
        edited is that of evaluation, in which layers such as dropout keep both their modes. A network that cannot be
        traced is run until the layer returns; what ran only behind it is taken off where there are example inputs.
        Raises UnknownLayerError, and ModelError for a module inside another layer.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))).truncate(at="1").get_module()
        Sequential(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): ReLU()
        )
        """
        names = [at] if isinstance(at, str) else list(at)
        if not names or len(set(names)) < len(names):
            raise ModelError(f"truncate needs one layer to end at, or several different ones, got {names}")
        self._prepare()
        self._engine.refuse_unknown(names)
        label, backend = f"truncate(at={at!r})", self._engine.backend
        if isinstance(backend, HookBackend):
            return self._adopt(label, truncate_hooked(self._engine, backend, names, self._state.example_inputs))
        layers = [self._layer_of_only_part(name) for name in names]
        return self._adopt(label, truncate(*self._traced_network("truncate"), layers))

    @undisturbed()
    def drop_layer_top(self, n: int = 1) -> Self:
        """Take the last `n` of `layer_names` off the network; as `truncate`, what only training computed goes too.

        Raises ModelError if `n` is not in 1 to the number of layers less one or the network has several outputs, and
        AmbiguousLayerError, naming the branches, where the drop would cut through a join.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))).drop_layer_top().layer_names
        ['0', '1']
        """
        return self._adopt(f"drop_layer_top({n})", drop_layer_top(*self._traced_network("drop_layer_top"), n))

    @undisturbed()
    def drop_layer_bottom(self, n: int = 1) -> Self:
        """Take the first `n` of `layer_names` off the network; its input is then what the first layer kept read.

        The input keeps its name. The example inputs of the handler become what they were turned into at the cut.

        Raises ModelError if `n` is not in 1 to the number of layers less one or the network has several inputs, and
        AmbiguousLayerError, naming the branches and the numbers that do it, where the layers kept read several values
        of those dropped, or the input beside one.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))).drop_layer_bottom(2).layer_names
        ['2']
        """
        # the example inputs of the shorter network are what the old ones become at the cut
        edited, site = drop_layer_bottom(*self._traced_network("drop_layer_bottom"), n)
        return self._adopt(f"drop_layer_bottom({n})", edited, example_inputs=self._value_at(site))

    @undisturbed()
    def add_layer_top(self, modules: Modules) -> Self:
        """Run modules on the output of the network, one after the other.

        Parameters
        ----------
        modules : nn.Module, or a sequence of modules and pairs (name, module)
            Names default to the class's. Weights are shared with your modules, as with the network; lazy ones
            (`nn.LazyLinear`) are copied and take their sizes from the example inputs.

        Raises
        ------
        TypeError
            If one of `modules` is neither.
        ModelError
            If a name is taken, a module is given twice or already in the network, it is on another device, the
            network has several outputs, or the modules fail on the output: the layer and both shapes are named. Sizes
            are checked on the example inputs; without these a misfit shows at the first data.

        Examples
        --------
        >>> import torch
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(torch.nn.Sequential(torch.nn.Linear(4, 8)), torch.rand(2, 4))
        >>> handler.add_layer_top([torch.nn.ReLU(), ("head", torch.nn.LazyLinear(3))]).layer_names
        ['0', 'relu', 'head']
        """
        self._prepare()
        if isinstance(self._engine.backend, HookBackend):
            return self._add_head(modules)
        site = top_site(*self._traced_network("add_layer_top"))
        return self._join("add_layer_top", "", modules, site)

    @undisturbed()
    def add_layer_bottom(self, modules: Modules, *, example_inputs: object = None) -> Self:
        """Run modules on the input of the network, which then is theirs; as `insert_after`.

        Parameters
        ----------
        modules : as in `add_layer_top`
        example_inputs : tensor, tuple of a tensor or dict of a tensor, optional
            A batch of what the modules take, where that is not what the network took, as after `drop_layer_bottom`: the
            example inputs of the handler from now on, of which lazy modules take their sizes.

        Raises ModelError for a network with several inputs: name one in `insert_after`.

        Examples
        --------
        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> ModelHandler(nn.Sequential(nn.Linear(12, 3))).add_layer_bottom(nn.Flatten()).layer_names
        ['flatten', '0']
        """
        example_inputs = example_tensors(example_inputs)
        network, traced = self._traced_network("add_layer_bottom")
        if len(traced.input_names) > 1:
            raise ModelError(f"the network has the inputs {list(traced.input_names)}: choose one by insert_after(name)")
        site = insertion_site(network, traced, traced.input_names[0], before=False)
        return self._join("add_layer_bottom", "", modules, site, example_inputs)

    @undisturbed()
    def insert_after(self, name: str, modules: Modules) -> Self:
        """Run modules on the output of a layer, a part of it ("lstm[0]") or an input; all that used it uses theirs.

        `modules` as in `add_layer_top`. Raises UnknownLayerError, and ModelError where the layer's output is not used,
        and as `add_layer_top`.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)))
        >>> handler.insert_after("0", [("drop", nn.Dropout(0.1))]).layer_names
        ['0', 'drop', '1']
        """
        return self._insert("insert_after", name, modules)

    @undisturbed()
    def insert_before(self, name: str, modules: Modules) -> Self:
        """Run modules on what a layer reads; other layers that read it too read it as it was.

        As `insert_after`; ModelError also for a layer that reads several values, which are named.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)))
        >>> handler.insert_before("1", [("relu", nn.ReLU())]).layer_names
        ['0', 'relu', '1']
        """
        return self._insert("insert_before", name, modules)

    @undisturbed()
    def replace(self, name: str, module: nn.Module, all_calls: bool = False) -> Self:
        """Run another module in the place of a layer; it gets the path of the old one and counts as one layer.

        Of a shared module, `all_calls` replaces every call; one call is named by its suffix ("relu@1"), and the new
        module then has a path of its own. What is put in the place of a frozen layer is not frozen. Raises
        UnknownLayerError, and ModelError for an operation or a container, for a layer with a weight tied to one of
        another layer unless `module` has that weight too, and as `insert_after`.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        >>> handler.replace("1", nn.GELU()).get_layer_type("1")
        'GELU'
        """
        network, traced = self._traced_network("replace")
        self._engine.refuse_unknown([name])
        if not isinstance(module, nn.Module):
            raise TypeError(f"the layer to put in the place of {name!r} must be one torch.nn.Module, got {module!r}")
        self._checked(module)
        # a lazy module takes its sizes from what the old layer reads
        if is_lazy_module(module):
            ready = self._materialised({name: module}, insertion_site(network, traced, name, before=True))[name]
        else:
            ready = module
        with NETWORK_LOCK:
            edited = replace_layer(network, traced, name, ready, all_calls=all_calls)
        more = ", all_calls=True" if all_calls else ""
        label = f"replace({name!r}, {ready!r}{more})".replace("\n", "")
        return self._adopt(label, edited, [module])

    @undisturbed()
    def rename(self, name: str, new_name: str) -> Self:
        """Give a module, a layer or a container, another name in the container that holds it.

        `new_name` is the last part of its path ("last"), or the whole path with another last part
        ("layer4.1.last"); the keys of the `state_dict` follow. Of a module with several names only the one given
        changes. Raises UnknownLayerError, and ModelError for an operation, for a module inside another layer and for a
        name that is taken or has one of '.', '@', '[' and ']'.

        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        >>> handler.rename("2", "head").get_layer_parameters("head")
        ['head.weight', 'head.bias']
        """
        network, traced = self._traced_network("rename")
        self._engine.refuse_unknown([name])
        if not isinstance(new_name, str):
            raise TypeError(f"new_name must be a text, got {new_name!r}")
        edited, renamed = rename_module(network, traced, name, new_name)
        return self._adopt(f"rename({name!r}, {new_name!r})", edited, renamed=renamed)

    def _layer_of_only_part(self, at: str) -> str:
        """Return a layer to truncate at: the only part of one tensor is itself; "fc[1]" would be a row of it."""
        stem, index = split_index(at)
        if at in self._shapes or index is None or stem not in self._shapes:
            return at
        if index > 0:
            raise ModelError(f"layer {stem!r} returns 1 tensor, so there is no {at}: truncate(at={stem!r})")
        return stem

    def _insert(self, edit: str, name: str, modules: Modules) -> Self:
        network, traced = self._traced_network(edit)
        if name not in traced.input_names:
            self._engine.refuse_unknown([name], more=traced.input_names)
        site = insertion_site(network, traced, name, before=edit == "insert_before")
        return self._join(edit, repr(name), modules, site)

    def _join(self, edit: str, where: str, modules: Modules, site: Site, example_inputs: object = None) -> Self:
        network, traced = self._traced_network(edit)
        return self._add(edit, where, modules, lambda ready: join(network, traced, site, ready), site, example_inputs)

    def _add_head(self, modules: Modules) -> Self:
        if self._state.example_inputs is not None:
            output_tensor(self._engine, self._state.example_inputs)
        return self._add("add_layer_top", "", modules, lambda ready: add_head(self._engine, ready), None)

    def _add(
        self,
        edit: str,
        where: str,
        modules: Modules,
        edited: Callable[[Mapping[str, nn.Module]], Edited],
        site: Site | None,
        example_inputs: object = None,
    ) -> Self:
        """Check modules, give lazy ones their sizes, let `edited` join them to the network, and take that.

        `example_inputs` are those of the network with the modules, where they are not those it had.
        """
        given, named = self._checked(modules)
        try:
            ready = self._materialised(named, site, example_inputs)
            parts = [where, f"[{_as_written(ready)}]", "" if example_inputs is None else "example_inputs=..."]
            label = f"{edit}({', '.join(part for part in parts if part)})"
            with NETWORK_LOCK:
                return self._adopt(label, edited(ready), given, example_inputs=example_inputs)
        except ModelError as error:
            shape = f". The output that it is added to has the shape {self._output_shape()}"
            more = shape if edit == "add_layer_top" and self._output_shape() else ""
            if edit == "add_layer_bottom" and example_inputs is None and self._state.example_inputs is not None:
                more = (
                    ". They were run on the example inputs, which drop_layer_bottom changes; where they take others, "
                    "give add_layer_bottom(..., example_inputs=...)"
                )
            at = f" at {where}" if where else ""
            raise type(error)(f"{error}\nin {edit} of {list(named)}{at}; nothing was changed{more}") from error

    def _checked(self, modules: Modules) -> tuple[list[nn.Module], dict[str, nn.Module]]:
        """Return modules that may join the network, as they are and by name."""
        pairs, network = pairs_of(modules), self._engine.network
        given = [module for _, module in pairs]
        refuse_familiar(given, (self._states[0].engine.source, *self._state.added))
        named = named_modules(pairs, network, self._engine.backend.layers)
        refuse_other_device(network, named)
        return given, named

    def _materialised(
        self, named: dict[str, nn.Module], site: Site | None, example_inputs: object = None
    ) -> dict[str, nn.Module]:
        """Give modules their sizes; lazy ones take them from example inputs, the value at a site, or the output."""
        if not any(map(is_lazy_module, named.values())):
            return named
        if example_inputs is not None:
            return materialised(named, self._engine.only_input(example_inputs))
        if self._state.example_inputs is None:
            at_bottom = site is not None and site.value.op == "placeholder"
            raise ModelError(
                f"the sizes of {[name for name in named if is_lazy_module(named[name])]} are not known before data: "
                "make the handler with example inputs, ModelHandler(network, example_inputs), or give the sizes"
                f"{' or add_layer_bottom(..., example_inputs=...)' if at_bottom else ''}"
            )
        with NETWORK_LOCK:
            output = output_tensor(self._engine, self._state.example_inputs) if site is None else None
            return materialised(named, output if site is None else self._value_at(site))

    def _value_at(self, site: Site) -> Any:
        """Return what the example inputs become at a site; None without these."""
        if self._state.example_inputs is None:
            return None
        return self._engine.value(self._state.example_inputs, site.value, site.readers[0])

    def _output_shape(self) -> tuple[int, ...] | None:
        return self._shapes.get(next(reversed(self._engine.backend.layers), ""))


def _as_written(named: Mapping[str, nn.Module]) -> str:
    return ", ".join(f"({name!r}, {module!r})" for name, module in named.items()).replace("\n", "")
