"""Kernels of gpytorch in place of ours: the same shared solve, and their numbers learned by its evidence.

The evidence gives its derivative by each entry of the kernel matrix; automatic differentiation takes it from there to
the kernel's own parameters, under the constraints and priors that they were given.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from repurpose.persistence.parts import storable

if TYPE_CHECKING:
    from gpytorch.kernels import Kernel

__all__ = ["GpytorchKernel", "KernelState", "kernel_mistakes"]


@storable
@dataclass(frozen=True, eq=False)
class KernelState:
    """What a kernel learned, by name: all that a file holds of it."""

    tensors: dict[str, Tensor]

    def given_to(self, module: "Kernel") -> "GpytorchKernel":
        """A copy of `module` with these numbers. Raises ValueError where it is another kind of kernel."""
        kernel = GpytorchKernel.of(module)
        try:
            kernel.module.load_state_dict(self.tensors)
        except RuntimeError as error:
            raise ValueError(f"kernel is not the one of training: {error}") from error
        return kernel


@dataclass(frozen=True, eq=False)
class GpytorchKernel:
    """A kernel on the rows of all layers side by side, in float64."""

    module: "Kernel"

    @classmethod
    def of(cls, module: "Kernel") -> "GpytorchKernel":
        """With a copy of `module`, which stays as it is."""
        return cls(deepcopy(module).to("cpu", torch.float64))

    @property
    def state(self) -> KernelState:
        return KernelState({name: value.detach().clone() for name, value in self.module.state_dict().items()})

    def matrix(self, rows: Sequence[Tensor]) -> Tensor:
        """The kernel matrix (n, n) of rows given layer by layer, with its derivatives by `learned`."""
        beside = torch.cat(list(rows), dim=1)
        matrix = self.module(beside, beside).to_dense()
        if matrix.shape != (len(beside), len(beside)):
            raise ValueError(f"kernel must give one number for two rows; for {len(beside)} rows: {tuple(matrix.shape)}")
        return matrix

    @torch.no_grad()
    def between(self, rows: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """The kernel matrix (n_rows, n_others) of rows given layer by layer."""
        return self.module(torch.cat(list(rows), dim=1), torch.cat(list(others), dim=1)).to_dense()

    @torch.no_grad()
    def diagonal(self, rows: Sequence[Tensor]) -> Tensor:
        """The kernel of each row with itself: (n,)."""
        return self.module(torch.cat(list(rows), dim=1), diag=True)

    @property
    def learned(self) -> list[nn.Parameter]:
        """The parameters that may be learned."""
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def log_prior(self) -> Tensor:
        """Summed over the priors that were registered on the kernel and its parts."""
        densities = (prior.log_prob(value(part)).sum() for _, part, prior, value, _ in self.module.named_priors())
        return sum(densities, torch.zeros((), dtype=torch.float64))


def kernel_mistakes(kernel: Any) -> list[str]:
    """What is wrong with the parameter, a sentence each."""
    if kernel is None:
        return []
    from gpytorch.kernels import Kernel

    if not isinstance(kernel, Kernel):
        return [f"kernel must be a kernel of gpytorch, such as ScaleKernel(MaternKernel()), or None, got {kernel!r}"]
    if kernel.batch_shape:
        return [f"kernel must have no batch shape, since all classes share it, got {tuple(kernel.batch_shape)}"]
    return []
