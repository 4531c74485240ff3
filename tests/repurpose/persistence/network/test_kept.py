import numpy as np
import pytest
import torch
from torch import nn

from model_handler import CorruptFileError
from model_handler.network.copying import deep_copy
from repurpose.persistence.network.fingerprint import table_of
from repurpose.persistence.network.kept import arrays_of, fill, ties_of


class Tied(nn.Module):
    """An encoder and a decoder that share a weight, with a buffer."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder, self.decoder = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
        self.decoder.weight = self.encoder.weight
        self.register_buffer("mean", torch.randn(2))


class Mixed(nn.Module):
    """Tensors of dtypes that numpy or safetensors has no word for, and some that they have."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.rounded = nn.Parameter(torch.randn(2, 3).to(torch.bfloat16))
        self.register_buffer("small", torch.randn(5).to(torch.float8_e5m2))
        self.register_buffer("waves", torch.randn(2, 2, dtype=torch.complex64).conj())
        self.register_buffer("count", torch.tensor(seed + 7))
        self.register_buffer("mask", torch.tensor([True, False, seed > 0]))
        self.register_buffer("none_yet", torch.zeros(0, 4))


def refilled(network: nn.Module, into: nn.Module) -> None:
    fill(into, arrays_of(network), table_of(network), ties_of(network), "a file")


@pytest.mark.parametrize("kind", [Tied, Mixed])
def test_a_filled_network_holds_the_same_bits(kind: type[nn.Module]) -> None:
    network, other = kind(0), kind(1)
    assert table_of(other) != table_of(network)
    refilled(network, other)
    assert table_of(other) == table_of(network)


def test_a_tied_weight_is_written_once_and_stays_tied() -> None:
    network, other = Tied(), Tied(1)
    assert sorted(arrays_of(network)) == ["encoder.weight", "mean"]
    assert ties_of(network) == {"decoder.weight": "encoder.weight"}
    refilled(network, other)
    assert other.decoder.weight is other.encoder.weight


def test_weights_that_are_not_tied_do_not_take_those_of_tied_ones() -> None:
    apart = Tied()
    apart.decoder.weight = nn.Parameter(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"tied otherwise: none, saved decoder\.weight to encoder\.weight"):
        refilled(Tied(), apart)
    with pytest.raises(ValueError, match=r"tied otherwise: decoder\.weight to encoder\.weight, saved none"):
        refilled(apart, Tied())


def test_another_architecture_is_left_as_it_was_and_what_differs_is_said() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    for other, said in (
        (nn.Sequential(nn.Linear(3, 2)), r"it lacks 1\.weight, 1\.bias"),
        (nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.BatchNorm1d(2)), r"further 2\.weight.* and 2 more"),
        (nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)), r"1\.weight is \(4, 2\), saved \(2, 2\)"),
        (nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).double(), r"0\.weight is float64, saved float32"),
    ):
        before = table_of(other)
        with pytest.raises(ValueError, match=said):
            refilled(network, other)
        assert table_of(other) == before


def test_arrays_that_are_not_those_of_the_table_are_damage() -> None:
    network = Tied()
    for change in (
        {"mean": np.zeros(3, np.float32)},
        {"mean": np.zeros(2, np.float64)},
        {"mean": np.array([np.nan, 0], np.float32)},
        {"further": np.zeros(1)},
    ):
        with pytest.raises(CorruptFileError, match="a file"):
            fill(Tied(1), {**arrays_of(network), **change}, table_of(network), ties_of(network), "a file")
    arrays = arrays_of(network)
    del arrays["mean"]
    with pytest.raises(CorruptFileError, match="mean"):
        fill(Tied(1), arrays, table_of(network), ties_of(network), "a file")


def test_what_is_no_plain_number_is_refused_before_anything_is_written() -> None:
    class WithState(nn.Linear):
        def get_extra_state(self) -> object:
            return {"words": "kept"}

        def set_extra_state(self, state: object) -> None:
            pass

    with pytest.raises(ValueError, match="cannot keep _extra_state of the source"):
        arrays_of(WithState(2, 2))
    broken = deep_copy(nn.Linear(2, 2))
    broken.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="holds NaN, in weight"):
        arrays_of(broken)
