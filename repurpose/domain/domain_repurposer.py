"""`DomainRepurposer` trains a head on features of a source domain and those of a target domain with a label.

It changes nothing about either, and so is the comparison that every method has to beat; methods are subclasses, which
move or weigh the rows before the head sees them. Reading the domains is in `domains` and `reading`, making the head in
`heads`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from model_handler import Features, Source
from repurpose.data.groups import check_n_groups
from repurpose.data.row_shapes import SeenShapes
from repurpose.data.sample_weights import without_weights
from repurpose.domain.domains import (
    Domains,
    bring_together,
    judged_target,
    read_source,
)
from repurpose.domain.heads import describe_head, head_from_description, head_mistakes, make_head
from repurpose.domain.reading.source_domains import check_same_columns, naming_data, refuse_cut, source_domains
from repurpose.domain.reading.target_labels import judge_labels, labels_apart
from repurpose.domain.target_reference import KEPT_HERE, TARGET, AdaptedFeatures, in_layers, train_head
from repurpose.domain.unlabelled_scoring import UnlabelledScoring
from repurpose.meta_model.checks import width_of_layers
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.meta_model.weighted_fitting import takes_weights
from repurpose.parameters import is_one_of, only_given
from repurpose.persistence.values.schema import Dict, Maybe, Sizes, Table, Text
from repurpose.threads import threads_for

__all__ = ["DomainRepurposer"]

_NO_AUTO = (
    'feature_layer_names="auto" chooses layers by labelled rows of the domain that is predicted, of which there may be '
    "none here; name the layers"
)
_ONE_DRAW = "a head learns from a single draw of each row. Give the data with the transform of prediction"


class DomainRepurposer(UnlabelledScoring):
    """A head trained on labelled rows of a source domain, and on those of the target domain that have a label.

    Nothing is done about the difference between the domains: it is "source only" where the target has no labels,
    "pooled" where it has some, and what methods of domain adaptation are compared with.

    A method of your own is a subclass with one or both of the hooks `_adapt_source` and `_adapt_rows`.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network whose features are used, or its name.
    feature_layer_names : list of str or None, default=None
        The layers whose outputs are the features, as in `MetaModelRepurposer`; ``"auto"`` is refused, since it judges
        layers by labelled rows.
    head : {"lr", "gp", "svm", "laplace", "bnn"} or MetaModelRepurposer, default="lr"
        What is trained on the features; of an object, the own source and layers are ignored.
    **kwargs
        The parameters of `MetaModelRepurposer` and `Repurposer`.

    Attributes
    ----------
    target_model_ : MetaModelRepurposer
        The trained head, which takes adapted features.
    source_domains_ : dict of str to int
        How many rows of each source domain took part.
    training_domains_ : int ndarray of shape (n_rows,)
        The source domain of each row of `training_features_`, as its place in `source_domains_`; -1 for the target.
    adapted_widths_ : dict of str to int
        The columns of the features that the head takes: one block where a method adapts rows, else those of each layer.
    n_target_rows_, n_target_labels_ : int
        How many rows the target had, and how many of them a label.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import DomainRepurposer
    >>> X, y = make_blobs(60, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = DomainRepurposer(network, ["0"]).repurpose(X[30:] + 0.5, source_data=(X[:30], y[:30]))
    >>> repurposer.source_domains_, repurposer.n_target_labels_, repurposer.score(X[30:] + 0.5, y[30:])
    ({'source': 30}, 0, 1.0)
    """

    _weighs_rows: ClassVar[bool] = False  # whether the head has to take weights

    # Those of subclasses are Maybe: a fold learns a head alone, and no adaptation.
    _schema: ClassVar[Table] = {
        "target_model_": Maybe(Text()),  # in a file stands its state
        "head_state_": Dict(Text("learned"), Dict(Text())),
    }

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str] | str | None = None,
        *,
        head: str | MetaModelRepurposer = "lr",
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.head = head

    @without_weights
    def repurpose(  # type: ignore[override]
        self, data: object, y: object = None, *, source_data: object = None, groups: ArrayLike | None = None
    ) -> Self:
        """Learn to label the target domain; an earlier result stays as it was if this fails.

        Where every row of the target has a label its classes are learned, else those of either domain; source rows of
        other classes are left out, with a UserWarning.

        Parameters
        ----------
        data : DataLoader, Dataset, arrays or tensors, ImageFolderData, path of a folder, or Features
            The target domain, all of its rows labelled, some or none. A missing label is None or NaN; -1 only among
            whole numbers and where the source has no class -1, with a UserWarning. `X` alone, ``(X, None)``, a flat
            folder, and a loader or `Features` without labels have none.
        y : array-like of shape (n_samples,), optional
            Labels beside the data.
        source_data : as `data`, or a dict of such by name
            The source domain, every row labelled; of several, each has the same weight in sum. scikit-learn's searches
            and cross-validation cut whatever has as many entries as the target has rows: there, give a pair ``(X, y)``,
            or a dict such as ``{"source": features}``, which are kept whole. A `Features` or a dataset that was cut
            with the target is refused.
        groups : array-like of shape (n_samples,), optional
            Which rows of the target belong together, as in `MetaModelRepurposer.repurpose`; each row of the source is
            by itself.

        Raises
        ------
        ValueError
            Without `source_data`, for domains of other features, other columns, other kinds of labels or no class in
            common, a domain of one row or of rows that are all the same, and as `MetaModelRepurposer.repurpose`.
        """
        readable, labels = labels_apart(data, y)

        def learn(target: object, **given: Any) -> object:
            return self._learn_domains(target, labels, source_data, **given)

        return self._learn_by(learn, readable, None, groups)

    @without_weights
    def fit(  # type: ignore[override]
        self, X: object, y: object = None, *, source_data: object = None, groups: ArrayLike | None = None
    ) -> Self:
        """Do the same as `repurpose`, under scikit-learn's name."""
        return self.repurpose(X, y, source_data=source_data, **only_given(groups=groups))

    @classmethod
    def restored(cls, parameters: Mapping[str, Any], learned: Mapping[str, Any]) -> Self:
        source_model = parameters["source_model"]
        head = head_from_description(parameters.get("head", "lr"), source_model, [DomainRepurposer])
        return super().restored({**parameters, "head": head}, learned)

    def _judged(self, data: object) -> object:
        readable, _ = labels_apart(data, None)  # labels may be missing where answers are asked for, as in training
        return super()._judged(readable)

    def features_to_judge(self, data: object) -> Features:
        if isinstance(data, AdaptedFeatures):
            return data
        raw = self._raw_features(data)
        with threads_for(len(raw), len(getattr(self, "training_codes_", raw))):
            adapted = self._adapt_rows(raw.matrix)
        return AdaptedFeatures(in_layers(adapted, self.adapted_widths_), raw.labels, raw.class_names)

    def _adapt_source(self, domains: Domains) -> tuple[np.ndarray, np.ndarray]:
        """Hook: the source rows as the head shall see them, float32 (n_source, n_adapted), and their weights.

        Called once, with both domains. What `_adapt_rows` needs later is kept in attributes whose names end in an
        underscore; to be saved, they are arrays or what JSON has a word for. Weights (n_source,) are of at least 0,
        and count a row as `sample_weight` does.
        """
        return domains.source, domains.source_weights

    def _adapt_rows(self, matrix: np.ndarray) -> np.ndarray:
        """Hook: rows of the target (n_rows, n_features) as the head shall see them, float32 (n_rows, n_adapted)."""
        return matrix

    def _adapt_later_source(self, source: np.ndarray, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Hook, optional: source rows that come after training as the head shall see them, float32 (n, n_adapted).

        Of `source` (n, n_features) each row counts as its weight (n,) says; `target` (n_target, n_features) are rows of
        the target. By default they are adapted as rows of the target are.
        """
        return self._adapt_rows(source)

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model_.head_probabilities(features)

    def _predict_label_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model_._predict_label_from_features(features)

    def _predict_samples_from_features(
        self, features: np.ndarray, n_samples: int, random_state: np.random.RandomState
    ) -> np.ndarray:
        return self.target_model_.head_samples(features, n_samples, random_state)

    def _predict_variance_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model_.head_variances(features)

    def _onnx_head(self) -> nn.Module | None:
        return self.target_model_._onnx_head()

    def _onnx_variance(self) -> nn.Module | None:
        return self.target_model_._onnx_variance()

    def _onnx_rows(self) -> nn.Module | None:
        if type(self)._adapt_rows is not DomainRepurposer._adapt_rows:
            raise NotImplementedError(
                f"{type(self).__name__} cannot be exported: it must define _onnx_rows(self), which returns a torch "
                "module that does as _adapt_rows, beside _onnx_head, which is that of its head"
            )
        return None

    def _head_state(self) -> dict[str, Any]:
        return {"learned": self.target_model_._learned_for_file()}

    def _load_head_state(self, state: Any) -> MetaModelRepurposer:
        head = self._new_head(state["learned"]["feature_layer_names_"])
        return type(head).restored(head.get_params(deep=False), state["learned"])

    def _learn_domains(
        self, data: Any, labels: np.ndarray | None, source_data: object, groups: np.ndarray | None = None
    ) -> object:
        """Learn from the target, whose `labels` stand beside it where that is not None, and labelled source data.

        Return the data that name the classes.
        """
        sources = source_domains(source_data, type(self).__name__)
        check_same_columns(sources, data)
        self._warn_of_random_rows(data, _ONE_DRAW)
        layers, seen = self._layers_to_extract(data), SeenShapes()

        def extract(rows: Any) -> Features:
            return self._extract(rows, layers)

        read = {name: read_source(name, of_source, extract) for name, of_source in sources.items()}
        of_sources = {name: own for name, (_, own) in read.items()}
        target = self._extract(data, layers, seen.note)
        refuse_cut(source_data, len(target))
        if groups is not None:
            check_n_groups(groups, len(target))
        found = target.labels if labels is None else labels[target.labels]
        of_target = judge_labels(found, np.concatenate([*of_sources.values()]), len(target))
        target = judged_target(target, of_target, data)
        domains = bring_together({name: rows for name, (rows, _) in read.items()}, of_sources, target, of_target)
        domains = replace(domains, target_groups=groups)
        self._check_domains(domains)
        self._note_training()
        if seen.shapes is not None:
            self.row_shape_ = seen.shapes
        self.feature_layer_names_, self.n_features_per_layer_ = [*domains.widths], domains.widths
        self.n_features_in_ = domains.source.shape[1]
        self.n_target_rows_, self.n_target_labels_ = len(domains.target), len(domains.labelled)
        self.source_domains_ = dict(zip(domains.names, _counts(domains)))
        self._train_on(domains)
        return naming_data(sources, data, self.classes_)

    def _check_domains(self, domains: Domains) -> None:
        """Raise ValueError where a method cannot learn from these domains; before it does any work."""
        if not self._takes_weights and not (domains.source_weights == 1).all():
            raise ValueError(
                f"source domains of {dict(zip(domains.names, _counts(domains)))} rows are weighed to count alike, and "
                f"the head {type(self.head).__name__} cannot weigh rows; give as many rows of each, or another head"
            )

    def _train_on(self, domains: Domains) -> None:
        """Adapt both domains and train the head on the rows that have a label."""
        features, weights = self._rows_with_labels(domains)
        head = train_head(self._new_head(features.layer_names), features, weights, domains.groups_of(domains.labelled))
        self.training_domains_ = self.training_domains_[weights > 0]
        self.classes_, self.target_model_ = head.classes_, head
        for name in KEPT_HERE:
            if name in vars(head):
                setattr(self, name, head.__dict__.pop(name))

    def _rows_with_labels(self, domains: Domains) -> tuple[Features, np.ndarray]:
        """Return the adapted rows that have a label, those of the source first, and their weights (n_rows,)."""
        labelled = domains.labelled
        with threads_for(len(domains.source) + len(domains.target)):
            source, source_weights = self._adapt_source(domains)
            rows = np.concatenate([source, self._adapt_rows(domains.target[labelled])])
        adapts = type(self)._adapt_rows is not DomainRepurposer._adapt_rows  # then columns are of no single layer
        self.adapted_widths_ = {" + ".join(domains.widths): rows.shape[1]} if adapts else domains.widths
        self.training_domains_ = np.concatenate([domains.source_domains, np.full(len(labelled), TARGET)])
        codes = np.concatenate([domains.source_codes, domains.target_codes[labelled]])
        weights = np.concatenate([source_weights, np.ones(len(labelled))])
        return Features(in_layers(rows, self.adapted_widths_), domains.classes[codes]), weights

    def _new_head(self, layers: Sequence[str]) -> MetaModelRepurposer:
        head = make_head(self.head, self.source_model, self.get_params(deep=False))
        return head.set_params(feature_layer_names=[*layers])

    @property
    def _takes_weights(self) -> bool:
        head = make_head(self.head, self.source_model, self.get_params(deep=False))
        return takes_weights(head._train_model_from_features)

    def _defines(self, hook: str) -> bool:
        if not hook.startswith("_predict"):
            return super()._defines(hook)
        head = vars(self).get("target_model_")
        head = make_head(self.head, self.source_model, self.get_params(deep=False)) if head is None else head
        return head._defines(hook)

    def _check_has_labels(self, data: object) -> None:
        """Every kind of data may be a target: none is without rows to adapt to."""

    def _sizes_of(self, learned: Mapping[str, Any]) -> Sizes:
        n_adapted = width_of_layers(learned.get("adapted_widths_"))
        return {**super()._sizes_of(learned), "n_adapted": n_adapted}

    def _head_width(self) -> int:
        return width_of_layers(self.adapted_widths_)

    def _check_restored(self) -> None:
        super()._check_restored()
        width = width_of_layers(self.n_features_per_layer_)
        adapted = self._adapt_rows(np.zeros((1, width), np.float32))
        if adapted.shape != (1, self._head_width()):
            raise ValueError("its adaptation and its head do not go together")

    def _parameters_for_file(self) -> dict[str, Any]:
        return {**super()._parameters_for_file(), "head": describe_head(self.head)}

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes() + head_mistakes(self.head)
        if is_one_of(self.feature_layer_names, ("auto",)):
            mistakes.append(_NO_AUTO)
        if isinstance(self.head, DomainRepurposer):
            mistakes.append("head must be a meta-model of one domain, got a DomainRepurposer")
        elif self._weighs_rows and not head_mistakes(self.head) and not self._takes_weights:
            mistakes.append(
                f"{type(self).__name__} weighs rows, and its head {type(self.head).__name__} cannot: its "
                "_train_model_from_features needs a parameter sample_weight, as that of LrRepurposer has one"
            )
        return mistakes


def _counts(domains: Domains) -> list[int]:
    return np.bincount(domains.source_domains, minlength=len(domains.names)).tolist()
