"""Adapters as a Repurposer: what learns, what a file holds, and what is left after merging."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from model_handler import ModelError, UnknownLayerError
from model_handler.adapters.kinds import KINDS
from repurpose import AdapterRepurposer, load


def images(n_rows: int = 12) -> tuple[torch.Tensor, list[str]]:
    generator = torch.Generator().manual_seed(0)
    labels = ["red", "blue"] * (n_rows // 2)
    rows = 0.1 * torch.rand(n_rows, 3, 16, 16, generator=generator)
    for row, label in zip(rows, labels):
        row[0] += label == "red"
        row[2] += label == "blue"
    return rows, labels


def transformer(**kwargs: int) -> VisionTransformer:
    torch.manual_seed(1)
    network = VisionTransformer(16, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=5, **kwargs)
    nn.init.normal_(network.heads.head.weight)
    return network.eval()


def convolutions() -> nn.Sequential:
    torch.manual_seed(2)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    network = nn.Sequential(*layers)
    network(torch.rand(64, 3, 16, 16))  # statistics of its own
    return network.eval()


class Trained(NamedTuple):
    """A Repurposer that has learned a task, the source network, and what this held before."""

    network: nn.Module
    before: dict[str, torch.Tensor]
    repurposer: AdapterRepurposer


@cache
def trained(make: Callable[[], nn.Module], kind: str) -> Trained:
    """Train adapters of one kind; tests leave what they get as it is."""
    network = make()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    options = {"num_epochs": 15, "batch_size": 4, "learning_rates": {"new": 0.05}, "random_state": 0}
    repurposer = AdapterRepurposer(network, kind, "all" if make is convolutions else "auto", rank=2, **options)
    return Trained(network, before, repurposer.repurpose(images()))


@pytest.mark.parametrize("make", [transformer, convolutions])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_and_head_learn_the_task_and_nothing_of_the_source_changes(make, kind):
    network, before, repurposer = trained(make, kind)
    losses = repurposer.history_.values("loss")
    assert losses[-1] < 0.5 * losses[0]

    state = repurposer.target_model_.state_dict()
    for name, tensor in before.items():
        assert torch.equal(network.state_dict()[name], tensor), name
        assert name not in state or torch.equal(state[name], tensor), name
    learned = {name for group in repurposer.parameter_groups_ for name in group.parameters}
    assert {"head.weight", "head.bias"} < learned
    assert not learned & before.keys()


def test_before_training_the_head_reads_what_the_last_linear_layer_of_the_source_reads():
    network, (X, y) = transformer(), images()
    options = {"num_epochs": 1, "optimizer": "SGD", "optimizer_params": {"learning_rate": 1e-20}, "random_state": 0}
    repurposer = AdapterRepurposer(network, **options).repurpose((X, y))
    read = []
    network.heads.head.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    with torch.no_grad():
        network(X)
        logits = repurposer.target_model_(X)
        expected = repurposer.target_model_.head(read[0])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


def test_a_head_of_a_name_that_the_source_has_further_up_is_in_the_file(tmp_path):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6)), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.body(x))

    X, y, network = np.random.default_rng(0).normal(size=(20, 4)).astype("float32"), [0, 1] * 10, Named()
    repurposer = AdapterRepurposer(network, layers="body.0", rank=2, transfer_layer_name="body", num_epochs=2)
    repurposer.repurpose((X, y)).save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))


@pytest.mark.parametrize("make", [transformer, convolutions])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_holds_no_weight_of_the_source_and_a_loaded_one_answers_the_same(tmp_path, make, kind):
    network, _, repurposer = trained(make, kind)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    X, _ = images()
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    held = repurposer._learned_for_file()["target_state_"]
    assert not held.keys() & dict(network.named_parameters()).keys()


class Centred(nn.Module):
    """Adds up what it sees in training, under a name that normalisation does not have."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(8))

    def forward(self, x):
        if self.training:
            self.seen = self.seen + x.detach().mean(0)
        return x - self.seen


@pytest.mark.parametrize(
    ("make", "kind", "moved"),
    [
        (convolutions, "norm", "1.running_mean"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 8), Centred(), nn.Linear(8, 5)), "lora", "2.seen"),
    ],
)
def test_buffers_that_training_moved_are_in_the_file(tmp_path, make, kind, moved):
    network, (X, y) = make(), images()
    options = {"num_epochs": 2, "norm_statistics": "batch", "random_state": 0}
    repurposer = AdapterRepurposer(network, kind, "all", rank=2, **options).repurpose((X, y))
    assert not torch.equal(repurposer.target_model_.state_dict()[moved], network.state_dict()[moved])
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))


def test_the_file_of_a_vit_ti_is_below_a_twentieth_of_the_network(tmp_path):
    timm = pytest.importorskip("timm")
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10)
    options = {"num_epochs": 1, "batch_size": 10, "cache_frozen": False, "random_state": 0}
    repurposer = AdapterRepurposer(network, **options).repurpose((torch.rand(10, 3, 32, 32), [*range(10)]))
    repurposer.save_repurposer(tmp_path / "saved")
    of_network = sum(tensor.nbytes for tensor in network.state_dict().values())
    saved = sum(path.stat().st_size for path in (tmp_path / "saved").iterdir())
    assert saved < of_network / 20


@pytest.mark.parametrize("make", [transformer, convolutions])
@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_module_computes_the_same_by_the_layers_of_the_source(make, kind):
    network, _, repurposer = trained(make, kind)
    merged, (X, _) = repurposer.merged_module(), images()
    with torch.no_grad():
        expected, found = repurposer.target_model_(X), merged(X)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    for path, layer in network.named_modules():
        if not list(layer.children()) and "head" not in path and path != "5":
            assert type(merged.get_submodule(path)) is type(layer)
    assert {name for name in merged.state_dict() if not name.startswith("head.")} <= set(network.state_dict())


