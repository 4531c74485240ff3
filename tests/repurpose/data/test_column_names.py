import numpy as np
import pandas as pd
import pytest
from torch import nn

from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer, load
from repurpose.data.column_names import column_names

X = np.random.RandomState(0).randn(30, 3).astype("float32")
Y = np.arange(30) % 2
X[:, 0] += 2 * Y
TABLE = pd.DataFrame(X, columns=["width", "height", "weight"])


REPURPOSERS = {
    "head": lambda: LrRepurposer(nn.Sequential(nn.Identity()), ["0"]),
    "network": lambda: NeuralNetworkFineTuneRepurposer(
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), transfer_layer_name="0", num_epochs=1, random_state=0
    ),
}


@pytest.mark.parametrize("kind", REPURPOSERS)
@pytest.mark.parametrize("ask", ["predict_label", "predict_probability", "predict_uncertainty", "score", "evaluate"])
def test_columns_in_another_order_are_refused_and_not_misread(kind, ask):
    fitted = REPURPOSERS[kind]().fit(TABLE, Y)
    labels = {"y": Y} if ask in ("score", "evaluate") else {}
    with pytest.raises(ValueError, match="column 0 is 'weight' and was 'width'"):
        getattr(fitted, ask)(TABLE[["weight", "height", "width"]], **labels)


def test_other_columns_are_named_with_the_nearest():
    fitted = REPURPOSERS["head"]().repurpose((TABLE, Y))
    with pytest.raises(ValueError, match=r"new are 'widht' \(nearest: \['width'\]\), missing are 'width'"):
        fitted.score((TABLE.rename(columns={"width": "widht"}), Y))


def test_names_are_kept_in_a_file_and_forgotten_by_training_without_them(tmp_path):
    fitted = REPURPOSERS["head"]().fit(TABLE, Y)
    fitted.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=nn.Sequential(nn.Identity()))
    assert loaded.feature_names_in_.tolist() == ["width", "height", "weight"]
    np.testing.assert_array_equal(loaded.predict(TABLE), fitted.predict(X))  # an array has no names to compare
    assert not hasattr(fitted.fit(X, Y), "feature_names_in_")


def test_names_are_those_of_tables_whose_columns_all_have_text():
    assert column_names((TABLE, Y)).tolist() == ["width", "height", "weight"]
    assert column_names(pd.DataFrame(X)) is None
    assert column_names((TABLE.width, Y)) is None
    assert column_names(X) is None
