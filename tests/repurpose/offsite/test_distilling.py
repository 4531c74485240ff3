"""What distillation makes small, and what it leaves alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import ModelError
from model_handler.network.copying import deep_copy
from model_handler.network.states import copied_state
from repurpose.neural_network.architecture import as_spec
from repurpose.offsite.distilling import Distillation, distil, middle_loss
from repurpose.offsite.thinning import thin
from tests.repurpose.offsite.networks import bert, images, resnet, tokens, vit

READING = {"batch_size": 2}
PLAN = Distillation(
    blocks=["encoder.layers.encoder_layer_2"],
    student_end="encoder.layers.encoder_layer_2",
    teacher_end="encoder.layers.encoder_layer_4",
    is_text=False,
    class_names=None,
    example_inputs=as_spec(images(2)),
    min_steps=3,
    seed=0,
)
OF_BERT = Distillation(
    blocks=["bert.encoder.layer.1"],
    student_end="bert.encoder.layer.1",
    teacher_end="bert.encoder.layer.4",
    is_text=True,
    class_names=("a", "b", "c"),
    example_inputs=as_spec(tokens(2)),
    min_steps=1,
    seed=0,
)


def student_of(network: nn.Module, dropped: list[str]) -> nn.Module:
    student = deep_copy(network)
    thin(student, dropped)
    return student


def thinned_vit(network: nn.Module) -> nn.Module:
    return student_of(network, [f"encoder.layers.encoder_layer_{number}" for number in (1, 3, 4)])


def changed(before: dict[str, Any], network: nn.Module) -> set[str]:
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def test_the_loss_is_the_squared_error_relative_to_what_is_wanted() -> None:
    wanted, given = np.array([[3.0, -1.0], [0.0, 2.0]]), np.array([[1.0, -1.0], [4.0, 2.0]])
    by_hand = np.mean(((wanted - given) / np.sqrt(np.mean(wanted**2))) ** 2)  # (4 + 16) / 4 / (14 / 4)
    assert by_hand == pytest.approx(20 / 14)
    assert middle_loss(torch.from_numpy(given), torch.from_numpy(wanted)).item() == pytest.approx(by_hand)


def test_every_parameter_of_the_emulator_learns_and_nothing_else() -> None:
    teacher = vit()
    student = thinned_vit(teacher)
    before, of_teacher = copied_state(student), copied_state(teacher)
    distil(student, teacher, images(6), PLAN, **READING)
    assert changed(before, student) == {name for name in before if name.startswith("encoder.layers.encoder_layer_2.")}
    assert not changed(of_teacher, teacher)


def test_what_learned_before_learns_after() -> None:
    teacher = vit()
    student = thinned_vit(teacher)
    student.heads.requires_grad_(False)
    before = {name: weight.requires_grad for name, weight in student.named_parameters()}
    distil(student, teacher, images(6), PLAN, **READING)
    assert {name: weight.requires_grad for name, weight in student.named_parameters()} == before
    assert 0 < sum(before.values()) < len(before)


def test_progress_is_shown_row_by_row(capsys: pytest.CaptureFixture[str]) -> None:
    teacher = vit()
    distil(thinned_vit(teacher), teacher, images(6), PLAN, **READING)
    assert not capsys.readouterr().err
    distil(thinned_vit(teacher), teacher, images(6), replace(PLAN, verbose=True, min_steps=4), **READING)
    shown = capsys.readouterr().err
    assert "Distilling" in shown
    assert "8/8 rows" in shown  # three steps an epoch of two rows each, and one step more


def test_blocks_without_weights_cannot_be_distilled() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    plan = replace(PLAN, blocks=["1"], student_end="1", teacher_end="1", example_inputs=as_spec(torch.rand(2, 4)))
    with pytest.raises(ValueError, match="the emulator's blocks, 1, have no weights, so that there is nothing to dis"):
        distil(deep_copy(network), network, torch.rand(4, 4), plan)


def test_the_emulator_comes_nearer_to_the_middle() -> None:
    teacher = vit()
    student = thinned_vit(teacher)
    losses = distil(student, teacher, images(4), replace(PLAN, min_steps=60), batch_size=4)
    assert len(losses) == 60
    assert losses[-1] < 0.9 * losses[0]


def test_the_first_loss_of_images_is_that_of_the_middles_outputs() -> None:
    teacher, X = vit(), images(4)
    student = thinned_vit(teacher)
    z = teacher._process_input(X)
    z = torch.cat([teacher.class_token.expand(4, -1, -1), z], dim=1) + teacher.encoder.pos_embedding
    layers = teacher.encoder.layers
    read = layers[0](z)
    wanted = layers[4](layers[3](layers[2](layers[1](read))))
    error = (wanted - layers[2](read)).square().mean() / wanted.square().mean()
    (loss,) = distil(student, teacher, (X, ["any", "label", "will", "do"]), replace(PLAN, min_steps=1), batch_size=4)
    assert loss == pytest.approx(error.item(), rel=1e-5)


def test_of_labelled_text_the_task_counts_too() -> None:
    teacher, labels = bert(), ["b", "a", "c", "b"]
    student = student_of(teacher, [f"bert.encoder.layer.{number}" for number in (2, 3, 4)])
    outputs: dict[str, torch.Tensor] = {}
    for name, network, last in (("S", student, 1), ("T", teacher, 4)):
        block = network.bert.encoder.layer[last]
        block.register_forward_hook(lambda module, given, output, name=name: outputs.update({name: output}))
    logits = student(**tokens()).logits
    teacher(**tokens())
    S, T = outputs["S"], outputs["T"]
    middle = 30 * ((T - S) / T.square().mean().sqrt()).square().mean()
    task = -logits.log_softmax(1)[torch.arange(4), torch.tensor([1, 0, 2, 1])].mean()
    (loss,) = distil(deep_copy(student), teacher, {**tokens(), "labels": labels}, OF_BERT, batch_size=4)
    assert loss == pytest.approx((middle + task).item(), rel=1e-4)
    (unlabelled,) = distil(deep_copy(student), teacher, tokens(), OF_BERT, batch_size=4)
    assert unlabelled == pytest.approx(middle.item(), rel=1e-4)


def test_an_epoch_is_taken_where_it_is_more_than_the_fewest_steps() -> None:
    teacher = vit()
    assert len(distil(thinned_vit(teacher), teacher, images(9), PLAN, **READING)) == 5
    assert len(distil(thinned_vit(teacher), teacher, images(2), PLAN, **READING)) == 3


def test_statistics_of_normalisation_stay() -> None:
    teacher = resnet()
    student = student_of(teacher, ["layer2.1", "layer2.2"])
    before = copied_state(student)
    plan = replace(
        PLAN,
        example_inputs=as_spec(images(2, 32)),
        blocks=["layer2.0", "layer2.1"],
        student_end="layer2.1",
        teacher_end="layer2.3",
    )
    distil(student, teacher, images(4, 32), plan, **READING)
    assert changed(before, student) == {
        name for name, _ in student.named_parameters() if name.startswith(("layer2.0.", "layer2.1."))
    }


def test_the_same_seed_gives_the_same_emulator() -> None:
    teacher, found = vit(), []
    for seed in (0, 0, 1):
        student = thinned_vit(teacher)
        distil(student, teacher, images(6), replace(PLAN, seed=seed), **READING)
        found.append(torch.cat([weight.flatten() for weight in student.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_label_of_no_class_is_refused_before_anything_learns() -> None:
    teacher = bert()
    student = deep_copy(teacher)
    before = copied_state(student)
    refused = r"labels 'd' of distill_data are no classes of the head, which has 'a', 'b'.*OffsiteOwner\(class_names="
    with pytest.raises(ValueError, match=refused):
        distil(student, teacher, {**tokens(), "labels": ["a", "d", "b", "c"]}, OF_BERT, **READING)
    assert not changed(before, student)


def test_what_was_frozen_is_frozen_afterwards_and_nothing_else_is() -> None:
    teacher = vit()
    student = thinned_vit(teacher)
    student.conv_proj.requires_grad_(False)
    distil(student, teacher, images(), PLAN, **READING)
    frozen = [name for name, weight in student.named_parameters() if not weight.requires_grad]
    assert frozen == ["conv_proj.weight", "conv_proj.bias"]


def test_data_that_are_no_numbers_are_refused() -> None:
    teacher = vit()
    with pytest.raises(ModelError, match="the loss of distillation is nan in step 0"):
        distil(thinned_vit(teacher), teacher, images() * torch.inf, PLAN, **READING)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            torch.rand(4, 16),
            r"^distill_data has rows of shape \(16,\), but the network is expecting rows of shape \(3, 16, 16\) as "
            "input, as in example_inputs: give rows with the same axes$",
        ),
        (
            images(4, 20),
            r"^distill_data has rows of shape \(3, 20, 20\), which the network does not take: it reads rows like "
            r"those of example_inputs, of shape \(3, 16, 16\) \(Wrong image height",
        ),
    ],
)
def test_rows_of_another_shape_are_refused_before_anything_learns(rows: torch.Tensor, message: str) -> None:
    teacher = vit()
    student = thinned_vit(teacher)
    before = copied_state(student)
    with pytest.raises(ValueError, match=message):
        distil(student, teacher, rows, PLAN, **READING)
    assert not changed(before, student)
    assert all(weight.requires_grad for weight in student.parameters())
