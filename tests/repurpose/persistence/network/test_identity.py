import pytest
from torch import nn
from torchvision.transforms import Resize

from model_handler import CorruptFileError, Source
from repurpose.persistence.network.fingerprint import fingerprint_of_table, table_of
from repurpose.persistence.network.identity import SavedSource, describe
from tests.repurpose.examples import small_network


def test_a_module_is_described_by_its_class_and_its_table() -> None:
    said = describe(small_network())
    assert (said["network"], said["loaded_as"], said["preprocessing"]) == ("Sequential", None, None)
    assert said["tensors"] == table_of(small_network())
    assert said["fingerprint"] == fingerprint_of_table(said["tensors"])


def test_a_source_is_described_by_its_name_and_its_preprocessing_too() -> None:
    said = describe(Source(small_network(), Resize(8), name="mine"))
    assert said["loaded_as"] == "mine"
    assert said["preprocessing"]["size"] == 8


def test_a_name_that_nothing_is_known_of_is_described_by_itself() -> None:
    assert describe("torchvision/mine") == {"name": "torchvision/mine"}


def test_a_network_is_compared_by_what_is_known_of_it() -> None:
    saved = SavedSource.parse(describe(small_network()), "a file")
    assert saved.weights_differ(small_network()) == ""
    assert saved.weights_differ(nn.Sequential(*small_network()[:4])) == "it lacks 4.weight, 4.bias"
    assert SavedSource.parse({"name": "mine"}, "a file").weights_differ(nn.ReLU()) == ""


@pytest.mark.parametrize("said", [{"name": 3}, {"tensors": 3}, {"tensors": {"a": ["x", [1.5], ""]}}, {"tied": ["a"]}])
def test_what_no_file_has_of_its_source_is_damage(said: dict[str, object]) -> None:
    with pytest.raises(CorruptFileError, match="a file is damaged: no usable"):
        SavedSource.parse(said, "a file")
