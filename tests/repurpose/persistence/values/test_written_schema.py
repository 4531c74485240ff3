from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from model_handler import CorruptFileError
from model_handler.files.canonical_json import canonical
from repurpose import LrRepurposer, load
from repurpose.persistence.values.codec import Codec
from repurpose.persistence.values.schema import is_of_library
from repurpose.persistence.values.written_schema import written_schema_mistake, written_schema_of
from repurpose.uncertainty import Calibration
from tests.repurpose.examples import KnnRepurposer, blob_features, identity_network, lr
from tests.repurpose.saved_files import edit, plan_of


def learned() -> dict[str, Any]:
    X, y = np.arange(12, dtype=">f4").reshape(6, 2), np.array([0, 1] * 3)
    return {
        "rows_": X,
        "names_": np.array(["a", "bcd"]),
        "parts_": [{"weight": torch.zeros(3, 1)}, (np.ones(2, bool), "text")],
        "by_number_": {1: np.float32(3), (1, 2): np.zeros(1)},
        "calibration_": Calibration(np.ones(2), np.zeros(2)),
        "model_": LogisticRegression().fit(X, y),
        "neighbours_": KNeighborsClassifier(2).fit(X, y),
        "layers_": nn.Sequential(nn.Linear(2, 1)),
        "count_": 3,
    }


def test_every_array_is_named_with_its_dtype_and_its_shape() -> None:
    schema = written_schema_of(learned())
    expected = {
        "rows_": ["<f4", [6, 2]],
        "names_": ["<U3", [2]],
        "parts_.0.weight": ["torch.float32", [3, 1]],
        "parts_.1.0": ["|b1", [2]],
        "by_number_.(1, 2)": ["<f8", [1]],
        "calibration_.factors": ["<f8", [2]],
        "model_": ["LogisticRegression", []],
        "model_.coef_": ["<f8", [1, 2]],
        "neighbours_._fit_X": ["<f4", [6, 2]],
        "layers_.0.weight": ["torch.float32", [1, 2]],
    }
    assert expected.items() <= schema.items()
    assert canonical(schema)


def test_what_comes_out_of_a_file_has_the_schema_of_what_went_in() -> None:
    codec = Codec()
    again = {name: codec.decode(codec.encode(value, name)) for name, value in learned().items()}
    assert written_schema_mistake(written_schema_of(learned()), again) == ""


def test_classes_of_the_library_are_told_from_a_users() -> None:
    assert not is_of_library(KnnRepurposer)
    assert is_of_library(LrRepurposer)


def test_an_array_of_another_kind_is_named(tmp_path: Path) -> None:
    repurposer = KnnRepurposer(identity_network(), ["0"]).repurpose(blob_features())
    repurposer.save_repurposer(tmp_path / "saved")
    schema = plan_of(tmp_path / "saved")["schema"]
    assert schema["training_features_"] == ["<f4", [60, 4]]
    assert schema["target_model_"] == ["KNeighborsClassifier", []]

    def exchange_codes_and_rows(plan: dict[str, Any]) -> None:
        fitted = plan["fitted"]
        fitted["training_codes_"], fitted["training_features_"] = (
            fitted["training_features_"],
            fitted["training_codes_"],
        )

    lies: list[tuple[str, Any]] = [
        (r"training_features_ is <i8 \(60,\), where <f4 \(60, 4\) was saved", exchange_codes_and_rows),
        (r"more_ is nothing, where <i8 \(2,\) was saved", lambda plan: plan["schema"].update(more_=["<i8", [2]])),
        ("it has no usable schema", lambda plan: plan.update(schema=3)),
    ]
    for message, lie in lies:
        repurposer.save_repurposer(tmp_path / "saved")
        edit(tmp_path / "saved", lie)
        with pytest.raises(CorruptFileError, match=f"damaged: {message}"):
            load(tmp_path / "saved", identity_network())


def test_what_the_library_saves_of_its_own_has_no_schema(tmp_path: Path) -> None:
    lr().repurpose(blob_features()).save_repurposer(tmp_path / "saved")
    assert "schema" not in plan_of(tmp_path / "saved")