@pytest.mark.parametrize(("deep", "end"), [(False, None), (True, "encoder.ln")])
def test_prompts_learn_are_saved_alone_and_cannot_be_merged(tmp_path, deep, end):
    network, (X, y) = transformer(), images()
    options = {"n_tokens": 3, "deep": deep, "transfer_layer_name": end, "num_epochs": 1, "random_state": 0}
    repurposer = AdapterRepurposer(network, "prompt", **options).repurpose((X, y))
    sizes = {tuple(p.shape) for p in repurposer.target_model_.parameters() if p.requires_grad}
    assert sizes == {(3, 16), (2, 16), (2,)}
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    with pytest.raises(ModelError, match="prompts"):
        repurposer.merged_module()


@pytest.mark.parametrize(
    ("parts", "learning"), [(None, "qv"), ("qkv", "qkv"), ("qkvo", "qkvo")], ids=["usual", "qkv", "qkvo"]
)
def test_parts_of_attention_are_chosen_saved_and_merged(tmp_path, parts, learning):
    network, (X, y) = transformer(), images()
    repurposer = AdapterRepurposer(network, rank=1, parts=parts, num_epochs=1, random_state=0).repurpose((X, y))
    named = {"q": "lora_B_query", "k": "lora_B_key", "v": "lora_B_value", "o": "out_proj.lora_B"}
    learned = [name for name, p in repurposer.target_model_.named_parameters() if p.requires_grad and "lora_B" in name]
    inside = "encoder.layers.encoder_layer_{}.self_attention."
    assert set(learned) == {inside.format(block) + named[part] for part in learning for block in range(2)}
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert loaded.parts == parts
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    with torch.no_grad():
        torch.testing.assert_close(repurposer.merged_module()(X), repurposer.target_model_(X), rtol=1e-4, atol=1e-5)


class TwoHeads(nn.Module):
    """A transformer with the mean of two classifiers, as a distilled DeiT has them."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.first, self.second = transformer(), nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        return (self.first(x) + self.second(x)) / 2


@pytest.mark.parametrize("kind", ["lora", "prompt"])
def test_the_head_reads_what_the_last_of_two_classifiers_reads(kind):
    network, (X, y) = TwoHeads().eval(), images()
    repurposer = AdapterRepurposer(network, kind, num_epochs=1, learning_rates={"*": 0, "head": 0.1}).repurpose((X, y))
    if kind == "lora":  # which begins as the network was
        with torch.no_grad():
            expected = repurposer.target_model_.head(network.body(X)).softmax(1)
        np.testing.assert_allclose(repurposer.predict_probability(X), expected, atol=1e-5)
    assert repurposer.target_model_.head.in_features == 5


def test_an_ensemble_of_adapters_is_saved_and_merged(tmp_path):
    network, (X, y) = transformer(), images()
    options = {"num_epochs": 1, "num_members": 2, "cache_frozen": False, "random_state": 0}
    repurposer = AdapterRepurposer(network, rank=2, **options).repurpose((X, y))
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=network)
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    with torch.no_grad():
        torch.testing.assert_close(repurposer.merged_module()(X), repurposer.target_model_(X), rtol=1e-4, atol=1e-5)


def test_a_training_resumed_from_a_checkpoint_is_the_training_that_was_not_stopped(tmp_path):
    network, (X, y) = convolutions(), images()

    class Stopped(Exception):
        pass

    def stop(state, record):
        if record["epoch"] == 1:
            raise Stopped

    options = {"layers": "all", "rank": 2, "num_epochs": 3, "random_state": 0}
    whole = AdapterRepurposer(network, **options).repurpose((X, y))
    with pytest.raises(Stopped):
        AdapterRepurposer(network, **options, checkpoint_dir=tmp_path, callbacks=[stop]).repurpose((X, y))
    resumed = AdapterRepurposer(network, **options, checkpoint_dir=tmp_path).repurpose((X, y))
    assert np.array_equal(resumed.predict_probability(X), whole.predict_probability(X))


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"kind": "lroa"}, ValueError, r"no kind of adapter 'lroa'; nearest: \['lora'"),
        ({"rank": 0}, ValueError, "rank must be"),
        ({"rank": 17}, ModelError, "rank is at most 16"),
        ({"layers": "encoder.layers.encoder_layer_0.mlp.00"}, UnknownLayerError, "encoder_layer_0.mlp.0"),
        ({"transfer_layer_name": "encoder.lm"}, UnknownLayerError, "encoder.ln"),
        ({"alpha": -1.0}, ValueError, "alpha must be"),
        ({"kind": "bias", "alpha": 2.0}, ValueError, "'bias' has no scale"),
        ({"kind": "prompt", "n_tokens": 0}, ValueError, "n_tokens must be"),
        ({"kind": "prompt", "alpha": 2.0}, ModelError, "prompts have neither alpha nor parts"),
        ({"kind": "prompt", "parts": "qv"}, ModelError, "prompts have neither alpha nor parts"),
        ({"layers": None}, ValueError, r"one of \['attention', 'pointwise', 'all', 'auto'\]; got None"),
        ({"parts": "qx"}, ValueError, "letters of 'qkvo'.*got 'qx'"),
        ({"layers": "all", "parts": "qkv"}, ValueError, "parts='qkv' is for where='attention'"),
    ],
)
def test_bad_parameters_name_the_value_and_what_would_do(given, error, said):
    network = transformer()
    repurposer = AdapterRepurposer(network, num_epochs=1, **given)
    with pytest.raises(error, match=said):
        repurposer.repurpose(images())
    assert not hasattr(repurposer, "classes_")
