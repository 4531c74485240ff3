"""Summary: the layers of a network as a table for the terminal and the notebook, folded into containers if asked."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import fill

from torch import Tensor, nn

from model_handler.graph.leaves import last_of_list
from model_handler.quantities import readable

__all__ = ["LayerInfo", "NetworkDescription", "Row", "Summary", "summarize"]

_WIDEST_NAME, _WIDEST_TYPE = 44, 26
_NARROWEST_NOTE = 79
_MAX_NAMED = 4  # modules or weights that a note names before it only counts them
_HEADER = ("layer", "type", "output shape", "parameters", "FLOPs", "state")
_COUNTED = (
    "FLOPs are those of one row in evaluation mode, as torch's FlopCounterMode counts them: a multiply and an add are "
    "two, and matrix products, convolutions and attention alone count"
)


@dataclass(frozen=True)
class LayerInfo:
    """One layer: its name and type, the shape of its output, its parameters and its FLOPs.

    `output_shape` is the one for the example inputs; it is None where there are none, or where the layer returns more
    than one tensor. `trainable` is whether any of its `n_parameters` numbers learns. `flops` is what one row takes in
    evaluation mode, counted by torch's `FlopCounterMode`: a multiply and an add are two, and matrix products,
    convolutions and attention alone count. It is None where it is not known.

    >>> import torch
    >>> from model_handler import ModelHandler
    >>> ModelHandler(torch.nn.Sequential(torch.nn.Linear(4, 3)), torch.rand(2, 4)).layers
    [LayerInfo(name='0', type='Linear', output_shape=(2, 3), n_parameters=15, trainable=True, flops=24)]
    """

    name: str
    type: str
    output_shape: tuple[int, ...] | None
    n_parameters: int
    trainable: bool
    flops: int | None = None


@dataclass(frozen=True, eq=False)
class NetworkDescription:
    """What a summary needs to know beside the `LayerInfo`s.

    `layers` are modules or names of operations, `modules` those of `module` by every path, and `original_layers` and
    `original_modules` the same before all edits; `learns` says whether a parameter of that name is trained; `outside`
    are FLOPs in no layer, by the path of the module whose `forward` takes them; `remarks` are further notes.
    """

    name: str
    module: nn.Module
    layers: Mapping[str, nn.Module | str]
    modules: Mapping[str, nn.Module]
    original_layers: Mapping[str, nn.Module | str]
    original_modules: Mapping[str, nn.Module]
    learns: Callable[[str, Tensor], bool]
    shapes: Mapping[str, tuple[int, ...]]
    outside: Mapping[str, int]
    shared: Sequence[tuple[str, ...]]
    tied: Sequence[tuple[str, ...]]
    edits: Sequence[str]
    remarks: Sequence[str]


@dataclass(frozen=True)
class Row:
    """A layer, or a container with all inside it. `counted` is whether a row above has the same parameters.

    `state` is a list of words: "trainable", "frozen" or "partly frozen", and "added" or "new weights" after edits.
    """

    name: str
    type: str
    output_shape: tuple[int, ...] | None
    n_parameters: int
    flops: int | None
    state: str
    counted: bool = False


@dataclass(frozen=True, repr=False)
class Summary:
    """A table of layers: `str()` of it is for a terminal, and a notebook shows it as HTML.

    In the totals each parameter counts once, however many layers share it; `n_bytes` is the size of parameters and
    buffers, and `flops`, of one row, is None where it is not known.

    >>> import torch
    >>> from model_handler import ModelHandler
    >>> summary = ModelHandler(torch.nn.Sequential(torch.nn.Linear(4, 3)), torch.rand(2, 4)).summary()
    >>> summary.n_parameters, summary.flops, [row.state for row in summary.rows]
    (15, 24, ['trainable'])
    """

    name: str
    rows: tuple[Row, ...]
    n_parameters: int
    n_trainable: int
    flops: int | None
    n_bytes: int
    notes: tuple[str, ...]

    @property
    def totals(self) -> str:
        """One line: parameters, how many of them learn, size and FLOPs."""
        parts = [f"{readable(self.n_parameters)} parameters, {readable(self.n_trainable)} of them trainable"]
        parts.append(readable(self.n_bytes, "B"))
        if self.flops is not None:
            parts.append(f"{readable(self.flops)} FLOPs")
        return "; ".join(parts)

    def __str__(self) -> str:
        texts = [_HEADER, *(_cells_of_row(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        lines = [_table_line(text, widths) for text in texts]
        rule = "-" * max(map(len, lines))
        width = max(len(rule), _NARROWEST_NOTE)
        notes = [fill(note, width, initial_indent="- ", subsequent_indent="  ") for note in self.notes]
        return "\n".join([self.name, rule, lines[0], rule, *lines[1:], rule, self.totals, *notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{title}</th>" for title in _HEADER)
        body = "".join(f"<tr>{_html_cells(row)}</tr>\n" for row in self.rows)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return (
            f"<table>\n<caption>{escape(self.name)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n"
            f"</table>\n<p>{escape(self.totals)}</p>\n" + (f"<ul>{notes}</ul>\n" if notes else "")
        )


def summarize(network: NetworkDescription, layers: Sequence[LayerInfo], depth: int | None) -> Summary:
    """Return the summary of `layers`, those deeper than `depth` folded into their containers."""
    groups: dict[str, list[LayerInfo]] = {}
    for layer in layers:
        groups.setdefault(_container_at(layer.name, depth), []).append(layer)
    rows: list[Row] = []
    seen: set[int] = set()
    for name, group in groups.items():
        parameters = _named_parameters(network, name)
        held = {id(parameter) for parameter in parameters.values()}
        rows.append(_row(network, name, group, parameters, counted=bool(held) and held <= seen))
        seen |= held
    every = dict(network.module.named_parameters())
    known = [layer.flops for layer in layers if layer.flops is not None]
    return Summary(
        name=network.name,
        rows=tuple(rows),
        n_parameters=sum(parameter.numel() for parameter in every.values()),
        n_trainable=sum(p.numel() for name, p in every.items() if network.learns(name, p)),
        flops=sum(known) + sum(network.outside.values()) if known else None,
        n_bytes=sum(tensor.nbytes for tensor in (*every.values(), *network.module.buffers())),
        notes=tuple(_notes(network, rows, seen, depth)),
    )


def _container_at(name: str, depth: int | None) -> str:
    parts = name.split(".")
    return name if depth is None or len(parts) <= depth else ".".join(parts[:depth])


def _named_parameters(network: NetworkDescription, name: str) -> dict[str, nn.Parameter]:
    """Return the parameters of a layer or of a container, by their names in the network."""
    layer, path = network.layers.get(name, network.modules.get(name)), name.partition("@")[0]
    if not isinstance(layer, nn.Module):
        return {}
    return {f"{path}.{key}": parameter for key, parameter in layer.named_parameters()}


def _row(
    network: NetworkDescription,
    name: str,
    group: Sequence[LayerInfo],
    parameters: Mapping[str, nn.Parameter],
    *,
    counted: bool,
) -> Row:
    """Return the row of one layer, or of the layers of a container."""
    folds = name not in network.layers
    inside = [taken for path, taken in network.outside.items() if folds and f"{path}.".startswith(f"{name}.")]
    flops = [layer.flops for layer in group if layer.flops is not None]
    original = network.original_modules.get(name, network.modules.get(name))
    return Row(
        name=name,
        type=(type(original).__name__ if original else "") if folds else group[0].type,
        output_shape=network.shapes.get(last_of_list(name, network.modules) if folds else name),
        n_parameters=sum(parameter.numel() for parameter in parameters.values()),
        flops=sum(flops) + sum(inside) if flops else None,
        state=_training_state(network, group, parameters),
        counted=counted,
    )


def _training_state(
    network: NetworkDescription, group: Sequence[LayerInfo], parameters: Mapping[str, nn.Parameter]
) -> str:
    learns = {network.learns(name, parameter) for name, parameter in parameters.items()}
    words = {frozenset(): "", frozenset([True]): "trainable", frozenset([False]): "frozen"}
    origins = {_edit_of_layer(network, layer.name) for layer in group}
    news = [f"partly {origin}" if len(origins) > 1 else origin for origin in sorted(origins) if origin]
    return ", ".join(word for word in (words.get(frozenset(learns), "partly frozen"), *news) if word)


def _edit_of_layer(network: NetworkDescription, name: str) -> str:
    """Return what edits did to a layer: "added", "new weights" or nothing."""
    layer, path = network.layers[name], name.partition("@")[0]
    if isinstance(layer, str):
        return "" if name in network.original_layers else "added"
    before = network.original_modules.get(path)
    if before is None or type(before) is not type(layer):
        return "added"
    kept = [*map(id, layer.parameters())] == [*map(id, before.parameters())]
    return "" if kept else "new weights"


def _notes(network: NetworkDescription, rows: Sequence[Row], seen: set[int], depth: int | None) -> list[str]:
    notes = list(network.remarks)
    if any(row.flops is not None for row in rows):
        notes.append(_COUNTED)
    shown = {row.name for row in rows}
    outside = {path: taken for path, taken in network.outside.items() if _container_at(path, depth) not in shown}
    if outside:
        taken = readable(sum(outside.values()))
        where = _first_names([path or type(network.module).__name__ for path in outside])
        notes.append(f"{taken} FLOPs are in operations that are no layer, in the forward of {where}")
    every = network.module.named_parameters()
    if rest := {name: parameter.numel() for name, parameter in every if id(parameter) not in seen}:
        notes.append(f"{readable(sum(rest.values()))} parameters belong to none of these layers: {_first_names(rest)}")
    if any(row.counted for row in rows):
        notes.append("Parameters in brackets are those of a layer above, and count once in the total")
    return [*notes, *_sharing(network), *(f"edit {number}: {edit}" for number, edit in enumerate(network.edits, 1))]


def _sharing(network: NetworkDescription) -> list[str]:
    """Return what runs or is named more than once."""
    found = [(names, network.modules[names[0]]) for names in network.shared]
    weighted = [" = ".join(names) for names, module in found if next(module.parameters(), None) is not None]
    plain = [names[0] for names, module in found if next(module.parameters(), None) is None]
    tied = [" = ".join(names) for names in network.tied if len({_owner(network, name) for name in names}) > 1]
    notes = [f"Shared module: {names}" for names in weighted] + [f"Tied weights: {names}" for names in tied]
    if plain:
        notes.append(f"Modules without parameters that run more than once or have several paths: {_first_names(plain)}")
    return notes


def _owner(network: NetworkDescription, name: str) -> nn.Module | None:
    return network.modules.get(name.rpartition(".")[0])


def _first_names(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _cells_of_row(row: Row) -> tuple[str, ...]:
    """Return the cells of a row, short enough for a terminal: of a long name the end tells more."""
    name = row.name if len(row.name) <= _WIDEST_NAME else f"…{row.name[1 - _WIDEST_NAME :]}"
    kind = row.type if len(row.type) <= _WIDEST_TYPE else f"{row.type[: _WIDEST_TYPE - 1]}…"
    return (name, kind, *_number_cells(row), row.state)


def _number_cells(row: Row) -> tuple[str, str, str]:
    shape = " x ".join(map(str, row.output_shape)) if row.output_shape else ""
    parameters = readable(row.n_parameters) if row.n_parameters else ""
    flops = readable(row.flops) if row.flops else ""
    return shape, f"({parameters})" if row.counted else parameters, flops


def _table_line(texts: Sequence[str], widths: Sequence[int]) -> str:
    right = {3, 4}  # numbers
    cells = (t.rjust(w) if n in right else t.ljust(w) for n, (t, w) in enumerate(zip(texts, widths, strict=True)))
    return "  ".join(cells).rstrip()


def _html_cells(row: Row) -> str:
    left, right = "<td style='text-align: left'>{}</td>", "<td style='text-align: right'>{}</td>"
    shape, parameters, flops = _number_cells(row)
    texts = (row.name, row.type, shape, parameters, flops, row.state)
    return "".join((right if n in (3, 4) else left).format(escape(text)) for n, text in enumerate(texts))
