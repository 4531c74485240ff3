from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model_handler import ModelHandler
from model_handler.extraction.pooling import pool
from model_handler.network.outputs import select_tensor
from repurpose.neural_network.toast.ended_network import ended_network
from repurpose.neural_network.toast.places import find_places
from repurpose.neural_network.toast.steered_network import SteeredNetwork
from repurpose.training.steps.forward import call
from tests.repurpose.neural_network.toast.networks import (
    WIDTH,
    fused_vit,
    images,
    multi_head_vit,
    other_network,
    steered_by_hand,
    tiny_bert,
    tiny_resnet,
)


def steered(network: nn.Module, example: Any, **options: Any) -> SteeredNetwork:
    handler = ModelHandler(network, example)
    ended = ended_network(handler, None, example)
    module = SteeredNetwork(ended, find_places(handler, ended, example), **options).with_head(3, example)
    nn.init.normal_(module.selection.P, std=0.5)
    return module.eval()


def test_both_passes_over_a_vision_transformer_are_those_of_the_paper() -> None:
    network, (X, _) = fused_vit(), images()
    module = steered(network, X)
    expected = steered_by_hand(module, network, X)
    assert torch.allclose(module(X), expected, atol=1e-5)
    module.selection.xi.data.neg_()  # what was selected is not any more, and the other way round
    assert not torch.allclose(module(X), expected, atol=1e-3)
    assert torch.allclose(module(X), steered_by_hand(module, network, X), atol=1e-5)


def test_the_gradient_of_xi_is_that_of_the_passes_by_hand() -> None:
    network, (X, _) = fused_vit(), images()
    module = steered(network, X)
    wanted = ("selection.xi", "selection.P", "feedback.A.0.weight", "feedback.B.1.weight", "head.bias")
    parameters = [dict(module.named_parameters())[name] for name in wanted]
    own = torch.autograd.grad(module(X).square().sum(), parameters)
    by_hand = torch.autograd.grad(steered_by_hand(module, network, X).square().sum(), parameters)
    # the first pass is a constant, and no parameter of ours stands before it: nothing else than by hand
    assert all(torch.allclose(one, other, rtol=1e-3, atol=1e-6) for one, other in zip(own, by_hand, strict=True))


@pytest.mark.parametrize("make", [fused_vit, tiny_resnet])
def test_a_task_of_zeros_leaves_the_same_bits(make: Any) -> None:
    network, (X, _) = make(), images()
    module = steered(network, X)
    module.head = nn.Identity()
    module.selection.xi.data.zero_()
    classifier = network.head if hasattr(network, "head") else network.fc
    features: list[Tensor] = []
    classifier.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    with torch.no_grad():
        network(X)
        assert torch.equal(module(X), features[0])


@pytest.mark.parametrize("family", ["albert", "gpt2", "beit", "swin", "convnext"])
def test_other_families_are_steered_and_without_a_task_as_they_were(family: str) -> None:
    network, inputs = other_network(family)
    module = steered(network, inputs)
    with torch.no_grad():
        steered_logits = call(module, inputs)
        module.selection.xi.data.zero_()
        found = call(module, inputs)
        mask = inputs["attention_mask"] if isinstance(inputs, dict) else None
        features = select_tensor(call(module.network, inputs), "the network", None)
        assert torch.equal(found, module.head(pool(features, "auto", None, mask)))
        assert (found - steered_logits).abs().max() > 1e-4


def test_a_task_of_zeros_leaves_multi_head_attention_as_near_as_rounding_allows() -> None:
    network, (X, _) = multi_head_vit(), images()
    module = steered(network, X)
    module.head = network.heads.head
    before = module(X)
    module.selection.xi.data.zero_()
    with torch.no_grad():
        assert (module(X) - network(X)).abs().max() < 1e-5
        assert (module(X) - before).abs().max() > 1e-3


def test_multi_head_attention_is_steered_as_a_fused_projection_is() -> None:
    network, (X, _) = multi_head_vit(), images()
    module = steered(network, X)
    twin = fused_vit(mlp_ratio=1.5)
    twin.load_state_dict(_in_names_of_timm(network))
    other = steered(twin, X)
    own = {name: value for name, value in module.state_dict().items() if not name.startswith("network.")}
    other.load_state_dict({**other.state_dict(), **own})
    assert torch.allclose(module(X), other(X), atol=1e-5)


def _in_names_of_timm(network: nn.Module) -> dict[str, Tensor]:
    renamed = {}
    replacements = {
        "encoder.layers.encoder_layer_": "blocks.",
        "self_attention.in_proj_": "attn.qkv.",
        "self_attention.out_proj": "attn.proj",
        "ln_1": "norm1",
        "ln_2": "norm2",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
        "encoder.ln": "norm",
        "encoder.pos_embedding": "pos_embed",
        "class_token": "cls_token",
        "conv_proj": "patch_embed.proj",
        "heads.head": "head",
    }
    for name, value in network.state_dict().items():
        for old, new in replacements.items():
            name = name.replace(old, new)
        renamed[name] = value
    return renamed


