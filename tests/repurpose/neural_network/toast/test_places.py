from typing import Any

import pytest
import torch
from torch import nn

from model_handler import ModelError, ModelHandler, NoBlocksError, Projection
from repurpose.neural_network.toast.ended_network import ended_network
from repurpose.neural_network.toast.feedback import StageSize
from repurpose.neural_network.toast.places import Places, find_places
from tests.repurpose.neural_network.toast.networks import (
    fused_vit,
    images,
    multi_head_vit,
    other_network,
    tiny_bert,
    tiny_resnet,
)


def places_of(network: nn.Module, example: Any = None) -> Places:
    example = images(2)[0] if example is None else example
    handler = ModelHandler(network, example)
    return find_places(handler, ended_network(handler, None, example), example)


def test_a_transformer_is_steered_in_the_values_of_each_block() -> None:
    found = places_of(fused_vit())
    assert found.ends == ("blocks.0", "blocks.1")
    assert found.values == tuple(Projection(f"blocks.{block}.attn.qkv", 32, 48) for block in range(2))
    assert found.sizes == (StageSize(16, 16),) * 2
    assert (found.final_norm, found.of_maps, found.width) == ("norm", False, 16)


def test_the_values_of_multi_head_attention_are_rows_of_its_weight() -> None:
    found = places_of(multi_head_vit())
    names = [f"encoder.layers.encoder_layer_{block}.self_attention" for block in range(2)]
    assert found.values == tuple(Projection(name, 32, 48, "in_proj_weight") for name in names)
    assert found.final_norm == "encoder.ln"


def test_bert_has_no_normalisation_behind_its_last_block() -> None:
    ids = torch.ones(2, 4).long()
    assert places_of(tiny_bert(), {"input_ids": ids, "attention_mask": ids}).final_norm is None


def test_a_normalisation_behind_the_pooling_is_none_of_tokens() -> None:
    network: Any = fused_vit(global_pool="avg")
    assert isinstance(network.fc_norm, nn.LayerNorm)
    assert places_of(network).final_norm is None


def test_a_module_that_runs_twice_is_two_blocks() -> None:
    found = places_of(*other_network("albert"))
    assert len(found.values) == 3
    assert len(set(found.values)) == len(set(found.ends)) == 1


def test_stages_end_where_the_resolution_changes_and_the_first_reads_the_image() -> None:
    found = places_of(tiny_resnet())
    assert found.ends == ("blocks.0", "blocks.2")
    assert found.sizes == (StageSize(3, 4, 1), StageSize(4, 8, 2))
    assert (found.of_maps, found.channels_last, found.final_norm) == (True, False, None)


def test_the_layer_norm_of_a_convnext_is_found_behind_its_pooling() -> None:
    found = places_of(*other_network("convnext"))
    assert found.sizes == (StageSize(3, 4, 4), StageSize(4, 8, 2), StageSize(8, 12, 2), StageSize(12, 16, 2))
    assert found.final_norm == "head.norm"


def test_the_maps_of_swin_have_their_channels_last() -> None:
    found = places_of(other_network("swin")[0])
    assert found.sizes == (StageSize(3, 8, 2), StageSize(8, 16, 2))
    assert (found.channels_last, found.final_norm) == (True, "norm")


def test_networks_without_blocks_or_maps_say_what_was_looked_for() -> None:
    with pytest.raises(NoBlocksError, match=r"no chain of residual blocks.*use AdapterRepurposer"):
        places_of(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)))
    from timm.models import MlpMixer

    mixer = MlpMixer(num_classes=3, img_size=16, patch_size=8, num_blocks=2, embed_dim=8)
    with pytest.raises(ModelError, match="which are no maps of four axes, and not all of its blocks have attention"):
        places_of(mixer)
