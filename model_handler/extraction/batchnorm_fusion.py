"""BatchNorm fusion, also folding: a convolution and the BatchNorm behind it in one convolution, for extraction only.

In evaluation BatchNorm multiplies each channel by a number and adds another, which a convolution can do itself with
other weights (Jacob et al., 2018, arXiv:1712.05877, section 3.2). The network keeps its own: these are held beside
them, once however many programs use them, and computed again when they may have changed. Whether what comes of them
agrees with the network is judged in `fast_path`.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from model_handler.graph.tracer import OwnThreadTracer
from model_handler.network.adapted_layer import AdaptedLayer
from model_handler.network.replica import share_weights

__all__ = ["BatchNormFusion", "FusedConvolution"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_FOREIGN_NORMS = {  # by name, so that neither library is imported
    ("torchvision.ops.misc", "FrozenBatchNorm2d"),
    ("timm.layers.norm_act", "BatchNormAct2d"),
}
_OPERATIONS = (F.conv1d, F.conv2d, F.conv3d, F.linear)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid)
_ACTIVATION_FUNCTIONS = (F.relu, F.relu6, F.leaky_relu, F.elu, F.silu, F.mish, F.hardswish, F.hardsigmoid)

_TILE = 2**15  # numbers multiplied at a time: in float64 they stay in the cache


class BatchNormFusion:
    """The folds of one network. `dtype` is that of their weights, where it is not the network's.

    `revision` grows when the scale or shift of a channel is another than before.
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype
        self.revision = 0
        self._folds: dict[tuple[nn.Module, nn.Module], FusedConvolution] = {}
        self._stale: set[FusedConvolution] = set()

    def apply(self, program: fx.GraphModule) -> list["FusedConvolution"]:
        """Fold what can be folded, in place: BatchNorm that alone reads what a convolution returns."""
        modules: dict[str, Any] = dict(program.named_modules(remove_duplicate=False))
        found: list[FusedConvolution] = []
        for norm_node in list(program.graph.nodes):
            conv_node = _only_argument(norm_node)
            conv = modules.get(str(conv_node.target)) if conv_node else None  # None where it has been folded already
            norm = modules.get(str(norm_node.target))
            if conv_node is None or conv is None or norm is None:  # not by their truth: some modules have a length
                continue
            if not (_is_norm(norm) and _is_convolution(conv) and _fit(conv, norm)):
                continue
            found.append(self._fold(conv, norm))
            conv_node.target = name = f"_fold_{len(found)}"
            program.add_submodule(name, found[-1].module)
            if hasattr(norm, "act"):
                norm_node.target = f"{norm_node.target}.act"
            else:
                norm_node.replace_all_uses_with(conv_node)
                program.graph.erase_node(norm_node)
            _run_in_place(program, conv_node, modules)
        if found:
            program.recompile()  # what is no longer called stays: its children are shared with the network
        return found

    def expire(self) -> None:
        """Take it that all weights may have changed."""
        self._stale.update(self._folds.values())

    def refresh(self, folds: Iterable["FusedConvolution"]) -> None:
        """Bring those of `folds` up to date that may not be."""
        for fold in self._stale.intersection(folds):
            self.revision += fold.refresh(self.dtype)
            self._stale.discard(fold)

    def _fold(self, conv: nn.Module, norm: nn.Module) -> "FusedConvolution":
        if (conv, norm) not in self._folds:
            self._folds[conv, norm] = fold = FusedConvolution(conv, norm)
            self._stale.add(fold)
        return self._folds[conv, norm]


class FusedConvolution:
    """A convolution and the normalisation behind it; `module` computes both, once it has been refreshed."""

    module: nn.Module
    n_weights: int

    def __init__(self, conv: Any, norm: Any) -> None:
        self._conv, self._norm = conv, norm
        self._scale_and_shift: Tensor | None = None
        self.module = share_weights(conv)
        self.n_weights = conv.weight.numel()

    def refresh(self, dtype: torch.dtype | None = None) -> bool:
        """Compute the weights again, in float64 and rounded once; returns whether a scale or shift has changed."""
        conv, module = self._conv, cast(Any, self.module)
        with torch.no_grad():
            scale, shift = _scale_and_shift(self._norm)
            bias = shift if conv.bias is None else shift + scale * conv.bias.double()
            if module.weight is conv.weight:
                module.weight = nn.Parameter(torch.empty_like(conv.weight, dtype=dtype), requires_grad=False)
            _multiply(conv.weight, _per_row(scale, conv), out=module.weight)
            module.bias = nn.Parameter(bias.to(module.weight.dtype), requires_grad=False)
            now, before = torch.stack([scale, bias]), self._scale_and_shift
            self._scale_and_shift = now
        return before is None or not torch.equal(now, before)


