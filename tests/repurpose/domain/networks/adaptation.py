"""Two domains for networks, and what every method promises that makes them differ less inside one."""

import copy
import functools
import logging
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from repurpose import load
from repurpose.domain.networks.domain_adaptation_repurposer import DomainAdaptationRepurposer
from repurpose.domain.networks.domain_network_repurposer import DomainNetworkRepurposer
from repurpose.training.loop import train

Pair = tuple[np.ndarray, np.ndarray]
SEEDS = (0, 1)
LONG: dict[str, Any] = {"num_epochs": 20, "batch_size": 40, "learning_rates": {"new": 0.3, "*": 0.3}}
SGD: dict[str, Any] = {"optimizer": "SGD", "learning_rates": {"new": 0.2, "*": 0.05}, "scheduler": None}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 5))


def moved_domains(n_source: int = 40, n_target: int = 24, seed: int = 0) -> tuple[Pair, Pair]:
    """Two classes along the first of four numbers; in the target all numbers are others, and more widely spread."""
    rng = np.random.default_rng(seed)

    def drawn(n_rows: int) -> Pair:
        y = np.arange(n_rows) % 2
        X = 0.5 * rng.normal(size=(n_rows, 4)) + np.outer(2 * y - 1, [1, 0, 0, 0])
        return X.astype(np.float32), y

    (X, y), (Z, z) = drawn(n_source), drawn(n_target)
    return (X, y), ((Z * 1.5 + np.array([1.2, 1, -1, 0])).astype(np.float32), z)


def made(cls: Callable[..., Any], **options: Any) -> Any:
    given = {"num_epochs": 3, "batch_size": 8, "random_state": 0, "verbose": False, **SGD, **options}
    return cls(network(), **given)


