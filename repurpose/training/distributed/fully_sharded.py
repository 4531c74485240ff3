"""Sharding: several processes train a network of which each holds a part of all weights, by torch's `fully_shard`.

Gradients and the optimiser's numbers are in parts too. Layers with many weights are put together one at a time while
they compute; the others with the whole network.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.network.copying import deep_copy
from repurpose.training.data.batches import TrainingBatch
from repurpose.training.distributed.data_parallel import Crew
from repurpose.training.distributed.sharded_batches import borrowed
from repurpose.training.distributed.single_process import Loss
from repurpose.training.plan.cache_options import cache_options
from repurpose.training.plan.plan import TrainingPlan

__all__ = ["ShardingCrew", "sharding_mistakes"]

_LARGE = 2**20  # numbers in a layer that is put together by itself


class ShardingCrew(Crew):
    """A crew whose processes hold parts of the weights: what computes must compute in all of them, equally often."""

    holds_whole_weights = False

    def planned(self, plan: TrainingPlan) -> TrainingPlan:
        """The network is trained whole, as no process has all weights of the frozen part. Raises ModelError if not."""
        if cache_options(plan.cache_frozen).when is True:
            raise ModelError(
                "cache_frozen=True does not go with distributed='fsdp', where no process has all weights of the frozen "
                'part: leave it "auto", which trains the network whole, or take distributed="ddp"'
            )
        return replace(super().planned(plan), cache_frozen=False)

    @contextmanager
    def prepared(self, module: nn.Module) -> Iterator[nn.Module]:
        """A copy of the module in parts, whose weights the module has in the end; in between it is on the CPU."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self._device.type, (self.n_processes,))
        parted = deep_copy(module.to("cpu"))
        for layer in _large_layers(parted):
            fully_shard(layer, mesh=mesh)
        fully_shard(parted, mesh=mesh)
        yield parted
        module.load_state_dict({name: _whole(value) for name, value in parted.state_dict().items()})
        module.to(self._device).eval()

    def rounds(self, batches: Iterator[TrainingBatch], size: int) -> Iterator[list[TrainingBatch]]:
        for window in super().rounds(batches, size):
            yield window + [borrowed(window[0])] * (size - len(window))

    def wrap(self, module: nn.Module, loss: Loss) -> None:
        self._module, self._training_loss = module, loss
        self._warn_of_own_statistics(module)

    @contextmanager
    def gathering(self, *, is_last: bool) -> Iterator[None]:
        self._module.set_requires_gradient_sync(is_last)  # type: ignore[operator]
        yield

    def loss(self, inputs: Any, targets: Tensor) -> Tensor:
        self._is_exchanging = True
        loss = self._training_loss(self._module, inputs, targets)
        self._is_exchanging = False
        return loss

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        self._meet()
        self._is_exchanging = True
        (loss * self.n_processes).backward()
        self._is_exchanging = False


def sharding_mistakes(given: Mapping[str, Any]) -> list[str]:
    """What among the parameters of a Repurposer does not go with weights in parts."""
    return [
        f"{name}={given[name]!r} does not go with distributed='fsdp'; leave it out, or take 'ddp'"
        for name in ("ema", "unfreeze", "probe_epochs", "checkpoint_dir")
        if given.get(name)
    ]


def _large_layers(module: nn.Module) -> list[nn.Module]:
    """Layers that hold many numbers themselves, none of which another layer has too."""
    owners = Counter(id(own) for part in module.modules() for own in part._parameters.values() if own is not None)
    found = []
    for part in module.modules():
        own = [parameter for parameter in part._parameters.values() if parameter is not None]
        is_leaf = part is not module and not any(True for _ in part.children())
        if is_leaf and sum(one.numel() for one in own) >= _LARGE and all(owners[id(one)] == 1 for one in own):
            found.append(part)
    return found


def _whole(value: Any) -> Any:
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value
