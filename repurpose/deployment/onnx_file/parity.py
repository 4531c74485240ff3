"""`ParityReport`: how far the answers of a file are from those of the Repurposer that it was made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["CLOSE", "END_TO_END", "HEAD", "FileDiffersError", "ParityReport"]

HEAD, END_TO_END = 1e-6, 1e-4  # by how much a probability may differ, on equal features and on equal inputs
CLOSE = 1e-5  # of a score to that of a reference row: rounding decides on which side it is


@dataclass(frozen=True)
class ParityReport:
    """How far the answers of a file, run by onnxruntime, are from those of the Repurposer.

    Attributes
    ----------
    n_rows : int
        On how many rows they were compared.
    files : tuple of str
        What was written: the file, and beside it a second one with weights where these are many.
    n_bytes : int
        Their size together.
    head_difference : float
        The largest difference of a probability where the head of the file gets the features of the library.
    difference : float
        The largest one from inputs to answers, with the network.
    feature_difference : float
        The largest difference of a feature, in units of the largest feature.
    other_labels, other_sets, other_p_values : tuple of int
        Rows with another label, set or p-value than the library gives, from inputs to answers. All of them lie within
        1e-5 of where the answer changes, labels within 1e-4.
    n_close : int
        How many rows lie that close to a reference score, and so might have differed.
    metadata : dict of str to str
        What the file says of itself, for programs that cannot read it there.

    Examples
    --------
    >>> from repurpose.deployment.onnx_file import ParityReport
    >>> ParityReport(10, ("model.onnx",), 4_200, 1e-9, 3e-7, 2e-7, (), (), (4,), 1)
    ParityReport(10 rows of model.onnx, 0.0 MB)
      probabilities differ by at most 3.0e-07, by 1.0e-09 on equal features
      features differ by at most 2.0e-07 of the largest
      0 other labels, 0 other sets, 1 other p-values; 1 rows lie where rounding decides
    """

    n_rows: int
    files: tuple[str, ...]
    n_bytes: int
    head_difference: float
    difference: float
    feature_difference: float
    other_labels: tuple[int, ...]
    other_sets: tuple[int, ...]
    other_p_values: tuple[int, ...]
    n_close: int
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        others = (self.other_labels, self.other_sets, self.other_p_values)
        n_labels, n_sets, n_p_values = map(len, others)
        return "\n".join(
            [
                f"ParityReport({self.n_rows} rows of {' and '.join(self.files)}, {self.n_bytes / 1e6:.1f} MB)",
                f"  probabilities differ by at most {self.difference:.1e}, "
                f"by {self.head_difference:.1e} on equal features",
                f"  features differ by at most {self.feature_difference:.1e} of the largest",
                f"  {n_labels} other labels, {n_sets} other sets, {n_p_values} other p-values; "
                f"{self.n_close} rows lie where rounding decides",
            ]
        )


class FileDiffersError(ValueError):
    """A file that would not answer as the Repurposer does, and was not written; the message says where.

    >>> from repurpose.deployment.onnx_file import FileDiffersError
    >>> issubclass(FileDiffersError, ValueError)
    True
    """
