"""Prompts, beside networks in which the same tokens are put in by hand, with masks made by hand."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model_handler import ModelError
from tests.model_handler.adapters.networks import answer, family, randomise
from tests.model_handler.networks import handle, saved_and_loaded, snapshot, train_one_epoch

N_TOKENS = 3


def put_in_by_hand(network: nn.Module, blocks: Sequence[str], prompts: Sequence[Tensor], inputs: Any) -> Tensor:
    """The answer of a network whose blocks get prompts behind the first token: all their own, or the first alone."""
    network = copy.deepcopy(network)

    def put(own: Tensor) -> Any:
        def hook(module: nn.Module, arguments: tuple, options: dict) -> tuple:
            tokens = arguments[0]
            return (
                torch.cat([tokens[:, :1], own.expand(len(tokens), -1, -1), tokens[:, 1:]], 1),
                *arguments[1:],
            ), options

        return hook

    def take(module: nn.Module, arguments: tuple, tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :1], tokens[:, 1 + N_TOKENS :]], 1)

    for path, own in zip(blocks, prompts, strict=False):
        network.get_submodule(path).register_forward_pre_hook(put(own), with_kwargs=True)
    for path in blocks if len(prompts) > 1 else blocks[-1:]:
        network.get_submodule(path).register_forward_hook(take)
    return answer(network, inputs)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("name", ["ViT", "ViT of torchvision", "ViT of transformers", "torch's encoder"])
def test_prompts_run_behind_the_first_token_and_are_taken_out(name: str, deep: bool) -> None:
    network, inputs = family(name)
    before = snapshot(network)
    handler = handle(network, inputs).add_adapters("auto", "prompt", n_tokens=N_TOKENS, deep=deep, random_state=0)
    blocks = [block.name for block in handle(network, inputs).blocks]
    put = blocks if deep else blocks[:1]
    module = handler.get_module().eval()
    assert [name for name, p in module.named_parameters() if p.requires_grad] == [
        f"{path}.prompt_tokens" for path in put
    ]
    prompts = [module.get_parameter(f"{path}.prompt_tokens").detach() for path in put]
    assert prompts[0].shape == (N_TOKENS, 16)
    assert prompts[0].abs().max() <= (3 / 16) ** 0.5
    wanted = put_in_by_hand(network, blocks, prompts, inputs)
    torch.testing.assert_close(answer(module, inputs), wanted)
    assert not torch.allclose(wanted, answer(network, inputs))
    again = saved_and_loaded(module)
    torch.testing.assert_close(answer(again, inputs), wanted)
    removed = handle(again, inputs).remove_adapters().get_module().eval()
    assert torch.equal(answer(removed, inputs), answer(network, inputs))
    assert list(removed.state_dict()) == list(network.state_dict())
    assert snapshot(network) == before


def additive(visible: Tensor) -> Tensor:
    return torch.zeros(visible.shape).masked_fill(~visible, -1e9)


@pytest.mark.parametrize("deep", [False, True])
def test_masks_of_text_are_lengthened(deep: bool) -> None:
    network, inputs = family("BERT")
    module = handle(network, inputs).add_adapters("auto", "prompt", n_tokens=N_TOKENS, deep=deep).get_module().eval()
    with torch.no_grad():
        tokens = network.embeddings(inputs["input_ids"])
        seen = inputs["attention_mask"].bool()
        seen = torch.cat([seen[:, :1], torch.ones(2, N_TOKENS, dtype=torch.bool), seen[:, 1:]], 1)
        for number, layer in enumerate(network.encoder.layer):
            if deep or not number:
                own = module.encoder.layer[number].prompt_tokens.expand(2, -1, -1)
                rest = tokens[:, 1 + N_TOKENS * (number > 0) :]
                tokens = torch.cat([tokens[:, :1], own, rest], 1)
            tokens = layer(tokens, additive(seen[:, None, None]))
    wanted = torch.cat([tokens[:, :1], tokens[:, 1 + N_TOKENS :]], 1)
    torch.testing.assert_close(answer(module, inputs), wanted)


def test_causal_networks_get_prompts_before_all_tokens() -> None:
    network, inputs = family("GPT-2")
    text = {**inputs, "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])}
    module = handle(network, inputs).add_adapters("auto", "prompt", n_tokens=N_TOKENS).get_module().eval()
    with torch.no_grad():
        tokens = network.wte(inputs["input_ids"]) + network.wpe(torch.arange(6))
        tokens = torch.cat([module.h[0].prompt_tokens.expand(2, -1, -1), tokens], 1)
        for mask, given in ((torch.ones(2, 6), inputs), (text["attention_mask"], text)):
            keys = torch.cat([torch.ones(2, N_TOKENS), mask], 1).bool()
            seen = keys[:, None, None] & torch.ones(9, 9, dtype=torch.bool).tril()
            hidden = tokens
            for layer in network.h:
                hidden = layer(hidden, attention_mask=additive(seen))
                hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            wanted = network.ln_f(hidden[:, N_TOKENS:])
            torch.testing.assert_close(answer(module, given)[mask.bool()], wanted[mask.bool()])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_masks_of_torch_s_own_layers_hide_what_is_true() -> None:
    network = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 2, enable_nested_tensor=False
    )
    x, hidden = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 5, dtype=torch.bool)
    hidden[1, 3:] = True
    inputs = {"src": x, "src_key_padding_mask": hidden}
    module = handle(network.eval(), inputs).add_adapters("auto", "prompt", n_tokens=N_TOKENS).get_module().eval()
    with torch.no_grad():
        tokens = torch.cat([x[:, :1], module.layers[0].prompt_tokens.expand(2, -1, -1), x[:, 1:]], 1)
        longer = torch.cat([hidden[:, :1], torch.zeros(2, N_TOKENS, dtype=torch.bool), hidden[:, 1:]], 1)
        for layer in network.layers:
            tokens = layer(tokens, src_key_padding_mask=longer)
        wanted = torch.cat([tokens[:, :1], tokens[:, 1 + N_TOKENS :]], 1)
    torch.testing.assert_close(answer(module, inputs)[~hidden], wanted[~hidden])
    nested = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 2).eval()
    module = handle(nested, x).add_adapters("auto", "prompt").get_module()
    with pytest.raises(ModelError, match="enable_nested_tensor=False"):
        answer(module, inputs)


REFUSED = {
    "ConvNeXt": r"block 'stages.0.blocks.0' runs on \(1, 4, 8, 8\)",
    "ResNet": "block 'layer1.0' runs on",
    "BEiT": "block 'blocks.0' takes no more than its 5 tokens, as by a relative bias",
    "Swin": "block 'layers.0.blocks.0' runs on",
    "Swin-V2 of torchvision": "block 'features.1.0' runs on",
    "T5": "positions enter the attention of block 'encoder.block.0'",
    "ALBERT": "is several blocks, one after the other: .*deep=True",
}


@pytest.mark.parametrize("name", REFUSED)
def test_blocks_that_prompts_cannot_run_through_are_named(name: str) -> None:
    network, inputs = family(name)
    handler, before = handle(network, inputs), snapshot(network)
    with pytest.raises(ModelError, match=REFUSED[name]):
        handler.add_adapters("auto", "prompt")
    assert handler.edits == ()
    assert snapshot(network) == before


class Rotated(nn.Module):
    """A block of attention with one head that multiplies queries and keys by numbers of their place."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).chunk(3, -1)
        turn = torch.arange(x.shape[1], dtype=x.dtype)[:, None].cos()
        return x + self.out(nn.functional.scaled_dot_product_attention(query * turn, key * turn, value))


