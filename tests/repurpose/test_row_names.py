from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from repurpose.row_names import naming_rows


def test_rows_of_arrays_have_numbers_those_of_files_their_files_too(tmp_path: Path) -> None:
    (tmp_path / "one.png").touch()
    paths = [tmp_path / "none.png", str(tmp_path / "one.png"), "some text"]
    y = np.zeros(3)
    for inputs in (paths, pd.Series(paths, index=[5, 6, 7])):
        name = naming_rows((inputs, y))
        assert [name(row) for row in range(3)] == [f"0 ({paths[0]})", f"1 ({paths[1]})", "2"]
    assert naming_rows((np.zeros((3, 2)), y))(2) == "2"


@pytest.mark.parametrize("inputs", [np.zeros((4, 2)), ["a", "b", "c", "d"]])
def test_rows_of_weight_0_are_counted(inputs: object) -> None:
    name = naming_rows((inputs, np.zeros(4)), np.array([0, 1.0, 0, 2.0]))
    assert [name(0), name(1)] == ["1", "3"]