def test_both_passes_over_a_residual_network_are_those_of_the_paper() -> None:
    network: Any = tiny_resnet()
    X, _ = images(size=9)  # the second stage makes 5 x 5 of it, and feedback 10 x 10
    module = steered(network, X)
    xi, P, A, B = module.selection.xi, module.selection.P, module.feedback.A, module.feedback.B
    z = network.blocks(network.stem(X))
    normal = (z - z.mean(1, keepdim=True)) / (z.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    scores = torch.einsum("nchw,c->nhw", normal, xi) / (normal.norm(dim=1) * xi.norm())
    u = torch.einsum("nchw,dc->ndhw", scores.clamp(0, 1).unsqueeze(1) * z, P)
    # stride 2: every position makes a patch of 2 x 2, through a matrix for each of its corners
    up = torch.zeros(len(X), 4, 10, 10)
    for row in range(2):
        for column in range(2):
            up[:, :, row::2, column::2] = torch.einsum("nchw,cd->ndhw", u, A[1].weight[:, :, row, column])
    td_of_second = torch.einsum("nchw,cd->ndhw", up, B[1].weight[:, :, 0, 0])
    up = torch.einsum("nchw,cd->ndhw", up, A[0].weight[:, :, 0, 0])
    td_of_image = torch.einsum("nchw,cd->ndhw", up, B[0].weight[:, :, 0, 0])
    fitted = [nn.functional.interpolate(td, size=(9, 9), mode="bilinear") for td in (td_of_image, td_of_second)]
    x = network.blocks[0](network.stem(X + fitted[0])) + fitted[1]
    expected = module.head(network.blocks[1:](x).mean((2, 3)))
    assert torch.allclose(module(X), expected, atol=1e-5)
    assert (expected - module.head(network.blocks(network.stem(X)).mean((2, 3)))).abs().max() > 1e-3


def test_padding_is_not_fed_back_and_changes_nothing() -> None:
    module = steered(tiny_bert(), {"input_ids": torch.ones(2, 5).long(), "attention_mask": torch.ones(2, 5).long()})
    ids = torch.tensor([[3, 4, 5, 0, 0], [6, 7, 8, 9, 2]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    with torch.no_grad():
        logits = module(input_ids=ids, attention_mask=mask)
        alone = module(input_ids=ids[:1, :3], attention_mask=mask[:1, :3])
        z = module.first_pass(input_ids=ids, attention_mask=mask)
        with module.steered(z, mask.bool()) as top_down:
            module.network(input_ids=ids, attention_mask=mask)
    assert torch.allclose(logits[:1], alone, atol=1e-6)
    assert all(td.shape == (2, 5, WIDTH) and not td[0, 3:].any() and td[0, :3].any() for td in top_down)


def test_a_text_of_padding_alone_is_refused() -> None:
    inputs = {"input_ids": torch.ones(2, 5).long(), "attention_mask": torch.tensor([[1] * 5, [0] * 5])}
    module = steered(tiny_bert(), {"input_ids": inputs["input_ids"], "attention_mask": torch.ones(2, 5).long()})
    with pytest.raises(ValueError, match="row 1 of a batch has no token: its attention_mask is 0 everywhere"):
        module(**inputs)
    with pytest.raises(ValueError, match="row 1"):
        module(inputs["input_ids"], inputs["attention_mask"])


def test_the_network_never_learns_and_stays_in_evaluation_mode() -> None:
    network, (X, _) = fused_vit(proj_drop_rate=0.5), images()
    module = steered(network, X).train()
    assert torch.equal(module(X), module(X))
    assert not any(parameter.requires_grad for parameter in module.network.parameters())
    assert not any(part.training for part in module.network.modules())


def test_a_network_that_writes_into_its_input_gets_the_same_one_twice() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = fused_vit()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.mul_(2))

    X, _ = images()
    module = steered(Centred().eval(), X.clone())
    assert torch.allclose(module(X.clone()), steered_by_hand(module, module.network.inner, 2 * X), atol=1e-5)


def test_a_task_that_selects_nothing_of_the_first_rows_is_turned_round() -> None:
    network, inputs = other_network("beit")  # without a last normalisation, its tokens all point to one side
    module = steered(network, inputs)
    for turned in (1, -1):
        module.selection.xi.data.copy_(turned * module.selection.xi.data)
        before = module.selection.xi.detach().clone()
        is_dead = not module.scores(module.first_pass(inputs)).any()
        module.begin(inputs)
        assert module.scores(module.first_pass(inputs)).any()
        assert torch.equal(module.selection.xi, -before if is_dead else before)
