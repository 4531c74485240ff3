"""What every Repurposer promises, tested once: a test class inherits these and says how to make its Repurposer."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch.utils.data import DataLoader, TensorDataset

from model_handler import Features
from repurpose import load
from tests.repurpose.examples import blobs, small_network


def global_generators() -> list[str]:
    """The states of numpy's, torch's and Python's own generators."""
    of_numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return [
        f"{of_numpy['pos']} {of_numpy['key'].tolist()}",
        str(torch.get_rng_state().tolist()),
        str(random.getstate()),
    ]


class RepurposerContract:
    """Inherit, and define `make` and `grid`; layer "2" of `small_network` gives the features."""

    grid: dict[str, list[Any]]
    methods: tuple[str, ...] = ("mahalanobis", "energy", "variance")  # of unfamiliarity
    quick: dict[str, Any] = {}  # noqa: RUF012 (options of a training that need not be good)

    def make(self, source_model: Any, **options: Any) -> Any:
        raise NotImplementedError

    def features(self, repurposer: Any) -> Features:
        return repurposer.get_features_from_source_model(blobs())

    def test_repurpose_returns_itself_and_learns_sorted_classes(self) -> None:
        X, y = blobs()
        names = np.array(["pear", "apple", "fig"])[y]
        repurposer = self.make(small_network())
        assert repurposer.repurpose((X, names)) is repurposer
        assert repurposer.classes_.tolist() == ["apple", "fig", "pear"]
        predicted = repurposer.predict_label(X)
        assert predicted.shape == (60,)
        assert predicted.dtype == repurposer.classes_.dtype
        assert np.mean(predicted == names) > 0.5

    def test_every_kind_of_data_gives_the_same_result(self) -> None:
        X, y = blobs()
        pairs = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
        network = small_network()
        kinds = [(X, y), (torch.from_numpy(X), torch.from_numpy(y)), pairs, DataLoader(pairs, batch_size=32)]
        kinds.append(self.make(network).get_features_from_source_model((X, y)))
        predictions = [self.make(network, random_state=0).repurpose(data).predict_label(data) for data in kinds]
        predictions.append(self.make(network, random_state=0).repurpose(X, y).predict_label(X))
        assert all(np.array_equal(predictions[0], other) for other in predictions)

    def test_the_scikit_learn_names_do_the_same(self) -> None:
        X, y = blobs()
        repurposer = self.make(small_network())
        assert repurposer.fit(X, y) is repurposer
        assert np.array_equal(repurposer.predict(X), repurposer.predict_label(X))
        assert repurposer.score(X, y) == np.mean(repurposer.predict(X) == y)
        assert is_classifier(repurposer)

    def test_probabilities_are_of_the_classes_and_sum_to_one(self) -> None:
        X, y = blobs()
        repurposer = self.make(small_network()).repurpose(X, y)
        if not hasattr(repurposer, "predict_proba"):
            pytest.skip("no probabilities")
        probabilities = repurposer.predict_probability(X)
        assert probabilities.shape == (60, 3)
        assert np.allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-6)
        assert np.array_equal(probabilities, repurposer.predict_proba(X))
        assert np.array_equal(repurposer.classes_[probabilities.argmax(axis=1)], repurposer.predict_label(X))

    def test_predicting_before_repurposing_says_what_to_call(self) -> None:
        repurposer = self.make(small_network())
        for method in (repurposer.predict_label, repurposer.predict_probability, repurposer.score, repurposer.predict):
            with pytest.raises(NotFittedError, match=r"call repurpose\(data\) first"):
                method(blobs()[0])
        with pytest.raises(NotFittedError, match="repurpose"):
            repurposer.save_repurposer("nowhere")
        with pytest.raises(NotFittedError, match="repurpose"):
            _ = repurposer.target_model

    def test_a_clone_shares_the_network_and_no_parameter_is_lost(self) -> None:
        network = small_network()
        transform = torch.nn.Identity()
        repurposer = self.make(network, pooling="max", batch_size=7, random_state=3, transform=transform)
        cloned = clone(repurposer.repurpose(*blobs()))
        assert cloned.source_model is network
        assert cloned.transform is transform
        assert not hasattr(cloned, "classes_")
        assert cloned.get_params() == repurposer.get_params()
        assert cloned.get_params()["batch_size"] == 7

    def test_set_params_reaches_parameters_of_every_base_class(self) -> None:
        repurposer = self.make(small_network()).set_params(batch_size=5, pooling="avg", random_state=1)
        assert (repurposer.batch_size, repurposer.pooling, repurposer.random_state) == (5, "avg", 1)

    def test_an_unknown_keyword_is_refused_with_the_nearest_name(self) -> None:
        with pytest.raises(TypeError, match=r"has no parameter 'bach_size' \(nearest: batch_size"):
            self.make(small_network(), bach_size=3)

    def test_pickle_deepcopy_and_joblib_keep_what_was_learned(self, tmp_path: Any) -> None:
        X, y = blobs()
        repurposer = self.make(small_network()).repurpose(X, y)
        expected = repurposer.predict_label(X)
        assert "_cached_handler" not in repurposer.__getstate__()
        joblib.dump(repurposer, tmp_path / "repurposer.joblib")
        copies = [
            pickle.loads(pickle.dumps(repurposer)),
            deepcopy(repurposer),
            joblib.load(tmp_path / "repurposer.joblib"),
        ]
        assert all(np.array_equal(copy.predict_label(X), expected) for copy in copies)

    def test_a_failed_second_repurpose_leaves_the_first_working(self) -> None:
        X, y = blobs()
        repurposer = self.make(small_network()).repurpose(X, y)
        before = dict(vars(repurposer))
        hidden = np.ma.masked_less(X, np.sort(X, axis=None)[2])
        for bad_X, bad_y in ((X, np.zeros(60)), (np.full_like(X, np.nan), y), (X, y[:-1]), (hidden, y)):
            with pytest.raises(ValueError, match=r"class|NaN|labels|2 masked values"):
                repurposer.repurpose(bad_X, bad_y)
        assert vars(repurposer) == before
        assert repurposer.predict_label(X).shape == (60,)

    def test_a_search_over_parameters_and_cross_validation_run(self) -> None:
        X, y = blobs()
        repurposer = self.make(small_network())
        for data in (X, self.features(repurposer)):
            assert cross_val_score(repurposer, data, y, cv=3).shape == (3,)
            search = GridSearchCV(repurposer, self.grid, cv=2, error_score="raise").fit(data, y)
            assert search.best_params_.keys() == self.grid.keys()
            assert search.predict(data).shape == (60,)

    def test_clones_may_be_fitted_in_threads(self) -> None:
        X, y = blobs()
        repurposer = self.make(small_network(), random_state=0)
        alone = cross_val_score(repurposer, X, y, cv=6)
        with joblib.parallel_config("threading", n_jobs=3):
            assert np.array_equal(cross_val_score(self.make(small_network(), random_state=0), X, y, cv=6), alone)

    def test_the_same_seed_gives_the_same_bits(self) -> None:
        X, y = blobs()
        first, second = (self.make(small_network(), random_state=0).repurpose(X, y) for _ in range(2))
        method = "predict_probability" if hasattr(first, "predict_proba") else "predict_label"
        assert np.array_equal(getattr(first, method)(X), getattr(second, method)(X))

    def judging(self, repurposer: Any) -> Any:
        """With rows to judge by: heads have those of training."""
        return repurposer

    def answers(self, repurposer: Any, data: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
        """All that a trained repurposer says of labelled rows, by question; without what its head cannot know."""
        X, y = data
        asked = {
            "labels": lambda: repurposer.predict_label(X),
            "probabilities": lambda: repurposer.predict_probability(X),
            "total": lambda: repurposer.predict_uncertainty(X, n_draws=5).total,
            "epistemic": lambda: repurposer.predict_uncertainty(X, n_draws=5).epistemic,
            "draws": lambda: repurposer.predict_samples(X, 3),
            "sets": lambda: repurposer.predict_set(X, 0.8).members,
            "intervals": lambda: np.array(list(repurposer.evaluate((X, y), n_bootstrap=4).intervals.values())),
        }
        for method in self.methods:
            asked[method] = lambda method=method: repurposer.unfamiliarity_p_value(X, method)
        found = {}
        for name, question in asked.items():
            with suppress(NotImplementedError):
                found[name] = question()
        return {name: answer for name, answer in found.items() if answer is not None}

    def test_training_with_a_seed_and_every_answer_leave_all_global_generators_alone(self) -> None:
        repurposer, data = self.make(small_network(), random_state=0, **self.quick), blobs(20, seed=1)
        before = global_generators()
        self.answers(self.judging(repurposer.repurpose(*blobs())), data)
        assert global_generators() == before

    def test_without_a_seed_what_was_drawn_is_kept_for_all_threads_and_in_files(self, tmp_path: Any) -> None:
        repurposer, data = self.make(small_network(), random_state=None, **self.quick), blobs(20, seed=1)
        before = global_generators()
        self.judging(repurposer.repurpose(*blobs())).save_repurposer(tmp_path / "saved")
        assert global_generators()[1:] == before[1:]  # None draws from numpy's, in training
        loaded = load(tmp_path / "saved", source_model=small_network())
        before = global_generators()
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda trained: self.answers(trained, data), (repurposer, repurposer)))
        found.append(self.answers(loaded, data))
        assert global_generators() == before
        for other in found[1:]:
            assert other.keys() == found[0].keys()
            assert all(np.array_equal(other[name], answer) for name, answer in found[0].items())

    def test_repr_and_notebook_view_name_the_network_without_its_layers(self) -> None:
        repurposer = self.make(small_network()).repurpose(*blobs())
        text, page = repr(repurposer), repurposer._repr_html_()
        assert "Sequential (83 parameters)" in text
        assert "Sequential (83 parameters)" in page
        assert "Linear(" not in text + page
        assert set(repurposer._repr_mimebundle_()) == {"text/plain", "text/html"}

    def test_every_question_about_uncertainty_has_an_answer_or_none(self) -> None:
        X, y = blobs()
        repurposer = self.make(small_network(), random_state=0).repurpose(X, y)
        new, _ = blobs(n_samples=30, seed=1)
        uncertainty = vars(repurposer.predict_uncertainty(new))
        for name, value in uncertainty.items():
            assert value is None or (value.shape == (30,) and np.isfinite(value).all()), name
            assert value is None or name == "unfamiliarity" or (value >= 0).all(), name
        assert uncertainty["unfamiliarity"] is not None
        if uncertainty["epistemic"] is not None:
            split = uncertainty["aleatoric"] + uncertainty["epistemic"]
            assert np.abs(uncertainty["total"] - split).max() < 1e-9
            assert uncertainty["epistemic"].max() > 0  # never zeros for what is not known
            samples = repurposer.predict_samples(new, 7)
            assert samples.shape == (7, 30, 3)
            assert np.allclose(samples.sum(axis=2), 1, rtol=0, atol=1e-6)
        for method in ("auto", "mahalanobis", "relative_mahalanobis", "knn"):
            assert np.isfinite(repurposer.unfamiliarity(new, method)).all()
            p_values = repurposer.unfamiliarity_p_value(new, method)
            assert ((p_values > 0) & (p_values <= 1)).all()
        evaluation = repurposer.evaluate((X, y), new, n_bootstrap=3)
        assert evaluation.accuracy == repurposer.score(X, y)
        assert evaluation.auroc is not None

    def test_sets_and_calibrated_probabilities_agree_with_each_other_and_survive_saving(self, tmp_path: Any) -> None:
        X, y = blobs()
        repurposer = self.make(small_network(), random_state=0).repurpose(X, y)
        if not hasattr(repurposer, "predict_proba"):
            pytest.skip("no probabilities")
        labels = repurposer.predict_label(X)
        sets = repurposer.calibrate().predict_set(X, 0.8)
        assert np.array_equal(repurposer.predict_label(X), labels)
        assert np.mean([label in labels for label, labels in zip(y, sets)]) > 0.6
        probabilities = repurposer.predict_probability(X)
        assert np.allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-6)
        assert np.array_equal(sets.probabilities, probabilities)
        repurposer.save_repurposer(tmp_path / "saved")
        loaded = load(tmp_path / "saved", source_model=small_network())
        assert np.array_equal(loaded.predict_probability(X), probabilities)
        assert np.array_equal(loaded.predict_set(X, 0.8).members, sets.members)
        expected = repurposer.unfamiliarity_p_value(X, "energy")
        assert np.array_equal(loaded.unfamiliarity_p_value(X, "energy"), expected)

    def test_saved_and_loaded_predictions_are_equal_bit_for_bit(self, tmp_path: Any) -> None:
        X, y = blobs()
        names = np.array(["pear", "apple", "fig"], dtype=object)[y]
        repurposer = self.make(small_network(), batch_size=9).repurpose(X, names)
        repurposer.save_repurposer(tmp_path / "deep" / "saved")
        loaded = load(tmp_path / "deep" / "saved", source_model=small_network())
        assert type(loaded) is type(repurposer)
        assert loaded.get_params().keys() == repurposer.get_params().keys()
        assert loaded.batch_size == 9
        assert loaded.classes_.dtype == repurposer.classes_.dtype
        method = "predict_probability" if hasattr(repurposer, "predict_proba") else "predict_label"
        assert np.array_equal(getattr(loaded, method)(X), getattr(repurposer, method)(X))
        assert np.array_equal(loaded.predict_label(X), repurposer.predict_label(X))
        for trained in (repurposer, loaded):  # a linear layer would take rows of one token
            with pytest.raises(ValueError, match=r"rows of shape \(1, 4\), but .* rows of shape \(4,\) .*X\[:, 0\]"):
                trained.predict_label(X[:, None])
