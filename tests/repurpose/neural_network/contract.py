"""What every network Repurposer promises, beside the common contract; the parts that differ from heads are here."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from repurpose import load
from tests.repurpose.contract import RepurposerContract
from tests.repurpose.examples import blobs, small_network


class NetworkContract(RepurposerContract):
    """Inherit, and define `make` and `grid`; networks are trained on rows, not on features."""

    methods = ("energy",)
    quick = {"num_epochs": 2}  # noqa: RUF012

    def judging(self, repurposer: Any) -> Any:
        return repurposer.conformalize(*blobs(seed=2))

    def features(self, repurposer: Any) -> Any:
        return blobs()[0]

    def test_every_kind_of_data_gives_the_same_result(self) -> None:
        """A loader keeps its order, so it is compared with the loader's rows given in that order elsewhere."""
        X, y = blobs()
        pairs = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
        network = small_network()
        kinds = [(X, y), (torch.from_numpy(X), torch.from_numpy(y)), pairs]
        predictions = [self.make(network, random_state=0).repurpose(data).predict_probability(data) for data in kinds]
        predictions.append(self.make(network, random_state=0).repurpose(X, y).predict_probability(X))
        assert all(np.array_equal(predictions[0], other) for other in predictions)
        loader = DataLoader(pairs, batch_size=20)
        assert self.make(network, random_state=0).repurpose(loader).score(loader) > 0.5

    def test_every_question_about_uncertainty_has_an_answer_or_none(self, tmp_path: Any) -> None:
        X, y = blobs()
        repurposer = self.make(small_network(), random_state=0).repurpose(X, y)
        new, _ = blobs(n_samples=30, seed=1)
        uncertainty = repurposer.predict_uncertainty(new)
        assert uncertainty.total.shape == (30,)
        assert np.isfinite(repurposer.unfamiliarity(new, "energy")).all()
        assert set(repurposer.predict_label(X, abstain_below=0.99)) <= {0, 1, 2, None}
        for call in (repurposer.calibrate, lambda: repurposer.predict_set(X), lambda: repurposer.unfamiliarity(X)):
            with pytest.raises(ValueError, match=r"calibrate\(data\) or conformalize\(data\)"):
                call()
        evaluation = repurposer.evaluate((X, y), new, method="energy", n_bootstrap=3)
        assert evaluation.accuracy == repurposer.score(X, y)
        assert evaluation.auroc is not None

    def test_sets_and_calibrated_probabilities_agree_with_each_other_and_survive_saving(self, tmp_path: Any) -> None:
        X, y = blobs()
        repurposer = self.make(small_network(), random_state=0).repurpose(X, y)
        labels = repurposer.predict_label(X)
        fresh = blobs(seed=0, n_samples=200)
        repurposer.calibrate(fresh).conformalize(fresh)
        assert np.array_equal(repurposer.predict_label(X), labels)
        sets = repurposer.predict_set(X, 0.8)
        assert np.mean([label in labels for label, labels in zip(y, sets)]) > 0.6
        assert np.array_equal(sets.probabilities, repurposer.predict_probability(X))
        repurposer.save_repurposer(tmp_path / "saved")
        loaded = load(tmp_path / "saved", source_model=small_network())
        assert np.array_equal(loaded.predict_set(X, 0.8).members, sets.members)
        expected = repurposer.unfamiliarity_p_value(X, "energy")
        assert np.array_equal(loaded.unfamiliarity_p_value(X, "energy"), expected)

    def test_the_source_network_is_bit_identical_afterwards(self) -> None:
        network = small_network().train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        self.make(network, random_state=0).repurpose(*blobs())
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert network.training
        assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())

    def test_predictions_do_not_depend_on_the_size_of_batches(self) -> None:
        X, y = blobs()
        repurposer = self.make(small_network(), random_state=0).repurpose(X, y)
        expected = repurposer.predict_probability(X)
        assert np.abs(repurposer.set_params(batch_size=1).predict_probability(X) - expected).max() < 1e-6

    def test_features_are_refused_with_what_to_give(self) -> None:
        from tests.repurpose.examples import blob_features

        with pytest.raises(TypeError, match="trains a network, which takes inputs"):
            self.make(small_network()).repurpose(blob_features())

    def test_the_groups_can_be_looked_at_before_training(self) -> None:
        repurposer = self.make(small_network(), random_state=0)
        table = repurposer.parameter_groups(*blobs())
        assert {"new", "transferred"} == {group.name for group in table}
        assert not hasattr(repurposer, "classes_")
        assert str(repurposer.repurpose(*blobs()).parameter_groups()) == str(table)
