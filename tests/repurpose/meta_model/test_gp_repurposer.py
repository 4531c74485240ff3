from typing import Any

from repurpose import GpRepurposer
from tests.repurpose.contract import RepurposerContract


class TestContract(RepurposerContract):
    grid = {"alpha_eps": [1e-2, 1e-3]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> GpRepurposer:
        return GpRepurposer(source_model, ["2"], **options)


class TestContractWithInducingPoints(RepurposerContract):
    grid = {"n_inducing": [10, 20]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> GpRepurposer:
        return GpRepurposer(source_model, ["2"], **{"n_inducing": 15, "random_state": 0, **options})
