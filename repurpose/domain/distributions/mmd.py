"""Maximum mean discrepancy of two sets of rows by several Gaussian kernels, to be made small by training.

Gretton, Borgwardt, Rasch, Schölkopf and Smola (2012), A kernel two-sample test, JMLR 13; several kernels after Long,
Cao, Wang and Jordan (2015), Learning transferable features with deep adaptation networks, arXiv:1502.02791. For rows
that no network computes, and so without a gradient, there is `kernels`.
"""

import torch
from torch import Tensor

from repurpose.domain.distributions.differentiable import differentiable

__all__ = ["linear_time_mmd", "unbiased_mmd"]


@differentiable
def unbiased_mmd(source: Tensor, target: Tensor, n_kernels: int = 5) -> Tensor:
    """Return MMD^2 of rows (n_source, width) and (n_target, width), 0 on average where both are distributed alike.

    It is the mean of k over pairs of different source rows, plus that over pairs of different target rows, minus twice
    that over pairs of both (Gretton et al., lemma 6), and so may be below 0. k(x, z) is the mean of exp(-|x - z|^2 / g)
    over `n_kernels` widths g: the median of all squared distances, times powers of two, from 2^-2 to 2^2 for five. No
    gradient flows through the widths.
    """
    rows, n, m = torch.cat([source, target]), len(source), len(target)
    norms = rows.square().sum(dim=1)
    distances = (norms[:, None] + norms - 2 * rows @ rows.T).clamp_min(0)
    of_itself = torch.eye(n + m, dtype=torch.bool, device=rows.device)
    kernels = _mean_kernel(distances.masked_fill(of_itself, 0), n_kernels).masked_fill(of_itself, 0)
    return kernels[:n, :n].sum() / (n * (n - 1)) + kernels[n:, n:].sum() / (m * (m - 1)) - 2 * kernels[:n, n:].mean()


@differentiable
def linear_time_mmd(source: Tensor, target: Tensor, n_kernels: int = 5) -> Tensor:
    """Return an estimate of the same from neighbours alone: as unbiased, less sure, in time linear in the rows.

    It is the mean of k(s, s') + k(t, t') - k(s, t') - k(s', t) over source rows s, s' that follow each other and the
    target rows t, t' at their places (Gretton et al., section 6). The last row of an odd number is left out, and so are
    those beyond the number of rows of the other domain. The widths are by the median of the distances that are used.
    """
    n = min(len(source), len(target)) // 2 * 2
    s, s_next, t, t_next = source[0:n:2], source[1:n:2], target[0:n:2], target[1:n:2]
    pairs = ((s, s_next), (t, t_next), (s, t_next), (s_next, t))
    kernels = _mean_kernel(torch.stack([(one - other).square().sum(dim=1) for one, other in pairs]), n_kernels)
    return (kernels[0] + kernels[1] - kernels[2] - kernels[3]).mean()


def _mean_kernel(distances: Tensor, n_kernels: int) -> Tensor:
    """Return the mean of the kernels at these squared distances."""
    width = _median(distances.detach())
    powers = range(-(n_kernels // 2), n_kernels - n_kernels // 2)
    return torch.stack([torch.exp(-distances / (width * 2.0**power)) for power in powers]).mean(dim=0)


def _median(distances: Tensor) -> Tensor:
    """Return the median of those above 0, which are of different rows; 1 where there are none."""
    apart = distances[distances > 0]
    return apart.median() if len(apart) else distances.new_ones(())
