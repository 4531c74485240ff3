"""`RelationalRepurposer`: a network learns labels, and relations among rows as another network sees them."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Self

from torch import Tensor, nn

from model_handler import ModelError, ModelHandler, Source
from model_handler.errors import nearest
from model_handler.extraction.pooling import Pooling
from model_handler.network.device import resolve_device
from repurpose.data.inputs import Inputs
from repurpose.domain.distillation.distilling_repurposer import DistillingRepurposer
from repurpose.domain.distillation.relations import RELATIONS
from repurpose.neural_network.architecture import like_spec
from repurpose.neural_network.classifier import ended_at
from repurpose.neural_network.heads import HEAD, add_on_top, class_count_mistakes, end_mistakes, width_of_head
from repurpose.parameters import is_one_of, weight_mistakes
from repurpose.source import open_source

__all__ = ["RelationalRepurposer"]


class RelationalRepurposer(DistillingRepurposer):
    """Trains a network, the student, to see rows in the relations to each other in which a teacher sees them.

    Relations are compared at a layer of each network, so that these may be of any two architectures and widths. With
    ``loss="rkd"`` they are distances and angles, Park et al. (2019), arXiv:1904.05068; with ``"correlation"`` how alike
    each two rows are, Peng et al. (2019), arXiv:1904.01802. Added to it is the cross-entropy of the labels. Relations
    are those among the rows of a batch, of each process by itself: a batch of few rows has few, and the memory that
    angles take grows with the third power of `batch_size`.

    Rows that are the same in each epoch are put to the teacher once; under `augmentation`, `mixup` or `cutmix`, from a
    loader or random transforms, it is asked about each batch. The log says which. Of several processes each asks about
    all rows. The teacher is not needed after training, and no file holds it.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The student: the network to reuse, or its name.
    teacher : nn.Module, Source or str
        The network to learn relations from, or its name. It stays as it is, and reads the very rows that the student
        reads: a `transform` of its own is not used.
    teacher_layer_name : str, optional
        The layer of the teacher to compare; by default what its last linear layer reads.
    transfer_layer_name : str, optional
        The layer of the student that is compared, and that the new linear layer reads; by default what its last linear
        layer reads.
    target_class_count : int, optional
        The width of the new layer; by default the number of classes seen in training.
    loss : {"rkd", "correlation"}, default="rkd"
        Which relations count: distances, times 25, and angles, times 50, or correlations.
    relation_weight : float, default=1.0
        What the relations are multiplied by, beside the cross-entropy.
    pooling : str or callable, default="auto"
        How maps and tokens of either network become a row, as in `ModelHandler.extract`.
    **kwargs
        The parameters of `NeuralNetworkRepurposer` and `Repurposer`.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import RelationalRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> teacher = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 9))
    >>> student = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = RelationalRepurposer(student, teacher, num_epochs=3).repurpose((X, y))
    >>> repurposer.predict_probability(X).shape
    (30, 3)
    """

    _instead_of_source_data = (
        "the teacher says what it knows of the rows that are learned. Leave it out; to learn from rows of another "
        "domain, use DannRepurposer, DanRepurposer or DeepCoralRepurposer"
    )
    _used_in_training_only = (*DistillingRepurposer._used_in_training_only, "teacher")
    _shared_by_clones = (*DistillingRepurposer._shared_by_clones, "teacher")

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        teacher: nn.Module | Source | str,
        teacher_layer_name: str | None = None,
        transfer_layer_name: str | None = None,
        target_class_count: int | None = None,
        *,
        loss: str = "rkd",
        relation_weight: float = 1.0,
        pooling: Pooling = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, **kwargs)
        self.teacher = teacher
        self.teacher_layer_name = teacher_layer_name
        self.transfer_layer_name = transfer_layer_name
        self.target_class_count = target_class_count
        self.loss = loss
        self.relation_weight = relation_weight
        self.pooling = pooling

    @classmethod
    def restored(cls, parameters: Mapping[str, Any], learned: Mapping[str, Any]) -> Self:
        return super().restored({"teacher": None, **parameters}, learned)  # of which no file holds the weights

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        handler = self._handler_for(example_inputs)
        options = {"device": self.device, "batch_size": self.batch_size}
        ended = ended_at(self.transfer_layer_name, handler, example_inputs, **options)
        n_outputs = width_of_head(self.target_class_count, self.classes_)
        return add_on_top(ended, HEAD, partial(_HeadAndRows, out_features=n_outputs), self.pooling)

    def _frozen_network(self, module: nn.Module) -> nn.Module:
        device, example = resolve_device(self.device, self._source_network()), like_spec(self.example_inputs_)
        options: dict[str, Any] = {"device": device, "batch_size": self.batch_size}
        try:
            handler = ModelHandler(open_source(self.teacher), example, **options)
            ended = ended_at(self.teacher_layer_name, handler, example, **options)
            return add_on_top(ended, "rows", lambda width, **place: nn.Identity(), self.pooling).to(device)
        except ModelError as error:
            raise type(error)(f"of the teacher, which reads the rows of the student: {error}") from error

    def _distillation_loss(self, output: Any, answers: Tensor, weights: Tensor) -> Tensor:
        return self.relation_weight * RELATIONS[self.loss](output["rows"].float(), answers)

    def _distillation_of(self) -> Mapping[str, object]:
        return {"relations": self.loss, "relation_weight": self.relation_weight}

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes() + class_count_mistakes(self.target_class_count)
        if not isinstance(self.teacher, (nn.Module, Source, str)):
            mistakes.append(f"teacher must be a network, a Source or the name of one, got {self.teacher!r}")
        if not isinstance(self.teacher_layer_name, (str, type(None))):
            mistakes.append(f"teacher_layer_name must be the name of a layer, or None, got {self.teacher_layer_name!r}")
        if not is_one_of(self.loss, [*RELATIONS]):
            near = nearest(str(self.loss), RELATIONS, n=1)[0]
            mistakes.append(f"loss must be one of {', '.join(RELATIONS)}, got {self.loss!r}; nearest: {near!r}")
        mistakes += weight_mistakes("relation_weight", self.relation_weight)
        return mistakes + end_mistakes(self.transfer_layer_name, self.pooling, may_be_left_out=True)


class _HeadAndRows(nn.Linear):
    """A linear layer that gives what it reads beside its logits."""

    def forward(self, rows: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Map rows (n_rows, width) to "logits" (n_rows, n_outputs) and the "rows" themselves."""
        return {"logits": super().forward(rows), "rows": rows}
