"""All that stands between features and answers, as one torch module: head, calibration, sets of labels, p-values.

Operations are standard ones that onnxruntime computes in double on any processor. Numbers are buffers, since one of
Python's own would stand in the file as a float32.

May import: uncertainty.
"""

from repurpose.deployment.answers.building import answers_of
from repurpose.deployment.answers.calibrated_answers import CalibratedAnswers, Within

__all__ = ["CalibratedAnswers", "Within", "answers_of"]
