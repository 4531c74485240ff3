"""Audit: what a package gives away of the network that it was made of, and how well its emulator does by itself."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from model_handler import ModelHandler, Source
from model_handler.data import as_batches
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.network.copying import deep_copy
from model_handler.network.states import state_of
from repurpose.data.labelled_data import needed_labels, with_labels
from repurpose.data.labels import label_array, label_codes
from repurpose.data.row_shapes import check_row_shapes, shapes_of_spec
from repurpose.neural_network.architecture import like_spec
from repurpose.offsite.owner import OffsiteOwner
from repurpose.offsite.package import OffsitePackage, PackageContents
from repurpose.offsite.plugging import adapter_pairs
from repurpose.offsite.preprocessing import rebuilt_transform
from repurpose.offsite.split import split_blocks
from repurpose.offsite.thinning import new_name, thin
from repurpose.source import check_source, open_source
from repurpose.training.validation import logits_in_batches

__all__ = ["Audit", "EmulatorBlock", "audit"]


@dataclass(frozen=True)
class EmulatorBlock:
    """A block of the emulator beside the block of the owner's middle, `of`, that it was made of.

    `cosine` is that of the angle between all their weights, `distance` the norm of the difference over the norm of the
    owner's; 1 and 0 of a block that was sent as it is.
    """

    name: str
    of: str
    cosine: float
    distance: float


@dataclass(frozen=True, eq=False)
class Audit:
    """What a package gives away; `print` it, or let a notebook show it.

    Attributes
    ----------
    n_parameters : int
        How many numbers the parameters in the package are.
    same : tuple of str or None
        The tensors in the package, by name, that are the owner's bit for bit; None where the owner is not known.
    share : float or None
        The share of the owner's parameters that those are.
    blocks : tuple of EmulatorBlock or None
        Those that have weights.
    accuracy : float or None
        That of the network with the emulator in it, untuned, on labelled data, if any were given. The paper wants it
        poor: an emulator that does well by itself is a network given away.

    Examples
    --------
    >>> from repurpose.offsite.audit import Audit, EmulatorBlock
    >>> block = EmulatorBlock("blocks.2", of="blocks.3", cosine=0.991, distance=0.13)
    >>> print(Audit(100, ("blocks.0.weight",), 0.25, (block,), None))
    100 parameters are in the package; 1 tensor is the owner's bit for bit, 25.0 % of the network's parameters
    emulator  made of   cosine  relative distance
    blocks.2  blocks.3  0.9910  0.1300
    """

    n_parameters: int
    same: tuple[str, ...] | None
    share: float | None
    blocks: tuple[EmulatorBlock, ...] | None
    accuracy: float | None

    def __str__(self) -> str:
        said = f"{self.n_parameters:,} parameters are in the package"
        if self.same is not None and self.share is not None:
            noun = "1 tensor is" if len(self.same) == 1 else f"{len(self.same):,} tensors are"
            said += f"; {noun} the owner's bit for bit, {self.share:.1%} of the network's parameters".replace("%", " %")
        else:
            said += "; audit(owner=...) says how many of them are the owner's"
        lines = [said]
        if self.blocks:
            rows = [("emulator", "made of", "cosine", "relative distance")]
            rows += [(block.name, block.of, f"{block.cosine:.4f}", f"{block.distance:.4f}") for block in self.blocks]
            widths = [max(map(len, column)) for column in zip(*rows)]
            lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        if self.accuracy is not None:
            lines.append(f"accuracy with the emulator as it is: {self.accuracy:.4f}")
        return "\n".join(lines)

    __repr__ = __str__


def audit(
    package: OffsitePackage,
    data: object = None,
    y: object = None,
    *,
    owner: OffsiteOwner | nn.Module | Source | str | None = None,
    source_model: nn.Module | None = None,
) -> Audit:
    """Say what a package gives away, as `OffsitePackage.audit` tells of its arguments and errors."""
    contents = package.contents
    handler = None if owner is None else _handler_of(owner, contents)
    is_given = contents.architecture.said.get("kind") == "given"
    if source_model is None and is_given and handler is not None:
        source_model = handler.network
    network = package.network(source_model)
    accuracy = None if data is None and y is None else _accuracy(network, contents, with_labels(data, y))
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    if handler is None:
        return Audit(n_parameters, None, None, None, accuracy)
    adapter_pairs(contents, handler)  # or it is another network
    split = split_blocks(handler.blocks, (len(contents.first), len(contents.last)), len(contents.emulator))
    renames = thin(deep_copy(handler.network), split.dropped)
    names = {new_name(name, renames): name for name in state_of(handler.network) if _is_left(name, renames)}
    same = _same(contents.state, state_of(handler.network), names)
    parameters = dict(handler.network.named_parameters())
    n_same = sum(parameters[names[name]].numel() for name in same if names[name] in parameters)
    share = n_same / sum(parameter.numel() for parameter in parameters.values())
    blocks = [
        _compared(sent, of, contents.state, handler.network.get_submodule(of))
        for sent, of in zip(contents.emulator, split.kept)
        if any(True for _ in handler.network.get_submodule(of).parameters())
    ]
    return Audit(n_parameters, same, share, tuple(blocks), accuracy)


def _handler_of(owner: OffsiteOwner | nn.Module | Source | str, contents: PackageContents) -> ModelHandler:
    if isinstance(owner, OffsiteOwner):
        return owner.handler
    check_source(owner)
    return ModelHandler(open_source(owner), like_spec(contents.example_inputs))


def _is_left(name: str, renames: Mapping[str, str]) -> bool:
    path = name.rpartition(".")[0]
    return not path or path in renames


def _same(sent: Mapping[str, Tensor], own: Mapping[str, Tensor], names: Mapping[str, str]) -> tuple[str, ...]:
    """Name the tensors that were sent and are the owner's, bit for bit."""

    def is_equal(value: Tensor, other: object) -> bool:
        return isinstance(other, Tensor) and value.dtype == other.dtype and torch.equal(value.cpu(), other.cpu())

    return tuple(name for name, value in sent.items() if name in names and is_equal(value, own[names[name]]))


def _compared(name: str, of: str, sent: Mapping[str, Tensor], block: nn.Module) -> EmulatorBlock:
    """Compare a block of the emulator with the owner's block that it was made of, in double precision."""
    pairs = [(sent[f"{name}.{own}"], weight) for own, weight in block.named_parameters()]
    theirs, owners = (torch.cat([pair[side].detach().cpu().double().flatten() for pair in pairs]) for side in (0, 1))
    cosine = torch.cosine_similarity(theirs, owners, dim=0).item()
    return EmulatorBlock(name, of, cosine, ((theirs - owners).norm() / owners.norm()).item())


def _accuracy(network: nn.Module, contents: PackageContents, data: object) -> float:
    if contents.class_names is None:
        raise ValueError("the package has no head, so the emulator by itself has no accuracy: leave data out")
    shapes, right, n_rows = shapes_of_spec(contents.example_inputs), 0, 0
    with NETWORK_LOCK, torch.no_grad():
        for batch in as_batches(data, transform=rebuilt_transform(contents.preprocessing)):
            check_row_shapes(batch.inputs, shapes, "the emulator", since="the owner's example_inputs")
            labels = label_array(needed_labels(batch.labels, "the accuracy of an emulator needs labels"))
            codes, _ = label_codes(labels, np.array(contents.class_names))
            predicted = logits_in_batches(network, batch.inputs, "float32").argmax(dim=1).cpu().numpy()
            right, n_rows = right + int((predicted == codes).sum()), n_rows + len(codes)
    return right / n_rows
