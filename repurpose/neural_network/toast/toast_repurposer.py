"""`ToastRepurposer`: a frozen network that is steered from its top down, by what learns beside it."""

import logging
from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any, ClassVar

import numpy as np
from torch import nn

from model_handler import ModelError, ModelHandler, Source
from model_handler.extraction.channel_layout import Layout
from model_handler.extraction.pooling import Pooling
from model_handler.network.ambient_modes import undisturbed
from repurpose.data.inputs import Inputs
from repurpose.neural_network.ensemble import members_of
from repurpose.neural_network.heads import class_count_mistakes, end_mistakes, width_of_head
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.neural_network.toast.attention_maps import attention_of
from repurpose.neural_network.toast.closed_selection import warn_of_closed_selection
from repurpose.neural_network.toast.ended_network import ended_network, example_on
from repurpose.neural_network.toast.first_pass import SelfSplitting
from repurpose.neural_network.toast.places import Places, find_places
from repurpose.neural_network.toast.pretuning import ToastPretuning, is_kept_by_lite, opened_pretuning
from repurpose.parameters import is_whole
from repurpose.persistence.values.codec import NotInFileError
from repurpose.persistence.values.schema import Maybe, Table, Text
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.task import Task

__all__ = ["ToastRepurposer"]

_LOG = logging.getLogger(__name__)


