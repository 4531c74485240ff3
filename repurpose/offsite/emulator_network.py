"""The emulator network of a package: built from data, or of a network that is given, and filled with its weights."""

from typing import Any

from torch import nn

from model_handler.errors import CorruptFileError, UnsafeFileError, with_fix
from model_handler.network.copying import deep_copy
from repurpose.offsite.architecture import build, fill
from repurpose.offsite.package import PackageContents
from repurpose.offsite.thinning import thin

__all__ = ["emulator_network"]


def emulator_network(contents: PackageContents, what: str, given: nn.Module | None = None) -> nn.Module:
    """Build the network of a package, in evaluation mode; `what` names the file, `given` stays as it is.

    Raises ValueError where `given` is missing, needless or of another architecture, CorruptFileError and
    UnsafeFileError for a package that no network fits.
    """
    is_given = contents.architecture.said.get("kind") == "given"
    if is_given and given is None:
        raise with_fix(
            ValueError,
            f'{what} holds weights alone (it was exported with architecture="given")',
            python="give the network that they are of, with any weights, by source_model=",
            shell="name the network that they are of by --source",
            between=": ",
        )
    if given is not None and not is_given:
        raise ValueError(f"source_model is needless: {what} has its network with it")
    try:
        network = _built(contents, given)
        _check_blocks(network, contents)
        state = {name: value.clone() for name, value in contents.state.items()}
        return fill(network, state).eval()
    except (CorruptFileError, UnsafeFileError) as error:
        raise type(error)(f"{what} is damaged: {error}") from error
    except Exception as error:  # what fails, and how, is up to the file
        if given is not None:
            raise ValueError(
                f"source_model is not of the architecture that {what} was exported from: {error}"
            ) from error
        raise CorruptFileError(f"{what} is damaged: {error}") from error


def _built(contents: PackageContents, given: nn.Module | None) -> nn.Module:
    """Build the network, its classifier as wide as the owner's, or nothing in its place where the owner keeps it."""
    said, path = contents.architecture.said, contents.classifier
    if given is not None:
        given = deep_copy(given).to("cpu")  # where the weights of a file are, and buffers that no file has with them
        thin(given, contents.dropped)
        if path is not None:
            _widen(given, path, said)
    network = build(said, contents.architecture.constants, given)
    if path is not None:
        found = network.get_submodule(path)
        if not isinstance(found, nn.Linear) or found.in_features != contents.n_inputs_of_head:
            raise CorruptFileError(f"{path[:60]!r} is no linear layer of {contents.n_inputs_of_head} inputs")
        if contents.class_names is None:
            network.set_submodule(path, nn.Identity())
    return network


def _widen(given: nn.Module, path: str, said: dict[str, Any]) -> None:
    """Give a network, in place, a classifier of the owner's width: it may be one of other classes."""
    found, shape = given.get_submodule(path), said["shapes"][f"{path}.weight"]
    if isinstance(found, nn.Linear) and shape != [found.out_features, found.in_features]:
        has_bias = f"{path}.bias" in said["shapes"]
        given.set_submodule(path, nn.Linear(found.in_features, shape[0], bias=has_bias, device="meta"))


def _check_blocks(network: nn.Module, contents: PackageContents) -> None:
    """Raise CorruptFileError for a block that is no part of the network."""
    modules = dict(network.named_modules())
    if strange := [name for name in (*contents.first, *contents.emulator, *contents.last) if name not in modules]:
        raise CorruptFileError(f"it has no block {strange[0][:60]!r}")
