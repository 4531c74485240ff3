"""The machines behind `SvmRepurposer`."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from repurpose.meta_model import svm


def test_machines_that_do_not_converge_say_so_with_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svm, "_MOST_ITERATIONS", 3)
    rows, codes = np.random.RandomState(0).randn(40, 2), np.arange(40) % 3
    with pytest.warns(
        ConvergenceWarning, match=r"did not converge with c=1e\+06: the classes overlap; give a smaller c"
    ):
        machines = svm.fit_machines(rows @ rows.T, codes, 3, 1e6, None)
    assert np.isfinite(machines.weights).all()
