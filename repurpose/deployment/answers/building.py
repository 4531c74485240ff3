"""`answers_of` makes the module that answers as a trained Repurposer does."""

import numpy as np
from torch import nn

from repurpose.deployment.answers.calibrated_answers import CalibratedAnswers
from repurpose.deployment.answers.counting import ReferenceScores
from repurpose.deployment.answers.detectors import Energy, detector_module
from repurpose.deployment.answers.judging import PValues, SetsByFolds, SetsByThreshold
from repurpose.deployment.answers.nonconformity import Calibrated, Nonconformity
from repurpose.uncertainty.checks import check_choice, check_coverage
from repurpose.uncertainty.comparisons import ReferenceRows, ScoreByDetector, ScoreByHead, Scorer, score_true_labels
from repurpose.uncertainty.defaults import default_of
from repurpose.uncertainty.head import Head
from repurpose.uncertainty.interface import UncertaintyMixin, full_sets
from repurpose.uncertainty.prediction_sets import SCORES
from repurpose.uncertainty.unfamiliarity import NearestRows

__all__ = ["answers_of"]

_ROUNDING = 1e-12  # 1 - 0.9 is a little less than 0.1, as in `UncertaintyMixin`
# How far apart rounding may bring equal scores, in units of their size: of labels, of rows, and of all that were
# computed from numbers of float32.
_OF_LABELS, _OF_ROWS, _OF_FLOAT32 = 1e-12, 1e-9, 1e-6
_OF_HEAD = ("_onnx_head", "_predict_probability_from_features")
_OF_VARIANCE = ("_onnx_variance", "_predict_variance_from_features")


def answers_of(
    repurposer: UncertaintyMixin,
    coverage: float = 0.9,
    score: str = "lac",
    *,
    method: str = "auto",
    allow_empty: bool = False,
) -> CalibratedAnswers:
    """Return a module that answers as `predict_probability`, `predict_label`, `predict_set` and p-values do.

    Parameters
    ----------
    repurposer : Repurposer
        A trained one. Without `conformalize` the heads of its folds are trained here if they are not there yet.
    coverage, score, allow_empty
        As in `predict_set`.
    method : str, default="auto"
        As in `unfamiliarity_p_value`; of networks trained end to end ``"auto"`` is ``"energy"``, since these keep no
        features of training.

    Raises
    ------
    NotImplementedError
        Where the head, or what else its answers need, cannot be exported.
    ValueError
        For a coverage that there are too few rows to judge by for, and as `predict_set`.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> from repurpose.deployment.answers import answers_of
    >>> X, y = make_blobs(30, random_state=8)
    >>> repurposer = LrRepurposer(nn.Sequential(nn.Identity()), ["0"], c=1.0).repurpose((X, y))
    >>> features = torch.from_numpy(X.astype("float32"))
    >>> probabilities, label_index, in_set, p_value = answers_of(repurposer, coverage=0.9)(features)
    >>> bool((label_index.numpy() == y).all()), in_set.shape
    (True, torch.Size([30, 3]))
    """
    check_coverage(coverage)
    check_choice("score", score, SCORES)
    repurposer._check_is_repurposed()
    repurposer._check_defines("_predict_probability_from_features", "probabilities")
    method = repurposer._checked_method(repurposer._method_to_export if method == "auto" else method)
    head, rows = _exported(repurposer, *_OF_HEAD), repurposer._onnx_rows()
    calibration = vars(repurposer).get("calibration_")
    calibrated = None if calibration is None else Calibrated(calibration)
    p_values = _p_values(repurposer, method, head)  # first: where source rows judge, it says what is missing
    sets = _Sets(repurposer, float(coverage), score).made(calibrated)
    answers = CalibratedAnswers(
        head,
        sets,
        p_values,
        rows=rows,
        calibrated=calibrated,
        calibration_keeps_order=calibration is None or calibration.keeps_order,
        allow_empty=allow_empty,
        coverage=float(coverage),
        score=score,
        method=method,
    )
    return answers.eval()


