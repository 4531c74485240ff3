import random

import numpy as np
import torch

from repurpose.training.data.seeding import SeedPurpose, drawing_from, seed_of


def draw() -> tuple[float, float, float]:
    return float(torch.rand(())), random.random(), float(np.random.rand())  # noqa: NPY002


def test_inside_all_generators_draw_from_the_seed_and_outside_they_go_on_as_before() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = draw()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    with drawing_from(7):
        first = draw()
    with drawing_from(7):
        assert draw() == first
    with drawing_from(8):
        assert draw() != first
    assert draw() == expected


def test_purposes_and_numbers_have_seeds_of_their_own() -> None:
    seeds = {seed_of(seed, purpose, number) for seed in range(3) for purpose in SeedPurpose for number in range(3)}
    assert len(seeds) == 9 * len(SeedPurpose)
    assert all(0 <= seed < 2**63 for seed in seeds)
