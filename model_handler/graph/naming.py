"""Layer names: what users call the nodes of a graph.

A leaf has the path of its module, a functional operation the path of the module that runs it plus the operation; a
repeat gets a suffix that no identifier can have (`relu@1`), and on a clash the module keeps the plain name.
"""

import operator
from collections.abc import Iterable

from torch import fx

from model_handler.graph.nodes import target_name
from model_handler.graph.tracing import Trace

__all__ = ["NAME_RULE", "is_name", "layer_nodes", "module_path", "operation_name", "split_index"]

NAME_RULE = "a name is printable and without '.', '@', '[', ']', '\"' and '\\'"

_SIZES = {"size", "dim", "numel", "nelement", "element_size", "is_floating_point", "is_complex", "get_device", "stride"}
_SIZE_ATTRIBUTES = {"shape", "ndim", "dtype", "device", "is_cuda", "layout", "requires_grad"}
_CHECKS = {"_assert", "_assert_is_none", "_assert_scalar", "_check"}
# "_operator" is what CPython's functions of `operator` give as their module
_PYTHON_MODULES = {"_operator", "operator", "builtins", "math"}


def layer_nodes(trace: Trace, module_paths: Iterable[str]) -> dict[str, fx.Node]:
    """Return the name of every layer of a traced network with its node, in order of execution.

    `module_paths` are the paths of all modules: no functional operation may take the name of one.
    """
    nodes = _tensor_nodes(trace.graph)
    taken = set(module_paths)
    # names from before an edit go first, then modules: an operation gives way, as its name is made up
    names = {node: trace.names[node] for node in nodes if node in trace.names}
    for node in nodes:
        if node.op == "call_module" and node not in names:
            names[node] = _free_layer_name(str(node.target), set(names.values()))
    taken.update(names.values())
    for node in nodes:
        if node not in names:
            owner = trace.owners[node]
            names[node] = _free_layer_name(f"{owner}.{operation_name(node)}" if owner else operation_name(node), taken)
            taken.add(names[node])
    return {names[node]: node for node in nodes}


def operation_name(node: fx.Node) -> str:
    """Return the name of a functional operation, the same for its in-place forms (`iadd`, `add_`, `add`)."""
    name = target_name(node.target) or type(node.target).__name__
    if _module_of(node.target) in _PYTHON_MODULES and name.startswith("i") and hasattr(operator, f"__{name}__"):
        name = name[1:]
    return name.strip("_") or name


def split_index(name: str) -> tuple[str, int | None]:
    """Split `"attn[1]"` into `("attn", 1)`, any other name into itself and None."""
    stem, bracket, index = name.removesuffix("]").rpartition("[")
    return (stem, int(index)) if bracket and name.endswith("]") and index.isdigit() else (name, None)


def is_name(text: str) -> bool:
    """Tell whether a module can get this name: '.', '@' and brackets have a meaning, code is written with the rest."""
    return bool(text) and text.isprintable() and not any(mark in text for mark in '.@[]"\\')


def module_path(name: str) -> str:
    """Return the path in a layer's name: without the suffix of a repeat or of a part of the output."""
    return split_index(name)[0].partition("@")[0]


def _free_layer_name(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    repeat = 1
    while f"{name}@{repeat}" in taken:
        repeat += 1
    return f"{name}@{repeat}"


def _tensor_nodes(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes that compute tensors: sizes, checks and arithmetic on sizes are no layers."""
    tensors: set[fx.Node] = set()
    layers = []
    for node in graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            tensors.add(node)
        elif node.op == "call_module" or (node.op != "output" and _gives_tensor(node, tensors)):
            tensors.add(node)
            if not _unpacks(node):
                layers.append(node)
    return layers


def _unpacks(node: fx.Node) -> bool:
    """Return whether a node only takes one part of what a layer returned (`out, weights = attention(x)`)."""
    return node.target is operator.getitem and isinstance(node.args[1], (int, str))


def _gives_tensor(node: fx.Node, tensors: set[fx.Node]) -> bool:
    if node.op == "call_method":
        return node.target not in _SIZES
    if node.target is getattr:
        return node.args[1] not in _SIZE_ATTRIBUTES
    if target_name(node.target) in _CHECKS:
        return False
    # Python's own operators are layers where they compute with tensors, and arithmetic on sizes where not
    return _module_of(node.target) not in _PYTHON_MODULES or any(part in tensors for part in node.all_input_nodes)


def _module_of(target: object) -> str:
    return getattr(target, "__module__", None) or ""
