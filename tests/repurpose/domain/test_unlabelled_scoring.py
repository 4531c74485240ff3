import numpy as np
import pytest

from model_handler import Features
from repurpose.domain import CoralRepurposer, DomainRepurposer, SubspaceAlignmentRepurposer, TcaRepurposer
from repurpose.domain.distributions.domain_classifier import fit_log_linear_ratio
from repurpose.domain.unlabelled_scores import negative_entropy, soft_neighbourhood_density
from tests.repurpose.domain.examples import quick, two_domains
from tests.repurpose.examples import CentroidRepurposer, blobs, identity_network


def test_each_score_is_its_formula_of_the_answers() -> None:
    source, (X, _) = two_domains()
    repurposer = quick(DomainRepurposer).repurpose(X, source_data=source)
    probabilities = repurposer.predict_probability(X)
    assert repurposer.score_without_labels(X, method="entropy") == negative_entropy(probabilities)
    assert repurposer.score_without_labels(X, method="snd") == soft_neighbourhood_density(probabilities)
    near = source[0] + np.float32(0.5)
    weights = fit_log_linear_ratio(source[0], near, np.ones(40), identity_network(), 0).at(source[0])
    is_right = repurposer.predict_label(source[0]) == source[1]
    expected = (weights * is_right).sum() / weights.sum()
    assert np.isclose(repurposer.score_without_labels(near, source), expected)


@pytest.mark.parametrize("cls", [CoralRepurposer, SubspaceAlignmentRepurposer])
def test_source_rows_are_moved_as_in_training_and_weighted_where_the_head_sees_them(cls: type) -> None:
    X, y = blobs(120)
    target = X[80:] * np.float32([1, 5, 2, 3]) + 30
    repurposer = quick(cls).repurpose(target, source_data=(X[:40], y[:40]))
    source = X[40:80], y[40:80]
    moved, adapted = repurposer._adapt_later_source(source[0], np.ones(40), target), repurposer._adapt_rows(target)
    ratio = fit_log_linear_ratio(moved, adapted, np.ones(40), identity_network(), 0)  # the seed of `quick`
    weights = ratio.at(moved)
    is_right = repurposer.target_model_.predict_label(Features({"0": moved})) == source[1]
    found = repurposer.score_without_labels(target, source)
    assert np.isclose(found, (weights * is_right).sum() / weights.sum())
    assert abs(found - repurposer.score(target, y[80:])) < 0.15


@pytest.mark.parametrize("cls", [CoralRepurposer, SubspaceAlignmentRepurposer, TcaRepurposer])
def test_the_source_rows_of_training_are_moved_to_where_they_were(cls: type) -> None:
    source, (X, _) = two_domains()
    repurposer = quick(cls).repurpose(X, source_data=source)
    again = repurposer._adapt_later_source(source[0], np.ones(40), X)
    assert np.allclose(again, repurposer.training_features_, atol=1e-4)


def test_rows_of_classes_that_were_not_learned_are_left_out() -> None:
    source, _ = two_domains()
    near = source[0] + np.float32(0.1)
    repurposer = quick(DomainRepurposer).repurpose(near, source_data=source)
    with pytest.raises(ValueError, match="no row of source_data is of a class that was learned"):
        repurposer.score_without_labels(near, (source[0], source[1] + 7))
    assert 0 < repurposer.score_without_labels(near, (source[0], np.where(source[1] == 2, 9, source[1]))) <= 1


def test_what_cannot_be_scored_is_refused() -> None:
    source, (X, _) = two_domains()
    repurposer = quick(DomainRepurposer).repurpose(X, source_data=source)
    with pytest.raises(
        ValueError,
        match=r"iwv.*needs source_data.*score_without_labels\(data, source_data=\(X, y\)\), or method=.entropy",
    ):
        repurposer.score_without_labels(X)
    with pytest.raises(ValueError, match=r"other features: {'0': 3} in 'source', {'0': 4} in the target"):
        repurposer.score_without_labels(X, (source[0][:, :3], source[1]))
    with pytest.raises(ValueError, match=r"snd.*compares rows with each other, and there is 1"):
        repurposer.score_without_labels(X[:1], method="snd")
    with pytest.raises(ValueError, match="method must be one of"):
        repurposer.score_without_labels(X, method="entropie")
    labels_only = quick(DomainRepurposer, head=CentroidRepurposer(identity_network(), ["0"]))
    with pytest.raises(NotImplementedError, match="no probabilities"):
        labels_only.repurpose(X, source_data=source).score_without_labels(X, method="snd")
