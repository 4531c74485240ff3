"""`DomainNetworkRepurposer` trains a network on a source domain, and on those rows of the target that have a label.

It changes nothing about the difference between the domains, and so is the comparison that every method has to beat.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from model_handler import ModelHandler, Source
from model_handler.data import unmoved_generators
from model_handler.extraction.pooling import Pooling
from repurpose.data.inputs import Inputs
from repurpose.data.sample_weights import without_weights
from repurpose.domain.networks.domain_batches import TARGET, DomainBatches
from repurpose.domain.networks.domain_objective import DomainObjective
from repurpose.domain.networks.domain_validation import DomainValidation, HeldOut, hold_out
from repurpose.domain.networks.two_domains import TwoDomains, read_two_domains
from repurpose.domain.reading.source_domains import naming_data, source_domains
from repurpose.domain.reading.target_labels import labels_apart
from repurpose.neural_network.classifier import ended_at
from repurpose.neural_network.heads import add_head, class_count_mistakes, end_mistakes, width_of_head
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.neural_network.preparation_steps import class_weights, plan_of
from repurpose.parameters import only_given
from repurpose.persistence.values.schema import Dict, Table, Text, Whole
from repurpose.seeding import draw_seed
from repurpose.training.data.augmentation import chosen_augmentation
from repurpose.training.data.batches import TrainingBatches
from repurpose.training.data.seeding import SeedPurpose, seed_of
from repurpose.training.finder import RateSearch, find_learning_rate
from repurpose.training.plan.groups import GroupTable
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.steps.objective import Objective
from repurpose.training.task import Task

__all__ = ["DomainNetworkRepurposer"]

T = TypeVar("T")
_NO_MIXING = (
    "{name}={value!r} does not go with two domains: it makes one row of two, which may be of both domains, or have no "
    "label; use augmentation, or leave it 0"
)


class DomainNetworkRepurposer(NeuralNetworkRepurposer):
    """A network trained on labelled rows of a source domain, and on those of the target domain that have a label.

    Nothing is done about the difference between the domains: it is "source only" where the target has no labels,
    "pooled" where it has some, and what methods of domain adaptation are compared with; rows without a label are not
    trained on. Each batch has as many rows of each domain; of the shorter one rows are repeated, in another order each
    time.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    transfer_layer_name : str, optional
        The last layer that is kept; by default the network is kept up to what its last linear layer reads.
    target_class_count : int, optional
        The width of the new layer; by default the number of classes.
    pooling : str or callable, default="auto"
        How maps and tokens become a row before the new layer, as in `ModelHandler.extract`.
    **kwargs
        The parameters of `NeuralNetworkRepurposer` and `Repurposer`, but for `mixup` and `cutmix`. With
        `validation_fraction`, labelled rows of the target are held out, and rows of the source where it has none.

    Attributes
    ----------
    source_domains_ : dict of str to int
        How many rows of each source domain took part.
    n_target_rows_, n_target_labels_ : int
        How many rows the target had, and how many of them a label.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import DomainNetworkRepurposer
    >>> X, y = make_blobs(60, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = DomainNetworkRepurposer(network, num_epochs=3)
    >>> repurposer = repurposer.repurpose(X[30:] + 0.5, source_data=(X[:30], y[:30]))
    >>> repurposer.source_domains_, repurposer.n_target_labels_, repurposer.predict_label(X[30:]).shape
    ({'source': 30}, 0, (30,))
    """

    _trains_on_unlabelled: ClassVar[bool] = False  # whether rows of the target without a label are in the batches
    _read = staticmethod(read_two_domains)  # how both domains are looked through

    _schema: ClassVar[Table] = {
        "source_domains_": Dict(Text(), Whole()),
        "n_target_rows_": Whole(),
        "n_target_labels_": Whole(),
    }

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        transfer_layer_name: str | None = None,
        target_class_count: int | None = None,
        *,
        pooling: Pooling = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, **kwargs)
        self.transfer_layer_name = transfer_layer_name
        self.target_class_count = target_class_count
        self.pooling = pooling

    @without_weights
    def repurpose(
        self,
        data: object,
        y: object = None,
        *,
        source_data: object = None,
        validation_data: object = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Learn to label the target domain; an earlier result stays as it was if this fails.

        Where every row of the target has a label its classes are learned, else those of either domain; source rows of
        other classes are left out, with a UserWarning.

        Parameters
        ----------
        data : DataLoader, Dataset, arrays or tensors, ImageFolderData or path of a folder
            The target domain, all of its rows labelled, some or none. A missing label is None or NaN; -1 only among
            whole numbers and where the source has no class -1, with a UserWarning. `X` alone, ``(X, None)``, a flat
            folder, and a loader without labels have none.
        y : array-like of shape (n_samples,), optional
            Labels beside the data.
        source_data : as `data`, or a dict of such by name
            The source domain, every row labelled; several count alike in each batch. scikit-learn's searches cut
            whatever has as many entries as the target has rows. A pair ``(X, y)`` and a dict of domains are kept whole;
            a dataset is where it stands in a dict, and refused where it was cut.
        validation_data : as `data`, optional
            Labelled rows of the target, not learned from, by which each epoch is judged.
        groups : array-like of shape (n_samples,), optional
            Which rows of the target belong together, as in `NeuralNetworkRepurposer.repurpose`.

        Raises
        ------
        TypeError
            For Features, which are no inputs of a network.
        ValueError
            Without `source_data`, for domains whose rows have other shapes or kinds, other columns, other kinds of
            labels or no class in common, a domain of one row, and as `NeuralNetworkRepurposer.repurpose`.
        """
        readable, labels = labels_apart(data, y)

        def learn(target: object, **given: Any) -> object:
            sources = source_domains(source_data, type(self).__name__)  # of all members, opened once
            self._learn(target, validation_data, source_data=sources, labels=labels, **given)
            return self._naming_data(sources, target)

        return self._learn_by(learn, readable, None, groups)

    @without_weights
    def fit(
        self,
        X: object,
        y: object = None,
        *,
        source_data: object = None,
        validation_data: object = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Do the same as `repurpose`, under scikit-learn's name."""
        return self.repurpose(
            X, y, source_data=source_data, validation_data=validation_data, **only_given(groups=groups)
        )

    def parameter_groups(self, data: object = None, y: object = None, *, source_data: object = None) -> GroupTable:
        """Return which parameters learn how fast: of the trained network, or of the one that these data would make.

        As in `NeuralNetworkRepurposer`; `source_data` as in `repurpose`.
        """
        if data is None:
            return super().parameter_groups()
        return self._try_out_on_domains(lambda task: task.groups, data, y, source_data)

    def find_learning_rate(
        self,
        data: object,
        y: object = None,
        *,
        source_data: object = None,
        lowest: float = 1e-6,
        highest: float = 1.0,
        n_steps: int = 100,
    ) -> RateSearch:
        """Take some steps at ever higher learning rates, and suggest one; the Repurposer and all generators stay.

        As in `NeuralNetworkRepurposer`; `source_data` as in `repurpose`.
        """

        def search(task: Task) -> RateSearch:
            return find_learning_rate(task, lowest=lowest, highest=highest, n_steps=n_steps)

        return self._try_out_on_domains(search, data, y, source_data)

    def _try_out_on_domains(self, work: Callable[[Task], T], data: object, y: object, source_data: object) -> T:
        readable, labels = labels_apart(data, y)
        sources = source_domains(source_data, type(self).__name__)
        with ExitStack() as stack:
            for of_source in sources.values():
                stack.enter_context(unmoved_generators(of_source))
            return self._try_out(work, readable, None, source_data=sources, labels=labels)

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        handler = self._ended_handler(example_inputs)
        return add_head(handler, width_of_head(self.target_class_count, self.classes_), self.pooling)

    def _ended_handler(self, example_inputs: Inputs) -> ModelHandler:
        """Make a handler on the network, ended where the new layer is to read."""
        options = {"device": self.device, "batch_size": self.batch_size}
        return ended_at(self.transfer_layer_name, self._handler_for(example_inputs), example_inputs, **options)

    def _prepare_task(
        self,
        data: object,
        validation_data: object = None,
        *,
        seed: int | None = None,
        member: int = 0,
        source_data: object = None,
        labels: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> Task:
        """Make all that a training needs of the target, whose `labels` may stand apart, and of `source_data`."""
        reading = self._reading()
        seed = draw_seed(self.random_state) if seed is None else seed
        own_seed = seed_of(seed, SeedPurpose.ENSEMBLE_MEMBER, member) if member else seed
        domains = self._read(source_data, data, labels, reading, seed, type(self).__name__)
        self._note_domains(domains)
        example = domains.target.seen.example
        module, n_outputs = self._new_network(example, own_seed)
        self._class_weights = class_weights(self.class_weight, domains.classes, domains.codes, n_outputs)
        held_out = hold_out(
            domains,
            validation_data,
            self.validation_fraction,
            reading=reading,
            seed=seed,
            judge=partial(self._count_outputs, module),
            with_unlabelled=self._trains_on_unlabelled,
            groups=groups,
        )
        batches = self._batches_of(domains, held_out, own_seed, example)
        plan = plan_of(self._plan_values(), own_seed, batches.n_batches)
        evaluation = None
        if held_out.judged is not None:
            evaluation = DomainValidation(held_out.judged, self._class_weights, self.precision, held_out.domain)
        return self._task_of(module, plan, batches, self._objective(plan), evaluation, example)

    def _naming_data(self, sources: Mapping[str, object], target: object) -> object:
        """Return the data by which classes are named."""
        return naming_data(sources, target, self.classes_)

    def _note_domains(self, domains: TwoDomains) -> None:
        self._note_rows(domains.classes, domains.codes, domains.target.seen.example)
        self.source_domains_ = {name: len(rows.labelled) for name, rows in domains.sources.items()}
        self.n_target_rows_, self.n_target_labels_ = len(domains.target.codes), len(domains.target.labelled)

    def _batches_of(self, domains: TwoDomains, held_out: HeldOut, seed: int, example: Inputs) -> DomainBatches:
        reading, augment = self._reading(), chosen_augmentation(self.augmentation, example)
        has_target = self._trains_on_unlabelled or len(domains.target.labelled)
        streams: dict[str, TrainingBatches] = {}
        for name, rows in {**({TARGET: domains.target} if has_target else {}), **domains.sources}.items():
            own_seed = seed_of(seed, SeedPurpose.STREAM, len(streams)) if streams else seed
            streams[name] = rows.stream(held_out.left[name], own_seed, reading, augment=augment)
        return DomainBatches(streams, with_unlabelled=self._trains_on_unlabelled)

    def _objective(self, plan: TrainingPlan) -> Objective:
        """Make what is minimised; the network has been made, and `_class_weights` set."""
        return DomainObjective(self._class_weights, self.label_smoothing)

    def _judged(self, data: object) -> object:
        readable, _ = labels_apart(data, None)  # labels may be missing where answers are asked for, as in training
        return super()._judged(readable)

    def _check_has_labels(self, data: object) -> None:
        """Every kind of data may be a target: none is without rows to adapt to."""

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes() + class_count_mistakes(self.target_class_count)
        mixing = [name for name in ("mixup", "cutmix") if getattr(self, name)]
        mistakes += [_NO_MIXING.format(name=name, value=getattr(self, name)) for name in mixing]
        return mistakes + end_mistakes(self.transfer_layer_name, self.pooling, may_be_left_out=True)
