"""The examples in docstrings run as they stand, each as if pasted, and no public class or main method lacks one."""

import ast
import doctest
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import model_handler
import repurpose
from repurpose import detection, domain, plots, selection, serving, training, uncertainty

PUBLIC = {
    model_handler: model_handler.__all__,
    repurpose: repurpose.__all__,
    detection: detection.__all__,
    domain: domain.__all__,
    plots: plots.__all__,
    selection: selection.__all__,
    uncertainty: uncertainty.__all__,
    serving: serving.__all__,
    # what the parameters and results of a NeuralNetworkRepurposer are made of; the engine is below them
    training: ["Callback", "CsvLog", "GroupTable", "History", "ParameterGroup", "RateSearch", "TensorBoardLog"],
}
MAIN_METHODS = {
    model_handler.ModelHandler: """
        layer_names layers get_layer_type get_layer_names_matching_type get_layer_parameters layers_between
        candidate_layers summary visualize_net extract get_layer_output output_shapes batches truncate drop_layer_top
        drop_layer_bottom add_layer_top add_layer_bottom insert_after insert_before replace rename freeze unfreeze
        randomize get_module edits undo blocks attention
        adapters add_adapters merge_adapters remove_adapters
    """,
    model_handler.Features: "indices_per_layer select save load",
    repurpose.Repurposer: """
        repurpose predict_label predict_probability score save_repurposer predict_uncertainty predict_samples
        predict_set unfamiliarity unfamiliarity_p_value calibrate conformalize evaluate
        guard remember_answers validate suggest_labels
        find_label_errors
        export_onnx
    """,
    repurpose.MetaModelRepurposer: "get_features_from_source_model",
    detection.DetectionRepurposer: "repurpose predict_objects calibrate evaluate",
    domain.DomainRepurposer: "score_without_labels",
    repurpose.NeuralNetworkRepurposer: "repurpose parameter_groups find_learning_rate",
    repurpose.ToastRepurposer: "pretune attention_maps",
}


def examples() -> Iterator[doctest.DocTest]:
    """The docstrings with examples, read from the files: no decorator hides one, and nothing is imported for it."""
    for package in (model_handler, repurpose):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            if ">>>" in (source := path.read_text(encoding="utf-8")):
                yield from examples_within(ast.parse(source), str(path.relative_to(root.parent)))


def examples_within(tree: ast.AST, file: str, owner: str = "") -> Iterator[doctest.DocTest]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node) or ""
            if ">>>" in text:
                yield doctest.DocTestParser().get_doctest(text, {}, f"{owner}{node.name}", file, node.lineno)
            yield from examples_within(node, file, f"{owner}{node.name}.")


@pytest.fixture
def _no_screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MPLBACKEND", "agg")
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.mark.usefixtures("_no_screen")
@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.name)
def test_an_example_prints_what_it_says(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # no example does what a warning advises against
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert not result.failed, "".join(said)


def test_no_public_thing_or_main_method_is_without_an_example() -> None:
    things = {f"{module.__name__}.{name}": getattr(module, name) for module in PUBLIC for name in PUBLIC[module]}
    for owner, methods in MAIN_METHODS.items():
        things |= {f"{owner.__name__}.{name}": getattr(owner, name) for name in methods.split()}
    assert [name for name, thing in things.items() if ">>>" not in (thing.__doc__ or "")] == []
