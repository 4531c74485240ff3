"""docs/labels.md runs as it stands, and its code does what it says."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "labels.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_page_runs_and_finds_the_labels_that_it_mixed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, names)
    assert set(names["table"]["row"][:4]) == {200, 99, 5, 7}
    assert 7 <= len(names["suspects"]) <= 13
