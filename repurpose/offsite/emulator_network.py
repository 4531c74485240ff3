"""The emulator network of a package: built from data, or of a network that is given, and filled with its weights."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from model_handler.errors import CorruptFileError
from model_handler.network.copying import deep_copy
from repurpose.offsite.architecture import build
from repurpose.offsite.package import PackageContents
from repurpose.persistence.network.fingerprint import table_differences
from repurpose.persistence.network.kept import ties_of

__all__ = ["emulator_network", "linear_layer"]


def emulator_network(contents: PackageContents, what: str, given: nn.Module | None = None) -> nn.Module:
    """Build the network of a package, in evaluation mode; `what` names the file, `given` stays as it is.

    Raises ValueError where `given` is missing, needless or of another architecture, CorruptFileError for a package that
    no network fits.
    """
    needs_it = contents.architecture.said.get("kind") == "given"
    if needs_it and given is None:
        raise ValueError(
            f'{what} holds weights alone (it was exported with architecture="given"): give the network that they are '
            "of, with any weights, as source_model"
        )
    if given is not None and not needs_it:
        raise ValueError(f"source_model is needless: {what} has its network with it")
    try:
        network = _filled(_built(contents, given), contents)
    except CorruptFileError:
        raise
    except Exception as error:  # what fails, and how, is up to the file
        if needs_it:
            raise ValueError(f"source_model is not of the network that {what} was exported from: {error}") from error
        raise CorruptFileError(f"{what} is damaged: {error}") from error
    return network.eval()


def linear_layer(n_inputs: int, n_outputs: int, like: nn.Module, *, bias: bool = True) -> nn.Linear:
    """Make a linear layer of the dtype and on the device of a network."""
    weight = next((value for value in like.parameters() if value.is_floating_point()), None)
    if weight is None:
        return nn.Linear(n_inputs, n_outputs, bias=bias)
    return nn.Linear(n_inputs, n_outputs, bias=bias, dtype=weight.dtype, device=weight.device)


def _built(contents: PackageContents, given: nn.Module | None) -> nn.Module:
    if given is not None:
        from repurpose.offsite.thinning import thin

        given = deep_copy(given)
        thin(given, contents.dropped)
    return build(contents.architecture.said, contents.architecture.constants, given)


def _filled(network: nn.Module, contents: PackageContents) -> nn.Module:
    """Set head and state of a network, in place. Raises ValueError, saying what differs, where they do not fit it."""
    modules = dict(network.named_modules())
    if strange := [name for name in (*contents.first, *contents.emulator, *contents.last) if name not in modules]:
        raise ValueError(f"there is no block {strange[0][:60]!r}")
    if contents.classifier is not None:
        _set_classifier(network, contents.classifier, contents)
    ties = ties_of(network)
    if differ := table_differences(_shapes(contents.state), _shapes(network.state_dict())):
        raise ValueError("; ".join(differ))
    network.load_state_dict({name: value.clone() for name, value in contents.state.items()}, assign=True)
    for name, first in ties.items():
        _tie(network, name, first)
    tensors = [*network.named_parameters(), *network.named_buffers()]
    if empty := [name for name, tensor in tensors if tensor.is_meta]:
        raise ValueError(f"it has no numbers for {empty[0][:60]!r}")
    return network


def _set_classifier(network: nn.Module, path: str, contents: PackageContents) -> None:
    """Put a linear layer of the owner's classes where the classifier is, or nothing where the owner keeps it."""
    found = network.get_submodule(path)
    if not isinstance(found, nn.Linear) or found.in_features != contents.n_inputs_of_head:
        raise ValueError(f"{path[:60]!r} is no linear layer of {contents.n_inputs_of_head} inputs")
    if contents.class_names is None:
        network.set_submodule(path, nn.Identity())
    elif found.out_features != len(contents.class_names):
        has_bias = f"{path}.bias" in contents.state
        linear = nn.Linear(found.in_features, len(contents.class_names), bias=has_bias, device="meta")
        network.set_submodule(path, linear)


def _tie(network: nn.Module, name: str, first: str) -> None:
    """Give a tensor that has two names one value again, in place."""
    owner, _, own = name.rpartition(".")
    other, _, its = first.rpartition(".")
    module, source = network.get_submodule(owner), network.get_submodule(other)
    held: dict[str, Any] = module._parameters if own in module._parameters else module._buffers
    held[own] = getattr(source, its)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, list]:
    return {name: ["", list(value.shape) if isinstance(value, Tensor) else []] for name, value in state.items()}
