"""`ImportanceWeightedRepurposer`: source rows count as often as rows like them are seen in the target.

Shimodaira (2000), Improving predictive inference under covariate shift, Journal of Statistical Planning and Inference
90. How often that is, three methods estimate: `kernel_mean_matching`, `kliep` and `domain_classifier`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from sklearn.utils import check_random_state
from torch import nn

from model_handler import Source
from repurpose.domain.distributions.domain_classifier import (
    LogLinearRatio,
    effective_sample_size,
    fit_log_linear_ratio,
    warn_of_few,
)
from repurpose.domain.distributions.kernel_mean_matching import match_kernel_means
from repurpose.domain.distributions.kernels import check_n_rows, gaussian_kernel, mean_kernel, median_width
from repurpose.domain.distributions.kliep import KernelRatio, fit_kernel_ratio
from repurpose.domain.distributions.standardization import Standardization
from repurpose.domain.domain_repurposer import DomainRepurposer
from repurpose.domain.domains import Domains, equal_weights
from repurpose.parameters import is_one_of, weight_mistakes
from repurpose.persistence.values.schema import Array, Either, Maybe, Number, Object, Table
from repurpose.uncertainty.comparisons import ReferenceRows
from repurpose.uncertainty.head import Head

__all__ = ["ImportanceWeightedRepurposer"]

_METHODS = ("kmm", "kliep", "classifier")
_LEAST_WEIGHT = 1e-6  # no row is left out: sets need all of them to be judged by, and a class some of its rows
_MOVING_NEEDS_NONE = "Methods that move rows, such as CoralRepurposer, need no overlap"
_SETS_WITHOUT_RATIO = "Labelled rows of the target, given to conformalize, make sets that need no overlap"


class ImportanceWeightedRepurposer(DomainRepurposer):
    """A head trained on source rows that are weighted by how much more often the target has such rows.

    Right where inputs are drawn otherwise in the target while the label of an input is the same (covariate shift), and
    where the source has rows of every kind that the target has: what is never seen cannot be weighted up. Columns are
    standardised over both domains for it; the head gets the features as they are.

    Without labels of the target `predict_set` judges by source rows out of their folds, each counted as the ratio of
    densities at it says, and the row at hand as the ratio at it says (weighted conformal prediction: Tibshirani, Foygel
    Barber, Candès and Ramdas 2019, arXiv:1904.06019). It promises what it promises elsewhere, as far as the shift is
    one of the inputs alone and the ratio is estimated well; a row where the ratio is very large has every label in its
    set. Kernel mean matching has no weight for a new row: there the ratio is that of the domain classifier, which
    training fits for it, for all of these rows. `unfamiliarity_p_value` goes on to need rows of the target, since an
    input of another kind may well have so large a ratio that it would pass for familiar.

    Parameters
    ----------
    source_model, feature_layer_names, head
        As in `DomainRepurposer`; the head must take `sample_weight`.
    method : {"kmm", "kliep", "classifier"}, default="kmm"
        ``"kmm"`` is kernel mean matching (Huang et al. 2007) with a Gaussian kernel whose width is the median distance,
        for at most 5,000 source rows (2.2 GB); without `regularization` it weighs most rows 0, and takes no account of
        which of several source domains a row is of. Among many features its weights stay nearly even where the domains
        differ in one alone, and tell nothing of how far they overlap. ``"kliep"`` fits the ratio of densities as a
        mixture of kernels (Sugiyama et al. 2008) whose width is chosen by cross-validation, for any number of rows: it
        takes 2.4 kB a row beside twice the features, and two minutes for 20,000 rows of each domain; its ratio is 0
        far from all rows of the target, where the set of a row is as by the source alone. ``"classifier"`` takes the
        odds by which a logistic regression tells the domains apart.
    regularization : float, default=1.0
        The r of r |w - 1|^2 / 2, which kernel mean matching adds to what it makes small. In the paper it is 0: then the
        exact solution gives most rows the weight 0. In three draws from breast_cancer, biased by a known function, the
        rank correlation with the true weights was .1 then and .8 to .9 with 1, and both left less than a tenth of the
        squared distance.
    **kwargs
        The parameters of `DomainRepurposer`, `MetaModelRepurposer` and `Repurposer`.

    Attributes
    ----------
    importance_weights_ : float64 ndarray of shape (n_source_rows,)
        How often each source row that took part counts, 1 on average.
    effective_sample_size_ : float
        (sum w)^2 / sum w^2 (Kish 1965): as many rows of equal weight would vary as much. A UserWarning is given where
        it is below a tenth of the rows.
    density_ratio_ : LogLinearRatio or KernelRatio
        Where the target has no label: ``density_ratio_.at(features)`` says how much more often the target has rows like
        these (n_rows, n_features) than the source. Saved with the rest.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import ImportanceWeightedRepurposer
    >>> X, y = make_blobs(90, random_state=8)
    >>> target, network = X[45:] + 1, nn.Sequential(nn.Identity())
    >>> repurposer = ImportanceWeightedRepurposer(network, ["0"], method="kliep", random_state=0)
    >>> repurposer.repurpose(target, source_data=(X[:45], y[:45])).score(target, y[45:])
    1.0
    >>> repurposer.importance_weights_.shape, 5 < repurposer.effective_sample_size_ < 45
    ((45,), True)
    """

    _weighs_rows = True

    _schema: ClassVar[Table] = {
        "importance_weights_": Maybe(Array("n_source_rows", least=0)),
        "effective_sample_size_": Maybe(Number(above=0)),
        "density_ratio_": Maybe(Either(Object(LogLinearRatio), Object(KernelRatio))),
    }

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str] | str | None = None,
        *,
        method: str = "kmm",
        regularization: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.method = method
        self.regularization = regularization

    def _adapt_source(self, domains: Domains) -> tuple[np.ndarray, np.ndarray]:
        if not len(domains.labelled):
            self.density_ratio_ = self._fit_ratio(domains)
        weights = self._ratios(domains) * domains.source_weights
        weights = np.maximum(weights / weights.mean(), _LEAST_WEIGHT)
        self.importance_weights_, self.effective_sample_size_ = weights, effective_sample_size(weights)
        warn_of_few(weights, _MOVING_NEEDS_NONE)
        return domains.source, weights

    def _ratios(self, domains: Domains) -> np.ndarray:
        """Estimate how much more often the target has rows like each source row: (n_source,)."""
        if self.method != "kmm":
            ratio = self.density_ratio_ if hasattr(self, "density_ratio_") else self._fit_ratio(domains)
            return ratio.at(domains.source)
        pooled = Standardization.of(np.concatenate([domains.source, domains.target]))
        source, target = pooled.apply(domains.source), pooled.apply(domains.target)
        width = median_width(np.concatenate([source, target]))
        of_source, to_target = gaussian_kernel(source, source, width), mean_kernel(source, target, width)
        return match_kernel_means(of_source, to_target, domains.source_weights, self.regularization)

    def _fit_ratio(self, domains: Domains) -> LogLinearRatio | KernelRatio:
        rows = domains.source, domains.target, domains.source_weights
        if self.method == "kliep":
            return fit_kernel_ratio(*rows, check_random_state(self.random_state), domains.target_groups)
        groups = domains.groups_of(np.arange(len(domains.target)))
        return fit_log_linear_ratio(*rows, self.source_model, self.random_state, groups)

    def _has_reference_rows(self) -> bool:
        return self._has_target_rows() or hasattr(self, "density_ratio_")

    def _heads_with_unseen_rows(self) -> Iterator[tuple[Head, ReferenceRows]]:
        self._check_is_repurposed()
        if self._has_target_rows() or not self._has_reference_rows():
            yield from super()._heads_with_unseen_rows()
            return
        training, folds = self.training_rows(), [*self.heads_of_folds()]
        weights = self.density_ratio_.at(training.matrix) * equal_weights(self.training_domains_)
        warn_of_few(weights[np.concatenate([fold.held_out for fold in folds])], _SETS_WITHOUT_RATIO)
        for fold in folds:
            # rows of the source, which have no groups
            yield fold.head, replace(training[fold.held_out], weights=weights[fold.held_out], groups=None)

    def _own_weights(self, matrix: np.ndarray) -> np.ndarray:
        return super()._own_weights(matrix) if self._has_target_rows() else self.density_ratio_.at(matrix)

    def _check_domains(self, domains: Domains) -> None:
        super()._check_domains(domains)
        if self.method == "kmm":
            check_n_rows(len(domains.source), 11, 'method="kmm"')

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes()
        if not is_one_of(self.method, _METHODS):
            mistakes.append(f"method must be one of {[*_METHODS]}, got {self.method!r}")
        return mistakes + weight_mistakes("regularization", self.regularization)
