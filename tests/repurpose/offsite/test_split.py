"""Which blocks are the adapter, which the middle, and which of the middle are sent."""

import logging

import pytest
import torch

from model_handler import Block, ModelError, ModelHandler
from repurpose.offsite.split import Split, is_text, refuse_shared_weights, split_blocks
from tests.repurpose.offsite.networks import images, resnet, tokens, vit


def chain(n: int) -> list[Block]:
    return [Block(f"b.{number}", 8, 1, 0) for number in range(n)]


def numbers(names: tuple[str, ...]) -> list[int]:
    return [int(name.rpartition(".")[2]) for name in names]


def test_the_adapter_is_by_default_two_blocks_at_each_end_of_text_and_four_of_images() -> None:
    of_text, of_images = split_blocks(chain(12), of_text=True), split_blocks(chain(12))
    assert (numbers(of_text.first), numbers(of_text.last)) == ([0, 1], [10, 11])
    assert (numbers(of_images.first), numbers(of_images.last)) == ([0, 1, 2, 3], [8, 9, 10, 11])


@pytest.mark.parametrize(("n_blocks", "size"), [(9, 3), (8, 3), (7, 2), (5, 1), (4, 1)])
def test_a_short_network_keeps_two_blocks_in_the_middle_and_the_log_says_why(
    n_blocks: int, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "repurpose"):
        split = split_blocks(chain(n_blocks))
    assert len(split.first) == len(split.last) == size
    assert f"adapter=({size}, {size}) in place of (4, 4): of {n_blocks} blocks two are to be" in caplog.text


def test_three_blocks_are_too_few_to_choose_for() -> None:
    with pytest.raises(ValueError, match=r"3 blocks.*needs at least 4.*adapter=\(1, 1\)"):
        split_blocks(chain(3))
    assert split_blocks(chain(3), (1, 1), 1) == Split(("b.0",), ("b.1",), ("b.1",), ("b.2",))


@pytest.mark.parametrize(
    ("n", "emulator", "kept"),
    [
        (8, 4, [0, 2, 5, 7]),  # 0, 2.33, 4.67, 7
        (8, 1, [3]),  # (8 - 1) // 2
        (7, 1, [3]),
        (6, 3, [0, 2, 5]),  # 2.5 goes to the even number
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (8, 0.5, [0, 2, 5, 7]),
        (8, 1.0, [0, 1, 2, 3, 4, 5, 6, 7]),
        (8, 0.01, [3]),
        (2, 2, [0, 1]),
    ],
)
def test_blocks_of_the_emulator_are_spread_from_end_to_end(n: int, emulator: float, kept: list[int]) -> None:
    split = split_blocks(chain(n + 2), (1, 1), emulator)
    assert [number - 1 for number in numbers(split.kept)] == kept
    assert sorted(split.kept + split.dropped) == sorted(split.middle)


def test_a_block_that_changes_width_or_resolution_is_always_kept_and_counts() -> None:
    blocks = ModelHandler(resnet(), images(1, 32)).blocks
    split = split_blocks(blocks, (1, 1), 4)
    assert split.kept == ("layer1.1", "layer2.0", "layer3.0", "layer3.3")  # of 1.1, 2.1-3, 3.1-3 number 0 and 6


def blocks_of(*sizes: tuple[int, int, int]) -> list[Block]:
    return [Block(f"b.{number}", *size) for number, size in enumerate(sizes)]


def test_the_chosen_blocks_besides_the_fixed_ones_are_spread_too() -> None:
    strided = blocks_of(*[(8, 1, 0)] * 4, (16, 2, 1), *[(16, 1, 1)] * 4)
    assert numbers(split_blocks(strided, (1, 1), 3).kept) == [1, 4, 7]  # of 1-3 and 5-7 the first and the last
    widened = blocks_of(*[(8, 1, 0)] * 3, *[(12, 1, 0)] * 2)
    assert numbers(split_blocks(widened, (1, 1), 1).kept) == [3]


def test_a_block_behind_what_changes_the_resolution_is_none_that_does() -> None:
    pooled = blocks_of(*[(8, 1, 0)] * 3, *[(16, 1, 1)] * 3)
    assert numbers(split_blocks(pooled, (1, 1), 1).kept) == [2]  # by the rule, of 1 to 4


def test_too_few_blocks_for_those_that_are_always_kept_are_refused_and_a_share_is_raised() -> None:
    blocks = ModelHandler(resnet(), images(1, 32)).blocks
    with pytest.raises(ValueError, match=r"emulator=1 is too small.*layer2\.0.*layer3\.0.*at least 2"):
        split_blocks(blocks, (1, 1), 1)
    assert split_blocks(blocks, (1, 1), 0.01).kept == ("layer2.0", "layer3.0")


@pytest.mark.parametrize("emulator", [0, 5, -1, 1.5, 0.0, True, None, "half", float("nan")])
def test_an_emulator_that_cannot_be_is_refused_with_what_can(emulator: object) -> None:
    with pytest.raises(ValueError, match=r"a number of blocks from 1 to 4.*a float above 0 and up to 1, got"):
        split_blocks(chain(6), (1, 1), emulator)  # type: ignore[arg-type]


@pytest.mark.parametrize("adapter", [(3, 3), (1, 5), (6, 1)])
def test_an_adapter_that_leaves_no_middle_is_refused(adapter: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"the network has 6.*at most 5 in all, such as \(2, 2\)"):
        split_blocks(chain(6), adapter)


@pytest.mark.parametrize("adapter", [3, (0, 2), (2,), (1, 1, 1), (1.0, 1), ("1", 1)])
def test_an_adapter_is_two_whole_numbers(adapter: object) -> None:
    with pytest.raises(ValueError, match="adapter must be two whole numbers of at least 1"):
        split_blocks(chain(6), adapter)  # type: ignore[arg-type]


def test_one_block_that_runs_several_times_is_refused_by_name() -> None:
    shared = [Block("layer" + at, 8, 1, 0) for at in ("", "@1", "@2", "@3")]
    with pytest.raises(ModelError, match="layer runs several times"):
        split_blocks(shared)


def test_a_weight_of_the_adapter_that_is_elsewhere_too_is_refused_by_name() -> None:
    network = vit()
    split = split_blocks(ModelHandler(network, images()).blocks, (1, 1))
    refuse_shared_weights(network, split)
    first, third = (network.encoder.layers[number].ln_1 for number in (0, 2))
    third.weight = first.weight
    with pytest.raises(ModelError, match=r"encoder_layer_0\.ln_1\.weight and .*encoder_layer_2\.ln_1\.weight are one"):
        refuse_shared_weights(network, split)


def test_text_is_known_by_its_whole_numbers() -> None:
    assert is_text(tokens())
    assert is_text(torch.zeros(2, 5, dtype=torch.long))
    assert not is_text(images())
    assert not is_text((images(), torch.zeros(4, dtype=torch.long)))
    assert not is_text(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
