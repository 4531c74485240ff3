"""`TcaRepurposer`: transfer component analysis, components of a kernel along which domains hardly differ.

Pan, Tsang, Kwok and Yang (2011), Domain adaptation via transfer component analysis, IEEE Transactions on Neural
Networks 22.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from model_handler import Source
from repurpose.domain.component_count import check_n_components, n_components_for, n_components_mistakes
from repurpose.domain.distributions.kernels import check_n_rows, gaussian_kernel, in_blocks, median_width
from repurpose.domain.distributions.standardization import Standardization
from repurpose.domain.domain_repurposer import DomainRepurposer
from repurpose.domain.domains import Domains
from repurpose.domain.onnx_rows import KernelComponents, StandardizedRows
from repurpose.parameters import is_positive
from repurpose.persistence.values.schema import Array, Maybe, Number, Table

__all__ = ["TcaRepurposer", "transfer_components"]

_SHARE_KEPT = 0.99  # of the sum of the eigenvalues; with 0.9 too few were left on digits
_MOST_COMPONENTS = 100
_FEW_ROWS = 1000  # of which all solutions are found as fast as some


class TcaRepurposer(DomainRepurposer):
    """A head trained on the components along which the domains vary much and differ little (TCA).

    With the kernel matrix K of all n rows of both domains, the centring H = I - 1 1'/n, and L, whose entries are
    1/n_S^2 within the source, 1/n_T^2 within the target and -1/(n_S n_T) between them, the components are the leading
    solutions w of K H K w = lambda (K L K + mu I) w. A row x becomes k(x, rows) w, also one that comes later. The
    kernel is Gaussian, its width the median distance of rows whose columns were standardised over both domains.
    Labels of the target are not used for it; those that there are train the head too. Of several source domains each
    counts alike in L.

    (K L K + mu I)^-1 K H K alone is not symmetric, and a solver that takes it for that finds other components. With L
    of rank one, the root of K L K + mu I is known, and makes the problem a symmetric one. 2,000 rows take 3 s,
    4,000 take 11 s and 5,000, the most there may be, 13 s on one free core.

    Parameters
    ----------
    source_model, feature_layer_names, head
        As in `DomainRepurposer`.
    n_components : int or None, default=None
        None takes as few as have 99 % of the sum of the 100 largest lambda. At most one less than all rows.
    mu : float, default=1.0
        The weight of the smoothness of the components, as in the paper.
    **kwargs
        The parameters of `DomainRepurposer`, `MetaModelRepurposer` and `Repurposer`.

    Attributes
    ----------
    kernel_rows_ : float32 ndarray of shape (n_rows, n_features)
        The rows of both domains, that later rows are compared with: at most 5,000. They are saved too.
    kernel_width_ : float
    pooled_means_, pooled_deviations_ : float64 ndarray of shape (n_features,)
    components_ : float64 ndarray of shape (n_rows, n_components)
        The w, as columns, with w'(K L K + mu I)w = 1.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import TcaRepurposer
    >>> X, y = make_blobs(90, random_state=8)
    >>> target, network = X[45:] + 1, nn.Sequential(nn.Identity())
    >>> TcaRepurposer(network, ["0"]).repurpose(target, source_data=(X[:45], y[:45])).score(target, y[45:])
    1.0
    """

    _schema: ClassVar[Table] = {
        "kernel_rows_": Maybe(Array("n_kernel_rows", "n_features", dtypes="float32")),
        "kernel_width_": Maybe(Number(above=0)),
        "pooled_means_": Maybe(Array("n_features")),
        "pooled_deviations_": Maybe(Array("n_features", least=0)),
        "components_": Maybe(Array("n_kernel_rows", "n_adapted")),
    }

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str] | str | None = None,
        *,
        n_components: int | None = None,
        mu: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.n_components = n_components
        self.mu = mu

    def _adapt_source(self, domains: Domains) -> tuple[np.ndarray, np.ndarray]:
        rows = np.concatenate([domains.source, domains.target])
        pooled = Standardization.of(rows)
        self.pooled_means_, self.pooled_deviations_ = pooled.means, pooled.deviations
        standardized = pooled.apply(rows)
        self.kernel_rows_, self.kernel_width_ = rows, median_width(standardized)
        kernel = gaussian_kernel(standardized, standardized, self.kernel_width_)
        shares = domains.source_weights / domains.source_weights.sum()
        difference = np.concatenate([shares, np.full(len(domains.target), -1 / len(domains.target))])
        most = _MOST_COMPONENTS if self.n_components is None else self.n_components
        values, components = transfer_components(kernel, difference, self.mu, min(most, len(rows) - 1))
        k = n_components_for(values, _SHARE_KEPT) if self.n_components is None else self.n_components
        self.components_ = components[:, :k]
        return (kernel[: len(domains.source)] @ self.components_).astype(np.float32), domains.source_weights

    def _adapt_rows(self, matrix: np.ndarray) -> np.ndarray:
        pooled = Standardization(self.pooled_means_, self.pooled_deviations_)
        known = pooled.apply(self.kernel_rows_)
        parts = [
            gaussian_kernel(pooled.apply(part), known, self.kernel_width_) @ self.components_
            for part in in_blocks(matrix, len(known))
        ]
        return np.concatenate([np.empty((0, self.components_.shape[1])), *parts]).astype(np.float32)

    def _onnx_rows(self) -> nn.Module | None:
        pooled = StandardizedRows(self.pooled_means_, self.pooled_deviations_)
        return KernelComponents(pooled, self.kernel_rows_, self.kernel_width_, self.components_)

    def _check_domains(self, domains: Domains) -> None:
        super()._check_domains(domains)
        n_rows = len(domains.source) + len(domains.target)
        check_n_rows(n_rows, 2, type(self).__name__)
        check_n_components(self.n_components, n_rows - 1)

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes()
        mistakes += n_components_mistakes(self.n_components)
        if not is_positive(self.mu):
            mistakes.append(f"mu must be a positive finite number, got {self.mu!r}")
        return mistakes


def transfer_components(kernel: np.ndarray, difference: np.ndarray, mu: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Solve K H K w = lambda (K L K + mu I) w for the `n` largest lambda (n,), with the w as columns (n_rows, n).

    L is d d' for the `difference` d of the means of the domains, (n_rows,): 1/n_S in the source, -1/n_T in the target.
    """
    n_rows, apart = len(kernel), kernel @ difference
    length = np.linalg.norm(apart)
    direction = apart / max(length, np.finfo(float).tiny)
    # K L K + mu I = apart apart' + mu I is mu but for one direction; so is its inverse root R, up to these factors.
    less = 1 / np.sqrt(mu + length**2) - 1 / np.sqrt(mu)

    def by_root(v: np.ndarray) -> np.ndarray:  # R v
        return v / np.sqrt(mu) + np.multiply.outer(direction, less * (direction @ v))

    def by_scatter(v: np.ndarray) -> np.ndarray:  # R K H K R v, whose eigenvectors are R^-1 w
        scores = kernel @ by_root(v)
        return by_root(kernel @ (scores - scores.mean(axis=0)))

    if n_rows <= _FEW_ROWS or 5 * n > n_rows:
        matrix = by_scatter(np.eye(n_rows))
        values, vectors = eigh((matrix + matrix.T) / 2, subset_by_index=[n_rows - n, n_rows - 1])
    else:
        start = np.random.RandomState(0).normal(size=n_rows)  # so that the result is the same each time
        values, vectors = eigsh(LinearOperator((n_rows, n_rows), by_scatter, dtype=np.float64), n, which="LA", v0=start)
    return values[::-1], by_root(vectors[:, ::-1])
