"""`TrainedNetwork`: what a trained network answers, and how it is saved; how it is trained is left to subclasses.

Its logits are the "features" from which the questions about uncertainty are answered.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler import Features, Source
from model_handler.data import Batches, as_batches, refuse_loading_ahead
from model_handler.engine import NETWORK_LOCK
from model_handler.failures import explain_failure
from model_handler.inputs import default_input_names, named_inputs
from model_handler.progress import track
from model_handler.replica import resolve_device
from repurpose.fitted import fitted_attributes
from repurpose.meta_model.checks import check_rows
from repurpose.neural_network.architecture import check_width, zeros_of
from repurpose.neural_network.task import make_target_module
from repurpose.repurposer import Repurposer
from repurpose.source import open_source
from repurpose.training.validation import logits_in_batches

__all__ = ["LOGITS", "TrainedNetwork"]

LOGITS = "logits"  # the name of the one layer in the features of a network
_ANSWERS = ("_predict_probability_from_features",)  # which hooks of heads a network has an answer in place of
_MAKE_THE_LOGITS = ("source_model", "transform")


class TrainedNetwork(Repurposer):
    """Base of `NeuralNetworkRepurposer`: predictions by `target_model_`, in evaluation mode."""

    target_model_: nn.Module
    precision: str

    def _predict_codes(self, data: Any) -> tuple[np.ndarray, Any]:
        features = self._features_for_head(data)
        return self._calibrated(self._checked_probabilities(features.matrix)).argmax(axis=1), features.labels

    def _predict_probabilities(self, data: Any) -> np.ndarray:
        return self._calibrated(self._checked_probabilities(self._features_for_head(data).matrix))

    def _checked_probabilities(self, matrix: np.ndarray) -> np.ndarray:
        return torch.from_numpy(matrix).softmax(dim=1).numpy()

    def _features_for_head(self, data: Any) -> Features:
        """The logits of `classes_` for each row, in order, with the labels in the data; a Features of them as it is."""
        if isinstance(data, Features):
            return data.select([LOGITS])
        refuse_loading_ahead()
        self._refuse_other_network()
        batches = self._as_batches(data)
        logits, labels = [], []
        with NETWORK_LOCK, torch.inference_mode():
            for batch in track(batches, description="Predicting", total=batches.n_rows, verbose=self.verbose):
                logits.append(self._logits(batch.inputs)[:, : len(self.classes_)].cpu().numpy())
                labels += [] if batch.labels is None else [batch.labels]
        features = Features({LOGITS: np.concatenate(logits)}, np.concatenate(labels) if labels else None)
        check_rows(features)
        return features

    def _logits(self, inputs: Any) -> Tensor:
        """The logits of one batch. Raises ValueError for rows of another width than in training, ModelError naming the
        layer that fails on the inputs.
        """
        check_width(inputs, vars(self).get("n_features_in_"), type(self).__name__)
        try:
            return logits_in_batches(self.target_model_, inputs, self.precision)
        except RuntimeError as error:
            names = default_input_names(self.target_model_)
            explain_failure(self.target_model_, named_inputs(self.target_model_, inputs, names), error)
            raise

    def _source_network(self) -> nn.Module:
        source = open_source(self.source_model)
        return source.network if isinstance(source, Source) else source

    def _reading(self) -> dict[str, Any]:
        """The options of `as_batches`."""
        source = open_source(self.source_model)
        own = source.transform if isinstance(source, Source) else None
        return {
            "transform": self.transform or own,
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "pin_memory": resolve_device(self.device, self._source_network()).type == "cuda",
        }

    def _as_batches(self, data: Any) -> Batches:
        return as_batches(data, **self._reading())

    def _note_training(self) -> None:
        self._made_with = {name: getattr(self, name) for name in _MAKE_THE_LOGITS}

    def _refuse_other_network(self) -> None:
        """Raise ValueError if what makes the inputs was changed after training."""
        made_with = vars(self).get("_made_with", {})
        if changed := [name for name, value in made_with.items() if getattr(self, name) is not value]:
            raise ValueError(f"{', '.join(changed)} changed after training; call repurpose again, or set the old value")

    def _defines(self, hook: str) -> bool:
        return hook in _ANSWERS

    def _without_training_rows(self) -> str:
        return (
            "a network is not trained again without some of its rows, and keeps none of them: give rows that were not "
            'used in training, calibrate(data) or conformalize(data), and for unfamiliarity ask method="energy"'
        )

    def _learned_for_file(self) -> dict[str, Any]:
        learned = {name: value for name, value in fitted_attributes(self).items() if not isinstance(value, nn.Module)}
        return {**learned, "target_state_": dict(self.target_model_.state_dict())}

    def _take_from_file(self, learned: Mapping[str, Any]) -> None:
        super()._take_from_file({name: value for name, value in learned.items() if name != "target_state_"})
        with torch.random.fork_rng():
            module = make_target_module(self, zeros_of(self.example_inputs_))
        try:
            module.load_state_dict(learned["target_state_"])
        except RuntimeError as error:
            raise ValueError(
                f"the network that {type(self).__name__} makes is not the one that was saved: {error}"
            ) from error
        self.target_model_ = module.eval()
