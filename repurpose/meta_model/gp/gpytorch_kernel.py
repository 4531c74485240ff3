"""Kernels of gpytorch can stand in for ours: the solve is the same, and its evidence learns their parameters.

The evidence gives its derivative by each entry of the kernel matrix; automatic differentiation takes it from there to
the kernel's own parameters, under the constraints and priors that they were given.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Dict, Table, Text

if TYPE_CHECKING:
    from gpytorch.kernels import Kernel

__all__ = ["GpytorchKernel", "KernelState", "kernel_mistakes"]

_N_WITNESSES = 8
# Of the largest value. One processor gives the same bits; another adds float64 numbers in another order, which squared
# distances, in lengthscales of a thousandth, make some 1e-10.
# of the largest value: other machines add up in another order
_ROUNDING = 1e-8


@storable
@dataclass(frozen=True, eq=False)
class KernelState:
    """The learned tensors of a kernel, and values by which it is recognised: all that a file holds of it.

    Attributes
    ----------
    tensors : dict of str to Tensor
        The tensors by name, as in its `state_dict`; kernels of different kinds may have the same names.
    rows : float64 tensor of shape (n_witnesses, n_features)
        Some rows, all layers side by side.
    values : float64 tensor of shape (n_witnesses, n_witnesses)
        The kernel between them.
    """

    tensors: dict[str, Tensor]
    rows: Tensor
    values: Tensor

    _schema: ClassVar[Table] = {
        "tensors": Dict(Text()),  # the kernel given at loading says which
        "rows": Array("n_witnesses", "n_features", tensor=True),
        "values": Array("n_witnesses", "n_witnesses", tensor=True),
    }

    def given_to(self, module: "Kernel | None") -> "GpytorchKernel":
        """Return a copy of `module` with these numbers. Raises ValueError where it is another kind of kernel."""
        if module is None or kernel_mistakes(module):
            raise ValueError(f"kernel is not the one of training: it is {module!r}")
        kernel = GpytorchKernel.of(module)
        try:
            kernel.module.load_state_dict(self.tensors)
            found = kernel.between([self.rows], [self.rows])
            same = torch.allclose(found, self.values, rtol=0, atol=_ROUNDING * float(self.values.abs().max()))
        except (RuntimeError, IndexError) as error:
            raise ValueError(f"kernel is not the one of training: {error}") from error
        if not same:
            raise ValueError(f"kernel is not the one of training: with what was learned, it has other values; {module}")
        return kernel


@dataclass(frozen=True, eq=False)
class GpytorchKernel:
    """A kernel on the rows of all layers side by side, in float64."""

    module: "Kernel"

    @classmethod
    def of(cls, module: "Kernel") -> "GpytorchKernel":
        """Wrap a copy of `module`, which stays as it is."""
        # in float32 the Cholesky factorisation of nearly equal rows may fail
        return cls(deepcopy(module).to("cpu", torch.float64))

    def state(self, rows: Sequence[Tensor]) -> KernelState:
        """Return the learned state; some of the `rows`, given layer by layer, serve to recognise the kernel."""
        chosen = torch.linspace(0, len(rows[0]) - 1, min(len(rows[0]), _N_WITNESSES), dtype=torch.float32).long()
        witnesses = torch.cat([layer[chosen] for layer in rows], dim=1)
        tensors = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        return KernelState(tensors, witnesses, self.between([witnesses], [witnesses]))

    def matrix(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the kernel matrix (n, n) of rows given layer by layer, with its derivatives by `learned`.

        Raises ValueError where the kernel cannot be computed on them.
        """
        beside = torch.cat(list(rows), dim=1)
        try:
            matrix = self.module(beside, beside).to_dense()
        except (RuntimeError, IndexError) as error:
            widths = " + ".join(str(layer.shape[1]) for layer in rows)
            raise ValueError(
                f"kernel cannot be computed on rows of {widths} features, which ard_num_dims and active_dims must fit: "
                f"{error}; {self.module}"
            ) from error
        if matrix.shape != (len(beside), len(beside)):
            raise ValueError(f"kernel must give one number for two rows; for {len(beside)} rows: {tuple(matrix.shape)}")
        return matrix

    @torch.no_grad()
    def between(self, rows: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Return the kernel matrix (n_rows, n_others) of rows given layer by layer."""
        return self.module(torch.cat(list(rows), dim=1), torch.cat(list(others), dim=1)).to_dense()

    @torch.no_grad()
    def diagonal(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the kernel of each row with itself: (n,)."""
        return self.module(torch.cat(list(rows), dim=1), diag=True)

    @property
    def learned(self) -> list[nn.Parameter]:
        """The parameters that may be learned."""
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def log_prior(self) -> Tensor:
        """Return the log density, summed over the priors that were registered on the kernel and its parts."""
        densities = (prior.log_prob(value(part)).sum() for _, part, prior, value, _ in self.module.named_priors())
        return sum(densities, torch.zeros((), dtype=torch.float64))


def kernel_mistakes(kernel: Any) -> list[str]:
    """List what is wrong with the parameter, a sentence each."""
    if kernel is None:
        return []
    from gpytorch.kernels import Kernel

    if not isinstance(kernel, Kernel):
        return [f"kernel must be a kernel of gpytorch, such as ScaleKernel(MaternKernel()), or None, got {kernel!r}"]
    if kernel.batch_shape:
        return [f"kernel must have no batch shape, since all classes share it, got {tuple(kernel.batch_shape)}"]
    return []
