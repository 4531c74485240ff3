"""`TransferNetwork`: what all share whose `target_model_` is a network made of the source, whatever it predicts."""

from torch import nn

from model_handler import ModelError, ModelHandler, Source
from model_handler.network.device import resolve_device
from repurpose.data.inputs import Inputs
from repurpose.fitted import fitted_attributes
from repurpose.neural_network.architecture import new_parameters
from repurpose.neural_network.preparation_steps import create_module
from repurpose.transfer_estimator import TransferEstimator

__all__ = ["TransferNetwork"]


class TransferNetwork(TransferEstimator):
    """Base of those that make a network of the source by the hook `_create_target_module`, with weights of its own."""

    target_model_: nn.Module
    layer_decay: float | None  # of those that are trained

    # parameters that say, beside the source, which network is made and what it is given
    _of_the_network: tuple[str, ...] = ("transform",)

    def _source_network(self) -> nn.Module:
        source = self._open_source()
        return source.network if isinstance(source, Source) else source

    def _create_target_module(self, example_inputs: Inputs) -> object:
        raise NotImplementedError(f"{type(self).__name__} must define _create_target_module")

    def _create_module(self, example_inputs: Inputs) -> nn.Module:
        """Make the network by the hook, on the device, with the modules that the hook set as attributes inside."""
        source = self._source_network()
        return create_module(
            self._create_target_module,
            example_inputs,
            further_parts=self._fitted_modules,
            source=source,
            device=resolve_device(self.device, source),
            class_name=type(self).__name__,
        )

    def _fitted_modules(self) -> dict[str, nn.Module]:
        return {name: value for name, value in fitted_attributes(self).items() if isinstance(value, nn.Module)}

    def _note_training(self) -> None:
        self._made_with = {name: getattr(self, name) for name in (*self._of_the_source, *self._of_the_network)}

    def _refuse_other_network(self) -> None:
        """Raise ValueError if a parameter on which the answers depend was changed after training."""
        made_with = vars(self).get("_made_with", {})
        if changed := [name for name, value in made_with.items() if getattr(self, name) is not value]:
            raise ValueError(f"{', '.join(changed)} changed after training; call repurpose again, or set the old value")

    def _new_parameters(self, module: nn.Module) -> set[str]:
        """Hook, optional: the names of new parameters, which do not hold what the source has under that name."""
        return new_parameters(module, self._source_network())

    def _block_names(self, example_inputs: Inputs) -> tuple[str, ...]:
        """Return the names of the source's blocks where rates decay by them; none where it has no chain of blocks."""
        if self.layer_decay is None:
            return ()
        try:
            return tuple(block.name for block in self._handler_for(example_inputs).blocks)
        except ModelError:
            return ()

    def _handler_for(self, example_inputs: Inputs) -> ModelHandler:
        """Make a handler on the source network, to be edited into the target module."""
        return ModelHandler(
            self._open_source(),
            example_inputs,
            transform=self.transform,
            device=self.device,
            batch_size=self.batch_size,
        )
