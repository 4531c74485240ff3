import numpy as np

from repurpose.domain.standardizing_repurposer import StandardizingRepurposer
from tests.repurpose.domain.examples import MethodContract, domains_of, quick

rng = np.random.default_rng(0)


def test_each_domain_is_in_units_of_its_own_and_later_rows_in_those_of_the_target() -> None:
    source, target = rng.normal(3, 2, (30, 4)).astype(np.float32), rng.normal(-1, 5, (20, 4)).astype(np.float32)
    repurposer = quick(StandardizingRepurposer)
    units = repurposer._standardized(domains_of(source, target))
    for rows, found in zip((source, target), units):
        rows = rows.astype(float)
        assert np.allclose(found, (rows - rows.mean(0)) / rows.std(0))
    assert np.allclose(repurposer._in_units_of_target(target), units[1])


class TestMethod(MethodContract):
    make = StandardizingRepurposer
