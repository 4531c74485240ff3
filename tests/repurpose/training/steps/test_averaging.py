import math

import torch
from torch import nn

from repurpose.training.steps.averaging import averaged


def test_parameters_and_statistics_are_averaged_and_counters_copied() -> None:
    module = nn.BatchNorm1d(2)
    average = averaged(module, 0.5)
    values = [1.0, 2.0, 4.0, 8.0]
    expected = 0.0
    for count, value in enumerate(values):
        with torch.no_grad():
            module.weight.fill_(value)
            module.running_mean.fill_(value)
            module.num_batches_tracked.fill_(int(value))
        average.update_parameters(module)
        keep = min(0.5, (1 + count) / (10 + count)) if count else 0.0
        expected = keep * expected + (1 - keep) * value
    torch.testing.assert_close(average.module.weight.detach(), torch.full((2,), expected))
    torch.testing.assert_close(average.module.running_mean, torch.full((2,), expected))
    assert average.module.num_batches_tracked == 8
    assert module.weight.detach().tolist() == [8.0, 8.0]


def test_infinite_numbers_that_do_not_change_stay_and_others_become_so() -> None:
    module = nn.BatchNorm1d(3)
    module.running_mean.copy_(torch.tensor([-math.inf, 1.0, 0.0]))
    average = averaged(module, 0.5)
    average.update_parameters(module)
    module.running_mean[2] = math.nan
    average.update_parameters(module)
    assert average.module.running_mean[:2].tolist() == [-math.inf, 1.0]
    assert math.isnan(average.module.running_mean[2])


def test_what_torch_cannot_average_is_copied() -> None:
    module = nn.BatchNorm1d(3)
    module.register_buffer("sparse", torch.zeros(2, 2).to_sparse_csr())
    module.register_buffer("small", torch.zeros(2).to(torch.float8_e4m3fn))
    average = averaged(module, 0.5)
    module.sparse, module.small = torch.zeros(2, 2).to_sparse_csr(), torch.ones(2).to(torch.float8_e4m3fn)
    average.update_parameters(module)
    assert average.module.small.float().tolist() == [1.0, 1.0]
    assert average.module.sparse.layout is torch.sparse_csr
