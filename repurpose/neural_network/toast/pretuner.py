"""Pre-tuning: xi, P, A and B are trained on generic data, by the source's task and by how well A inverts each block.

The loss is that of the task plus lambda * sum_l MSE(A_l sg(out_l), sg(in_l)) over the inputs and
outputs of blocks in the second pass, where sg stops the gradient.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_handler import ModelHandler, Source
from model_handler.extraction.pooling import pool
from model_handler.network.outputs import select_tensor
from repurpose.data.inputs import Inputs
from repurpose.neural_network.toast.ended_network import ended_network, example_on
from repurpose.neural_network.toast.first_pass import OnFirstPass, SelfSplitting
from repurpose.neural_network.toast.places import find_places, signal_of
from repurpose.neural_network.toast.pretuning import ToastPretuning
from repurpose.neural_network.toast.steered_network import outputs_of
from repurpose.neural_network.toast.steering import resized
from repurpose.neural_network.toast.toast_repurposer import ToastRepurposer
from repurpose.parameters import is_positive
from repurpose.training.steps.forward import call, logits_of
from repurpose.training.steps.losses import cross_entropy

__all__ = ["pretune"]

_LOG = logging.getLogger(__name__)

# the paper's lambda, for transformers and for ConvNets
_OF_TOKENS, _OF_MAPS = 0.1, 0.01


def pretune(repurposer: ToastRepurposer, source_data: object, reconstruction: float | None) -> ToastPretuning:
    """Train what steers a network on generic data, by the parameters of a Repurposer, which stays as it is."""
    parameters = repurposer.get_params(deep=False)
    parameters.update(lite=False, pretuned=None, target_class_count=None, num_members=1)
    if isinstance(parameters["class_weight"], Mapping):
        parameters["class_weight"] = None  # of the classes of the other task
    if parameters["checkpoint_dir"] is not None:  # that of the other task is taken
        parameters["checkpoint_dir"] = Path(parameters["checkpoint_dir"]) / "pretuning"
    learner = _PretuningRepurposer(**parameters, reconstruction=reconstruction).repurpose(source_data)
    return ToastPretuning.of(learner.target_model_, learner._source_network())


class _PretuningRepurposer(ToastRepurposer):
    """Trains a steered network on generic data, with the loss of the reconstruction beside that of the task."""

    def __init__(
        self, source_model: nn.Module | Source | str, reconstruction: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(source_model, **kwargs)
        self.reconstruction = reconstruction

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        handler = self._handler_for(example_inputs)
        example = example_on(handler.network, example_inputs)
        outputs = _own_outputs(handler, self.classes_)
        network = ended_network(handler, self.transfer_layer_name, example, whole=outputs is not None)
        places = find_places(handler, network, example)
        pooling, layout = ("auto", None) if outputs is not None else (self.pooling, self._layout_of_output(handler))
        module = _Reconstructing(network, places, pooling=pooling, layout=layout)
        usual = _OF_MAPS if places.of_maps else _OF_TOKENS
        module.reconstruction = usual if self.reconstruction is None else float(self.reconstruction)
        if outputs is None:
            return module.with_head(len(self.classes_), example)
        _LOG.info("pre-tuning learns the task of the network's own outputs: the labels are their numbers")
        logits = module.begin(example)
        module.head = _Columns(outputs).to(logits.device)
        return module

    def _begin_from_pretuning(self, module: nn.Module, *, is_first: bool) -> None:
        """Leave everything as it was drawn: this is the pre-tuning."""

    def _training_loss(self, module: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        output = call(module, inputs)
        loss = cross_entropy(logits_of(output), targets, self._class_weights, self.label_smoothing)
        return loss + output["reconstruction"] if isinstance(output, Mapping) else loss

    def _has_own_loss(self) -> bool:
        return False  # it reads what the network returns, and nothing inside

    def _parameter_mistakes(self) -> list[str]:
        given = self.reconstruction
        mistakes = super()._parameter_mistakes()
        if given is not None and given != 0 and not is_positive(given):
            mistakes.append(f"reconstruction must be a number of at least 0, or None, got {given!r}")
        return mistakes


class _Reconstructing(SelfSplitting):
    """A steered network that says in training, beside its logits, how badly A_l makes block inputs from outputs.

    `reconstruction` is the weight of this.
    """

    reconstruction: float

    def second_pass(self, z: Tensor, *inputs: Any, **options: Any) -> Any:
        """Compute the logits of the steered pass, in training a dict of them and of the reconstruction's error."""
        if not self.training:
            return super().second_pass(z, *inputs, **options)
        mask = self.mask(inputs, options)
        ends = dict.fromkeys(self.places.ends)
        with ExitStack() as hooks:
            given = {end: hooks.enter_context(outputs_of(self.network, end)) for end in ends}
            hooks.enter_context(self.steered(z, mask))
            # entered behind steering, so that they see what it added
            handed_on = {end: hooks.enter_context(outputs_of(self.network, end)) for end in ends}
            read = {end: hooks.enter_context(_inputs_of(self.network, end)) for end in ("", *ends)}
            features = select_tensor(self.network(*inputs, **options), "the network", None)
        outputs = _in_order(self.places.ends, given)
        if self.places.of_maps:
            targets = [read[""][0], *_in_order(self.places.ends, handed_on)[:-1]]
        else:
            targets = _in_order(self.places.ends, read)
        return {
            "logits": self.head(pool(features, self.pooling, self.layout, mask)),
            "reconstruction": self.reconstruction * self._error(outputs, targets, mask),
        }

    def _error(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        """Sum over blocks the mean squared error of A_l sg(out_l) for sg(in_l); padding does not count."""
        total = outputs[0].new_zeros(())
        for number, (upward, output, wanted) in enumerate(zip(self.feedback.A, outputs, inputs, strict=True)):
            output, wanted = output.detach(), wanted.detach()
            if self.places.of_maps and self.places.channels_last:
                output = output.movedim(-1, 1)
                wanted = wanted.movedim(-1, 1) if number else wanted  # the image has its channels first
            made = upward(output)
            if self.places.of_maps:
                made = resized(made, wanted.shape[2:])
            elif mask is not None:
                made, wanted = made[mask], wanted[mask]
            total = total + F.mse_loss(made, wanted)
        return total


class _ReconstructingOnFirstPass(OnFirstPass, _Reconstructing):
    """The rest of a network that says how badly A_l makes block inputs from outputs."""


_Reconstructing.rest_class = _ReconstructingOnFirstPass


class _Columns(nn.Module):
    """Puts the outputs of the classes first, in the order of the classes, and the others behind them."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.register_buffer("outputs", outputs, persistent=False)
        self.outputs: Tensor

    def forward(self, logits: Tensor) -> Tensor:
        """Reorder logits (n_rows, n_outputs)."""
        return logits[:, self.outputs]


def _own_outputs(handler: ModelHandler, classes: np.ndarray) -> Tensor | None:
    """Return the order of the network's outputs that puts those of the classes first; None where they are none."""
    classifier = handler.classifier
    if classifier is None or classes.dtype.kind not in "iu":
        return None
    output = select_tensor(handler.example_output(), "the network", None)
    n_outputs = output.shape[-1]
    width = getattr(handler.network.get_submodule(classifier), "out_features", None)
    if output.ndim != 2 or width != n_outputs or classes.min() < 0 or classes.max() >= n_outputs:
        return None
    chosen = [int(label) for label in classes]
    return torch.tensor(chosen + sorted(set(range(n_outputs)) - set(chosen)))


def _in_order(ends: Sequence[str], found: Mapping[str, Sequence[Any]]) -> list[Tensor]:
    """Return what was found of the calls of each module, in the order in which blocks run."""
    calls = {path: iter(values) for path, values in found.items()}
    return [signal_of(next(calls[end])) for end in ends]


@contextmanager
def _inputs_of(network: nn.Module, path: str) -> Iterator[list[Any]]:
    """Collect, in this block, the first tensor that each call of a module reads."""
    found: list[Any] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        found.append(signal_of([inputs, options]))

    with network.get_submodule(path).register_forward_pre_hook(note, with_kwargs=True):
        yield found