def test_rotary_positions_are_refused_whatever_the_length() -> None:
    network = nn.Sequential(*(Rotated() for _ in range(3)))
    with pytest.raises(ModelError, match="positions enter the attention of block '0'"):
        handle(network, torch.randn(2, 6, 8)).add_adapters("auto", "prompt")


def test_prompts_stay_through_later_edits_and_are_not_merged() -> None:
    network, inputs = family("ViT")
    handler = handle(network, inputs).add_adapters("auto", "prompt", n_tokens=N_TOKENS)
    with pytest.raises(ModelError, match=r"the prompts of 'blocks.0' are tokens .* no weight can hold"):
        handler.merge_adapters()
    with pytest.raises(ModelError, match=r"'blocks.0' has an adapter already, 3 prompts"):
        handler.add_adapters("auto", "prompt")
    handler.add_adapters("attention", rank=2)
    wanted = answer(handler.get_module().eval(), inputs)
    handler.drop_layer_top().add_layer_top([("head", nn.Linear(16, 2))])
    assert handler.adapters[-1].parameter_names == ("blocks.0.prompt_tokens",)
    module = handler.get_module()
    learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert {"blocks.0.prompt_tokens", "blocks.1.attn.qkv.lora_B_value", "head.weight"} <= learning
    assert train_one_epoch(module, inputs) == learning
    with pytest.raises(ModelError, match="part of the graph that a later edit made: undo"):
        handler.remove_adapters()
    with pytest.raises(ModelError, match="no weight can hold"):
        handler.merge_adapters()
    handler.undo().undo()
    assert torch.equal(answer(handler.get_module().eval(), inputs), wanted)
    fresh = handle(network, inputs).truncate("norm")
    with pytest.raises(ModelError, match="add them first"):
        fresh.add_adapters("auto", "prompt")


def test_a_seed_gives_the_same_prompts() -> None:
    network, inputs = family("BERT")
    first, again = (
        handle(network, inputs).add_adapters("auto", "prompt", deep=True, random_state=5).get_module() for _ in range(2)
    )
    assert torch.equal(answer(first.eval(), inputs), answer(again.eval(), inputs))
    randomise(first)
    assert not torch.equal(answer(first, inputs), answer(again, inputs))
