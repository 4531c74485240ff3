"""The split of a network's chain of blocks into the adapter, first and last blocks, and the middle that is thinned.

Xiao, Lin and Han (2023), arXiv:2302.04870.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from torch import Tensor, nn

from model_handler import Block, ModelError
from model_handler.errors import first_few
from repurpose.data.inputs import Inputs
from repurpose.parameters import is_whole

__all__ = ["Split", "is_text", "refuse_shared_weights", "split_blocks"]

_LOG = logging.getLogger(__name__)
_OF_TEXT, _OF_VISION = 2, 4  # blocks at each end that are the adapter by default


@dataclass(frozen=True)
class Split:
    """The names of a network's blocks: `first` and `last` are the adapter, `kept` is the emulator out of the `middle`.

    >>> from repurpose.offsite.split import Split
    >>> Split(("0",), ("1", "2", "3"), ("2",), ("4",)).dropped
    ('1', '3')
    """

    first: tuple[str, ...]
    middle: tuple[str, ...]
    kept: tuple[str, ...]
    last: tuple[str, ...]

    @property
    def adapter(self) -> tuple[str, ...]:
        """The blocks that the data owner tunes."""
        return self.first + self.last

    @property
    def dropped(self) -> tuple[str, ...]:
        """The blocks of the middle that are not sent."""
        return tuple(name for name in self.middle if name not in self.kept)


def split_blocks(
    blocks: Sequence[Block],
    adapter: tuple[int, int] | None = None,
    emulator: int | float = 0.5,
    *,
    of_text: bool = False,
) -> Split:
    """Split a chain of blocks, in order, into `adapter[0]` first ones, the middle and `adapter[1]` last ones.

    Of the n blocks of the middle, m are the emulator: `emulator` is m itself, an int, or a share of n, a float in
    (0, 1] that is rounded to at least 1. They are the blocks round(i (n - 1) / (m - 1)), and the one in the middle
    where m is 1. A block that changes the width or the resolution of what it reads is always kept and counts among the
    m; the rule then chooses among the others. `adapter` is by default (2, 2) of a text network and (4, 4) of others; in
    a chain too short for that, the largest equal one with two blocks in the middle.

    Raises ValueError for an adapter that leaves no middle, for an emulator of no block, of more than the middle has or
    of fewer than have to be kept, and ModelError for a chain in which one module stands several times.

    >>> from model_handler import Block
    >>> from repurpose.offsite.split import split_blocks
    >>> split_blocks([Block(f"blocks.{i}", 16, 1, 0) for i in range(7)], (1, 1), 3)
    Split(first=('blocks.0',), middle=('blocks.1', ...), kept=('blocks.1', 'blocks.3', 'blocks.5'), last=('blocks.6',))
    """
    _refuse_shared(blocks)
    n_first, n_last = _default_adapter(len(blocks), of_text) if adapter is None else _checked_adapter(adapter, blocks)
    end = len(blocks) - n_last
    middle, before = blocks[n_first:end], blocks[n_first - 1 : end - 1]
    fixed = [number for number, pair in enumerate(zip(middle, before)) if _changes_shape(*pair)]
    n_kept = _size_of_emulator(emulator, [block.name for block in middle], [middle[number].name for number in fixed])
    free = [number for number in range(len(middle)) if number not in fixed]
    chosen = {*fixed, *(free[number] for number in _evenly(len(free), n_kept - len(fixed)))}

    def names(part: Sequence[Block]) -> tuple[str, ...]:
        return tuple(block.name for block in part)

    kept = [block for number, block in enumerate(middle) if number in chosen]
    return Split(names(blocks[:n_first]), names(middle), names(kept), names(blocks[end:]))


def is_text(example_inputs: Inputs) -> bool:
    """Tell whether inputs of a network are tokens: whole numbers, none of them a map with channels."""
    parts = list(example_inputs.values()) if isinstance(example_inputs, Mapping) else example_inputs
    tensors = [parts] if isinstance(parts, Tensor) else list(parts)
    return all(tensor.ndim < 4 for tensor in tensors) and not any(tensor.is_floating_point() for tensor in tensors[:1])


def refuse_shared_weights(network: nn.Module, split: Split) -> None:
    """Raise ModelError where a weight of the adapter is that of another layer too, which tuning would change."""
    names: dict[int, list[str]] = {}
    for name, weight in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)
    inside = tuple(f"{block}." for block in split.adapter)
    for several in names.values():
        if any(name.startswith(inside) for name in several) and not all(name.startswith(inside) for name in several):
            raise ModelError(
                f"{' and '.join(several[:3])} are one weight: an adapter that is tuned has none of other layers"
            )


def _refuse_shared(blocks: Sequence[Block]) -> None:
    if shared := sorted({block.name.partition("@")[0] for block in blocks if "@" in block.name}):
        raise ModelError(
            f"{first_few(shared)} runs several times, as a block of its own each time (as in ALBERT): what is tuned at "
            "the ends would be the middle too, so this network has no adapter and no emulator"
        )


def _default_adapter(n_blocks: int, of_text: bool) -> tuple[int, int]:
    wanted = _OF_TEXT if of_text else _OF_VISION
    size = min(wanted, (n_blocks - 2) // 2)
    if size < 1:
        raise ValueError(
            f"the network has {n_blocks} blocks, and an adapter of one block at each end needs at least 4, two of them "
            "in the middle; say how it is to be split, adapter=(1, 1)"
        )
    if size < wanted:
        _LOG.info(
            "adapter=(%d, %d) in place of (%d, %d): of %d blocks two are to be in the middle",
            *(size, size, wanted, wanted, n_blocks),
        )
    return size, size


def _checked_adapter(adapter: object, blocks: Sequence[Block]) -> tuple[int, int]:
    if not isinstance(adapter, (tuple, list)) or len(adapter) != 2 or not all(is_whole(size, 1) for size in adapter):
        raise ValueError(
            "adapter must be two whole numbers of at least 1, of blocks at the beginning and at the end, or None, got "
            f"{adapter!r}"
        )
    n_first, n_last = map(int, adapter)
    if n_first + n_last >= len(blocks):
        most = max((len(blocks) - 1) // 2, 1)
        raise ValueError(
            f"adapter={tuple(adapter)} takes {n_first + n_last} blocks, and the network has {len(blocks)}, of which at "
            f"least one is to be in the middle: give at most {len(blocks) - 1} in all, such as ({most}, {most})"
        )
    return n_first, n_last


def _changes_shape(block: Block, before: Block) -> bool:
    """Tell whether a block gives another width or resolution than it reads, so that nothing runs without it.

    Where the resolution changes and the block has no stride, something between the two changed it, and the width.
    """
    return block.stride > 1 or (block.width != before.width and block.stage == before.stage)


def _size_of_emulator(emulator: int | float, middle: Sequence[str], fixed: Sequence[str]) -> int:
    is_count = is_whole(emulator, 1)
    is_number = isinstance(emulator, Real) and not isinstance(emulator, (bool, Integral))
    if not (is_count and emulator <= len(middle)) and not (is_number and 0 < emulator <= 1):
        raise ValueError(
            f"emulator must be a number of blocks from 1 to {len(middle)}, which the middle has, or a share of them, a "
            f"float above 0 and up to 1, got {emulator!r}"
        )
    if is_count and emulator < len(fixed):
        raise ValueError(
            f"emulator={emulator} is too small: {first_few(fixed)} change the width or the resolution and are always "
            f"kept; give at least {len(fixed)}"
        )
    wanted = int(emulator) if is_count else max(round(float(emulator) * len(middle)), 1)
    if wanted < len(fixed):
        _LOG.info(
            "the emulator has %d blocks in place of %d: %s change the width or the resolution and are always kept",
            *(len(fixed), wanted, first_few(fixed)),
        )
    return max(wanted, len(fixed))


def _evenly(n: int, m: int) -> list[int]:
    """Choose m of n numbers from 0, from end to end."""
    if m < 2:
        return [(n - 1) // 2] * m
    return [round(i * (n - 1) / (m - 1)) for i in range(m)]
