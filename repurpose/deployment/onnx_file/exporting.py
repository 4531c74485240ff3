"""A file of ONNX is put together: network, head, calibration, sets and p-values as one graph, and what it must say."""

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from model_handler import Source
from model_handler.onnx_export.exportable_network import ExportableNetwork
from model_handler.onnx_export.file_inputs import FileInputs, file_inputs
from model_handler.onnx_export.writing import OPSET, add_metadata, check_extra, onnx_model, save_onnx
from repurpose.deployment.answers import CalibratedAnswers, answers_of
from repurpose.deployment.onnx_file.comparing import OUTPUTS, compared, library_answers, run_file, run_head
from repurpose.deployment.onnx_file.interface import OnnxFileMixin
from repurpose.deployment.onnx_file.parity import END_TO_END, HEAD, ParityReport
from repurpose.serving.reference_answers import ReferenceInputs, keep_inputs
from repurpose.source import describe_source
from repurpose.uncertainty.interface import UncertaintyMixin
from repurpose.version import library_versions, own_version

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["export_onnx"]

FORMAT = "repurpose-onnx-1"
_MOST_OF_FOLDS = 256 * 2**20  # bytes of heads and detectors of folds in a file


def export_onnx(
    repurposer: OnnxFileMixin,
    path: str | os.PathLike[str],
    coverage: float,
    *,
    check_data: object,
    score: str,
    method: str,
    allow_empty: bool,
    preprocessed: bool,
) -> ParityReport:
    """Write a trained Repurposer as a file of ONNX; `Repurposer.export_onnx` documents it."""
    repurposer._check_is_repurposed()
    check_extra()
    _refuse_low_precision(repurposer)
    target = _checked_path(path)
    answers = answers_of(cast(UncertaintyMixin, repurposer), coverage, score, method=method, allow_empty=allow_empty)
    _refuse_many_folds(repurposer, answers)
    rows = _rows_to_check(repurposer, check_data)
    inputs = _inputs(repurposer, rows, preprocessed)
    library = library_answers(repurposer, repurposer.features_to_judge(rows.data), answers)
    model = _model(repurposer, inputs, answers)
    head = compared(run_head(model, library.features), library, answers, within=HEAD, what="on equal features")
    whole = compared(run_file(model, inputs.arrays), library, answers, within=END_TO_END, what="on equal inputs")
    del model.graph.output[len(OUTPUTS) :]  # the features, which were compared
    metadata = _metadata(repurposer, inputs, answers, model)
    add_metadata(model, metadata)
    files = save_onnx(model, target)
    return ParityReport(
        len(library.features),
        tuple(file.name for file in files),
        sum(file.stat().st_size for file in files),
        head.difference,
        whole.difference,
        whole.feature_difference,
        whole.other_labels,
        whole.other_sets,
        whole.other_p_values,
        whole.n_close,
        metadata,
    )


class _WholeFile(nn.Module):
    """Maps the inputs of a file to its outputs, and the features between."""

    def __init__(self, network: ExportableNetwork, answers: CalibratedAnswers) -> None:
        super().__init__()
        self.network, self.answers = network, answers

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        features = self.network(*inputs)
        return (*self.answers(features), features)


def _model(repurposer: OnnxFileMixin, inputs: FileInputs, answers: CalibratedAnswers) -> "ModelProto":
    examples = inputs.examples()
    with torch.no_grad():
        body = repurposer._network_for_file(inputs.reading(*examples.values()))
    whole = _WholeFile(ExportableNetwork(body, inputs), answers).eval()
    name = describe_source(repurposer.source_model)
    return onnx_model(whole, examples, output_names=(*OUTPUTS, "features"), axes=inputs.axes, name=name)


def _inputs(repurposer: OnnxFileMixin, rows: ReferenceInputs, preprocessed: bool) -> FileInputs:
    source = repurposer._open_source()
    network = source.network if isinstance(source, Source) else source
    dtype = next((weight.dtype for weight in network.parameters() if weight.is_floating_point()), torch.float32)
    return file_inputs(rows.values, repurposer._reading()["transform"], dtype=dtype, scaled=preprocessed)


def _rows_to_check(repurposer: OnnxFileMixin, check_data: object) -> ReferenceInputs:
    """Return the rows on which the file is compared. Raises ValueError where there are none, or only features."""
    name = type(repurposer).__name__
    if check_data is not None:
        rows = keep_inputs(repurposer._judged(check_data), repurposer._reading())
    elif (remembered := vars(repurposer).get("reference_answers_")) is not None:
        rows = remembered.inputs
    else:
        raise ValueError(
            f"a file is compared with this {name} before it is handed out, and there are no rows to do so: give some, "
            "export_onnx(path, check_data=X[:100]), which need no labels, or call remember_answers(X[:100]) first"
        )
    if rows.are_features:
        raise ValueError(
            "a file takes what the network takes, and features are what it gives: give check_data= inputs of the "
            "network, such as images"
        )
    return rows


def _refuse_low_precision(repurposer: OnnxFileMixin) -> None:
    if (precision := getattr(repurposer, "precision", "float32")) != "float32":
        raise ValueError(
            f"a file computes in float32, and this {type(repurposer).__name__} has learned from what precision="
            f"{precision!r} gives, which is something else; train it again with precision='float32'"
        )


def _refuse_many_folds(repurposer: OnnxFileMixin, answers: CalibratedAnswers) -> None:
    if not hasattr(repurposer, "conformal_features_") and answers.n_bytes > _MOST_OF_FOLDS:
        raise ValueError(
            f"the heads and detectors of the folds, by which sets and p-values are judged, take "
            f"{answers.n_bytes / 1e6:,.0f} MB in the file; call conformalize(data) first with labelled rows that were "
            "not used in training, and one of each is enough"
        )


def _checked_path(path: str | os.PathLike[str]) -> Path:
    """Return where to write. Raises OSError, before any work, where there can be no file."""
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a directory; give the path of a file, such as {target / 'model.onnx'}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no directory {target.parent} to write {target.name} to")
    return target


def _metadata(
    repurposer: OnnxFileMixin, inputs: FileInputs, answers: CalibratedAnswers, model: "ModelProto"
) -> Mapping[str, str]:
    """Return what the file says of itself: texts, and JSON of what is no text."""
    classes = [label.item() if isinstance(label, np.generic) else label for label in repurposer.classes_]
    versions: dict[str, Any] = {"repurpose-torch": own_version(), **library_versions(), "opset": OPSET}
    found: dict[str, Any] = {
        "classes": classes,
        "class_names": repurposer.class_names_.tolist(),
        "coverage": answers.coverage,
        "allow_empty": answers.allow_empty,
        "inputs": inputs.facts,
        "outputs": _OUTPUTS,
        "versions": versions,
    }
    told = {name: json.dumps(value, ensure_ascii=False, default=str) for name, value in found.items()}
    texts = {
        "format": FORMAT,
        "method": type(repurposer).__name__,
        "source": describe_source(repurposer.source_model).strip("'"),
        "score": answers.score,
        "unfamiliarity": answers.method,
        "fingerprint": sha256(model.SerializeToString(deterministic=True)).hexdigest(),
    }
    return {**texts, **told}


_OUTPUTS = {
    "probabilities": "float64 (rows, classes): the probability of each class, calibrated",
    "label_index": "int64 (rows): the most likely class, a place in class_names",
    "in_set": "bool (rows, classes): the classes among which the right one is, with the probability coverage",
    "p_value": "float64 (rows): the share of familiar rows that are as unfamiliar; small for what is like none of them",
}
