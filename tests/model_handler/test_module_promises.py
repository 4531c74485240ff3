"""What `get_module` promises of an edited network: all that a user does with an ordinary module."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch._subclasses import FakeTensorMode

from tests.model_handler.networks import Residual, handle, images
from tests.model_handler.two_processes import edited_residual

ROOT = Path(__file__).parents[2]
FROZEN = ("conv1.", "bn1.", "layer1.0.")
HELD = {"conv1", "bn1", "relu", "layer1.0", "layer1.0.conv", "layer1.0.bn", "layer1.0.relu"}


def by_hand(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The edited network as a user would write it, in evaluation mode."""
    modules = dict(network.named_modules())

    def block(path: str, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(modules[f"{path}.bn"](modules[f"{path}.conv"](x)) + x)

    x = torch.relu(modules["bn1"](modules["conv1"](x)))
    return modules["head.1"](block("layer1.1", block("layer1.0", x)).mean((2, 3)))


def changed_by_a_step(network: nn.Module, forward=None) -> set[str]:
    """The parameters and buffers that one step of training with weight decay changes."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    (network if forward is None else forward)(images(seed=1)).square().mean().backward()
    optimizer.step()
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


def learning(network: nn.Module) -> set[str]:
    return {name for name in network.state_dict() if not name.startswith(FROZEN)}


def held(network: nn.Module) -> set[str]:
    """The modules that stay in evaluation mode when all are asked to train."""
    return {name for name, module in network.train().named_modules() if not module.training}


def in_a_new_process(code: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_evaluates_like_a_network_written_by_hand():
    network = edited_residual().eval()
    torch.testing.assert_close(network(images()), by_hand(network, images()))


def test_training_changes_what_learns_and_nothing_else():
    network = edited_residual().train()
    assert changed_by_a_step(network) == learning(network)
    assert held(network) == HELD


def test_training_learns():
    torch.manual_seed(0)
    network = edited_residual().train()
    x, y = images(40, seed=2), torch.arange(40) % 5
    x[torch.arange(40), :, y, y] += 8
    optimizer = torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(network(x), y))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def test_a_deep_copy_is_equal_and_learns_alone():
    network = edited_residual()
    copied = copy.deepcopy(network)
    assert torch.equal(copied.eval()(images()), network.eval()(images()))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert changed_by_a_step(copied.train()) == learning(copied)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert held(copied) == HELD


def test_it_moves_to_another_device_and_dtype():
    network = edited_residual().to("meta")
    assert network(images().to("meta")).shape == (5, 5)
    assert held(network) == HELD
    assert edited_residual().double().eval()(images().double()).dtype == torch.float64


def test_nothing_of_it_stays_behind_on_the_cpu(tmp_path):
    torch.save(edited_residual(), tmp_path / "network.pt")
    with FakeTensorMode():
        network = torch.load(tmp_path / "network.pt", weights_only=False, map_location="cuda")
        output = network.train()(torch.randn(5, 3, 8, 8, device="cuda"))
        assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers(), output)} == {"cuda"}


def test_saved_as_a_module_it_is_the_same_in_a_new_process(tmp_path):
    network = edited_residual()
    torch.save(network, tmp_path / "network.pt")
    torch.save((images(), network.eval()(images())), tmp_path / "data.pt")
    code = (
        "import sys, torch; network = torch.load(sys.argv[1], weights_only=False); x, y = torch.load(sys.argv[2]);"
        "print(torch.equal(network.eval()(x), y), [n for n, m in network.train().named_modules() if not m.training],"
        "[n for n, p in network.named_parameters() if p.requires_grad])"
    )
    learns = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    modes = [name for name, module in network.train().named_modules() if not module.training]
    out = in_a_new_process(code, tmp_path / "network.pt", tmp_path / "data.pt")
    assert out.strip() == f"True {modes} {learns}"


def test_its_state_dict_is_saved_and_loaded_by_another_one(tmp_path):
    network, other = edited_residual(), edited_residual()
    changed_by_a_step(network.train())
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other.eval()(images()), network.eval()(images()))
    assert held(other) == HELD


def test_existing_checkpoints_load_but_for_the_head():
    network = torchvision.models.resnet18(weights=None)
    edited = (
        handle(network, torch.randn(2, 3, 64, 64)).truncate(at="flatten").add_layer_top([("head", nn.Linear(512, 4))])
    )
    module = edited.get_module()
    checkpoint = torchvision.models.resnet18(weights=None).state_dict()
    missing, unexpected = module.load_state_dict(checkpoint, strict=False)
    assert (missing, unexpected) == (["head.weight", "head.bias"], ["fc.weight", "fc.bias"])
    assert torch.equal(module.layer4[1].conv2.weight, checkpoint["layer4.1.conv2.weight"])


@pytest.mark.parametrize("training", [False, True])
def test_compiled_it_computes_and_learns_the_same(training):
    network = edited_residual().train(training)
    copied = copy.deepcopy(network)
    compiled = torch.compile(copied, backend="aot_eager", fullgraph=True)
    outputs = []
    for forward in (network, compiled):
        torch.manual_seed(3)
        outputs.append(forward(images()))
        outputs[-1].square().mean().backward()
    assert torch.equal(*outputs)
    for (name, own), original in zip(copied.named_parameters(), network.parameters(), strict=True):
        assert (own.grad is None) == (original.grad is None) == name.startswith(FROZEN)
        assert own.grad is None or torch.equal(own.grad, original.grad)
    assert all(map(torch.equal, copied.buffers(), network.buffers()))


def test_compiled_it_stays_frozen_through_train():
    network = edited_residual().eval()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    compiled(images())
    assert held(compiled._orig_mod) == HELD
    assert changed_by_a_step(network, compiled.train()) == learning(network)


@pytest.mark.slow
def test_compiled_by_inductor_it_computes_and_learns_the_same():
    network = edited_residual().eval()
    compiled = torch.compile(copy.deepcopy(network), fullgraph=True)
    torch.testing.assert_close(compiled(images()), network(images()))
    compiled.train()
    assert changed_by_a_step(compiled._orig_mod, compiled) == learning(network)


@pytest.mark.parametrize("training", [False, True])
def test_exported_it_computes_the_same_under_the_same_keys(training):
    network = edited_residual().train(training)
    exported = torch.export.export(network, (images(),))
    assert set(exported.state_dict) == set(network.state_dict())
    outputs = []
    for forward in (network, exported.module()):
        torch.manual_seed(3)
        outputs.append(forward(images(seed=4)))
    assert torch.equal(*outputs)


def test_exported_to_onnx_it_computes_the_same(tmp_path):
    reference = pytest.importorskip("onnx.reference")
    pytest.importorskip("onnxscript")
    network = edited_residual().eval()
    program = torch.onnx.export(network, (images(),), dynamo=True, verbose=False)
    evaluator = reference.ReferenceEvaluator(program.model_proto)
    (got,) = evaluator.run(None, {evaluator.input_names[0]: images(seed=5).numpy()})
    np.testing.assert_allclose(got, by_hand(network, images(seed=5)).detach().numpy(), rtol=1e-4, atol=1e-6)


def test_two_processes_train_it_with_equal_gradients_and_leave_what_is_frozen():
    launch = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "tests.model_handler.two_processes",
    ]
    command = [sys.executable, "-W", "ignore", *launch]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    gradients, changed = result.stdout.strip().splitlines()[-2:]
    assert gradients == "equal gradients: True True"
    assert set(changed.split()[1:]) == learning(edited_residual())


def test_the_source_is_free_of_it_all():
    network = Residual()
    handler = handle(network, images()).truncate(at="flatten").freeze(up_to="layer1.0")
    module = handler.get_module()
    changed_by_a_step(module.train().requires_grad_(True))
    assert torch.equal(
        handler.get_module().eval()(images()),
        handler.undo().undo().truncate(at="flatten").get_module().eval()(images()),
    )
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
