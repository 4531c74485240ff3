"""The house stays one that a stranger finds his way in: folders, arrows between them, sizes, tests beside modules."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests import structure

FOLDERS = structure.folders()
INNER = [folder for folder in FOLDERS if folder not in structure.PACKAGES]
# Tests of what several modules do together, at the top of their folder.
OF_SEVERAL_MODULES = {
    "tests": {
        "adapters",
        "compare",
        "demos",
        "detection",
        "domains",
        "from_xfer",
        "labels",
        "offsite",
        "packaging",
        "quality",
        "saved",
        "sources",
        "structure",
        "suggestions",
        "examples",
        "features",
    },
    "tests.model_handler": {"coverage", "module_promises", "traps"},
    "tests.repurpose": {
        "bad_data",
        "cli",
        "estimator_checks",
        "scikit_learn_tools",
        "ambient_modes",
        "broken_training",
        "saving_faults",
        "text",
    },
    "tests.repurpose.domain": {"beside_skada"},
    "tests.repurpose.meta_model": {"hard_data", "unnamed_layers"},
    "tests.repurpose.offsite": {"offsite"},
    "tests.repurpose.persistence": {"answers", "attacks"},
    "tests.repurpose.training.frozen": {"frozen_of_streams"},
}


def sentence(folder: str) -> str:
    """What the `__init__` of a folder says in its docstring."""
    return ast.get_docstring(structure.modules()[folder].tree) or ""


def allowed(folder: str) -> set[str]:
    """What its sentence allows it to import, as dotted names."""
    _, _, given = sentence(folder).partition(structure.MAY_IMPORT)
    names = given.split(".\n")[0].rstrip(".").replace("\n", " ").split(",")
    return {_resolved(name.strip(), folder) for name in names if name.strip() not in ("", "nothing")}


def _resolved(name: str, folder: str) -> str:
    """A name as the sentence has it: one beside the folder, of its package, or dotted in full."""
    package = folder.split(".")[0]
    known = {*structure.modules()}
    candidates = (f"{folder.rpartition('.')[0]}.{name}", f"{package}.{name}", name)
    return next((candidate for candidate in candidates if candidate in known), name)


@pytest.mark.parametrize("folder", INNER)
def test_each_folder_says_what_lives_there_and_what_it_may_import(folder: str) -> None:
    assert structure.MAY_IMPORT in sentence(folder), f"{folder}/__init__.py ends with '{structure.MAY_IMPORT}...'"
    unknown = sorted(name for name in allowed(folder) if name not in structure.modules())
    assert not unknown, f"no such folder or module: {unknown}"


@pytest.mark.parametrize("folder", INNER)
def test_a_folder_imports_what_its_sentence_allows_and_nothing_else(folder: str) -> None:
    found = [
        (target, line)
        for room, target, line in structure.arrows()
        if room == folder and not target.startswith(f"{folder}.")  # what lies inside it is its own
    ]
    wrong = [line for target, line in found if not _is_allowed(target, folder)]
    assert not wrong, f"{wrong[0]}, but {folder} says: {sentence(folder)!r}"
    used = {target for target, _ in found}
    idle = sorted(name for name in allowed(folder) if not any(f"{room}.".startswith(f"{name}.") for room in used))
    assert not idle, f"{folder} says that it may import what it does not: {idle}"


def _is_allowed(target: str, folder: str) -> bool:
    return any(f"{target}.".startswith(f"{name}.") for name in allowed(folder))


def test_arrows_between_rooms_make_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for room, target, _ in structure.arrows():
        graph.setdefault(room, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
        pairs = set(zip(circle[1:], circle))
        pytest.fail("\n".join([" <- ".join(circle), *(line for a, b, line in structure.arrows() if (a, b) in pairs)]))


def test_model_handler_knows_nothing_of_repurpose() -> None:
    assert not [
        line for _, target, line in structure.arrows() if line.startswith("model_handler/") and "repurpose" in target
    ]


def test_no_folder_is_a_heap() -> None:
    assert not {folder: len(names) for folder, names in FOLDERS.items() if len(names) > 18}
    assert len(FOLDERS["repurpose.training"]) <= 14
    assert not {name for name in structure.modules() if {"core", "common", "utils", "misc"} & set(name.split("."))}


def test_files_and_functions_stay_short() -> None:
    lengths = {name: len(module.source.splitlines()) for name, module in structure.modules().items()}
    assert not {name: n for name, n in lengths.items() if n > 400}
    assert not [where for where, n, node in structure.functions() if n > 45 and not structure.only_stores(node)]


def test_few_arguments_are_any() -> None:
    assert structure.share_of_any() <= 0.10
    repurposers = [
        where
        for where, _, node in structure.functions()
        for given in (*node.args.args, *node.args.kwonlyargs)
        if given.arg == "repurposer" and given.annotation is not None and ast.unparse(given.annotation) == "Any"
    ]
    assert not repurposers


def test_a_test_file_bears_the_name_of_a_module_in_the_same_place() -> None:
    astray = []
    for path in sorted((structure.ROOT / "tests").rglob("test_*.py")):
        folder, name = _dotted(path.parent), path.stem.removeprefix("test_")
        module = f"{folder.removeprefix('tests').removeprefix('.')}.{name}"
        if name not in OF_SEVERAL_MODULES.get(folder, ()) and module not in structure.modules():
            astray.append(str(path.relative_to(structure.ROOT)))
    assert not astray, f"no module of that name is there: {astray}"


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(structure.ROOT).parts)
