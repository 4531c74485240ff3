"""Texts of every kind are read for a network that has a tokenizer, sorted by length, and come back in order."""

import re
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, StackDataset

from model_handler import ImageFolderData, ModelHandler, TextTransform
from model_handler.data import Batch, Share, as_batches, look_through
from model_handler.data.batch import in_order
from tests.model_handler.data.text.networks import random_texts, text_source, words

TEXTS, LABELS = ["good", "a very bad film", "the film", ""], [1, 0, 1, 0]
TRANSFORM = TextTransform(words(), max_length=32)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(TEXTS, LABELS))


def read(data: Any, **options: Any) -> tuple[list[list[int]], list[Any] | None]:
    """The tokens of each row without padding, and the labels, in the order of the data."""
    batches = list(as_batches(data, transform=TRANSFORM, **{"batch_size": 3, **options}))
    places = [batch.places for batch in batches]
    rows = [
        ids[mask.bool()].tolist()
        for batch in batches
        for ids, mask in zip(batch.inputs["input_ids"], batch.inputs["attention_mask"])
    ]
    order = in_order(np.arange(len(rows)), places)
    labels = None if batches[0].labels is None else in_order(np.concatenate([b.labels for b in batches]), places)
    return [rows[row] for row in order], None if labels is None else labels.tolist()


EXPECTED = [[2, 4, 3], [2, 7, 8, 5, 6, 3], [2, 9, 6, 3], [2, 3]]


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        (TEXTS, LABELS),
        (np.array(TEXTS), LABELS),
        (np.array(TEXTS, dtype=object), LABELS),
        (np.array(TEXTS)[:, None], LABELS),
        (pd.Series(TEXTS, index=[7, 3, 5, 1]), LABELS),
        (pd.Series(TEXTS, dtype="string"), LABELS),
        (pd.Series(TEXTS, dtype="category"), LABELS),
        (pd.DataFrame({"text": TEXTS}), LABELS),
        {"text": TEXTS, "labels": LABELS},
        StackDataset(TEXTS, LABELS),
        DataLoader(StackDataset(TEXTS, LABELS), batch_size=2),
        DataLoader(StackDataset(text=TEXTS, labels=LABELS), batch_size=2),
        Stream(),
    ],
    ids=lambda data: type(data[0] if isinstance(data, tuple) else data).__name__,
)
def test_texts_in_every_wrapping_come_back_in_order(data: Any, by_length: bool) -> None:
    assert read(data, by_length=by_length) == (EXPECTED, LABELS)


@pytest.mark.parametrize("data", ["good", ["good"], np.array(["good"]), pd.Series(["good"])])
def test_one_text_is_a_row(data: Any) -> None:
    assert read(data) == ([[2, 4, 3]], None)


def test_hugging_face_datasets_and_their_columns_are_texts() -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    data = datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS})
    assert read(data) == read((data["text"], data["label"])) == (EXPECTED, LABELS)
    two = datasets.Dataset.from_dict({"title": TEXTS, "text": TEXTS})
    with pytest.raises(TypeError, match=r"several columns of text, of \['title', 'text'\].*TableData\(dataset, input="):
        read(two)
    with pytest.raises(TypeError, match=r"\['label', 'text'\], .* rename 'label' to 'labels'.*TableData"):
        read(DataLoader(data, batch_size=2))


