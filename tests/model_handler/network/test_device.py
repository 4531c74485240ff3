"""A device is as asked or the network's own, refused where it is not here, and each process has a GPU of its own."""

import pytest
import torch
from torch import nn

from model_handler.network.device import check_device, local_gpu, resolve_device

CPU = torch.device("cpu")


def test_a_device_is_the_networks_own_or_as_asked():
    assert resolve_device("cpu", nn.Linear(1, 1)) == CPU
    assert resolve_device("auto", nn.Linear(1, 1, device="meta")) == torch.device("meta")
    with pytest.raises(
        ValueError, match="device must be 'auto' or a torch device such as 'cpu' or 'cuda:0', got 'gpu'"
    ):
        resolve_device("gpu", nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("cuda:99", r"device='cuda:99' cannot be: torch finds .* GPU.*give 'auto' or one of \['cpu'"),
        (torch.device("cuda", 99), "device='cuda:99' cannot be"),
        ("xpu:99", r"device='xpu:99' cannot be: torch cannot compute on it here \("),
        ("meta", "a shape and no numbers"),
        ("CUDA", "a GPU is cuda"),
        (None, "got None"),
    ],
)
def test_a_device_that_is_not_here_is_refused_with_those_that_are(device, reason):
    with pytest.raises(ValueError, match=reason):
        check_device(device)


def test_a_gpu_where_there_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for device in ("cuda", "cuda:0"):
        with pytest.raises(ValueError, match=r"torch finds no GPU here .*give 'auto' or one of \['cpu'\]"):
            resolve_device(device, nn.Linear(1, 1))
    assert check_device("auto") is None
    assert resolve_device("meta", nn.Linear(1, 1)) == torch.device("meta")  # to look at shapes


@pytest.mark.parametrize(("current", "local_rank", "expected"), [(0, 1, 1), (0, 3, 1), (1, 0, 1), (0, 0, 0)])
def test_each_process_takes_a_gpu_of_its_own(monkeypatch, current, local_rank, expected):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "8")
    monkeypatch.setenv("LOCAL_RANK", str(local_rank))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert local_gpu() == torch.device("cuda", expected)
    monkeypatch.delenv("RANK")
    assert local_gpu() == torch.device("cuda", current)
