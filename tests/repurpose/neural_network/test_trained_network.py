"""Networks of every kind of tensor: trained, saved, loaded and resumed to the same numbers."""

import pickle
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from repurpose import NeuralNetworkFineTuneRepurposer, load

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]
rng = np.random.RandomState(0)
X, y = rng.randn(30, 6).astype(np.float32), np.arange(30) % 3


class Scaled(nn.Module):
    """Multiplies by a buffer, and keeps what it computed last."""

    def __init__(self, scale: torch.Tensor | None, persistent: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.register_buffer("scale", scale, persistent=persistent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = self.first(x)
        scale = 1.0 if self.scale is None else self.scale
        return (self.last * scale).abs()


def layers(change: Callable[[nn.Module], Any]) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    change(network[0])
    network(torch.ones(1, 6))
    return network


def scaled(scale: torch.Tensor | None, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(Scaled(scale, **options), nn.Tanh(), nn.Linear(8, 4))
    network(torch.ones(1, 6))
    return network


def scripted() -> nn.Module:
    network = layers(lambda _: None)
    network[0] = torch.jit.script(nn.Sequential(network[0], nn.BatchNorm1d(8)))
    return network


def quantized() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(layers(lambda _: None).eval(), {nn.Linear}, dtype=torch.qint8)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "weight_norm": lambda: layers(weight_norm),
    "spectral_norm": lambda: layers(spectral_norm),
    "pruned": lambda: layers(lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5)),
    "parametrized": lambda: layers(parametrizations.weight_norm),
    "orthogonal": lambda: layers(parametrizations.orthogonal),
    "expanded": lambda: scaled(torch.full((1, 1), 2.0).expand(1, 8)),
    "expanded, not saved": lambda: scaled(torch.full((1, 1), 2.0).expand(1, 8), persistent=False),
    "complex": lambda: scaled(torch.complex(torch.arange(8.0), torch.ones(8)).conj()),
    "bool": lambda: scaled(torch.arange(8) % 2 == 0),
    "none": lambda: scaled(None),
    "torchscript": scripted,
    "quantized": quantized,
}


class Interrupts:
    """Ends training like Ctrl-C after its first epoch."""

    def __call__(self, state: Any, record: Any) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("kind", NETWORKS)
def test_they_are_saved_copied_and_resumed_to_the_same_numbers(kind: str, tmp_path: Path) -> None:
    source = NETWORKS[kind]()
    state = {name: value for name, value in source.state_dict().items() if isinstance(value, torch.Tensor)}
    before = {name: value.clone() for name, value in state.items()}

    def make(**options: Any) -> NeuralNetworkFineTuneRepurposer:
        return NeuralNetworkFineTuneRepurposer(
            source, "1", num_epochs=2, ema=0.9, validation_fraction=0.2, early_stopping=2, random_state=0, **options
        )

    repurposer = make().repurpose(X, y)
    wanted = repurposer.predict_proba(X)
    repurposer.save_repurposer(tmp_path / "saved")
    with pytest.raises(KeyboardInterrupt):
        make(checkpoint_dir=tmp_path / "kept", callbacks=[Interrupts()]).repurpose(X, y)
    found = {
        "loaded": load(tmp_path / "saved", source_model=source),
        "resumed": make(checkpoint_dir=tmp_path / "kept").repurpose(X, y),
        "cloned": clone(repurposer).repurpose(X, y),
    }
    if kind in ("weight_norm", "spectral_norm", "pruned", "expanded"):  # torch refuses to pickle the others
        found["pickled"] = pickle.loads(pickle.dumps(repurposer))
    for how, again in found.items():
        np.testing.assert_array_equal(again.predict_proba(X), wanted, err_msg=how)
    deepcopy(make().repurpose(X, y).target_model_)
    rates = repurposer.find_learning_rate(X, y, n_steps=5)
    assert np.isfinite(rates.losses).all()
    assert all(torch.equal(value, before[name]) for name, value in state.items())


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "pruned", "parametrized"])
def test_the_weight_in_use_follows_what_was_trained(kind: str) -> None:
    source = NETWORKS[kind]()
    module: Any = (
        NeuralNetworkFineTuneRepurposer(
            source, "1", num_epochs=2, optimizer_params={"learning_rate": 0.1}, random_state=0
        )
        .repurpose(X, y)
        .target_model_
    )
    state = module.state_dict()
    if kind == "weight_norm":
        v = state["0.weight_v"]
        weight = state["0.weight_g"] * v / v.norm(dim=1, keepdim=True)
    elif kind == "spectral_norm":
        w = state["0.weight_orig"]
        weight = w / (state["0.weight_u"] @ w @ state["0.weight_v"])
    elif kind == "pruned":
        weight = state["0.weight_orig"] * state["0.weight_mask"]
    else:
        g, v = (state[f"0.parametrizations.weight.original{number}"] for number in range(2))
        weight = g * v / v.norm(dim=1, keepdim=True)
    x = torch.tensor(X)
    with torch.no_grad():
        hidden = (x @ weight.T + state["0.bias"]).relu()
        wanted = hidden @ state["head.weight"].T + state["head.bias"]
        torch.testing.assert_close(module(x), wanted, rtol=0, atol=1e-5)
        assert (weight - source.eval()[0].weight).abs().max() > 1e-3


def test_the_head_of_a_quantized_network_learns_on_its_outputs() -> None:
    source = quantized()
    module: Any = (
        NeuralNetworkFineTuneRepurposer(source, "1", num_epochs=2, random_state=0).repurpose(X, y).target_model_
    )
    x = torch.tensor(X)
    with torch.no_grad():
        hidden = source[0](x).relu()
        wanted = hidden @ module.head.weight.T + module.head.bias
        torch.testing.assert_close(module(x), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cache_frozen", [False, "auto"])
def test_frozen_torchscript_stands_still(cache_frozen: Any) -> None:
    source = scripted()
    before = {name: value.clone() for name, value in source.state_dict().items() if name.startswith("0.")}
    rates = {"0": 0, "*": 1e-2}
    module: Any = (
        NeuralNetworkFineTuneRepurposer(
            source, "1", num_epochs=2, learning_rates=rates, cache_frozen=cache_frozen, random_state=0
        )
        .repurpose(X, y)
        .target_model_
    )
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


class _Lengths(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 4, batch_first=True)
        self.fc = nn.Linear(4, 3)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.fc(self.lstm(packed)[1][0][-1])


def test_a_network_that_refuses_lengths_of_zero_is_loaded(tmp_path):
    rng = np.random.RandomState(0)
    x, lengths, y = rng.randn(9, 5, 2).astype("float32"), rng.randint(1, 6, 9), np.arange(9) % 3
    network = _Lengths()
    tuned = NeuralNetworkFineTuneRepurposer(network, transfer_layer_name="fc", num_epochs=1, random_state=0)
    right = tuned.repurpose(((x, lengths), y)).predict_probability(((x, lengths),))
    tuned.save_repurposer(tmp_path / "saved")
    assert np.array_equal(load(tmp_path / "saved", source_model=network).predict_probability(((x, lengths),)), right)