class ToastRepurposer(NeuralNetworkRepurposer):
    """Steers a frozen network: it runs twice, the second time with what the first has to do with the task fed back.

    TOAST, of Shi, Gai, Darrell and Wang (2023), arXiv:2305.15542. What the last block gives is weighted by how near it
    is to an embedding xi of the task, fed back through linear maps from block to block, and added to the values of
    attention in each one, or in a ConvNet to what each stage reads. These maps and a new linear layer learn; the
    network never does. The paper pre-tunes the maps on generic data first: see `pretune`.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name: one with a chain of blocks, `ModelHandler.blocks`.
    lite : bool, default=False
        Whether of each map only an update of low rank learns (TOAST-Lite): a twentieth of the parameters.
    rank : int, default=4
        The rank of these updates.
    pretuned : ToastPretuning, str or path, optional
        What `pretune` gave, or the file that it was saved to.
    transfer_layer_name : str, optional
        The layer whose output the new linear layer reads, a module behind the last block; by default what the last
        linear layer of the network reads.
    target_class_count : int, optional
        The width of the new layer; by default the number of classes seen in training.
    pooling : str or callable, default="auto"
        How maps and tokens become a row before the new layer, as in `ModelHandler.extract`.
    **kwargs
        The parameters of `NeuralNetworkRepurposer` and `Repurposer`.

    Examples
    --------
    >>> import torch
    >>> from torchvision.models import VisionTransformer
    >>> from repurpose import ToastRepurposer
    >>> network = VisionTransformer(16, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16)
    >>> X, y = torch.rand(8, 3, 16, 16), [0, 1] * 4
    >>> repurposer = ToastRepurposer(network, num_epochs=1).repurpose((X, y))
    >>> repurposer.predict_probability(X).shape
    (8, 2)
    """

    _used_in_training_only = (*NeuralNetworkRepurposer._used_in_training_only, "pretuned")

    _schema: ClassVar[Table] = {"pretuned_fingerprint_": Maybe(Text())}

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        lite: bool = False,
        rank: int = 4,
        pretuned: ToastPretuning | str | PathLike | None = None,
        transfer_layer_name: str | None = None,
        target_class_count: int | None = None,
        *,
        pooling: Pooling = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, **kwargs)
        self.lite = lite
        self.rank = rank
        self.pretuned = pretuned
        self.transfer_layer_name = transfer_layer_name
        self.target_class_count = target_class_count
        self.pooling = pooling

    def pretune(self, source_data: object, reconstruction: float | None = None) -> ToastPretuning:
        """Train xi and the maps on generic data, for any number of tasks: `ToastRepurposer(..., pretuned=...)`.

        What is made small is the loss of classification plus `reconstruction` times the mean squared error with which
        A_l makes the input of each block from its output, summed over blocks. Classes are told apart by the network's
        own last layer where the labels are whole numbers below the number of its outputs, else by a new one, which is
        not kept. Everything else is as in `repurpose`, by the parameters of this Repurposer, which stays as it is.

        Parameters
        ----------
        source_data : as `data` in `repurpose`
            Labelled data of many kinds, such as the network was trained on.
        reconstruction : float, optional
            The paper's lambda; by default 0.1 for transformers and 0.01 for ConvNets.

        Examples
        --------
        >>> import torch
        >>> from torchvision.models import VisionTransformer
        >>> from repurpose import ToastRepurposer
        >>> network = VisionTransformer(16, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=5)
        >>> generic = torch.rand(10, 3, 16, 16), [0, 1, 2, 3, 4] * 2
        >>> pretuned = ToastRepurposer(network, num_epochs=1).pretune(generic)
        >>> ToastRepurposer(network, lite=True, pretuned=pretuned).pretuned.network
        'VisionTransformer'
        """
        from repurpose.neural_network.toast.pretuner import pretune

        return pretune(self, source_data, reconstruction)

    @undisturbed()
    def attention_maps(self, data: object, before: bool = False) -> np.ndarray:
        """Return what the network looks at in each row, after steering, or `before` it in its first pass.

        For images (n_rows, height, width) in patches, for texts (n_rows, n_tokens): the attention of the class token in
        the last block, the mean over its heads, and without a class token the mean over all tokens that look. For
        ConvNets how much of each position the pass selects, from 0 to 1.

        >>> import torch
        >>> from torchvision.models import VisionTransformer
        >>> from repurpose import ToastRepurposer
        >>> network = VisionTransformer(16, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16)
        >>> X, y = torch.rand(8, 3, 16, 16), [0, 1] * 4
        >>> ToastRepurposer(network, num_epochs=1).repurpose((X, y)).attention_maps(X).shape
        (8, 2, 2)
        """
        judged = self._judged(data)
        self._refuse_other_network()
        members = members_of(self.target_model_)
        return attention_of(members, judged, self._reading(), before=before, judged=self._judged_inputs)

    def merged_module(self) -> nn.Module:
        """Raise ModelError: what TOAST learns depends on each input, and cannot be merged into weights."""
        raise ModelError(
            "TOAST cannot be merged into the network: what it adds is made of each input in a first pass, and is no "
            "change of weights; target_model_ is the network with both passes, AdapterRepurposer has what merges"
        )

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        handler = self._handler_for(example_inputs)
        example = example_on(handler.network, example_inputs)
        network = ended_network(handler, self.transfer_layer_name, example)
        places = find_places(handler, network, example)
        rank = self._rank_for(places) if self.lite else None
        layout = self._layout_of_output(handler)
        module = SelfSplitting(network, places, rank=rank, pooling=self.pooling, layout=layout)
        return module.with_head(width_of_head(self.target_class_count, self.classes_), example)

    def _layout_of_output(self, handler: ModelHandler) -> Layout | None:
        """Tell where the layer that is transferred has its channels, ending the network of a handler there."""
        return handler.truncate(self.transfer_layer_name).output_layout if self.transfer_layer_name else None

    def _prepare_task(
        self,
        data: object,
        validation_data: object = None,
        *,
        seed: int | None = None,
        member: int = 0,
        groups: np.ndarray | None = None,
    ) -> Task:
        task = super()._prepare_task(data, validation_data, seed=seed, member=member, groups=groups)
        self._begin_from_pretuning(task.module, is_first=not member)
        return task

    def _learn_with(
        self, process_group: ProcessGroup, data: object, validation_data: object, further: Mapping[str, Any]
    ) -> None:
        super()._learn_with(process_group, data, validation_data, further)
        if process_group.is_main_process:
            rate = max(group.learning_rate for group in self.parameter_groups_)
            warn_of_closed_selection(members_of(self.target_model_), data, self._reading(), rate)

    def _begin_from_pretuning(self, module: nn.Module, *, is_first: bool) -> None:
        """Set what is pre-tuned, in place. Raises ValueError where that was made for another network."""
        pretuning = opened_pretuning(self.pretuned)
        if pretuning is not None:
            pretuning.check(module, self._source_network())
            pretuning.copy_to(module)
            self.pretuned_fingerprint_ = pretuning.fingerprint
        elif is_first:
            _LOG.info("TOAST learns without pre-tuning, which the paper found weaker: pretune(source_data) makes one")

    def _names_made_again(self, names: Collection[str]) -> set[str]:
        # the network is the source's, and what TOAST-Lite leaves as it was is the pre-tuning's
        has_pretuning = self.lite and hasattr(self, "pretuned_fingerprint_")
        return {name for name in names if name.startswith("network.") or (has_pretuning and is_kept_by_lite(name))}

    def _take_from_file(self, learned: Mapping[str, Any]) -> None:
        super()._take_from_file(learned)
        if not self.lite or (wanted := learned.get("pretuned_fingerprint_")) is None:
            return
        if (pretuning := self._found_pretuning(wanted)).fingerprint != wanted:
            raise NotInFileError(
                f"pretuned is not the pre-tuning that it was trained on: its fingerprint is "
                f"{pretuning.fingerprint[:12]}, and {wanted[:12]} was saved"
            )
        for member in members_of(self.target_model_):
            pretuning.check(member, self._source_network())
            pretuning.copy_to(member, is_kept_by_lite)

    def _found_pretuning(self, wanted: str) -> ToastPretuning:
        """Open the pre-tuning with the parameter, or raise NotInFileError where it is not to be found."""
        # the path may be that of a file of somebody else: nothing larger than the network is read
        most_bytes = 2**20 + sum(parameter.nbytes for parameter in self.target_model_.parameters())
        try:
            found = opened_pretuning(self.pretuned, most_bytes)
        except FileNotFoundError:
            found = None
        if found is None:
            at = "" if self.pretuned is None else f", and there is none at {self.pretuned!r}"
            raise NotInFileError(
                f"it was trained on a pre-tuning of the fingerprint {wanted[:12]}, which is not in the file{at}: "
                "load(path, pretuned=...) with it, or with the path that it was saved to"
            )
        return found

    def _rank_for(self, places: Places) -> int:
        if self.rank > places.width:
            raise ValueError(f"rank must be at most the {places.width} channels of the network, got {self.rank}")
        return int(self.rank)

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes() + class_count_mistakes(self.target_class_count)
        if self.lite not in (True, False):
            mistakes.append(f"lite must be True or False, got {self.lite!r}")
        if not is_whole(self.rank, 1):
            mistakes.append(f"rank must be a whole number of at least 1, got {self.rank!r}")
        if not isinstance(self.pretuned, (ToastPretuning, str, PathLike, type(None))):
            mistakes.append(f"pretuned must be a ToastPretuning, a path or None, got {self.pretuned!r}")
        return mistakes + end_mistakes(self.transfer_layer_name, self.pooling, may_be_left_out=True)
