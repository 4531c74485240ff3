"""`AnswersBothTasks`: a trained network with two heads is asked for the new task, or for that of the source."""

from typing import ClassVar

import numpy as np

from model_handler.errors import nearest
from model_handler.network.ambient_modes import undisturbed
from repurpose.data.feature_rows import check_rows
from repurpose.data.kinds import is_features
from repurpose.domain.networks.two_headed_network import SourceTask, heads_of
from repurpose.neural_network.ensemble import member_probabilities, members_of
from repurpose.neural_network.trained_network import TrainedNetwork
from repurpose.parameters import is_one_of
from repurpose.persistence.values.schema import Array, Table
from repurpose.uncertainty.checks import check_threshold

__all__ = ["AnswersBothTasks"]

TARGET, SOURCE = "target", "source"


class AnswersBothTasks(TrainedNetwork):
    """A second base of methods whose `_create_target_module` gives a `two_headed_network`.

    All that a Repurposer answers is of the new task; labels and probabilities can be asked for of the other one too.
    The method sets `source_classes_` in training.
    """

    source_classes_: np.ndarray

    _schema: ClassVar[Table] = {"source_classes_": Array("n_source_classes", dtypes="b i u f U O")}

    @undisturbed()
    def predict_label(self, data: object, abstain_below: float | None = None, task: str = TARGET) -> np.ndarray:
        """Predict the most likely label of each row: (n_samples,), of `classes_` or, of the task "source", its classes.

        Those are `source_classes_`. With `abstain_below`, from 0 to 1, rows whose largest probability is below it get
        None in place of a label, in an array of dtype object. Raises ValueError for another task, and TypeError for
        Features, which hold logits of the target alone, where the source is asked.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose.domain import LwfRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = LwfRepurposer(network, source_classes=list("abcde"), num_epochs=2).repurpose((X, y))
        >>> repurposer.predict_label(X, task="source").shape
        (30,)
        """
        if not _is_of_source(task):
            return super().predict_label(data, abstain_below)
        if abstain_below is not None:
            check_threshold(abstain_below)
        probabilities = self._source_probabilities(data)
        labels = self.source_classes_[probabilities.argmax(axis=1)]
        if abstain_below is None:
            return labels
        labels = labels.astype(object)
        labels[probabilities.max(axis=1) < abstain_below] = None
        return labels

    @undisturbed()
    def predict_probability(self, data: object, task: str = TARGET) -> np.ndarray:
        """Predict the probability of each class: (n_samples, n_classes), rows summing to 1.

        Columns are as in `classes_`, or of the task "source" as in `source_classes_`, whose probabilities no
        calibration changes. Raises as `predict_label`.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose.domain import LwfRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = LwfRepurposer(network, num_epochs=2).repurpose((X, y))
        >>> repurposer.predict_probability(X).shape, repurposer.predict_probability(X, task="source").shape
        ((30, 3), (30, 5))
        """
        return self._source_probabilities(data) if _is_of_source(task) else super().predict_probability(data)

    def _source_probabilities(self, data: object) -> np.ndarray:
        judged, n_classes = self._judged(data), len(self.source_classes_)
        if is_features(judged):
            raise TypeError('Features hold the logits of the target alone; give the data itself to ask task="source"')
        members = [SourceTask(member) for member in members_of(self.target_model_)]
        logits = self._logits_of_members(judged, members, n_classes)
        check_rows(logits)
        return member_probabilities(logits.matrix, n_classes).mean(axis=0)

    def _check_restored(self) -> None:
        super()._check_restored()
        n_classes, heads = len(self.source_classes_), map(heads_of, members_of(self.target_model_))
        if wrong := [head.n_source_outputs for head in heads if head.n_source_outputs != n_classes]:
            raise ValueError(f"it has {n_classes} classes of the source, and a head of {wrong[0]} outputs for them")


def _is_of_source(task: object) -> bool:
    """Tell which task is asked for. Raises ValueError for a name that is none."""
    if not is_one_of(task, (TARGET, SOURCE)):
        near = nearest(str(task), [TARGET, SOURCE], n=1)[0]
        raise ValueError(f'task must be "target" or "source", got {task!r}; nearest: {near!r}')
    return task == SOURCE
