"""Texts go through all that a Repurposer does: heads, fine-tuning, adapters, guards, files, scikit-learn's tools."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn
from torch.utils.data import DataLoader, StackDataset

from model_handler import Source, TextTransform
from repurpose import (
    AdapterRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    NeuralNetworkFineTuneRepurposer,
    SvmRepurposer,
    TableData,
    load,
)
from tests.model_handler.data.text.networks import reviews, text_source, words

TEXTS, LABELS = reviews()
LAYER = "pooler.activation"


@pytest.fixture(scope="module")
def trained() -> LrRepurposer:
    return LrRepurposer(text_source(), [LAYER, "encoder"], random_state=0, batch_size=5).repurpose(TEXTS, LABELS)


def linear_head(source: Source) -> NeuralNetworkFineTuneRepurposer:
    rates = {"new": 0.05, "*": 0}
    return NeuralNetworkFineTuneRepurposer(
        source, LAYER, num_epochs=3, learning_rates=rates, batch_size=5, random_state=0
    )


def test_features_of_texts_are_learned_from_and_told_in_their_order(trained: LrRepurposer) -> None:
    assert trained.score(TEXTS, LABELS) == 1
    assert trained.predict_label("good").tolist() == ["pos"]
    together = trained.predict_probability(np.array(TEXTS))
    alone = np.concatenate([trained.predict_probability(text) for text in TEXTS])
    assert np.abs(alone - together).max() < 1e-5
    assert trained.row_shape_["input_ids"] == (None,)
    assert len(trained.predict_uncertainty(pd.Series(TEXTS)).total) == len(TEXTS)
    assert trained.evaluate(TEXTS, y=LABELS, unfamiliar=np.array(["the the", "a film"])).accuracy == 1


@pytest.mark.parametrize("head", [GpRepurposer, SvmRepurposer, LaplaceRepurposer])
def test_other_heads_learn_from_texts_too(head: type) -> None:
    assert head(text_source(), [LAYER], random_state=0).repurpose((TEXTS, LABELS)).score(TEXTS, LABELS) == 1


@pytest.mark.parametrize("wrap", [list, np.array, lambda texts: np.array(texts, dtype=object), pd.Series])
def test_cross_validation_splits_texts(wrap: Any) -> None:
    head = LrRepurposer(text_source(), [LAYER], c=1.0, random_state=0)
    assert cross_val_score(head, wrap(TEXTS), LABELS, cv=2).tolist() == [1, 1]


def test_a_grid_search_and_a_table_are_split_alike() -> None:
    search = GridSearchCV(LrRepurposer(text_source(), [LAYER], random_state=0), {"c": [0.1, 1.0]}, cv=2)
    assert search.fit(TEXTS, LABELS).best_score_ == 1
    table = TableData(pd.DataFrame({"text": TEXTS, "label": LABELS}), input="text", label="label")
    assert cross_val_score(search.best_estimator_, table, table.labels, cv=2).tolist() == [1, 1]


def test_tables_and_hugging_face_datasets_bring_their_labels(trained: LrRepurposer) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    table = TableData(pd.DataFrame({"text": TEXTS, "label": LABELS}), input="text", label="label")
    dataset = datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS.tolist()})
    expected = trained.predict_probability(TEXTS)
    for data in (table, dataset):
        again = LrRepurposer(text_source(), [LAYER, "encoder"], random_state=0, batch_size=5).repurpose(data)
        assert again.score(data) == 1
        assert np.abs(again.predict_probability(data) - expected).max() < 1e-6
    with pytest.raises(ValueError, match=r"TableData\(.*\) names no column of labels; name it, TableData\(.*label="):
        LrRepurposer(text_source(), [LAYER]).repurpose(TableData(pd.DataFrame({"text": TEXTS}), input="text"))


def test_a_file_answers_as_before_and_knows_texts(trained: LrRepurposer, tmp_path: Path) -> None:
    trained.remember_answers(TEXTS[:5]).save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=text_source())
    assert np.array_equal(loaded.predict_probability(TEXTS), trained.predict_probability(TEXTS))
    assert not loaded.validate().changed_rows
    assert loaded.row_shape_ == trained.row_shape_


def test_a_guard_refuses_a_missing_text_alone_and_takes_longer_ones(trained: LrRepurposer) -> None:
    guarded = trained.guard().predict(["good", None, "very " * 25])
    assert guarded.accepted.tolist() == [True, False, True]


def test_missing_texts_and_images_are_refused_before_anything_is_learned(trained: LrRepurposer) -> None:
    with pytest.raises(ValueError, match=r"1 of 24 texts are missing .*, in rows 3;"):
        LrRepurposer(text_source(), [LAYER]).repurpose([*TEXTS[:3], None, *TEXTS[4:]], LABELS)
    with pytest.raises(TypeError, match="this network reads text: give strings"):
        trained.predict_label(np.zeros((2, 3, 8, 8)))
    with pytest.raises(TypeError, match="text needs a network that reads it"):
        LrRepurposer(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))).repurpose(TEXTS, LABELS)


@pytest.mark.parametrize("name", ["bert", "distilbert", "padded left"])
def test_fine_tuning_trains_a_new_head_on_batches_of_any_length(name: str, tmp_path: Path) -> None:
    source = text_source(name)
    layer = {"bert": "encoder", "distilbert": "transformer", "padded left": "ln_f"}[name]
    rates = {"new": 0.05, "*": 0.01}
    options = {"num_epochs": 6, "learning_rates": rates, "batch_size": 5, "random_state": 0}
    tuned = NeuralNetworkFineTuneRepurposer(source, layer, **options)
    tuned.repurpose(TEXTS, LABELS, validation_data=(TEXTS[:6], LABELS[:6]))
    together = tuned.predict_probability(TEXTS)
    assert tuned.score(TEXTS, LABELS) > 0.9
    alone = np.concatenate([tuned.predict_probability(text) for text in TEXTS[:6]])
    assert np.abs(alone - together[:6]).max() < 1e-5
    assert len(tuned.history_.values("validation_loss")) == 6
    tuned.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=source)
    assert np.array_equal(loaded.predict_probability(TEXTS), together)
    by_loader = NeuralNetworkFineTuneRepurposer(source, layer, **{**options, "num_epochs": 1})
    codes = (LABELS == "pos").astype(int).tolist()
    by_loader.repurpose(DataLoader(StackDataset(TEXTS, codes), batch_size=5))
    assert by_loader.predict_probability(TEXTS).shape == (24, 2)


def test_predictions_of_a_tuned_network_are_those_of_a_manual_forward() -> None:
    source = text_source()
    tuned = linear_head(source).repurpose(TEXTS, LABELS)
    with torch.no_grad():
        for row in (0, 5, 23):
            pooled = source.network(**source.transform([TEXTS[row]])).pooler_output
            expected = tuned.target_model_.head(pooled).softmax(dim=1)
            assert np.abs(tuned.predict_probability(TEXTS)[row] - expected[0].numpy()).max() < 1e-5


def test_a_text_that_is_cut_off_is_told_once_for_all_epochs_and_predictions() -> None:
    source = replace(text_source(), transform=TextTransform(words(), max_length=20))
    texts = [*TEXTS[:-1], "bad " * 60]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tuned = linear_head(source).repurpose(texts, LABELS)
        tuned.predict_label(texts)
    assert len(told) == 1, [str(warning.message) for warning in told]
    assert "texts are longer than the 20 tokens that the network takes, the longest has 62" in str(told[0].message)
    assert told[0].filename == __file__


def test_layers_of_rate_0_stay_as_they_were_and_others_learn() -> None:
    source = text_source()
    rates = {"new": 0.05, "encoder.layer.1": 0.01, "pooler": 0.01, "*": 0}
    tuned = NeuralNetworkFineTuneRepurposer(
        source, LAYER, num_epochs=1, learning_rates=rates, batch_size=5, random_state=0
    ).repurpose(TEXTS, LABELS)
    now, before = dict(tuned.target_model_.named_parameters()), dict(source.network.named_parameters())
    changed = {name for name in before if name in now and not torch.equal(now[name].cpu(), before[name])}
    assert changed
    assert all(name.startswith(("encoder.layer.1.", "pooler.")) for name in changed)


def test_adapters_learn_beside_a_frozen_network(tmp_path: Path) -> None:
    source = text_source()
    adapted = AdapterRepurposer(
        source, transfer_layer_name=LAYER, num_epochs=4, learning_rates={"new": 0.05}, batch_size=5, random_state=0
    ).repurpose(TEXTS, LABELS)
    learned = [name for name, part in adapted.target_model_.named_parameters() if part.requires_grad]
    assert [name for name in learned if "lora" not in name] == ["head.weight", "head.bias"]
    assert {name.split(".")[-2] for name in learned if "lora" in name} == {"query", "value"}
    tokens = source.transform(TEXTS)
    with torch.no_grad():
        merged, expected = adapted.merged_module()(**tokens), adapted.target_model_(**tokens)
    assert torch.allclose(merged, expected, atol=1e-5)
    adapted.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=source)
    assert np.array_equal(loaded.predict_probability(TEXTS), adapted.predict_probability(TEXTS))
