"""`OnnxFileMixin`: a Repurposer as one file of ONNX."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from model_handler import Features, Source
from model_handler.network.ambient_modes import undisturbed
from repurpose.deployment.onnx_file.parity import ParityReport
from repurpose.uncertainty.prediction_sets import PredictionSets

__all__ = ["OnnxFileMixin"]


class OnnxFileMixin:
    """`export_onnx`, and what it asks of subclasses."""

    source_model: Any
    classes_: np.ndarray
    class_names_: np.ndarray
    predict_label: Callable[..., np.ndarray]
    predict_probability: Callable[..., np.ndarray]
    predict_set: Callable[..., PredictionSets]
    unfamiliarity_p_value: Callable[..., np.ndarray]
    features_to_judge: Callable[[object], Features]
    _check_is_repurposed: Callable[[], None]
    _judged: Callable[[object], object]
    _open_source: Callable[[], nn.Module | Source]
    _reading: Callable[[], dict[str, Any]]

    @undisturbed()
    def export_onnx(
        self,
        path: str | os.PathLike[str],
        coverage: float = 0.9,
        *,
        check_data: object = None,
        score: str = "lac",
        method: str = "auto",
        allow_empty: bool = False,
        preprocessed: bool = False,
    ) -> ParityReport:
        """Write network, head, calibration, sets and p-values as one file of ONNX, which runs without this library.

        It takes any number of rows and gives `probabilities` (n_rows, n_classes), `label_index` (n_rows,), a place in
        the class names, `in_set` (n_rows, n_classes), which is `predict_set` for this coverage, and `p_value`
        (n_rows,), which is `unfamiliarity_p_value`. Images go in as `images`, the bytes of RGB at the network's size,
        (n_rows, height, width, 3): scaling and normalisation are inside; resize and crop stand in the metadata, as
        other libraries resize otherwise than Pillow. Text goes in as `input_ids` and `attention_mask`, all else as
        `inputs`, what the network gets. Metadata have the class names, the coverage, versions, a fingerprint, and what
        inputs must be.

        Before it is handed out the file is run by onnxruntime and compared with this Repurposer. Needs the extra onnx.

        Parameters
        ----------
        path : str or path
            Where to write, such as "model.onnx"; of weights above 256 MB, a second file stands beside it.
        coverage : float, default=0.9
            Of the sets, as in `predict_set`; a file has one.
        check_data : as in `predict_label`, optional
            Rows to compare on, at most 1,000; by default those of `remember_answers`. They show what the file takes:
            for images as photographs, bytes; for images as tensors that were preprocessed, such tensors.
        score : {"lac", "aps", "raps"}, default="lac"
        method : str, default="auto"
            Of `unfamiliarity_p_value`; of networks trained end to end ``"auto"`` is ``"energy"``.
        allow_empty : bool, default=False
            As in `predict_set`.
        preprocessed : bool, default=False
            Whether the file takes images as the transform makes them. So it is anyway, and the metadata say so, where a
            transform of your own does more to pixels than to scale each channel.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ImportError
            Without the extra onnx: ``pip install 'repurpose-torch[onnx]'``.
        NotImplementedError
            For a head of your own without the hook `_onnx_head`.
        ValueError
            For a coverage that the rows to judge by cannot hold, without rows to compare on, and for networks whose
            forward goes other ways for other numbers. `FileDiffersError` where the file answers otherwise than this
            Repurposer: probabilities by more than 1e-4 (1e-6 on equal features), sets and p-values of rows that are not
            within 1e-5 of a reference row.
        OSError
            Where it cannot be written. Whatever is raised, nothing is left at `path`, and what was there stays.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> X, y = make_blobs(30, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = LrRepurposer(network, c=1.0).repurpose((X[:20], y[:20])).conformalize(X[20:], y[20:])
        >>> repurposer.export_onnx("model.onnx", coverage=0.8, check_data=X[:5]).files
        ('model.onnx',)
        """
        from repurpose.deployment.onnx_file.exporting import export_onnx

        return export_onnx(
            self,
            path,
            coverage,
            check_data=check_data,
            score=score,
            method=method,
            allow_empty=allow_empty,
            preprocessed=preprocessed,
        )

    def _network_for_file(self, example_inputs: object) -> nn.Module:
        """Return a module on the CPU from what the network gets to features for the head; examples are a few rows."""
        raise NotImplementedError(f"{type(self).__name__} cannot be exported; use a method such as LrRepurposer")
