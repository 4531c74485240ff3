"""`MultiTaskRepurposer` trains one trunk for two tasks at once: that of the source data and that of the target."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from model_handler import Source
from repurpose.data.inputs import Inputs
from repurpose.domain.networks.answers_both_tasks import AnswersBothTasks
from repurpose.domain.networks.domain_network_repurposer import DomainNetworkRepurposer
from repurpose.domain.networks.multi_task_objective import MultiTaskObjective, UncertainHeads
from repurpose.domain.networks.two_domains import TwoDomains, read_two_tasks
from repurpose.domain.networks.two_headed_network import TwoHeads, heads_of, two_headed_network
from repurpose.neural_network.ensemble import members_of
from repurpose.neural_network.heads import width_of_head
from repurpose.parameters import is_one_of, is_positive
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.steps.objective import Objective

__all__ = ["MultiTaskRepurposer"]

_LEARNED = "learned"


class MultiTaskRepurposer(AnswersBothTasks, DomainNetworkRepurposer):
    """A network with a head for each of two tasks, trained on rows of both: the target's profits from what both share.

    The classes of the two need not meet. Each batch has as many rows of either; of the shorter one rows are repeated.
    Rows of the target without a label are left out, and it needs some with one. All that is asked is answered for the
    target; labels and probabilities of the other task by ``task="source"``.

    Kendall, Gal and Cipolla (2018), arXiv:1705.07115.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    transfer_layer_name : str, optional
        The last layer that is kept; by default the network is kept up to what its last linear layer reads.
    target_class_count : int, optional
        The width of the head of the target; by default the number of its classes.
    task_weights : "learned" or (float, float), default="learned"
        How the losses of the source and of the target count: by weights that are learned, of task t 1 / s_t^2 with
        log s_t added, or by these.
    **kwargs
        The parameters of `DomainNetworkRepurposer`. `class_weight` is of the classes of the target.

    Attributes
    ----------
    source_classes_ : ndarray of shape (n_source_classes,)
        The labels of the source data, sorted.
    task_weights_ : (float, float)
        Of the source and of the target, as given or as learned.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import MultiTaskRepurposer
    >>> X, y = make_blobs(60, centers=5, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> old, new = y < 3, y >= 3
    >>> repurposer = MultiTaskRepurposer(network, num_epochs=3)
    >>> repurposer = repurposer.repurpose(X[new], y[new], source_data=(X[old], y[old]))
    >>> repurposer.classes_, repurposer.source_classes_, repurposer.predict_label(X, task="source").shape
    (array([3, 4]), array([0, 1, 2]), (60,))
    """

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        transfer_layer_name: str | None = None,
        target_class_count: int | None = None,
        *,
        task_weights: str | Sequence[float] = _LEARNED,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, transfer_layer_name, target_class_count, **kwargs)
        self.task_weights = task_weights

    _read = staticmethod(read_two_tasks)

    @property
    def task_weights_(self) -> tuple[float, float]:
        """How the losses of the source and of the target counted in the end; of an ensemble, in its first member."""
        self._check_is_repurposed()
        heads = heads_of(members_of(self.target_model_)[0])
        if isinstance(heads, UncertainHeads):
            of_source, of_target = heads.weights().tolist()
            return of_source, of_target
        return self._given_weights or (1.0, 1.0)

    def _naming_data(self, sources: Mapping[str, object], target: object) -> object:
        return target  # the source has classes of its own

    @property
    def _given_weights(self) -> tuple[float, float] | None:
        if isinstance(self.task_weights, str):
            return None
        of_source, of_target = self.task_weights
        return float(of_source), float(of_target)

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        handler, n_source = self._ended_handler(example_inputs), len(self.source_classes_)
        n_outputs = width_of_head(self.target_class_count, self.classes_)
        kind = UncertainHeads if self._given_weights is None else TwoHeads
        return two_headed_network(handler, n_outputs, n_source, self.pooling, kind)

    def _note_domains(self, domains: TwoDomains) -> None:
        super()._note_domains(domains)
        self.source_classes_ = next(iter(domains.sources.values())).classes

    def _objective(self, plan: TrainingPlan) -> Objective:
        return MultiTaskObjective(self._given_weights, self._class_weights, self.label_smoothing)

    def _parameter_mistakes(self) -> list[str]:
        mistakes, weights = super()._parameter_mistakes(), self.task_weights
        if is_one_of(weights, (_LEARNED,)) or (not isinstance(weights, str) and _are_weights(weights)):
            return mistakes
        expected = 'must be "learned" or two numbers above 0, of the source and of the target'
        return [*mistakes, f"task_weights {expected}, got {weights!r}"]


def _are_weights(weights: object) -> bool:
    return isinstance(weights, Sequence) and len(weights) == 2 and all(map(is_positive, weights))
