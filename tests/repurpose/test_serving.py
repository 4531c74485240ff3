"""docs/serving.md runs as it stands, and its code does what it says."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repurpose.serving.row_objections import REASONS

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_page_saves_loads_validates_and_guards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, names)
    assert (names["number"], names["report"].is_identical) == (1, True)
    answer = names["answer"]
    assert answer.reasons.tolist() == [None, "range", "unfamiliar", "shape", "not finite"]
    assert answer.labels.tolist() == [names["y"][1000], None, None, None, None]
    assert np.isfinite(answer.probabilities[:3]).all(axis=1).tolist() == [True, False, True]
    assert f"{names['y'][1000]} None None" in capsys.readouterr().out
    counts = names["guarded"].counts
    assert (counts.seen, counts.accepted) == (5, 1)


def test_the_page_explains_every_reason() -> None:
    table = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert sorted(re.findall(r"`(.*?)`", " ".join(table))) == sorted(REASONS)