def _only_argument(node: fx.Node) -> fx.Node | None:
    """Return the call of a module whose output another module is called with, and which nothing else reads."""
    arguments = node.all_input_nodes
    if node.op != "call_module" or node.kwargs or len(node.args) != 1 or len(arguments) != 1:
        return None
    return arguments[0] if arguments[0].op == "call_module" and len(arguments[0].users) == 1 else None


def _is_norm(norm: Any) -> bool:
    """Return whether a module is BatchNorm in evaluation, by its running statistics, and nothing else."""
    if type(norm) not in _NORMS and (type(norm).__module__, type(norm).__name__) not in _FOREIGN_NORMS:
        return False
    learning = norm.training and isinstance(norm, nn.modules.batchnorm._BatchNorm)
    return not learning and norm.running_mean is not None and norm.running_var is not None and _runs_as_written(norm)


def _is_convolution(conv: Any) -> bool:
    """Tell whether a module is a convolution with weights of its own and nothing else, but for padding before it."""
    if isinstance(conv, AdaptedLayer):  # its weights are computed at each call
        return False
    known = type(conv) in (*_CONVOLUTIONS, *_TRANSPOSED) or (
        isinstance(conv, _CONVOLUTIONS) and _runs_as_written(conv) and _ends_in_convolution(conv)
    )
    held = (vars(conv).get("_parameters") or {}).get("weight")
    return (
        known and type(held) is nn.Parameter and held.dtype in (torch.float32, torch.float64) and _runs_as_written(conv)
    )


def _runs_as_written(module: nn.Module) -> bool:
    """Return whether no hook (old weight norm is one) and no patch changes what the class says."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _ends_in_convolution(conv: Any) -> bool:
    """Tell whether a subclass's `forward` returns one convolution by `weight` and `bias`, used nowhere else."""
    try:
        nodes = list(OwnThreadTracer().trace(share_weights(conv)).nodes)
    except Exception:  # whatever a forward raises on a proxy: what it does is not known
        return False
    result = nodes[-1].args[0]
    if not isinstance(result, fx.Node) or result.target not in _OPERATIONS:
        return False
    given: dict[str, Any] = dict(zip(("input", "weight", "bias"), result.args)) | result.kwargs
    wanted = {"weight"} if conv.bias is None else {"weight", "bias"}
    tensors = {name for name in ("weight", "bias") if isinstance(given.get(name), fx.Node)}
    attributes = [node for node in nodes if node.op == "get_attr"]
    return (
        tensors == wanted
        and all(given[name].target == name for name in wanted)
        and {node.target for node in attributes} == wanted
        and all(list(node.users) == [result] for node in attributes)
    )


def _fit(conv: Any, norm: Any) -> bool:
    n_channels = conv.out_features if isinstance(conv, nn.Linear) else conv.out_channels
    return norm.running_mean.shape == (n_channels,) and norm.running_mean.device == conv.weight.device


def _run_in_place(program: fx.GraphModule, node: fx.Node, modules: dict[str, Any]) -> None:
    """Let an activation that alone reads a fold write into its output, in place."""
    if len(node.users) != 1:
        return
    (user,) = node.users
    if user.op == "call_function" and user.target in _ACTIVATION_FUNCTIONS and len(user.args) == 1:
        user.kwargs = {**user.kwargs, "inplace": True}
        return
    if user.op != "call_module":
        return
    found: Any = modules.get(str(user.target))
    if type(found) not in _ACTIVATIONS or not _runs_as_written(found) or getattr(found, "inplace", True):
        return
    activation: Any = share_weights(found)
    activation.inplace = True
    user.target = name = f"{node.target}_activation"
    program.add_submodule(name, activation)


def _scale_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """Return what BatchNorm multiplies each channel by and then adds, float64 (n_channels,) each."""
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.double()


def _per_row(scale: Tensor, conv: Any) -> Tensor:
    """Reshape scales (n_outputs,) so that they multiply the weights."""
    if isinstance(conv, _TRANSPOSED):  # weights are (n_inputs, n_outputs_of_group, ...)
        n_inputs, n_of_group = conv.weight.shape[:2]
        groups = scale.view(conv.groups, 1, n_of_group)
        scale = groups.expand(conv.groups, n_inputs // conv.groups, n_of_group).reshape(n_inputs, n_of_group)
    return scale.reshape(*scale.shape, *[1] * (conv.weight.ndim - scale.ndim))


def _multiply(weight: Tensor, scale: Tensor, out: Tensor) -> None:
    step = max(1, _TILE * len(weight) // max(1, weight.numel()))
    for rows in (slice(start, start + step) for start in range(0, len(weight), step)):
        torch.mul(weight[rows], scale[rows], out=out[rows])
