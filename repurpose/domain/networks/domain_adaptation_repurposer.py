"""`DomainAdaptationRepurposer`: the base of methods that train a network so that the domains differ less inside it."""

from collections.abc import Sequence
from math import isfinite
from numbers import Real
from typing import Any

from torch import Tensor, nn

from model_handler import Source
from repurpose.data.inputs import Inputs
from repurpose.domain.networks.domain_network_repurposer import DomainNetworkRepurposer
from repurpose.domain.networks.domain_objective import AdaptationObjective
from repurpose.domain.networks.tapped_network import TappedNetwork, tapped_network
from repurpose.neural_network.architecture import like_spec
from repurpose.neural_network.heads import width_of_head
from repurpose.parameters import constructor_parameters
from repurpose.training.data.batches import BatchSource
from repurpose.training.plan.groups import GroupTable
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.steps.objective import Objective
from repurpose.training.task import Task

__all__ = ["DomainAdaptationRepurposer"]


class DomainAdaptationRepurposer(DomainNetworkRepurposer):
    """A network trained as by `DomainNetworkRepurposer`, and by what the rows of the domains differ by in some layers.

    A subclass defines `_domain_loss`. What it returns, summed over the layers, is added to the cross-entropy, times
    `adaptation_weight` (2 / (1 + exp(-10 p)) - 1), where p is the share of the training that is done: at first the new
    layer learns, then the domains are brought together (Ganin et al. 2016, arXiv:1505.07818, section 5.2.2).

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    transfer_layer_name, target_class_count
        As in `DomainNetworkRepurposer`.
    adaptation_weight : float, default=1.0
        Lambda, by which the difference of the domains counts in the end.
    adaptation_layer_names : list of str, optional
        The layers at which the domains are compared, each pooled to a row by `pooling`; by default what the new layer
        reads. The new layers are "head", and where the network gives maps or tokens "pooled".
    **kwargs
        The parameters of `DomainNetworkRepurposer`.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import DomainAdaptationRepurposer
    >>> class MeanRepurposer(DomainAdaptationRepurposer):
    ...     def _domain_loss(self, source_rows, target_rows):
    ...         return (source_rows.mean(dim=0) - target_rows.mean(dim=0)).pow(2).sum()
    ...
    >>> X, y = make_blobs(60, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = MeanRepurposer(network, num_epochs=3).repurpose(X[30:] + 0.5, source_data=(X[:30], y[:30]))
    >>> repurposer.predict_label(X[30:]).shape
    (30,)
    """

    _trains_on_unlabelled = True

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        transfer_layer_name: str | None = None,
        target_class_count: int | None = None,
        *,
        adaptation_weight: float = 1.0,
        adaptation_layer_names: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, transfer_layer_name, target_class_count, **kwargs)
        self.adaptation_weight = adaptation_weight
        self.adaptation_layer_names = adaptation_layer_names

    def _domain_loss(self, source_rows: Tensor, target_rows: Tensor) -> Tensor:
        """Hook: by how much the rows of one layer differ, a number that training makes small.

        `source_rows` (n_s, width) and `target_rows` (n_t, width) are those of a batch, float32, at least two of each; a
        batch with fewer is not compared.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _domain_loss")

    def _domain_module(self, width: int) -> nn.Module | None:
        """Hook, optional: what maps the rows of a layer before `_domain_loss` sees them, and learns with the network.

        Where it has a `GradientReversal`, this has the strength of the weight and its ramp, and the loss counts once.
        """
        return None

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        return tapped_network(
            self._ended_handler(example_inputs),
            self.adaptation_layer_names,
            width_of_head(self.target_class_count, self.classes_),
            self.pooling,
            self._domain_module,
            example_inputs,
        )

    def _prepare_task(self, data: object, validation_data: object = None, **how: Any) -> Task:
        task = super()._prepare_task(data, validation_data, **how)
        self._check_batches(task.batches)
        self._check_reached(task.module, task.groups)
        return task

    def _objective(self, plan: TrainingPlan) -> Objective:
        common = constructor_parameters(DomainNetworkRepurposer)
        own = {name: value for name, value in self.get_params(deep=False).items() if name not in common}
        return AdaptationObjective(
            self._domain_loss,
            self.adaptation_weight,
            plan.num_epochs,
            own,
            self._class_weights,
            self.label_smoothing,
        )

    def _check_batches(self, batches: BatchSource) -> None:
        """Raise ValueError for batches of single rows, of which domains cannot be compared."""
        if single := [name for name, stream in batches.streams.items() if stream.max_batch_size < 2]:
            raise ValueError(
                f"{type(self).__name__} compares the domains by the rows of a batch, and those of {single[0]!r} have "
                "one; give batch_size=2 or more, and a DataLoader a larger batch_size of its own"
            )

    def _check_reached(self, module: nn.Module, groups: GroupTable) -> None:
        """Raise ValueError for a layer that is compared and in which nothing will ever learn."""
        if not isinstance(module, TappedNetwork):  # a subclass makes its own
            return
        if lost := module.out_of_reach(groups.frozen, like_spec(self.example_inputs_)):
            raise ValueError(
                f"nothing learns up to {' and '.join(map(repr, lost))}, so that the domains cannot come together "
                "there; give layers before it a learning rate above 0 (learning_rates), or name a later layer in "
                'adaptation_layer_names, such as "head"'
            )

    def _parameter_mistakes(self) -> list[str]:
        mistakes, weight, names = super()._parameter_mistakes(), self.adaptation_weight, self.adaptation_layer_names
        if isinstance(weight, bool) or not isinstance(weight, Real) or not (isfinite(weight) and weight >= 0):
            mistakes.append(f"adaptation_weight must be a finite number of at least 0, got {weight!r}")
        if names is None:
            return mistakes
        if (
            isinstance(names, str)
            or not isinstance(names, Sequence)
            or not all(isinstance(name, str) for name in names)
        ):
            mistakes.append(f"adaptation_layer_names must be a list of names of layers, or None, got {names!r}")
        elif not names or len(set(names)) < len(names):
            mistakes.append(f"adaptation_layer_names must name at least one layer, and each once, got {names!r}")
        return mistakes
