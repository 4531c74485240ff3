"""Packing: an emulator network becomes what a package holds, once what that makes again is found to be the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from model_handler import ModelError
from model_handler.errors import first_few
from model_handler.network.outputs import tensors_in
from model_handler.network.states import copied_state
from repurpose.data.inputs import Inputs
from repurpose.neural_network.architecture import as_spec
from repurpose.offsite.architecture import describe
from repurpose.offsite.emulator_network import emulator_network
from repurpose.offsite.package import PackageContents
from repurpose.offsite.split import Split
from repurpose.persistence.network.preprocessing import describe_transform
from repurpose.training.steps.forward import call, on_device

__all__ = ["Head", "packed", "without_head"]


@dataclass(frozen=True)
class Head:
    """The head of the owner's network: its path, None where it has none, its inputs, and the class of each output."""

    path: str | None
    n_inputs: int
    class_names: tuple[str | int, ...] | None

    def moved(self, renames: Mapping[str, str]) -> "Head":
        """Return it as it is in the emulator network."""
        return self if self.path is None else replace(self, path=renames[self.path])


def packed(
    emulator: nn.Module,
    network: nn.Module,
    split: Split,
    renames: Mapping[str, str],
    head: Head,
    *,
    example_inputs: Inputs,
    transform: Callable | None,
    is_given: bool,
    is_distilled: bool,
) -> PackageContents:
    """Pack an emulator network, on the CPU, that was thinned out of `network`; `renames` is what `thin` returned.

    Raises ModelError where what is made again of the description and the weights gives other numbers.
    """
    if not_tensors := [name for name, value in emulator.state_dict().items() if not isinstance(value, Tensor)]:
        raise ModelError(f"{first_few(not_tensors)} are no tensors and cannot be sent")

    def there(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(renames[name] for name in names)

    contents = PackageContents(
        architecture=describe(emulator, example_inputs, given=is_given),
        state=copied_state(emulator),
        first=there(split.first),
        emulator=there(split.kept),
        last=there(split.last),
        dropped=split.dropped if is_given else (),
        classifier=head.moved(renames).path,
        n_inputs_of_head=head.n_inputs,
        class_names=head.class_names,
        example_inputs=as_spec(example_inputs),
        preprocessing=describe_transform(transform),
        is_distilled=is_distilled,
    )
    _refuse_others(contents, emulator, network if is_given else None, example_inputs)
    return contents


def without_head(contents: PackageContents) -> PackageContents:
    """Leave out the owner's head and its classes."""
    inside = f"{contents.classifier}."
    state = {name: value for name, value in contents.state.items() if not name.startswith(inside)}
    return replace(contents, state=state, class_names=None)


def _refuse_others(
    contents: PackageContents, emulator: nn.Module, given: nn.Module | None, example_inputs: Inputs
) -> None:
    """Raise ModelError unless the data owner will get the network that was packed, bit for bit."""
    fix = "architecture='given' sends weights alone, to a data owner who has the network's code"
    try:
        again = emulator_network(contents, "what was packed", given)
    except ValueError as error:
        raise ModelError(f"the emulator is not to be made again of its description: {error}. {fix}") from error
    first = next(emulator.parameters())
    inputs = on_device(example_inputs, first.device, first.dtype)
    with torch.no_grad():
        wanted, got = (tensors_in(call(network, inputs)) for network in (emulator, again))
    if len(wanted) != len(got) or not all(torch.equal(*pair) for pair in zip(wanted, got)):
        raise ModelError(
            "the network that the package describes gives other numbers than the emulator on the example inputs, so "
            f"nothing was written: what its layers do is not all in their settings. {fix}"
        )
