"""docs/features.md runs as it stands."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "features.md").read_text(encoding="utf-8")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, names)
    assert np.array_equal(names["by_pooling"]["avg"].matrix, names["features"].matrix)
    assert names["search"].cv_results_["mean_test_score"].shape == (6,)
    assert names["table"].shape == (60, 16)
    assert np.array_equal(names["everything"].matrix, names["features"].matrix)
    assert len(list((tmp_path / "features").iterdir())) == 2 * 6 + 1  # of two poolings; all rows by the best
