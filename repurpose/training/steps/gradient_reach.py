"""Gradients must reach what is to learn, and nothing that is no part of the network.

Three things keep a gradient from a parameter that is said to learn, and each is told in another way:

- The network runs other parameters in its place: a copy whose `forward` is a closure over the module that it was copied
  from computes with the user's weights. That is never meant, and known from the graph of the first loss, before any
  gradient is computed: an error.
- A layer that the plan names gets none in any of its parameters: whoever gives it a rate expects it to learn, so that
  is an error too. It is judged after some steps and not after one, since layers are left out by chance (stochastic
  depth, LayerDrop, mixtures of experts).
- A layer that no one named runs and gets none in all of its own parameters: its forward detaches, or is under
  `torch.no_grad()`. It may be meant so, and stays as it is: a warning that names it.

What does not run at all (poolers, auxiliary heads) is trained beside the others every day, and only the log tells of
it. Parameters that begin to learn later are judged from then on.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from model_handler.errors import ModelError, first_few
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.plan.parameter_groups import GroupTable

__all__ = ["GradientReach"]

_LOG = logging.getLogger(__name__)

_STEPS = 20  # of a layer that is left out of every fifth step, one in 10^14 is never in so many
_NOT_NAMED = ("*", "new", "transferred")


class GradientReach:
    """Watches the gradients of the parameters of `module` that learn, from the step on in which they begin.

    `own_loss` says that the loss may use parameters that are no part of the module.
    """

    def __init__(self, module: nn.Module, groups: GroupTable, process_group: ProcessGroup, *, own_loss: bool) -> None:
        self._module = module
        self._groups = groups
        self._process_group = process_group
        self._own_loss = own_loss
        self._begun: set[str] = set()
        self._waiting: dict[str, nn.Parameter] = {}
        self._n_steps = 0
        self._is_new = False
        self._foreign_leaves: list[tuple[Tensor, Tensor | None]] = []
        self._running = module
        self._ran: set[int] = set()  # by ids: tensors compare by their elements
        self._hooks: list[RemovableHandle] = []

    def begin(self, running: nn.Module) -> None:
        """Watch also what has begun to learn since; `running` is what is called, the module or a part of it."""
        self._running = running
        learning = {name: weight for name, weight in self._module.named_parameters() if weight.requires_grad}
        if begun := {name: weight for name, weight in learning.items() if name not in self._begun}:
            self._begun.update(begun)
            self._waiting.update(begun)
            self._n_steps, self._is_new = 0, True

    def look(self, loss: Tensor) -> None:
        """Raise ModelError if other parameters stand in for some that learn; called before the first gradient."""
        if not self._is_new or not self._process_group.holds_whole_weights:
            return
        self._is_new = False
        reached, own = list(_leaves(loss)), {id(weight) for weight in self._module.parameters()}
        foreign_leaves = [leaf for leaf in reached if id(leaf) not in own]
        self._refuse_stand_ins({id(leaf) for leaf in reached}, foreign_leaves)
        known = {id(leaf) for leaf, _ in self._foreign_leaves}
        self._foreign_leaves += [(leaf, leaf.grad) for leaf in foreign_leaves if id(leaf) not in known]
        for leaf, _ in self._foreign_leaves:
            leaf.grad = None  # what is there is the user's, and would be added to

    def note_step(self) -> None:
        """Note which gradients a step gave; called when they are there, on all processes alike."""
        if not self._n_steps and not self._waiting:
            return
        self._waiting = {name: weight for name, weight in self._waiting.items() if weight.grad is None}
        self._n_steps += 1
        if self._n_steps == 1:
            self._note_calls()
        if self._n_steps >= _STEPS:
            self.judge()

    def judge(self) -> None:
        """Warn of layers that run and that no gradient has reached; raise ModelError where the plan names them."""
        if not self._n_steps:
            return
        n_steps, self._n_steps = self._n_steps, 0
        missing = self._process_group.from_main_process(lambda: list(self._waiting))
        ran = [name for name, weight in self._waiting.items() if id(weight) in self._ran]
        self._waiting = {}
        self._forget_calls()
        steps = f"{n_steps} step{'s' if n_steps > 1 else ''}"
        why = "detaches what comes of them, or computes it under torch.no_grad()"
        for name, members in self._named().items():
            if set(members) <= set(missing):
                raise ModelError(
                    f"learning_rates gives {name!r} a rate, but no gradient reached {first_few(members, 5)} in "
                    f"{steps}: the forward of the network does not use them, {why}. Give it a rate of 0, which "
                    "freezes it, or change the forward"
                )
        if unused := [name for name in missing if name not in ran]:
            _LOG.info("no gradient reached %s in %s, as they were not used", first_few(unused, 5), steps)
        if ran and self._process_group.is_main_process:
            warnings.warn(
                f"no gradient reached {first_few(ran, 5)} in {steps}, though they are used: the forward of the network "
                f"{why}; they stay as they are. A rate of 0 in learning_rates, or freezing them, says that this is "
                "meant",
                UserWarning,
                stacklevel=2,
            )

    def close(self) -> None:
        """Leave no gradient on what is no part of the network, and no hook."""
        self._forget_calls()
        for leaf, gradient in self._foreign_leaves:
            leaf.grad = gradient
        self._foreign_leaves = []

    def _note_calls(self) -> None:
        """From now on note which layers run, of those in whose own parameters no gradient has arrived."""
        waiting = {id(weight) for weight in self._waiting.values()}
        for part in self._running.modules() if waiting else ():
            own = {id(weight) for weight in part._parameters.values() if weight is not None and weight.requires_grad}
            if own and own <= waiting:
                self._hooks.append(part.register_forward_pre_hook(_Noting(self._ran, own)))

    def _forget_calls(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._ran = [], set()

    def _named(self) -> dict[str, list[str]]:
        """Find each pattern of the plan that names layers, and the parameters that learn by it so far."""
        named: dict[str, list[str]] = {}
        for group in self._groups:
            name = group.name.partition(" (depth ")[0]
            begun = [parameter for parameter in group.parameters if parameter in self._begun]
            if begun and name not in _NOT_NAMED:
                named.setdefault(name, []).extend(begun)
        return named

    def _refuse_stand_ins(self, reached: set[int], foreign_leaves: Sequence[Tensor]) -> None:
        others = [leaf for leaf in foreign_leaves if isinstance(leaf, nn.Parameter)]
        left_out = {name: weight for name, weight in self._waiting.items() if id(weight) not in reached}
        replaced = [name for name, weight in left_out.items() if any(self._stands_in(leaf, weight) for leaf in others)]
        if replaced:
            raise ModelError(
                f"{first_few(replaced, 5)} are to learn, but no gradient reaches them: the network computes with other "
                "parameters in their place, which are no part of it. So does a copy whose forward refers to the module "
                "that it was copied from, such as block.forward = lambda x: block.layer(x): write it as a method of "
                "the class, or bind it by types.MethodType(function, block), which copies follow"
            )

    def _stands_in(self, leaf: Tensor, parameter: nn.Parameter) -> bool:
        """Tell whether a parameter may run in the place of another; a user's loss may have some of the same shape."""
        if leaf.shape != parameter.shape:
            return False
        return not self._own_loss or torch.equal(leaf.detach().to(parameter.device), parameter.detach())


class _Noting:
    """Notes that a layer runs; an object, as what a callback saves of the network is to be pickled."""

    def __init__(self, ran: set[int], own: set[int]) -> None:
        self.ran, self.own = ran, own

    def __call__(self, module: nn.Module, inputs: object) -> None:
        self.ran.update(self.own)


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """Find the tensors to which the gradient of a loss would be added."""
    pending, seen = [loss.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable  # type: ignore[attr-defined]
        pending.extend(following for following, _ in node.next_functions)
