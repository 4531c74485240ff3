"""`SvmRepurposer` fits support vector machines to the features of a network (`svm`), by scikit-learn's `SVC`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.utils import check_random_state
from torch import nn

from model_handler import Source
from model_handler.errors import nearest
from repurpose.data.class_weights import class_weight_mistakes, weight_of_each_row
from repurpose.data.folds import order_by_content
from repurpose.data.scaling import ROW_NORM, BlockScaling, at_least_once
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.meta_model.onnx_heads.kernel_machine import KernelMachine
from repurpose.meta_model.svm import KERNELS, SvmModel, kernel_values, scaled_rows
from repurpose.meta_model.svm_blend import CURVED, LINEAR, fit_blended
from repurpose.parameters import is_one_of, is_positive
from repurpose.persistence.values.schema import Maybe, Number, Object, Table

__all__ = ["SvmRepurposer"]


class SvmRepurposer(MetaModelRepurposer):
    """Support vector machines on the features of some layers of a source network, with probabilities.

    Each class has the machine that separates it from all others, and each pair of classes one of its own. The score of
    a class is a weighted mean of the first and of the mean of its pairs; probabilities are the softmax of the scores
    times `sharpness_`, so that the most likely class is the one with the highest score. Both numbers are chosen on
    training rows that were held out in turn, one of each class at a time (of rows in groups one group of each), and
    drawn towards what is usual where these are few. A class of one example is never held out; where every class has
    one, both are what is usual. Neither the order of the rows nor the names of the classes change what is learned. How
    it does beside other heads: docs/benchmarks/heads.md.

    A machine makes ``|w|^2 / 2 + sum_n c s_n max(0, 1 - t_n (w . x_n + b))`` small, where t_n is 1 in its class and -1
    outside, and s_n the `sample_weight` of a row times the weight of its class. In scaling, `gamma`, ``"balanced"`` and
    the choice of the two numbers a row counts as often as its `sample_weight` says; folds are dealt by rows.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    feature_layer_names : list of str, "auto" or None, default=None
        The layers whose outputs are the features: by default what the last linear layer reads; ``"auto"`` chooses them.
        See `MetaModelRepurposer`. They are centred and scaled, so that all layers weigh alike and the rows have a
        root-mean-square norm of 1.
    c : float, default=5.0
        The inverse strength of the penalty. Xfer's default was 1.0, for raw features. On scaled ones 3 was worse at
        many labels, 10 at few.
    kernel : {"linear", "poly", "rbf", "sigmoid"}, default="linear"
        As in Xfer. Polynomials have degree 3.
    gamma : float, "scale" or "auto", default="scale"
        The coefficient of all kernels but the linear one. ``"scale"`` divides 1 by the mean square norm of the rows,
        which is 1; ``"auto"``, Xfer's default, by the number of features, which makes wide rows all alike.
    class_weight : dict of label to weight, "balanced" or None, default=None
        Weights of the classes, all above 0, in the fit and in the choice of the two numbers. Xfer's had none either.
    **kwargs
        The parameters of `MetaModelRepurposer` and `Repurposer`.

    Attributes
    ----------
    target_model_ : SvmModel
        The machines, as arrays.
    gamma_ : float
        The value of `gamma` that was used.
    sharpness_ : float
        What multiplies the scores before the softmax.
    share_of_pairs_ : float
        How much one against one counts in the scores, between 0 and 1; 0 for two classes, whose machine is the
        same in both kinds. Absent from what was saved before it was learned.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import SvmRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> SvmRepurposer(network, ["1"], kernel="rbf").repurpose((X, y)).score((X, y))
    1.0
    """

    _schema: ClassVar[Table] = {
        "target_model_": Object(SvmModel),
        "gamma_": Number(above=0),
        "sharpness_": Number(least=0),
        "share_of_pairs_": Maybe(Number(least=0)),
    }

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str] | str | None = None,
        *,
        c: float = 5.0,
        kernel: str = "linear",
        gamma: float | str = "scale",
        class_weight: Mapping[Any, float] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.c = c
        self.kernel = kernel
        self.gamma = gamma
        self.class_weight = class_weight

    def _train_model_from_features(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        feature_indices_per_layer: Mapping[str, np.ndarray],
        sample_weight: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> SvmModel:
        weights = weight_of_each_row(self.class_weight, self.classes_, labels, sample_weight)
        if weights is not None and not weights.all():  # those of rows are above 0
            raise ValueError("class_weight gives a class the weight 0, and a machine needs every class; leave it out")
        # Rows and classes get an order of their own, so that neither the order of the data nor the names of the classes
        # reach the folds or libsvm.
        scaling = BlockScaling.fit(features, feature_indices_per_layer, sample_weight)
        order, codes = order_by_content(scaling.transform(features), labels, weights)
        features, columns = features[order], np.empty(len(self.classes_), dtype=int)
        columns[labels[order]] = codes
        weights = None if weights is None else weights[order]
        sample_weight = None if sample_weight is None else sample_weight[order]
        scaling = BlockScaling.fit(features, feature_indices_per_layer, sample_weight)  # to the last digit, too
        rows = scaled_rows(scaling, features)
        self.gamma_ = self._gamma(rows, sample_weight)
        kernel = kernel_values(rows, rows, self.kernel, self.gamma_)
        prior = LINEAR if self.kernel == "linear" else CURVED
        rng = check_random_state(self.random_state)
        of_groups = None if groups is None else groups[order]
        dual, blend = fit_blended(kernel, codes, float(self.c), weights, prior, rng, of_groups)
        self.sharpness_, self.share_of_pairs_ = blend.sharpness, blend.share_of_pairs
        return SvmModel.of(scaling, rows, self.kernel, self.gamma_, dual.of_classes(columns), self.sharpness_)

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model_.probabilities(features)

    def _onnx_head(self) -> nn.Module | None:
        model = self.target_model_
        machines = {name: getattr(model, name) for name in ("support_vectors", "weights", "offsets", "sharpness")}
        factor = model.factor / ROW_NORM
        return KernelMachine(model.center, factor, kernel=model.kernel, gamma=model.gamma, **machines)

    def _gamma(self, rows: np.ndarray, sample_weight: np.ndarray | None) -> float:
        if self.gamma == "auto":
            return 1 / rows.shape[1]
        if self.gamma == "scale":
            counts = None if sample_weight is None else at_least_once(sample_weight)
            return 1 / (float(np.average(np.square(rows).sum(axis=1), weights=counts)) or 1.0)
        return float(self.gamma)

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes()
        if not is_positive(self.c):
            mistakes.append(f"c must be a positive finite number, got {self.c!r}")
        if not is_one_of(self.kernel, KERNELS):
            hint = f" (nearest: {nearest(self.kernel, KERNELS)})" if isinstance(self.kernel, str) else ""
            mistakes.append(f"kernel must be one of {', '.join(map(repr, KERNELS))}, got {self.kernel!r}{hint}")
        if not is_one_of(self.gamma, ("scale", "auto")) and not is_positive(self.gamma):
            mistakes.append(f'gamma must be "scale", "auto" or a positive finite number, got {self.gamma!r}')
        return mistakes + class_weight_mistakes(self.class_weight)
