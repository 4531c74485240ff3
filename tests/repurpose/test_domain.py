"""docs/domains.md runs as it stands, and leaves no method out."""

import re
from pathlib import Path
from typing import Any

from sklearn.datasets import load_digits

from repurpose import domain

PAGE = (Path(__file__).parents[2] / "docs" / "domains.md").read_text(encoding="utf-8")


def test_the_page_runs_and_its_methods_answer_rows_of_the_target() -> None:
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, names)
    for name in ("adapted", "own"):
        assert names[name].score(names["photos"], load_digits().target[200:400]) > 0.6, name
    assert names["means"].predict_label(names["photos"]).shape == (200,)


def test_the_page_names_every_method() -> None:
    assert [name for name in domain.__all__ if f"`{name}" not in PAGE] == []
