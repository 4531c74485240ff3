from hashlib import sha256

import numpy as np
import torch
from torch import nn

from repurpose.persistence.network.fingerprint import (
    fingerprint,
    fingerprint_of_table,
    layers_of,
    shapes_of,
    table_differences,
    table_of,
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_equal_states_have_equal_fingerprints_whatever_mode_or_layout() -> None:
    twin = network().eval().to(memory_format=torch.channels_last)
    assert fingerprint(network()) == fingerprint(twin)
    assert len(fingerprint(twin)) == 64


def test_one_changed_bit_buffer_dtype_or_name_changes_it() -> None:
    changed = [network() for _ in range(3)]
    changed[0][0].weight.data[0, 0, 0, 0] += 1e-6
    changed[1][1].num_batches_tracked += 1
    changed[2] = changed[2].to(torch.bfloat16)
    changed.append(nn.Sequential(*network(), nn.Identity(), nn.Linear(1, 1)))
    prints = {fingerprint(module) for module in [network(), *changed]}
    assert len(prints) == 5


def test_the_same_bytes_in_another_shape_change_it() -> None:
    wide, tall = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    for layer in (wide, tall):
        layer.weight.data = torch.arange(6.0).reshape(layer.weight.shape)
    assert fingerprint(wide) != fingerprint(tall)


def test_a_network_without_parameters_has_one_too() -> None:
    assert fingerprint(nn.ReLU()) == fingerprint(nn.Tanh())


def test_sparse_and_conjugated_tensors_count_by_their_values() -> None:
    def of(tensor: torch.Tensor) -> str:
        module = nn.Module()
        module.register_buffer("buffer", tensor)
        return fingerprint(module)

    numbers = torch.tensor([1 + 2j])
    assert of(numbers.conj()) == of(torch.tensor([1 - 2j])) != of(numbers)
    assert of(torch.eye(2).to_sparse()) == of(torch.eye(2)) != of(torch.zeros(2, 2).to_sparse())


def test_a_table_has_dtype_shape_and_a_hash_of_the_bytes_of_each_tensor() -> None:
    module = nn.Module()
    module.register_buffer("numbers", torch.arange(6, dtype=torch.int16).reshape(2, 3))
    expected = sha256(np.arange(6, dtype="<i2").tobytes()).hexdigest()[:32]
    assert table_of(module) == {"numbers": ["int16", [2, 3], expected]}
    assert shapes_of(module) == {"numbers": ["int16", [2, 3]]}
    text = f'{{"numbers":["int16",[2,3],"{expected}"]}}'
    assert fingerprint_of_table(table_of(module)) == sha256(text.encode()).hexdigest()


def test_what_differs_is_said_by_name() -> None:
    saved, now = table_of(network()), table_of(network())
    assert table_differences(saved, now) == []
    now["0.weight"] = ["float32", [2, 1, 3, 3], "other"]
    now["0.bias"] = ["float64", [3], "other"]
    now["new"] = now.pop("1.weight")
    assert table_differences(saved, now) == [
        "it lacks 1.weight",
        "it has further new",
        "other shapes: 0.bias is (3,), saved (2,)",
        "other dtypes: 0.bias is float64, saved float32",
        "other numbers in 0.weight",
    ]


def test_the_classes_of_torchs_layers_are_part_of_an_architecture() -> None:
    chain = [nn.Linear(2, 2), nn.ReLU()]
    assert layers_of(nn.Sequential(*chain)) == layers_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    assert layers_of(nn.Sequential(*chain)) != layers_of(nn.Sequential(nn.Linear(2, 2), nn.GELU()))
