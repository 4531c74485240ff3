"""The fast path to the same features is taken while it is worth its cost and agrees with the plain one.

The plain way runs the graph that users see; the fast path has leaves opened (`inlining`) and BatchNorm folded
(`batchnorm_fusion`). They are compared on the first rows, and again whenever a folded scale or shift has changed.
"""

import logging

import torch
from torch import Tensor

from model_handler.extraction.batchnorm_fusion import BatchNormFusion
from model_handler.extraction.programs import Pass, TracedProgram
from model_handler.network.inputs import NamedInputs, first_rows, own_inputs

__all__ = ["FastPath"]

_LOG = logging.getLogger(__name__)

# Folding a weight costs as much as folding saves on so many input numbers, measured on ResNets and MobileNet.
_WEIGHTS_PER_ELEMENT = 10


class FastPath:
    """Computes the rows of some layers by `fast`, where there is one and it agrees with `plain`.

    `tolerance` is the difference allowed, as a share of the largest value of a layer.
    """

    def __init__(self, plain: Pass, fast: TracedProgram | None, fusion: BatchNormFusion, *, tolerance: float) -> None:
        self._plain = plain
        self._fast = fast
        self._fusion = fusion
        self._tolerance = tolerance
        self._n_weights = sum(fold.n_weights for fold in fast.folds) if fast else 0
        self._judged_at = -1
        self._agrees = False

    def run(self, inputs: NamedInputs, mask: Tensor | None, n_elements: float) -> list[Tensor]:
        """Return the rows of every layer; `n_elements` is how many an extraction puts in, all its runs together."""
        if self._fast is None or n_elements * _WEIGHTS_PER_ELEMENT < self._n_weights:
            return self._plain.run(inputs, mask)
        self._fusion.refresh(self._fast.folds)
        if self._judged_at != self._fusion.revision:
            self._judge(self._fast, inputs)
        return (self._fast if self._agrees else self._plain).run(inputs, mask)

    def _judge(self, fast: TracedProgram, inputs: NamedInputs) -> None:
        few = first_rows(inputs)
        mask = few.get("attention_mask")
        self._agrees = False
        try:
            wanted = self._plain.run(own_inputs(few), mask)
        except Exception:  # a network for more rows, or data that it cannot run on, which the plain way explains
            return
        self._judged_at = self._fusion.revision
        try:
            got = fast.run(own_inputs(few), mask)
        except Exception as error:
            _LOG.info("features are computed unfolded: %s", error)
            return
        largest = max(_difference(value, reference) for value, reference in zip(got, wanted, strict=True))
        self._agrees = largest <= self._tolerance
        if not self._agrees:
            _LOG.info("features are computed unfolded: folded they differ by %.1e of the largest value", largest)


def _difference(value: Tensor, reference: Tensor) -> float:
    """Return the largest difference, as a share of the largest value; infinite where other places are not finite."""
    if value.shape != reference.shape:
        return float("inf")
    if torch.equal(value, reference):
        return 0.0
    finite = reference.isfinite()
    if not torch.equal(finite, value.isfinite()):
        return float("inf")
    largest = reference.where(finite, 0).abs().max()
    return float((value - reference).where(finite, 0).abs().max() / largest)
