"""`python -m benchmarks offsite`: both sides on a small network, digits, the choice of rates and the report."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import sem
from sklearn.datasets import load_digits
from torch import nn

from benchmarks.adapters.cells import Cell, Result
from benchmarks.adapters.findings import Findings
from benchmarks.adapters.methods import TUNING_SEEDS
from benchmarks.offsite.sides import (
    ADAPTER,
    AS_IS,
    EMULATOR,
    NETWORK,
    PACKAGE,
    PLUGGED,
    PLUGGED_IN,
    TUNED,
    VERBATIM,
    WHOLE,
    Task,
    examine,
)

pytest.importorskip("timm")
from benchmarks.offsite.digits import target_digits
from benchmarks.offsite.report import separated, write


def results_of(kind: str, accuracies: list[float], rate: float = 0.01, **measures: list[float]) -> list[Result]:
    return [
        Result(
            Cell("digits", kind, rate, seed),
            {"accuracy": accuracy, **{name: values[seed] for name, values in measures.items()}},
            "abc",
        )
        for seed, accuracy in enumerate(accuracies)
    ]


class Doubled(nn.Module):
    """A block that changes nothing but the size of numbers, so that classes stay."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(2, 2)
        with torch.no_grad():
            self.scale.weight.copy_(torch.eye(2))
            self.scale.bias.zero_()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + self.scale(rows)


def test_both_sides_exchange_files_and_are_measured(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Sequential(*(Doubled() for _ in range(6))), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
        network[1].bias.zero_()
    rows = torch.tensor([[1.0, 0.3], [-1.0, 0.2], [2.0, -0.1], [-3.0, 0.4]])
    train, test = (rows, np.array([1, 0, 1, 0])), (rows, np.array([1, 0, 1, 1]))
    task = Task("small", network, (1, 1), 2, rows[:2], rows, 2, None, {"num_epochs": 1, "batch_size": 2})
    found = {
        kind: examine(Cell("small", kind, 1e-6, 0), task, train, test, tmp_path)
        for kind in (AS_IS, EMULATOR, TUNED, WHOLE)
    }
    assert [found[kind]["accuracy"] for kind in found] == [0.75] * 4  # of the sign of the first number
    assert found[TUNED][PLUGGED_IN] == 0.75
    assert found[TUNED][NETWORK] == 4 * 7 * (4 + 2)
    assert found[TUNED][PACKAGE] == (tmp_path / "small.zip").stat().st_size
    assert 0 < found[TUNED][ADAPTER] < found[TUNED][PACKAGE]
    assert [file.name for file in tmp_path.iterdir()] == ["small.zip"]


def test_digits_of_scikit_learn_stand_in_a_margin_of_two() -> None:
    images, labels = target_digits()
    blank = -0.13 / 0.3
    assert images.shape == (1797, 1, 12, 12)
    np.testing.assert_allclose(images[:, 0, 2:10, 2:10] * 0.3 + 0.13, load_digits().images / 16, atol=1e-6)
    assert images.double().sum().item() == pytest.approx(
        images[:, :, 2:10, 2:10].double().sum().item() + 1797 * 80 * blank, rel=1e-5
    )
    assert labels.tolist() == load_digits().target.tolist()


def test_the_rate_of_an_adapter_is_chosen_by_its_accuracy_with_the_emulator() -> None:
    seed = TUNING_SEEDS[0]
    results = [
        Result(Cell("digits", TUNED, rate, seed), {"accuracy": accuracy, PLUGGED_IN: plugged}, "abc")
        for rate, accuracy, plugged in ((0.01, 0.6, 0.9), (0.03, 0.7, 0.5))
    ]
    results += results_of(TUNED, [0.5], 0.01, **{PLUGGED_IN: [0.8]})
    results += results_of(TUNED, [0.6], 0.03, **{PLUGGED_IN: [0.7]})
    findings = Findings(list(separated(results)))
    assert findings.rates("digits") == {TUNED: 0.03, PLUGGED: 0.03}
    assert findings.estimate("digits", PLUGGED, "accuracy").mean == 0.7
    assert findings.estimate("digits", TUNED, "accuracy").mean == 0.6


@pytest.mark.parametrize(("plugged", "words"), [([0.8, 0.9], ["met", "met"]), ([0.7, 0.71], ["**missed**", "met"])])
def test_aims_are_judged_by_paired_differences(tmp_path: Path, plugged: list[float], words: list[str]) -> None:
    results = results_of(AS_IS, [0.7, 0.7]) + results_of(EMULATOR, [0.7, 0.6]) + results_of(WHOLE, [0.9, 0.95])
    results += results_of(TUNED, [0.65, 0.7], **{PLUGGED_IN: plugged, ADAPTER: [2.0**20] * 2})
    results += results_of(TUNED + VERBATIM, [0.5, 0.5], **{PLUGGED_IN: [0.6, 0.6]})
    write(results, tmp_path / "docs" / "offsite.md")
    report = (tmp_path / "docs" / "offsite.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines() if line.startswith("|")]
    aims = {aim: (found, verdict) for aim, found, verdict in (row for row in rows if len(row) == 3)}
    gains = np.subtract(plugged, 0.7)
    wanted = f"{gains.mean():+.3f} ({sem(gains):.3f})"
    assert aims["digits: plugged in at least 0.05 above full network as it is"] == (wanted, words[0])
    assert aims["digits: plugged in above tuned with the emulator"][1] == words[1]
    assert aims["digits: full network as it is above emulator as it is"] == ("+0.050 (0.050), ahead in 1 of 2", "met")
    assert aims["text: plugged in above tuned with the emulator"] == ("", "not measured")
    assert ["plugged in, not distilled", "0.01", "2", "0.600 (0.000)", "-0.100 (0.000)", "0 of 2"] in rows
    assert ["digits", "", "", "1.00"] in rows
