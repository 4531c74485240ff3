"""Records: what is found of a network's blocks and of the attention inside them."""

from dataclasses import dataclass

__all__ = ["Attention", "Block", "Projection"]


@dataclass(frozen=True)
class Block:
    """One block of the chain: a module that adds to its input what it computes of it, or stands among such modules.

    `name` is the path of the module, with "@1" behind it for its second call; `width` is the number of channels of its
    output; `stride` is by how much it reduces the resolution of its own input (1, 2 or 4); `stage` counts, from 0, the
    changes of resolution before the end of the block, those between two blocks too: it is 0 all through a transformer.

    >>> from model_handler import Block
    >>> Block("layer2.0", width=128, stride=2, stage=1)
    Block(name='layer2.0', width=128, stride=2, stage=1)
    """

    name: str
    width: int
    stride: int
    stage: int


@dataclass(frozen=True)
class Projection:
    """The part of a weight that makes queries, keys, values or outputs.

    `module` is the path of the module that holds the weight, and `weight` the name of the weight in it: "weight", or
    "in_proj_weight", "q_proj_weight", ... of an `nn.MultiheadAttention`. Of the weight's output axis (the first one; of
    GPT-2's transposed `Conv1D` the last) the rows from `start` up to `stop` belong to it, all of them where it is not
    fused with others.

    >>> from model_handler import Projection
    >>> Projection("blocks.0.attn.qkv", 64, 128)
    Projection(module='blocks.0.attn.qkv', start=64, stop=128, weight='weight')
    """

    module: str
    start: int
    stop: int
    weight: str = "weight"


@dataclass(frozen=True)
class Attention:
    """The projections of a block's attention, each None where no weight makes it, and its number of heads if known.

    >>> from model_handler import Attention, Projection
    >>> query, key, value = (Projection("attn.qkv", start, start + 64) for start in (0, 64, 128))
    >>> Attention(query, key, value, Projection("attn.proj", 0, 64), n_heads=4).value.start
    128
    """

    query: Projection | None
    key: Projection | None
    value: Projection | None
    output: Projection | None
    n_heads: int | None = None
