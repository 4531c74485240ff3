import logging
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.nn import functional

from model_handler import ModelError, Source, UnknownLayerError
from repurpose import load
from repurpose.domain import RelationalRepurposer
from repurpose.domain.distillation import distilling_repurposer
from repurpose.domain.distillation.relations import RELATIONS
from repurpose.training.frozen import caching
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.neural_network.contract import NetworkContract
from tests.repurpose.neural_network.test_fine_tune_repurposer import conv_network, images

PLAIN: dict[str, Any] = {"optimizer": "SGD", "learning_rates": {"*": 0.05}, "scheduler": None, "random_state": 0}


def wide(seed: int = 7) -> nn.Sequential:
    """A teacher of 4 -> 12 -> 9 -> 2, with layers "0" to "4"."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 2))


class TestContract(NetworkContract):
    grid = {"loss": ["rkd", "correlation"]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> RelationalRepurposer:
        quick = {"num_epochs": 8, "optimizer_params": {"learning_rate": 0.1}, "random_state": 0, "relation_weight": 0.1}
        return RelationalRepurposer(source_model, wide(), "3", **{**quick, **options})


def relational(
    student: nn.Module | None = None, teacher: Any = None, teacher_layer_name: str | None = None, **options: Any
) -> RelationalRepurposer:
    networks = small_network() if student is None else student, wide() if teacher is None else teacher
    return RelationalRepurposer(*networks, teacher_layer_name, **{**PLAIN, **options})


def state(repurposer: RelationalRepurposer) -> dict[str, torch.Tensor]:
    return dict(repurposer.target_model_.state_dict())


@pytest.mark.parametrize("loss", RELATIONS)
@pytest.mark.parametrize(("student_layer", "teacher_layer"), [(None, None), ("1", "0")])
def test_a_loop_by_hand_gives_the_same_weights(loss: str, student_layer: str | None, teacher_layer: str | None) -> None:
    X, y = blobs(30)
    options = {"loss": loss, "relation_weight": 0.3, "transfer_layer_name": student_layer, "batch_size": 30}
    began = relational(None, None, teacher_layer, num_epochs=1, **{**options, "learning_rates": {"*": 1e-30}})
    trained = relational(None, None, teacher_layer, num_epochs=4, **options).repurpose(X, y)

    student, teacher = began.repurpose(X, y).target_model_, wide()
    trunk = nn.Sequential(*[student.get_submodule(str(number)) for number in range(2 if student_layer else 4)])
    head, inputs = student.get_submodule("head"), torch.from_numpy(X)
    wanted = teacher[: 1 if teacher_layer else 4](inputs).detach()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    for _ in range(4):
        rows = trunk(inputs)
        logits = functional.linear(rows, head.weight, head.bias)
        of_relations = RELATIONS[loss](rows, wanted)
        optimizer.zero_grad()
        (functional.cross_entropy(logits, torch.from_numpy(y)) + 0.3 * of_relations).backward()
        optimizer.step()
    for name, weight in student.state_dict().items():
        torch.testing.assert_close(state(trained)[name], weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("loss", "strength"), [("rkd", 0.2), ("correlation", 10.0)])
def test_the_student_comes_to_see_what_the_teacher_sees(loss: str, strength: float) -> None:
    X, y = blobs()
    inputs, found = torch.from_numpy(X), []
    wanted = wide()[:4](inputs)
    for weight in (0.0, strength):
        student = relational(num_epochs=15, loss=loss, relation_weight=weight).repurpose(X, y).target_model_
        found.append(float(RELATIONS[loss](student(inputs)["rows"], wanted).detach()))
    assert found[1] < 0.7 * found[0]


@pytest.mark.parametrize(
    "options", [{}, {"learning_rates": {"0": 0, "*": 0.05}, "cache_frozen": True}], ids=["plain", "frozen part"]
)
def test_recorded_rows_do_what_asking_with_each_batch_does(options: dict[str, Any]) -> None:
    recorded = relational(num_epochs=3, **options).repurpose(*blobs())
    with mock.patch.object(distilling_repurposer, "why_not_recorded", return_value="asked for"):
        asked = relational(num_epochs=3, **{**options, "cache_frozen": False}).repurpose(*blobs())
    for name, weight in state(asked).items():
        torch.testing.assert_close(state(recorded)[name], weight, rtol=0, atol=1e-5)


def test_frozen_layers_are_computed_once(caplog: Any) -> None:
    flops = mock.patch.dict(caching._FLOPS_PER_BYTE, {"in memory": 0, "on disk": 0})
    with caplog.at_level(logging.INFO), flops:
        relational(num_epochs=3, learning_rates={"0": 0, "*": 0.05}).repurpose(*blobs())
    assert any("up to '1', is computed once: 60 rows" in text for text in caplog.messages)
    assert "RelationalRepurposer: the frozen network answers all 60 rows once" in caplog.messages


def test_networks_of_images_and_a_batch_of_one_row_go_together() -> None:
    X, y = images(21)
    teacher = Source(nn.Sequential(nn.Conv2d(1, 3, 5), nn.ReLU()), transform=lambda image: 1 / 0)
    repurposer = relational(conv_network(), teacher, transfer_layer_name="stage2", num_epochs=2, batch_size=1)
    repurposer.set_params(learning_rates={"stage1": 0, "*": 0.01}, norm_statistics="source")
    repurposer.source_model = trained_statistics()
    assert np.isfinite(repurposer.repurpose(X, y).history_.values("loss")).all()
    assert repurposer.target_model_(torch.from_numpy(X))["rows"].shape == (21, 7)


def trained_statistics() -> nn.Module:
    network = conv_network()
    network(torch.from_numpy(images()[0]))
    return network


def test_a_teacher_without_weights_and_one_of_another_precision_are_asked_too() -> None:
    for teacher in (nn.Sequential(nn.Tanh()), wide().double()):
        history = relational(teacher=teacher, num_epochs=8, relation_weight=0.1).repurpose(*blobs()).history_
        assert history.values("loss")[-1] < history.values("loss")[0]


def test_no_file_needs_the_teacher_and_no_answer_does(tmp_path: Any) -> None:
    X, y = blobs()
    repurposer = relational(num_epochs=2, teacher_layer_name="1", loss="correlation", num_members=2).repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=small_network())
    assert (loaded.teacher, loaded.teacher_layer_name, loaded.loss) == (None, "1", "correlation")
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    with pytest.raises(ValueError, match="teacher must be a network, a Source or the name of one, got None"):
        loaded.repurpose(X, y)
    again = load(tmp_path / "saved", source_model=small_network(), teacher=wide()).repurpose(X, y)
    assert np.array_equal(again.predict_probability(X), repurposer.predict_probability(X))


def test_the_teacher_stays_as_it_is_and_clones_share_it() -> None:
    teacher = wide().train()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    repurposer = relational(teacher=teacher, num_epochs=2).repurpose(*blobs())
    assert teacher.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in teacher.parameters())
    assert clone(repurposer).teacher is teacher
    assert "teacher=Sequential (197 parameters)" in repr(repurposer)
    assert "Linear(" not in repr(repurposer)
    assert "Linear(" not in repurposer._repr_html_()


def test_another_teacher_is_another_training(tmp_path: Any) -> None:
    relational(num_epochs=1, checkpoint_dir=tmp_path).repurpose(*blobs())
    with pytest.raises(ValueError, match="frozen network"):
        relational(teacher=wide(seed=8), num_epochs=1, checkpoint_dir=tmp_path).repurpose(*blobs())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "rdk"}, "loss must be one of rkd, correlation, got 'rdk'; nearest: 'rkd'"),
        ({"loss": 3}, "loss must be one of rkd, correlation, got 3"),
        ({"relation_weight": -0.5}, "relation_weight must be a finite number of at least 0, got -0.5"),
        ({"relation_weight": float("nan")}, "relation_weight must be a finite number of at least 0, got nan"),
        ({"teacher": 3}, "teacher must be a network, a Source or the name of one, got 3"),
        ({"teacher_layer_name": 2}, "teacher_layer_name must be the name of a layer, or None, got 2"),
        ({"transfer_layer_name": 2}, "transfer_layer_name must be the name of a layer, or None, got 2"),
    ],
)
def test_parameters_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        relational(**options).repurpose(*blobs())


def test_a_layer_that_the_teacher_does_not_have_is_told_with_the_nearest() -> None:
    teacher = nn.Sequential()
    for name in ("stem", "block", "fc"):
        teacher.add_module(name, nn.Linear(4, 4))
    with pytest.raises(UnknownLayerError, match=r"of the teacher.* 'blok'.*block"):
        relational(None, teacher, "blok").repurpose(*blobs())


def test_a_teacher_of_other_rows_is_told() -> None:
    with pytest.raises(ModelError, match="of the teacher, which reads the rows of the student"):
        relational(teacher=nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2))).repurpose(*blobs())


def test_rows_of_a_source_are_refused_with_what_serves() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'source_data': .* use DannRepurposer"):
        relational().repurpose(*blobs(), source_data=blobs())
