"""BatchNorm is synchronised while training lasts, and what was learned stays."""

import pytest
import torch
from torch import nn

from model_handler.errors import ModelError
from repurpose.training.distributed.sync_norm import check_sync, synchronised


def test_the_same_modules_come_back_with_what_was_learned():
    module = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3)))
    norm, names = module[1][0], list(module.state_dict())
    with synchronised(module):
        assert type(module[1][0]) is nn.SyncBatchNorm
        assert list(module.state_dict()) == names
        assert module[1][0].weight is norm.weight
        module(torch.randn(8, 2) + 5)
    assert module[1][0] is norm
    assert norm.num_batches_tracked == 1
    assert norm.running_mean.abs().sum() > 0


def test_processors_are_refused():
    with pytest.raises(ModelError, match="sync_norm=True is for GPUs"):
        check_sync(torch.device("cpu"))
    check_sync(torch.device("cuda"))