class _Sets:
    """Makes the module of the sets of labels of a Repurposer."""

    def __init__(self, repurposer: UncertaintyMixin, coverage: float, score: str) -> None:
        self.repurposer, self.coverage, self.score = repurposer, coverage, score
        self.rank_cost = default_of(vars(repurposer), "rank_cost_")

    def made(self, calibrated: nn.Module | None) -> SetsByFolds | SetsByThreshold:
        judges = [*self.repurposer._heads_with_unseen_rows()]
        references = [self._reference_scores(judge, rows) for judge, rows in judges]
        n_rows = sum(reference.total for reference in references)
        if told := full_sets(ValueError, self.coverage, n_rows, np.ones(1), self.repurposer._judged_by()):
            raise told
        share_left_out = 1 - self.coverage + _ROUNDING
        nonconformity = Nonconformity(self.score, self.rank_cost, len(self.repurposer.classes_))
        if [head for head, _ in judges] == [self.repurposer]:
            return SetsByThreshold(nonconformity, references[0], share_left_out)
        of_folds = [
            nn.Sequential(_exported(head, *_OF_HEAD), calibrated or nn.Identity(), nonconformity) for head, _ in judges
        ]
        return SetsByFolds(PValues(of_folds, references), share_left_out)

    def _reference_scores(self, judge: Head, rows: ReferenceRows) -> ReferenceScores:
        """Return the nonconformity of the true labels of rows that the judge did not see."""
        options = (self.repurposer._calibrated, self.score, self.rank_cost)
        scores = score_true_labels(judge, rows, *options)
        return ReferenceScores(scores, rows.shares, _OF_FLOAT32 if scores.dtype == np.float32 else _OF_LABELS)


def _p_values(repurposer: UncertaintyMixin, method: str, head: nn.Module) -> PValues:
    scorers = [*repurposer._scorers_with_unseen_rows(method)]
    references = [
        ReferenceScores(scorer(rows.matrix), rows.shares, _OF_FLOAT32 if _is_rough(scorer, rows) else _OF_ROWS)
        for scorer, rows in scorers
    ]
    return PValues([_score_module(scorer, repurposer, head) for scorer, _ in scorers], references)


def _is_rough(scorer: Scorer, rows: ReferenceRows) -> bool:
    """Return whether the scores are computed from numbers that were computed in float32."""
    if isinstance(scorer, ScoreByHead):
        return scorer.method == "energy" and scorer.head.head_probabilities(rows.matrix[:1]).dtype == np.float32
    return isinstance(scorer, ScoreByDetector) and isinstance(scorer.detector, NearestRows)


def _score_module(scorer: Scorer, repurposer: UncertaintyMixin, head: nn.Module) -> nn.Module:
    """Return the module of a score of unfamiliarity, from rows to (n_rows,)."""
    if isinstance(scorer, ScoreByDetector):
        return detector_module(scorer.detector)
    if not isinstance(scorer, ScoreByHead):
        raise NotImplementedError(f"scores of the class {type(scorer).__name__} cannot be exported")
    if scorer.method == "energy":
        return nn.Sequential(head if scorer.head is repurposer else _exported(scorer.head, *_OF_HEAD), Energy())
    return _exported(scorer.head, *_OF_VARIANCE)


def _exported(head: Head, hook: str, of: str) -> nn.Module:
    """Return the module that the hook makes of a head.

    Raises NotImplementedError where there is none, or where a subclass defines the hook `of` anew, and it not.
    """
    module, name = None, type(head).__name__
    if _depth(head, hook) <= _depth(head, of):
        module = getattr(head, hook)()
    if module is None:
        raise NotImplementedError(
            f"{name} cannot be exported: it must define {hook}(self), which returns a torch module that maps features "
            f"(n_rows, n_features) to what {of} gives, by standard operations on tensors"
        )
    return module


def _depth(head: Head, name: str) -> int:
    """Return how many classes lie between that of the head and the one that defines the name."""
    found = (place for place, cls in enumerate(type(head).__mro__) if name in vars(cls))
    return next(found, len(type(head).__mro__))
