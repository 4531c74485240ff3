"""`PluggedInRepurposer`: the owner's network with an adapter and a head that were tuned elsewhere."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import torch
from torch import Tensor, nn

from model_handler import ModelError
from model_handler.network.states import state_of
from repurpose.data.class_names import class_names
from repurpose.data.inputs import Inputs
from repurpose.neural_network.architecture import Spec, like_spec
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.offsite.heads import with_new_head
from repurpose.offsite.plugging import Plug
from repurpose.persistence.network.fingerprint import fingerprint
from repurpose.persistence.values.schema import Either, Items, Nothing, Table, Text, Truth, Whole
from repurpose.training.data.seeding import drawing_from
from repurpose.training.history import History
from repurpose.training.plan.parameter_groups import GroupTable, ParameterGroup
from repurpose.training.plan.unfreezing import let_learn

__all__ = ["PluggedInRepurposer"]


class PluggedInRepurposer(NeuralNetworkRepurposer):
    """What `OffsiteOwner.plug_in` gives: the owner's network, its first and last blocks and its head tuned elsewhere.

    It predicts, is evaluated and is saved as any other Repurposer; its file holds adapter and head alone, so that the
    owner's network is given when it is loaded. It cannot be trained: `repurpose` raises ModelError.

    Attributes
    ----------
    adapter_names_ : tuple of str
        The parameters of `target_model_` that are not the owner's: those of the adapter's blocks and of the head.
    head_path_ : str or None
        Where the head is in the owner's network; None for a head on top.
    head_width_ : int
        How many outputs it has.
    head_has_bias_ : bool

    Examples
    --------
    >>> import torch
    >>> from repurpose.offsite import PluggedInRepurposer
    >>> PluggedInRepurposer(torch.nn.Linear(4, 2)).repurpose((torch.rand(4, 4), [0, 1, 0, 1]))
    Traceback (most recent call last):
        ...
    model_handler.errors.ModelError: PluggedInRepurposer was tuned elsewhere and is not trained: ...
    """

    adapter_names_: tuple[str, ...]
    head_path_: str | None
    head_width_: int
    head_has_bias_: bool

    _rows_are_of = "the owner's example_inputs"
    _schema: ClassVar[Table] = {
        "adapter_names_": Items(Text(), kind=tuple),
        "head_path_": Either(Nothing(), Text()),
        "head_width_": Whole(1),
        "head_has_bias_": Truth(),
    }

    @classmethod
    def made_of(
        cls,
        parameters: Mapping[str, Any],
        spec: Spec,
        plug: Plug,
        head_path: str | None,
    ) -> Self:
        """Plug the weights of an adapter and of a head into a copy of the owner's network.

        `parameters` are those of the Repurposer, with the owner's `source_model`; `spec` is of two example rows;
        `head_path` is where the head goes, None for on top.
        """
        made = cls(**parameters)
        made.example_inputs_, made.head_path_ = spec, head_path
        made.head_width_, made.head_has_bias_ = len(plug.head["weight"]), "bias" in plug.head
        made.classes_ = np.array(plug.classes)
        made.class_names_ = class_names(None, made.classes_)
        with drawing_from(0):  # what a new head draws is overwritten below, and the user's generators are not moved
            network = made._create_module(like_spec(spec))
        path = head_path or _path_of_new_head(network, made._source_network())
        new = {**plug.blocks, **{f"{path}.{name}": value for name, value in plug.head.items()}}
        own = dict(network.named_parameters())
        with torch.no_grad():
            for name, value in new.items():
                own[name].copy_(value)
        made.adapter_names_ = tuple(name for name in own if name in new)
        made.parameter_groups_ = _groups(own, made.adapter_names_)
        let_learn(network, made.parameter_groups_, 0)  # Monte Carlo dropout asks which dropout layers acted
        made.history_ = History(ending="the adapter and the head were tuned elsewhere")
        made.source_fingerprint_ = fingerprint(made._source_network())
        made.target_model_ = network.eval()
        made._note_training()
        return made

    def _learn(self, data: object, validation_data: object = None, **further: object) -> NoReturn:
        raise ModelError(
            f"{type(self).__name__} was tuned elsewhere and is not trained: the data owner tunes an OffsiteRepurposer, "
            "and NeuralNetworkFineTuneRepurposer(plugged_in.target_model_, ...) trains the whole network"
        )

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        handler = self._handler_for(example_inputs)
        return with_new_head(handler, self.head_path_, self.head_width_, bias=self.head_has_bias_)

    def _names_made_again(self, names: Collection[str]) -> set[str]:
        return state_of(self._source_network()).keys() & set(names) - set(self.adapter_names_)

    def _take_from_file(self, learned: Mapping[str, Any]) -> None:
        # a file of a few bytes shall not ask for a head that fills the memory
        widths = {len(value) for value in learned["target_state_"].values() if isinstance(value, Tensor) and value.ndim}
        if learned["head_width_"] not in widths:
            raise ValueError(f"it has no head of {learned['head_width_']} outputs")
        super()._take_from_file(learned)


def _path_of_new_head(network: nn.Module, source: nn.Module) -> str:
    """Return the path of the one module with weights that the source does not have."""
    names = network.state_dict().keys() - source.state_dict().keys()
    (path,) = {name.rpartition(".")[0] for name in names}
    return path


def _groups(parameters: Mapping[str, Tensor], tuned: Sequence[str]) -> GroupTable:
    """Make the table of what learned; at which rate is not known here."""
    frozen = tuple(name for name in parameters if name not in tuned)

    def count(names: Sequence[str]) -> int:
        return sum(parameters[name].numel() for name in names)

    return GroupTable(
        (ParameterGroup("tuned elsewhere", 0.0, 0.0, 0, tuple(tuned), count(tuned)),), frozen, count(frozen)
    )
