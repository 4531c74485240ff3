"""What a prediction is worth is answered here: uncertainty by source, sets of labels, OOD scores, calibration.

May import: data, persistence, fitted, parameters, seeding, threads, model_handler.
"""

from repurpose.uncertainty.calibration import Calibration
from repurpose.uncertainty.class_report import ClassReport
from repurpose.uncertainty.decomposition import Uncertainty
from repurpose.uncertainty.evaluation import Evaluation
from repurpose.uncertainty.prediction_sets import PredictionSets

__all__ = ["Calibration", "ClassReport", "Evaluation", "PredictionSets", "Uncertainty"]
