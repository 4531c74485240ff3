from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from repurpose import LrRepurposer
from repurpose.data.row_names import naming_rows


def test_a_file_whose_features_are_not_numbers_is_named_at_prediction(tmp_path: Path) -> None:
    def pixels_or_nan(image: Image.Image) -> torch.Tensor:
        pixels = torch.tensor(np.asarray(image), dtype=torch.float32).flatten()
        return pixels if pixels[0] < 100 else pixels * torch.nan

    for value in (0, 1, 200):
        Image.new("RGB", (2, 2), (value,) * 3).save(tmp_path / f"{value}.png")
    network = nn.Sequential(nn.Identity())
    repurposer = LrRepurposer(network, ["0"], c=1.0, transform=pixels_or_nan)
    repurposer.repurpose([tmp_path / "0.png", tmp_path / "1.png"], ["a", "b"])
    for ask in (repurposer.predict_label, repurposer.predict_probability, repurposer.unfamiliarity):
        with pytest.raises(ValueError, match=r"row 1 \(.*200\.png\)"):
            ask([tmp_path / "0.png", tmp_path / "200.png"])


def test_rows_of_arrays_have_numbers_those_of_files_their_files_too(tmp_path: Path) -> None:
    (tmp_path / "one.png").touch()
    paths = [tmp_path / "none.png", str(tmp_path / "one.png"), "some text"]
    y = np.zeros(3)
    for inputs in (paths, np.array(paths, dtype=object), pd.Series(paths, index=[5, 6, 7])):
        name = naming_rows((inputs, y))
        assert [name(row) for row in range(3)] == [f"0 ({paths[0]})", f"1 ({paths[1]})", "2"]
    assert naming_rows((np.zeros((3, 2)), y))(2) == "2"


@pytest.mark.parametrize("inputs", [np.zeros((4, 2)), ["a", "b", "c", "d"]])
def test_rows_of_weight_0_are_counted(inputs: object) -> None:
    name = naming_rows((inputs, np.zeros(4)), np.array([0, 1.0, 0, 2.0]))
    assert [name(0), name(1)] == ["1", "3"]