def test_strings_are_never_paths_for_a_text_network(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good").mkdir()
    assert read("good") == read(["good"]) == ([[2, 4, 3]], None)
    assert look_through("good", batch_size=2, transform=TRANSFORM).n_rows == 1


def test_what_a_tokenizer_made_is_taken_as_it_is() -> None:
    tokens = TRANSFORM(TEXTS)
    (batch,) = as_batches({**tokens, "labels": LABELS}, transform=TRANSFORM)
    assert all(torch.equal(batch.inputs[name], part) for name, part in tokens.items())
    (batch,) = as_batches(tokens["input_ids"], transform=TRANSFORM)
    assert torch.equal(batch.inputs, tokens["input_ids"])


def test_rows_are_asked_for_by_number_and_augmented() -> None:
    batches = as_batches(
        (TEXTS, LABELS), transform=TRANSFORM, rows=np.array([2, 0]), augment=lambda text: f"very {text}"
    )
    (batch,) = batches
    assert batch.inputs["input_ids"].tolist() == [[2, 8, 9, 6, 3], [2, 8, 4, 3, 0]]
    assert (batch.labels.tolist(), batch.rows.tolist()) == ([1, 1], [2, 0])


def test_each_batch_is_as_wide_as_its_own_longest_text() -> None:
    texts = random_texts(200)
    unsorted = [batch.inputs["input_ids"].shape for batch in as_batches(texts, transform=TRANSFORM, batch_size=8)]
    batches = list(as_batches(texts, transform=TRANSFORM, batch_size=8, by_length=True))
    widths = [batch.inputs["input_ids"].shape[1] for batch in batches]
    lengths = sorted(TRANSFORM.n_tokens(texts), reverse=True)
    assert sum(widths) <= 1.05 * sum(lengths[::8])  # the least there can be
    assert sum(widths) < 0.7 * sum(width for _, width in unsorted)
    assert sorted(np.concatenate([batch.places for batch in batches])) == list(range(200))


def test_shares_of_several_processes_hold_each_text_once() -> None:
    texts = random_texts(50)
    batches = as_batches(texts, transform=TRANSFORM, batch_size=4, by_length=True)
    shares = [[batch.places for batch in batches.share(Share(index, 3))] for index in range(3)]
    assert sorted(np.concatenate([places for share in shares for places in share])) == list(range(50))


def test_truncation_is_told_once_with_how_many_rows_and_the_longest() -> None:
    transform = TextTransform(words(), max_length=6)
    texts = ["good " * 9, "good", "bad " * 4, "bad " * 5]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            list(as_batches(texts, transform=transform, batch_size=2))
    assert [warning.filename for warning in told] == [__file__]
    said = "2 of 4 texts are longer than the 6 tokens that the network takes, the longest has 11: "
    assert str(told[0].message).startswith(said)
    with pytest.warns(UserWarning, match="1 of 1 texts"):
        list(as_batches("the " * 9, transform=transform))


def test_a_text_of_a_hundred_thousand_words_takes_no_time_to_speak_of() -> None:
    began = time.perf_counter()
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than the 32 tokens .* the longest has 100002"):
        (batch,) = as_batches(["good " * 100_000, "bad"], transform=TextTransform(words(), max_length=32))
    assert batch.inputs["input_ids"].shape == (2, 32)
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (["a", None], ValueError, "1 of 2 texts are missing .*, in rows 1"),
        (pd.Series(["a", "b", pd.NA]), ValueError, "1 of 3 texts are missing .*, in rows 2"),
        ([None], ValueError, "1 of 1 texts are missing"),
        (DataLoader(StackDataset(["a", "b", "c", None]), batch_size=2), ValueError, "in rows 3;|row 3"),
        ([b"a", b"b"], TypeError, "row 0 is bytes; decode"),
        (np.array([b"a"]), TypeError, "row 0 is bytes; decode"),
        ((["a", "b"], [1]), ValueError, "there are 2 texts and 1 labels"),
        (np.zeros((2, 3, 8, 8)), TypeError, r"X holds floating numbers, an array of float64 of shape \(2, 3, 8, 8\)"),
        (torch.zeros(2, 3), TypeError, "X holds floating numbers, an array of torch.float32"),
        (np.zeros((2, 8, 8, 3), np.uint8), TypeError, "X holds images, an array of uint8"),
        ([["a", "b"], ["c", "d"]], TypeError, "X holds strings, but not one a row"),
        (np.array([["a", "b"]]), TypeError, "X holds strings, but not one a row"),
        (
            pd.DataFrame({"n": [1], "t": ["a"]}),
            TypeError,
            r"a table of the columns \['n', 't'\].*give one column, df\['t'\]",
        ),
        ([Image.new("RGB", (4, 4))], TypeError, "X holds images, and this network reads text"),
        (StackDataset([np.zeros(3)], [0]), TypeError, "a batch of StackDataset holds floating numbers"),
    ],
)
def test_what_a_text_network_does_not_read_is_refused_with_the_fix(data: Any, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        list(as_batches(data, transform=TRANSFORM))


@pytest.mark.parametrize("names", [["a/1.png", "b/2.JPG"], "a/1.png"])
def test_names_of_images_are_texts_with_a_warning(names: Any) -> None:
    with pytest.warns(UserWarning, match=r"end as names of image files do, such as 'a/1.png', and this network reads"):
        list(as_batches(names, transform=TRANSFORM))


def test_paths_and_folders_are_refused_with_the_fix(tmp_path) -> None:
    table = tmp_path / "reviews.csv"
    with pytest.raises(TypeError, match=rf"give TableData\({re.escape(repr(str(table)))}, input="):
        as_batches(table, transform=TRANSFORM)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(TypeError, match="the folder of images is the path"):
        as_batches(ImageFolderData(tmp_path), transform=TRANSFORM)


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "padded left"])
def test_a_text_alone_is_as_in_a_batch_at_every_layer(name: str) -> None:
    handler, texts = ModelHandler(text_source(name), batch_size=8), random_texts(20)
    handler.extract(texts[:2], handler.layer_names[-1:], pooling="avg")  # by which it is traced
    # One row for all texts, but where positions are counted for each text.
    without_rows = {"wpe"} if name == "roberta" else {"wpe", "embeddings.position_embeddings"}
    layers = [layer for layer in handler.layer_names if layer not in without_rows]
    for pooling, together in handler.extract_poolings(texts, layers, ["avg", "max", "cls"]).items():
        alone = [handler.extract(text, layers, pooling=pooling).matrix for text in texts[:5]]
        assert np.abs(np.concatenate(alone) - together.matrix[:5]).max() < 1e-5


def test_features_are_those_of_a_manual_forward_in_the_order_of_the_texts() -> None:
    source, texts = text_source(), random_texts(30)
    features = ModelHandler(source, batch_size=4).extract((texts, range(30)), ["encoder"], pooling="avg")
    with torch.no_grad():
        for row in (0, 7, 29):
            tokens = source.transform(texts[row : row + 1])
            expected = source.network(**tokens).last_hidden_state[0].mean(0)
            assert np.abs(features.values["encoder"][row] - expected.numpy()).max() < 1e-5
    assert features.labels.tolist() == list(range(30))


def test_results_in_the_order_of_the_data_are_left_alone() -> None:
    values = np.arange(4)
    assert in_order(values, [None, None]) is values
    assert in_order(values, [np.array([2, 0]), np.array([3, 1])]).tolist() == [1, 3, 0, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Batch(None, None, 0).places is None
