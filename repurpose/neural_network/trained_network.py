"""`TrainedNetwork`: what a trained network answers, and how it is saved; how it is trained is left to subclasses.

Its logits are the "features" from which the questions about uncertainty are answered.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler import Features, Source
from model_handler.data import Batches, as_batches, refuse_loading_ahead
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.network.device import resolve_device
from model_handler.network.states import load_state, state_of
from model_handler.progress import track
from repurpose.data.row_shapes import check_row_shapes, shapes_of_spec
from repurpose.fitted import fitted_attributes
from repurpose.meta_model.checks import check_rows
from repurpose.neural_network.architecture import check_width, like_spec, refuse_label_as_input
from repurpose.neural_network.dropout import DroppingNetwork, drops
from repurpose.neural_network.ensemble import joined, member_probabilities, members_of
from repurpose.neural_network.task import make_target_module
from repurpose.repurposer import Repurposer
from repurpose.seeding import chance_at_prediction, draw_seed
from repurpose.source import open_source
from repurpose.training.data.seeding import drawing_from, seed_of
from repurpose.training.plan.groups import GroupTable
from repurpose.training.plan.unfreezing import let_learn
from repurpose.training.validation import logits_in_batches

__all__ = ["LOGITS", "TrainedNetwork"]

LOGITS = "logits"  # the name of the one layer in the features of a network
_ANSWERS = ("_predict_probability_from_features",)  # which hooks of heads a network has an answer in place of
_DRAWS = "_predict_samples_from_features"  # where the network is an ensemble
_DROPPING = 20  # a purpose of seeds, beside those of `task`
_MAKE_THE_LOGITS = ("source_model", "transform")


class TrainedNetwork(Repurposer):
    """Base of `NeuralNetworkRepurposer`: predictions by `target_model_`, in evaluation mode."""

    target_model_: nn.Module
    parameter_groups_: GroupTable
    precision: str
    example_inputs_: Any

    def _predict_codes(self, data: Any) -> tuple[np.ndarray, Any]:
        features = self._features_for_head(data)
        return self._calibrated(self._checked_probabilities(features.matrix)).argmax(axis=1), features.labels

    def _predict_probabilities(self, data: Any) -> np.ndarray:
        return self._calibrated(self._checked_probabilities(self._features_for_head(data).matrix))

    def _checked_probabilities(self, matrix: np.ndarray) -> np.ndarray:
        return member_probabilities(matrix, len(self.classes_)).mean(axis=0)

    def _checked_samples(self, matrix: np.ndarray, n_draws: int, random_state: np.random.RandomState) -> np.ndarray:
        members = member_probabilities(matrix, len(self.classes_))
        return members[np.arange(n_draws) % len(members)]

    def _features_and_draws(self, data: Any, n_draws: int) -> tuple[Features, Iterator[np.ndarray] | None]:
        """Of an ensemble its members in turn, without dropout; of one network passes with dropout, if it has any."""
        if isinstance(data, Features) or self._is_ensemble or not drops(self.target_model_):
            return super()._features_and_draws(data, n_draws)
        return Features({LOGITS: np.empty((0, len(self.classes_)))}), self._draws_with_dropout(data, n_draws)

    def _draws_with_dropout(self, data: Any, n_draws: int) -> Iterator[np.ndarray]:
        """Calibrated probabilities (n_draws, n_rows, n_classes) of each batch; every row has masks of its own."""
        refuse_loading_ahead()
        self._refuse_other_network()
        network, seed = None, draw_seed(chance_at_prediction(self))
        batches = self._as_batches(data)
        shown = track(batches, description="Predicting", total=batches.n_rows, verbose=self.verbose)
        for number, batch in enumerate(shown):
            self._judge_inputs(batch.inputs)
            network = network or DroppingNetwork(self.target_model_, batch.inputs, self.precision)
            drawing = drawing_from(seed_of(seed, _DROPPING, number))
            with drawing, NETWORK_LOCK, torch.no_grad(), batches.watched():
                values = network.before(batch.inputs)
                passes = [logits_in_batches(network.rest, values, self.precision) for _ in range(n_draws)]
            logits = torch.stack(passes)[:, :, : len(self.classes_)]
            yield self._calibrated(logits.softmax(dim=-1).cpu().numpy())

    def _n_distinct_draws(self, wanted: int) -> int:
        return len(members_of(self.target_model_)) if self._is_ensemble else wanted

    def _without_draws(self, data: Any) -> str:
        if isinstance(data, Features) and drops(self.target_model_):
            return "draws by dropout run the network, which Features of its logits cannot do; give the data themselves"
        return (
            f"this {type(self).__name__} has no posterior draws: its network has no dropout layer that acted in "
            "training. Train several networks (num_members=5), or one with nn.Dropout in a part that learns"
        )

    @property
    def _is_ensemble(self) -> bool:
        return len(members_of(self.target_model_)) > 1

    def _features_for_head(self, data: Any) -> Features:
        """The logits of `classes_` for each row, those of members side by side, with the labels in the data.

        A Features of them is taken as it is.
        """
        if isinstance(data, Features):
            return data.select([LOGITS])
        refuse_loading_ahead()
        self._refuse_other_network()
        batches = self._as_batches(data)
        logits, labels = [], []
        with NETWORK_LOCK, torch.no_grad(), batches.watched():
            for batch in track(batches, description="Predicting", total=batches.n_rows, verbose=self.verbose):
                members = members_of(self.target_model_)
                rows = [self._logits(batch.inputs, member)[:, : len(self.classes_)] for member in members]
                logits.append(torch.cat(rows, dim=1).cpu().numpy())
                labels += [] if batch.labels is None else [batch.labels]
        features = Features({LOGITS: np.concatenate(logits)}, np.concatenate(labels) if labels else None)
        check_rows(features)
        return features

    def _logits(self, inputs: Any, network: nn.Module) -> Tensor:
        """The logits of one batch by a network.

        Raises ValueError for rows of another shape or kind than in training, ModelError naming the layer that fails.
        """
        self._judge_inputs(inputs)
        return logits_in_batches(network, inputs, self.precision)

    def _judge_inputs(self, inputs: Any) -> None:
        """Raise ValueError for rows unlike those of training."""
        check_row_shapes(inputs, shapes_of_spec(self.example_inputs_), type(self).__name__)
        check_width(inputs, vars(self).get("n_features_in_"), type(self).__name__)
        refuse_label_as_input(inputs, self.example_inputs_)

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
        return hook in _ANSWERS or (hook == _DRAWS and self._is_ensemble)

    def _without_training_rows(self) -> str:
        return (
            "a network is not trained again without some of its rows, and keeps none of them: give rows that were not "
            'used in training, calibrate(data) or conformalize(data), and for unfamiliarity ask method="energy"'
        )

    def _learned_for_file(self) -> dict[str, Any]:
        learned = {name: value for name, value in fitted_attributes(self).items() if not isinstance(value, nn.Module)}
        return {**learned, "target_state_": state_of(self.target_model_)}

    def _take_from_file(self, learned: Mapping[str, Any]) -> None:
        super()._take_from_file({name: value for name, value in learned.items() if name != "target_state_"})
        with drawing_from(0):
            n_members = len(learned.get("member_histories_", [None]))
            module = joined([make_target_module(self, like_spec(self.example_inputs_)) for _ in range(n_members)])
        for member in members_of(module):  # what a learning rate of 0 held in evaluation mode
            let_learn(member, self.parameter_groups_, max(group.from_epoch for group in self.parameter_groups_))
        try:
            load_state(module, learned["target_state_"])
        except RuntimeError as error:
            raise ValueError(
                f"the network that {type(self).__name__} makes is not the one that was saved: {error}"
            ) from error
        self.target_model_ = module.eval()
