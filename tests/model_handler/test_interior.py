"""The table of what `repurpose` may import from inside `model_handler` is what it does import."""

import ast
import importlib
from collections import defaultdict
from pathlib import Path

from model_handler.interior import INTERIOR

REPURPOSE = Path(__file__).parents[2] / "repurpose"
PREFIX = "model_handler."


def imported_by_repurpose():
    """Module to names, of all imports from inside `model_handler`."""
    found = defaultdict(set)
    for file in REPURPOSE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PREFIX):
                found[node.module.removeprefix(PREFIX)].update(alias.name for alias in node.names)
    return dict(found)


def test_repurpose_imports_from_inside_what_the_table_declares_and_no_more():
    assert imported_by_repurpose() == {module: set(names) for module, names in INTERIOR.items()}


def test_every_declared_name_is_in_the_list_of_its_module():
    for module, names in INTERIOR.items():
        exported = importlib.import_module(PREFIX + module).__all__
        assert set(names) <= set(exported), module


def test_the_table_is_in_the_order_of_the_alphabet():
    assert list(INTERIOR) == sorted(INTERIOR)
    assert all(list(names) == sorted(names) for names in INTERIOR.values())
