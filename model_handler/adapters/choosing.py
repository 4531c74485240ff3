"""Choosing: which layers are meant to get an adapter, by names, by types or by a word such as "attention".

What is chosen is a layer and the pieces of its weights: of a fused `qkv` those of the query and of the value. Whether
an adapter can be put there is judged in `refusing`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from model_handler.adapters.kinds import Kind
from model_handler.adapters.layouts import Piece, is_matrix_layer, is_norm, matrix_shape, pieces_of
from model_handler.blocks.records import Attention, Block, Projection
from model_handler.errors import ModelError
from model_handler.extraction.backends import TracedBackend
from model_handler.extraction.engine import Engine
from model_handler.graph.naming import module_path
from model_handler.network.layer_types import is_of_type, known_types

__all__ = ["WORDS", "Chooser", "Where", "check_where"]

Where = str | type[nn.Module] | Sequence[str | type[nn.Module]]
Chosen = dict[str, tuple[Piece, ...]]

WORDS = ("attention", "pointwise", "all", "auto")
_PARTS = {"q": "query", "k": "key", "v": "value", "o": "output"}


@dataclass(frozen=True, eq=False)
class Chooser:
    """Finds the layers of an engine's network for one kind of adapter; `blocks` and `attention` are a handler's."""

    engine: Engine
    kind: Kind
    blocks: Callable[[], tuple[Block, ...]]
    attention: Callable[[Block], Attention]

    def choose(self, where: Where, parts: str | None) -> Chosen:
        """Return the layers meant, by their first paths, each with the pieces of it that are.

        Raises UnknownLayerError for names that are none, and ModelError where nothing is meant that the kind fits.
        """
        check_where(where, parts)
        if where == "auto":
            where = self._auto()
        if where == "attention":
            return self._of_attention(parts or "qv")
        if where == "pointwise":
            return self._whole(self._pointwise(), where)
        if where == "all":
            return self._whole(self._running(), where)
        return self._of_names(where)

    def _auto(self) -> str:
        if self.kind.auto != "attention":
            return self.kind.auto
        return "attention" if self._attentions[0] else "pointwise"

    @cached_property
    def _attentions(self) -> tuple[list[Attention], list[str]]:
        """The attention of each block that has one, and of the others why not."""
        found, reasons = [], []
        for block in self._blocks:
            try:
                found.append(self.attention(block))
            except ModelError as error:
                reasons.append(str(error))
        return found, reasons

    @cached_property
    def _blocks(self) -> tuple[Block, ...]:
        try:
            return self.blocks()
        except ModelError as error:
            raise type(error)(f"{error}; or use 'all' or names of layers, which need no blocks") from error

    def _of_attention(self, parts: str) -> Chosen:
        chosen: dict[str, list[Piece]] = {}
        attentions, reasons = self._attentions
        for attention in attentions:
            for letter in parts:
                projection: Projection | None = getattr(attention, _PARTS[letter])
                if projection is not None:
                    layer = self._modules[projection.module]
                    piece = _piece(layer, projection, _PARTS[letter])
                    pieces = chosen.setdefault(self._first_path[layer], [])
                    pieces.extend([] if piece in pieces else [piece])  # one module may be part of several blocks
        fitting = {path: tuple(pieces) for path, pieces in chosen.items() if self.kind.fits(self._modules[path])}
        if not fitting:
            more = f" ({reasons[0]})" if reasons else ""
            raise ModelError(
                f"no block of the network has attention whose projections are {self.kind.needs}{more}; "
                "use 'pointwise', 'all' or names of layers"
            )
        return fitting

    def _pointwise(self) -> list[str]:
        inside = tuple(f"{module_path(block.name)}." for block in self._blocks)
        return [path for path in self._running() if path.startswith(inside) and _is_pointwise(self._modules[path])]

    def _whole(self, paths: Iterable[str], word: str) -> Chosen:
        fitting = {path: pieces_of(self._modules[path]) for path in paths if self.kind.fits(self._modules[path])}
        if not fitting:
            raise ModelError(f"{word!r} finds nothing that can be adapted so: it takes {self.kind.needs}")
        return fitting

    def _running(self) -> list[str]:
        """List linear layers, convolutions and normalisations, without those that surely do not run."""
        backend = self.engine.backend
        embeddings = {part.weight for part in self._layers.values() if isinstance(part, nn.Embedding)}
        known = [
            path
            for path, layer in self._layers.items()
            if (is_matrix_layer(layer) or is_norm(layer)) and layer._parameters.get("weight") not in embeddings
        ]
        if isinstance(backend, TracedBackend):
            nodes = backend.trace.graph.nodes
            called = {self._first(str(node.target)) for node in nodes if node.op == "call_module"}
            read = {self._first(str(node.target).rpartition(".")[0]) for node in nodes if node.op == "get_attr"}
            inside = tuple(f"{path}." for path in called)
            return [path for path in known if path in called | read or path.startswith(inside)]
        calls = set(backend.calls)
        # a module that is never called may be read by the one around it
        return [path for path in known if not calls or path in calls or path.rpartition(".")[0] in calls]

    def _of_names(self, where: Where) -> Chosen:
        chosen: Chosen = {}
        for one in _listed(where):
            paths = self._named(one)
            fitting = [path for path in paths if self.kind.fits(self._layers[path])]
            if not fitting:
                found = f"is a {type(self._layers[paths[0]]).__name__}" if len(paths) == 1 else "has none inside"
                raise ModelError(f"this kind of adapter takes {self.kind.needs}, and {one!r} {found}")
            chosen.update({path: pieces_of(self._layers[path]) for path in fitting})
        return chosen

    def calls(self, where: Where, ran: Callable[[], Sequence[str]]) -> dict[str, tuple[int, int]]:
        """Return, of the layers of which `where` names one call ("fc@1"), its number and how many there are.

        Of a container the call with that number of each layer inside is meant. `ran` gives the paths of all calls of
        one forward. Raises ModelError where there is no such call.
        """
        found: dict[str, tuple[int, int]] = {}
        named = [one for one in _listed(where) if isinstance(one, str) and "@" in one and one not in self._modules]
        every_call = ran() if named else ()
        for one in named:
            number = int(one.rpartition("@")[2])
            for path in self._named(one):
                n_calls = every_call.count(path)
                if self.kind.fits(self._layers[path]) and number >= n_calls:
                    raise ModelError(f"{path!r} is called {n_calls} times, so there is no call {one!r}")
                found[path] = (number, n_calls)
        return found

    def _named(self, one: Any) -> list[str]:
        """Return the paths of the modules that a name or type means, those inside them included."""
        backend = self.engine.backend
        if isinstance(one, str) and backend.knows(one):
            path = one if one in backend.modules else module_path(one)
            if path not in backend.modules:
                raise ModelError(f"{one!r} is an operation without weights: name modules")
            return self._inside([backend.modules[path]])
        present = {type(layer).__name__ for layer in backend.modules.values()}
        try:
            known_types(present, one)
        except ModelError:
            if isinstance(one, str):
                self.engine.refuse_unknown([one], more=WORDS)
            raise
        found = [module for module in self._layers.values() if is_of_type(module, one)]
        if not found:
            raise ModelError(f"the network has no module of type {one!r}")
        return self._inside(found)

    def _inside(self, modules: Iterable[nn.Module]) -> list[str]:
        paths = self._first_path
        return list(dict.fromkeys(paths[part] for module in modules for part in module.modules()))

    def _first(self, path: str) -> str:
        return self._first_path.get(self._modules[path], path) if path in self._modules else path

    @property
    def _modules(self) -> Mapping[str, nn.Module]:
        return self.engine.backend.modules

    @cached_property
    def _layers(self) -> dict[str, nn.Module]:
        """The modules by their first paths."""
        return {path: module for module, path in self._first_path.items()}

    @cached_property
    def _first_path(self) -> dict[nn.Module, str]:
        found: dict[nn.Module, str] = {}
        for path, module in self._modules.items():
            found.setdefault(module, path)
        return found


def check_where(where: object, parts: object = None) -> None:
    """Raise ModelError, saying what may be given, for what cannot mean layers of any network or parts of attention."""
    asked = _listed(where)
    wrong = [one for one in asked if not isinstance(one, str) and not _is_type(one)]
    if wrong or not asked:
        found = f"got {wrong[0]!r}" if wrong else "no layer was named"
        raise ModelError(
            "adapters go on layers of the network, given by a name, a type (a class of modules), a list of these, or "
            f"one of {list(WORDS)}; {found}"
        )
    if parts is None:
        return
    if where not in ("attention", "auto"):
        raise ModelError(f"parts={parts!r} is for where='attention': {where!r} names whole layers")
    if not isinstance(parts, str) or not parts or set(parts) - set(_PARTS) or len(set(parts)) < len(parts):
        raise ModelError(f"parts must be letters of 'qkvo', such as 'qv', 'qkv' or 'qkvo', got {parts!r}")


def _is_type(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, nn.Module)


def _listed(where: object) -> list[Any]:
    return list(where) if isinstance(where, Iterable) and not isinstance(where, (str, type)) else [where]


def _piece(layer: nn.Module, projection: Projection, part: str) -> Piece:
    bias = {"weight": "bias", "in_proj_weight": "in_proj_bias"}.get(projection.weight)
    if bias is not None and layer._parameters.get(bias) is None:
        bias = None
    is_whole = (projection.start, projection.stop) == (0, matrix_shape(layer, projection.weight)[0])
    if is_whole and projection.weight == "weight":
        return Piece(bias=bias)
    stop = None if is_whole else projection.stop
    return Piece(projection.weight, bias, projection.start, stop, suffix=f"_{part}")


def _is_pointwise(layer: nn.Module) -> bool:
    if isinstance(layer, _ConvNd):
        return layer.groups == 1 and set(layer.kernel_size) == {1}
    return is_matrix_layer(layer)
