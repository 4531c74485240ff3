"""Finding: the methods of `ModelHandler` that tell the blocks of a network and the attention inside one."""

from model_handler.blocks.records import Attention, Block
from model_handler.surgery.edit_history import EditHistory

__all__ = ["BlocksMixin"]


class BlocksMixin(EditHistory):
    """The chain of blocks of a network, as the edits so far have left it."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The chain of repeated residual blocks, in order of execution.

        Raises NoBlocksError, which says what was looked for, where the network has no such chain, and ModelError where
        it has no example inputs to be followed with.
        """
        raise NotImplementedError

    def attention(self, block: Block | str) -> Attention:
        """Return the query, key, value and output projections of the attention inside a block.

        `block` is one of `blocks`, or the name of one. Raises UnknownLayerError for what is none of them, and
        ModelError where there is no attention in it.
        """
        raise NotImplementedError