class AdaptationContract:
    """Inherit, and define `make`, its parameters for small networks, and `difference`, which a test wrote by itself."""

    make: type[DomainAdaptationRepurposer]
    options: ClassVar[dict[str, Any]] = {}
    weight: ClassVar[float] = 0.7
    helps: ClassVar[dict[str, Any]] = {}  # with what it helps where the target is moved

    def difference(self, source: Tensor, target: Tensor) -> Tensor:
        """What the method makes small, of the rows of both domains."""
        raise NotImplementedError

    def learned(self, **options: Any) -> Any:
        source, (X, _) = moved_domains()
        return made(self.make, **{**self.options, **options}).repurpose(X, source_data=source)

    def by_hand(self, module: nn.Module, task: Any, strengths: list[float]) -> dict[str, Tensor]:
        """The loop that anyone would write, with autograd; `strengths` are what the difference weighs in each step."""
        module, numbers = copy.deepcopy(module).train(), iter(strengths)
        parts = dict(module.named_parameters())
        for epoch in range(task.plan.num_epochs):
            for batch in task.batches.epoch(epoch):
                rows = functional.linear(batch.inputs, parts["0.weight"], parts["0.bias"]).tanh()
                rows = functional.linear(rows, parts["2.weight"], parts["2.bias"]).tanh()
                logits = functional.linear(rows, parts["head.weight"], parts["head.bias"])
                is_source, codes = batch.targets["is_source"], batch.targets["codes"]
                loss = functional.cross_entropy(logits[codes >= 0], codes[codes >= 0])
                self.step(parts, loss, rows[is_source], rows[~is_source], next(numbers))
        assert next(numbers, None) is None
        return parts

    def step(self, parts: dict[str, Tensor], loss: Tensor, source: Tensor, target: Tensor, strength: float) -> None:
        """A step of plain gradient descent."""
        gradients = torch.autograd.grad(loss + strength * self.difference(source, target), [*parts.values()])
        self.descend(parts, dict(zip(parts, gradients)))

    @staticmethod
    def descend(parts: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, gradient in gradients.items():
                parts[name] -= gradient * (0.05 if name.partition(".")[0].isdigit() else 0.2)

    def test_the_weights_are_those_of_a_loop_by_hand_with_the_ramp(self) -> None:
        source, (X, _) = moved_domains()
        task = made(self.make, **{**self.options, "adaptation_weight": self.weight})._prepare_task(
            X, source_data=source
        )
        n_steps = 3 * task.batches.n_batches
        assert n_steps == 3 * 5  # the longer domain has 40 rows in batches of 8
        strengths = [self.weight * (2 / (1 + math.exp(-10 * step / n_steps)) - 1) for step in range(n_steps)]
        wanted = self.by_hand(task.module, task, strengths)
        without = self.by_hand(task.module, task, [0.0] * n_steps)
        train(task)
        found = dict(task.module.named_parameters())
        assert found.keys() == wanted.keys()
        for name, weight in wanted.items():
            torch.testing.assert_close(found[name].detach(), weight.detach(), rtol=0, atol=1e-6)
        assert (found["0.weight"] - without["0.weight"]).abs().max() > 1e-4  # the difference had a say

    def test_a_weight_of_0_gives_the_network_of_the_base(self) -> None:
        source, (X, y) = moved_domains()  # every row has a label, as the base trains on such alone

        def state(cls: Any, **options: Any) -> dict[str, Tensor]:
            return made(cls, **options).repurpose(X, y, source_data=source).target_model_.state_dict()

        base = state(DomainNetworkRepurposer)
        found = state(self.make, **self.options, adaptation_weight=0.0)
        assert all(torch.equal(found[name], weight) for name, weight in base.items())
        other = state(self.make, **self.options)
        assert not torch.equal(other["0.weight"], base["0.weight"])

    @pytest.mark.parametrize("weight", [-0.5, math.nan, math.inf, "1", True, None])
    def test_a_weight_that_is_none_is_refused(self, weight: object) -> None:
        with pytest.raises(ValueError, match=r"adaptation_weight must be a finite number of at least 0, got"):
            self.learned(adaptation_weight=weight)

    def test_the_frozen_part_is_computed_once_for_both_domains(self, caplog: pytest.LogCaptureFixture) -> None:
        rates = {"learning_rates": {"new": 0.2, "2": 0.05, "*": 0}}
        with caplog.at_level(logging.INFO, "repurpose"):
            cached = self.learned(**rates, cache_frozen={"when": True, "folded": False})
        (told,) = [message for message in caplog.messages if "is computed once" in message]
        assert "the frozen part, 2 layers up to '1', is computed once" in told
        assert "source: 40 rows" in told
        assert "target: 24 rows" in told
        whole = self.learned(**rates, cache_frozen=False).target_model_.state_dict()
        for name, weight in cached.target_model_.state_dict().items():
            torch.testing.assert_close(weight, whole[name], rtol=0, atol=1e-6)

    def test_layers_that_are_named_are_compared(self) -> None:
        of_head, of_both = (
            self.learned(adaptation_layer_names=names).target_model_.state_dict() for names in (["head"], ["1", "head"])
        )
        assert not torch.equal(of_head["0.weight"], of_both["0.weight"])

    def test_it_answers_the_same_once_loaded(self, tmp_path: Any) -> None:
        repurposer = self.learned(adaptation_weight=0.5, adaptation_layer_names=["head"])
        _, (X, _) = moved_domains()
        repurposer.save_repurposer(tmp_path / "saved")
        loaded = load(tmp_path / "saved", source_model=network())
        assert type(loaded) is type(repurposer)
        assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
        own = {"adaptation_weight": 0.5, "adaptation_layer_names": ["head"], **self.options}
        assert {name: loaded.get_params(deep=False)[name] for name in own} == own

    def test_the_same_seed_gives_the_same_bits(self) -> None:
        first, second = (self.learned().target_model_.state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_it_helps_where_the_target_is_moved(self) -> None:
        source, (X, y) = moved_domains(200, 200, seed=3)
        scores = []
        for seed in SEEDS:
            repurposer = made(self.make, **{**self.options, **LONG, **self.helps, "random_state": seed})
            scores.append(repurposer.repurpose(X, source_data=source).score(X, y))
        assert np.mean(scores) > unadapted() + 0.03


@functools.cache
def unadapted() -> float:
    """The mean accuracy without a look at the target."""
    source, (X, y) = moved_domains(200, 200, seed=3)
    made_anew = [made(DomainNetworkRepurposer, **LONG, random_state=seed) for seed in SEEDS]
    return float(np.mean([repurposer.repurpose(X, source_data=source).score(X, y) for repurposer in made_anew]))
