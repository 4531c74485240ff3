"""Repurposers give the same numbers whatever modes, and whatever default dtype, surround the call."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from repurpose import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    NeuralNetworkFineTuneRepurposer,
    NeuralNetworkRandomFreezeRepurposer,
    load,
)
from repurpose.domain import (
    DannRepurposer,
    DanRepurposer,
    DomainNetworkRepurposer,
    LwfRepurposer,
    MultiTaskRepurposer,
    RelationalRepurposer,
)
from repurpose.meta_model.gp import svgp

rng = np.random.RandomState(0)
X, y = rng.randn(30, 6).astype(np.float32), np.arange(30) % 3
MODES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}
KINDS: dict[str, Callable[[nn.Module], Any]] = {
    "bnn": lambda net: BnnRepurposer(net, ["2"], num_epochs=2, c=1.0, random_state=0),
    "gp": lambda net: GpRepurposer(net, ["2"], max_function_evaluations=2, random_state=0),
    "svgp": lambda net: GpRepurposer(net, ["2"], svgp=True, n_inducing=6, max_function_evaluations=2, random_state=0),
    "laplace": lambda net: LaplaceRepurposer(net, ["2"], random_state=0),
    "fine-tuning": lambda net: NeuralNetworkFineTuneRepurposer(
        net, "2", num_epochs=1, ema=0.9, class_weight="balanced", random_state=0
    ),
    "random-freeze": lambda net: NeuralNetworkRandomFreezeRepurposer(
        net, random_layers=["0"], fixed_layers=["1"], num_epochs=1, random_state=0
    ),
    "lwf": lambda net: LwfRepurposer(net, num_epochs=1, random_state=0),
    "relations": lambda net: RelationalRepurposer(net, net, num_epochs=1, random_state=0),
    "dan": lambda net: DanRepurposer(net, num_epochs=1, random_state=0),
    "dann": lambda net: DannRepurposer(net, hidden_widths=(4,), num_epochs=1, random_state=0),
    "two tasks": lambda net: MultiTaskRepurposer(net, num_epochs=1, random_state=0),
}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(svgp, "_STEPS", 3)
    yield
    torch.set_default_dtype(torch.float32)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 4))
    return nn.Sequential(*layers).float()


def answers(kind: str, net: nn.Module, data: Any = X) -> list[np.ndarray]:
    repurposer = trained(kind, net, data)
    found = [repurposer.predict_proba(data)]
    if isinstance(repurposer.target_model_, nn.Module) and not isinstance(repurposer, DomainNetworkRepurposer):
        found.append(repurposer.find_learning_rate(data, y, n_steps=5).losses)
    return found


def trained(kind: str, net: nn.Module, data: Any = X) -> Any:
    repurposer = KINDS[kind](net)
    of_two_domains = isinstance(repurposer, DomainNetworkRepurposer)
    return repurposer.repurpose(data, y, **({"source_data": (data, y)} if of_two_domains else {}))


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_prediction_are_those_without_the_mode(kind: str) -> None:
    wanted = answers(kind, network())
    for mode in MODES.values():
        with mode():
            made_inside, tensor = network(), torch.tensor(X)
            found = answers(kind, made_inside, tensor)
        for mine, theirs in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(answers(kind, made_inside, tensor)[0], wanted[0])  # and after it


def test_a_network_trained_or_loaded_in_inference_mode_can_be_trained_on(tmp_path: Path) -> None:
    net = network()
    with torch.inference_mode():
        repurposer = KINDS["fine-tuning"](net).repurpose(X, y)
        repurposer.save_repurposer(tmp_path / "saved")
        loaded = load(tmp_path / "saved", source_model=net)
    for trained in (repurposer, loaded):
        module = trained.target_model_.train()
        module(torch.tensor(X)).square().sum().backward()
        torch.optim.SGD(module.parameters(), 0.1).step()
        assert not any(tensor.is_inference() for tensor in module.state_dict(keep_vars=True).values())


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_do_not_depend_on_the_default_dtype(kind: str) -> None:
    net = network()
    wanted = answers(kind, net)[0]
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        torch.set_default_dtype(dtype)
        np.testing.assert_array_equal(answers(kind, net, X.astype(np.float64))[0], wanted)
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_do_not_depend_on_the_default_device(kind: str, tmp_path: Path) -> None:
    net = network()
    wanted = answers(kind, net)[0]
    with torch.device("meta"):  # on which nothing is computed
        repurposer = trained(kind, net)
        repurposer.save_repurposer(tmp_path / "saved")
        loaded = load(tmp_path / "saved", source_model=net)
        for each in (repurposer, loaded):
            np.testing.assert_array_equal(each.predict_proba(X), wanted)


def test_a_network_in_double_precision_trains_with_class_weights() -> None:
    torch.set_default_dtype(torch.float64)
    net = network().double()
    repurposer = KINDS["fine-tuning"](net).repurpose(X, y)
    assert next(repurposer.target_model_.parameters()).dtype == torch.float64
    assert np.isfinite(repurposer.predict_proba(X)).all()
