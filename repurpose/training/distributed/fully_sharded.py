"""The process group of fully sharded data parallel: each process holds a shard of the weights, by `fully_shard`.

Gradients and the optimiser's states are sharded too. Layers with many weights are gathered one at a time while they
compute; the others with the whole network.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.network.copying import deep_copy
from repurpose.data.inputs import Inputs
from repurpose.training.data.batches import TrainingBatch
from repurpose.training.distributed.data_parallel import DataParallelGroup
from repurpose.training.distributed.process_group import Loss
from repurpose.training.distributed.sharded_batches import zero_weight_batch
from repurpose.training.plan.cache_options import cache_options
from repurpose.training.plan.plan import TrainingPlan

__all__ = ["FullyShardedGroup", "sharding_mistakes"]

_LARGE = 2**20  # elements in a layer that is gathered by itself


class FullyShardedGroup(DataParallelGroup):
    """The processes of a team, each with a shard of the weights: all of them must run the network, equally often."""

    holds_whole_weights = False

    def adapt_plan(self, plan: TrainingPlan) -> TrainingPlan:
        """Train the network whole, as no process has all frozen weights. Raises ModelError if it must not be."""
        if cache_options(plan.cache_frozen).when is True:
            raise ModelError(
                "cache_frozen=True does not go with distributed='fsdp', where no process has all weights of the frozen "
                'part: leave it "auto", which trains the network whole, or take distributed="ddp"'
            )
        return replace(super().adapt_plan(plan), cache_frozen=False)

    @contextmanager
    def prepare_module(self, module: nn.Module) -> Iterator[nn.Module]:
        """Give a sharded copy of the module, which gets its weights in the end; in between the module is on the CPU."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self._device.type, (self.n_processes,))
        sharded = deep_copy(module.to("cpu"))  # or the device would hold the whole weights beside the shard
        for layer in _large_layers(sharded):  # first those inside: what is left goes to the outer call
            fully_shard(layer, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        yield sharded
        module.load_state_dict({name: _full_tensor(value) for name, value in sharded.state_dict().items()})
        module.to(self._device).eval()

    def accumulation_windows(self, batches: Iterator[TrainingBatch], size: int) -> Iterator[list[TrainingBatch]]:
        for window in super().accumulation_windows(batches, size):
            # forward gathers weights from all processes, so that all must take as many pieces
            yield window + [zero_weight_batch(window[0])] * (size - len(window))

    def wrap(self, module: nn.Module, loss: Loss) -> None:
        self._module, self._training_loss = module, loss
        self._warn_of_own_statistics(module)

    @contextmanager
    def no_sync_unless_last(self, *, is_last: bool) -> Iterator[None]:
        # gradients of the pieces before the last add up unsharded, without a reduce-scatter each
        self._module.set_requires_gradient_sync(is_last)  # type: ignore[operator]
        yield

    def loss(self, inputs: Inputs, targets: Tensor) -> Tensor:
        self._in_collective = True
        loss = self._training_loss(self._module, inputs, targets)
        self._in_collective = False
        return loss

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        self._all_reduce_or_raise()  # in each piece, not the last alone: backward gathers weights from all
        self._in_collective = True
        (loss * self.n_processes).backward()
        self._in_collective = False


def sharding_mistakes(given: Mapping[str, Any]) -> list[str]:
    """List which parameters of a Repurposer do not go with sharded weights."""
    return [
        f"{name}={given[name]!r} does not go with distributed='fsdp'; leave it out, or take 'ddp'"
        for name in ("ema", "unfreeze", "probe_epochs", "checkpoint_dir")
        if given.get(name)
    ]


def _large_layers(module: nn.Module) -> list[nn.Module]:
    """Find layers that have many elements themselves, in parameters that no other layer shares."""
    owners = Counter(id(own) for part in module.modules() for own in part._parameters.values() if own is not None)
    found = []
    for part in module.modules():
        own = [parameter for parameter in part._parameters.values() if parameter is not None]
        is_leaf = part is not module and not any(True for _ in part.children())
        n_elements = sum(parameter.numel() for parameter in own)
        # a tied weight belongs to the outermost module: two layers that shard it would each have a part of their own
        if is_leaf and n_elements >= _LARGE and all(owners[id(parameter)] == 1 for parameter in own):
            found.append(part)
    return found


def _full_tensor(value: object) -> object:
    """Gather the whole tensor of a shard (`all_gather`); any other value stays."""
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value
