"""What a prediction is worth: its uncertainty by source, sets of labels, unfamiliar inputs, calibration, measures."""

from repurpose.uncertainty.calibration import Calibration
from repurpose.uncertainty.class_report import ClassReport
from repurpose.uncertainty.decomposition import Uncertainty
from repurpose.uncertainty.evaluation import Evaluation
from repurpose.uncertainty.prediction_sets import PredictionSets

__all__ = ["Calibration", "ClassReport", "Evaluation", "PredictionSets", "Uncertainty"]
