"""What a handler asks and keeps: inputs, edits, errors; and that the user's network is as before."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from benchmarks.coverage.comparing import changed_marks, fingerprint
from model_handler import Block, ModelError, ModelHandler, Projection, UnknownLayerError
from model_handler.blocks import attention
from model_handler.blocks.flow import record_flow
from tests.model_handler.blocks.networks import IMAGE, Skip, handler_of, hugging_face, tokens

ENCODER = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)


def encoder() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), *(copy.deepcopy(ENCODER) for _ in range(3)), nn.Linear(8, 2))


def test_sizes_alone_are_enough_also_for_attention() -> None:
    with_numbers = handler_of(encoder(), torch.rand(2, 5, 6))
    without = handler_of(encoder(), torch.empty(2, 5, 6, device="meta"))
    assert without.blocks == with_numbers.blocks == tuple(Block(name, 8, 1, 0) for name in "123")
    assert without.attention("2") == with_numbers.attention("2")


def test_without_inputs_the_error_says_how_to_give_them() -> None:
    with pytest.raises(ModelError, match=r"finding blocks needs example inputs.*torch\.empty\(1, 3, 224, 224"):
        _ = ModelHandler(encoder()).blocks


def test_what_a_named_source_s_preprocessing_makes_is_enough() -> None:
    assert len(ModelHandler("efficientnet-lite0").blocks) == 16


def test_a_name_that_is_no_block_is_refused_with_the_nearest() -> None:
    handler = handler_of(torchvision.models.resnet18())
    with pytest.raises(UnknownLayerError, match=r"no block is named 'layer2'; nearest: \['layer2\.[01]'"):
        handler.attention("layer2")


def test_attention_in_all_blocks_is_found_in_one_forward(monkeypatch) -> None:
    runs = []
    monkeypatch.setattr(attention, "record_flow", lambda *given: runs.append(given) or record_flow(*given))
    handler = handler_of(encoder(), torch.rand(2, 5, 6))
    found = [handler.attention(block).value for block in handler.blocks]
    assert found == [Projection(f"{number}.self_attn", 16, 24, "in_proj_weight") for number in (1, 2, 3)]
    assert len(runs) == 1
    handler.rename("2", "second")  # another network
    assert handler.attention("second").value == Projection("second.self_attn", 16, 24, "in_proj_weight")
    assert len(runs) == 2


def test_what_a_block_reads_without_a_layer_is_no_work_of_the_block_before() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, self.value(x))

    handler = handler_of(nn.Sequential(*(Skip(Bare()) for _ in range(3))), torch.rand(1, 5, 8))
    for number, block in enumerate(handler.blocks):
        found = handler.attention(block)
        assert (found.query, found.key) == (None, None)
        assert found.value == Projection(f"{number}.layer.value", 0, 8)


def test_blocks_follow_edits_and_come_back_with_undo() -> None:
    handler = handler_of(torchvision.models.resnet18())
    all_blocks = handler.blocks
    handler.truncate("layer3")
    assert handler.blocks == all_blocks[:6]
    handler.add_layer_top([("head", nn.Sequential(nn.Flatten(), nn.LazyLinear(2)))])
    assert handler.blocks == all_blocks[:6]
    handler.rename("layer1", "first")
    assert [block.name for block in handler.blocks[:2]] == ["first.0", "first.1"]
    handler.undo().undo().undo()
    assert handler.blocks == all_blocks


def test_blocks_of_a_network_cut_without_a_graph() -> None:
    handler = handler_of(hugging_face("bert"), tokens())
    before, attention = handler.blocks, handler.attention("encoder.layer.1")
    handler.truncate("encoder.layer.1").add_layer_top([("head", nn.Linear(16, 2))])
    assert handler.blocks == before[:2]
    assert handler.attention("encoder.layer.1") == attention


@pytest.mark.parametrize(
    ("build", "inputs", "name"),
    [(encoder, torch.rand(2, 5, 6), "2"), (lambda: hugging_face("bert"), tokens(), "encoder.layer.0")],
)
def test_looking_leaves_the_user_s_network_generators_and_modes_as_they_were(build, inputs, name: str) -> None:
    network = build().train()
    network.requires_grad_(False)
    before, state = fingerprint(network), torch.get_rng_state()
    with torch.inference_mode():
        handler = handler_of(network, inputs)
        assert handler.blocks
        assert handler.attention(name).query
        assert torch.is_inference_mode_enabled()
    assert changed_marks(before, fingerprint(network)) == []
    assert torch.equal(torch.get_rng_state(), state)


def test_what_no_mode_sees_depends_on_what_its_module_read() -> None:
    class Unseen(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch._C.DisableTorchFunction():  # as in an extension of torch in C++
                return x.exp()

    network = nn.Sequential(*(Skip(nn.Sequential(nn.Linear(4, 4), Unseen())) for _ in range(2)))
    assert handler_of(network, torch.rand(2, 4)).blocks == (Block("0", 4, 1, 0), Block("1", 4, 1, 0))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_layers_inside_torchscript_count() -> None:
    network = nn.Sequential(*(Skip(torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))) for _ in range(2)))
    assert handler_of(network, torch.rand(2, 4)).blocks == (Block("0", 4, 1, 0), Block("1", 4, 1, 0))


def test_inputs_that_make_a_network_fail_are_explained() -> None:
    with pytest.raises(ModelError, match=r"layer 'conv1'.*failed on input"):
        handler_of(torchvision.models.resnet18(), IMAGE[:, :2])
