"""A trained model is scored on a target without labels; the formulas are in `unlabelled_scores`."""

import numpy as np

from model_handler.network.ambient_modes import undisturbed
from repurpose.data.labels import label_codes
from repurpose.domain.distributions.domain_classifier import fit_log_linear_ratio, warn_of_few
from repurpose.domain.domains import check_widths, equal_weights, read_source
from repurpose.domain.reading.source_domains import source_domains
from repurpose.domain.target_reference import AdaptedFeatures, TargetReference, in_layers
from repurpose.domain.unlabelled_scores import METHODS, negative_entropy, soft_neighbourhood_density, weighted_accuracy
from repurpose.seeding import seed_at_prediction
from repurpose.uncertainty.checks import check_choice

__all__ = ["UnlabelledScoring"]

_WITHOUT_OVERLAP = 'method="entropy" or "snd" scores without it'
_SOURCE_DATA = (
    'give score_without_labels(data, source_data=(X, y)), or method="entropy" or "snd", which need the target alone'
)


class UnlabelledScoring(TargetReference):
    """The part of a `DomainRepurposer` that scores it without labels of the target."""

    @undisturbed()
    def score_without_labels(self, data: object, source_data: object = None, method: str = "iwv") -> float:
        """Score this model on a target without labels, to choose among methods and parameters; higher is better.

        Scores of one `method` on the same data can be compared with each other, and with nothing else.

        Parameters
        ----------
        data : as in `predict_label`
            Rows of the target.
        source_data : as in `repurpose`, for ``"iwv"`` alone
            Labelled source rows, best such as were not used in training, or the score is that of a memory.
        method : {"iwv", "entropy", "snd"}, default="iwv"
            ``"iwv"``, importance-weighted validation (Sugiyama et al. 2007): the accuracy on source rows, weighted by
            the ratio of densities as a `domain_classifier` estimates it. Both are of rows as the head sees them (You et
            al. 2019): a method that moves the source moves these rows too, by their own means and covariances, for
            which there should be more of them than features. It misleads where the domains hardly overlap: a few rows
            decide then (a UserWarning may say so), and a model that leaves rows as they are scores as on the source. It
            misleads, too, where a label means something else in the target.
            ``"entropy"``, minus the mean entropy of the probabilities (Morerio et al. 2018). It misleads where a model
            is sure and wrong: it likes one that puts every row into one class. ``"snd"``, soft neighbourhood density
            (Saito et al. 2021): how many rows of the target have answers like those of each. It misleads likewise
            where rows of different classes are put together. `unlabelled_scores` has the formulas.

        Raises
        ------
        ValueError
            For an unknown method, for ``"snd"`` of one row, and for ``"iwv"`` without `source_data`, or with
            other features, or with none of a class that was learned.
        NotImplementedError
            Where the head has no probabilities, for ``"entropy"`` and ``"snd"``.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose.domain import CoralRepurposer
        >>> X, y = make_blobs(90, random_state=8)
        >>> target, network = X[45:] + 0.5, nn.Sequential(nn.Identity())
        >>> repurposer = CoralRepurposer(network, ["0"], random_state=0).repurpose(target, source_data=(X[:30], y[:30]))
        >>> repurposer.score_without_labels(target, source_data=(X[30:45], y[30:45]))
        1.0
        """
        check_choice("method", method, METHODS)
        if method == "iwv":
            return self._importance_weighted_accuracy(self._judged(data), source_data)
        self._check_defines("_predict_probability_from_features", "probabilities")
        probabilities = self.predict_probability(data)
        return negative_entropy(probabilities) if method == "entropy" else soft_neighbourhood_density(probabilities)

    def _importance_weighted_accuracy(self, data: object, source_data: object) -> float:
        sources = source_domains(source_data, 'score_without_labels with method="iwv"', _SOURCE_DATA)
        for given in sources.values():
            self._check_columns(given)
        target = self._raw_features(data)
        read = [
            read_source(name, given, lambda data: self._extract(data, target.layer_names))
            for name, given in sources.items()
        ]
        for name, (features, _) in zip(sources, read):
            check_widths(features, target, name)
        rows, labels = np.concatenate([each.matrix for each, _ in read]), np.concatenate([own for _, own in read])
        counts = equal_weights(np.repeat(np.arange(len(read)), [len(own) for _, own in read]))
        codes, _ = label_codes(labels, self.classes_)
        if not (known := codes >= 0).any():
            raise ValueError(f"no row of source_data is of a class that was learned: {self.class_names_.tolist()[:5]}")
        rows, codes, counts = rows[known], codes[known], counts[known]
        moved, adapted = self._adapt_later_source(rows, counts, target.matrix), self._adapt_rows(target.matrix)
        ratio = fit_log_linear_ratio(moved, adapted, counts, self.source_model, seed_at_prediction(self))
        warn_of_few(weights := counts * ratio.at(moved), _WITHOUT_OVERLAP)
        answers, _ = self._predict_codes(AdaptedFeatures(in_layers(moved, self.adapted_widths_)))
        return weighted_accuracy(answers == codes, weights)
