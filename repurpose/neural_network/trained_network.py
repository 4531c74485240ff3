"""`TrainedNetwork`: predictions and draws of a trained network, and how it is saved; subclasses train it.

Its logits are the "features" from which `uncertainty` computes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from model_handler import Features, Source
from model_handler.data import as_batches, reading_options, refuse_in_prefetching
from model_handler.data.batch import in_order
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.network.device import resolve_device
from model_handler.network.states import state_of
from model_handler.progress import track
from repurpose.data.feature_rows import check_rows
from repurpose.data.inputs import Inputs
from repurpose.data.kinds import is_features
from repurpose.data.padding import without_padding_alone
from repurpose.data.row_shapes import check_row_shapes, failures_blamed_on_sizes, shapes_of_spec
from repurpose.fitted import fitted_attributes
from repurpose.neural_network.architecture import Spec, check_width, like_spec, refuse_label_as_input
from repurpose.neural_network.dropout import DroppingNetwork, drops
from repurpose.neural_network.ensemble import (
    Ensemble,
    MemberProbabilities,
    as_one_network,
    member_probabilities,
    members_of,
)
from repurpose.neural_network.member_logits import MemberLogits
from repurpose.neural_network.restoring import check_groups, check_n_members, set_saved_state
from repurpose.neural_network.saved_training import GROUPS, HISTORY
from repurpose.neural_network.transfer_network import TransferNetwork
from repurpose.persistence.network.fingerprint import fingerprint
from repurpose.persistence.values.codec import NotInFileError
from repurpose.persistence.values.schema import (
    Array,
    By,
    Dict,
    Items,
    Maybe,
    Sizes,
    Table,
    Text,
    Whole,
)
from repurpose.repurposer import Repurposer
from repurpose.seeding import draw_seed, rng_at_prediction
from repurpose.training.data.seeding import SeedPurpose, drawing_from, seed_of
from repurpose.training.plan.parameter_groups import GroupTable
from repurpose.training.plan.unfreezing import let_learn
from repurpose.training.validation import logits_in_batches

__all__ = ["LOGITS", "TrainedNetwork"]

LOGITS = "logits"  # the name of the one layer in the features of a network
_HEAD_HOOKS = ("_predict_probability_from_features",)  # the hooks of heads that every network can do without
_DRAWS_HOOK = "_predict_samples_from_features"  # the one that an ensemble can do without


class TrainedNetwork(TransferNetwork, Repurposer):
    """Base of `NeuralNetworkRepurposer`: predictions by `target_model_`, in evaluation mode."""

    parameter_groups_: GroupTable
    precision: str
    example_inputs_: Spec

    _method_to_export: ClassVar[str] = "energy"  # there are no features of training to measure distances from
    _rows_are_of: ClassVar[str] = "training"  # where `example_inputs_` were seen
    _schema: ClassVar[Table] = {
        "example_inputs_": By(like_spec),
        "n_features_in_": Maybe(Whole()),
        "source_fingerprint_": Maybe(Text()),
        "class_counts_": Maybe(Array("n_classes", dtypes="i", least=1)),
        "parameter_groups_": GROUPS,
        "history_": HISTORY,
        "member_histories_": Maybe(Items(HISTORY)),
        "target_state_": Dict(Text()),
    }

    def _predict_codes(self, data: object) -> tuple[np.ndarray, Any]:
        features = self._features_for_head(data)
        return self._calibrated(self.head_probabilities(features.matrix)).argmax(axis=1), features.labels

    def _predict_probabilities(self, data: object) -> np.ndarray:
        return self._calibrated(self.head_probabilities(self._features_for_head(data).matrix))

    def head_probabilities(self, matrix: np.ndarray) -> np.ndarray:
        return member_probabilities(matrix, len(self.classes_)).mean(axis=0)

    def _onnx_head(self) -> nn.Module | None:
        return MemberProbabilities(len(self.classes_))

    def head_samples(self, matrix: np.ndarray, n_draws: int, random_state: np.random.RandomState) -> np.ndarray:
        members = member_probabilities(matrix, len(self.classes_))
        return members[np.arange(n_draws) % len(members)]

    def _features_and_draws(self, data: object, n_draws: int) -> tuple[Features, Iterator[np.ndarray] | None]:
        """Draw the members of an ensemble in turn, without dropout; of one network, passes with its dropout, if any."""
        if is_features(data) or self._is_ensemble or not drops(self.target_model_):
            return super()._features_and_draws(data, n_draws)
        return Features({LOGITS: np.empty((0, len(self.classes_)))}), self._draws_with_dropout(data, n_draws)

    def _draws_with_dropout(self, data: object, n_draws: int) -> Iterator[np.ndarray]:
        """Yield calibrated probabilities (n_draws, n_rows, n_classes) batch by batch; every row has its own masks."""
        refuse_in_prefetching()
        self._refuse_other_network()
        network, seed = None, draw_seed(rng_at_prediction(self))
        batches = as_batches(data, **self._reading())
        shown = track(batches, description="Predicting", total=batches.n_rows, verbose=self.verbose)
        for number, batch in enumerate(without_padding_alone(shown)):
            with self._judged_inputs(batch.inputs):
                network = network or DroppingNetwork(self.target_model_, batch.inputs, self.precision)
                # a seed for each batch: the draws of a row do not depend on how many draws the rows before it had
                drawing = drawing_from(seed_of(seed, SeedPurpose.DROPOUT_DRAWS, number))
                with drawing, NETWORK_LOCK, torch.no_grad(), batches.watched():
                    values = network.before(batch.inputs)
                    passes = [logits_in_batches(network.rest, values, self.precision) for _ in range(n_draws)]
            logits = torch.stack(passes)[:, :, : len(self.classes_)]
            yield self._calibrated(logits.softmax(dim=-1).cpu().numpy())

    def _n_distinct_draws(self, wanted: int) -> int:
        return len(members_of(self.target_model_)) if self._is_ensemble else wanted

    def _without_draws(self, data: object) -> str:
        if is_features(data) and drops(self.target_model_):
            return "draws by dropout run the network, which Features of its logits cannot do; give the data themselves"
        return (
            f"this {type(self).__name__} has no posterior draws: its network has no dropout layer that acted in "
            "training. Train several networks (num_members=5), or one with nn.Dropout in a part that learns"
        )

    @property
    def _is_ensemble(self) -> bool:
        return len(members_of(self.target_model_)) > 1

    def features_to_judge(self, data: object) -> Features:
        if is_features(data):
            return data.select([LOGITS])
        return self._logits_of_members(data, members_of(self.target_model_), len(self.classes_))

    def _logits_of_members(self, data: object, members: Sequence[nn.Module], n_classes: int) -> Features:
        """Compute `n_classes` logits of each member for each row, side by side, with the labels in the data."""
        refuse_in_prefetching()
        self._refuse_other_network()
        batches = as_batches(data, by_length=True, **self._reading())
        logits, labels, places = [], [], []
        with NETWORK_LOCK, torch.no_grad(), batches.watched():
            shown = track(batches, description="Predicting", total=batches.n_rows, verbose=self.verbose)
            for batch in without_padding_alone(shown):
                rows = [self._logits(batch.inputs, member)[:, :n_classes] for member in members]
                logits.append(torch.cat(rows, dim=1).cpu().numpy())
                labels += [] if batch.labels is None else [batch.labels]
                places.append(batch.places)
        given = in_order(np.concatenate(labels), places) if labels else None
        return Features({LOGITS: in_order(np.concatenate(logits), places)}, given)

    def _features_for_head(self, data: object) -> Features:
        """Compute the logits of `classes_` for each row, those of members side by side, with the labels in the data.

        A Features of logits is taken as it is.
        """
        features = self.features_to_judge(data)
        if not is_features(data):
            check_rows(features)
        return features

    def _logits(self, inputs: Inputs, network: nn.Module) -> Tensor:
        """Compute the logits of one batch by a network.

        Raises ValueError for rows of another shape or kind than in training, ModelError naming the layer that fails.
        """
        with self._judged_inputs(inputs):
            return logits_in_batches(network, inputs, self.precision)

    @contextmanager
    def _judged_inputs(self, inputs: Inputs) -> Iterator[None]:
        """Run a network on a batch in this block. Raises ValueError for rows unlike those of training.

        Those of other sizes are refused where the network fails on them.
        """
        name, learned = type(self).__name__, shapes_of_spec(self.example_inputs_)
        check_row_shapes(inputs, learned, name, since=self._rows_are_of)
        check_width(inputs, vars(self).get("n_features_in_"), name)
        refuse_label_as_input(inputs, self.example_inputs_)
        with failures_blamed_on_sizes(inputs, learned, name, since=self._rows_are_of):
            yield

    def _network_for_file(self, example_inputs: object) -> nn.Module:
        self._refuse_other_network()
        return MemberLogits(members_of(self.target_model_), len(self.classes_))

    def _reading(self) -> dict[str, Any]:
        """Return the options of `as_batches` for all data, in training and in prediction."""
        source = self._open_source()
        own = source.transform if isinstance(source, Source) else None
        device = resolve_device(self.device, self._source_network())
        return reading_options(self.transform or own, self.batch_size, self.num_workers, device)

    def _sizes_of(self, learned: Mapping[str, Any]) -> Sizes:
        sizes, histories = super()._sizes_of(learned), learned.get("member_histories_", [None])
        n_members = len(histories) if isinstance(histories, list) else 0
        return {**sizes, "n_features": n_members * sizes["n_classes"]}  # logits are the features of a head

    def _check_restored(self) -> None:
        super()._check_restored()
        shapes, n_features = shapes_of_spec(self.example_inputs_), vars(self).get("n_features_in_")
        if n_features is not None and shapes != (n_features,):
            raise ValueError(f"its rows have the shape {str(shapes)[:60]} and {str(n_features)[:20]} features")

    def _defines(self, hook: str) -> bool:
        return hook in _HEAD_HOOKS or (hook == _DRAWS_HOOK and self._is_ensemble)

    def _without_training_rows(self) -> str:
        return (
            "a network is not trained again without some of its rows, and keeps none of them: give rows that were not "
            'used in training, calibrate(data) or conformalize(data), and for unfamiliarity ask method="energy"'
        )

    def _learned_for_file(self) -> dict[str, Any]:
        learned = {name: value for name, value in fitted_attributes(self).items() if not isinstance(value, nn.Module)}
        state, again = state_of(self.target_model_), self._made_again(self.target_model_)
        if again:
            self._refuse_other_source("was changed after training, so that it would not be made again as it was")
        return {**learned, "target_state_": {name: value for name, value in state.items() if name not in again}}

    def _names_made_again(self, names: Collection[str]) -> set[str]:
        """Hook, optional: those of the names in a network's state whose values come from elsewhere than the file.

        The hook that makes the network makes them again, with the same values, or `_take_from_file` sets them.
        """
        return set()

    def _refuse_other_source(self, reason: str) -> None:
        """Raise NotInFileError unless the source network, of which a file has no weights, is that of training."""
        wanted, found = str(vars(self).get("source_fingerprint_")), fingerprint(self._source_network())
        if found != wanted:
            raise NotInFileError(
                f"source_model {reason}: its fingerprint is {found[:12]}, and in training it was {wanted[:12]}"
            )

    def _made_again(self, module: nn.Module) -> dict[str, Any]:
        """Return the part of a network's state that is not in the file."""
        state, is_ensemble = state_of(module), isinstance(module, Ensemble)
        own_names = {name: name.split(".", 2)[2] if is_ensemble else name for name in state}  # of "members.0.fc.weight"
        again = self._names_made_again(set(own_names.values()))
        return {name: value for name, value in state.items() if own_names[name] in again}

    def _take_from_file(self, learned: Mapping[str, Any]) -> None:
        super()._take_from_file({name: value for name, value in learned.items() if name != "target_state_"})
        if "source_fingerprint_" in learned:
            self._refuse_other_source("is not the network of training, whose weights are not in the file")
        with drawing_from(0):  # what the hook draws is overwritten below, and the user's generators are not moved by it
            n_members = len(learned.get("member_histories_", [None]))
            example = like_spec(self.example_inputs_)
            first = self._create_module(example)
            names = state_of(first).keys() - self._made_again(first).keys()
            check_n_members(n_members, len(names), learned["target_state_"])
            module = as_one_network([first, *(self._create_module(example) for _ in range(n_members - 1))])
        set_saved_state(module, {**learned["target_state_"], **self._made_again(module)}, type(self).__name__)
        check_groups(self.parameter_groups_, first)
        # Layers that a learning rate of 0 held in evaluation mode in training are held again: Monte Carlo dropout asks
        # which dropout layers acted.
        for member in members_of(module):
            let_learn(member, self.parameter_groups_, max(group.from_epoch for group in self.parameter_groups_))
        self.target_model_ = module.eval()
