import numpy as np
import pytest
from sklearn.metrics import accuracy_score, get_scorer

from repurpose.selection.tuning.scoring import name_of_scoring, negative_log_loss, scorer_of
from tests.repurpose.selection.tuning.heads import CentreRepurposer, blobs, small_network


@pytest.fixture(scope="module")
def trained() -> CentreRepurposer:
    return CentreRepurposer(small_network(), sharpness=0.1).repurpose(blobs())


def test_the_log_loss_is_scikit_learns_where_all_classes_are_there(trained: CentreRepurposer) -> None:
    X, y = blobs()
    assert negative_log_loss(trained, X, y) == pytest.approx(get_scorer("neg_log_loss")(trained, X, y), abs=1e-6)


def test_labels_that_lack_a_class_are_scored_all_the_same(trained: CentreRepurposer) -> None:
    X, y = blobs()
    X, y = X[y != "ant"], y[y != "ant"]
    probabilities = trained.predict_probability(X)
    of_truth = [row[["ant", "bee", "cat"].index(label)] for row, label in zip(probabilities, y)]
    assert negative_log_loss(trained, X, y) == pytest.approx(np.log(of_truth).mean())


def test_a_class_never_seen_costs_as_much_as_a_probability_of_0(trained: CentreRepurposer) -> None:
    X, _ = blobs()
    smallest = np.finfo(trained.predict_probability(X).dtype).eps
    assert negative_log_loss(trained, X[:1], np.array(["dog"])) == pytest.approx(np.log(smallest))


def test_scorers_come_by_name_or_as_they_are(trained: CentreRepurposer) -> None:
    X, y = blobs()
    assert scorer_of("accuracy")(trained, X, y) == accuracy_score(y, trained.predict_label(X))
    assert scorer_of(negative_log_loss) is negative_log_loss
    assert name_of_scoring(negative_log_loss) == "negative_log_loss"


def test_an_unknown_scorer_is_named_with_those_most_like_it() -> None:
    with pytest.raises(ValueError, match="no scorer 'acuracy'; nearest: accuracy"):
        scorer_of("acuracy")
    with pytest.raises(TypeError, match="got 3"):
        scorer_of(3)
